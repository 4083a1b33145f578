//! A TPM 1.2 chip for tests: honest in all that the manager uses, small in everything else, and able to misbehave.
//!
//! Authorization, nonces, ADIP and the endorsement key are real, so a client that gets them wrong is refused. The private
//! parts of keys and sealed blobs are the chip's own encrypted form (to the client they are opaque); every key's public part is that of
//! the one RSA key that the chip has. There are three session slots and three key
//! slots, so a leak is noticed.

mod attest;
mod commands;
mod ek;
mod forms;
mod state;
mod transport;

pub use forms::{stored_label, stored_state};

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
use state::State;
use tpm_wire::{Transport, TransportError};

/// How one answer goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The command is not carried out; this return code is the answer.
    Code(u32),
    /// The command is not carried out, and the transport fails.
    Lost(TransportError),
    /// The command is carried out, but the transport fails.
    AnswerLost(TransportError),
    /// The last bytes of the answer are missing; its header agrees.
    Cut(usize),
    /// A byte too many at the end; the header agrees.
    Longer,
    /// The tag is another one.
    Tag(u16),
    /// This byte, counted from the end (0 is the last), is changed.
    Flip(usize),
    /// The chip works on something other than what it was given: it seals another secret.
    Defect,
    /// The answer comes this many polls later.
    Late(u32),
    /// These bytes are the answer; the command is not carried out.
    Bytes(&'static [u8]),
}

/// The chip; clones share it.
#[derive(Clone)]
pub struct FakeChip(Rc<RefCell<Inner>>);

struct Inner {
    state: State,
    faults: VecDeque<(u32, Fault)>,
    seen: Vec<u32>,
}

impl FakeChip {
    /// A chip as delivered: no owner, started by nobody, used at `locality`. Chips of different `seed` have different secrets.
    pub fn new(seed: u8, locality: u8) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            state: State::new(seed, locality),
            faults: VecDeque::new(),
            seen: Vec::new(),
        })))
    }

    /// The next command with this `ordinal` for which no earlier fault waits goes wrong. Several may wait.
    pub fn fault(&self, ordinal: u32, fault: Fault) {
        self.0.borrow_mut().faults.push_back((ordinal, fault));
    }

    /// Whether every fault has had its command.
    pub fn is_faultless(&self) -> bool {
        self.0.borrow().faults.is_empty()
    }

    /// The machine is switched off and on: sessions, loaded keys and PCRs are gone, ticks begin anew.
    pub fn power_cycle(&self) {
        self.0.borrow_mut().state.power_cycle();
    }

    /// The owner, and with it everything sealed, is cleared.
    pub fn clear(&self) {
        self.0.borrow_mut().state.clear();
    }

    /// Somebody else extends a PCR: what the machine was started with is not what it was.
    pub fn extend_behind(&self, index: usize) {
        if let Some(pcr) = self.0.borrow_mut().state.pcrs.get_mut(index) {
            *pcr = tpm_crypto::sha1(&[&*pcr, &[0xbd; 20]]);
        }
    }

    /// Somebody else, who knows the owner's secret, releases all counters.
    pub fn delete_counters(&self) {
        self.0.borrow_mut().state.counters.clear();
    }

    /// The locality of all further commands.
    pub fn set_locality(&self, locality: u8) {
        self.0.borrow_mut().state.locality = locality;
    }

    /// The secrets of owner and storage root key, if the chip has an owner.
    pub fn owner_and_srk(&self) -> Option<([u8; 20], [u8; 20])> {
        self.0.borrow().state.owner
    }

    /// Sessions and keys that are open now.
    pub fn open_slots(&self) -> (usize, usize) {
        self.0.borrow().state.open_slots()
    }

    /// The ordinals seen so far.
    pub fn seen(&self) -> Vec<u32> {
        self.0.borrow().seen.clone()
    }

    /// Carries out one command at once.
    pub fn execute(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut inner = self.0.borrow_mut();
        let ordinal = inner.note(command);
        match inner.take_fault(ordinal) {
            Some(fault) => inner.execute_with(fault, command),
            None => Ok(inner.state.execute(command)),
        }
    }
}

impl Inner {
    fn note(&mut self, command: &[u8]) -> u32 {
        let word = |at| command.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
        // TPM_ExecuteTransport counts as the command in it.
        let ordinal = if word(6) == 0xe7 { word(20) } else { word(6) };
        self.seen.push(ordinal);
        ordinal
    }

    fn take_fault(&mut self, ordinal: u32) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| *of == ordinal)?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }

    fn execute_with(&mut self, fault: Fault, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        match fault {
            Fault::Code(code) => return Ok(tpm_wire::ResponseHeader::bare(0x00c4, code).to_vec()),
            Fault::Lost(error) => return Err(error),
            Fault::Bytes(bytes) => return Ok(bytes.to_vec()),
            _ => (),
        }
        self.state.defect = fault == Fault::Defect;
        let mut answer = self.state.execute(command);
        self.state.defect = false;
        match fault {
            Fault::AnswerLost(error) => return Err(error),
            Fault::Cut(bytes) => answer.truncate(answer.len().saturating_sub(bytes).max(10)),
            Fault::Longer => answer.push(0),
            Fault::Tag(tag) => answer[..2].copy_from_slice(&tag.to_be_bytes()),
            Fault::Flip(from_end) => {
                let at = answer.len() - 1 - from_end;
                answer[at] ^= 1;
            }
            _ => (),
        }
        let size = u32::try_from(answer.len()).unwrap_or(0);
        answer[2..6].copy_from_slice(&size.to_be_bytes());
        Ok(answer)
    }
}

impl Transport for FakeChip {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let fault = {
            let mut inner = self.0.borrow_mut();
            let ordinal = inner.note(command);
            inner.take_fault(ordinal)
        };
        let mut wait = if let Some(Fault::Late(polls)) = fault { polls } else { 1 };
        poll_fn(|_| {
            if wait == 0 {
                return Poll::Ready(());
            }
            wait -= 1;
            Poll::Pending
        })
        .await;
        let mut inner = self.0.borrow_mut();
        match fault {
            Some(fault) => inner.execute_with(fault, command),
            None => Ok(inner.state.execute(command)),
        }
    }
}
