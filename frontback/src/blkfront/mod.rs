//! The front end of blkif: the disk of this domain.

use crate::looper::Driver;
use core::cell::RefCell;
use core::marker::PhantomData;
use xen_abi::{BlockDevice, DiskError, EventPort, Instant, Xen};

/// The driver of one virtual disk.
pub struct BlkFront<X: Xen> {
    marker: PhantomData<X>,
}

/// How far a disk has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// No device, or its back end is not connected yet.
    Connecting,
    /// Usable.
    Ready,
    /// Unusable for good.
    Failed(DiskError),
    /// Closed by [`BlkFront::close`].
    Closed,
}

impl<X: Xen> BlkFront<X> {
    /// The driver of the lowest-numbered device under `device/vbd`.
    pub fn new() -> Self {
        todo!()
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Whether the back end can make writes durable; known once [`Status::Ready`].
    pub fn can_flush(&self) -> bool {
        todo!()
    }

    /// Whether the disk takes no writes; known once [`Status::Ready`].
    pub fn is_read_only(&self) -> bool {
        todo!()
    }

    /// The event port in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        core::iter::empty()
    }

    /// Starts to close the device; done when [`Self::status`] says so. A request under way ends first.
    pub fn close(&mut self) {
        todo!()
    }
}

impl<X: Xen> Default for BlkFront<X> {
    fn default() -> Self {
        Self::new()
    }
}

impl<X: Xen> Driver<X> for BlkFront<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        let _ = (xen, now);
        todo!()
    }

    fn deadline(&self) -> Option<Instant> {
        todo!()
    }
}

/// The disk as a block device. Several handles may be used at once; requests go one after another.
pub struct Disk<'a, X: Xen>(&'a RefCell<BlkFront<X>>);

impl<'a, X: Xen> Disk<'a, X> {
    /// Waits until the disk is usable or has failed.
    pub async fn open(driver: &'a RefCell<BlkFront<X>>) -> Result<Self, DiskError> {
        let _ = driver;
        todo!()
    }
}

impl<X: Xen> BlockDevice for Disk<'_, X> {
    fn sectors(&self) -> u64 {
        let _ = self.0;
        todo!()
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let _ = (sector, out);
        todo!()
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let _ = (sector, data);
        todo!()
    }

    async fn flush(&self) -> Result<(), DiskError> {
        todo!()
    }
}
