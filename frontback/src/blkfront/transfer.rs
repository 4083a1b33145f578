//! One request through the ring: data is copied into granted pages before, or out of them after.

use super::device::{Flush, Geometry};
use super::{BlkFront, Status};
use crate::ring::RingError;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use xen_abi::io::blkif::{self, Request, Response, Segment};
use xen_abi::{DiskError, Instant, OutOfPage, PAGE_SIZE, SECTOR_SIZE, SharedPage, Xen};
use zerocopy::{FromZeros, IntoBytes};

/// Most bytes in one request.
pub(super) const MAX_TRANSFER: usize = blkif::MAX_SEGMENTS * PAGE_SIZE;
const SECTORS_PER_PAGE: usize = PAGE_SIZE / SECTOR_SIZE;

/// How long the back end may take for a request. A disk that takes longer is not to be trusted with more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked of the disk.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    /// Sector, number of bytes.
    Read(u64, usize),
    Write(u64, &'a [u8]),
    Flush,
}

/// What a request came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The back end cannot flush this way; there may be another.
    TryAgain,
    Failed(DiskError),
}

/// The one request there may be.
pub(super) struct Job {
    ticket: u64,
    operation: u8,
    /// Known from the first step after the start.
    until: Option<Instant>,
    outcome: Option<Outcome>,
    /// Nobody waits for it any more.
    abandoned: bool,
}

impl Job {
    pub(super) fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_done() { None } else { Some(self.until.unwrap_or(Instant::from_millis(0))) }
    }
}

impl<X: Xen> BlkFront<X> {
    /// Starts a request; `None` if another is under way. Data to write is copied here.
    pub(super) fn start(&mut self, order: Order<'_>) -> Result<Option<u64>, DiskError> {
        if self.status() != Status::Ready || self.device.close_wanted {
            return Err(DiskError::Gone);
        }
        if self.job.is_some() {
            return Ok(None);
        }
        let geometry = *self.device.geometry().ok_or(DiskError::Gone)?;
        let (operation, sector, length) = match order {
            Order::Read(sector, length) => (blkif::OP_READ, sector, length),
            Order::Write(..) if geometry.read_only => return Err(DiskError::ReadOnly),
            Order::Write(sector, data) => (blkif::OP_WRITE, sector, data.len()),
            Order::Flush => match geometry.flush {
                Some(Flush::Cache { .. }) => (blkif::OP_FLUSH_DISKCACHE, 0, 0),
                Some(Flush::Barrier) => (blkif::OP_WRITE_BARRIER, 0, 0),
                None => return Err(DiskError::NoFlush),
            },
        };
        check_range(&geometry, sector, length)?;
        let Some(ring) = self.device.ring_mut() else { return Err(DiskError::Gone) };
        let mut request = Request { operation, sector_number: sector, ..Request::new_zeroed() };
        let mut left = length;
        for ((page, segment), index) in ring.buffers.iter().zip(&mut request.seg).zip(0..) {
            if left == 0 {
                break;
            }
            let here = left.min(PAGE_SIZE);
            if let Order::Write(_, data) = order {
                let start = length - left;
                let piece = data.get(start..start + here).ok_or(DiskError::OutOfRange)?;
                page.write(0, piece).map_err(|OutOfPage| DiskError::OutOfRange)?;
            }
            let last_sect = (here / SECTOR_SIZE).clamp(1, SECTORS_PER_PAGE) as u8 - 1;
            *segment = Segment { gref: X::grant_ref(page).0, first_sect: 0, last_sect, pad: [0; 2] };
            request.nr_segments = index + 1;
            left -= here;
        }
        self.last_ticket += 1;
        request.id = self.last_ticket;
        let signal = ring.front.push(&ring.page, request.as_bytes()).and_then(|()| ring.front.publish(&ring.page));
        // With one request at a time the ring cannot be full.
        self.signal_due |= signal.map_err(|_| DiskError::Gone)?;
        let ticket = self.last_ticket;
        self.job = Some(Job { ticket, operation, until: None, outcome: None, abandoned: false });
        Ok(Some(ticket))
    }

    /// What became of a request, once; a read's data is copied out here.
    pub(super) fn finish(&mut self, ticket: u64, out: Option<&mut [u8]>) -> Option<Outcome> {
        let job = self.job.take_if(|job| job.ticket == ticket && job.is_done())?;
        if let (Some(Outcome::Done), Some(ring), Some(out)) = (job.outcome, self.device.ring(), out) {
            for (piece, page) in out.chunks_mut(PAGE_SIZE).zip(&ring.buffers) {
                if page.read(0, piece).is_err() {
                    return Some(Outcome::Failed(DiskError::OutOfRange));
                }
            }
        }
        job.outcome
    }

    /// Nobody waits for this request any more. Its pages are not used again before it has ended.
    pub(super) fn abandon(&mut self, ticket: u64) {
        if self.job.take_if(|job| job.ticket == ticket && job.is_done()).is_some() {
            return;
        }
        if let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) {
            job.abandoned = true;
        }
    }

    /// Takes responses off the ring. An error is a line for the log: the back end is not to be trusted any more.
    pub(super) fn look_at_ring(&mut self, now: Instant) -> Result<(), String> {
        let Some(ring) = self.device.ring_mut() else { return Ok(()) };
        let mut response = Response::new_zeroed();
        let mut unable_to_flush = false;
        loop {
            match ring.front.take(&ring.page, response.as_mut_bytes()) {
                Ok(false) => break,
                Ok(true) => {}
                Err(RingError::Overrun | RingError::Full) => {
                    return Err("its back end claims responses to requests that were never made".into());
                }
            }
            let job = self.job.as_mut().filter(|job| job.ticket == response.id && !job.is_done());
            let Some(job) = job else {
                return Err(format!("its back end answers request {}, which is not under way", response.id));
            };
            job.outcome = Some(match (response.status, job.operation) {
                (blkif::RSP_OKAY, _) => Outcome::Done,
                (blkif::RSP_EOPNOTSUPP, blkif::OP_FLUSH_DISKCACHE | blkif::OP_WRITE_BARRIER) => Outcome::TryAgain,
                _ => Outcome::Failed(DiskError::Io),
            });
            unable_to_flush |= job.outcome == Some(Outcome::TryAgain);
            if job.abandoned {
                self.job = None;
            }
        }
        if unable_to_flush && let Some(geometry) = self.device.geometry_mut() {
            geometry.flush = match geometry.flush {
                Some(Flush::Cache { barrier_too: true }) => Some(Flush::Barrier),
                _ => None,
            };
        }
        if let Some(job) = self.job.as_mut().filter(|job| !job.is_done()) {
            let until = *job.until.get_or_insert(now + PATIENCE);
            if now >= until {
                return Err(format!("its back end has not answered for {} seconds", PATIENCE.as_secs()));
            }
        }
        Ok(())
    }

    /// The ring is gone, and the request with it.
    pub(super) fn lose_job(&mut self) {
        if self.job.as_ref().is_some_and(|job| job.abandoned) {
            self.job = None;
        }
        if let Some(job) = self.job.as_mut().filter(|job| !job.is_done()) {
            job.outcome = Some(Outcome::Failed(DiskError::Gone));
        }
    }
}

pub(super) fn check_range(geometry: &Geometry, sector: u64, length: usize) -> Result<(), DiskError> {
    let count = (length / SECTOR_SIZE) as u64;
    let end = sector.checked_add(count).ok_or(DiskError::OutOfRange)?;
    let whole = length.is_multiple_of(SECTOR_SIZE);
    if whole && end <= geometry.sectors { Ok(()) } else { Err(DiskError::OutOfRange) }
}
