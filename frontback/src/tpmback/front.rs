//! One front end as the back end sees it: its directory, its state, its ring.
//!
//! | phase | own state | left when |
//! |---|---|---|
//! | `New` | 1 | own keys were read |
//! | `Unusable` | 6 | the toolstack changes own keys |
//! | `Waiting` | 2 | the front end is in state 3 or 4: connect; in state 5: `Closing` |
//! | `Connected` | 4 | the front end leaves state 3 and 4, or publishes another ring |
//! | `Closing` | 5 | the front end is in another state than 5 |
//! | `Closed` | 6 | the front end starts over (1, 2 or 6), unless it was refused or the device taken away |
//!
//! Whatever the phase: own directory gone or made anew, front end's directory gone, `online` = 0 or state 5 from the toolstack.

use super::connection::{Connection, Setup};
use super::{FrontId, Shared};
use crate::parse_uuid;
use crate::xenbus::{self, Excerpt, KeyError, State};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::{DomId, Instant, StoreError, Xen};

pub(super) enum Phase<X: Xen> {
    New,
    Unusable,
    Waiting,
    Connected(Connection<X>),
    Closing,
    Closed { for_good: bool },
}

/// What the toolstack says about the front end.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) dir: String,
    pub(super) uuid: [u8; 16],
}

pub(super) struct Front<X: Xen> {
    pub(super) domid: DomId,
    pub(super) devid: u32,
    /// `backend/vtpm/<domid>/<devid>`.
    dir: String,
    pub(super) identity: Option<Identity>,
    /// The keys that were found unusable, so that the same ones are complained about once.
    unusable: Option<[Option<Vec<u8>>; 3]>,
    pub(super) phase: Phase<X>,
    /// What own `state` says because we wrote it.
    written: Option<State>,
    /// What it may say, because we wrote it and xenstored did not answer.
    writing: Option<State>,
    pub(super) look: bool,
    /// A reason to close this front end that came from the service.
    pub(super) refusal: Option<String>,
    /// When own directory is to be removed, once the device has been taken away.
    pub(super) remove_at: Option<Instant>,
    /// Until when state 2 is to be seen, since own keys were first read.
    announced_until: Option<Instant>,
    /// When a ring that came too early for that is to be connected.
    connect_at: Option<Instant>,
    complaints: u32,
    /// How often it was connected.
    connections: u32,
}

/// Complaints about one front end that are logged; a hostile one could go on for ever.
const MAX_COMPLAINTS: u32 = 20;
/// Connections of one front end that are logged, for the same reason.
const MAX_GREETINGS: u32 = 100;

/// How long own directory shows state 6 before it is removed. libxl waits first for the state and then for the directory
/// of a back end outside dom0 to go (10 s each), and complains when it is gone before the state was seen.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is left of a front end after a look.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Forgotten,
}

impl<X: Xen> Front<X> {
    pub(super) fn new(domid: DomId, devid: u32) -> Self {
        Self {
            domid,
            devid,
            dir: format!("backend/vtpm/{domid}/{devid}"),
            identity: None,
            unusable: None,
            phase: Phase::New,
            written: None,
            writing: None,
            look: true,
            refusal: None,
            remove_at: None,
            announced_until: None,
            connect_at: None,
            complaints: 0,
            connections: 0,
        }
    }

    pub(super) fn token(&self) -> String {
        format!("{}{}/{}", super::TOKEN_FRONT, self.domid, self.devid)
    }

    pub(super) fn connection(&self) -> Option<&Connection<X>> {
        if let Phase::Connected(connection) = &self.phase { Some(connection) } else { None }
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection<X>> {
        if let Phase::Connected(connection) = &mut self.phase { Some(connection) } else { None }
    }

    /// When it is to be looked at even if nothing changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.remove_at.into_iter().chain(self.connect_at).min()
    }

    /// Whether its UUID is in use by it.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Connected(_) | Phase::Closing)
    }

    pub(super) fn complain(&mut self, what: core::fmt::Arguments<'_>) {
        self.complaints = self.complaints.saturating_add(1);
        let (domid, devid) = (self.domid, self.devid);
        if self.complaints < MAX_COMPLAINTS {
            log::error!(target: "tpmback", "Frontend {domid}/{devid}: {what}");
        } else if self.complaints == MAX_COMPLAINTS {
            log::error!(target: "tpmback", "Frontend {domid}/{devid}: {what}; no more lines about this front end");
        }
    }

    fn greet(&mut self) {
        self.connections = self.connections.saturating_add(1);
        let (domid, devid) = (self.domid, self.devid);
        if self.connections <= MAX_GREETINGS {
            log::info!(target: "tpmback", "VTPM attached to Frontend {domid}/{devid}");
        }
        if self.connections == MAX_GREETINGS {
            log::info!(target: "tpmback", "Frontend {domid}/{devid}: no more lines when it is attached again");
        }
    }

    /// Takes the ring down, if there is one.
    fn disconnect(&mut self, shared: &mut Shared, xen: &mut X) {
        if matches!(self.phase, Phase::Connected(_))
            && let Phase::Connected(connection) = core::mem::replace(&mut self.phase, Phase::Waiting)
        {
            connection.take_down(shared, xen);
        }
    }

    fn write_state(&mut self, xen: &mut X, state: State) -> Result<(), StoreError> {
        if self.written != Some(state) {
            self.writing = Some(state);
            xenbus::write_state(xen, &self.dir, state)?;
            self.written = self.writing.take();
        }
        Ok(())
    }

    fn enter(&mut self, shared: &mut Shared, xen: &mut X, phase: Phase<X>) -> Result<(), StoreError> {
        self.disconnect(shared, xen);
        self.phase = phase;
        self.show_phase(xen)
    }

    /// Writes the state that goes with the phase, unless it stands there.
    fn show_phase(&mut self, xen: &mut X) -> Result<(), StoreError> {
        let state = match self.phase {
            Phase::New => return Ok(()),
            Phase::Waiting => State::InitWait,
            Phase::Connected(_) => State::Connected,
            Phase::Closing => State::Closing,
            Phase::Unusable | Phase::Closed { .. } => State::Closed,
        };
        self.write_state(xen, state)
    }

    /// Closes it before this domain stops.
    pub(super) fn shut(&mut self, shared: &mut Shared, xen: &mut X) {
        self.forget_watch(xen);
        if let Err(error) = self.enter(shared, xen, Phase::Closed { for_good: true }) {
            log::debug!(target: "tpmback", "cannot write {}/state: {error}", self.dir);
        }
    }

    fn forget_watch(&mut self, xen: &mut X) {
        if let Some(identity) = self.identity.take() {
            // Fails only if xenstored is gone or never had it, and then there is nothing left to do.
            let _ = xen.unwatch(&format!("{}/state", identity.dir), &self.token());
        }
    }

    /// Looks at everything xenstore says about this front end and follows it. `in_use` are the UUIDs of the others. An error
    /// is xenstored's and worth another try.
    pub(super) fn look(
        &mut self,
        shared: &mut Shared,
        xen: &mut X,
        now: Instant,
        in_use: &[[u8; 16]],
    ) -> Result<Fate, StoreError> {
        self.connect_at = None;
        let own_state = match xenbus::read_state(xen, &self.dir) {
            Err(KeyError::Missing) => return Ok(self.forget(shared, xen)),
            Err(KeyError::Store(error)) => return Err(error),
            Err(KeyError::Malformed(_)) => None,
            Ok(state) => Some(state),
        };
        if own_state.is_some() && own_state == self.writing {
            self.written = self.writing.take();
        }
        let rewritten = own_state.is_some() && own_state != self.written;
        if rewritten && own_state == Some(State::Initialising) && self.written.is_some() {
            log::debug!(target: "tpmback", "{} was made anew", self.dir);
            self.disconnect(shared, xen);
            self.forget_watch(xen);
            let (complaints, connections) = (self.complaints, self.connections);
            *self = Self { complaints, connections, ..Self::new(self.domid, self.devid) };
        }
        if matches!(self.phase, Phase::New | Phase::Unusable) && !self.introduce(shared, xen, now, in_use)? {
            return Ok(Fate::Stays);
        }
        let Some(identity) = self.identity.clone() else { return Ok(Fate::Stays) };

        let front_state = xenbus::read_state(xen, &identity.dir);
        if front_state == Err(KeyError::Missing) {
            return Ok(self.bury(shared, xen, now));
        }
        let taken_away = self.remove_at.is_some()
            || xenbus::read_key(xen, &self.dir, "online").is_ok_and(|online| online == b"0")
            || rewritten && own_state == Some(State::Closing);
        if taken_away {
            // libxl's state 5 has replaced ours, so that ours is to be written whatever it was.
            (self.written, self.writing) = (own_state, None);
            return Ok(self.bury(shared, xen, now));
        }
        let reason = self.refusal.take().or_else(|| match self.phase {
            Phase::Closed { for_good: true } => None,
            _ => shared.refuse_all.clone(),
        });
        if let Some(reason) = reason {
            self.complain(format_args!("refused: {reason}"));
            self.enter(shared, xen, Phase::Closed { for_good: true })?;
            return Ok(Fate::Stays);
        }
        match front_state {
            Ok(state) => self.follow(shared, xen, now, &identity, state)?,
            Err(KeyError::Store(error)) => return Err(error),
            Err(error) => {
                if !matches!(self.phase, Phase::Closed { .. }) {
                    self.complain(format_args!("state is {error}; closed"));
                    self.enter(shared, xen, Phase::Closed { for_good: false })?;
                }
            }
        }
        // What an earlier try could not write.
        self.show_phase(xen)?;
        Ok(Fate::Stays)
    }

    /// Own directory is gone.
    fn forget(&mut self, shared: &mut Shared, xen: &mut X) -> Fate {
        self.disconnect(shared, xen);
        self.forget_watch(xen);
        Fate::Forgotten
    }

    /// The domain was destroyed or the device detached. Outside dom0 it is the back end that removes its own directory, when
    /// libxl has had the time to see state 6 there.
    fn bury(&mut self, shared: &mut Shared, xen: &mut X, now: Instant) -> Fate {
        if let Err(error) = self.enter(shared, xen, Phase::Closed { for_good: true }) {
            log::debug!(target: "tpmback", "cannot write {}/state: {error}", self.dir);
        }
        if now < *self.remove_at.get_or_insert(now + FAREWELL) {
            return Fate::Stays;
        }
        match xen.remove(None, &self.dir) {
            Ok(()) | Err(StoreError::NoEntry) => self.forget(shared, xen),
            Err(error) => {
                log::debug!(target: "tpmback", "cannot remove {}: {error}", self.dir);
                self.remove_at = Some(now + FAREWELL);
                Fate::Stays
            }
        }
    }

    /// Reads own keys; true if they are usable and the front end may come.
    fn introduce(
        &mut self,
        shared: &mut Shared,
        xen: &mut X,
        now: Instant,
        in_use: &[[u8; 16]],
    ) -> Result<bool, StoreError> {
        let mut raw = [None, None, None];
        for (slot, key) in raw.iter_mut().zip(["uuid", "frontend", "frontend-id"]) {
            *slot = match xenbus::read_key(xen, &self.dir, key) {
                Ok(value) => Some(value),
                Err(KeyError::Store(error)) => return Err(error),
                Err(_) => None,
            };
        }
        let identity = match self.check_keys(&raw, in_use) {
            Ok(identity) => identity,
            Err(complaint) => {
                if self.unusable.as_ref() != Some(&raw) {
                    self.complain(format_args!("{complaint}; closed"));
                    self.unusable = Some(raw);
                }
                self.enter(shared, xen, Phase::Unusable)?;
                return Ok(false);
            }
        };
        self.unusable = None;
        xen.watch(&format!("{}/state", identity.dir), &self.token())?;
        self.identity = Some(identity);
        if shared.refuse_all.is_none() {
            xen.write(None, &format!("{}/feature-protocol-v2", self.dir), b"1")?;
            self.enter(shared, xen, Phase::Waiting)?;
            self.announced_until = Some(now + super::ANNOUNCEMENT);
        }
        Ok(true)
    }

    fn check_keys(&self, raw: &[Option<Vec<u8>>; 3], in_use: &[[u8; 16]]) -> Result<Identity, String> {
        let [uuid, dir, domid] = raw;
        let missing = |key: &str| format!("{key} is missing in {}", self.dir);
        let malformed = |key: &str, value: &[u8]| format!("{key} is malformed: {}", Excerpt::new(value));
        let uuid = uuid.as_deref().ok_or_else(|| missing("uuid"))?;
        let uuid = parse_uuid(uuid).map_err(|_| malformed("uuid", uuid))?;
        let domid = domid.as_deref().ok_or_else(|| missing("frontend-id"))?;
        if xenbus::parse_number(domid) != Some(self.domid.0.into()) {
            return Err(malformed("frontend-id", domid));
        }
        let dir = dir.as_deref().ok_or_else(|| missing("frontend"))?;
        let home = format!("/local/domain/{}/", self.domid);
        let dir =
            xenbus::parse_dir(dir).filter(|dir| dir.starts_with(&home)).ok_or_else(|| malformed("frontend", dir))?;
        if in_use.contains(&uuid) {
            return Err("its uuid is in use by another front end".into());
        }
        Ok(Identity { dir: dir.into(), uuid })
    }

    /// Follows the front end's state.
    fn follow(
        &mut self,
        shared: &mut Shared,
        xen: &mut X,
        now: Instant,
        identity: &Identity,
        front: State,
    ) -> Result<(), StoreError> {
        let ring_offered = matches!(front, State::Initialised | State::Connected);
        match &mut self.phase {
            Phase::New | Phase::Unusable | Phase::Closed { for_good: true } => Ok(()),
            Phase::Closed { for_good: false } => match front {
                State::Initialising | State::InitWait | State::Closed => self.enter(shared, xen, Phase::Waiting),
                _ => Ok(()),
            },
            Phase::Waiting if ring_offered && self.announced_until.is_some_and(|until| now < until) => {
                self.connect_at = self.announced_until;
                Ok(())
            }
            Phase::Waiting | Phase::Closing if ring_offered => self.connect(shared, xen, identity, front),
            Phase::Connected(connection) if ring_offered => {
                // From 4 back to 3 without closing is a driver that started anew, even with the same numbers.
                let restarted = connection.front_state == State::Connected && front == State::Initialised;
                connection.front_state = front;
                let setup = Setup::read(xen, &identity.dir)?;
                if !restarted && setup.as_ref().is_ok_and(|setup| *setup == connection.setup) {
                    return Ok(());
                }
                self.disconnect(shared, xen);
                self.connect(shared, xen, identity, front)
            }
            _ if front == State::Closing => self.enter(shared, xen, Phase::Closing),
            Phase::Waiting => Ok(()),
            Phase::Connected(_) | Phase::Closing => self.enter(shared, xen, Phase::Waiting),
        }
    }

    fn connect(
        &mut self,
        shared: &mut Shared,
        xen: &mut X,
        identity: &Identity,
        front: State,
    ) -> Result<(), StoreError> {
        let connected = Setup::read(xen, &identity.dir)?.and_then(|setup| {
            let id = FrontId { domid: self.domid, devid: self.devid, attach: shared.attaches + 1 };
            Connection::open(xen, setup, id, identity.uuid, front)
        });
        let connection = match connected {
            Ok(connection) => connection,
            Err(complaint) => {
                self.complain(format_args!("{complaint}; closed"));
                return self.enter(shared, xen, Phase::Closed { for_good: false });
            }
        };
        shared.attaches += 1;
        self.greet();
        self.phase = Phase::Connected(connection);
        self.inspect(shared, xen);
        xen.write(None, &format!("{}/ready", self.dir), b"1")?;
        self.show_phase(xen)
    }

    /// Looks at the page once.
    pub(super) fn inspect(&mut self, shared: &Shared, xen: &mut X) {
        let Some(connection) = self.connection_mut() else { return };
        if let Err(bad) = connection.inspect(shared.malformed_reply, xen) {
            self.complain(format_args!("{bad}"));
        }
    }
}
