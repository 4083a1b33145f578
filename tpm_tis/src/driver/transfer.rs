//! A command in and a response out through the FIFO, with the checks of the specification around both.

use super::Tis;
use super::phases::{Pace, Phase};
use crate::desk::{Job, MAX_COMMAND, Next};
use crate::error::{TisError, Wait};
use crate::regs::{Regs, Status, TisBus, access, sts};
use core::time::Duration;
use tpm_wire::HEADER_SIZE;
use xen_abi::Instant;

impl Tis {
    pub(super) fn send<B: TisBus>(
        &mut self,
        job: &Job,
        regs: &mut Regs<'_, B>,
        now: Instant,
        status: Status,
        sent: usize,
        pace: Pace,
    ) -> Next {
        if now >= pace.until {
            return self.fail(TisError::TimedOut(Wait::Transfer), now);
        }
        // The last byte goes alone: before it the chip must still expect one, after it none.
        let chunk = match job.command.get(sent..).unwrap_or_default() {
            [] => {
                self.phase = Phase::CheckTaken { until: now + self.timeouts.c };
                return Next::Moved;
            }
            [last] => core::slice::from_ref(last),
            [head @ .., _] => head.get(..status.burst()).unwrap_or(head),
        };
        let at_last = sent + 1 == job.command.len();
        let blocked = if at_last && !status.valid() {
            Some((self.timeouts.c, TisError::TimedOut(Wait::StatusValid)))
        } else if at_last && !status.expects() {
            Some((self.timeouts.c, TisError::CommandCut))
        } else if status.burst() == 0 {
            Some((self.timeouts.burst(), TisError::TimedOut(Wait::Burst)))
        } else {
            None
        };
        if let Some((wait, why)) = blocked {
            let Some(pace) = pace.stalled(now, wait) else { return self.fail(why, now) };
            self.phase = Phase::Send { sent, pace };
            return Next::Soon;
        }
        for byte in chunk {
            regs.fifo_write(*byte);
        }
        self.phase = Phase::Send { sent: sent + chunk.len(), pace: pace.moved() };
        Next::Moved
    }

    pub(super) fn check_taken<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut Regs<'_, B>,
        now: Instant,
        status: Status,
        until: Instant,
    ) -> Next {
        if status.valid() && !status.expects() {
            job.started = true;
            regs.set_status(sts::GO);
            self.phase = Phase::Execute { until: now + job.duration, gap: Duration::from_millis(1) };
            return Next::Moved;
        }
        if now >= until {
            let why = if status.valid() { TisError::CommandOpen } else { TisError::TimedOut(Wait::StatusValid) };
            return self.fail(why, now);
        }
        Next::Soon
    }

    pub(super) fn receive<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut Regs<'_, B>,
        now: Instant,
        status: Status,
        want: usize,
        pace: Pace,
    ) -> Next {
        if now >= pace.until {
            return self.fail(TisError::TimedOut(Wait::Transfer), now);
        }
        let missing = want.saturating_sub(job.response.len());
        if missing == 0 {
            return self.header_or_end(job, regs, now, pace);
        }
        let blocked = if !status.valid() {
            Some((self.timeouts.c, TisError::TimedOut(Wait::StatusValid)))
        } else if !status.data_available() {
            return self.reread(job, regs, now, TisError::ResponseCut);
        } else if status.burst() == 0 {
            Some((self.timeouts.burst(), TisError::TimedOut(Wait::Burst)))
        } else {
            None
        };
        if let Some((wait, why)) = blocked {
            let Some(pace) = pace.stalled(now, wait) else { return self.fail(why, now) };
            self.phase = Phase::Receive { want, pace };
            return Next::Soon;
        }
        for _ in 0..status.burst().min(missing) {
            job.response.push(regs.fifo_read());
        }
        self.phase = Phase::Receive { want, pace: pace.moved() };
        Next::Moved
    }

    /// All that was wanted is there: a header that says how much more, or the whole response.
    fn header_or_end<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant, pace: Pace) -> Next {
        let Some(&[_, _, a, b, c, d, ..]) = job.response.first_chunk::<HEADER_SIZE>() else {
            return self.reread(job, regs, now, TisError::ResponseCut);
        };
        let announced = u32::from_be_bytes([a, b, c, d]);
        let size = usize::try_from(announced).unwrap_or(usize::MAX);
        if !(HEADER_SIZE..=MAX_COMMAND).contains(&size) {
            return self.reread(job, regs, now, TisError::BadSize(announced));
        }
        if job.response.len() >= size {
            self.phase = Phase::CheckDrained { until: now + self.timeouts.c };
        } else {
            // Room for all of it at once, so that no copy of a secret stays behind in a block outgrown.
            let missing = size - job.response.len();
            job.response.reserve_exact(missing);
            self.phase = Phase::Receive { want: size, pace: pace.moved() };
        }
        Next::Moved
    }

    pub(super) fn check_drained<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut Regs<'_, B>,
        now: Instant,
        status: Status,
        until: Instant,
    ) -> Next {
        if status.valid() && !status.data_available() {
            regs.set_status(sts::COMMAND_READY);
            if regs.access() & access::PENDING != 0 {
                regs.set_access(access::ACTIVE);
            }
            self.phase = Phase::Idle;
            self.desk.result = Some((job.ticket, Ok(core::mem::take(&mut job.response))));
            return Next::Moved;
        }
        if now < until {
            return Next::Soon;
        }
        if status.valid() {
            self.reread(job, regs, now, TisError::ResponseOpen)
        } else {
            self.fail(TisError::TimedOut(Wait::StatusValid), now)
        }
    }

    /// Asks for the response from its start, once.
    fn reread<B: TisBus>(&mut self, job: &mut Job, regs: &mut Regs<'_, B>, now: Instant, why: TisError) -> Next {
        job.response.clear();
        if job.reread {
            return self.fail(why, now);
        }
        log::warn!(target: "tpm_tis", "{why}; asking for the response again");
        job.reread = true;
        regs.set_status(sts::RESPONSE_RETRY);
        self.phase = Phase::Receive { want: HEADER_SIZE, pace: Pace::new(now + self.timeouts.transfer) };
        Next::Moved
    }
}
