//! The xenstore client: requests and watches over the ring page that a domain shares with xenstored.
//!
//! A request waits for its reply, at most [`REPLY_TIME`]; watch events that come in between are kept. Once xenstored broke the ring
//! protocol (indices that cannot be, a message longer than messages are), nothing on the ring can be trusted to start
//! at a message any more, and every call is [`StoreError::Malformed`] from then on.

mod link;
#[cfg(test)]
mod tests;
mod watches;

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use link::{Broken, Incoming};
use watches::Watches;
use xen_abi::io::xs_wire::{HEADER_SIZE, Header, PAYLOAD_MAX, kind};
use xen_abi::{Instant, Store, StoreError, StoreRing, TransactionId, WatchEvent};
use zerocopy::IntoBytes;

/// How long a reply may take.
pub const REPLY_TIME: Duration = Duration::from_secs(10);

/// A connection to xenstored.
pub struct Client<R: StoreRing> {
    ring: R,
    incoming: Incoming,
    watches: Watches,
    last_request: u32,
    broken: bool,
}

impl<R: StoreRing> Client<R> {
    /// A client on a ring that nobody else uses.
    pub fn new(ring: R) -> Self {
        Self { ring, incoming: Incoming::default(), watches: Watches::default(), last_request: 0, broken: false }
    }

    /// The ring, for its owner's other needs.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The ring, for its owner's other needs.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    fn broke(&mut self, _: Broken) -> StoreError {
        if !self.broken {
            log::error!(target: "xenstore", "xenstored broke the ring protocol; the connection is given up");
            self.broken = true;
        }
        StoreError::Malformed
    }

    /// Takes messages until there is none or one is the reply to `request`; watch events are kept, late replies dropped.
    fn pump(&mut self, request: Option<u32>) -> Result<Option<(Header, Vec<u8>)>, StoreError> {
        if self.broken {
            return Err(StoreError::Malformed);
        }
        let mut signal = false;
        // xenstored can add messages as fast as they are taken; what is left comes next time.
        for _ in 0..watches::MAX_QUEUED {
            let message = match self.incoming.pump(self.ring.page(), &mut signal) {
                Ok(message) => message,
                Err(broken) => return Err(self.broke(broken)),
            };
            match message {
                None => break,
                Some((header, payload)) if header.kind == kind::WATCH_EVENT => self.watches.arrived(&payload),
                Some((header, payload)) if Some(header.request) == request => {
                    self.ring.notify();
                    return Ok(Some((header, payload)));
                }
                Some(_) => {}
            }
        }
        if signal {
            // There is room again.
            self.ring.notify();
        }
        Ok(None)
    }

    /// Waits for a signal; [`StoreError::TimedOut`] if it is too late.
    fn wait(&mut self, until: Instant) -> Result<(), StoreError> {
        if self.ring.now() >= until {
            return Err(StoreError::TimedOut);
        }
        self.ring.wait(until);
        Ok(())
    }

    fn send(&mut self, mut data: &[u8], until: Instant) -> Result<(), StoreError> {
        loop {
            let sent = match link::send(self.ring.page(), data) {
                Ok(sent) => sent,
                Err(broken) => return Err(self.broke(broken)),
            };
            if sent > 0 {
                self.ring.notify();
            }
            data = data.get(sent..).unwrap_or_default();
            if data.is_empty() {
                return Ok(());
            }
            // xenstored may be waiting for room in the other direction.
            self.pump(None)?;
            if let Err(late) = self.wait(until) {
                // Half a message is on the ring, so the next one would be read as the rest of it.
                self.broken = true;
                return Err(late);
            }
        }
    }

    /// Sends a request whose payload are `parts` one after another, and waits for the reply's payload.
    fn request(&mut self, kind: u32, tx: Option<TransactionId>, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.broken || length > PAYLOAD_MAX {
            return Err(StoreError::Malformed);
        }
        self.last_request = self.last_request.wrapping_add(1);
        let transaction = tx.map_or(0, |TransactionId(id)| id);
        let header = Header { kind, request: self.last_request, transaction, length: length as u32 };
        let mut message = Vec::with_capacity(HEADER_SIZE + length);
        message.extend_from_slice(header.as_bytes());
        parts.iter().for_each(|part| message.extend_from_slice(part));

        let until = self.ring.now() + REPLY_TIME;
        self.send(&message, until)?;
        loop {
            if let Some((reply, payload)) = self.pump(Some(header.request))? {
                return match reply.kind {
                    kind::ERROR => Err(error_named(&payload)),
                    same if same == kind => Ok(payload),
                    _ => Err(StoreError::Malformed),
                };
            }
            self.wait(until)?;
        }
    }
}

fn error_named(payload: &[u8]) -> StoreError {
    match payload.strip_suffix(b"\0").unwrap_or(payload) {
        b"ENOENT" => StoreError::NoEntry,
        b"EACCES" => StoreError::Access,
        b"EEXIST" => StoreError::Exists,
        b"EAGAIN" => StoreError::Again,
        b"EINVAL" => StoreError::Malformed,
        _ => StoreError::Other,
    }
}

/// A string that can stand before a NUL.
fn text(string: &str) -> Result<&[u8], StoreError> {
    if string.is_empty() || string.contains('\0') { Err(StoreError::Malformed) } else { Ok(string.as_bytes()) }
}

impl<R: StoreRing> Store for Client<R> {
    fn read(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(kind::READ, tx, &[text(path)?, b"\0"])
    }

    fn write(&mut self, tx: Option<TransactionId>, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.request(kind::WRITE, tx, &[text(path)?, b"\0", value]).map(drop)
    }

    fn remove(&mut self, tx: Option<TransactionId>, path: &str) -> Result<(), StoreError> {
        self.request(kind::RM, tx, &[text(path)?, b"\0"]).map(drop)
    }

    fn list(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<String>, StoreError> {
        let names = self.request(kind::DIRECTORY, tx, &[text(path)?, b"\0"])?;
        let names = core::str::from_utf8(&names).map_err(|_| StoreError::Malformed)?;
        Ok(names.split_terminator('\0').map(String::from).collect())
    }

    fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let parts: [&[u8]; 4] = [text(path)?, b"\0", text(token)?, b"\0"];
        if self.watches.is_registered(path, token) {
            self.watches.owe(path, token);
            return Ok(());
        }
        // The first event may come before the reply.
        self.watches.register(path, token);
        match self.request(kind::WATCH, None, &parts) {
            Ok(_) => Ok(()),
            Err(StoreError::Exists) => {
                // From a request whose reply was lost, and the first event with it.
                self.watches.owe(path, token);
                Ok(())
            }
            Err(error) => {
                self.watches.forget(path, token);
                Err(error)
            }
        }
    }

    fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let ended = self.request(kind::UNWATCH, None, &[text(path)?, b"\0", text(token)?, b"\0"]).map(drop);
        self.watches.forget(path, token);
        ended
    }

    fn next_watch_event(&mut self, token_prefix: &str) -> Option<WatchEvent> {
        // An error shows at the next request; events that are here already are good.
        let _ = self.pump(None);
        self.watches.next(token_prefix)
    }

    fn begin(&mut self) -> Result<TransactionId, StoreError> {
        let id = self.request(kind::TRANSACTION_START, None, &[b"\0"])?;
        let id = crate::xenbus::parse_number(id.strip_suffix(b"\0").unwrap_or(&id));
        id.filter(|id| *id != 0).map(TransactionId).ok_or(StoreError::Malformed)
    }

    fn end(&mut self, tx: TransactionId, commit: bool) -> Result<(), StoreError> {
        self.request(kind::TRANSACTION_END, Some(tx), &[if commit { b"T\0" } else { b"F\0" }]).map(drop)
    }
}
