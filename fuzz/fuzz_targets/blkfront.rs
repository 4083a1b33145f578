#![doc = "See `fuzz::blkfront`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::blkfront::run(data));
