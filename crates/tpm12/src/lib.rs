//! A TPM 1.2 engine.
#![no_std]
#![forbid(unsafe_code)]
