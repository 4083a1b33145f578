#![doc = "See `fuzz::tpmback`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tpmback::run(data));
