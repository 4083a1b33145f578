#![doc = "See `fuzz::tpm12`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tpm12::run(data));
