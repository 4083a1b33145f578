//! The manager: owns the hardware TPM and keeps the vTPMs' keys.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod args;
pub mod chip12;
