//! A front end that behaves as Linux's xen-tpmfront does: it submits before the back end is connected, polls the state byte,
//! and gives up with CANCEL without waiting for what becomes of it.

use super::{FakeDomain, GrantedPage};
use crate::tpmif;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xen_abi::{Access, DomId, EventChannels, EventPort, Grants, SharedPage, Store};

/// What Linux's `recv` finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recv {
    /// Still under way.
    Running,
    /// The response.
    Response(Vec<u8>),
    /// The back end went idle without a response.
    Cancelled,
}

/// The driver in a guest.
pub struct LinuxTpmFront {
    domain: FakeDomain,
    dir: String,
    back_dir: String,
    backend: DomId,
    ring: Option<(GrantedPage, EventPort)>,
}

impl LinuxTpmFront {
    /// The driver of `device/vtpm/<devid>`, not probed yet. Panics if the device is not there.
    pub fn new(domain: &FakeDomain, devid: u32) -> Self {
        let dir = format!("device/vtpm/{devid}");
        let mut domain = domain.clone();
        let mut text = |name: &str| {
            let value = domain.read(None, &format!("{dir}/{name}")).expect("libxl wrote it");
            String::from_utf8(value).expect("text")
        };
        let (back_dir, backend) = (text("backend"), DomId(text("backend-id").parse().expect("a number")));
        Self { domain, dir, back_dir, backend, ring: None }
    }

    /// Makes a ring, publishes it and goes to state 3.
    pub fn probe(&mut self) {
        assert!(self.ring.is_none(), "probed already");
        let page = self.domain.grant(self.backend, Access::ReadWrite).expect("a page");
        let port = self.domain.alloc_unbound(self.backend).expect("a port");
        self.publish(&page.reference().to_string(), &port.to_string(), "1");
        self.ring = Some((page, port));
    }

    /// Writes any values where the ring's belong, and state 3.
    pub fn publish(&mut self, ring_ref: &str, event_channel: &str, protocol: &str) {
        let tx = self.domain.begin().expect("a transaction");
        for (name, value) in
            [("ring-ref", ring_ref), ("event-channel", event_channel), ("feature-protocol-v2", protocol)]
        {
            self.domain.write(Some(tx), &format!("{}/{name}", self.dir), value.as_bytes()).expect("own directory");
        }
        self.domain.end(tx, true).expect("nobody else is at work");
        self.set_state(3);
    }

    /// Forgets the ring without telling anybody, as a crash of the driver does (a kexec, say); the grant stays.
    pub fn lose_ring(&mut self) -> Option<(GrantedPage, EventPort)> {
        self.ring.take()
    }

    /// Looks at the back end's state and follows it: 4 answers a connected back end, 6 one that closes.
    pub fn follow(&mut self) {
        match self.back_state() {
            Some(3 | 4) if self.ring.is_some() && self.state() == 3 => {
                let protocol = self.domain.read(None, &format!("{}/feature-protocol-v2", self.back_dir));
                assert_eq!(protocol.as_deref(), Ok(&b"1"[..]), "Linux refuses a back end of protocol 1");
                self.set_state(4);
            }
            Some(5 | 6) if self.ring.is_some() => self.remove(),
            _ => {}
        }
    }

    /// `rmmod`, or the device went: ring away, state 6.
    pub fn remove(&mut self) {
        self.drop_ring();
        self.set_state(6);
    }

    /// Gives the ring back without a word in xenstore.
    pub fn drop_ring(&mut self) {
        if let Some((page, port)) = self.ring.take() {
            self.domain.close(port);
            self.domain.revoke(page);
        }
    }

    /// Copies `command` into the page, sets SUBMIT and signals.
    pub fn send(&mut self, command: &[u8]) {
        tpmif::put_request(self.page(), 0, command).expect("a command that fits");
        self.signal(tpmif::STATE_SUBMIT);
    }

    /// What became of the command.
    pub fn recv(&mut self) -> Recv {
        match tpmif::state(self.page()) {
            tpmif::STATE_FINISH => {
                let (_, response) = tpmif::take_packet(self.page()).expect("a well-formed response");
                Recv::Response(response)
            }
            tpmif::STATE_IDLE => Recv::Cancelled,
            _ => Recv::Running,
        }
    }

    /// The time-out: CANCEL and a signal.
    pub fn cancel(&mut self) {
        self.signal(tpmif::STATE_CANCEL);
    }

    /// Sets any state byte and signals.
    pub fn signal(&mut self, state: u8) {
        tpmif::set_state(self.page(), state);
        self.notify();
    }

    /// Signals only.
    pub fn notify(&mut self) {
        let port = self.ring.as_ref().expect("probed").1;
        self.domain.notify(port);
    }

    /// Writes a raw header and signals SUBMIT.
    pub fn submit_header(&mut self, length: u32, locality: u8, extra_pages: u8) {
        self.page().write(0, &length.to_ne_bytes()).expect("in the page");
        self.page().write(5, &[locality, 0, extra_pages]).expect("in the page");
        self.signal(tpmif::STATE_SUBMIT);
    }

    /// The shared page.
    pub fn page(&self) -> &GrantedPage {
        &self.ring.as_ref().expect("probed").0
    }

    /// The event port on this side.
    pub fn port(&self) -> EventPort {
        self.ring.as_ref().expect("probed").1
    }

    /// The own state in xenstore.
    pub fn state(&mut self) -> u32 {
        let state = self.domain.read(None, &format!("{}/state", self.dir)).expect("own state");
        String::from_utf8(state).expect("text").parse().expect("a number")
    }

    /// Sets the own state in xenstore.
    pub fn set_state(&mut self, state: u32) {
        self.domain.put(&format!("{}/state", self.dir), &state.to_string());
    }

    fn back_state(&mut self) -> Option<u32> {
        let state = self.domain.read(None, &format!("{}/state", self.back_dir)).ok()?;
        String::from_utf8(state).ok()?.parse().ok()
    }
}
