//! Administrative functions - management (part 3, section 9).

use crate::auth::Protocol;
use crate::auth::session::Entity;
use crate::call::{Call, Done};
use crate::codes;
use crate::state::volatile::Lockout;
use crate::tpm::Tpm;

/// `TPM_FieldUpgrade` (section 9.1): what it does is the vendor's. A vTPM's program is replaced from outside, never by the guest.
pub(crate) fn tpm_field_upgrade(_: &mut Tpm, _: &mut Call<'_>) -> Done {
    Err(codes::DISABLED_CMD.into())
}

/// `TPM_SetRedirection` (section 9.2): there is nothing to redirect a key's output to.
pub(crate) fn tpm_set_redirection(_: &mut Tpm, _: &mut Call<'_>) -> Done {
    Err(codes::DISABLED_CMD.into())
}

/// `TPM_ResetLockValue` (section 9.3): ends a lock-out. While one runs the owner has one try.
pub(crate) fn tpm_reset_lock_value(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    if tpm.volatile.lockout.reset_used {
        return Err(codes::DEFEND_LOCK_RUNNING.into());
    }
    let running = core::mem::take(&mut tpm.volatile.lockout);
    let secret = tpm.permanent.owner_auth.clone().ok_or(codes::AUTHFAIL)?;
    let result = tpm.authorize(call, 0, &secret, &Entity::OWNER, Protocol::Any);
    if let Err(code) = result {
        tpm.volatile.lockout = Lockout { reset_used: true, ..running };
        tpm.count_failure();
        return Err(code.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
