//! Public keys.

use super::blinding::public_power;
use super::padding::{SHA1_DIGEST_INFO, SHA256_DIGEST_INFO, oaep, oaep_sha256};
use super::{MAX_BITS, MIN_BITS, RsaError};
use crate::Drbg;
use crate::compare::ct_eq;
use alloc::vec::Vec;
use crypto_bigint::BoxedUint;
use crypto_bigint::modular::BoxedMontyForm;
use rsa::traits::PublicKeyParts;

/// A public key.
#[derive(Clone)]
pub struct RsaPublic {
    pub(super) key: rsa::RsaPublicKey,
}

impl RsaPublic {
    /// A key from its big-endian modulus (an odd number of [`MIN_BITS`] to [`MAX_BITS`] bits) and exponent (odd, above 2).
    pub fn new(modulus: &[u8], exponent: u32) -> Result<Self, RsaError> {
        if modulus.len() > MAX_BITS / 8 || exponent < 3 {
            return Err(RsaError::BadKey);
        }
        let n = BoxedUint::from_be_slice_vartime(modulus);
        let key = rsa::RsaPublicKey::new_with_size_limits(n, exponent.into(), MIN_BITS..=MAX_BITS);
        Ok(Self { key: key.map_err(|_| RsaError::BadKey)? })
    }

    /// The modulus, big-endian, without leading zero bytes.
    #[must_use]
    pub fn modulus(&self) -> Vec<u8> {
        self.key.n_bytes().into_vec()
    }

    /// Bytes in the modulus, and so in every ciphertext and signature.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.size()
    }

    /// The public exponent.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        self.key.e_bytes().iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    /// Encrypts with OAEP, SHA-1, label `TCPA` (TPM Main 1.2, part 1, section 31.1.1). Takes up to `size() - 42` bytes.
    pub fn encrypt_oaep(&self, rng: &mut Drbg, plain: &[u8]) -> Result<Vec<u8>, RsaError> {
        self.raw(&oaep(rng, plain, self.size())?)
    }

    /// Encrypts with OAEP, SHA-256, and a label that includes its terminating zero byte (TPM 2.0 Library 1.59, part 1,
    /// annex B.4). Takes up to `size() - 66` bytes.
    pub fn encrypt_oaep_sha256(&self, rng: &mut Drbg, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, RsaError> {
        self.raw(&oaep_sha256(rng, label, plain, self.size())?)
    }

    /// Encrypts with PKCS #1 v1.5. Takes up to `size() - 11` bytes.
    pub fn encrypt_pkcs1(&self, rng: &mut Drbg, plain: &[u8]) -> Result<Vec<u8>, RsaError> {
        self.key.encrypt(rng, rsa::Pkcs1v15Encrypt, plain).map_err(|_| RsaError::BadSize)
    }

    /// The public operation without padding: `value` to the power of the exponent, as [`Self::size`] bytes.
    pub fn raw(&self, value: &[u8]) -> Result<Vec<u8>, RsaError> {
        let precision = self.key.n_bits_precision();
        let value = BoxedUint::from_be_slice(value, precision).map_err(|_| RsaError::BadSize)?;
        if value >= *self.key.n().as_ref() {
            return Err(RsaError::BadSize);
        }
        let power = public_power(&BoxedMontyForm::new(value, self.key.n_params()), self.exponent());
        super::padding::fixed(&power.retrieve().to_be_bytes(), self.size())
    }

    /// Checks a PKCS #1 v1.5 signature over a SHA-1 digest.
    pub fn verify_pkcs1_sha1(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaError> {
        self.verify_pkcs1(&[&SHA1_DIGEST_INFO[..], digest].concat(), signature)
    }

    /// Checks a PKCS #1 v1.5 signature over a SHA-256 digest.
    pub fn verify_pkcs1_sha256(&self, digest: &[u8; 32], signature: &[u8]) -> Result<(), RsaError> {
        self.verify_pkcs1(&[&SHA256_DIGEST_INFO[..], digest].concat(), signature)
    }

    /// Checks a PKCS #1 v1.5 signature over data padded as it is (`TPM_SS_RSASSAPKCS1v15_DER`).
    pub fn verify_pkcs1(&self, data: &[u8], signature: &[u8]) -> Result<(), RsaError> {
        let want = super::padding::pkcs1_type1(data, self.size()).map_err(|_| RsaError::Signature)?;
        let found = self.raw(signature).map_err(|_| RsaError::Signature)?;
        if signature.len() == self.size() && ct_eq(&want, &found) { Ok(()) } else { Err(RsaError::Signature) }
    }
}
