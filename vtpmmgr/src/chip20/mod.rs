//! The manager as a client of a TPM 2.0 chip.
//!
//! Commands and structures are those of the TPM 2.0 Library specification 1.59: structures in part 2, commands in part 3,
//! sessions in part 1. Every answer is taken as hostile. Whatever is secret travels in a session that is salted with the chip's
//! storage root key, whose Name the manager keeps on its disk: its parameters are encrypted, and its answers carry an HMAC that
//! only that key's chip can compute. A listener on the bus learns nothing, and one who exchanges answers is found out.

mod attest;
mod counter;
mod endorsement;
mod info;
mod keys;
mod pcr;
mod root;
mod seal;
mod session;

use crate::hardware::{Bank, ChipError, RootKey, Settings};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use frontback::looper::Timer;
use keys::SaltKey;
use tpm_crypto::Drbg;
use tpm_wire::v20::{ST_NO_SESSIONS, cc, rc};
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader, Transport, TransportError, Truncated, Writer};
use zeroize::Zeroizing;

/// How long the manager waits before it repeats a command that the chip was too busy for.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often it repeats it: half a minute, longer than any self test.
const RETRIES: u32 = 300;

/// The Name of an object or NV index whose hash is SHA-256 (part 1, section 16): the hash's identifier and the digest of the
/// public area.
type Name = [u8; 34];

/// A TPM 2.0 chip behind a transport.
pub struct Chip<'a, T> {
    transport: T,
    timer: &'a Timer,
    /// The PCR bank in use, once asked for.
    bank: Cell<Option<Bank>>,
    /// What kind of key it makes, once asked for.
    kind: Cell<Option<keys::Kind>>,
    /// The persistent storage root key that was last found to be the pinned one.
    known: RefCell<Option<Rc<Known>>>,
    /// The storage root key of the manager, and how to reach it, once it was opened.
    opened: RefCell<Option<Rc<(Settings, RootKey)>>>,
    /// Randomness for the sessions of operations that are given none.
    rng: RefCell<Option<Drbg>>,
}

/// A persistent storage root key whose Name was found right.
struct Known {
    handle: u32,
    name: Name,
    key: SaltKey,
}

impl<'a, T: Transport> Chip<'a, T> {
    /// A client of the chip at the other end of `transport`.
    pub const fn new(transport: T, timer: &'a Timer) -> Self {
        Self {
            transport,
            timer,
            bank: Cell::new(None),
            kind: Cell::new(None),
            known: RefCell::new(None),
            opened: RefCell::new(None),
            rng: RefCell::new(None),
        }
    }

    /// Gives the sessions of [`Self::random`] what their secrets are drawn from: at least 48 bytes from another source than
    /// the chip. Less is not taken.
    pub fn provide_entropy(&self, entropy: &[u8]) {
        if let Ok(rng) = Drbg::new(entropy, b"vtpmmgr sessions") {
            *self.rng.borrow_mut() = Some(rng);
        }
    }

    /// Sends a whole command and returns the whole response, which has a valid header and may be an error. A chip that is
    /// busy or still testing itself is asked again, for [`RETRIES`] times [`RETRY_PAUSE`]: it has not touched the command's
    /// sessions then (part 2, section 6.6.3).
    async fn transmit(&self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        for _ in 0..RETRIES {
            let response = Zeroizing::new(self.transport.transmit(command).await?);
            let (header, _) = ResponseHeader::parse(&response).map_err(|_| TransportError::Garbled)?;
            if !rc::is_busy(header.code.get()) {
                return Ok(response);
            }
            self.timer.sleep(RETRY_PAUSE).await;
        }
        Err(ChipError::Transport(TransportError::TimedOut))
    }

    /// A command without sessions: handles and parameters in, the response's handles and parameters out.
    async fn call(&self, code: u32, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let mut response = self.transmit(&packet(ST_NO_SESSIONS, code, &[body])).await?;
        accept(&response, code, ST_NO_SESSIONS)?;
        response.drain(..HEADER_SIZE);
        Ok(response)
    }

    /// Unloads an object or ends a session. Nothing depends on the answer: a chip that has lost it already says so, and what is left
    /// behind all the same is freed when its room is needed ([`Self::restart`]).
    async fn flush(&self, handle: u32) {
        for _ in 0..2 {
            match self.call(cc::FLUSH_CONTEXT, &handle.to_be_bytes()).await {
                Err(error) if refusal(&error, cc::FLUSH_CONTEXT).is_none_or(|kind| kind >= rc::CONTEXT_GAP) => (),
                _ => break,
            }
        }
    }
}

/// A whole command.
fn packet(tag: u16, code: u32, body: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let size = HEADER_SIZE + body.iter().map(|part| part.len()).sum::<usize>();
    let mut packet = Zeroizing::new(Vec::with_capacity(size));
    let mut w = Writer::new(&mut packet);
    w.u16(tag).u32(u32::try_from(size).unwrap_or(u32::MAX)).u32(code);
    body.iter().for_each(|part| {
        w.bytes(part);
    });
    packet
}

/// Checks a response's return code, then its tag. A code that TPM 2.0 cannot have (part 2, section 6.6.2: neither format 1 nor a
/// code of version 2.0) is no refusal but garbage.
fn accept(response: &[u8], code: u32, tag: u16) -> Result<(), ChipError> {
    let malformed = ChipError::Malformed { ordinal: code };
    let (header, _) = ResponseHeader::parse(response).map_err(|_| malformed)?;
    match header.code.get() {
        0 if header.tag.get() == tag => Ok(()),
        refusal if refusal & 0x180 == 0 => Err(malformed),
        refusal => Err(ChipError::Refused { ordinal: code, code: refusal }),
    }
}

/// Reads a whole answer; one that is too short or too long is malformed.
fn read<'b, O>(
    bytes: &'b [u8],
    code: u32,
    fields: impl FnOnce(&mut Reader<'b>) -> Result<O, Truncated>,
) -> Result<O, ChipError> {
    let mut r = Reader::new(bytes);
    match fields(&mut r) {
        Ok(output) if r.is_empty() => Ok(output),
        _ => Err(ChipError::Malformed { ordinal: code }),
    }
}

/// The kind of a refusal of `code`, if it is one.
fn refusal(error: &ChipError, command: u32) -> Option<u32> {
    match *error {
        ChipError::Refused { ordinal, code } if ordinal == command => Some(rc::kind(code)),
        _ => None,
    }
}

/// Whether the refusal blames a secret.
fn is_wrong_secret(kind: Option<u32>) -> bool {
    matches!(kind, Some(rc::AUTH_FAIL | rc::BAD_AUTH))
}

#[cfg(test)]
mod tests;
