//! The front end of tpmif: a way to a TPM or a manager in another domain.

use crate::looper::Driver;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
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
    marker: PhantomData<X>,
}

impl<X: Xen> TpmFront<X> {
    /// A front end that connects as soon as the device is there, and again whenever its back end comes back.
    pub fn new(devid: u32) -> Self {
        let _ = devid;
        todo!()
    }

    /// Whether both sides are connected.
    pub fn is_connected(&self) -> bool {
        todo!()
    }

    /// `uuid` of the back-end directory, which the toolstack wrote: who this domain is to its back end. Known once connected.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        todo!()
    }

    /// Sends `command` (10 to 4088 bytes) at `locality` as soon as there is a connection. The answer, or an error after
    /// `timeout` at the latest, comes from [`Self::take_response`].
    pub fn submit(&mut self, locality: u8, command: &[u8], timeout: Duration) -> Result<(), FrontError> {
        let _ = (locality, command, timeout);
        todo!()
    }

    /// What the request came to, once.
    pub fn take_response(&mut self) -> Option<Result<Vec<u8>, FrontError>> {
        todo!()
    }

    /// Gives the open request up; nothing will come from [`Self::take_response`] for it.
    pub fn cancel(&mut self) {
        todo!()
    }

    /// The event port in use.
    pub fn ports(&self) -> impl Iterator<Item = EventPort> + '_ {
        core::iter::empty()
    }

    /// Closes the connection and tells the back end, before this domain stops.
    pub fn close(&mut self, xen: &mut X) {
        let _ = xen;
        todo!()
    }
}

impl<X: Xen> Driver<X> for TpmFront<X> {
    fn step(&mut self, xen: &mut X, now: Instant) {
        let _ = (xen, now);
        todo!()
    }

    fn deadline(&self) -> Option<Instant> {
        todo!()
    }
}

/// One request and its response. Dropping the future cancels the request. [`FrontError::Busy`] if another is open.
pub async fn transmit<X: Xen>(
    front: &RefCell<TpmFront<X>>,
    locality: u8,
    command: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, FrontError> {
    let _ = (front, locality, command, timeout);
    todo!()
}
