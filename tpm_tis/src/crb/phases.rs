//! The phases of a command: what each reads, writes and waits for.

use super::Crb;
use super::regs::{
    CTRL_REQ, Condition, CrbRegs, Hold, LOC_CTRL, LOC_STATE, LOC_STS, ctrl_req, loc_ctrl, loc_state, loc_sts,
};
use crate::desk::{Job, Next, SLOWEST_POLL};
use crate::error::{TisError, Wait};
use crate::identity::Identity;
use crate::regs::{INTERFACE_ID, TisBus};
use core::time::Duration;
use xen_abi::Instant;
use zeroize::Zeroizing;

/// Where the command is.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Idle,
    Start,
    Acquire(Asking),
    Stop(Asking),
    Calm(Asking),
    MakeReady(Asking),
    Go { response: super::buffers::Buffer },
    Execute { until: Instant, gap: Duration, response: super::buffers::Buffer },
    Read { response: super::buffers::Buffer },
    Check,
    Finish(Asking),
    GiveUp { cause: TisError, stop: Asking, calm: Option<Asking> },
}

/// A wish that is written to the chip now and again until it is granted, since a glitch of the bus may have swallowed it.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    /// The end of the wait.
    pub until: Instant,
    every: Duration,
    next: Option<Instant>,
}

impl Asking {
    pub fn new(now: Instant, wait: Duration) -> Self {
        Self { until: now + wait, every: wait / 8, next: None }
    }

    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Whether the wish was never written.
    pub fn is_new(&self) -> bool {
        self.next.is_none()
    }

    /// Writes `value` if its time has come.
    pub fn ask<B: TisBus>(&mut self, regs: &mut CrbRegs<'_, B>, now: Instant, register: usize, value: u32) {
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + self.every);
            regs.write(register, value);
        }
    }
}

impl Crb {
    /// One move, or the finding that none is possible now.
    pub(super) fn advance<B: TisBus>(&mut self, regs: &mut CrbRegs<'_, B>, now: Instant) -> Next {
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

    fn rest<B: TisBus>(&mut self, regs: &mut CrbRegs<'_, B>) -> Next {
        // Without an identity it was never asked for.
        if core::mem::take(&mut self.desk.leave) && self.identity.is_some() {
            regs.write(LOC_CTRL, loc_ctrl::RELINQUISH);
        }
        Next::Rest
    }

    fn advance_job<B: TisBus>(&mut self, job: &mut Job, regs: &mut CrbRegs<'_, B>, now: Instant) -> Next {
        if job.cancel && !job.cancel_sent {
            self.tell_cancel(job, regs, now);
        }
        match self.phase {
            Phase::Idle => Next::Rest,
            Phase::Start => {
                self.ones_until = None;
                self.phase = Phase::Acquire(Asking::new(now, self.timeouts.a));
                Next::Moved
            }
            Phase::Acquire(asking) => self.acquire(job, regs, now, asking),
            Phase::Finish(asking) => self.finish(job, regs, now, asking),
            Phase::GiveUp { cause, stop, calm } => self.give_up(job, regs, now, cause, stop, calm),
            _ => match regs.hold() {
                Hold::Lost => self.fail(TisError::LocalityLost, now),
                Hold::Ones => self.ones(now),
                Hold::Ours(condition) => {
                    self.ones_until = None;
                    self.while_held(job, regs, now, condition)
                }
            },
        }
    }

    fn while_held<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        condition: Condition,
    ) -> Next {
        match self.phase {
            Phase::Stop(asking) => self.stop(regs, now, condition, asking),
            Phase::Calm(asking) => self.calm(regs, now, condition, asking),
            Phase::MakeReady(asking) => self.make_ready(job, regs, now, condition, asking),
            Phase::Go { response } => self.go(job, regs, now, response),
            Phase::Execute { until, gap, response } => match condition {
                Condition { running: true, .. } if now < until => {
                    self.phase = Phase::Execute { until, gap: (gap * 2).min(SLOWEST_POLL), response };
                    Next::Later(gap)
                }
                Condition { running: true, .. } if job.cancel => self.fail(TisError::Cancelled, now),
                Condition { running: true, .. } => self.fail(TisError::TimedOut(Wait::Response), now),
                Condition { failed: true, .. } => self.fail(TisError::Failed, now),
                Condition { idle: true, .. } => self.fail(TisError::Dropped, now),
                _ => {
                    self.phase = Phase::Read { response };
                    Next::Moved
                }
            },
            Phase::Read { response } => self.read(job, regs, now, response),
            Phase::Check => self.check(now, condition),
            Phase::Idle | Phase::Start | Phase::Acquire(_) | Phase::Finish(_) | Phase::GiveUp { .. } => Next::Rest,
        }
    }

    fn acquire<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        mut asking: Asking,
    ) -> Next {
        let late = asking.is_late(now);
        if self.identity.is_none() {
            // A switched-off bus and an empty one look the same, so the wait is for the first.
            if matches!(regs.read_first(INTERFACE_ID), 0 | u32::MAX) && !late {
                return Next::Later(Duration::from_millis(5));
            }
            match Identity::read_crb(regs) {
                Ok(identity) => {
                    log::info!(target: "tpm_tis", "{identity}");
                    self.identity = Some(identity);
                }
                Err(error) => return self.fail(error, now),
            }
        }
        if self.locality > 0 && self.identity.is_some_and(|id| !id.has_localities()) {
            return self.fail(TisError::NoLocality(self.locality), now);
        }
        let state = regs.read(LOC_STATE);
        if state == u32::MAX {
            return if late { self.fail(TisError::NoChip, now) } else { Next::Later(Duration::from_millis(5)) };
        }
        if state & loc_state::REG_VALID == 0 {
            return if late { self.fail(TisError::TimedOut(Wait::AccessValid), now) } else { Next::Soon };
        }
        let granted = regs.read(LOC_STS);
        if granted != u32::MAX && granted & loc_sts::GRANTED != 0 {
            job.started = false;
            job.response = Zeroizing::default();
            self.phase = Phase::Stop(Asking::new(now, self.timeouts.b));
            return Next::Moved;
        }
        if late {
            return self.fail(TisError::LocalityRefused, now);
        }
        asking.ask(regs, now, LOC_CTRL, loc_ctrl::REQUEST_ACCESS);
        self.phase = Phase::Acquire(asking);
        Next::Soon
    }

    /// Whether the chip has obeyed what [`CTRL_REQ`] asks for.
    pub(super) fn obeyed<B: TisBus>(regs: &mut CrbRegs<'_, B>) -> bool {
        regs.read(CTRL_REQ) & (ctrl_req::CMD_READY | ctrl_req::GO_IDLE) == 0
    }

    fn calm<B: TisBus>(
        &mut self,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        condition: Condition,
        mut asking: Asking,
    ) -> Next {
        if (condition.idle && Self::obeyed(regs)) || asking.is_late(now) {
            self.phase = Phase::MakeReady(Asking::new(now, self.timeouts.c));
            return Next::Moved;
        }
        asking.ask(regs, now, CTRL_REQ, ctrl_req::GO_IDLE);
        self.phase = Phase::Calm(asking);
        Next::Soon
    }
}
