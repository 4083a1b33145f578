//! The device: where its back end is, how far the handshake has come, and the ring.
//!
//! | back end's state | without a ring | with a ring that is published (3) | connected (4) |
//! |---|---|---|---|
//! | 1 | wait | take down | take down |
//! | 2 | publish a ring, state 3 | wait | take down: it has forgotten us |
//! | 3 | wait | wait | stay |
//! | 4 | wait | state 4 | stay |
//! | 5, 6, none | wait | take down | take down |
//!
//! "Take down" ends grant and event channel and writes state 6, from where every back end goes back to 2.

use crate::parse_uuid;
use crate::xenbus::{self, BackEnd, KeyError, State};
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use xen_abi::{Access, EventPort, Instant, StoreError, Xen};

pub(super) struct Ring<X: Xen> {
    pub(super) page: X::Granted,
    port: EventPort,
    connected: bool,
}

pub(super) struct Link<X: Xen> {
    devid: u32,
    dir: String,
    watching: bool,
    look: bool,
    retry_at: Option<Instant>,
    /// Not before this is another ring published: a back end that comes and goes must not eat up grants.
    next_ring: Instant,
    back: Option<BackEnd>,
    ring: Option<Ring<X>>,
    /// A ring was dropped in this step; the next one may have the same numbers.
    lost_ring: bool,
    uuid: Option<[u8; 16]>,
    /// Own `state` was written: the back end has seen us.
    introduced: bool,
    /// A state that we wrote and xenstored did not confirm. It may stand there already, and is written again before anything else.
    owed: Option<State>,
    complaint: Option<String>,
}

/// How long to wait after a failure, and between two rings.
const RETRY: Duration = Duration::from_secs(1);
/// Watch events handled in one step.
const EVENTS_PER_STEP: usize = 64;

impl<X: Xen> Link<X> {
    pub(super) fn new(devid: u32) -> Self {
        Self {
            devid,
            dir: format!("device/vtpm/{devid}"),
            watching: false,
            look: false,
            retry_at: None,
            next_ring: Instant::from_millis(0),
            back: None,
            ring: None,
            lost_ring: false,
            uuid: None,
            introduced: false,
            owed: None,
            complaint: None,
        }
    }

    /// The ring, if both sides are connected.
    pub(super) fn ring(&self) -> Option<&Ring<X>> {
        self.ring.as_ref().filter(|ring| ring.connected)
    }

    pub(super) fn port(&self) -> Option<EventPort> {
        self.ring.as_ref().map(|ring| ring.port)
    }

    pub(super) fn uuid(&self) -> Option<[u8; 16]> {
        self.uuid
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.look && self.retry_at.is_none() { Some(Instant::from_millis(0)) } else { self.retry_at }
    }

    fn token(&self) -> String {
        format!("tpmfront/{}/", self.devid)
    }

    /// Follows xenstore; true if a ring that there was is gone.
    pub(super) fn step(&mut self, xen: &mut X, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.look |= self.retry_at.take().is_some();
        let token = self.token();
        if !self.watching {
            self.watching = xen.watch(&self.dir, &token).is_ok();
            self.look = true;
        }
        let events = core::iter::from_fn(|| xen.next_watch_event(&token)).take(EVENTS_PER_STEP).count();
        if !core::mem::take(&mut self.look) && events == 0 {
            return false;
        }
        if let Err(error) = self.look(xen, now) {
            log::debug!(target: "tpmfront", "{}: {error}", self.dir);
            self.retry_at = Some(now + RETRY);
        }
        if !self.watching {
            self.retry_at = Some(now + RETRY);
        }
        self.look |= events == EVENTS_PER_STEP;
        core::mem::take(&mut self.lost_ring)
    }

    fn complain(&mut self, complaint: String) {
        if self.complaint.as_ref() != Some(&complaint) {
            log::error!(target: "tpmfront", "{}: {complaint}", self.dir);
            self.complaint = Some(complaint);
        }
    }

    fn write_state(&mut self, xen: &mut X, state: State) -> Result<(), StoreError> {
        self.owed = Some(state);
        xenbus::write_state(xen, &self.dir, state)?;
        self.owed = None;
        self.introduced = true;
        Ok(())
    }

    fn look(&mut self, xen: &mut X, now: Instant) -> Result<(), StoreError> {
        let back = match xenbus::read_back_end(xen, &self.dir) {
            Ok(back) => Some(back),
            Err(KeyError::Store(error)) => return Err(error),
            Err(KeyError::Missing) => None,
            Err(error) => {
                self.complain(format!("backend or backend-id is {error}"));
                None
            }
        };
        if back != self.back {
            self.drop_ring(xen);
            self.owed = None;
            self.move_watch(xen, back)?;
        }
        let Some(back) = self.back.clone() else { return Ok(()) };
        if let Some(state) = self.owed {
            self.write_state(xen, state)?;
        }
        let back_state = match xenbus::read_state(xen, &back.dir) {
            Ok(state) => Some(state),
            Err(KeyError::Store(error)) => return Err(error),
            Err(_) => None,
        };
        let connected = self.ring.as_ref().map(|ring| ring.connected);
        match (connected, back_state) {
            (None, Some(State::InitWait)) if now < self.next_ring => self.retry_at = Some(self.next_ring),
            (None, Some(State::InitWait)) => {
                self.next_ring = now + RETRY;
                self.publish(xen, &back)?;
            }
            (Some(false), Some(State::Connected)) => self.connect(xen, &back)?,
            (None, _)
            | (Some(false), Some(State::InitWait | State::Initialised))
            | (Some(true), Some(State::Initialised | State::Connected)) => {}
            (Some(was_connected), _) => {
                if was_connected {
                    log::info!(target: "tpmfront", "{}: the back end in domain {} went away", self.dir, back.domid);
                }
                self.drop_ring(xen);
                self.write_state(xen, State::Closed)?;
                // It may have come back already.
                self.look = true;
            }
        }
        Ok(())
    }

    fn move_watch(&mut self, xen: &mut X, back: Option<BackEnd>) -> Result<(), StoreError> {
        let token = format!("{}back", self.token());
        if let Some(old) = self.back.take() {
            // It fails only if xenstored forgot it, which is what is wanted.
            let _ = xen.unwatch(&format!("{}/state", old.dir), &token);
        }
        if let Some(back) = &back {
            xen.watch(&format!("{}/state", back.dir), &token)?;
        }
        self.back = back;
        Ok(())
    }

    fn publish(&mut self, xen: &mut X, back: &BackEnd) -> Result<(), StoreError> {
        let page = match xen.grant(back.domid, Access::ReadWrite) {
            Ok(page) => page,
            Err(error) => {
                self.complain(format!("cannot grant a ring: {error}"));
                self.retry_at = Some(self.next_ring);
                return Ok(());
            }
        };
        let port = match xen.alloc_unbound(back.domid) {
            Ok(port) => port,
            Err(error) => {
                xen.revoke(page);
                self.complain(format!("cannot make an event channel: {error}"));
                self.retry_at = Some(self.next_ring);
                return Ok(());
            }
        };
        let ring_ref = X::grant_ref(&page).to_string();
        self.ring = Some(Ring { page, port, connected: false });
        let keys =
            [("ring-ref", ring_ref.as_str()), ("event-channel", &port.to_string()), ("feature-protocol-v2", "1")];
        if let Err(error) = xenbus::publish(xen, &self.dir, &keys) {
            self.drop_ring(xen);
            return Err(error);
        }
        self.write_state(xen, State::Initialised)
    }

    fn connect(&mut self, xen: &mut X, back: &BackEnd) -> Result<(), StoreError> {
        match xenbus::read_number(xen, &back.dir, "feature-protocol-v2") {
            Ok(1) => {}
            Err(KeyError::Store(error)) => return Err(error),
            _ => {
                self.complain("the back end does not speak tpmif version 2".into());
                self.drop_ring(xen);
                return self.write_state(xen, State::Closed);
            }
        }
        self.uuid = match xenbus::read_key(xen, &back.dir, "uuid") {
            Ok(text) => parse_uuid(&text).ok(),
            Err(KeyError::Store(error)) => return Err(error),
            Err(_) => None,
        };
        if self.uuid.is_none() {
            self.complain("the back end's directory has no well-formed uuid".into());
        }
        self.write_state(xen, State::Connected)?;
        if let Some(ring) = &mut self.ring {
            ring.connected = true;
            self.complaint = None;
            log::info!(target: "tpmfront", "{}: connected to the back end in domain {}", self.dir, back.domid);
        }
        Ok(())
    }

    fn drop_ring(&mut self, xen: &mut X) {
        if let Some(ring) = self.ring.take() {
            xen.close(ring.port);
            xen.revoke(ring.page);
            self.lost_ring = true;
        }
    }

    pub(super) fn close(&mut self, xen: &mut X) {
        self.drop_ring(xen);
        if self.introduced
            && let Err(error) = self.write_state(xen, State::Closed)
        {
            log::debug!(target: "tpmfront", "{}: {error}", self.dir);
        }
        // The domain is about to end; an error here has no one to hear it.
        let _ = self.move_watch(xen, None);
        if core::mem::take(&mut self.watching) {
            let _ = xen.unwatch(&self.dir, &self.token());
        }
    }
}
