//! Sealed, versioned, crash-safe state over a block device.
#![no_std]
#![forbid(unsafe_code)]
