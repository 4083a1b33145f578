//! Administrative functions - management (part 3, section 9).

use crate::auth::Protocol;
use crate::auth::session::Entity;
use crate::call::{Call, Done};
use crate::codes;
use crate::tpm::Tpm;

/// `TPM_FieldUpgrade` (section 9.1): what it does is the vendor's. A vTPM's program is replaced from outside, never by the guest.
pub(crate) fn tpm_field_upgrade(_: &mut Tpm, _: &mut Call<'_>) -> Done {
    Err(codes::DISABLED_CMD.into())
}

/// `TPM_SetRedirection` (section 9.2): there is nothing to redirect a key's output to.
pub(crate) fn tpm_set_redirection(_: &mut Tpm, _: &mut Call<'_>) -> Done {
    Err(codes::DISABLED_CMD.into())
}

/// `TPM_ResetLockValue` (section 9.3): ends a lock-out. While one runs the owner has one try; a wrong one starts the time anew.
pub(crate) fn tpm_reset_lock_value(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    if tpm.volatile.lockout.reset_used && tpm.lockout_left() > 0 {
        return Err(codes::AUTHFAIL.into());
    }
    let running = core::mem::take(&mut tpm.volatile.lockout);
    let secret = tpm.permanent.owner_auth.clone().ok_or(codes::AUTHFAIL)?;
    let result = tpm.authorize(call, 0, &secret, &Entity::OWNER, Protocol::Any);
    if let Err(code) = result {
        tpm.volatile.lockout = running;
        if code == codes::AUTHFAIL {
            tpm.count_failure();
            tpm.volatile.lockout.reset_used = tpm.lockout_left() > 0;
        }
        return Err(code.into());
    }
    tpm.end_lockout();
    Ok(())
}

#[cfg(test)]
mod tests;
