//! Changing authorizations (part 3, section 17).

use crate::auth::session::{ET_DATA, ET_KEY, ET_OWNER, ET_SRK, Entity, PID_ADCP};
use crate::auth::{KeyUse, Protocol};
use crate::call::{Call, Done};
use crate::codes;
use crate::structs::key::{Key, KeyBlob, StoreAsymKey};
use crate::structs::seal::{PT_SEAL, SealedData};
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// `TPM_ChangeAuth` (section 17.1): of a key or of sealed data. The new value is encrypted with the parent's OSAP session.
pub(crate) fn tpm_change_auth(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let protocol: u16 = call.get()?;
    let enc_auth: [u8; 20] = call.get()?;
    let kind: u16 = call.get()?;
    let enc_data: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key_by(call, 0, &parent, KeyUse::Private, Protocol::Osap)?;
    if protocol != PID_ADCP {
        return Err(codes::BAD_PARAMETER.into());
    }
    if !parent.is_storage() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let new_auth = call.decrypt_auth(0, &enc_auth, false)?;
    let plain = parent.rsa.decrypt_oaep(&mut tpm.rng, &enc_data).map_err(|_| codes::DECRYPT_ERROR)?;
    let changed = if kind == u16::from(ET_KEY) {
        let mut store = StoreAsymKey::from_bytes(&plain, codes::INVALID_STRUCTURE)?;
        if !store.is_key() {
            return Err(codes::INVALID_STRUCTURE.into());
        }
        tpm.authorize(call, 1, &store.usage_auth, &Entity::BLOB, Protocol::Oiap)?;
        store.usage_auth = new_auth;
        store.to_secret()
    } else if kind == u16::from(ET_DATA) {
        let mut sealed = SealedData::from_bytes(&plain, codes::INVALID_STRUCTURE)?;
        if sealed.payload != PT_SEAL || !tpm.is_proof(&sealed.tpm_proof) {
            return Err(codes::NOTSEALED_BLOB.into());
        }
        tpm.authorize(call, 1, &sealed.auth, &Entity::BLOB, Protocol::Oiap)?;
        sealed.auth = new_auth;
        sealed.to_secret()
    } else {
        return Err(codes::WRONG_ENTITYTYPE.into());
    };
    let out = parent.rsa.public().encrypt_oaep(&mut tpm.rng, &changed).map_err(|_| codes::BAD_DATASIZE)?;
    call.end_session(1);
    call.put(&out);
    Ok(())
}

/// `TPM_ChangeAuthOwner` (section 17.2): of the owner or of the storage root key.
pub(crate) fn tpm_change_auth_owner(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let protocol: u16 = call.get()?;
    let enc_auth: [u8; 20] = call.get()?;
    let kind: u16 = call.only()?;
    tpm.authorize_owner_by(call, 0, Protocol::Osap)?;
    if protocol != PID_ADCP {
        return Err(codes::BAD_PARAMETER.into());
    }
    let new_auth = call.decrypt_auth(0, &enc_auth, false)?;
    if kind == u16::from(ET_OWNER) {
        tpm.permanent.edit().owner_auth = Some(new_auth);
    } else if kind == u16::from(ET_SRK) {
        let srk = tpm.permanent.srk.clone().ok_or(codes::NOSRK)?;
        let store = StoreAsymKey { usage_auth: new_auth, ..srk.store() };
        let changed = Key::join(KeyBlob { ..srk.blob.clone() }, store)?;
        tpm.revoke_sessions_of(&Entity::key(srk.pub_data_digest));
        tpm.permanent.edit().srk = Some(Rc::new(changed));
    } else {
        return Err(codes::WRONG_ENTITYTYPE.into());
    }
    tpm.revoke_sessions_of(&Entity::OWNER);
    Ok(())
}

#[cfg(test)]
mod tests;
