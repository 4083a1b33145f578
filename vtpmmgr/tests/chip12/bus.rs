//! The way to a chip, on which things happen: answers lost or changed, and a chip that is reset in the middle.

use core::pin::pin;
use core::time::Duration;
use frontback::looper::{Timer, Turn, turn};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tpm_crypto::Drbg;
use tpm_wire::{Engine, Progress, Transport, TransportError};
use tpm12::{Options, Tpm12};
use xen_abi::Instant;

thread_local! {
    /// A command is on its way: what an interrupt or the driver's next look at the chip would end.
    static ON_ITS_WAY: Cell<bool> = const { Cell::new(false) };
}

/// What happens to one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It does not reach the chip.
    Lost,
    /// The chip does it, but its answer does not arrive.
    AnswerLost,
    /// The chip does it, and the answer is no TPM response.
    Garbage,
    /// The chip does it, and this byte of the answer, counted from the end, is changed.
    Flip(usize),
    /// The chip is reset before it.
    ResetBefore,
    /// The chip is reset after it.
    ResetAfter,
    /// The chip is reset after it, and the answer does not arrive.
    AnswerLostInReset,
    /// The chip has no room.
    NoRoom,
}

/// A chip that is our own engine, and the way to it; clones share both.
#[derive(Clone)]
pub struct Bus(Rc<Inner>);

struct Inner {
    tpm: RefCell<Tpm12>,
    state: RefCell<Vec<u8>>,
    locality: Cell<u8>,
    /// Nothing comes through.
    dead: Cell<bool>,
    /// How many more commands pass before the trouble.
    troubles: RefCell<VecDeque<(usize, Trouble)>>,
    seen: RefCell<Vec<u32>>,
    /// All that passed, in both directions.
    bytes: RefCell<Vec<u8>>,
    inside: Cell<bool>,
}

impl Bus {
    /// A chip as delivered, switched on by the machine and not started.
    pub fn new(seed: u8) -> Self {
        let mut making = Tpm12::manufacture(rng(seed), Options::default());
        Self::with(loop {
            if let Some(tpm) = making.step() {
                break tpm;
            }
        })
    }

    /// A chip with this permanent state.
    pub fn load(state: &[u8]) -> Self {
        Self::with(Tpm12::load(state, rng(9), Options::default()).expect("a state that the engine stored"))
    }

    fn with(mut tpm: Tpm12) -> Self {
        tpm.committed();
        tpm.init();
        Self(Rc::new(Inner {
            tpm: RefCell::new(tpm),
            state: RefCell::default(),
            locality: Cell::new(0),
            dead: Cell::new(false),
            troubles: RefCell::default(),
            seen: RefCell::default(),
            bytes: RefCell::default(),
            inside: Cell::new(false),
        }))
    }

    /// After `passing` more commands, the next one meets `trouble`; several are counted one after another.
    pub fn trouble(&self, passing: usize, trouble: Trouble) {
        self.0.troubles.borrow_mut().push_back((passing, trouble));
    }

    /// Whether there is trouble left.
    pub fn untroubled(&self) -> bool {
        self.0.troubles.borrow().is_empty()
    }

    pub fn set_dead(&self, dead: bool) {
        self.0.dead.set(dead);
    }

    pub fn set_locality(&self, locality: u8) {
        self.0.locality.set(locality);
    }

    pub fn reset(&self) {
        self.0.tpm.borrow_mut().init();
    }

    /// The command under way was given up by whoever sent it.
    pub fn let_in(&self) {
        self.0.inside.set(false);
    }

    /// The permanent state.
    pub fn state(&self) -> Vec<u8> {
        self.0.state.borrow().clone()
    }

    /// The ordinals that were sent, those that never arrived included.
    pub fn seen(&self) -> Vec<u32> {
        self.0.seen.borrow().clone()
    }

    /// All bytes that passed in both directions.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes.borrow().clone()
    }

    /// A command from somewhere else in the machine.
    pub fn raw(&self, command: &[u8]) -> Vec<u8> {
        let mut tpm = self.0.tpm.borrow_mut();
        let mut response = Vec::new();
        let mut progress = tpm.execute(self.0.locality.get(), command, &mut response);
        while progress == Progress::Working {
            progress = tpm.resume(&mut response);
        }
        if let Some(state) = tpm.staged() {
            self.0.state.replace(state.to_vec());
            tpm.committed();
        }
        response
    }

    /// How many sessions and loaded keys there are in the chip.
    pub fn open(&self) -> usize {
        [1, 2, 4].iter().map(|kind| self.handles(*kind)).sum()
    }

    /// TPM_GetCapability(TPM_CAP_HANDLE): how many there are of one kind.
    pub fn handles(&self, kind: u8) -> usize {
        let answer = self.raw(&[0, 0xc1, 0, 0, 0, 22, 0, 0, 0, 0x65, 0, 0, 0, 0x14, 0, 0, 0, 4, 0, 0, 0, kind]);
        // A chip that is not started has none, and says so with an error.
        answer.get(14..16).map_or(0, |count| usize::from(u16::from_be_bytes([count[0], count[1]])))
    }

    pub fn extend(&self, pcr: u8) {
        let command = [&[0, 0xc1, 0, 0, 0, 34, 0, 0, 0, 0x14, 0, 0, 0, pcr][..], &[7; 20]].concat();
        assert_eq!(self.raw(&command)[6..10], [0; 4]);
    }

    fn pass(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let inner = &self.0;
        inner.seen.borrow_mut().push(u32::from_be_bytes(command[6..10].try_into().unwrap()));
        if inner.dead.get() {
            return Err(TransportError::TimedOut);
        }
        let trouble = {
            let mut troubles = inner.troubles.borrow_mut();
            match troubles.front_mut() {
                Some((0, trouble)) => {
                    let trouble = *trouble;
                    troubles.pop_front();
                    Some(trouble)
                }
                Some((passing, _)) => {
                    *passing -= 1;
                    None
                }
                None => None,
            }
        };
        match trouble {
            Some(Trouble::Lost) => return Err(TransportError::TimedOut),
            Some(Trouble::NoRoom) => return Ok(tpm_wire::ResponseHeader::bare(0xc4, 21).to_vec()),
            Some(Trouble::ResetBefore) => self.reset(),
            _ => (),
        }
        let mut answer = self.raw(command);
        inner.bytes.borrow_mut().extend([command, &answer].concat());
        match trouble {
            Some(Trouble::AnswerLost) => return Err(TransportError::TimedOut),
            Some(Trouble::Garbage) => return Err(TransportError::Garbled),
            Some(Trouble::Flip(from_end)) => {
                if let Some(at) = answer.len().checked_sub(1 + from_end).filter(|at| *at >= 10) {
                    answer[at] ^= 0x80;
                }
            }
            Some(Trouble::ResetAfter) => self.reset(),
            Some(Trouble::AnswerLostInReset) => {
                self.reset();
                return Err(TransportError::Gone);
            }
            _ => (),
        }
        Ok(answer)
    }
}

impl Transport for Bus {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        assert!(!self.0.inside.replace(true), "two commands at once");
        let mut polled = false;
        core::future::poll_fn(|_| match core::mem::replace(&mut polled, true) {
            true => core::task::Poll::Ready(()),
            false => {
                ON_ITS_WAY.set(true);
                core::task::Poll::Pending
            }
        })
        .await;
        self.0.inside.set(false);
        self.pass(command)
    }
}

pub fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"test").unwrap()
}

/// Polls to the end, moving time on whenever the future waits for it; returns the time that passed as well.
pub fn drive<O>(timer: &Timer, work: impl Future<Output = O>) -> (O, Duration) {
    let mut work = pin!(work);
    let start = timer.now();
    let mut now = start;
    for _ in 0..1_000_000 {
        match turn(&mut (), now, &[], timer, work.as_mut()) {
            Turn::Done(output) => return (output, now.since(start)),
            Turn::Wait(Some(at)) => now = now.max(at),
            Turn::Wait(None) => assert!(ON_ITS_WAY.take(), "asleep for ever"),
        }
    }
    panic!("the chip client waits for ever");
}

pub fn timer() -> Timer {
    Timer::new(Instant::from_millis(0))
}
