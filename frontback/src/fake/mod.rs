//! A machine in one process: domains with xenstore, grants and event channels that behave as Xen's do, and peers for each
//! driver, well-behaved or hostile on demand. For tests only; misuse of the fake itself panics.

mod blkback;
mod events;
mod libxl;
mod linux;
mod memory;
mod store;

pub use blkback::{BlkBack, Fault, RamDisk};
pub use libxl::VbdOptions;
pub use linux::{LinuxTpmFront, Recv};
pub use memory::{FakePage, GrantedPage, MappedPage};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use events::Channels;
use memory::GrantTable;
use store::Tree;
use xen_abi::{
    Access, DomId, EventChannels, EventError, EventPort, GrantError, GrantRef, Grants, Store, StoreError,
    TransactionId, WatchEvent,
};

/// The toolstack's domain.
pub const DOM0: DomId = DomId(0);

/// The machine; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Machine {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    tree: Tree,
    transactions: BTreeMap<u32, Transaction>,
    next_transaction: u32,
    watches: Vec<Watch>,
    queues: BTreeMap<DomId, VecDeque<WatchEvent>>,
    grants: GrantTable,
    channels: Channels,
    commits_to_refuse: u32,
    /// Requests until one is lost, and whether it is executed all the same.
    faults: BTreeMap<DomId, (u32, bool)>,
}

struct Transaction {
    owner: DomId,
    tree: Tree,
    base: u64,
    changed: Vec<Change>,
}

struct Watch {
    owner: DomId,
    path: String,
    absolute: String,
    token: String,
}

/// A path that changed, and who could read it: of a removed node, before it went.
struct Change {
    path: String,
    readers: Vec<DomId>,
}

impl Machine {
    /// A machine with nothing but dom0.
    pub fn new() -> Self {
        let machine = Self::default();
        machine.domain(DOM0);
        machine
    }

    /// A domain, made with its xenstore home if it is new.
    pub fn domain(&self, id: DomId) -> FakeDomain {
        let home = alloc::format!("/local/domain/{id}");
        let mut inner = self.inner.borrow_mut();
        if !inner.tree.exists(&home) {
            inner.tree.make(&home, DOM0, &[id]);
            for own in ["shutdown", "feature-poweroff", "feature-reboot"] {
                inner.tree.make(&alloc::format!("{home}/control/{own}"), id, &[]);
            }
            inner.queues.insert(id, VecDeque::new());
        }
        drop(inner);
        FakeDomain { machine: self.clone(), id }
    }

    /// `xl destroy`: the domain is gone at once, with its ports, grants, watches and xenstore home. Pages of it that others
    /// map stay until they unmap them. Back-end directories in other domains stay: their owners remove them.
    pub fn destroy(&self, id: DomId) {
        let mut inner = self.inner.borrow_mut();
        inner.watches.retain(|watch| watch.owner != id);
        inner.queues.remove(&id);
        inner.channels.destroy(id);
        inner.grants.destroy(id);
        inner.transactions.retain(|_, transaction| transaction.owner != id);
        let changes = inner.tree.remove(&alloc::format!("/local/domain/{id}"));
        inner.tree.remove(&alloc::format!("/libxl/{id}"));
        inner.fire(&changes);
    }

    /// The next `count` transactions that someone wants to commit meet a conflict.
    pub fn refuse_commits(&self, count: u32) {
        self.inner.borrow_mut().commits_to_refuse = count;
    }

    /// xenstored does not answer one request of a domain, after `number` others; executed it may be all the same.
    pub fn lose_request(&self, id: DomId, number: u32, executed: bool) {
        self.inner.borrow_mut().faults.insert(id, (number, executed));
    }

    /// Whether that request is still to come.
    pub fn request_to_be_lost(&self, id: DomId) -> bool {
        self.inner.borrow().faults.contains_key(&id)
    }

    /// Whether a domain has anything to do: a pending port or a watch event.
    pub fn has_work(&self, id: DomId) -> bool {
        let inner = self.inner.borrow();
        inner.channels.any_pending(id) || inner.queues.get(&id).is_some_and(|queue| !queue.is_empty())
    }

    /// Fails the test if a domain still grants or maps a page or has an open port, or ever mapped one page twice.
    pub fn assert_nothing_held(&self, id: DomId) {
        let inner = self.inner.borrow();
        inner.grants.assert_nothing_held(id);
        let open = inner.channels.open(id);
        assert!(open.is_empty(), "domain {id} still has the event ports {open:?} open");
    }

    /// The value of a node as dom0 sees it, as text.
    pub fn read(&self, path: &str) -> Option<String> {
        let inner = self.inner.borrow();
        inner.tree.value(path).map(|value| String::from_utf8_lossy(value).to_string())
    }
}

impl Inner {
    fn fire(&mut self, changes: &[Change]) {
        for change in changes {
            for watch in &self.watches {
                let below = change.path.strip_prefix(&watch.absolute);
                let hit = watch.absolute == "/" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if !hit || !(watch.owner == DOM0 || change.readers.contains(&watch.owner)) {
                    continue;
                }
                let path = if watch.path.starts_with('/') {
                    change.path.clone()
                } else {
                    alloc::format!("{}{}", watch.path, below.unwrap_or_default())
                };
                if let Some(queue) = self.queues.get_mut(&watch.owner) {
                    queue.push_back(WatchEvent { path, token: watch.token.clone() });
                }
            }
        }
    }
}

/// One domain's view of the machine: implements the ports. A handle, cheap to clone.
#[derive(Clone)]
pub struct FakeDomain {
    machine: Machine,
    id: DomId,
}

impl FakeDomain {
    /// Its number.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// The machine it is on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How many signals were sent to `port` since it was made.
    pub fn signals(&self, port: EventPort) -> u64 {
        self.machine.inner.borrow().channels.signals(self.id, port)
    }

    /// Writes a node and panics if that is refused.
    pub fn put(&self, path: &str, value: &str) {
        let written = self.clone().write(None, path, value.as_bytes());
        assert_eq!(written, Ok(()), "domain {} writes {path}", self.id);
    }

    /// Does what a request asks for, unless it is the one to be lost.
    fn request<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.machine.inner.borrow_mut();
        let executed = match inner.faults.get_mut(&self.id) {
            None => None,
            Some((0, executed)) => Some(*executed),
            Some((number, _)) => {
                *number -= 1;
                None
            }
        };
        if executed.is_some() {
            inner.faults.remove(&self.id);
        }
        drop(inner);
        match executed {
            None => work(),
            Some(true) => work().and(Err(StoreError::TimedOut)),
            Some(false) => Err(StoreError::TimedOut),
        }
    }

    fn absolute(&self, path: &str) -> Result<String, StoreError> {
        let absolute =
            if path.starts_with('/') { path.to_string() } else { alloc::format!("/local/domain/{}/{path}", self.id) };
        let fits = absolute.len() <= 3072 && (absolute == "/" || !absolute.ends_with('/')) && !absolute.contains("//");
        let plain = absolute.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte));
        if fits && plain { Ok(absolute) } else { Err(StoreError::Malformed) }
    }

    fn with_tree<T>(
        &self,
        tx: Option<TransactionId>,
        work: impl FnOnce(&mut Tree, &mut Vec<Change>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut inner = self.machine.inner.borrow_mut();
        let inner = &mut *inner;
        match tx {
            None => {
                let mut changes = Vec::new();
                let result = work(&mut inner.tree, &mut changes);
                inner.fire(&changes);
                result
            }
            Some(TransactionId(id)) => match inner.transactions.get_mut(&id) {
                Some(transaction) if transaction.owner == self.id => {
                    work(&mut transaction.tree, &mut transaction.changed)
                }
                _ => Err(StoreError::NoEntry),
            },
        }
    }
}

impl Store for FakeDomain {
    fn read(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(|| {
            let path = self.absolute(path)?;
            self.with_tree(tx, |tree, _| tree.read(self.id, &path))
        })
    }

    fn write(&mut self, tx: Option<TransactionId>, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.request(|| {
            let path = self.absolute(path)?;
            if value.len() > 2048 {
                return Err(StoreError::Other);
            }
            self.with_tree(tx, |tree, changes| {
                tree.write(self.id, &path, value)?;
                changes.push(Change { readers: tree.readers(&path), path });
                Ok(())
            })
        })
    }

    fn remove(&mut self, tx: Option<TransactionId>, path: &str) -> Result<(), StoreError> {
        self.request(|| {
            let path = self.absolute(path)?;
            self.with_tree(tx, |tree, changes| {
                tree.check_write(self.id, &path)?;
                changes.extend(tree.remove(&path));
                Ok(())
            })
        })
    }

    fn list(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<String>, StoreError> {
        self.request(|| {
            let path = self.absolute(path)?;
            self.with_tree(tx, |tree, _| tree.list(self.id, &path))
        })
    }

    fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(|| {
            let absolute = self.absolute(path)?;
            let mut inner = self.machine.inner.borrow_mut();
            let same = |watch: &Watch| watch.owner == self.id && watch.path == path && watch.token == token;
            if !inner.watches.iter().any(same) {
                inner.watches.push(Watch { owner: self.id, path: path.into(), absolute, token: token.into() });
            }
            let queue = inner.queues.get_mut(&self.id).expect("a living domain");
            queue.push_back(WatchEvent { path: path.into(), token: token.into() });
            Ok(())
        })
    }

    fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(|| {
            let mut inner = self.machine.inner.borrow_mut();
            let before = inner.watches.len();
            inner.watches.retain(|watch| !(watch.owner == self.id && watch.path == path && watch.token == token));
            if inner.watches.len() < before { Ok(()) } else { Err(StoreError::NoEntry) }
        })
    }

    fn next_watch_event(&mut self, token_prefix: &str) -> Option<WatchEvent> {
        let mut inner = self.machine.inner.borrow_mut();
        let queue = inner.queues.get_mut(&self.id)?;
        let position = queue.iter().position(|event| event.token.starts_with(token_prefix))?;
        queue.remove(position)
    }

    fn begin(&mut self) -> Result<TransactionId, StoreError> {
        self.request(|| {
            let mut inner = self.machine.inner.borrow_mut();
            inner.next_transaction += 1;
            let id = inner.next_transaction;
            let transaction = Transaction {
                owner: self.id,
                tree: inner.tree.clone(),
                base: inner.tree.generation(),
                changed: Vec::new(),
            };
            inner.transactions.insert(id, transaction);
            Ok(TransactionId(id))
        })
    }

    fn end(&mut self, tx: TransactionId, commit: bool) -> Result<(), StoreError> {
        self.request(|| {
            let mut inner = self.machine.inner.borrow_mut();
            let transaction = inner.transactions.remove(&tx.0).ok_or(StoreError::NoEntry)?;
            if !commit {
                return Ok(());
            }
            if inner.commits_to_refuse > 0 {
                inner.commits_to_refuse -= 1;
                return Err(StoreError::Again);
            }
            if inner.tree.generation() != transaction.base {
                return Err(StoreError::Again);
            }
            inner.tree = transaction.tree;
            inner.fire(&transaction.changed);
            Ok(())
        })
    }
}

impl Grants for FakeDomain {
    type Granted = GrantedPage;
    type Mapped = MappedPage;

    fn grant(&mut self, to: DomId, access: Access) -> Result<GrantedPage, GrantError> {
        self.machine.inner.borrow_mut().grants.grant(self.id, to, access)
    }

    fn grant_ref(page: &GrantedPage) -> GrantRef {
        page.reference()
    }

    fn revoke(&mut self, page: GrantedPage) {
        self.machine.inner.borrow_mut().grants.revoke(self.id, page);
    }

    fn map(&mut self, from: DomId, grant: GrantRef) -> Result<MappedPage, GrantError> {
        self.machine.inner.borrow_mut().grants.map(self.id, from, grant)
    }

    fn unmap(&mut self, page: MappedPage) {
        self.machine.inner.borrow_mut().grants.unmap(self.id, page);
    }
}

impl EventChannels for FakeDomain {
    fn alloc_unbound(&mut self, remote: DomId) -> Result<EventPort, EventError> {
        Ok(self.machine.inner.borrow_mut().channels.alloc_unbound(self.id, remote))
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: EventPort) -> Result<EventPort, EventError> {
        self.machine.inner.borrow_mut().channels.bind(self.id, remote, remote_port)
    }

    fn close(&mut self, port: EventPort) {
        self.machine.inner.borrow_mut().channels.close(self.id, port);
    }

    fn notify(&mut self, port: EventPort) {
        self.machine.inner.borrow_mut().channels.notify(self.id, port);
    }

    fn take_pending(&mut self, port: EventPort) -> bool {
        self.machine.inner.borrow_mut().channels.take_pending(self.id, port)
    }
}
