//! Sealed, versioned, crash-safe state over a block device.
//!
//! A [`Vault`] keeps one byte string, the *state*, encrypted and authenticated, in two slots of a disk. A write goes to the
//! slot that does not hold the confirmed generation and is durable when it returns; a power cut at any moment leaves either
//! the old generation or the new one. Whatever can't be opened is refused with a [`VaultError`] that says why, and a refused
//! disk is never written to. What the state means is its owner's business.
//!
//! A [`Journal`] keeps the same in another form, for an owner whose state is large and changes a little at a time: a checkpoint
//! of the whole, and after it one entry for each change.
//!
//! The layout on disk and the reasons for it are in `docs/formats/vault.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
mod io;
mod journal;
mod slot;
mod superblock;
mod types;
mod vault;

pub use error::VaultError;
pub use journal::{ENTRY_OVERHEAD, Journal, MAX_ENTRY, MAX_JOURNAL_LABEL, PART, probe_journal};
pub use types::{Content, Expect, Generation, Header, Kind, Over, Owner, VaultKey};
pub use vault::{Vault, probe};

/// The longest label in bytes.
pub const MAX_LABEL: usize = 3072;

/// The smallest disk that holds a vault, in bytes.
pub const MIN_DISK: u64 = 64 * 1024;

/// The longest state in bytes, label included, however large the disk is: a slot of 1 MiB less its own overhead.
pub const MAX_STATE: usize = 1024 * 1024 - slot::OVERHEAD;
