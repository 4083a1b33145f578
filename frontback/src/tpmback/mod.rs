//! The back end of tpmif: serves the TPM to any number of front ends in other domains.
//!
//! Front ends are found by a watch on `backend/vtpm` in this domain's directory; each has a small state machine (`front`) and, while
//! it is connected, a ring (`connection`). A handshake is answered in the step that sees it, whatever the service is doing.

mod connection;
mod front;
mod fronts;
#[cfg(test)]
mod tests;

use crate::looper::Driver;
use crate::xenbus;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use connection::Connection;
use core::time::Duration;
use front::{Fate, Front, Phase};
pub use fronts::Fronts;
use xen_abi::{DomId, EventPort, Instant, StoreError, Xen};

/// A connection to a front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrontId {
    /// The front end's domain.
    pub domid: DomId,
    /// Its device number there.
    pub devid: u32,
    /// Counts connections, so that an answer to a ring that is gone is dropped.
    pub attach: u64,
}

/// A change that the service hears of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A front end is connected. Its requests come only after this event was taken.
    Attached {
        /// The connection.
        front: FrontId,
        /// `uuid` of the back-end directory, written by the toolstack.
        uuid: [u8; 16],
    },
    /// The connection is gone; what was under way for it can be dropped.
    Detached {
        /// The connection that was.
        front: FrontId,
    },
}

/// A command from a front end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who sent it.
    pub front: FrontId,
    /// The locality byte, as the front end wrote it: any value.
    pub locality: u8,
    /// 10 to 4088 bytes, copied out once.
    pub command: Vec<u8>,
}

/// What the front ends share.
struct Shared {
    malformed_reply: &'static [u8],
    /// Connections made so far.
    attaches: u64,
    /// Connections that the service knew of and that are gone; at most as many as it took events of.
    farewells: Vec<FrontId>,
    refuse_all: Option<String>,
}

/// The driver.
pub struct TpmBack<X: Xen> {
    shared: Shared,
    /// In ascending order of domain and device.
    fronts: Vec<Front<X>>,
    watching: bool,
    rescan: bool,
    /// When to look again at what xenstored failed to tell.
    retry_at: Option<Instant>,
    more_events: bool,
    last_served: Option<(DomId, u32)>,
}

/// How long a new device shows state 2 before it is connected. libxl waits for that very state, and would miss it when a front
/// end that is quick to offer its ring (a device attached to a running guest) had the back end in state 4 before libxl looks.
pub const ANNOUNCEMENT: Duration = Duration::from_secs(1);

/// Front ends served at once; more are left in state 1 with a log line. Each needs a watch, and xenstored allows a domain 128.
const MAX_FRONTS: usize = 100;
/// Watch events handled in one step.
const EVENTS_PER_STEP: usize = 256;
/// How long to wait after a failure of xenstored.
const RETRY: Duration = Duration::from_secs(1);

const DIR: &str = "backend/vtpm";
const TOKEN: &str = "tpmback/";
const TOKEN_OWN: &str = "tpmback/own";
const TOKEN_FRONT: &str = "tpmback/front/";

impl<X: Xen> TpmBack<X> {
    /// A back end that answers a malformed request (bad length, extra pages), and in place of a response that does not fit,
    /// with `malformed_reply`: a whole TPM response, 10 bytes as a rule.
    pub fn new(malformed_reply: &'static [u8]) -> Self {
        Self {
            shared: Shared { malformed_reply, attaches: 0, farewells: Vec::new(), refuse_all: None },
            fronts: Vec::new(),
            watching: false,
            rescan: false,
            retry_at: None,
            more_events: false,
            last_served: None,
        }
    }

    /// The next change: connections that are gone first. One that came and went between two calls is not told.
    pub fn next_event(&mut self) -> Option<Event> {
        if !self.shared.farewells.is_empty() {
            return Some(Event::Detached { front: self.shared.farewells.remove(0) });
        }
        let connection =
            self.fronts.iter_mut().filter_map(Front::connection_mut).find(|connection| !connection.told)?;
        connection.told = true;
        Some(Event::Attached { front: connection.id, uuid: connection.uuid })
    }

    /// The next request, round robin over the front ends; each has at most one.
    pub fn next_request(&mut self) -> Option<Request> {
        let ready = |front: &&Front<X>| front.connection().is_some_and(Connection::has_request);
        let key = |front: &Front<X>| (front.domid, front.devid);
        let after = |front: &&Front<X>| self.last_served.is_none_or(|last| key(front) > last);
        let chosen =
            self.fronts.iter().filter(ready).find(after).or_else(|| self.fronts.iter().find(ready)).map(key)?;
        self.last_served = Some(chosen);
        let front = self.fronts.iter_mut().find(|front| key(front) == chosen)?;
        front.connection_mut()?.take_request()
    }

    fn taken(&mut self, front: FrontId) -> Option<&mut Connection<X>> {
        let connections = self.fronts.iter_mut().filter_map(Front::connection_mut);
        connections.into_iter().find(|connection| connection.id == front && connection.is_taken())
    }

    /// Answers the request taken from `front`. Does nothing if that connection is gone or has no request open. A response of
    /// under 10 or over 4088 bytes, which the page cannot carry, is replaced by the reply given to [`Self::new`].
    pub fn respond(&mut self, front: FrontId, response: &[u8]) {
        let fallback = self.shared.malformed_reply;
        if let Some(connection) = self.taken(front) {
            connection.finish(response, fallback);
        }
    }

    /// Whether the request taken from `front` is not wanted any more: cancelled, or the connection is gone.
    pub fn is_cancelled(&self, front: FrontId) -> bool {
        let mut connections = self.fronts.iter().filter_map(Front::connection);
        connections.find(|connection| connection.id == front).is_none_or(Connection::is_cancelled)
    }

    /// Gives the request taken from `front` up: the front end sees it as cancelled.
    pub fn abandon(&mut self, front: FrontId) {
        if let Some(connection) = self.taken(front) {
            connection.idle();
        }
    }

    /// Closes this front end for good, with `reason` as a log line; its next chance is a new device (`xl` detach and attach,
    /// or a new domain).
    pub fn refuse(&mut self, front: FrontId, reason: &str) {
        let is_it = |candidate: &&mut Front<X>| candidate.connection().is_some_and(|connection| connection.id == front);
        if let Some(found) = self.fronts.iter_mut().find(is_it) {
            found.refusal = Some(reason.into());
            found.look = true;
        }
    }

    /// Closes every front end, now and from now on, with `reason` as a log line for each: there is no TPM to serve.
    pub fn refuse_all(&mut self, reason: &str) {
        self.shared.refuse_all = Some(reason.into());
        self.look_at_all();
    }

    /// The event port of a connection, which is bound to the front end's domain; `None` once it is gone.
    pub fn port(&self, front: FrontId) -> Option<EventPort> {
        self.fronts.iter().filter_map(Front::connection).find(|connection| connection.id == front).map(Connection::port)
    }

    /// The event ports in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        self.fronts.iter().filter_map(Front::connection).map(Connection::port)
    }

    /// Closes every connection and tells the front ends, before this domain stops. The driver is not to be stepped after that.
    pub fn close(&mut self, xen: &mut X) {
        for front in &mut self.fronts {
            front.shut(&mut self.shared, xen);
        }
        if core::mem::take(&mut self.watching) {
            // The domain is about to end; an error here has no one to hear it.
            let _ = xen.unwatch(DIR, TOKEN_OWN);
        }
    }

    fn look_at_all(&mut self) {
        for front in &mut self.fronts {
            front.look = true;
        }
    }

    fn take_watch_events(&mut self, xen: &mut X) {
        self.more_events = true;
        for _ in 0..EVENTS_PER_STEP {
            let Some(event) = xen.next_watch_event(TOKEN) else {
                self.more_events = false;
                return;
            };
            let place =
                event.token.strip_prefix(TOKEN_FRONT).or_else(|| event.path.strip_prefix(DIR)?.strip_prefix('/'));
            let mut parts = place.unwrap_or_default().split('/');
            let mut number = || xenbus::parse_number(parts.next()?.as_bytes());
            let key = (number(), number());
            let known = self.fronts.iter_mut().find(|front| key == (Some(front.domid.0.into()), Some(front.devid)));
            match known {
                Some(front) => front.look = true,
                None => self.rescan = true,
            }
        }
    }

    fn scan(&mut self, xen: &mut X) -> Result<(), StoreError> {
        // A front end that went unnoticed must not stand in the way of its successor.
        self.look_at_all();
        for domain in children(xen, DIR)? {
            let Ok(domid) = u16::try_from(domain) else { continue };
            for devid in children(xen, &format!("{DIR}/{domid}"))? {
                let key = (DomId(domid), devid);
                let Err(position) = self.fronts.binary_search_by_key(&key, |front| (front.domid, front.devid)) else {
                    continue;
                };
                if self.fronts.len() >= MAX_FRONTS {
                    log::error!(target: "tpmback", "Frontend {domid}/{devid}: {MAX_FRONTS} front ends are served already");
                    continue;
                }
                self.fronts.insert(position, Front::new(key.0, key.1));
            }
        }
        Ok(())
    }

    /// Looks at the front ends that need it: known ones before new ones, so that a UUID is free when its last user is gone.
    fn look(&mut self, xen: &mut X, now: Instant) {
        for newcomers in [false, true] {
            let mut index = 0;
            while let Some(front) = self.fronts.get(index) {
                index += 1;
                let is_new = matches!(front.phase, Phase::New | Phase::Unusable);
                let overdue = front.due().is_some_and(|at| at <= now);
                if !(front.look || overdue) || is_new != newcomers {
                    continue;
                }
                let others =
                    self.fronts.iter().enumerate().filter(|(other, front)| other + 1 != index && front.is_live());
                let in_use: Vec<_> = others.filter_map(|(_, front)| Some(front.identity.as_ref()?.uuid)).collect();
                let Some(front) = self.fronts.get_mut(index - 1) else { continue };
                front.look = false;
                let was_live = front.is_live();
                match front.look(&mut self.shared, xen, now, &in_use) {
                    Ok(Fate::Stays) if was_live && !front.is_live() => self.look_at_unusable(),
                    Ok(Fate::Stays) => {}
                    Ok(Fate::Forgotten) => {
                        index -= 1;
                        self.fronts.remove(index);
                        self.look_at_unusable();
                    }
                    Err(error) => {
                        front.look = true;
                        log::debug!(target: "tpmback", "Frontend {}/{}: {error}", front.domid, front.devid);
                        self.retry_at = Some(now + RETRY);
                    }
                }
            }
        }
    }

    /// A UUID may have become free.
    fn look_at_unusable(&mut self) {
        for front in self.fronts.iter_mut().filter(|front| matches!(front.phase, Phase::Unusable)) {
            front.look = true;
        }
    }
}

/// The names below `dir` that are numbers.
fn children(xen: &mut impl Xen, dir: &str) -> Result<Vec<u32>, StoreError> {
    match xen.list(None, dir) {
        Ok(names) => Ok(names.iter().filter_map(|name| xenbus::parse_number(name.as_bytes())).collect()),
        Err(StoreError::NoEntry | StoreError::Access) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl<X: Xen> Driver<X> for TpmBack<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            // xenstored is not well; what needs no xenstored goes on below.
        } else {
            self.retry_at = None;
            if !self.watching {
                match xen.watch(DIR, TOKEN_OWN) {
                    Ok(()) => {
                        self.watching = true;
                        log::info!(target: "tpmback", "Waiting for frontend domain to connect..");
                    }
                    Err(error) => {
                        log::error!(target: "tpmback", "cannot watch {DIR}: {error}");
                        self.retry_at = Some(now + RETRY);
                        return;
                    }
                }
            }
            self.take_watch_events(xen);
            if self.rescan {
                match self.scan(xen) {
                    Ok(()) => self.rescan = false,
                    Err(error) => {
                        log::debug!(target: "tpmback", "cannot list {DIR}: {error}");
                        self.retry_at = Some(now + RETRY);
                    }
                }
            }
            self.look(xen, now);
        }
        for front in &mut self.fronts {
            let Some(connection) = front.connection_mut() else { continue };
            connection.signal(xen);
            if xen.take_pending(connection.port()) {
                front.inspect(&self.shared, xen);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.fronts.iter().filter_map(Front::connection).any(Connection::signal_due) {
            return Some(Instant::from_millis(0));
        }
        if self.retry_at.is_some() {
            // Everything else needs xenstored.
            return self.retry_at;
        }
        if self.more_events || self.fronts.iter().any(|front| front.look) {
            return Some(Instant::from_millis(0));
        }
        self.fronts.iter().filter_map(Front::due).min()
    }
}
