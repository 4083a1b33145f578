#![doc = "See `fuzz::stubdom`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::stubdom::run(data));
