//! Cryptographic functions (part 3, section 13): hash sequences, random numbers, signatures.

use crate::auth::KeyUse;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::pcr::extend;
use crate::structs::key::{KEY_LEGACY, KEY_SIGNING, Key, SS_DER, SS_INFO, SS_SHA1};
use crate::structs::{Digest, Nonce};
use crate::tpm::{HashSequence, Tpm};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::{Sha1, sha1};
use tpm_wire::Writer;

/// The most that `TPM_SHA1Update` takes at once, in bytes: a multiple of 64 that fits a packet.
pub(crate) const SHA1_MAX: u32 = 2048;
/// The most that `TPM_StirRandom` takes, in bytes (section 13.7).
const STIR_MAX: usize = 255;
/// The most random bytes in one answer.
const RANDOM_MAX: u32 = 2048;

/// `TPM_SHA1Start` (section 13.1).
pub(crate) fn tpm_sha1_start(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.hash = Some(HashSequence { hash: Sha1::new(), transport: transport(call) });
    call.put(&SHA1_MAX);
    Ok(())
}

/// `TPM_SHA1Update` (section 13.2): a multiple of 64 bytes.
pub(crate) fn tpm_sha1_update(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let data: Vec<u8> = call.only()?;
    let mut sequence = take_sequence(tpm, call)?;
    if data.len() > SHA1_MAX as usize || !data.len().is_multiple_of(64) {
        return Err(codes::SHA_ERROR.into());
    }
    sequence.hash.update(&data);
    tpm.hash = Some(sequence);
    Ok(())
}

/// `TPM_SHA1Complete` (section 13.3): up to 64 last bytes.
pub(crate) fn tpm_sha1_complete(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let data: Vec<u8> = call.only()?;
    let digest = complete(tpm, call, &data)?;
    call.put(&digest);
    Ok(())
}

/// `TPM_SHA1CompleteExtend` (section 13.4).
pub(crate) fn tpm_sha1_complete_extend(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let pcr: u32 = call.get()?;
    let data: Vec<u8> = call.only()?;
    let digest = complete(tpm, call, &data)?;
    let value = extend(tpm, call.locality, pcr, &digest)?;
    call.put(&digest).put(&value);
    Ok(())
}

fn complete(tpm: &mut Tpm, call: &Call<'_>, data: &[u8]) -> Result<[u8; 20], Code> {
    let mut sequence = take_sequence(tpm, call)?;
    if data.len() > 64 {
        return Err(codes::SHA_ERROR);
    }
    sequence.hash.update(data);
    Ok(sequence.hash.finish())
}

/// A sequence lives wholly in one transport session or wholly outside of any.
fn take_sequence(tpm: &mut Tpm, call: &Call<'_>) -> Result<HashSequence, Code> {
    tpm.hash.take().filter(|sequence| sequence.transport == transport(call)).ok_or(codes::SHA_THREAD)
}

fn transport(call: &Call<'_>) -> u32 {
    call.wrapped.map_or(0, |wrapped| wrapped.handle)
}

/// `TPM_GetRandom` (section 13.6): the answer may be shorter than asked for.
pub(crate) fn tpm_get_random(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let wanted: u32 = call.only()?;
    let mut random = vec![0; wanted.min(RANDOM_MAX) as usize];
    tpm.rng.fill(&mut random);
    call.put(&random);
    Ok(())
}

/// `TPM_StirRandom` (section 13.7).
pub(crate) fn tpm_stir_random(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let data: Vec<u8> = call.only()?;
    if data.len() > STIR_MAX {
        return Err(codes::BAD_PARAMETER.into());
    }
    tpm.rng.stir(&[&data]);
    Ok(())
}

impl Tpm {
    /// Signs a digest with PKCS #1 v1.5, as the TPM signs its own structures.
    pub(crate) fn sign_digest(&mut self, key: &Key, digest: &Digest) -> Result<Vec<u8>, Code> {
        key.rsa.sign_pkcs1_sha1(&mut self.rng, digest).map_err(|_| codes::FAIL)
    }
}

/// `TPM_SIGN_INFO` (part 2, section 5.14).
pub(crate) fn sign_info(fixed: [u8; 4], replay: &Nonce, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).u16(0x0005).bytes(&fixed).bytes(replay).sized32(data);
    out
}

/// `TPM_Sign` (section 13.5).
pub(crate) fn tpm_sign(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let data: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    if data.is_empty() {
        return Err(codes::BAD_PARAMETER.into());
    }
    if ![KEY_SIGNING, KEY_LEGACY].contains(&key.blob.usage) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let signature = match key.blob.parms.sig_scheme {
        SS_SHA1 => {
            let digest: Digest = data[..].try_into().map_err(|_| codes::BAD_PARAMETER)?;
            tpm.sign_digest(&key, &digest)?
        }
        SS_DER => key.rsa.sign_pkcs1(&mut tpm.rng, &data).map_err(|_| codes::BAD_PARAMETER)?,
        SS_INFO => {
            let replay = call.proofs.first().and_then(Option::as_ref).map_or([0; 20], |proof| proof.nonce_odd);
            let digest = sha1(&[&sign_info(*b"SIGN", &replay, &data)]);
            tpm.sign_digest(&key, &digest)?
        }
        _ => return Err(codes::INVALID_KEYUSAGE.into()),
    };
    call.put(&signature);
    Ok(())
}

#[cfg(test)]
mod tests;
