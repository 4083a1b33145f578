//! Cancelling, giving up, and starting over.

use super::Tis;
use super::phases::{Asking, Hold, Phase, hold};
use crate::desk::{Job, Next};
use crate::error::TisError;
use crate::identity::Family;
use crate::regs::{Regs, TisBus, access};
use core::time::Duration;
use xen_abi::Instant;

impl Tis {
    /// The caller wants the command no more.
    pub(super) fn tell_cancel<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant) {
        job.cancel_sent = true;
        match self.phase {
            Phase::Execute { until, gap } if self.identity.is_some_and(|id| id.family() == Family::Tpm20) => {
                regs.command_cancel();
                self.phase = Phase::Execute { until: until.min(now + self.timeouts.b), gap };
            }
            // The response is there already, or the end is near anyway.
            Phase::Idle | Phase::Receive { .. } | Phase::CheckDrained { .. } | Phase::GiveUp { .. } => {}
            _ => {
                self.fail(TisError::Cancelled, now);
            }
        }
    }

    /// Registers read as ones although the locality was ours: a glitch is waited out for `TIMEOUT_C`.
    pub(super) fn ones(&mut self, now: Instant) -> Next {
        let until = *self.ones_until.get_or_insert(now + self.timeouts.c);
        if now >= until { self.fail(TisError::NoChip, now) } else { Next::Later(Duration::from_millis(1)) }
    }

    /// Leaves the present phase for [`Phase::GiveUp`].
    pub(super) fn fail(&mut self, cause: TisError, now: Instant) -> Next {
        self.phase = Phase::GiveUp { cause, asking: Asking::new(now, self.timeouts.b) };
        Next::Moved
    }

    pub(super) fn give_up<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut Regs<'_, B>,
        now: Instant,
        cause: TisError,
        asking: Asking,
    ) -> Next {
        // Only a locality that is ours has a command to abort.
        if matches!(hold(regs), Hold::Ours) {
            if let Some(asking) = asking.ask(regs, now) {
                self.phase = Phase::GiveUp { cause, asking };
                return Next::Soon;
            }
            let status = regs.status();
            if !status.is_ones() && !status.command_ready() && now < asking.until {
                return Next::Soon;
            }
        }
        // Also withdraws a request that is still pending.
        regs.set_access(access::ACTIVE);
        let hopeless = matches!(cause, TisError::NoChip | TisError::NotFifo(_) | TisError::Cancelled);
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
