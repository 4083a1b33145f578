#![doc = "See `fuzz::xenstore`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::xenstore::run(data));
