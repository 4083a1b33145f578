//! Auditing (part 3, section 8).

use crate::auth::KeyUse;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::crypto::sign_info;
use crate::dispatch::table::{self, ord};
use crate::structs::key::{KEY_IDENTITY, KEY_LEGACY, KEY_SIGNING, SS_INFO, SS_SHA1};
use crate::structs::{Digest, Nonce};
use crate::tpm::Tpm;
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::Writer;

/// What a new TPM audits: nothing, until its owner asks for it. (Which ordinals are audited at first is the manufacturer's choice.)
pub(crate) const AUDITED_BY_DEFAULT: [u32; 0] = [];

/// Ordinals in one answer of `TPM_GetAuditDigest`.
const MAX_LISTED: usize = 256;

/// Records an executed command if its ordinal was audited when it came (section 8.1).
pub(crate) fn record(tpm: &mut Tpm, call: &Call<'_>, out_digest: &Digest) -> Result<(), Code> {
    if !call.audited {
        return Ok(());
    }
    if tpm.volatile.audit_digest == [0; 20] {
        let permanent = tpm.permanent.edit();
        permanent.audit_counter = permanent.audit_counter.wrapping_add(1);
    }
    // Inside of an encrypted transport session only the ordinal (and success) is recorded.
    let hidden = call.wrapped.is_some_and(|wrapped| wrapped.encrypted);
    let ordinal = call.ordinal.to_be_bytes();
    let (input, output) = match hidden {
        true => (sha1(&[&ordinal]), sha1(&[&[0; 4], &ordinal])),
        false => (call.in_digest, *out_digest),
    };
    extend(tpm, 0x0012, &input);
    // What comes out of TPM_SaveState would be recorded after the state was saved.
    if call.ordinal != ord::SAVE_STATE {
        extend(tpm, 0x0013, &output);
    }
    Ok(())
}

/// Adds a `TPM_AUDIT_EVENT_IN` or `TPM_AUDIT_EVENT_OUT` (part 2, sections 14.1 and 14.2) to the digest.
fn extend(tpm: &mut Tpm, tag: u16, parameters: &Digest) {
    let mut event = Vec::new();
    Writer::new(&mut event).u16(tag).bytes(parameters).bytes(&counter_value(tpm));
    tpm.volatile.audit_digest = sha1(&[&tpm.volatile.audit_digest, &event]);
}

/// The audit counter as a `TPM_COUNTER_VALUE`.
fn counter_value(tpm: &Tpm) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).u16(0x000e).bytes(&[0; 4]).u32(tpm.permanent.audit_counter);
    out
}

/// The audited ordinals from `start` on, in order.
fn audited_from(tpm: &Tpm, start: u32) -> Vec<u32> {
    let mut list: Vec<u32> = tpm.permanent.audited.iter().copied().filter(|ordinal| *ordinal >= start).collect();
    list.sort_unstable();
    list
}

/// `TPM_GetAuditDigest` (section 8.3).
pub(crate) fn tpm_get_audit_digest(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let start: u32 = call.only()?;
    let list = audited_from(tpm, start);
    let more = list.len() > MAX_LISTED;
    let bytes: Vec<u8> = list.iter().take(MAX_LISTED).flat_map(|ordinal| ordinal.to_be_bytes()).collect();
    call.out.extend(counter_value(tpm));
    call.put(&tpm.volatile.audit_digest).put(&more).put(&bytes);
    Ok(())
}

/// `TPM_GetAuditDigestSigned` (section 8.4).
pub(crate) fn tpm_get_audit_digest_signed(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (close, replay): (bool, Nonce) = (call.get()?, call.only()?);
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    let usage = key.blob.usage;
    let signs = [KEY_SIGNING, KEY_IDENTITY, KEY_LEGACY].contains(&usage)
        && [SS_SHA1, SS_INFO].contains(&key.blob.parms.sig_scheme);
    if !signs || close && usage != KEY_IDENTITY {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let list: Vec<u8> = audited_from(tpm, 0).iter().flat_map(|ordinal| ordinal.to_be_bytes()).collect();
    let ordinals = sha1(&[&list]);
    let signed = [&tpm.volatile.audit_digest[..], &counter_value(tpm), &ordinals].concat();
    let signature = tpm.sign_digest(&key, &sha1(&[&sign_info(*b"ADIG", &replay, &signed)]))?;
    call.out.extend(counter_value(tpm));
    call.put(&tpm.volatile.audit_digest).put(&ordinals).put(&signature);
    if close {
        tpm.volatile.audit_digest = [0; 20];
        // What closes the audit is not the first event of the next one.
        call.audited = false;
    }
    Ok(())
}

/// `TPM_SetOrdinalAuditStatus` (section 8.5).
pub(crate) fn tpm_set_ordinal_audit_status(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (ordinal, audit): (u32, bool) = (call.get()?, call.only()?);
    tpm.authorize_owner(call, 0)?;
    let silent = [ord::GET_AUDIT_DIGEST, ord::GET_AUDIT_DIGEST_SIGNED].contains(&ordinal);
    if silent || table::find(ordinal, &tpm.options).is_none() {
        return Err(codes::BADINDEX.into());
    }
    let audited = &mut tpm.permanent.edit().audited;
    audited.retain(|known| *known != ordinal);
    if audit {
        audited.push(ordinal);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
