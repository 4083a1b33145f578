//! The front end of blkif: the disk of this domain.
//!
//! `device` follows xenstore, `transfer` moves data: one request at a time, through pages granted once, so that a back end
//! never gets another page of ours. A device that failed stays failed: the image ends with a clear line rather than guess what
//! became of its writes.

mod device;
mod disk;
#[cfg(test)]
mod tests;
mod transfer;

pub use disk::Disk;

use crate::looper::Driver;
use device::{Device, Phase};
use transfer::Job;
use xen_abi::{DiskError, EventPort, Instant, Xen};

/// The driver of one virtual disk.
pub struct BlkFront<X: Xen> {
    device: Device<X>,
    job: Option<Job>,
    last_ticket: u64,
    signal_due: bool,
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
        Self { device: Device::new(), job: None, last_ticket: 0, signal_due: false }
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        match &self.device.phase {
            Phase::Seeking | Phase::Found | Phase::Published(_) => Status::Connecting,
            Phase::Ready(..) | Phase::Closing(..) => Status::Ready,
            Phase::Failed(error) => Status::Failed(*error),
            Phase::Closed => Status::Closed,
        }
    }

    /// Whether the back end can make writes durable; known once [`Status::Ready`].
    pub fn can_flush(&self) -> bool {
        self.device.geometry().is_some_and(|geometry| geometry.flush.is_some())
    }

    /// Whether the disk takes no writes; known once [`Status::Ready`].
    pub fn is_read_only(&self) -> bool {
        self.device.geometry().is_some_and(|geometry| geometry.read_only)
    }

    /// The event port in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        self.device.ring().map(|ring| ring.port).into_iter()
    }

    /// Starts to close the device; done when [`Self::status`] is no longer [`Status::Ready`]. A request under way ends first, new
    /// ones are refused.
    pub fn close(&mut self) {
        self.device.close_wanted = true;
    }
}

impl<X: Xen> Default for BlkFront<X> {
    fn default() -> Self {
        Self::new()
    }
}

impl<X: Xen> Driver<X> for BlkFront<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        if let Some(ring) = self.device.ring() {
            // The ring is looked at in every step; the mark only has to be cleared before.
            xen.take_pending(ring.port);
        }
        if let Err(complaint) = self.look_at_ring(now) {
            self.device.fail(xen, complaint);
        }
        let idle = self.job.as_ref().is_none_or(Job::is_done);
        self.device.step(xen, now, idle);
        if self.device.ring().is_none() {
            self.lose_job();
        }
        if let (true, Some(ring)) = (core::mem::take(&mut self.signal_due), self.device.ring()) {
            xen.notify(ring.port);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let wishes = [self.device.deadline(), self.job.as_ref().and_then(Job::deadline)];
        if self.signal_due { Some(Instant::from_millis(0)) } else { wishes.into_iter().flatten().min() }
    }
}
