#![doc = "See `fuzz::tpm12_state`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tpm12_state::run(data));
