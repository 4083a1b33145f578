//! The manager as a client of a TPM 1.2 chip.
//!
//! Commands and structures are those of the TPM Main specification level 2, revision 116: ordinals and structures in part 2,
//! commands in part 3, authorization in part 1. Every answer of the chip is taken as hostile: lengths are checked before
//! use, and where a session protects an answer its HMAC is verified.

pub(crate) mod codes;
mod counter;
mod identity;
mod info;
mod nv;
mod ownership;
mod pcr;
mod root;
mod seal;
mod session;
mod tunnel;

pub(crate) use root::Ownership;
use seal::{MAX_BLOB, StorageKey};

use crate::hardware::{ChipError, Outlook};
use alloc::vec::Vec;
use codes::ord;
use core::time::Duration;
use frontback::looper::Timer;
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader, Transport, TransportError, Truncated, Writer, v12};
use zeroize::Zeroizing;

/// How long the manager waits before it repeats a command that the chip was too busy for.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often it repeats it: half a minute, longer than any self test.
const RETRIES: u32 = 300;

/// A TPM 1.2 chip behind a transport.
pub struct Chip<'a, T> {
    transport: T,
    timer: &'a Timer,
}

impl<'a, T: Transport> Chip<'a, T> {
    /// A client of the chip at the other end of `transport`.
    pub const fn new(transport: T, timer: &'a Timer) -> Self {
        Self { transport, timer }
    }

    /// Sends a whole command and returns the whole response, which has a valid header and may be an error. A chip that is
    /// busy or still testing itself is asked again, for [`RETRIES`] times [`RETRY_PAUSE`].
    async fn transmit(&self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        for _ in 0..RETRIES {
            let response = Zeroizing::new(self.transport.transmit(command).await?);
            let (header, _) = ResponseHeader::parse(&response).map_err(|_| TransportError::Garbled)?;
            match header.code.get() {
                codes::RETRY | codes::DOING_SELFTEST => (),
                // Something else tests itself only when it is told to; the answer to this command does not matter.
                codes::NEEDS_SELFTEST => {
                    let test = self.packet(v12::TAG_RQU_COMMAND, ord::CONTINUE_SELF_TEST, &[]);
                    self.transport.transmit(&test).await?;
                }
                _ => return Ok(response),
            }
            self.timer.sleep(RETRY_PAUSE).await;
        }
        Err(ChipError::Transport(TransportError::TimedOut))
    }

    /// A command without authorization: its parameters in, the response's parameters out.
    async fn call(&self, ordinal: u32, params: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let mut response = self.transmit(&self.packet(v12::TAG_RQU_COMMAND, ordinal, params)).await?;
        accept(&response, ordinal, v12::TAG_RSP_COMMAND)?;
        response.drain(..HEADER_SIZE);
        Ok(response)
    }

    fn packet(&self, tag: u16, ordinal: u32, body: &[u8]) -> Zeroizing<Vec<u8>> {
        let size = HEADER_SIZE + body.len();
        let mut packet = Zeroizing::new(Vec::with_capacity(size));
        Writer::new(&mut packet).u16(tag).u32(u32::try_from(size).unwrap_or(u32::MAX)).u32(ordinal).bytes(body);
        packet
    }

    /// Ends a session or unloads a key. Nothing depends on the answer: a chip that has lost it already says so. What is left
    /// behind all the same is freed when its room is needed.
    async fn flush(&self, handle: u32, resource: u32) -> Result<(), ChipError> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(handle).u32(resource);
        for last in [false, true] {
            match self.call(ord::FLUSH_SPECIFIC, &params).await {
                Err(ChipError::Refused { code, .. }) if last || code != codes::RESOURCES => break,
                Err(error) if last => return Err(error),
                Ok(_) => break,
                Err(_) => (),
            }
        }
        Ok(())
    }
}

/// What a refusal says about the chip: one that is not started, or has lost or has no room for sessions and keys, was reset or
/// used by somebody else.
#[must_use]
pub const fn outlook(code: u32) -> Outlook {
    match code {
        codes::INVALID_POSTINIT | codes::INVALID_AUTHHANDLE | codes::INVALID_KEYHANDLE | codes::RESOURCES => {
            Outlook::Reset
        }
        codes::AUTHFAIL | codes::AUTH2FAIL => Outlook::Doubtful,
        _ => Outlook::Final,
    }
}

/// Checks a response's return code, then its tag.
fn accept(response: &[u8], ordinal: u32, tag: u16) -> Result<(), ChipError> {
    let (header, _) = ResponseHeader::parse(response).map_err(|_| ChipError::Malformed { ordinal })?;
    match header.code.get() {
        0 if header.tag.get() == tag => Ok(()),
        0 => Err(ChipError::Malformed { ordinal }),
        code => Err(ChipError::Refused { ordinal, code }),
    }
}

/// Refuses an answer that goes on after its last field.
fn ended(r: &Reader<'_>, ordinal: u32) -> Result<(), ChipError> {
    if r.is_empty() { Ok(()) } else { Err(ChipError::Malformed { ordinal }) }
}

/// Names the command whose answer ended too early.
fn short(ordinal: u32) -> impl Fn(Truncated) -> ChipError {
    move |_| ChipError::Malformed { ordinal }
}

#[cfg(test)]
mod tests;
