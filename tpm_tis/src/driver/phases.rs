//! The phases of a command: what each reads, writes and waits for.

use super::Tis;
use crate::desk::{Job, Next, SLOWEST_POLL};
use crate::error::{TisError, Wait};
use crate::identity::Identity;
use crate::regs::{Regs, Status, TisBus, access, sts};
use core::time::Duration;
use tpm_wire::HEADER_SIZE;
use xen_abi::Instant;

/// Where the command is. `until` is the end of the wait.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Idle,
    Start,
    Acquire { until: Instant },
    MakeReady(Asking),
    Send { sent: usize, pace: Pace },
    CheckTaken { until: Instant },
    Execute { until: Instant, gap: Duration },
    Receive { want: usize, pace: Pace },
    CheckDrained { until: Instant },
    GiveUp { cause: TisError, asking: Asking },
}

/// `commandReady` is written twice: from Completion, or from an abort, the first may lead to Idle only and the second to
/// Ready (TIS 1.3, state diagram of the command transmission).
#[derive(Clone, Copy)]
pub(super) struct Asking {
    pub until: Instant,
    again: Instant,
    asked: u8,
}

impl Asking {
    pub fn new(now: Instant, b: Duration) -> Self {
        Self { until: now + b, again: now + b / 16, asked: 0 }
    }

    /// Writes `commandReady` if its time has come.
    pub fn ask<B: TisBus>(mut self, regs: &mut Regs<'_, B>, now: Instant) -> Option<Self> {
        if self.asked >= 2 || (self.asked == 1 && now < self.again) {
            return None;
        }
        regs.set_status(sts::COMMAND_READY);
        self.asked += 1;
        Some(self)
    }
}

/// The ends in time of a transfer through the FIFO.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Of the whole transfer.
    pub until: Instant,
    /// Of the present stall.
    stall: Option<Instant>,
}

impl Pace {
    pub fn new(until: Instant) -> Self {
        Self { until, stall: None }
    }

    /// Bytes went through.
    pub fn moved(self) -> Self {
        Self { stall: None, ..self }
    }

    /// None did; `None` if that has lasted for `wait`.
    pub fn stalled(self, now: Instant, wait: Duration) -> Option<Self> {
        let end = self.stall.unwrap_or(now + wait);
        (now < end).then_some(Self { stall: Some(end), ..self })
    }
}

/// Whether the registers can be believed.
pub(super) enum Hold {
    Ours,
    Lost,
    Ones,
}

pub(super) fn hold<B: TisBus>(regs: &mut Regs<'_, B>) -> Hold {
    match regs.access() {
        0xff => Hold::Ones,
        value if value & (access::VALID | access::ACTIVE) == access::VALID | access::ACTIVE => Hold::Ours,
        _ => Hold::Lost,
    }
}

impl Tis {
    /// One move, or the finding that none is possible now.
    pub(super) fn advance<B: TisBus>(&mut self, regs: &mut Regs<'_, B>, now: Instant) -> Next {
        // Taken out so that the phases can change both it and the driver.
        let Some(mut job) = self.desk.job.take() else { return self.rest(regs) };
        let next = self.advance_job(&mut job, regs, now);
        if !matches!(self.phase, Phase::Idle) {
            self.desk.job = Some(job);
        } else if job.abandoned {
            self.desk.result = None;
        }
        next
    }

    fn rest<B: TisBus>(&mut self, regs: &mut Regs<'_, B>) -> Next {
        // Without an identity it was never asked for, and the chip may be none with such a register.
        if core::mem::take(&mut self.desk.leave) && self.identity.is_some() {
            regs.set_access(access::ACTIVE);
        }
        Next::Rest
    }

    fn advance_job<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant) -> Next {
        if job.cancel && !job.cancel_sent {
            self.tell_cancel(job, regs, now);
        }
        match self.phase {
            Phase::Idle => Next::Rest,
            Phase::Start => {
                self.ones_until = None;
                self.phase = Phase::Acquire { until: now + self.timeouts.a };
                Next::Moved
            }
            Phase::Acquire { until } => self.acquire(job, regs, now, until),
            Phase::GiveUp { cause, asking } => self.give_up(job, regs, now, cause, asking),
            _ => match hold(regs) {
                Hold::Lost => self.fail(TisError::LocalityLost, now),
                Hold::Ones => self.ones(now),
                Hold::Ours => {
                    let status = regs.status();
                    if status.is_ones() {
                        return self.ones(now);
                    }
                    self.ones_until = None;
                    self.with_status(job, regs, now, status)
                }
            },
        }
    }

    fn with_status<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant, status: Status) -> Next {
        match self.phase {
            Phase::MakeReady(asking) => self.make_ready(regs, now, status, asking),
            Phase::Send { sent, pace } => self.send(job, regs, now, status, sent, pace),
            Phase::CheckTaken { until } => self.check_taken(job, regs, now, status, until),
            Phase::Execute { until, gap } => self.execute(job, now, status, until, gap),
            Phase::Receive { want, pace } => self.receive(job, regs, now, status, want, pace),
            Phase::CheckDrained { until } => self.check_drained(job, regs, now, status, until),
            Phase::Idle | Phase::Start | Phase::Acquire { .. } | Phase::GiveUp { .. } => Next::Rest,
        }
    }

    fn acquire<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant, until: Instant) -> Next {
        let value = regs.access();
        let late = now >= until;
        if value == 0xff {
            return if late { self.fail(TisError::NoChip, now) } else { Next::Later(Duration::from_millis(5)) };
        }
        if value & access::VALID == 0 {
            // Where nothing answers, some buses read as zeros.
            let why =
                if late && Identity::is_blank(regs) { TisError::NoChip } else { TisError::TimedOut(Wait::AccessValid) };
            return if late { self.fail(why, now) } else { Next::Soon };
        }
        if self.identity.is_none() {
            match Identity::read(regs) {
                Ok(identity) => {
                    log::info!(target: "tpm_tis", "{identity}");
                    self.identity = Some(identity);
                }
                Err(error) => return self.fail(error, now),
            }
        }
        if value & access::BEEN_SEIZED != 0 {
            regs.set_access(access::BEEN_SEIZED);
        }
        if value & access::ACTIVE != 0 {
            job.started = false;
            job.response.clear();
            self.phase = Phase::MakeReady(Asking::new(now, self.timeouts.b));
            return Next::Moved;
        }
        if late {
            return self.fail(TisError::LocalityRefused, now);
        }
        if value & access::REQUEST_USE == 0 {
            regs.set_access(access::REQUEST_USE);
        }
        Next::Soon
    }

    fn make_ready<B: TisBus>(&mut self, regs: &mut Regs<'_, B>, now: Instant, status: Status, asking: Asking) -> Next {
        if status.command_ready() {
            self.phase = Phase::Send { sent: 0, pace: Pace::new(now + self.timeouts.transfer) };
            return Next::Moved;
        }
        if now >= asking.until {
            return self.fail(TisError::TimedOut(Wait::CommandReady), now);
        }
        if let Some(asking) = asking.ask(regs, now) {
            self.phase = Phase::MakeReady(asking);
        }
        Next::Soon
    }

    fn execute(&mut self, job: &Job, now: Instant, status: Status, until: Instant, gap: Duration) -> Next {
        if status.data_available() {
            self.phase = Phase::Receive { want: HEADER_SIZE, pace: Pace::new(now + self.timeouts.transfer) };
            return Next::Moved;
        }
        if status.command_ready() {
            return self.fail(TisError::Dropped, now);
        }
        if now >= until {
            let why = if job.cancel { TisError::Cancelled } else { TisError::TimedOut(Wait::Response) };
            return self.fail(why, now);
        }
        self.phase = Phase::Execute { until, gap: (gap * 2).min(SLOWEST_POLL) };
        Next::Later(gap)
    }
}
