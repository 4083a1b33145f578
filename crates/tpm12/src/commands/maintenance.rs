//! Maintenance (part 3, section 12): optional, and off unless the owner of the engine wants it. It carries everything that hangs
//! from one TPM's storage root key over to another TPM, with the help of whoever holds the maintenance key.

use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::key::{
    ES_RSAESOAEP, FLAG_MIGRATABLE, KEY_STORAGE, Key, KeyBlob, PT_ASYM, PT_MAINT, PubKey, SS_NONE,
};
use crate::structs::migration::{decode, encode, mask};
use crate::structs::{AuthData, Nonce};
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::{ct_eq, mgf1_sha1, sha1};
use zeroize::Zeroizing;

impl Tpm {
    fn need_maintenance(&self) -> Result<(), Code> {
        if self.permanent.flags.allow_maintenance { Ok(()) } else { Err(codes::DISABLED_CMD) }
    }

    fn owner_secret(&self) -> Result<AuthData, Code> {
        self.permanent.owner_auth.clone().ok_or(codes::AUTHFAIL)
    }
}

/// The mask that the owner's authorization gives (section 12.1, action 10).
fn owner_mask(owner: &AuthData, size: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(vec![0; size]);
    mgf1_sha1(&[&**owner], &mut out);
    out
}

/// `TPM_CreateMaintenanceArchive` (section 12.1).
pub(crate) fn tpm_create_maintenance_archive(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let generate_random: bool = call.only()?;
    tpm.need_maintenance()?;
    tpm.authorize_owner(call, 0)?;
    let recipient = tpm.permanent.maintenance_pub.as_ref().ok_or(codes::KEYNOTFOUND)?.rsa()?;
    let srk = tpm.permanent.srk.clone().ok_or(codes::NOSRK)?;
    let owner = tpm.owner_secret()?;
    let mut store = srk.store();
    store.usage_auth = tpm.permanent.proofs.tpm_proof.clone();
    let mut encoded = encode(&store, PT_MAINT, &owner)?;
    let mut random = Vec::new();
    if generate_random {
        random.resize(encoded.len(), 0);
        tpm.rng.fill(&mut random);
        mask(&mut encoded, &random)?;
    } else {
        let derived = owner_mask(&owner, encoded.len());
        mask(&mut encoded, &derived)?;
    }
    let enc_data = recipient.encrypt_oaep(&mut tpm.rng, &encoded).map_err(|_| codes::BAD_DATASIZE)?;
    let archive = KeyBlob { enc_data, ..srk.blob.clone() };
    tpm.permanent.edit().flags.maintenance_done = true;
    call.put_sized(&random).put_sized(&archive.to_bytes());
    Ok(())
}

/// `TPM_LoadMaintenanceArchive` (section 12.2), whose parameters the specification leaves to the vendor. Ours are three byte
/// strings behind their sizes: the archive, a `TPM_KEY` with the source's storage root key whose encrypted part the holder of the
/// maintenance key has encrypted to this TPM's storage root key; the maintenance key's PKCS #1 v1.5 signature over SHA-1 of
/// archive and random; and the random, empty if the mask is the owner's authorization.
pub(crate) fn tpm_load_maintenance_archive(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (archive, signature, random): (Vec<u8>, Vec<u8>, Vec<u8>) = (call.get()?, call.get()?, call.only()?);
    tpm.need_maintenance()?;
    tpm.authorize_owner(call, 0)?;
    let sender = tpm.permanent.maintenance_pub.as_ref().ok_or(codes::KEYNOTFOUND)?.rsa()?;
    sender.verify_pkcs1_sha1(&sha1(&[&archive, &random]), &signature).map_err(|_| codes::BAD_SIGNATURE)?;
    let blob = KeyBlob::from_bytes(&archive, codes::BAD_PARAMETER).map_err(|_| codes::BAD_PARAMETER)?;
    let srk = tpm.permanent.srk.clone().ok_or(codes::NOSRK)?;
    let owner = tpm.owner_secret()?;
    let mut encoded = srk.rsa.decrypt_oaep(&mut tpm.rng, &blob.enc_data).map_err(|_| codes::DECRYPT_ERROR)?;
    if random.is_empty() {
        let derived = owner_mask(&owner, encoded.len());
        mask(&mut encoded, &derived)?;
    } else {
        mask(&mut encoded, &random)?;
    }
    let mut store = decode(&mut encoded)?;
    if store.payload != PT_MAINT || !ct_eq(&store.pub_data_digest, &blob.public_digest()) {
        return Err(codes::BAD_MIGRATION.into());
    }
    blob.check_properties()?;
    if blob.usage != KEY_STORAGE || blob.has(FLAG_MIGRATABLE) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    // The archive's label is the source owner's authorization, its usage authorization is the source's proof.
    let source_owner = core::mem::replace(&mut store.migration_auth, store.usage_auth.clone());
    let proof = core::mem::replace(&mut store.usage_auth, source_owner.clone());
    store.payload = PT_ASYM;
    let new_srk = Key::join(KeyBlob { enc_data: Vec::new(), ..blob }, store)?;

    tpm.clear_owner();
    let permanent = tpm.permanent.edit();
    permanent.proofs.tpm_proof = proof;
    permanent.srk = Some(Rc::new(new_srk));
    permanent.owner_auth = Some(if random.is_empty() { owner } else { source_owner });
    permanent.flags.read_pubek = false;
    permanent.flags.maintenance_done = true;
    call.end_session(0);
    Ok(())
}

/// `TPM_KillMaintenanceFeature` (section 12.3): until the TPM is cleared.
pub(crate) fn tpm_kill_maintenance_feature(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    tpm.permanent.edit().flags.allow_maintenance = false;
    Ok(())
}

/// `TPM_LoadManuMaintPub` (section 12.4): once in a TPM's life.
pub(crate) fn tpm_load_manu_maint_pub(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.get()?;
    let key: PubKey = call.only()?;
    if tpm.permanent.maintenance_pub.is_some() {
        return Err(codes::DISABLED_CMD.into());
    }
    let (bits, _) = key.parms.rsa_details()?;
    let weak = bits < 2048 || key.parms.enc_scheme != ES_RSAESOAEP || key.parms.sig_scheme != SS_NONE;
    if weak || key.rsa().is_err() {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    let checksum = sha1(&[&key.to_bytes(), &nonce]);
    tpm.permanent.edit().maintenance_pub = Some(key);
    call.put(&checksum);
    Ok(())
}

/// `TPM_ReadManuMaintPub` (section 12.5).
pub(crate) fn tpm_read_manu_maint_pub(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.only()?;
    let key = tpm.permanent.maintenance_pub.as_ref().ok_or(codes::KEYNOTFOUND)?;
    let checksum = sha1(&[&key.to_bytes(), &nonce]);
    call.put(&checksum);
    Ok(())
}

#[cfg(test)]
mod tests;
