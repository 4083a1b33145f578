//! The front ends, as a service sees them.

use super::{Event, FrontId, Request, TpmBack};
use alloc::rc::Rc;
use core::cell::RefCell;
use xen_abi::Xen;

/// [`TpmBack`] in a shape that a service and the loop's driver can share, and that tests can replace. None of the calls waits.
pub trait Fronts {
    /// See [`TpmBack::next_event`]. A front end's commands come only after its connection was taken from here.
    fn next_event(&self) -> Option<Event>;
    /// See [`TpmBack::next_request`].
    fn next_request(&self) -> Option<Request>;
    /// See [`TpmBack::respond`].
    fn respond(&self, front: FrontId, response: &[u8]);
    /// See [`TpmBack::is_cancelled`].
    fn is_cancelled(&self, front: FrontId) -> bool;
    /// See [`TpmBack::abandon`].
    fn abandon(&self, front: FrontId);
    /// See [`TpmBack::refuse`].
    fn refuse(&self, front: FrontId, reason: &str);
    /// See [`TpmBack::refuse_all`].
    fn refuse_all(&self, reason: &str);
}

impl<X: Xen> Fronts for RefCell<TpmBack<X>> {
    fn next_event(&self) -> Option<Event> {
        self.borrow_mut().next_event()
    }

    fn next_request(&self) -> Option<Request> {
        self.borrow_mut().next_request()
    }

    fn respond(&self, front: FrontId, response: &[u8]) {
        self.borrow_mut().respond(front, response);
    }

    fn is_cancelled(&self, front: FrontId) -> bool {
        self.borrow().is_cancelled(front)
    }

    fn abandon(&self, front: FrontId) {
        self.borrow_mut().abandon(front);
    }

    fn refuse(&self, front: FrontId, reason: &str) {
        self.borrow_mut().refuse(front, reason);
    }

    fn refuse_all(&self, reason: &str) {
        self.borrow_mut().refuse_all(reason);
    }
}

impl<F: Fronts> Fronts for Rc<F> {
    fn next_event(&self) -> Option<Event> {
        F::next_event(self)
    }

    fn next_request(&self) -> Option<Request> {
        F::next_request(self)
    }

    fn respond(&self, front: FrontId, response: &[u8]) {
        F::respond(self, front, response);
    }

    fn is_cancelled(&self, front: FrontId) -> bool {
        F::is_cancelled(self, front)
    }

    fn abandon(&self, front: FrontId) {
        F::abandon(self, front);
    }

    fn refuse(&self, front: FrontId, reason: &str) {
        F::refuse(self, front, reason);
    }

    fn refuse_all(&self, reason: &str) {
        F::refuse_all(self, reason);
    }
}
