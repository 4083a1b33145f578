//! The dictionary attack defence (part 1, section 8.2; part 3, section 9.3).
//!
//! Every wrong authorization counts. From the [`THRESHOLD`]th on, authorizations are refused for a time that doubles with each
//! further failure. A failure is forgiven every [`FORGIVE_US`]. `TPM_ResetLockValue` ends it at once.

use crate::codes::{self, Code};
use crate::tpm::Tpm;

/// Failures that lock.
pub(crate) const THRESHOLD: u32 = 32;
/// One failure is forgiven in so many microseconds.
const FORGIVE_US: u64 = 60_000_000;
/// The first delay, microseconds.
const FIRST_DELAY_US: u64 = 1_000_000;
/// Doublings up to the longest delay (about an hour).
const MAX_DOUBLINGS: u32 = 12;

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
        if let Some(over) = lockout.failures.checked_sub(THRESHOLD) {
            lockout.until = now.saturating_add(FIRST_DELAY_US << over.min(MAX_DOUBLINGS));
        }
    }

    /// Microseconds until authorizations are taken again.
    pub(crate) fn lockout_left(&self) -> u64 {
        self.volatile.lockout.until.saturating_sub(self.volatile.now)
    }
}
