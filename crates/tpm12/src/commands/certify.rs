//! Certification of keys (part 3, sections 13.8 and 13.9).

use crate::auth::KeyUse;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::migration::{check_migration_auth, migration_authority};
use crate::state::volatile::LoadedKey;
use crate::structs::Nonce;
use crate::structs::key::{
    FLAG_MIGRATE_AUTHORITY, KEY_BIND, KEY_IDENTITY, KEY_LEGACY, KEY_SIGNING, KEY_STORAGE, Key, PT_ASYM, SS_INFO,
    SS_SHA1,
};
use crate::structs::pcr::{ALL_LOCALITIES, PcrInfo, PcrInfoShort, PcrRestriction};
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::Writer;

/// What `TPM_CERTIFY_INFO` and `TPM_CERTIFY_INFO2` (part 2, sections 11.1 and 11.2) have in common.
fn put_common(w: &mut Writer<'_>, target: &LoadedKey, nonce: &Nonce) {
    let blob = &target.key.blob;
    w.u16(blob.usage).u32(blob.flags).u8(blob.auth_data_usage);
    blob.parms.put(w);
    w.bytes(&sha1(&[&blob.modulus])).bytes(nonce);
    target.parent_pcr_status.put(w);
}

/// `TPM_CERTIFY_INFO` of a key whose restriction, if any, is to PCRs below 16.
pub(crate) fn certify_info(target: &LoadedKey, nonce: &Nonce, restriction: Option<&PcrRestriction>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.bytes(&[1, 1, 0, 0]);
    put_common(&mut w, target, nonce);
    let pcr_info = restriction.map(|restriction| {
        let (selection, digest, _) = restriction.release();
        PcrInfo { selection: selection.clone(), digest_at_release: *digest, digest_at_creation: [0; 20] }.to_bytes()
    });
    w.sized32(&pcr_info.unwrap_or_default());
    out
}

fn certify_info2(
    target: &LoadedKey,
    nonce: &Nonce,
    restriction: Option<&PcrRestriction>,
    payload: u8,
    authority: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.u16(0x0029).u8(0).u8(payload);
    put_common(&mut w, target, nonce);
    let pcr_info = restriction.map(|restriction| {
        let (selection, digest, localities) = restriction.release();
        let short =
            PcrInfoShort { selection: selection.clone(), locality_at_release: localities, digest_at_release: *digest };
        short.to_bytes()
    });
    w.sized32(&pcr_info.unwrap_or_default()).sized32(authority);
    out
}

/// Whether a key may certify, and another may be certified by it.
fn check_usages(cert: &Key, target: &Key) -> Result<(), Code> {
    let certifies = [KEY_SIGNING, KEY_IDENTITY, KEY_LEGACY].contains(&cert.blob.usage);
    let certifiable = [KEY_SIGNING, KEY_STORAGE, KEY_IDENTITY, KEY_BIND, KEY_LEGACY].contains(&target.blob.usage);
    if certifies && certifiable { Ok(()) } else { Err(codes::INVALID_KEYUSAGE) }
}

fn check_scheme(cert: &Key) -> Result<(), Code> {
    if [SS_SHA1, SS_INFO].contains(&cert.blob.parms.sig_scheme) { Ok(()) } else { Err(codes::BAD_KEY_PROPERTY) }
}

fn answer(tpm: &mut Tpm, call: &mut Call<'_>, cert: &Key, info: &[u8]) -> Done {
    let signature = tpm.sign_digest(cert, &sha1(&[info]))?;
    call.out.extend_from_slice(info);
    call.put(&signature);
    Ok(())
}

/// `TPM_CertifyKey` (section 13.8): handles of the certifying key and the key to certify.
pub(crate) fn tpm_certify_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.only()?;
    let [cert_handle, target_handle] = call.handles;
    let cert = tpm.key_to_use(cert_handle, call.locality)?;
    tpm.key_to_read(target_handle, call.locality)?;
    let target = tpm.loaded_key(target_handle)?;
    check_scheme(&cert)?;
    tpm.authorize_keys(call, (&cert, KeyUse::Private), (&target.key, KeyUse::Public))?;
    if target.key.payload != PT_ASYM {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    if cert.blob.usage == KEY_IDENTITY && target.key.is_migratable() {
        return Err(codes::MIGRATEFAIL.into());
    }
    check_usages(&cert, &target.key)?;
    let restriction = target.key.blob.restriction()?;
    let info = match &restriction {
        Some(restriction) if needs_long_form(restriction) => {
            certify_info2(&target, &nonce, Some(restriction), PT_ASYM, &[])
        }
        restriction => certify_info(&target, &nonce, restriction.as_ref()),
    };
    answer(tpm, call, &cert, &info)
}

/// Whether a restriction says more than TPM 1.1 could: a PCR from 16 on, or localities.
fn needs_long_form(restriction: &PcrRestriction) -> bool {
    let (selection, _, localities) = restriction.release();
    localities != ALL_LOCALITIES || selection.indices().any(|pcr| pcr >= 16)
}

/// `TPM_CertifyKey2` (section 13.9): handles of the key to certify and the certifying key; certifies migratable keys of a
/// migration authority, too.
pub(crate) fn tpm_certify_key2(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (migration_pub_digest, nonce): ([u8; 20], Nonce) = (call.get()?, call.only()?);
    let [target_handle, cert_handle] = call.handles;
    let cert = tpm.key_to_use(cert_handle, call.locality)?;
    tpm.key_to_read(target_handle, call.locality)?;
    let target = tpm.loaded_key(target_handle)?;
    check_scheme(&cert)?;
    tpm.authorize_keys(call, (&target.key, KeyUse::Public), (&cert, KeyUse::Private))?;
    let certified_migratable = target.key.blob.has(FLAG_MIGRATE_AUTHORITY);
    if cert.blob.usage == KEY_IDENTITY && target.key.is_migratable() && !certified_migratable {
        return Err(codes::MIGRATEFAIL.into());
    }
    check_usages(&cert, &target.key)?;
    let authority = match target.key.payload {
        PT_ASYM => Vec::new(),
        payload => {
            check_migration_auth(tpm, &target.key, &migration_pub_digest)?;
            migration_authority(&migration_pub_digest, payload).to_vec()
        }
    };
    let restriction = target.key.blob.restriction()?;
    let info = certify_info2(&target, &nonce, restriction.as_ref(), target.key.payload, &authority);
    answer(tpm, call, &cert, &info)
}

#[cfg(test)]
mod tests;
