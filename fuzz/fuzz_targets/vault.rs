#![doc = "See `fuzz::vault`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::vault::run(data));
