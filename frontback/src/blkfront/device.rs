//! The device: found, published, connected, closed.

use crate::ring::FrontRing;
use crate::xenbus::{self, BackEnd, KeyError, State};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::io::blkif;
use xen_abi::{Access, DiskError, EventPort, Instant, SECTOR_SIZE, StoreError, Xen};

/// The ring, and the pages that data goes through.
pub(super) struct Ring<X: Xen> {
    pub(super) page: X::Granted,
    pub(super) front: FrontRing,
    pub(super) port: EventPort,
    pub(super) buffers: Vec<X::Granted>,
}

/// How a write is made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flush {
    Cache { barrier_too: bool },
    Barrier,
}

/// What the back end says about the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    /// In units of 512 bytes.
    pub(super) sectors: u64,
    pub(super) read_only: bool,
    pub(super) flush: Option<Flush>,
}

pub(super) enum Phase<X: Xen> {
    /// No device directory, or nothing usable in it yet.
    Seeking,
    /// The back end is not in state 2 yet.
    Found,
    /// State 3.
    Published(Ring<X>),
    /// State 4.
    Ready(Ring<X>, Geometry),
    /// State 5, until the back end follows or this instant.
    Closing(Ring<X>, Geometry, Instant),
    Failed(DiskError),
    Closed,
}

pub(super) struct Device<X: Xen> {
    pub(super) phase: Phase<X>,
    pub(super) close_wanted: bool,
    dir: String,
    back: Option<BackEnd>,
    /// State 3 was written and xenstored did not answer: the back end may be using the ring already.
    owed: bool,
    watching: bool,
    look: bool,
    retry_at: Option<Instant>,
}

const DIR: &str = "device/vbd";
const TOKEN: &str = "blkfront/";
const TOKEN_BACK: &str = "blkfront/back";
/// How long to wait after a failure of xenstored.
const RETRY: Duration = Duration::from_secs(1);
/// How long the back end may take to see that we close.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Watch events handled in one step.
const EVENTS_PER_STEP: usize = 64;

impl<X: Xen> Device<X> {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Seeking,
            close_wanted: false,
            dir: String::new(),
            back: None,
            owed: false,
            watching: false,
            look: true,
            retry_at: None,
        }
    }

    pub(super) fn ring(&self) -> Option<&Ring<X>> {
        match &self.phase {
            Phase::Published(ring) | Phase::Ready(ring, _) | Phase::Closing(ring, ..) => Some(ring),
            _ => None,
        }
    }

    pub(super) fn ring_mut(&mut self) -> Option<&mut Ring<X>> {
        match &mut self.phase {
            Phase::Published(ring) | Phase::Ready(ring, _) | Phase::Closing(ring, ..) => Some(ring),
            _ => None,
        }
    }

    pub(super) fn geometry(&self) -> Option<&Geometry> {
        match &self.phase {
            Phase::Ready(_, geometry) | Phase::Closing(_, geometry, _) => Some(geometry),
            _ => None,
        }
    }

    pub(super) fn geometry_mut(&mut self) -> Option<&mut Geometry> {
        if let Phase::Ready(_, geometry) = &mut self.phase { Some(geometry) } else { None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let at_once = self.retry_at.is_none() && (self.look || self.close_wanted && self.may_close());
        let closing = if let Phase::Closing(_, _, until) = &self.phase { Some(*until) } else { None };
        if at_once {
            return Some(Instant::from_millis(0));
        }
        [self.retry_at, closing].into_iter().flatten().min()
    }

    fn may_close(&self) -> bool {
        !matches!(self.phase, Phase::Closing(..) | Phase::Closed)
    }

    /// Follows xenstore. `idle` tells that no request is under way.
    pub(super) fn step(&mut self, xen: &mut X, now: Instant, idle: bool) {
        if self.close_wanted && idle && self.may_close() {
            self.begin_to_close(xen, now);
        }
        if let Phase::Closing(_, _, until) = &self.phase
            && now >= *until
        {
            self.end_closing(xen);
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.look |= self.retry_at.take().is_some();
        if !self.watching {
            match xen.watch(DIR, TOKEN) {
                Ok(()) => self.watching = true,
                Err(_) => self.retry_at = Some(now + RETRY),
            }
        }
        let events = core::iter::from_fn(|| xen.next_watch_event(TOKEN)).take(EVENTS_PER_STEP).count();
        if !core::mem::take(&mut self.look) && events == 0 {
            return;
        }
        self.look = events == EVENTS_PER_STEP;
        if let Err(error) = self.look(xen) {
            log::debug!(target: "blkfront", "{}: {error}", self.dir);
            self.look = false;
            self.retry_at = Some(now + RETRY);
        }
    }

    fn look(&mut self, xen: &mut X) -> Result<(), StoreError> {
        if matches!(self.phase, Phase::Failed(_) | Phase::Closed) {
            return Ok(());
        }
        if matches!(self.phase, Phase::Seeking) {
            self.seek(xen)?;
        }
        let Some(back) = self.back.clone() else { return Ok(()) };
        if self.owed && matches!(self.phase, Phase::Published(_)) {
            xenbus::write_state(xen, &self.dir, State::Initialised)?;
            self.owed = false;
        }
        let state = match xenbus::read_state(xen, &back.dir) {
            Err(KeyError::Store(error)) => return Err(error),
            state => state.ok(),
        };
        match (&self.phase, state) {
            (Phase::Found, Some(State::InitWait)) => self.publish(xen, &back),
            (Phase::Published(_), Some(State::Connected)) => self.connect(xen, &back),
            (Phase::Closing(..), None | Some(State::Closing | State::Closed)) => {
                self.end_closing(xen);
                Ok(())
            }
            (Phase::Published(_) | Phase::Ready(..), None | Some(State::Closing | State::Closed)) => {
                self.fail(xen, "its back end went away".into());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn seek(&mut self, xen: &mut X) -> Result<(), StoreError> {
        let names = match xen.list(None, DIR) {
            Ok(names) => names,
            Err(StoreError::NoEntry | StoreError::Access) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(number) = names.iter().filter_map(|name| xenbus::parse_number(name.as_bytes())).min() else {
            return Ok(());
        };
        self.dir = format!("{DIR}/{number}");
        match xenbus::read_back_end(xen, &self.dir) {
            Ok(back) => {
                xen.watch(&format!("{}/state", back.dir), TOKEN_BACK)?;
                self.back = Some(back);
                self.phase = Phase::Found;
                Ok(())
            }
            Err(KeyError::Missing) => Ok(()),
            Err(KeyError::Store(error)) => Err(error),
            Err(error) => {
                self.fail(xen, format!("backend or backend-id is {error}"));
                Ok(())
            }
        }
    }

    fn publish(&mut self, xen: &mut X, back: &BackEnd) -> Result<(), StoreError> {
        let ring = match make_ring(xen, back) {
            Ok(ring) => ring,
            Err(complaint) => {
                self.fail(xen, complaint);
                return Ok(());
            }
        };
        let keys = [
            ("ring-ref", X::grant_ref(&ring.page).to_string()),
            ("event-channel", ring.port.to_string()),
            ("protocol", "x86_64-abi".into()),
        ];
        let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
        if let Err(error) = xenbus::publish(xen, &self.dir, &keys) {
            drop_ring(xen, ring);
            return Err(error);
        }
        self.phase = Phase::Published(ring);
        self.owed = true;
        xenbus::write_state(xen, &self.dir, State::Initialised)?;
        self.owed = false;
        Ok(())
    }

    fn connect(&mut self, xen: &mut X, back: &BackEnd) -> Result<(), StoreError> {
        match read_geometry(xen, &back.dir)? {
            Err(complaint) => self.fail(xen, complaint),
            Ok(geometry) => {
                xenbus::write_state(xen, &self.dir, State::Connected)?;
                self.phase = match core::mem::replace(&mut self.phase, Phase::Found) {
                    Phase::Published(ring) => Phase::Ready(ring, geometry),
                    other => other,
                };
                log::info!(
                    target: "blkfront",
                    "{}: {} sectors of {SECTOR_SIZE} bytes, {}, {}",
                    self.dir,
                    geometry.sectors,
                    if geometry.read_only { "read-only" } else { "writable" },
                    match geometry.flush {
                        Some(Flush::Cache { .. }) => "with flush",
                        Some(Flush::Barrier) => "with barriers",
                        None => "without flush or barrier",
                    }
                );
            }
        }
        Ok(())
    }

    /// Gives the device up for good, with a line that says why.
    pub(super) fn fail(&mut self, xen: &mut X, complaint: String) {
        log::error!(target: "blkfront", "{}: {complaint}; the disk is given up", self.dir);
        self.leave(xen, Phase::Failed(DiskError::Gone));
    }

    fn begin_to_close(&mut self, xen: &mut X, now: Instant) {
        let before = core::mem::replace(&mut self.phase, Phase::Closed);
        self.phase = match before {
            Phase::Ready(ring, geometry) => Phase::Closing(ring, geometry, now + CLOSE_TIME),
            Phase::Published(ring) => {
                self.phase = Phase::Published(ring);
                return self.leave(xen, Phase::Closed);
            }
            Phase::Seeking | Phase::Found | Phase::Failed(_) | Phase::Closed => return,
            closing @ Phase::Closing(..) => closing,
        };
        if xenbus::write_state(xen, &self.dir, State::Closing).is_err() {
            self.end_closing(xen);
        }
        self.look = true;
    }

    fn end_closing(&mut self, xen: &mut X) {
        self.leave(xen, Phase::Closed);
    }

    /// Ends ring and grants and writes state 6.
    fn leave(&mut self, xen: &mut X, phase: Phase<X>) {
        match core::mem::replace(&mut self.phase, phase) {
            Phase::Published(ring) | Phase::Ready(ring, _) | Phase::Closing(ring, ..) => {
                if let Err(error) = xenbus::write_state(xen, &self.dir, State::Closed) {
                    log::debug!(target: "blkfront", "{}: {error}", self.dir);
                }
                drop_ring(xen, ring);
            }
            _ => {}
        }
    }
}

fn drop_ring<X: Xen>(xen: &mut X, ring: Ring<X>) {
    xen.close(ring.port);
    xen.revoke(ring.page);
    for page in ring.buffers {
        xen.revoke(page);
    }
}

fn make_ring<X: Xen>(xen: &mut X, back: &BackEnd) -> Result<Ring<X>, String> {
    let mut pages = Vec::new();
    let made = (0..=blkif::MAX_SEGMENTS)
        .try_for_each(|_| {
            pages.push(
                xen.grant(back.domid, Access::ReadWrite).map_err(|error| format!("cannot grant a page: {error}"))?,
            );
            Ok(())
        })
        .and_then(|()| xen.alloc_unbound(back.domid).map_err(|error| format!("cannot make an event channel: {error}")));
    let buffers = pages.split_off(pages.len().min(1));
    let (port, page) = match (made, pages.pop()) {
        (Ok(port), Some(page)) => (port, page),
        (outcome, page) => {
            buffers.into_iter().chain(page).for_each(|page| xen.revoke(page));
            return Err(outcome.err().unwrap_or_default());
        }
    };
    match FrontRing::new(&page, blkif::ENTRY_SIZE) {
        Ok(front) => Ok(Ring { page, front, port, buffers }),
        Err(error) => {
            xen.close(port);
            buffers.into_iter().chain([page]).for_each(|page| xen.revoke(page));
            Err(format!("cannot make a ring: {error}"))
        }
    }
}

/// Reads the disk's properties. The inner error is a line for the log; the outer one is xenstored's and worth another try.
fn read_geometry(xen: &mut impl Xen, dir: &str) -> Result<Result<Geometry, String>, StoreError> {
    let mut number = |key: &str, default: Option<u64>| {
        let value = match xenbus::read_key(xen, dir, key) {
            Ok(value) => value,
            Err(KeyError::Store(error)) => return Err(error),
            Err(error) => return Ok(default.ok_or_else(|| format!("{key} is {error}"))),
        };
        Ok(xenbus::parse_u64(&value).ok_or_else(|| format!("{key} is {}", xenbus::Excerpt::new(&value))))
    };
    let sectors = number("sectors", None)?;
    let sector_size = number("sector-size", Some(SECTOR_SIZE as u64))?;
    let info = number("info", Some(0))?;
    let cache = number("feature-flush-cache", Some(0))?;
    let barrier = number("feature-barrier", Some(0))?;
    let read_only_mode = match xenbus::read_key(xen, dir, "mode") {
        Ok(mode) => mode == b"r",
        Err(KeyError::Store(error)) => return Err(error),
        Err(_) => false,
    };
    let check = || {
        if sector_size.clone()? != SECTOR_SIZE as u64 {
            let size = sector_size?;
            return Err(format!("its sectors have {size} bytes; only {SECTOR_SIZE} are supported (use an image file)"));
        }
        let sectors = sectors?;
        if sectors == 0 || sectors.checked_mul(SECTOR_SIZE as u64).is_none() {
            return Err(format!("a size of {sectors} sectors cannot be"));
        }
        let flush = match (cache? != 0, barrier? != 0) {
            (true, barrier_too) => Some(Flush::Cache { barrier_too }),
            (false, true) => Some(Flush::Barrier),
            (false, false) => None,
        };
        let read_only = read_only_mode || info? & u64::from(blkif::VDISK_READONLY) != 0;
        Ok(Geometry { sectors, read_only, flush })
    };
    Ok(check())
}
