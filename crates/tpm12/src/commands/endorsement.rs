//! Endorsement key handling (part 3, section 14).

use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::state::permanent::Proofs;
use crate::structs::key::{ES_RSAESOAEP, KeyParms, PubKey, SS_NONE};
use crate::structs::{AuthData, Nonce};
use crate::tpm::{KH_EK, KH_SRK, Tpm};
use crate::wire::Wire;
use alloc::rc::Rc;
use tpm_crypto::{ct_eq, sha1};
use zeroize::Zeroizing;

impl Tpm {
    /// The public endorsement key.
    pub(crate) fn pubek(&self) -> Result<PubKey, Code> {
        let public = self.permanent.ek.as_ref().ok_or(codes::NO_ENDORSEMENT)?.public();
        let bits = (public.size() * 8) as u32;
        Ok(PubKey { parms: KeyParms::rsa(bits, ES_RSAESOAEP, SS_NONE), modulus: public.modulus() })
    }
}

/// Answers with the public key and the checksum that binds it to the caller's nonce.
fn answer(call: &mut Call<'_>, key: &PubKey, nonce: &Nonce) {
    let checksum = sha1(&[&key.to_bytes(), nonce]);
    call.put(key).put(&checksum);
}

/// Makes an endorsement key if there is none; its public part and checksum are the answer.
fn create_ek(tpm: &mut Tpm, call: &mut Call<'_>, nonce: &Nonce, parms: &KeyParms) -> Done {
    if tpm.permanent.ek.is_some() {
        return Err(codes::DISABLED_CMD.into());
    }
    let (bits, exponent) = parms.rsa_details()?;
    if bits != 2048 || exponent != tpm_crypto::rsa::DEFAULT_EXPONENT {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    let key = call.generated_key(bits, exponent)?;
    tpm.permanent.edit().ek = Some(Rc::new(key));
    let public = tpm.pubek()?;
    answer(call, &public, nonce);
    Ok(())
}

/// `TPM_CreateEndorsementKeyPair` (section 14.1).
pub(crate) fn tpm_create_endorsement_key_pair(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.get()?;
    let parms: KeyParms = call.only()?;
    create_ek(tpm, call, &nonce, &parms)?;
    let flags = &mut tpm.permanent.edit().flags;
    (flags.cekp_used, flags.enable_revoke_ek) = (true, false);
    Ok(())
}

/// `TPM_CreateRevocableEK` (section 14.2).
pub(crate) fn tpm_create_revocable_ek(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.get()?;
    let parms: KeyParms = call.get()?;
    let (generate_reset, given): (bool, AuthData) = (call.get()?, call.only()?);
    create_ek(tpm, call, &nonce, &parms)?;
    let reset = if generate_reset { Zeroizing::new(tpm.rng.bytes()) } else { given };
    call.put(&reset);
    let permanent = tpm.permanent.edit();
    permanent.ek_reset = reset;
    (permanent.flags.cekp_used, permanent.flags.enable_revoke_ek) = (true, true);
    Ok(())
}

/// `TPM_RevokeTrust` (section 14.3).
pub(crate) fn tpm_revoke_trust(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let reset: AuthData = call.only()?;
    if !tpm.permanent.flags.enable_revoke_ek {
        return Err(codes::PERMANENTEK.into());
    }
    tpm.check_lockout()?;
    if !ct_eq(&*tpm.permanent.ek_reset, &*reset) {
        tpm.count_failure();
        return Err(codes::AUTHFAIL.into());
    }
    tpm.need_physical_presence()?;
    tpm.clear_owner();
    let proofs = Proofs::random(&mut tpm.rng);
    let seed = Zeroizing::new(tpm.rng.bytes());
    let permanent = tpm.permanent.edit();
    permanent.ek = None;
    permanent.ek_reset = Zeroizing::new([0; 20]);
    permanent.flags.enable_revoke_ek = false;
    // The areas that the manufacturer made for this endorsement key go with it.
    permanent.nv.retain(|area| area.public.index & crate::structs::nv::INDEX_D_BIT == 0);
    permanent.proofs = proofs;
    permanent.daa_seed = seed;
    Ok(())
}

/// `TPM_ReadPubek` (section 14.4).
pub(crate) fn tpm_read_pubek(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.only()?;
    if !tpm.permanent.flags.read_pubek {
        return Err(codes::DISABLED_CMD.into());
    }
    let key = tpm.pubek()?;
    answer(call, &key, &nonce);
    Ok(())
}

/// `TPM_OwnerReadInternalPub` (section 14.5). Its key handle is part of what is authorized.
pub(crate) fn tpm_owner_read_internal_pub(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let handle: u32 = call.only()?;
    tpm.authorize_owner(call, 0)?;
    let key = match handle {
        KH_EK => tpm.pubek()?,
        KH_SRK => tpm.key(KH_SRK)?.blob.public(),
        _ => return Err(codes::BAD_PARAMETER.into()),
    };
    call.put(&key);
    Ok(())
}

#[cfg(test)]
mod tests;
