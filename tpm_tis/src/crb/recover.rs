//! Cancelling, giving up, and starting over.

use super::Crb;
use super::phases::{Asking, Phase};
use super::regs::{CTRL_CANCEL, CTRL_REQ, Condition, CrbRegs, Hold, INVOKE, LOC_CTRL, ctrl_req, loc_ctrl};
use crate::desk::{Job, Next};
use crate::error::{TisError, Wait};
use crate::regs::TisBus;
use core::time::Duration;
use xen_abi::Instant;

impl Crb {
    /// The caller wants the command no more.
    pub(super) fn tell_cancel<B: TisBus>(&mut self, job: &mut Job, regs: &mut CrbRegs<'_, B>, now: Instant) {
        job.cancel_sent = true;
        match self.phase {
            Phase::Execute { until, gap, response } => {
                regs.write(CTRL_CANCEL, INVOKE);
                self.phase = Phase::Execute { until: until.min(now + self.timeouts.b), gap, response };
            }
            // The response is there already, or the end is near anyway.
            Phase::Idle | Phase::Read { .. } | Phase::Check | Phase::Finish(_) | Phase::GiveUp { .. } => {}
            _ => {
                self.fail(TisError::Cancelled, now);
            }
        }
    }

    /// A command that somebody else left running, or ours of a time when the chip did not listen, is cancelled.
    pub(super) fn stop<B: TisBus>(
        &mut self,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        condition: Condition,
        mut asking: Asking,
    ) -> Next {
        if !condition.running {
            self.phase = Phase::Calm(Asking::new(now, self.timeouts.c));
            return Next::Moved;
        }
        if asking.is_late(now) {
            return self.fail(TisError::TimedOut(Wait::CommandReady), now);
        }
        asking.ask(regs, now, CTRL_CANCEL, INVOKE);
        self.phase = Phase::Stop(asking);
        Next::Soon
    }

    /// Registers read as ones although the locality was ours: a glitch is waited out for `TIMEOUT_C`.
    pub(super) fn ones(&mut self, now: Instant) -> Next {
        let until = *self.ones_until.get_or_insert(now + self.timeouts.c);
        if now >= until { self.fail(TisError::NoChip, now) } else { Next::Later(Duration::from_millis(1)) }
    }

    /// Leaves the present phase for [`Phase::GiveUp`].
    pub(super) fn fail(&mut self, cause: TisError, now: Instant) -> Next {
        self.phase = Phase::GiveUp { cause, stop: Asking::new(now, self.timeouts.b), calm: None };
        Next::Moved
    }

    pub(super) fn give_up<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        cause: TisError,
        mut stop: Asking,
        calm: Option<Asking>,
    ) -> Next {
        // Only a locality that is ours has a command to cancel. Before the chip is known nothing may be written to it.
        if self.identity.is_some()
            && let Hold::Ours(condition) = regs.hold()
        {
            if condition.running && calm.is_none() && !stop.is_late(now) {
                stop.ask(regs, now, CTRL_CANCEL, INVOKE);
                self.phase = Phase::GiveUp { cause, stop, calm };
                return Next::Soon;
            }
            let mut calm = calm.unwrap_or_else(|| Asking::new(now, self.timeouts.c));
            if !condition.running {
                if calm.is_new() {
                    regs.write(CTRL_CANCEL, 0);
                }
                let calmed = condition.idle && Self::obeyed(regs);
                if !calmed && !calm.is_late(now) {
                    calm.ask(regs, now, CTRL_REQ, ctrl_req::GO_IDLE);
                    self.phase = Phase::GiveUp { cause, stop, calm: Some(calm) };
                    return Next::Soon;
                }
            }
        }
        if self.identity.is_some() {
            // Also withdraws a request that is still pending.
            regs.write(LOC_CTRL, loc_ctrl::RELINQUISH);
        }
        let hopeless = matches!(
            cause,
            TisError::NoChip
                | TisError::NotCrb(_)
                | TisError::NoLocality(_)
                | TisError::Cancelled
                | TisError::Failed
                | TisError::CommandTooLong(_)
        );
        if !job.started && !job.resent && !job.cancel && !hopeless {
            log::warn!(target: "tpm_tis", "{cause}; sending the command again");
            job.resent = true;
            self.phase = Phase::Start;
            return Next::Moved;
        }
        self.phase = Phase::Idle;
        self.desk.result = Some((job.ticket, Err(cause)));
        Next::Moved
    }
}
