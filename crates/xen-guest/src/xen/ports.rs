//! The ports of `xen-abi` on real Xen.

use super::events::Events;
use super::flask::Flask;
use super::grants::{GrantTable, GrantedPage, MappedPage};
use super::hypercall::{PARAM_STORE_PORT, param};
use super::store_ring::XenStoreRing;
use crate::time::clock::MachineClock;
use alloc::string::String;
use alloc::vec::Vec;
use xen_abi::{
    Access, DomId, EventChannels, EventError, EventPort, GrantError, GrantRef, Grants, Instant, Store, StoreError,
    TransactionId, WatchEvent,
};

/// Grants and event channels of this domain.
#[derive(Debug)]
pub struct XenPorts {
    grants: GrantTable,
    events: Events,
}

impl XenPorts {
    /// Sets both up.
    ///
    /// # Safety
    /// To be called once, on Xen.
    pub(crate) unsafe fn open(clock: MachineClock) -> Self {
        let store = param(PARAM_STORE_PORT).ok().filter(|&port| port != 0).map(|port| EventPort(port as u32));
        // SAFETY: called once, on Xen.
        let grants = unsafe { GrantTable::init() };
        Self { grants, events: Events::new(clock, store) }
    }

    /// The labels of domains.
    pub const fn labels(&self) -> Flask {
        Flask::new()
    }

    /// Waits until an event is pending, xenstored has signalled, or `deadline` has come; `None` is for ever. Coming back
    /// without any of them happens.
    pub fn wait(&mut self, deadline: Option<Instant>) {
        self.events.wait(deadline);
    }
}

/// What a domain on Xen has: hand both to the drivers, or join them by [`Self::with_store`].
#[derive(Debug)]
pub struct XenSide {
    /// Grants and event channels.
    pub ports: XenPorts,
    /// The way to xenstored, for a client such as `frontback::xenstore::Client`.
    pub store_ring: XenStoreRing,
}

impl XenSide {
    /// Makes the one value that implements [`xen_abi::Xen`], with the store that `client` makes of the ring.
    pub fn with_store<S: Store>(self, client: impl FnOnce(XenStoreRing) -> S) -> Machine<S> {
        Machine { ports: self.ports, store: client(self.store_ring) }
    }
}

/// Ports and store in one: a [`xen_abi::Xen`].
#[derive(Debug)]
pub struct Machine<S> {
    /// Grants and event channels.
    pub ports: XenPorts,
    /// Xenstore.
    pub store: S,
}

impl<S> Machine<S> {
    /// [`XenPorts::wait`].
    pub fn wait(&mut self, deadline: Option<Instant>) {
        self.ports.wait(deadline);
    }
}

impl Grants for XenPorts {
    type Granted = GrantedPage;
    type Mapped = MappedPage;

    fn grant(&mut self, to: DomId, access: Access) -> Result<GrantedPage, GrantError> {
        self.grants.grant(to, access)
    }
    fn grant_ref(page: &GrantedPage) -> GrantRef {
        GrantTable::grant_ref(page)
    }
    fn revoke(&mut self, page: GrantedPage) {
        self.grants.revoke(page);
    }
    fn map(&mut self, from: DomId, grant: GrantRef) -> Result<MappedPage, GrantError> {
        self.grants.map(from, grant)
    }
    fn unmap(&mut self, page: MappedPage) {
        self.grants.unmap(page);
    }
}

impl EventChannels for XenPorts {
    fn alloc_unbound(&mut self, remote: DomId) -> Result<EventPort, EventError> {
        self.events.alloc_unbound(remote)
    }
    fn bind_interdomain(&mut self, remote: DomId, remote_port: EventPort) -> Result<EventPort, EventError> {
        self.events.bind_interdomain(remote, remote_port)
    }
    fn close(&mut self, port: EventPort) {
        self.events.close(port);
    }
    fn notify(&mut self, port: EventPort) {
        self.events.notify(port);
    }
    fn take_pending(&mut self, port: EventPort) -> bool {
        self.events.take_pending(port)
    }
}

impl<S> Grants for Machine<S> {
    type Granted = GrantedPage;
    type Mapped = MappedPage;

    fn grant(&mut self, to: DomId, access: Access) -> Result<GrantedPage, GrantError> {
        self.ports.grant(to, access)
    }
    fn grant_ref(page: &GrantedPage) -> GrantRef {
        GrantTable::grant_ref(page)
    }
    fn revoke(&mut self, page: GrantedPage) {
        self.ports.revoke(page);
    }
    fn map(&mut self, from: DomId, grant: GrantRef) -> Result<MappedPage, GrantError> {
        self.ports.map(from, grant)
    }
    fn unmap(&mut self, page: MappedPage) {
        self.ports.unmap(page);
    }
}

impl<S> EventChannels for Machine<S> {
    fn alloc_unbound(&mut self, remote: DomId) -> Result<EventPort, EventError> {
        self.ports.alloc_unbound(remote)
    }
    fn bind_interdomain(&mut self, remote: DomId, remote_port: EventPort) -> Result<EventPort, EventError> {
        self.ports.bind_interdomain(remote, remote_port)
    }
    fn close(&mut self, port: EventPort) {
        self.ports.close(port);
    }
    fn notify(&mut self, port: EventPort) {
        self.ports.notify(port);
    }
    fn take_pending(&mut self, port: EventPort) -> bool {
        self.ports.take_pending(port)
    }
}

impl<S: Store> Store for Machine<S> {
    fn read(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<u8>, StoreError> {
        self.store.read(tx, path)
    }
    fn write(&mut self, tx: Option<TransactionId>, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.store.write(tx, path, value)
    }
    fn remove(&mut self, tx: Option<TransactionId>, path: &str) -> Result<(), StoreError> {
        self.store.remove(tx, path)
    }
    fn list(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<String>, StoreError> {
        self.store.list(tx, path)
    }
    fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.store.watch(path, token)
    }
    fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.store.unwatch(path, token)
    }
    fn next_watch_event(&mut self, token_prefix: &str) -> Option<WatchEvent> {
        self.store.next_watch_event(token_prefix)
    }
    fn begin(&mut self) -> Result<TransactionId, StoreError> {
        self.store.begin()
    }
    fn end(&mut self, tx: TransactionId, commit: bool) -> Result<(), StoreError> {
        self.store.end(tx, commit)
    }
}
