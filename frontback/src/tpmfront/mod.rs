//! The front end of tpmif: a way to a TPM or a manager in another domain.
//!
//! The device (`link`) is followed through xenstore: as soon as the back end waits (state 2) a fresh ring is published, and again
//! whenever it went away and came back. One request at a time (`exchange`) goes through whatever ring there is.

mod exchange;
mod link;
#[cfg(test)]
mod tests;

use crate::looper::Driver;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use exchange::Exchange;
use link::Link;
use xen_abi::{EventPort, Instant, Xen};

/// Why there is no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontError {
    /// The back end went away while it had the request; it may or may not have executed it.
    Gone,
    /// No back end, or no answer, in the time the caller gave.
    TimedOut,
    /// The request was cancelled.
    Cancelled,
    /// The back end's answer breaks the protocol.
    Garbled,
    /// The command is shorter than a TPM header or longer than the page takes.
    BadLength,
    /// Another request is open.
    Busy,
}

impl fmt::Display for FrontError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the TPM back end went away",
            Self::TimedOut => "no answer from the TPM back end in time",
            Self::Cancelled => "the request was cancelled",
            Self::Garbled => "an answer from the TPM back end that breaks tpmif",
            Self::BadLength => "a command that does not fit the tpmif page",
            Self::Busy => "another request is under way",
        })
    }
}

impl core::error::Error for FrontError {}

/// The driver of `device/vtpm/<devid>`.
pub struct TpmFront<X: Xen> {
    link: Link<X>,
    exchange: Exchange,
}

impl<X: Xen> TpmFront<X> {
    /// A front end that connects as soon as the device is there, and again whenever its back end comes back.
    pub fn new(devid: u32) -> Self {
        Self { link: Link::new(devid), exchange: Exchange::new() }
    }

    /// Whether both sides are connected.
    pub fn is_connected(&self) -> bool {
        self.link.ring().is_some()
    }

    /// `uuid` of the back-end directory, which the toolstack wrote: who this domain is to its back end. Known once connected.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        self.link.uuid()
    }

    /// Sends `command` (10 to 4088 bytes) at `locality` as soon as there is a connection. The answer, or an error after
    /// `timeout` at the latest, comes from [`Self::take_response`].
    pub fn submit(&mut self, locality: u8, command: &[u8], timeout: Duration) -> Result<(), FrontError> {
        self.exchange.submit(locality, command, timeout)
    }

    /// What the request came to, once.
    pub fn take_response(&mut self) -> Option<Result<Vec<u8>, FrontError>> {
        self.exchange.take_outcome()
    }

    /// Gives the open request up; nothing will come from [`Self::take_response`] for it.
    pub fn cancel(&mut self) {
        self.exchange.cancel(self.link.ring().map(|ring| &ring.page));
    }

    /// The event port in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        self.link.port().into_iter()
    }

    /// Closes the connection and tells the back end, before this domain stops. The driver is not to be stepped after that.
    pub fn close(&mut self, xen: &mut X) {
        self.link.close(xen);
        self.exchange.ring_is_gone();
    }
}

impl<X: Xen> Driver<X> for TpmFront<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        if self.link.step(xen, now) {
            self.exchange.ring_is_gone();
        }
        let port = self.link.port();
        if let Some(port) = port {
            // The page is looked at in every step; the mark only has to be cleared before.
            xen.take_pending(port);
        }
        let signal = self.exchange.step(self.link.ring().map(|ring| &ring.page), now);
        if let (true, Some(port)) = (signal, port) {
            xen.notify(port);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let wishes = [self.link.deadline(), self.exchange.deadline(self.is_connected())];
        wishes.into_iter().flatten().min()
    }
}

/// One request and its response. Dropping the future cancels the request. [`FrontError::Busy`] if another is open.
pub async fn transmit<X: Xen>(
    front: &RefCell<TpmFront<X>>,
    locality: u8,
    command: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, FrontError> {
    /// Cancels what is still open when the future is dropped; after the outcome was taken there is nothing to cancel.
    struct Open<'a, X: Xen>(&'a RefCell<TpmFront<X>>);
    impl<X: Xen> Drop for Open<'_, X> {
        fn drop(&mut self) {
            self.0.borrow_mut().cancel();
        }
    }
    front.borrow_mut().submit(locality, command, timeout)?;
    let open = Open(front);
    poll_fn(|_| open.0.borrow_mut().take_response().map_or(Poll::Pending, Poll::Ready)).await
}
