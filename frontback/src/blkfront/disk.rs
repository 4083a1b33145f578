//! The disk as its users see it.

use super::transfer::{MAX_TRANSFER, Order, Outcome, check_range};
use super::{BlkFront, Status};
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
use xen_abi::{BlockDevice, DiskError, SECTOR_SIZE, Xen};

/// The disk as a block device. Several handles may be used at once; requests go one after another.
pub struct Disk<'a, X: Xen>(&'a RefCell<BlkFront<X>>);

impl<X: Xen> Clone for Disk<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X: Xen> Copy for Disk<'_, X> {}

/// A request that is given up when its future is dropped.
struct Open<'a, X: Xen> {
    driver: &'a RefCell<BlkFront<X>>,
    ticket: Option<u64>,
}

impl<X: Xen> Drop for Open<'_, X> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.driver.borrow_mut().abandon(ticket);
        }
    }
}

impl<'a, X: Xen> Disk<'a, X> {
    /// Waits until the disk is usable or has failed.
    pub async fn open(driver: &'a RefCell<BlkFront<X>>) -> Result<Self, DiskError> {
        poll_fn(|_| match driver.borrow().status() {
            Status::Connecting => Poll::Pending,
            Status::Ready => Poll::Ready(Ok(Self(driver))),
            Status::Failed(error) => Poll::Ready(Err(error)),
            Status::Closed => Poll::Ready(Err(DiskError::Gone)),
        })
        .await
    }

    /// As [`Self::open`], for state that has to last: [`DiskError::ReadOnly`] or [`DiskError::NoFlush`] for a disk that cannot keep it.
    pub async fn open_durable(driver: &'a RefCell<BlkFront<X>>) -> Result<Self, DiskError> {
        let disk = Self::open(driver).await?;
        match driver.borrow() {
            driver if driver.is_read_only() => Err(DiskError::ReadOnly),
            driver if !driver.can_flush() => Err(DiskError::NoFlush),
            _ => Ok(disk),
        }
    }

    /// One request, as soon as the ring is free for it.
    async fn order(&self, order: Order<'_>, mut out: Option<&mut [u8]>) -> Result<(), DiskError> {
        loop {
            let mut open = Open { driver: self.0, ticket: None };
            let outcome = poll_fn(|_| {
                let mut driver = self.0.borrow_mut();
                if open.ticket.is_none() {
                    open.ticket = match driver.start(order) {
                        Ok(ticket) => ticket,
                        Err(error) => return Poll::Ready(Outcome::Failed(error)),
                    };
                }
                let finished = open.ticket.and_then(|ticket| driver.finish(ticket, out.as_deref_mut()));
                finished.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            match outcome {
                Outcome::Done => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::TryAgain => {}
            }
        }
    }

    /// Refuses a range before any part of it is touched.
    fn check(&self, sector: u64, length: usize) -> Result<(), DiskError> {
        let driver = self.0.borrow();
        match driver.device.geometry() {
            Some(geometry) => check_range(geometry, sector, length),
            None => Err(DiskError::Gone),
        }
    }
}

impl<X: Xen> BlockDevice for Disk<'_, X> {
    fn sectors(&self) -> u64 {
        self.0.borrow().device.geometry().map_or(0, |geometry| geometry.sectors)
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.check(sector, out.len())?;
        let mut next = sector;
        for piece in out.chunks_mut(MAX_TRANSFER) {
            self.order(Order::Read(next, piece.len()), Some(piece)).await?;
            next += (piece.len() / SECTOR_SIZE) as u64;
        }
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check(sector, data.len())?;
        if self.0.borrow().is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        let mut next = sector;
        for piece in data.chunks(MAX_TRANSFER) {
            self.order(Order::Write(next, piece), None).await?;
            next += (piece.len() / SECTOR_SIZE) as u64;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.order(Order::Flush, None).await
    }
}
