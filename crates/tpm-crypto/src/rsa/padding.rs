//! Paddings around the raw operations.

use super::RsaError;
use crate::cipher::{mgf1_sha1, mgf1_sha256};
use crate::drbg::Drbg;
use crate::hash::{SHA1_SIZE, SHA256_SIZE, sha256};
use alloc::vec::Vec;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// SHA-1 of the label that TPM 1.2 fixes for OAEP, `TCPA` (TPM Main 1.2, part 1, section 31.1.1).
const LABEL_HASH: [u8; SHA1_SIZE] = [
    0xf7, 0x7d, 0x67, 0xa7, 0xb7, 0xcb, 0xdf, 0xd8, 0x09, 0x33, 0x49, 0x80, 0xaf, 0xe6, 0xb9, 0x4d, 0x83, 0xa8, 0x0b,
    0x51,
];

/// EME-OAEP encoding (PKCS #1 v2.1, section 7.1.1, step 2) for a modulus of `size` bytes.
pub(super) fn oaep(rng: &mut Drbg, data: &[u8], size: usize) -> Result<Zeroizing<Vec<u8>>, RsaError> {
    let zeros = size.checked_sub(2 * SHA1_SIZE + 2 + data.len()).ok_or(RsaError::BadSize)?;
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.push(0);
    out.extend(rng.bytes::<SHA1_SIZE>());
    out.extend(LABEL_HASH);
    out.resize(1 + 2 * SHA1_SIZE + zeros, 0);
    out.push(1);
    out.extend_from_slice(data);
    if let Some((seed, block)) = seed_and_block(&mut out) {
        mgf1_sha1(&[seed], block);
        mgf1_sha1(&[block], seed);
    }
    Ok(out)
}

/// EME-OAEP encoding with SHA-256 and a label of the caller's (TPM 2.0 Library 1.59, part 1, annex B.4).
pub(super) fn oaep_sha256(
    rng: &mut Drbg,
    label: &[u8],
    data: &[u8],
    size: usize,
) -> Result<Zeroizing<Vec<u8>>, RsaError> {
    let zeros = size.checked_sub(2 * SHA256_SIZE + 2 + data.len()).ok_or(RsaError::BadSize)?;
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.push(0);
    out.extend(rng.bytes::<SHA256_SIZE>());
    out.extend(sha256(&[label]));
    out.resize(1 + 2 * SHA256_SIZE + zeros, 0);
    out.push(1);
    out.extend_from_slice(data);
    if let Some((seed, block)) = out.get_mut(1..).and_then(|rest| rest.split_first_chunk_mut::<SHA256_SIZE>()) {
        mgf1_sha256(seed, block);
        mgf1_sha256(block, seed);
    }
    Ok(out)
}

/// The two masked parts of an encoded message, after its leading zero.
fn seed_and_block(encoded: &mut [u8]) -> Option<(&mut [u8; SHA1_SIZE], &mut [u8])> {
    encoded.get_mut(1..)?.split_first_chunk_mut()
}

/// EME-OAEP decoding (section 7.1.2, step 3). Which of its checks fails does not show in the time it takes.
pub(super) fn unpad_oaep(encoded: &[u8]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
    let mut encoded = Zeroizing::new(encoded.to_vec());
    let zero = encoded.first().copied().unwrap_or(1);
    let (seed, block) = seed_and_block(&mut encoded).ok_or(RsaError::Decrypt)?;
    mgf1_sha1(&[block], seed);
    mgf1_sha1(&[seed], block);
    let (label, rest) = block.split_first_chunk::<SHA1_SIZE>().ok_or(RsaError::Decrypt)?;
    let (mut good, mut looking, mut start) = (zero.ct_eq(&0) & label.ct_eq(&LABEL_HASH), Choice::from(1), 0u32);
    for (next, byte) in (1u32..).zip(rest.iter()) {
        let (is_zero, is_one) = (byte.ct_eq(&0), byte.ct_eq(&1));
        start.conditional_assign(&next, looking & is_one);
        good &= !looking | is_zero | is_one;
        looking &= !is_one;
    }
    good &= !looking;
    match rest.get(start as usize..) {
        Some(data) if good.into() => Ok(Zeroizing::new(data.to_vec())),
        _ => Err(RsaError::Decrypt),
    }
}

/// The DER prefix of a SHA-1 DigestInfo (PKCS #1 v2.1, section 9.2, note 1).
pub(super) const SHA1_DIGEST_INFO: [u8; 15] =
    [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

/// The DER prefix of a SHA-256 DigestInfo (PKCS #1 v2.1, section 9.2, note 1).
pub(super) const SHA256_DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// `number` with leading zeros added or removed, as `size` bytes.
pub(crate) fn fixed(number: &[u8], size: usize) -> Result<Vec<u8>, RsaError> {
    let mut out = alloc::vec![0; size];
    match number.len().checked_sub(size) {
        Some(extra) => {
            let (zeros, number) = number.split_at(extra);
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(RsaError::BadSize);
            }
            out.copy_from_slice(number);
        }
        None => out[size - number.len()..].copy_from_slice(number),
    }
    Ok(out)
}

/// EMSA-PKCS1-v1_5: `00 01 FF.. 00 data`.
pub(super) fn pkcs1_type1(data: &[u8], size: usize) -> Result<Vec<u8>, RsaError> {
    let fill = size.checked_sub(data.len() + 3).filter(|fill| *fill >= 8).ok_or(RsaError::BadSize)?;
    let mut out = Vec::with_capacity(size);
    out.extend([0, 1]);
    out.resize(2 + fill, 0xff);
    out.push(0);
    out.extend_from_slice(data);
    Ok(out)
}

/// Takes `00 02 nonzero.. 00` off. The place of the end is secret-dependent work of a few nanoseconds; whoever may ask
/// for it has proved to know the key's authorization.
pub(super) fn unpad_pkcs1_type2(padded: &[u8]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
    let body = padded.strip_prefix(&[0, 2]).ok_or(RsaError::Decrypt)?;
    let end = body.iter().position(|byte| *byte == 0).filter(|end| *end >= 8).ok_or(RsaError::Decrypt)?;
    Ok(Zeroizing::new(body[end + 1..].to_vec()))
}
