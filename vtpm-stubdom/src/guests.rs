//! The guest's side: front ends that come, go and send commands.

use core::cell::RefCell;
use frontback::tpmback::{Event, FrontId, Request, TpmBack};
use xen_abi::Xen;

/// The front ends, as the service sees them. None of the calls waits.
pub trait Guests {
    /// The next connection made or lost. A front end's commands come only after its connection was taken from here.
    fn next_event(&self) -> Option<Event>;
    /// The next command.
    fn next_request(&self) -> Option<Request>;
    /// Answers the command taken from `front`; without effect if that connection is gone.
    fn respond(&self, front: FrontId, response: &[u8]);
    /// Whether the command taken from `front` is not wanted any more.
    fn is_cancelled(&self, front: FrontId) -> bool;
    /// Gives the command taken from `front` up, without an answer.
    fn abandon(&self, front: FrontId);
    /// Closes this front end, with the reason as a line on the console.
    fn refuse(&self, front: FrontId, reason: &str);
    /// Closes every front end, now and from now on, with the reason as a line on the console.
    fn refuse_all(&self, reason: &str);
}

impl<X: Xen> Guests for RefCell<TpmBack<X>> {
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
