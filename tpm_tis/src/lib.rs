//! TIS driver for the hardware TPM.
#![no_std]
#![forbid(unsafe_code)]
