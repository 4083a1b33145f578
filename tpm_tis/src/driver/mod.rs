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

use crate::desk::{Desk, Ticket, advance_all};
use crate::error::{BadLocality, SubmitError, TisError};
use crate::identity::Identity;
use crate::regs::{LOCALITIES, Regs, TisBus};
use crate::timeouts::Timeouts;
use alloc::vec::Vec;
use core::time::Duration;
use phases::Phase;
use xen_abi::Instant;

/// The driver. It owns no register access: [`Tis::step`] is given the bus.
pub struct Tis {
    locality: u8,
    timeouts: Timeouts,
    identity: Option<Identity>,
    phase: Phase,
    desk: Desk,
    /// Registers read as all ones since; believed until then.
    ones_until: Option<Instant>,
}

impl Tis {
    /// A driver that uses `locality` (0 to 4). It touches the chip only once a command comes.
    pub fn new(locality: u8, timeouts: Timeouts) -> Result<Self, BadLocality> {
        if locality >= LOCALITIES {
            return Err(BadLocality(locality));
        }
        Ok(Self { locality, timeouts, identity: None, phase: Phase::Idle, desk: Desk::default(), ones_until: None })
    }

    /// The driver in place of one that has not begun the command on `desk`. `locality` is at most 4.
    pub(crate) fn with_desk(locality: u8, timeouts: Timeouts, desk: Desk) -> Self {
        let phase = if desk.job.is_some() { Phase::Start } else { Phase::Idle };
        Self { locality, timeouts, identity: None, phase, desk, ones_until: None }
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

    /// Replaces the timeouts, usually by [`Timeouts::raised_to`]; waits already begun keep theirs.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Which chip it is; known once a first command came as far as the chip.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Takes a command: a whole TPM packet of at most [`crate::MAX_COMMAND`] bytes whose header gives its length. The chip may run it for
    /// `duration`. The result is fetched with [`Self::take`].
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

    /// Asks for the command to be cut short. A TPM 2.0 gets `commandCancel` and may answer `TPM_RC_CANCELED` or a full
    /// response within `TIMEOUT_B`; a TPM 1.2, or a command that has not started yet, ends in [`TisError::Cancelled`]. There
    /// is a result in any case.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.desk.cancel(ticket);
    }

    /// Cancels the command and throws its result away; the driver is free again once the chip is.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.desk.abandon(ticket);
    }

    /// Gives the locality back as soon as no command is under way; the next command asks for it again.
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
            let mut regs = Regs::new(bus, self.locality);
            self.desk.poll_at = advance_all(now, || self.advance(&mut regs, now));
        }
    }
}
