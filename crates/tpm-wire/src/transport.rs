//! A way to a TPM (or a manager) somewhere else.

use alloc::vec::Vec;
use core::fmt;

/// Why no response came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportError {
    /// The other side is not there.
    Gone,
    /// It did not answer in the time it has for this command.
    TimedOut,
    /// It answered something that is not a TPM response, or broke the protocol below.
    Garbled,
    /// The command does not fit.
    TooLong,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the TPM or manager is not there",
            Self::TimedOut => "no answer in time",
            Self::Garbled => "an answer that is no TPM response",
            Self::TooLong => "the command does not fit the transport",
        })
    }
}

impl core::error::Error for TransportError {}

/// One packet out, one packet back. The wait does not block the loop.
#[allow(async_fn_in_trait)] // one thread, no Send bound wanted
pub trait Transport {
    /// Sends `command` (a whole TPM packet) and returns the response, whose header size equals its length.
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError>;
}

impl<T: Transport> Transport for &T {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        T::transmit(self, command).await
    }
}
