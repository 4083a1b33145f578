#![doc = "See `fuzz::attest`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::attest::run(data));
