//! TPM packets: headers, codes and cursors, and the two doors that packets go through.
//!
//! [`Engine`] is a TPM; [`Transport`] is a way to one. `v12` holds TPM Main 1.2 codes, `v20` codes and structures of the TPM
//! 2.0 Library, `mgr` the messages between a vTPM and its manager. Everything on these wires is big-endian.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bank;
mod cursor;
pub mod durable;
mod engine;
mod header;
pub mod mgr;
mod transport;
pub mod v12;
pub mod v20;

pub use bank::Bank;
pub use cursor::{Reader, Truncated, Writer};
pub use engine::{Engine, Progress};
pub use header::{CommandHeader, HEADER_SIZE, MalformedHeader, ResponseHeader};
pub use transport::{Transport, TransportError};

/// The largest packet that every transport of this project carries, in bytes: one 4096-byte tpmif page less its 8-byte
/// header (Xen `public/io/tpmif.h`).
pub const MAX_PACKET: usize = 4088;
