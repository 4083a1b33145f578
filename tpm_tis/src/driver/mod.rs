//! The driver's public face and the loop that moves it on.
//!
//! One command goes through these phases; every one has an end in time:
//!
//! | phase | waits for | at most | on failure |
//! |---|---|---|---|
//! | `Acquire` | `TPM_ACCESS` valid, locality ours | A | give up |
//! | `MakeReady` | `commandReady` | B | give up |
//! | `Send` | burst count; `Expect` before the last byte | A or D per stall, `transfer` in all | give up |
//! | `CheckTaken` | `stsValid` without `Expect`; then `tpmGo` | C | give up |
//! | `Execute` | `dataAvail` | the command's duration | give up |
//! | `Receive` | burst count | A or D per stall, `transfer` in all | `responseRetry` once, then give up |
//! | `CheckDrained` | `stsValid` without `dataAvail` | C | `responseRetry` once, then give up |
//! | `GiveUp` | `commandReady` again | B | the locality is released all the same |
//!
//! Giving up writes `commandReady` (which aborts a command in every state), releases the locality, and starts over once if
//! `tpmGo` was not written yet: only then is it certain that the chip did not run the command.

mod phases;
mod recover;
#[cfg(test)]
mod tests;
mod transfer;

use crate::error::{BadLocality, SubmitError, TisError};
use crate::identity::Identity;
use crate::regs::{LOCALITIES, Regs, TisBus};
use crate::timeouts::Timeouts;
use alloc::vec::Vec;
use core::time::Duration;
use phases::{Next, Phase};
use tpm_wire::CommandHeader;
use xen_abi::Instant;
use zeroize::Zeroizing;

/// The longest command or response, in bytes.
pub const MAX_COMMAND: usize = 4096;

/// FIFO bursts and state changes in one [`Tis::step`], so that the loop sees its other peers in between.
const MOVES_PER_STEP: u32 = 256;
/// Register polls without progress in one [`Tis::step`]: a chip often needs only microseconds, a sleep costs a millisecond.
const POLLS_PER_STEP: u32 = 16;

/// Names one submitted command, so that its result cannot be taken for another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u64);

type Response = Result<Zeroizing<Vec<u8>>, TisError>;

/// A command on its way.
struct Job {
    ticket: Ticket,
    command: Zeroizing<Vec<u8>>,
    response: Zeroizing<Vec<u8>>,
    duration: Duration,
    /// `tpmGo` was written.
    started: bool,
    /// The command was sent a second time.
    resent: bool,
    /// The response was asked for a second time.
    reread: bool,
    /// The caller wants it no more.
    cancel: bool,
    /// The chip was told so.
    cancel_sent: bool,
    /// Nobody will fetch the result.
    abandoned: bool,
}

/// The driver. It owns no register access: [`Tis::step`] is given the bus.
pub struct Tis {
    locality: u8,
    timeouts: Timeouts,
    identity: Option<Identity>,
    phase: Phase,
    job: Option<Job>,
    result: Option<(Ticket, Response)>,
    last_ticket: u64,
    /// When to step again; the epoch means at once.
    poll_at: Option<Instant>,
    /// Registers read as all ones since; believed until then.
    ones_until: Option<Instant>,
    leave: bool,
}

impl Tis {
    /// A driver that uses `locality` (0 to 4). It touches the chip only once a command comes.
    pub fn new(locality: u8, timeouts: Timeouts) -> Result<Self, BadLocality> {
        if locality >= LOCALITIES {
            return Err(BadLocality(locality));
        }
        Ok(Self {
            locality,
            timeouts,
            identity: None,
            phase: Phase::Idle,
            job: None,
            result: None,
            last_ticket: 0,
            poll_at: None,
            ones_until: None,
            leave: false,
        })
    }

    /// The locality that commands are sent at.
    pub fn locality(&self) -> u8 {
        self.locality
    }

    /// The timeouts in use.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Replaces the timeouts, usually by [`Timeouts::raised_to`]; waits already begun keep theirs.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Which chip it is; known once a first command came as far as the chip.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Takes a command: a whole TPM packet of at most [`MAX_COMMAND`] bytes whose header gives its length. The chip may run it for
    /// `duration`. The result is fetched with [`Self::take`].
    pub fn submit(&mut self, command: &[u8], duration: Duration) -> Result<Ticket, SubmitError> {
        if self.is_busy() {
            return Err(SubmitError::Busy);
        }
        if command.len() > MAX_COMMAND || CommandHeader::parse(command).is_err() {
            return Err(SubmitError::Malformed);
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.job = Some(Job {
            ticket,
            command: Zeroizing::new(command.to_vec()),
            response: Zeroizing::new(Vec::new()),
            duration,
            started: false,
            resent: false,
            reread: false,
            cancel: false,
            cancel_sent: false,
            abandoned: false,
        });
        self.phase = Phase::Start;
        self.at_once();
        Ok(ticket)
    }

    /// Whether [`Self::submit`] would answer [`SubmitError::Busy`].
    pub fn is_busy(&self) -> bool {
        self.job.is_some() || self.result.is_some()
    }

    /// The result of the command that `ticket` names, once: a whole TPM packet whose header gives its length, or why there
    /// is none.
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>> {
        let (_, result) = self.result.take_if(|(of, _)| *of == ticket)?;
        Some(result.map(|mut response| core::mem::take(&mut *response)))
    }

    /// Asks for the command to be cut short. A TPM 2.0 gets `commandCancel` and may answer `TPM_RC_CANCELED` or a full
    /// response within `TIMEOUT_B`; a TPM 1.2, or a command that has not started yet, ends in [`TisError::Cancelled`]. There
    /// is a result in any case.
    pub fn cancel(&mut self, ticket: Ticket) {
        if let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) {
            job.cancel = true;
            self.at_once();
        }
    }

    /// Cancels the command and throws its result away; the driver is free again once the chip is.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.cancel(ticket);
        if let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) {
            job.abandoned = true;
        }
        self.result.take_if(|(of, _)| *of == ticket);
    }

    /// Gives the locality back as soon as no command is under way; the next command asks for it again.
    pub fn leave(&mut self) {
        self.leave = true;
        self.at_once();
    }

    /// When [`Self::step`] has something to do: `None` while there is no command, a time in the past for at once.
    pub fn deadline(&self) -> Option<Instant> {
        self.poll_at
    }

    /// Moves the command on as far as the chip lets it go without waiting.
    pub fn step<B: TisBus>(&mut self, bus: &mut B, now: Instant) {
        if self.poll_at.is_none_or(|at| now < at) {
            return;
        }
        let mut regs = Regs::new(bus, self.locality);
        let (mut moves, mut polls) = (0, 0);
        loop {
            match self.advance(&mut regs, now) {
                Next::Moved if moves < MOVES_PER_STEP => moves += 1,
                Next::Moved => return self.at_once(),
                Next::Soon if polls < POLLS_PER_STEP => polls += 1,
                Next::Soon => {
                    self.poll_at = Some(now + Duration::from_millis(1));
                    return;
                }
                Next::Later(gap) => {
                    self.poll_at = Some(now + gap);
                    return;
                }
                Next::Rest => {
                    self.poll_at = None;
                    return;
                }
            }
        }
    }

    fn at_once(&mut self) {
        self.poll_at = Some(Instant::from_millis(0));
    }
}
