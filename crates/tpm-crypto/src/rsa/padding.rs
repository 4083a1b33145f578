//! Paddings around the raw operations.

use super::RsaError;
use alloc::vec::Vec;
use zeroize::Zeroizing;

pub(super) type TpmOaep = rsa::Oaep<sha1::Sha1>;

/// OAEP with SHA-1 and the label that TPM 1.2 fixes.
pub(super) fn tpm_oaep() -> TpmOaep {
    rsa::Oaep::new_with_label(*b"TCPA")
}

/// The DER prefix of a SHA-1 DigestInfo (PKCS #1 v2.1, section 9.2, note 1).
pub(super) const SHA1_DIGEST_INFO: [u8; 15] =
    [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

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
