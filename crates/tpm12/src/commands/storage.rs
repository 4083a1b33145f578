//! Storage functions (part 3, section 10).

use crate::auth::session::{ENC_AES128_CTR, ENC_XOR, Entity};
use crate::auth::{KeyUse, Protocol, needs_no_auth};
use crate::call::{Call, Done, Proof};
use crate::codes::{self, Code};
use crate::structs::key::{
    ES_RSAESOAEP, ES_RSAESPKCS, FLAG_MIGRATE_AUTHORITY, KEY_AUTHCHANGE, KEY_BIND, KEY_IDENTITY, KEY_LEGACY, Key,
    KeyBlob, PT_ASYM, PT_MIGRATE_EXTERNAL, PT_MIGRATE_RESTRICTED, StoreAsymKey,
};
use crate::structs::pcr::PcrRestriction;
use crate::structs::seal::{PT_SEAL, SealedData, StoredData};
use crate::tpm::{KH_SRK, Tpm};
use crate::wire::Wire;
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::{aes_ctr, ct_eq, mgf1_sha1, sha1};
use zeroize::Zeroizing;

/// `TPM_PT_BIND`.
const PT_BIND: u8 = 2;
/// `TPM_ET_KEY`, in the low byte of an entity type.
const ET_KEY: u16 = 5;

impl Tpm {
    /// Encrypts a key's private part to its parent.
    pub(crate) fn wrap(&mut self, parent: &Key, store: &StoreAsymKey) -> Result<Vec<u8>, Code> {
        let plain = store.to_secret();
        parent.rsa.public().encrypt_oaep(&mut self.rng, &plain).map_err(|_| codes::BAD_DATASIZE)
    }

    /// Decrypts what [`Self::wrap`] made.
    pub(crate) fn unwrap(&mut self, parent: &Key, enc_data: &[u8]) -> Result<StoreAsymKey, Code> {
        let plain = parent.rsa.decrypt_oaep(&mut self.rng, enc_data).map_err(|_| codes::DECRYPT_ERROR)?;
        StoreAsymKey::from_bytes(&plain, codes::INVALID_STRUCTURE)
    }
}

/// `TPM_Seal` (section 10.1).
pub(crate) fn tpm_seal(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let enc_auth: [u8; 20] = call.get()?;
    let (pcr_info, data): (Vec<u8>, Zeroizing<Vec<u8>>) = (call.get()?, call.only()?);
    let key = authorize_sealing(tpm, call, &data)?;
    let long = pcr_info.starts_with(&[0x00, 0x06]);
    let stored = StoredData {
        v12: long,
        entity_type: 0,
        seal_info: creation_info(tpm, call, &pcr_info, long)?,
        enc_data: Vec::new(),
    };
    seal(tpm, call, &key, &enc_auth, stored, data)
}

/// `TPM_Sealx` (section 10.7): the data comes encrypted with the session's secret.
pub(crate) fn tpm_sealx(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let enc_auth: [u8; 20] = call.get()?;
    let (pcr_info, mut data): (Vec<u8>, Zeroizing<Vec<u8>>) = (call.get()?, call.only()?);
    let key = authorize_sealing(tpm, call, &data)?;
    let seal_info = creation_info(tpm, call, &pcr_info, true)?;
    let proof = call.proofs.first().and_then(Option::as_ref).ok_or(codes::AUTHFAIL)?;
    crypt(proof.adip, proof, &mut data)?;
    let entity_type = match proof.adip {
        // Zero would mean that the data is not encrypted when it is unsealed.
        ENC_XOR => ET_KEY,
        scheme => u16::from(scheme) << 8,
    };
    seal(tpm, call, &key, &enc_auth, StoredData { v12: true, entity_type, seal_info, enc_data: Vec::new() }, data)
}

fn authorize_sealing(tpm: &mut Tpm, call: &mut Call<'_>, data: &[u8]) -> Result<Rc<Key>, Code> {
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key_by(call, 0, &key, KeyUse::Private, Protocol::Osap)?;
    if data.is_empty() {
        return Err(codes::BAD_PARAMETER);
    }
    if !key.is_storage() || key.is_migratable() {
        return Err(codes::INVALID_KEYUSAGE);
    }
    Ok(key)
}

/// The PCR restriction with the PCRs and locality of the moment filled in.
fn creation_info(tpm: &Tpm, call: &Call<'_>, pcr_info: &[u8], long: bool) -> Result<Vec<u8>, Code> {
    let restriction = PcrRestriction::parse(pcr_info, long).map_err(|_| codes::BADINDEX)?;
    let Some(mut restriction) = restriction else { return Ok(Vec::new()) };
    restriction.check()?;
    restriction.set_creation(&tpm.volatile.pcrs, call.locality);
    Ok(restriction.to_bytes())
}

fn seal(
    tpm: &mut Tpm,
    call: &mut Call<'_>,
    key: &Key,
    enc_auth: &[u8; 20],
    mut stored: StoredData,
    data: Zeroizing<Vec<u8>>,
) -> Done {
    let sealed = SealedData {
        payload: PT_SEAL,
        auth: call.decrypt_auth(0, enc_auth, false)?,
        tpm_proof: tpm.permanent.proofs.tpm_proof.clone(),
        stored_digest: stored.digest(),
        data,
    };
    let plain = sealed.to_secret();
    stored.enc_data = key.rsa.public().encrypt_oaep(&mut tpm.rng, &plain).map_err(|_| codes::BAD_DATASIZE)?;
    call.put(&stored);
    Ok(())
}

/// Encrypts or decrypts data with a session's secret, as `TPM_Sealx` does.
fn crypt(scheme: u8, proof: &Proof, data: &mut [u8]) -> Result<(), Code> {
    match scheme {
        ENC_XOR => mgf1_sha1(&[&proof.nonce_even, &proof.nonce_odd, b"XOR", &*proof.key], data),
        ENC_AES128_CTR => {
            let digest = sha1(&[&proof.nonce_even, &proof.nonce_odd]);
            let (mut key, mut iv) = (Zeroizing::new([0; 16]), [0; 16]);
            key.iter_mut().zip(proof.key.iter()).for_each(|(to, from)| *to = *from);
            iv.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
            aes_ctr(&key, &iv, data);
        }
        _ => return Err(codes::BAD_MODE),
    }
    Ok(())
}

/// `TPM_Unseal` (section 10.2): with the authorizations of key and data, or of the data alone if the key needs none.
pub(crate) fn tpm_unseal(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let stored: StoredData = call.only()?;
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    let both = call.has_auths(2);
    if both {
        tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    } else {
        needs_no_auth(&key, KeyUse::Private)?;
    }
    if !key.is_storage() || key.is_migratable() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let mut sealed = open_sealed(tpm, &key, &stored).map_err(|_| codes::NOTSEALED_BLOB)?;
    if let Some(restriction) = stored.restriction()? {
        let (selection, digest, localities) = restriction.release();
        tpm.check_pcrs(selection, digest)?;
        if localities >> call.locality & 1 == 0 {
            return Err(codes::BAD_LOCALITY.into());
        }
    }
    tpm.authorize(call, usize::from(both), &sealed.auth, &Entity::BLOB, Protocol::Oiap)?;
    if stored.entity_type != 0 {
        let proof = call.proofs.first_mut().and_then(Option::as_mut).filter(|_| both).ok_or(codes::AUTHFAIL)?;
        if proof.protocol == crate::auth::session::PID_OIAP {
            return Err(codes::BAD_MODE.into());
        }
        let [scheme, _] = stored.entity_type.to_be_bytes();
        crypt(scheme, proof, &mut sealed.data)?;
        proof.keep = false;
    }
    call.put_sized(&sealed.data);
    Ok(())
}

fn open_sealed(tpm: &mut Tpm, key: &Key, stored: &StoredData) -> Result<SealedData, Code> {
    let plain = key.rsa.decrypt_oaep(&mut tpm.rng, &stored.enc_data).map_err(|_| codes::NOTSEALED_BLOB)?;
    let sealed = SealedData::from_bytes(&plain, codes::NOTSEALED_BLOB)?;
    let own = tpm.is_proof(&sealed.tpm_proof) & ct_eq(&sealed.stored_digest, &stored.digest());
    if own && sealed.payload == PT_SEAL { Ok(sealed) } else { Err(codes::NOTSEALED_BLOB) }
}

/// `TPM_UnBind` (section 10.3).
pub(crate) fn tpm_unbind(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let data: Vec<u8> = call.only()?;
    if data.is_empty() {
        return Err(codes::BAD_PARAMETER.into());
    }
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    if ![KEY_BIND, KEY_LEGACY].contains(&key.blob.usage) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let scheme = key.blob.parms.enc_scheme;
    let plain = match scheme {
        ES_RSAESOAEP => key.rsa.decrypt_oaep(&mut tpm.rng, &data),
        ES_RSAESPKCS => key.rsa.decrypt_pkcs1(&mut tpm.rng, &data),
        _ => return Err(codes::INVALID_KEYUSAGE.into()),
    };
    let plain = plain.map_err(|_| codes::DECRYPT_ERROR)?;
    // Only a legacy key with the old padding takes data that is no TPM_BOUND_DATA (version 1.1.0.0, payload type).
    let out = match &plain[..] {
        all if scheme != ES_RSAESOAEP && key.blob.usage == KEY_LEGACY => all,
        [1, 1, 0, 0, PT_BIND, out @ ..] => out,
        _ => return Err(codes::INVALID_STRUCTURE.into()),
    };
    call.put_sized(out);
    Ok(())
}

/// `TPM_CreateWrapKey` (section 10.4).
pub(crate) fn tpm_create_wrap_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (usage_auth, migration_auth): ([u8; 20], [u8; 20]) = (call.get()?, call.get()?);
    let mut blob: KeyBlob = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key_by(call, 0, &parent, KeyUse::Private, Protocol::Osap)?;
    blob.check_properties()?;
    let confined = parent.is_migratable() && blob.flags & crate::structs::key::FLAG_MIGRATABLE == 0;
    let special = [KEY_IDENTITY, KEY_AUTHCHANGE].contains(&blob.usage) || blob.has(FLAG_MIGRATE_AUTHORITY);
    if !parent.is_storage() || confined || special {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let usage_auth = call.decrypt_auth(0, &usage_auth, false)?;
    let migration_auth = call.decrypt_auth(0, &migration_auth, true)?;
    let (bits, exponent) = blob.parms.rsa_details()?;
    let rsa = call.generated_key(bits, exponent)?;
    set_creation(tpm, call, &mut blob)?;
    let migratable = blob.has(crate::structs::key::FLAG_MIGRATABLE);
    let migration_auth = if migratable { migration_auth } else { tpm.permanent.proofs.tpm_proof.clone() };
    let key = Key::create(blob, rsa, PT_ASYM, usage_auth, migration_auth);
    let wrapped = KeyBlob { enc_data: tpm.wrap(&parent, &key.store())?, ..key.blob.clone() };
    call.put(&wrapped);
    Ok(())
}

/// Fills the PCRs and locality of the moment into a template.
pub(crate) fn set_creation(tpm: &Tpm, call: &Call<'_>, blob: &mut KeyBlob) -> Result<(), Code> {
    if let Some(mut restriction) = blob.restriction()? {
        restriction.set_creation(&tpm.volatile.pcrs, call.locality);
        blob.pcr_info = restriction.to_bytes();
    }
    Ok(())
}

/// `TPM_LoadKey2` (section 10.5): the handle is no part of what the response's HMAC covers.
pub(crate) fn tpm_load_key2(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.out_handle = Some(load_key(tpm, call)?);
    Ok(())
}

/// What both load commands do; the new handle.
pub(crate) fn load_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Result<u32, Code> {
    let blob: KeyBlob = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.loaded_key(handle)?;
    let parent_key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &parent_key, KeyUse::Private)?;
    if !parent_key.is_storage() {
        return Err(codes::INVALID_KEYUSAGE);
    }
    blob.check_properties()?;
    let store = tpm.unwrap(&parent_key, &blob.enc_data)?;
    if !ct_eq(&store.pub_data_digest, &blob.public_digest()) {
        return Err(codes::AUTHFAIL);
    }
    let payload = match blob.has(FLAG_MIGRATE_AUTHORITY) {
        true => [PT_MIGRATE_RESTRICTED, PT_MIGRATE_EXTERNAL].contains(&store.payload),
        false => store.payload == PT_ASYM,
    };
    let migratable = blob.has(crate::structs::key::FLAG_MIGRATABLE);
    let unfit = blob.usage == KEY_AUTHCHANGE || blob.usage == KEY_IDENTITY && migratable;
    if !payload || unfit || !migratable && !tpm.is_proof(&store.migration_auth) {
        return Err(codes::INVALID_KEYUSAGE);
    }
    let key = Rc::new(Key::join(blob, store)?);
    let uses_pcrs =
        |key: &Key| key.blob.restriction().is_ok_and(|info| info.is_some_and(|i| !i.release_selection().is_empty()));
    let parent_pcr_status = parent.parent_pcr_status || uses_pcrs(&parent_key);
    let handle = tpm.new_handle(crate::auth::session::HandleKind::Key);
    tpm.add_key(key, parent_pcr_status, handle)?;
    Ok(handle)
}

/// `TPM_GetPubKey` (section 10.6).
pub(crate) fn tpm_get_pub_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let [handle, _] = call.handles;
    let key = tpm.key_to_read(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Public)?;
    if handle == KH_SRK && !tpm.permanent.flags.read_srk_pub {
        return Err(codes::INVALID_KEYHANDLE.into());
    }
    call.put(&key.blob.public());
    Ok(())
}

#[cfg(test)]
mod tests;
