//! Certified migratable keys (part 3, sections 11.5 to 11.10): keys whose ways out were fixed when they were made.

use super::migration_auth;
use crate::auth::{KeyUse, Protocol};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::storage::set_creation;
use crate::structs::Digest;
use crate::structs::key::{
    ALG_RSA, ES_NONE, FLAG_MIGRATABLE, FLAG_MIGRATE_AUTHORITY, KEY_AUTHCHANGE, KEY_IDENTITY, Key, KeyBlob,
    PT_CMK_MIGRATE, PT_MIGRATE_EXTERNAL, PT_MIGRATE_RESTRICTED, PubKey, SS_INFO, SS_NONE, SS_SHA1,
};
use crate::structs::migration::{
    CmkAuth, CmkMaApproval, CmkSigTicket, MS_RESTRICT_APPROVE, MS_RESTRICT_MIGRATE, MigrationKeyAuth, MsaComposite,
    ticket,
};
use crate::tpm::Tpm;
use crate::wire::{Tag, Wire};
use alloc::vec::Vec;
use tpm_crypto::{ct_eq, sha1};
use zeroize::Zeroizing;

/// Bits of `TPM_CMK_DELEGATE` (part 2, section 5.17) that mean something.
const DELEGATE_MASK: u32 = 0xf800_0000;

impl Tpm {
    /// Whether one of the authorities has signed the restriction, as `TPM_CMK_CreateTicket` attests.
    fn check_sig_ticket(&self, list: &MsaComposite, restriction: &[u8], sig_ticket: &Digest) -> Result<(), Code> {
        let signed_data = sha1(&[restriction]);
        let fits = |authority: &Digest| {
            let content = CmkSigTicket { tag: Tag, ver_key_digest: *authority, signed_data };
            ct_eq(&ticket(&self.permanent.proofs.tpm_proof, &content), sig_ticket)
        };
        if list.0.iter().any(fits) { Ok(()) } else { Err(codes::MA_TICKET_SIGNATURE) }
    }

    /// A storage key that never leaves this TPM.
    fn check_cmk_parent(&self, parent: &Key) -> Result<(), Code> {
        let stays = !parent.is_migratable() && self.is_proof(&parent.migration_auth);
        if parent.is_storage() && stays { Ok(()) } else { Err(codes::INVALID_KEYUSAGE) }
    }
}

/// `TPM_CMK_SetRestrictions` (section 11.5).
pub(crate) fn tpm_cmk_set_restrictions(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let restriction: u32 = call.only()?;
    tpm.authorize_owner(call, 0)?;
    if restriction & !DELEGATE_MASK != 0 {
        return Err(codes::BAD_PARAMETER.into());
    }
    tpm.permanent.edit().restrict_delegate = restriction;
    Ok(())
}

/// `TPM_CMK_ApproveMA` (section 11.6).
pub(crate) fn tpm_cmk_approve_ma(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let authority: Digest = call.only()?;
    tpm.authorize_owner(call, 0)?;
    let approval = ticket(&tpm.permanent.proofs.tpm_proof, &CmkMaApproval { tag: Tag, authority });
    call.put(&approval);
    Ok(())
}

/// `TPM_CMK_CreateKey` (section 11.7).
pub(crate) fn tpm_cmk_create_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let usage_auth: [u8; 20] = call.get()?;
    let mut blob: KeyBlob = call.get()?;
    let (approval, authority): (Digest, Digest) = (call.get()?, call.only()?);
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key_by(call, 0, &parent, KeyUse::Private, Protocol::Osap)?;
    blob.check_properties()?;
    if !parent.is_storage() || parent.is_migratable() || !blob.has(FLAG_MIGRATABLE | FLAG_MIGRATE_AUTHORITY) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let approved = ticket(&tpm.permanent.proofs.tpm_proof, &CmkMaApproval { tag: Tag, authority });
    if !ct_eq(&approved, &approval) {
        return Err(codes::MA_AUTHORITY.into());
    }
    if [KEY_IDENTITY, KEY_AUTHCHANGE].contains(&blob.usage) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    if !blob.v12 {
        return Err(codes::INVALID_STRUCTURE.into());
    }
    let usage_auth = call.decrypt_auth(0, &usage_auth, false)?;
    let (bits, exponent) = blob.parms.rsa_details()?;
    let rsa = call.generated_key(bits, exponent)?;
    set_creation(tpm, call, &mut blob)?;
    let pub_key_digest = PubKey { parms: blob.parms.clone(), modulus: rsa.public().modulus() }.digest();
    let migration_auth = Zeroizing::new(migration_auth(tpm, &authority, &pub_key_digest));
    let key = Key::create(blob, rsa, PT_MIGRATE_RESTRICTED, usage_auth, migration_auth);
    let wrapped = KeyBlob { enc_data: tpm.wrap(&parent, &key.store())?, ..key.blob.clone() };
    call.put(&wrapped);
    Ok(())
}

/// `TPM_CMK_CreateTicket` (section 11.8): the TPM has verified an authority's signature.
pub(crate) fn tpm_cmk_create_ticket(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let key: PubKey = call.get()?;
    let signed_data: Digest = call.get()?;
    let signature: Vec<u8> = call.only()?;
    tpm.authorize_owner(call, 0)?;
    if key.parms.algorithm != ALG_RSA {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    if key.parms.enc_scheme != ES_NONE {
        return Err(codes::INAPPROPRIATE_ENC.into());
    }
    if ![SS_SHA1, SS_INFO].contains(&key.parms.sig_scheme) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    key.rsa()?.verify_pkcs1_sha1(&signed_data, &signature).map_err(|_| codes::BAD_SIGNATURE)?;
    let content = CmkSigTicket { tag: Tag, ver_key_digest: key.digest(), signed_data };
    let sig_ticket = ticket(&tpm.permanent.proofs.tpm_proof, &content);
    call.put(&sig_ticket);
    Ok(())
}

/// `TPM_CMK_CreateBlob` (section 11.9).
pub(crate) fn tpm_cmk_create_blob(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let kind: u16 = call.get()?;
    let destination: MigrationKeyAuth = call.get()?;
    let source: Digest = call.get()?;
    let list: MsaComposite = call.get_sized()?;
    let (restriction, sig_ticket): (Vec<u8>, Vec<u8>) = (call.get()?, call.get()?);
    let enc_data: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &parent, KeyUse::Private)?;
    if kind != destination.scheme {
        return Err(codes::BAD_MODE.into());
    }
    tpm.check_cmk_parent(&parent)?;
    let store = tpm.unwrap(&parent, &enc_data)?;
    tpm.check_destination(&destination)?;
    if ![PT_MIGRATE_RESTRICTED, PT_MIGRATE_EXTERNAL].contains(&store.payload) {
        return Err(codes::INVALID_STRUCTURE.into());
    }
    let msa_digest = sha1(&[&list.to_bytes()]);
    if !ct_eq(&migration_auth(tpm, &msa_digest, &source), &*store.migration_auth) {
        return Err(codes::MA_AUTHORITY.into());
    }
    match kind {
        MS_RESTRICT_MIGRATE => {
            if !list.0.contains(&destination.key.digest()) {
                return Err(codes::MA_TICKET_SIGNATURE.into());
            }
            // `TPM_AuthorizeMigrationKey` has seen to algorithm and encryption scheme.
            if destination.key.parms.sig_scheme != SS_NONE {
                return Err(codes::INVALID_KEYUSAGE.into());
            }
            if !restriction.is_empty() || !sig_ticket.is_empty() {
                return Err(codes::BAD_PARAMETER.into());
            }
        }
        MS_RESTRICT_APPROVE => {
            let sig_ticket = Digest::from_bytes(&sig_ticket, codes::BAD_PARAM_SIZE)?;
            tpm.check_sig_ticket(&list, &restriction, &sig_ticket)?;
            let restriction = CmkAuth::from_bytes(&restriction, codes::BAD_PARAM_SIZE)?;
            if restriction.destination != destination.key.digest() {
                return Err(codes::MA_DESTINATION.into());
            }
            if restriction.source != source {
                return Err(codes::MA_SOURCE.into());
            }
        }
        _ => return Err(codes::BAD_PARAMETER.into()),
    }
    let label = Zeroizing::new(sha1(&[&msa_digest, &source]));
    tpm.send_away(call, &destination.key, &store, PT_CMK_MIGRATE, &label)
}

/// `TPM_CMK_ConvertMigration` (section 11.10).
pub(crate) fn tpm_cmk_convert_migration(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let restriction: CmkAuth = call.get()?;
    let sig_ticket: Digest = call.get()?;
    let migrated: KeyBlob = call.get()?;
    let list: MsaComposite = call.get_sized()?;
    let random: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &parent, KeyUse::Private)?;
    if !parent.is_storage() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let mut store = tpm.take_in(&parent, &migrated.enc_data, &random)?;
    let (msa_digest, source) = (sha1(&[&list.to_bytes()]), migrated.public().digest());
    if !ct_eq(&sha1(&[&msa_digest, &source]), &*store.migration_auth) {
        return Err(codes::MIGRATEFAIL.into());
    }
    tpm.check_cmk_parent(&parent)?;
    if store.payload != PT_CMK_MIGRATE {
        return Err(codes::BAD_MIGRATION.into());
    }
    tpm.check_sig_ticket(&list, &restriction.to_bytes(), &sig_ticket)?;
    if restriction.destination != parent.blob.public().digest() {
        return Err(codes::MA_DESTINATION.into());
    }
    let both = migrated.has(FLAG_MIGRATABLE | FLAG_MIGRATE_AUTHORITY);
    store.payload = PT_MIGRATE_EXTERNAL;
    store.migration_auth = Zeroizing::new(migration_auth(tpm, &msa_digest, &source));
    // The private part must be the one of the public key that was certified.
    let key = Key::join(migrated, store)?;
    if !both {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    if restriction.source != source {
        return Err(codes::MA_SOURCE.into());
    }
    let wrapped = tpm.wrap(&parent, &key.store())?;
    call.put_sized(&wrapped);
    Ok(())
}

#[cfg(test)]
mod tests;
