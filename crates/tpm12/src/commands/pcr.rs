//! Integrity collection and reporting (part 3, section 16).

use crate::auth::KeyUse;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::key::{KEY_IDENTITY, KEY_LEGACY, KEY_SIGNING, Key, SS_INFO, SS_SHA1};
use crate::structs::pcr::{PCR_COUNT, PcrInfoShort, Selection};
use crate::structs::{Digest, Nonce};
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::Writer;

/// `TPM_PCR_ATTRIBUTES` (part 2, section 8.7): localities as bit maps, none for a PCR that is never reset.
#[derive(Clone, Copy)]
struct Attributes {
    reset: u8,
    extend: u8,
}

/// The PC Client specification's PCRs (PC Client Implementation 1.21, section 3.2).
fn attributes(pcr: usize) -> Attributes {
    let (reset, extend) = match pcr {
        16 | 23 => (0x1f, 0x1f),
        17 | 18 => (0x10, 0x1c),
        19 => (0x10, 0x0c),
        20 => (0x14, 0x0e),
        21 | 22 => (0x04, 0x04),
        _ => (0x00, 0x1f),
    };
    Attributes { reset, extend }
}

/// Extends a PCR from a locality, and returns its new value. A disabled or deactivated TPM extends too, but shows zeros.
pub(crate) fn extend(tpm: &mut Tpm, locality: u8, pcr: u32, digest: &Digest) -> Result<Digest, Code> {
    let value = *tpm.pcr(pcr)?;
    if attributes(pcr as usize).extend >> locality & 1 == 0 {
        return Err(codes::BAD_LOCALITY);
    }
    let value = sha1(&[&value, digest]);
    *tpm.pcr_mut(pcr)? = value;
    let hidden = tpm.permanent.flags.disable || tpm.volatile.flags.deactivated;
    Ok(if hidden { [0; 20] } else { value })
}

/// `TPM_Extend` (section 16.1).
pub(crate) fn tpm_extend(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let pcr: u32 = call.get()?;
    let digest: Digest = call.only()?;
    let value = extend(tpm, call.locality, pcr, &digest)?;
    call.put(&value);
    Ok(())
}

/// `TPM_PCRRead` (section 16.2).
pub(crate) fn tpm_pcr_read(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let pcr: u32 = call.only()?;
    let value = *tpm.pcr(pcr)?;
    call.put(&value);
    Ok(())
}

/// `TPM_PCR_Reset` (section 16.4): all of the selected PCRs or none.
pub(crate) fn tpm_pcr_reset(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let selection: Selection = call.only()?;
    if selection.is_empty() {
        return Err(codes::INVALID_PCR_INFO.into());
    }
    for pcr in selection.indices() {
        let reset = attributes(pcr).reset;
        if reset == 0 {
            return Err(codes::NOTRESETABLE.into());
        }
        if reset >> call.locality & 1 == 0 {
            return Err(codes::NOTLOCAL.into());
        }
    }
    let dynamic = 17..PCR_COUNT - 1;
    for pcr in selection.indices() {
        let value = if dynamic.contains(&pcr) && !tpm.volatile.tos_present { [0xff; 20] } else { [0; 20] };
        *tpm.pcr_mut(pcr as u32)? = value;
    }
    Ok(())
}

/// The key of a quote, authorized.
fn quoting_key(tpm: &mut Tpm, call: &mut Call<'_>, schemes: &[u16]) -> Result<Rc<Key>, Code> {
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    if !schemes.contains(&key.blob.parms.sig_scheme) {
        return Err(codes::INAPPROPRIATE_SIG);
    }
    if ![KEY_SIGNING, KEY_IDENTITY, KEY_LEGACY].contains(&key.blob.usage) {
        return Err(codes::INVALID_KEYUSAGE);
    }
    Ok(key)
}

/// `TPM_Quote` (section 16.3).
pub(crate) fn tpm_quote(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (external, selection): (Nonce, Selection) = (call.get()?, call.only()?);
    let key = quoting_key(tpm, call, &[SS_SHA1, SS_INFO])?;
    // `TPM_QUOTE_INFO` (part 2, section 11.3).
    let mut info = Vec::new();
    let hash = tpm.volatile.pcrs.composite_hash(&selection);
    Writer::new(&mut info).bytes(&[1, 1, 0, 0]).bytes(b"QUOT").bytes(&hash).bytes(&external);
    let signature = tpm.sign_digest(&key, &sha1(&[&info]))?;
    call.out.extend(tpm.volatile.pcrs.composite(&selection));
    call.put(&signature);
    Ok(())
}

/// `TPM_Quote2` (section 16.5).
pub(crate) fn tpm_quote2(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (external, selection): (Nonce, Selection) = (call.get()?, call.get()?);
    let add_version: bool = call.only()?;
    let key = quoting_key(tpm, call, &[SS_SHA1])?;
    let digest_at_release = tpm.volatile.pcrs.composite_hash(&selection);
    let short = PcrInfoShort { selection, locality_at_release: 1 << call.locality, digest_at_release };
    let version = if add_version { tpm.capability(crate::commands::capability::VERSION_VAL, &[])? } else { Vec::new() };
    // `TPM_QUOTE_INFO2` (part 2, section 11.4).
    let mut info = Vec::new();
    Writer::new(&mut info).u16(0x0036).bytes(b"QUT2").bytes(&external).bytes(&short.to_bytes()).bytes(&version);
    let signature = tpm.sign_digest(&key, &sha1(&[&info]))?;
    call.put(&short).put(&version).put(&signature);
    Ok(())
}

#[cfg(test)]
mod tests;
