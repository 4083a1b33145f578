//! Changing an authorization that the parent's owner does not learn (part 3, section 27.4).

use crate::auth::session::{ET_KEY, Entity, HandleKind};
use crate::auth::{KeyUse, Protocol, needs_no_auth};
use crate::call::{Call, Done};
use crate::codes;
use crate::commands::certify::certify_info;
use crate::state::volatile::LoadedKey;
use crate::structs::key::{
    AUTH_NEVER, FLAG_VOLATILE, KEY_AUTHCHANGE, KEY_IDENTITY, Key, KeyBlob, KeyParms, PT_ASYM, StoreAsymKey,
};
use crate::structs::{AuthData, Nonce};
use crate::tpm::{KH_SRK, Tpm};
use crate::wire::{Wire, wire_struct};
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::{ct_eq, hmac_sha1, sha1};
use zeroize::Zeroizing;

wire_struct! {
    /// `TPM_CHANGEAUTH_VALIDATE` (part 2, section 5.11).
    pub(crate) struct ChangeAuthValidate {
        new_auth: AuthData,
        n1: Nonce,
    }
}

/// `TPM_ChangeAuthAsymStart` (section 27.4.1): an ephemeral key, vouched for by an identity.
pub(crate) fn tpm_change_auth_asym_start(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.get()?;
    let parms: KeyParms = call.only()?;
    let [handle, _] = call.handles;
    let identity = tpm.key_to_use(handle, call.locality)?;
    if identity.blob.usage != KEY_IDENTITY {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    tpm.authorize_key(call, 0, &identity, KeyUse::Private)?;
    let blob = KeyBlob {
        v12: false,
        usage: KEY_AUTHCHANGE,
        flags: FLAG_VOLATILE,
        auth_data_usage: AUTH_NEVER,
        parms,
        pcr_info: Vec::new(),
        modulus: Vec::new(),
        enc_data: Vec::new(),
    };
    blob.check_properties()?;
    let (bits, exponent) = blob.parms.rsa_details()?;
    let rsa = call.generated_key(bits, exponent)?;
    let none = || Zeroizing::new([0; 20]);
    let key = Rc::new(Key::create(blob, rsa, PT_ASYM, none(), none()));
    let handle = tpm.new_handle(HandleKind::Key);
    tpm.add_key(key.clone(), false, handle)?;
    let loaded = LoadedKey { handle, key: key.clone(), parent_pcr_status: false, owner_evict: false };
    let info = certify_info(&loaded, &nonce, None);
    let signature = tpm.sign_digest(&identity, &sha1(&[&info]))?;
    call.out.extend_from_slice(&info);
    call.put(&signature).put(&handle).put(&key.blob);
    Ok(())
}

/// `TPM_ChangeAuthAsymFinish` (section 27.4.2): handles of the parent and the ephemeral key.
pub(crate) fn tpm_change_auth_asym_finish(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (kind, link): (u16, [u8; 20]) = (call.get()?, call.get()?);
    let (enc_new_auth, enc_data): (Vec<u8>, Vec<u8>) = (call.get()?, call.only()?);
    let [parent_handle, ephemeral_handle] = call.handles;
    let parent = tpm.key_to_use(parent_handle, call.locality)?;
    if call.has_auths(0) {
        needs_no_auth(&parent, KeyUse::Private)?;
    } else if parent_handle == KH_SRK {
        // Under the storage root key the owner authorizes.
        let owner = tpm.permanent.owner_auth.clone().ok_or(codes::AUTHFAIL)?;
        tpm.authorize(call, 0, &owner, &Entity::OWNER, Protocol::Any)?;
    } else {
        tpm.authorize_key(call, 0, &parent, KeyUse::Private)?;
    }
    if kind != u16::from(ET_KEY) {
        return Err(codes::WRONG_ENTITYTYPE.into());
    }
    if !parent.is_storage() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let ephemeral = tpm.key_to_use(ephemeral_handle, call.locality)?;
    if ephemeral.blob.usage != KEY_AUTHCHANGE {
        return Err(codes::BAD_PARAMETER.into());
    }
    tpm.check_lockout()?;
    let mut store: StoreAsymKey = tpm.unwrap(&parent, &enc_data)?;
    if !store.is_key() {
        return Err(codes::INVALID_STRUCTURE.into());
    }
    let plain = ephemeral.rsa.decrypt_oaep(&mut tpm.rng, &enc_new_auth).map_err(|_| codes::DECRYPT_ERROR)?;
    let new = ChangeAuthValidate::from_bytes(&plain, codes::INVALID_STRUCTURE)?;
    if !ct_eq(&hmac_sha1(&*store.usage_auth, &[&*new.new_auth]), &link) {
        tpm.count_failure();
        return Err(codes::AUTHFAIL.into());
    }
    store.usage_auth = new.new_auth.clone();
    let out = tpm.wrap(&parent, &store)?;
    let salt: Nonce = tpm.rng.bytes();
    let proof = hmac_sha1(&*new.new_auth, &[&salt, &new.n1]);
    tpm.remove_key(ephemeral_handle)?;
    call.put(&out).put(&salt).put(&proof);
    Ok(())
}

#[cfg(test)]
mod tests;
