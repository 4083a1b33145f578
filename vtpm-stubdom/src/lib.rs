//! One guest's virtual TPM, in a domain of its own.
#![no_std]
#![forbid(unsafe_code)]
