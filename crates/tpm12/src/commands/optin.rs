//! Admin opt-in (part 3, section 5).

use crate::auth::Protocol;
use crate::auth::session::Entity;
use crate::call::{Call, Done};
use crate::codes;
use crate::structs::AuthData;
use crate::tpm::Tpm;

/// `TPM_SetOwnerInstall` (section 5.1). Where there is an owner it succeeds at once and changes nothing (action 1).
pub(crate) fn tpm_set_owner_install(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let state: bool = call.only()?;
    if !tpm.permanent.has_owner() {
        tpm.need_physical_presence()?;
        tpm.permanent.edit().flags.ownership = state;
    }
    Ok(())
}

/// `TPM_OwnerSetDisable` (section 5.2).
pub(crate) fn tpm_owner_set_disable(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let state: bool = call.only()?;
    tpm.authorize_owner(call, 0)?;
    tpm.permanent.edit().flags.disable = state;
    Ok(())
}

/// `TPM_PhysicalEnable` (section 5.3).
pub(crate) fn tpm_physical_enable(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    set_disable(tpm, call, false)
}

/// `TPM_PhysicalDisable` (section 5.4).
pub(crate) fn tpm_physical_disable(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    set_disable(tpm, call, true)
}

fn set_disable(tpm: &mut Tpm, call: &mut Call<'_>, disable: bool) -> Done {
    call.end()?;
    tpm.need_physical_presence()?;
    if tpm.permanent.flags.disable != disable {
        tpm.permanent.edit().flags.disable = disable;
    }
    Ok(())
}

/// `TPM_PhysicalSetDeactivated` (section 5.5): takes effect with the next start.
pub(crate) fn tpm_physical_set_deactivated(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let state: bool = call.only()?;
    tpm.need_physical_presence()?;
    tpm.permanent.edit().flags.deactivated = state;
    Ok(())
}

/// `TPM_SetTempDeactivated` (section 5.6): by the operator, or with physical presence.
pub(crate) fn tpm_set_temp_deactivated(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    if call.has_auths(1) {
        let secret = tpm.permanent.operator_auth.clone().ok_or(codes::NOOPERATOR)?;
        tpm.authorize(call, 0, &secret, &Entity::BLOB, Protocol::Oiap)?;
    } else {
        tpm.need_physical_presence()?;
    }
    tpm.volatile.flags.deactivated = true;
    Ok(())
}

/// `TPM_SetOperatorAuth` (section 5.7).
pub(crate) fn tpm_set_operator_auth(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let auth: AuthData = call.only()?;
    tpm.need_physical_presence()?;
    let permanent = tpm.permanent.edit();
    permanent.operator_auth = Some(auth);
    permanent.flags.operator = true;
    Ok(())
}

#[cfg(test)]
mod tests;
