#![doc = "See `fuzz::tis`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tis::run(data));
