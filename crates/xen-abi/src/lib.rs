//! Xen's public structures, and the port traits through which safe code reaches the machine.
//!
//! `xen-guest` implements the ports for a real PVH domain, `frontback::fake` for tests, `vtpm-host` (block device only)
//! for a file. Nothing here does I/O. Structures follow Xen's `public/` headers (MIT), sizes are asserted where they stand.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ids;
pub mod io;
mod ports;
mod time;

pub use ids::{DomId, EventPort, GrantRef};
pub use ports::block::{BlockDevice, DiskError, SECTOR_SIZE};
pub use ports::entropy::{EntropySource, NoEntropy};
pub use ports::events::{EventChannels, EventError};
pub use ports::grants::{Access, GrantError, Grants};
pub use ports::labels::{LabelError, Labels};
pub use ports::page::{OutOfPage, PAGE_SIZE, SharedPage};
pub use ports::store::{Store, StoreError, TransactionId, WatchEvent};
pub use ports::store_ring::StoreRing;
pub use time::{Clock, Instant};

/// All that a driver needs of Xen, as one bound.
pub trait Xen: Grants + EventChannels + Store {}
impl<T: Grants + EventChannels + Store> Xen for T {}
