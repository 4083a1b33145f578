//! The dictionary attack defence (part 1, section 8.2; part 3, section 9.3).
//!
//! Every wrong authorization counts. From the [`THRESHOLD`]th on, authorizations are refused for a time that doubles with each
//! further failure. A failure is forgiven every [`FORGIVE_US`]. `TPM_ResetLockValue` ends it at once. A count that locks is
//! permanent state: a TPM that was restarted begins with the delay that it had earned.

use crate::codes::{self, Code};
use crate::state::volatile::Lockout;
use crate::tpm::Tpm;

/// Failures that lock.
pub(crate) const THRESHOLD: u32 = 32;
/// One failure is forgiven in so many microseconds.
const FORGIVE_US: u64 = 60_000_000;
/// The first delay, microseconds.
const FIRST_DELAY_US: u64 = 1_000_000;
/// Doublings up to the longest delay (about an hour).
const MAX_DOUBLINGS: u32 = 12;

/// The delay that so many failures earn, microseconds.
fn delay(failures: u32) -> u64 {
    failures.checked_sub(THRESHOLD).map_or(0, |over| FIRST_DELAY_US << over.min(MAX_DOUBLINGS))
}

/// How a TPM that was just switched on begins: its clock is at zero, and the delay of `failures` runs anew.
pub(crate) fn at_power_on(failures: u32) -> Lockout {
    Lockout { failures, until: delay(failures), ..Lockout::default() }
}

impl Tpm {
    /// `TPM_DEFEND_LOCK_RUNNING` while authorizations are refused.
    pub(crate) fn check_lockout(&self) -> Result<(), Code> {
        if self.volatile.now < self.volatile.lockout.until { Err(codes::DEFEND_LOCK_RUNNING) } else { Ok(()) }
    }

    /// Counts a wrong authorization.
    pub(crate) fn count_failure(&mut self) {
        let now = self.volatile.now;
        let lockout = &mut self.volatile.lockout;
        lockout.reset_used &= now < lockout.until;
        let forgiven = now.saturating_sub(lockout.counted_at) / FORGIVE_US;
        lockout.failures =
            lockout.failures.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(1);
        lockout.counted_at = now;
        lockout.until = lockout.until.max(now.saturating_add(delay(lockout.failures)));
        self.keep_failures();
    }

    /// Ends a lock-out, running or not.
    pub(crate) fn end_lockout(&mut self) {
        self.volatile.lockout = Lockout::default();
        self.keep_failures();
    }

    /// Puts a count that locks into the permanent state, and takes it out when it does not lock any more.
    fn keep_failures(&mut self) {
        let failures = self.volatile.lockout.failures;
        let kept = if failures >= THRESHOLD { failures } else { 0 };
        if self.permanent.failed_auths != kept {
            self.permanent.edit().failed_auths = kept;
        }
    }

    /// Microseconds until authorizations are taken again.
    pub(crate) fn lockout_left(&self) -> u64 {
        self.volatile.lockout.until.saturating_sub(self.volatile.now)
    }
}
