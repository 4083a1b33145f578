//! The back end of tpmif: serves the TPM to any number of front ends in other domains.

use crate::looper::Driver;
use alloc::vec::Vec;
use core::marker::PhantomData;
use xen_abi::{DomId, EventPort, Instant, Xen};

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

/// The driver.
pub struct TpmBack<X: Xen> {
    marker: PhantomData<X>,
}

impl<X: Xen> TpmBack<X> {
    /// A back end that answers a malformed request (bad length, extra pages), and in place of a response that does not fit,
    /// with `malformed_reply`: a whole TPM response, 10 bytes as a rule.
    pub fn new(malformed_reply: &'static [u8]) -> Self {
        let _ = malformed_reply;
        todo!()
    }

    /// The next change, oldest connection first. A connection that came and went between two calls is not told.
    pub fn next_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// The next request, round robin over the front ends; each has at most one.
    pub fn next_request(&mut self) -> Option<Request> {
        todo!()
    }

    /// Answers the request taken from `front`. Does nothing if that connection is gone or has no request open.
    pub fn respond(&mut self, front: FrontId, response: &[u8]) {
        let _ = (front, response);
        todo!()
    }

    /// Whether the request taken from `front` is not wanted any more: cancelled, or the connection is gone.
    pub fn is_cancelled(&self, front: FrontId) -> bool {
        let _ = front;
        todo!()
    }

    /// Gives the request taken from `front` up: the front end sees it as cancelled.
    pub fn abandon(&mut self, front: FrontId) {
        let _ = front;
        todo!()
    }

    /// Closes this front end for good, with `reason` as a log line; its next chance is a new device (`xl` detach and attach,
    /// or a new domain).
    pub fn refuse(&mut self, front: FrontId, reason: &str) {
        let _ = (front, reason);
        todo!()
    }

    /// Closes every front end, now and from now on, with `reason` as a log line for each: there is no TPM to serve.
    pub fn refuse_all(&mut self, reason: &str) {
        let _ = reason;
        todo!()
    }

    /// The event ports in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        core::iter::empty()
    }

    /// Closes every connection and tells the front ends, before this domain stops.
    pub fn close(&mut self, xen: &mut X) {
        let _ = xen;
        todo!()
    }
}

impl<X: Xen> Driver<X> for TpmBack<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        let _ = (xen, now);
        todo!()
    }

    fn deadline(&self) -> Option<Instant> {
        todo!()
    }
}
