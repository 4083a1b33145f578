//! A challenge that only the chip with this endorsement key can answer, and only if this attestation key is in it: how a verifier, or a
//! privacy CA, comes to trust an attestation key.

use crate::attested::sized16;
use crate::key::{EndorsementKey, Numbers, QuoteKey};
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::ecc::P256Private;
use tpm_crypto::{Drbg, aes_cfb_encrypt, ct_eq, hmac_sha256, kdfa_sha256, kdfe_sha256};
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

/// `TPM_ALG_AES128` and `TPM_ES_NONE` of TPM 1.2.
const AES_128: u32 = 6;
const ES_NONE: u16 = 1;

/// Bytes in a challenge's secret.
pub const SECRET_SIZE: usize = 16;

/// Why there is no challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialError {
    /// One key is of a TPM 1.2 and the other of a 2.0.
    OtherVersion,
    /// The endorsement key cannot encrypt.
    Unfit,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherVersion => "the attestation key and the endorsement key are of different TPM versions",
            Self::Unfit => "the endorsement key cannot encrypt a challenge",
        })
    }
}

impl core::error::Error for CredentialError {}

/// A challenge and its secret.
pub struct Credential {
    /// For GROUP_ACTIVATE. 1.2: the encrypted `TPM_ASYM_CA_CONTENTS` (part 2, section 12.8); 2.0: `TPM2B_ID_OBJECT` ‖
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub blob: Vec<u8>,
    /// What the answer has to show.
    pub secret: Zeroizing<[u8; SECRET_SIZE]>,
}

impl Credential {
    /// A new challenge for the chip with endorsement key `ek`: is the attestation key `key` one of yours?
    pub fn new(ek: &EndorsementKey, key: &QuoteKey, rng: &mut Drbg) -> Result<Self, CredentialError> {
        let secret = Zeroizing::new(rng.bytes::<SECRET_SIZE>());
        let blob = match (ek.is_v20(), key.is_v20()) {
            (false, false) => contents_12(ek, key, &secret, rng)?,
            (true, true) => object_20(ek, key, &secret, rng)?,
            _ => return Err(CredentialError::OtherVersion),
        };
        Ok(Self { blob, secret })
    }

    /// Whether the body of the answer to GROUP_ACTIVATE shows `secret`. 1.2: `TPM_SYMMETRIC_KEY`; 2.0: the secret behind its 16-bit length.
    #[must_use]
    pub fn is_answered(secret: &[u8; SECRET_SIZE], v20: bool, answer: &[u8]) -> bool {
        let mut from = Reader::new(answer);
        let head = if v20 { Ok(true) } else { from.u32().and_then(|alg| Ok(alg == AES_128 && from.u16()? == ES_NONE)) };
        let shown = sized16(&mut from);
        head == Ok(true) && from.is_empty() && shown.is_ok_and(|shown| ct_eq(shown, secret))
    }
}

fn contents_12(
    ek: &EndorsementKey,
    key: &QuoteKey,
    secret: &[u8; SECRET_SIZE],
    rng: &mut Drbg,
) -> Result<Vec<u8>, CredentialError> {
    let Numbers::Rsa(ek) = &ek.numbers else { return Err(CredentialError::Unfit) };
    let mut contents = Zeroizing::new(Vec::with_capacity(64));
    Writer::new(&mut contents).u32(AES_128).u16(ES_NONE).u16(SECRET_SIZE as u16).bytes(secret).bytes(&key.name());
    ek.encrypt_oaep(rng, &contents).map_err(|_| CredentialError::Unfit)
}

/// TPM 2.0 Library 1.59, part 1, section 24 (credential protection).
fn object_20(
    ek: &EndorsementKey,
    key: &QuoteKey,
    secret: &[u8; SECRET_SIZE],
    rng: &mut Drbg,
) -> Result<Vec<u8>, CredentialError> {
    let mut seed = Zeroizing::new([0; 32]);
    let mut encrypted_seed = Vec::new();
    match &ek.numbers {
        Numbers::Rsa(ek) => {
            *seed = rng.bytes();
            encrypted_seed =
                ek.encrypt_oaep_sha256(rng, b"IDENTITY\0", &seed[..]).map_err(|_| CredentialError::Unfit)?;
        }
        Numbers::P256(ek) => {
            let ephemeral = P256Private::generate(rng);
            let ((x, y), (ek_x, _)) = (ephemeral.public().coordinates(), ek.coordinates());
            kdfe_sha256(&*ephemeral.agree(ek), b"IDENTITY", &x, &ek_x, &mut seed[..]);
            Writer::new(&mut encrypted_seed).u16(32).bytes(&x).u16(32).bytes(&y);
        }
    }
    let name = key.name();
    let mut symmetric = Zeroizing::new([0; 16]);
    kdfa_sha256(&seed[..], b"STORAGE", &name, b"", &mut symmetric[..]);
    let mut identity = Vec::new();
    Writer::new(&mut identity).u16(SECRET_SIZE as u16).bytes(secret);
    aes_cfb_encrypt(&symmetric, &[0; 16], &mut identity);
    let mut integrity = Zeroizing::new([0; 32]);
    kdfa_sha256(&seed[..], b"INTEGRITY", b"", b"", &mut integrity[..]);
    let mac = hmac_sha256(&integrity[..], &[&identity, &name]);
    let mut blob = Vec::new();
    let object = 2 + mac.len() + identity.len();
    let size = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
    Writer::new(&mut blob).u16(size(object)).u16(size(mac.len())).bytes(&mac).bytes(&identity);
    Writer::new(&mut blob).u16(size(encrypted_seed.len())).bytes(&encrypted_seed);
    Ok(blob)
}
