#![doc = "See `fuzz::manager`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::manager::run(data));
