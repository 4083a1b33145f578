//! The driver of the CRB interface: commands go into a buffer, not through a FIFO. It has the same face as [`crate::Tis`].
//!
//! One command goes through these phases; every one has an end in time:
//!
//! | phase | waits for | at most | on failure |
//! |---|---|---|---|
//! | `Acquire` | `TPM_LOC_STATE` valid, locality granted | A | give up |
//! | `Stop` | the end of a command that somebody left running | B | give up |
//! | `Calm` | `tpmIdle` after `goIdle` | C | goes on: not every chip has the state |
//! | `MakeReady` | `cmdReady` obeyed | C | give up |
//! | `Go` | nothing: the command is in the buffer; then `Start` | | give up |
//! | `Execute` | `Start` cleared | the command's duration | give up |
//! | `Read`, `Check` | nothing: the response is in the buffer | | read once more, then give up |
//! | `Finish` | `tpmIdle` after `goIdle`; the locality is released | C | the response is handed out all the same |
//! | `GiveUp` | `Start` cleared after `Cancel`, then `tpmIdle` | B and C | the locality is released all the same |
//!
//! The locality is released after every command: CRB does not show its holder that another one waits.
//!
//! Giving up starts over once if `Start` was not written yet: only then is it certain that the chip did not run the command.

mod buffers;
mod phases;
mod recover;
pub(crate) mod regs;
#[cfg(test)]
mod tests;
mod transfer;

use crate::desk::{Desk, Ticket, advance_all};
use crate::error::{BadLocality, SubmitError, TisError};
use crate::identity::Identity;
use crate::regs::{BASE, LOCALITIES, TisBus};
use crate::timeouts::Timeouts;
use alloc::vec::Vec;
use core::time::Duration;
use phases::Phase;
use regs::CrbRegs;
use xen_abi::Instant;

/// The driver. It owns no register access: [`Crb::step`] is given the bus.
pub struct Crb {
    locality: u8,
    base: u64,
    timeouts: Timeouts,
    identity: Option<Identity>,
    phase: Phase,
    desk: Desk,
    /// Registers read as all ones since; believed until then.
    ones_until: Option<Instant>,
}

impl Crb {
    /// A driver that uses `locality` (0 to 4). It touches the chip only once a command comes.
    pub fn new(locality: u8, timeouts: Timeouts) -> Result<Self, BadLocality> {
        if locality >= LOCALITIES {
            return Err(BadLocality(locality));
        }
        Ok(Self::with_desk(locality, timeouts, BASE, Desk::default()))
    }

    /// The same driver, where the window of the registers is at the physical address `base` instead of [`BASE`]: the chip
    /// names its buffers by their addresses.
    #[must_use]
    pub fn at(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// The driver in place of one that has not begun the command on `desk`. `locality` is at most 4.
    pub(crate) fn with_desk(locality: u8, timeouts: Timeouts, base: u64, desk: Desk) -> Self {
        let phase = if desk.job.is_some() { Phase::Start } else { Phase::Idle };
        Self { locality, base, timeouts, identity: None, phase, desk, ones_until: None }
    }

    /// What [`Self::with_desk`] takes.
    pub(crate) fn desk(&mut self) -> &mut Desk {
        &mut self.desk
    }

    /// Whether the command, if there is one, has not begun, so that the desk may go to another driver.
    pub(crate) fn is_at_start(&self) -> bool {
        matches!(self.phase, Phase::Start)
    }

    /// The locality that commands are sent at.
    pub fn locality(&self) -> u8 {
        self.locality
    }

    /// The timeouts in use.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Replaces the timeouts; waits already begun keep theirs.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Which chip it is; known once a first command came as far as the chip.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Takes a command: a whole TPM packet of at most [`crate::MAX_COMMAND`] bytes whose header gives its length. The chip may run
    /// it for `duration`. The result is fetched with [`Self::take`]; it is [`TisError::CommandTooLong`] if the chip's buffer
    /// is shorter (3968 bytes at most).
    pub fn submit(&mut self, command: &[u8], duration: Duration) -> Result<Ticket, SubmitError> {
        let ticket = self.desk.submit(command, duration)?;
        self.phase = Phase::Start;
        Ok(ticket)
    }

    /// Whether [`Self::submit`] would answer [`SubmitError::Busy`].
    pub fn is_busy(&self) -> bool {
        self.desk.is_busy()
    }

    /// The result of the command that `ticket` names, once: a whole TPM packet whose header gives its length, or why there
    /// is none.
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>> {
        self.desk.take(ticket)
    }

    /// Asks for the command to be cut short. A running one may end in `TPM_RC_CANCELED` or a full response within `TIMEOUT_B`,
    /// one that has not started yet in [`TisError::Cancelled`]. There is a result in any case.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.desk.cancel(ticket);
    }

    /// Cancels the command and throws its result away; the driver is free again once the chip is.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.desk.abandon(ticket);
    }

    /// Gives the locality back as soon as no command is under way (which every command does at its end by itself).
    pub fn leave(&mut self) {
        self.desk.leave();
    }

    /// When [`Self::step`] has something to do: `None` while there is no command, a time in the past for at once.
    pub fn deadline(&self) -> Option<Instant> {
        self.desk.poll_at
    }

    /// Moves the command on as far as the chip lets it go without waiting.
    pub fn step<B: TisBus>(&mut self, bus: &mut B, now: Instant) {
        if self.desk.is_due(now) {
            let mut regs = CrbRegs::new(bus, self.locality);
            self.desk.poll_at = advance_all(now, || self.advance(&mut regs, now));
        }
    }
}
