//! What every driver of a chip has in common: the command under way, its result, and when to look again.

use crate::error::{SubmitError, TisError};
use alloc::vec::Vec;
use core::time::Duration;
use tpm_wire::CommandHeader;
use xen_abi::Instant;
use zeroize::Zeroizing;

/// The longest command or response, in bytes.
pub const MAX_COMMAND: usize = 4096;

/// Transfers and state changes in one step, so that the loop sees its other peers in between.
const MOVES_PER_STEP: u32 = 256;
/// Register polls without progress in one step: a chip often needs only microseconds, a sleep costs a millisecond.
pub(crate) const POLLS_PER_STEP: u32 = 16;
/// The longest pause between two looks at a running command.
pub(crate) const SLOWEST_POLL: Duration = Duration::from_millis(8);

/// Names one submitted command, so that its result cannot be taken for another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u64);

pub(crate) type Response = Result<Zeroizing<Vec<u8>>, TisError>;

/// What one move came to.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    /// There may be more to do at once.
    Moved,
    /// Nothing to do; the chip may be quick.
    Soon,
    /// Nothing to do before then.
    Later(Duration),
    /// No command.
    Rest,
}

/// A command on its way.
pub(crate) struct Job {
    pub ticket: Ticket,
    pub command: Zeroizing<Vec<u8>>,
    pub response: Zeroizing<Vec<u8>>,
    pub duration: Duration,
    /// The chip was told to run it.
    pub started: bool,
    /// The command was sent a second time.
    pub resent: bool,
    /// The response was asked for a second time.
    pub reread: bool,
    /// The caller wants it no more.
    pub cancel: bool,
    /// The chip was told so.
    pub cancel_sent: bool,
    /// Nobody will fetch the result.
    pub abandoned: bool,
}

/// Where one command is handed in and its result handed out.
#[derive(Default)]
pub(crate) struct Desk {
    pub job: Option<Job>,
    pub result: Option<(Ticket, Response)>,
    /// When to step again; the epoch means at once.
    pub poll_at: Option<Instant>,
    /// The locality is to be given back when no command is under way.
    pub leave: bool,
    last_ticket: u64,
}

impl Desk {
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
        self.at_once();
        Ok(ticket)
    }

    pub fn is_busy(&self) -> bool {
        self.job.is_some() || self.result.is_some()
    }

    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>> {
        let (_, result) = self.result.take_if(|(of, _)| *of == ticket)?;
        Some(result.map(|mut response| core::mem::take(&mut *response)))
    }

    pub fn cancel(&mut self, ticket: Ticket) {
        if let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) {
            job.cancel = true;
            self.at_once();
        }
    }

    pub fn abandon(&mut self, ticket: Ticket) {
        self.cancel(ticket);
        if let Some(job) = self.job.as_mut().filter(|job| job.ticket == ticket) {
            job.abandoned = true;
        }
        self.result.take_if(|(of, _)| *of == ticket);
    }

    pub fn leave(&mut self) {
        self.leave = true;
        self.at_once();
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.poll_at.is_some_and(|at| now >= at)
    }

    fn at_once(&mut self) {
        self.poll_at = Some(Instant::from_millis(0));
    }
}

/// Calls `advance` until nothing more can be done now; when to call again.
pub(crate) fn advance_all(now: Instant, mut advance: impl FnMut() -> Next) -> Option<Instant> {
    let (mut moves, mut polls) = (0, 0);
    loop {
        match advance() {
            Next::Moved if moves < MOVES_PER_STEP => moves += 1,
            Next::Moved => return Some(Instant::from_millis(0)),
            Next::Soon if polls < POLLS_PER_STEP => polls += 1,
            Next::Soon => return Some(now + Duration::from_millis(1)),
            Next::Later(gap) => return Some(now + gap),
            Next::Rest => return None,
        }
    }
}
