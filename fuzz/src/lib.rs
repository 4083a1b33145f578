//! Fuzz targets as functions: each takes any bytes, does what a hostile guest, disk, chip or peer could, and panics where
//! something is wrong. `cargo xtask fuzz` runs them under libFuzzer, `tests/seeds.rs` as ordinary tests.
#![forbid(unsafe_code)]

pub mod attest;
pub mod blkfront;
pub mod input;
pub mod journal;
pub mod manager;
pub mod manager_formats;
pub mod stubdom;
pub mod tis;
pub mod tpm12;
pub mod tpm12_state;
pub mod tpmback;
pub mod vault;
pub mod xenstore;

/// A target.
pub type Target = fn(&[u8]);

/// All targets under the names that `cargo xtask fuzz` knows.
pub const TARGETS: &[(&str, Target)] = &[
    ("tpm12", tpm12::run),
    ("tpm12-state", tpm12_state::run),
    ("vault", vault::run),
    ("journal", journal::run),
    ("manager", manager::run),
    ("manager-formats", manager_formats::run),
    ("xenstore", xenstore::run),
    ("tpmback", tpmback::run),
    ("blkfront", blkfront::run),
    ("tis", tis::run),
    ("stubdom", stubdom::run),
    ("attest", attest::run),
];
