//! Xen split drivers as state machines over the ports of `xen-abi`: xenstore, xenbus, tpmfront, tpmback, blkfront.
//!
//! A driver never blocks and has no clock: [`looper::Driver::step`] takes the machine and the time, looks at what changed
//! (watches, event channels, shared pages) and moves on. Whatever a peer wrote is copied out once and checked as a copy.
//! `fake` (feature `test-util`) is the machine and the peers, well-behaved and not, for tests.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod blkfront;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
pub mod looper;
pub mod ring;
pub mod shutdown;
#[cfg(test)]
mod test_log;
pub mod tpmback;
pub mod tpmfront;
pub mod tpmif;
mod uuid;
pub mod xenbus;
pub mod xenstore;

pub use uuid::{MalformedUuid, parse_uuid};
