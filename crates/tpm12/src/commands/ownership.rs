//! Admin ownership (part 3, section 6).

use crate::auth::Protocol;
use crate::auth::session::{Entity, PID_OWNER};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::state::permanent::{DELEGATE_ROWS, Proofs};
use crate::structs::AuthData;
use crate::structs::key::{ES_RSAESOAEP, FLAG_MIGRATABLE, KEY_STORAGE, Key, KeyBlob, PT_ASYM, SS_NONE};
use crate::tpm::Tpm;
use alloc::rc::Rc;
use alloc::vec::Vec;
use zeroize::Zeroizing;

impl Tpm {
    /// A secret that was encrypted to the endorsement key.
    fn decrypt_with_ek(&mut self, encrypted: &[u8]) -> Result<AuthData, Code> {
        let ek = self.permanent.ek.clone().ok_or(codes::NO_ENDORSEMENT)?;
        let plain = ek.decrypt_oaep(&mut self.rng, encrypted).map_err(|_| codes::DECRYPT_ERROR)?;
        let secret: [u8; 20] = plain[..].try_into().map_err(|_| codes::BAD_KEY_PROPERTY)?;
        Ok(Zeroizing::new(secret))
    }

    /// What `TPM_OwnerClear` and `TPM_ForceClear` have in common (section 6.2, actions 3 to 14). The TPM is enabled and activated
    /// afterwards, as it left the factory: a vTPM has no firmware set-up that could enable it again.
    pub(crate) fn clear_owner(&mut self) {
        self.clear_owner_nv();
        let proofs = Proofs::random(&mut self.rng);
        let permanent = self.permanent.edit();
        // DAA secrets outlive the owner; the rest of the proofs does not.
        permanent.proofs.tpm_proof = proofs.tpm_proof.clone();
        permanent.proofs.context_key = proofs.context_key.clone();
        permanent.proofs.delegate_key = proofs.delegate_key.clone();
        permanent.owner_auth = None;
        permanent.srk = None;
        permanent.operator_auth = None;
        permanent.owner_evict.clear();
        permanent.delegate_rows = core::iter::repeat_with(|| None).take(DELEGATE_ROWS).collect();
        permanent.families.clear();
        permanent.no_owner_nv_writes = 0;
        permanent.audited = crate::commands::audit::AUDITED_BY_DEFAULT.to_vec();
        permanent.restrict_delegate = 0;
        permanent.counters.clear();
        let flags = &mut permanent.flags;
        (flags.disable, flags.deactivated, flags.read_pubek) = (false, false, true);
        (flags.disable_owner_clear, flags.disable_full_da_logic_info) = (false, false);
        (flags.allow_maintenance, flags.read_srk_pub, flags.ownership) = (true, false, true);
        (flags.operator, flags.maintenance_done) = (false, false);

        let volatile = &mut self.volatile;
        volatile.keys.clear();
        volatile.sessions.clear();
        volatile.transports.clear();
        volatile.exclusive = 0;
        volatile.daa.clear();
        volatile.contexts.clear();
        volatile.context_count = 0;
        volatile.context_nonce = self.rng.bytes();
        volatile.active_counter = crate::state::volatile::NO_COUNTER;
        volatile.owner_pointer_type = 0;
        volatile.deferred_physical_presence = 0;
        volatile.audit_digest = [0; 20];
        volatile.flags.deactivated = false;
        self.hash = None;
    }
}

/// `TPM_TakeOwnership` (section 6.1).
pub(crate) fn tpm_take_ownership(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let protocol: u16 = call.get()?;
    let (enc_owner, enc_srk): (Vec<u8>, Vec<u8>) = (call.get()?, call.get()?);
    let blob: KeyBlob = call.only()?;
    if tpm.permanent.has_owner() {
        return Err(codes::OWNER_SET.into());
    }
    if !tpm.permanent.flags.ownership {
        return Err(codes::INSTALL_DISABLED.into());
    }
    if tpm.permanent.ek.is_none() {
        return Err(codes::NO_ENDORSEMENT.into());
    }
    if protocol != PID_OWNER {
        return Err(codes::BAD_PARAMETER.into());
    }
    let owner_auth = tpm.decrypt_with_ek(&enc_owner)?;
    // There is no owner yet who could have delegated anything.
    tpm.authorize(call, 0, &owner_auth, &Entity::BLOB, Protocol::Oiap)?;
    if blob.usage != KEY_STORAGE || blob.has(FLAG_MIGRATABLE) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let (bits, exponent) = blob.parms.rsa_details()?;
    if blob.parms.enc_scheme != ES_RSAESOAEP || blob.parms.sig_scheme != SS_NONE {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    blob.check_properties()?;
    let srk_auth = tpm.decrypt_with_ek(&enc_srk)?;
    let rsa = call.generated_key(bits, exponent)?;

    let mut proofs = Proofs::random(&mut tpm.rng);
    proofs.daa_proof = tpm.permanent.proofs.daa_proof.clone();
    proofs.daa_blob_key = tpm.permanent.proofs.daa_blob_key.clone();
    let mut blob = blob;
    crate::commands::storage::set_creation(tpm, call, &mut blob)?;
    let srk = Key::create(blob, rsa, PT_ASYM, srk_auth, proofs.tpm_proof.clone());
    call.put(&srk.blob);
    let permanent = tpm.permanent.edit();
    permanent.proofs = proofs;
    permanent.owner_auth = Some(owner_auth);
    permanent.srk = Some(Rc::new(srk));
    permanent.flags.read_pubek = false;
    Ok(())
}

/// `TPM_OwnerClear` (section 6.2).
pub(crate) fn tpm_owner_clear(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    if tpm.permanent.flags.disable_owner_clear {
        return Err(codes::CLEAR_DISABLED.into());
    }
    tpm.clear_owner();
    call.end_session(0);
    Ok(())
}

/// `TPM_ForceClear` (section 6.3).
pub(crate) fn tpm_force_clear(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.need_physical_presence()?;
    if tpm.volatile.flags.disable_force_clear {
        return Err(codes::CLEAR_DISABLED.into());
    }
    tpm.clear_owner();
    Ok(())
}

/// `TPM_DisableOwnerClear` (section 6.4).
pub(crate) fn tpm_disable_owner_clear(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    tpm.permanent.edit().flags.disable_owner_clear = true;
    Ok(())
}

/// `TPM_DisableForceClear` (section 6.5).
pub(crate) fn tpm_disable_force_clear(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.volatile.flags.disable_force_clear = true;
    Ok(())
}

/// Bits of `TPM_PHYSICAL_PRESENCE` (part 2, section 4.9).
mod presence {
    pub(super) const LOCK: u16 = 0x0004;
    pub(super) const PRESENT: u16 = 0x0008;
    pub(super) const NOT_PRESENT: u16 = 0x0010;
    pub(super) const CMD_ENABLE: u16 = 0x0020;
    pub(super) const HW_ENABLE: u16 = 0x0040;
    pub(super) const LIFETIME_LOCK: u16 = 0x0080;
    pub(super) const CMD_DISABLE: u16 = 0x0100;
    pub(super) const HW_DISABLE: u16 = 0x0200;
    pub(super) const LIFETIME: u16 = CMD_ENABLE | HW_ENABLE | LIFETIME_LOCK | CMD_DISABLE | HW_DISABLE;
    pub(super) const CURRENT: u16 = LOCK | PRESENT | NOT_PRESENT;
}

/// `TSC_PhysicalPresence` (section 6.6): either settings for the TPM's life, or the present state.
pub(crate) fn tsc_physical_presence(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    use presence::*;
    let bits: u16 = call.only()?;
    let set = |mask: u16| bits & mask == mask;
    if bits & !(LIFETIME | CURRENT) != 0 {
        return Err(codes::BAD_PARAMETER.into());
    }
    if bits & LIFETIME != 0 {
        if bits & CURRENT != 0 || tpm.permanent.flags.physical_presence_lifetime_lock {
            return Err(codes::BAD_PARAMETER.into());
        }
        if set(CMD_ENABLE | CMD_DISABLE) || set(HW_ENABLE | HW_DISABLE) {
            return Err(codes::BAD_PARAMETER.into());
        }
        let flags = &mut tpm.permanent.edit().flags;
        if set(HW_ENABLE) || set(HW_DISABLE) {
            flags.physical_presence_hw_enable = set(HW_ENABLE);
        }
        if set(CMD_ENABLE) || set(CMD_DISABLE) {
            flags.physical_presence_cmd_enable = set(CMD_ENABLE);
        }
        if set(LIFETIME_LOCK) {
            flags.physical_presence_lifetime_lock = true;
        }
        return Ok(());
    }
    let enabled = tpm.permanent.flags.physical_presence_cmd_enable;
    if !enabled || set(LOCK | PRESENT) || set(PRESENT | NOT_PRESENT) || bits & CURRENT == 0 {
        return Err(codes::BAD_PARAMETER.into());
    }
    let flags = &mut tpm.volatile.flags;
    if flags.physical_presence_lock {
        return Err(codes::BAD_PARAMETER.into());
    }
    if set(LOCK) {
        (flags.physical_presence, flags.physical_presence_lock) = (false, true);
        return Ok(());
    }
    flags.physical_presence = set(PRESENT);
    Ok(())
}

/// `TSC_ResetEstablishmentBit` (section 6.7): from localities 3 and 4.
pub(crate) fn tsc_reset_establishment_bit(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    if call.locality < 3 {
        return Err(codes::BAD_LOCALITY.into());
    }
    if tpm.permanent.flags.tpm_established {
        tpm.permanent.edit().flags.tpm_established = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
