#![doc = "See `fuzz::manager_formats`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::manager_formats::run(data));
