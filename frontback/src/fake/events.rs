//! Event channels.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use xen_abi::{DomId, EventError, EventPort};

/// `EINVAL`.
const INVALID: EventError = EventError(22);

#[derive(Clone, Copy, PartialEq)]
enum End {
    Unbound(DomId),
    Connected(DomId, EventPort),
}

struct Port {
    end: End,
    pending: bool,
    signals: u64,
}

#[derive(Default)]
pub(super) struct Channels {
    ports: BTreeMap<(DomId, EventPort), Port>,
}

impl Channels {
    fn make(&mut self, owner: DomId, end: End, pending: bool) -> EventPort {
        // As Xen does, the lowest that is free: numbers come back soon.
        let free = |port: &EventPort| !self.ports.contains_key(&(owner, *port));
        let port = (1..).map(EventPort).find(free).expect("a free port");
        self.ports.insert((owner, port), Port { end, pending, signals: 0 });
        port
    }

    pub(super) fn alloc_unbound(&mut self, owner: DomId, remote: DomId) -> EventPort {
        self.make(owner, End::Unbound(remote), false)
    }

    pub(super) fn bind(&mut self, owner: DomId, remote: DomId, port: EventPort) -> Result<EventPort, EventError> {
        match self.ports.get(&(remote, port)) {
            Some(other) if other.end == End::Unbound(owner) => {}
            _ => return Err(INVALID),
        }
        // As Xen does: a signal sent before the binding is not lost.
        let own = self.make(owner, End::Connected(remote, port), true);
        if let Some(other) = self.ports.get_mut(&(remote, port)) {
            other.end = End::Connected(owner, own);
        }
        Ok(own)
    }

    pub(super) fn close(&mut self, owner: DomId, port: EventPort) {
        if let Some(Port { end: End::Connected(remote, peer), .. }) = self.ports.remove(&(owner, port))
            && let Some(other) = self.ports.get_mut(&(remote, peer))
        {
            other.end = End::Unbound(owner);
        }
    }

    pub(super) fn notify(&mut self, owner: DomId, port: EventPort) {
        if let Some(Port { end: End::Connected(remote, peer), .. }) = self.ports.get(&(owner, port))
            && let Some(other) = self.ports.get_mut(&(*remote, *peer))
        {
            other.pending = true;
            other.signals += 1;
        }
    }

    pub(super) fn take_pending(&mut self, owner: DomId, port: EventPort) -> bool {
        self.ports.get_mut(&(owner, port)).is_some_and(|port| core::mem::take(&mut port.pending))
    }

    pub(super) fn signals(&self, owner: DomId, port: EventPort) -> u64 {
        self.ports.get(&(owner, port)).map_or(0, |port| port.signals)
    }

    pub(super) fn any_pending(&self, owner: DomId) -> bool {
        self.ports.iter().any(|((domain, _), port)| *domain == owner && port.pending)
    }

    pub(super) fn open(&self, owner: DomId) -> Vec<EventPort> {
        self.ports.keys().filter(|(domain, _)| *domain == owner).map(|(_, port)| *port).collect()
    }

    pub(super) fn destroy(&mut self, id: DomId) {
        for port in self.open(id) {
            self.close(id, port);
        }
    }
}
