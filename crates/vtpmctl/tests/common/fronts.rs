//! Front ends that are sockets: each connection to a path is a front end of its own, with the UUID that the path stands for.

use frontback::tpmback::{Event, FrontId, Fronts, Request};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use tpm_wire::{Transport, TransportError};
use vtpm_stubdom::Link;
use xen_abi::DomId;

/// A path and who comes over it.
struct Door {
    listener: UnixListener,
    domid: DomId,
    uuid: [u8; 16],
}

struct Connection {
    front: FrontId,
    stream: UnixStream,
    received: Vec<u8>,
    /// A request is with the service.
    busy: bool,
}

#[derive(Default)]
pub struct SocketFronts {
    doors: RefCell<Vec<Door>>,
    connections: RefCell<Vec<Connection>>,
    events: RefCell<VecDeque<Event>>,
    requests: RefCell<VecDeque<Request>>,
    attaches: Cell<u64>,
    /// Answers to a link inside of this process.
    inner: RefCell<BTreeMap<u64, Option<Vec<u8>>>>,
    pub refused: RefCell<Vec<String>>,
}

impl SocketFronts {
    /// Whoever connects to `path` is a device of domain `domid` with this UUID.
    pub fn open(&self, path: &Path, domid: u16, uuid: [u8; 16]) {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.doors.borrow_mut().push(Door { listener, domid: DomId(domid), uuid });
    }

    fn attached(&self, domid: DomId, uuid: [u8; 16]) -> FrontId {
        self.attaches.set(self.attaches.get() + 1);
        let front = FrontId { domid, devid: 0, attach: self.attaches.get() };
        self.events.borrow_mut().push_back(Event::Attached { front, uuid });
        front
    }

    /// Takes in what came; false if nothing did.
    pub fn pump(&self) -> bool {
        let mut moved = false;
        for door in self.doors.borrow().iter() {
            while let Ok((stream, _)) = door.listener.accept() {
                stream.set_nonblocking(true).unwrap();
                let front = self.attached(door.domid, door.uuid);
                self.connections.borrow_mut().push(Connection { front, stream, received: Vec::new(), busy: false });
                moved = true;
            }
        }
        self.connections.borrow_mut().retain_mut(|connection| {
            let mut bytes = [0; 4096];
            match connection.stream.read(&mut bytes) {
                Ok(0) => {
                    self.events.borrow_mut().push_back(Event::Detached { front: connection.front });
                    return false;
                }
                Ok(n) => connection.received.extend(&bytes[..n]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            let Some(size) = connection.received.get(2..6) else { return true };
            let size = u32::from_be_bytes(size.try_into().unwrap()) as usize;
            if connection.busy || connection.received.len() < size {
                return true;
            }
            let command: Vec<u8> = connection.received.drain(..size).collect();
            connection.busy = true;
            moved = true;
            self.requests.borrow_mut().push_back(Request { front: connection.front, locality: 0, command });
            true
        });
        moved || !self.requests.borrow().is_empty()
    }
}

impl Fronts for SocketFronts {
    fn next_event(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }

    fn next_request(&self) -> Option<Request> {
        // As in the driver: no request before the connection was taken.
        if self.events.borrow().is_empty() { self.requests.borrow_mut().pop_front() } else { None }
    }

    fn respond(&self, front: FrontId, response: &[u8]) {
        if let Some(answer) = self.inner.borrow_mut().get_mut(&front.attach) {
            *answer = Some(response.to_vec());
        }
        if let Some(connection) = self.connections.borrow_mut().iter_mut().find(|known| known.front == front) {
            connection.busy = false;
            // Whoever hung up does not want it.
            let _ = connection.stream.write_all(response);
        }
    }

    fn is_cancelled(&self, _: FrontId) -> bool {
        false
    }

    fn abandon(&self, front: FrontId) {
        self.connections.borrow_mut().retain(|known| known.front != front);
    }

    fn refuse(&self, front: FrontId, reason: &str) {
        self.refused.borrow_mut().push(reason.to_owned());
        self.connections.borrow_mut().retain(|known| known.front != front);
    }

    fn refuse_all(&self, reason: &str) {
        self.refused.borrow_mut().push(reason.to_owned());
        self.connections.borrow_mut().clear();
    }
}

/// A vTPM's way to its manager.
pub struct InnerLink {
    fronts: Rc<SocketFronts>,
    front: FrontId,
    uuid: [u8; 16],
}

impl InnerLink {
    pub fn new(fronts: &Rc<SocketFronts>, domid: u16, uuid: [u8; 16]) -> Self {
        let front = fronts.attached(DomId(domid), uuid);
        Self { fronts: fronts.clone(), front, uuid }
    }
}

impl Transport for InnerLink {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.fronts.inner.borrow_mut().insert(self.front.attach, None);
        let request = Request { front: self.front, locality: 0, command: command.to_vec() };
        self.fronts.requests.borrow_mut().push_back(request);
        let answer = core::future::poll_fn(|_| {
            let mut inner = self.fronts.inner.borrow_mut();
            match inner.get_mut(&self.front.attach).and_then(Option::take) {
                Some(answer) => core::task::Poll::Ready(answer),
                None => core::task::Poll::Pending,
            }
        });
        Ok(answer.await)
    }
}

impl Link for InnerLink {
    fn uuid(&self) -> Option<[u8; 16]> {
        Some(self.uuid)
    }
}
