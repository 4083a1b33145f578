//! A command into its buffer and a response out of it.

use super::Crb;
use super::buffers::{Buffer, Buffers, HEADER_WORDS};
use super::phases::{Asking, Phase};
use super::regs::{CTRL_CANCEL, CTRL_REQ, CTRL_START, Condition, CrbRegs, Hold, INVOKE, LOC_CTRL, ctrl_req, loc_ctrl};
use crate::desk::{Job, MAX_COMMAND, Next};
use crate::error::{TisError, Wait};
use crate::regs::TisBus;
use alloc::vec::Vec;
use core::time::Duration;
use tpm_wire::HEADER_SIZE;
use xen_abi::Instant;
use zeroize::Zeroizing;

impl Crb {
    pub(super) fn make_ready<B: TisBus>(
        &mut self,
        job: &Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        condition: Condition,
        mut asking: Asking,
    ) -> Next {
        if condition.idle || asking.is_new() || !Self::obeyed(regs) {
            if asking.is_late(now) {
                // A chip that has failed need not become ready either.
                let why = if condition.failed { TisError::Failed } else { TisError::TimedOut(Wait::CommandReady) };
                return self.fail(why, now);
            }
            asking.ask(regs, now, CTRL_REQ, ctrl_req::CMD_READY);
            self.phase = Phase::MakeReady(asking);
            return Next::Soon;
        }
        if condition.failed {
            return self.fail(TisError::Failed, now);
        }
        let Buffers { command, response } = match Buffers::read(regs, self.base) {
            Ok(buffers) => buffers,
            Err(error) => return self.fail(error, now),
        };
        if job.command.len() > command.size {
            return self.fail(TisError::CommandTooLong(command.size), now);
        }
        regs.fill(command.offset, &job.command);
        self.phase = Phase::Go { response };
        Next::Moved
    }

    /// The locality was ours until after the last word of the command.
    pub(super) fn go<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        response: Buffer,
    ) -> Next {
        job.started = true;
        // A cancel left over would end this command too.
        regs.write(CTRL_CANCEL, 0);
        regs.write(CTRL_START, INVOKE);
        self.phase = Phase::Execute { until: now + job.duration, gap: Duration::from_millis(1), response };
        Next::Moved
    }

    /// Every word of the buffer is read once, so the header that was checked is the header that is handed out.
    pub(super) fn read<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        buffer: Buffer,
    ) -> Next {
        let mut words = (buffer.offset..).step_by(4).map(|at| regs.word(at));
        let mut header = Zeroizing::new([0; 4 * HEADER_WORDS]);
        for (to, from) in header.iter_mut().zip(words.by_ref().take(HEADER_WORDS).flatten()) {
            *to = from;
        }
        let [_, _, a, b, c, d, ..] = *header;
        let announced = u32::from_be_bytes([a, b, c, d]);
        let size = usize::try_from(announced).unwrap_or(usize::MAX);
        if !(HEADER_SIZE..=MAX_COMMAND.min(buffer.size)).contains(&size) {
            if job.reread {
                return self.fail(TisError::BadSize(announced), now);
            }
            job.reread = true;
            return Next::Later(Duration::from_millis(1));
        }
        // Both buffers may be one, and then a chip that ran nothing shows the command itself. No response has a command's
        // code for its own: a command code of 10 bytes without parameters is no response code.
        if header.get(..HEADER_SIZE) == job.command.get(..HEADER_SIZE) {
            return self.fail(TisError::Dropped, now);
        }
        // Room for all of it at once, so that no copy of a secret stays behind in a block outgrown.
        let mut response = Zeroizing::new(Vec::with_capacity(size + 3));
        response.extend_from_slice(header.as_slice());
        for word in words.take(size.saturating_sub(header.len()).div_ceil(4)) {
            response.extend_from_slice(&word);
        }
        response.truncate(size);
        job.response = response;
        self.phase = Phase::Check;
        Next::Moved
    }

    /// The locality was still ours after the last word of the response.
    pub(super) fn check(&mut self, now: Instant, condition: Condition) -> Next {
        if condition.failed {
            return self.fail(TisError::Failed, now);
        }
        if condition.idle || condition.running {
            return self.fail(TisError::Dropped, now);
        }
        self.phase = Phase::Finish(Asking::new(now, self.timeouts.c));
        Next::Moved
    }

    /// The response is there whatever the chip does now.
    pub(super) fn finish<B: TisBus>(
        &mut self,
        job: &mut Job,
        regs: &mut CrbRegs<'_, B>,
        now: Instant,
        mut asking: Asking,
    ) -> Next {
        if asking.is_new() && job.cancel_sent {
            regs.write(CTRL_CANCEL, 0);
        }
        asking.ask(regs, now, CTRL_REQ, ctrl_req::GO_IDLE);
        if let Hold::Ours(condition) = regs.hold()
            && !(condition.idle && Self::obeyed(regs))
            && !asking.is_late(now)
        {
            self.phase = Phase::Finish(asking);
            return Next::Soon;
        }
        regs.write(LOC_CTRL, loc_ctrl::RELINQUISH);
        self.phase = Phase::Idle;
        self.desk.result = Some((job.ticket, Ok(core::mem::take(&mut job.response))));
        Next::Moved
    }
}
