//! The one door to cryptography.
#![no_std]
#![forbid(unsafe_code)]
