//! Private keys.

use super::blinding::{Blinding, public_power};
use super::padding::{SHA1_DIGEST_INFO, SHA256_DIGEST_INFO, fixed, pkcs1_type1, unpad_oaep, unpad_pkcs1_type2};
use super::{MAX_BITS, MIN_BITS, RsaError, RsaPublic};
use crate::Drbg;
use alloc::vec::Vec;
use core::cell::RefCell;
use crypto_bigint::modular::BoxedMontyForm;
use crypto_bigint::{BoxedUint, ConcatenatingMul, Limb, NonZero, Resize};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use zeroize::{Zeroize, Zeroizing};

/// A private key of two primes of equal length. Wiped when dropped.
pub struct RsaPrivate {
    key: rsa::RsaPrivateKey,
    exponent: u32,
    blinding: RefCell<Option<Blinding>>,
}

impl Clone for RsaPrivate {
    /// The copy blinds by itself.
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), exponent: self.exponent, blinding: RefCell::new(None) }
    }
}

impl RsaPrivate {
    /// A key from its modulus, one of its primes, and its public exponent. The prime must be half as long as the modulus
    /// and divide it; that it is prime is not tested (a key that is none fails in its first operation).
    pub fn from_prime(modulus: &[u8], prime: &[u8], exponent: u32) -> Result<Self, RsaError> {
        let public = RsaPublic::new(modulus, exponent)?;
        let size = public.size();
        if prime.len() * 2 != size || prime.first().is_none_or(|byte| byte & 0x80 == 0) {
            return Err(RsaError::BadKey);
        }
        let p = BoxedUint::from_be_slice(prime, (prime.len() * 8) as u32).map_err(|_| RsaError::BadKey)?;
        let divisor: NonZero<BoxedUint> = NonZero::new(p).into_option().ok_or(RsaError::BadKey)?;
        let (mut quotient, mut remainder) = public.key.n().as_ref().div_rem(&divisor);
        divisor.get().zeroize();
        let divides = bool::from(remainder.is_zero());
        let q = Zeroizing::new(quotient.to_be_bytes());
        quotient.zeroize();
        remainder.zeroize();
        let q = Zeroizing::new(fixed(&q, prime.len()).map_err(|_| RsaError::BadKey)?);
        if !divides {
            return Err(RsaError::BadKey);
        }
        Self::from_primes(prime, &q, exponent)
    }

    /// A key from its two primes, of equal length and both odd.
    pub(super) fn from_primes(p: &[u8], q: &[u8], exponent: u32) -> Result<Self, RsaError> {
        let bits = p.len() * 16;
        let odd = |prime: &[u8]| prime.last().is_some_and(|byte| byte & 1 == 1);
        if p.len() != q.len() || p == q || !(MIN_BITS..=MAX_BITS).contains(&bits) || !odd(p) || !odd(q) {
            return Err(RsaError::BadKey);
        }
        let number = |prime: &[u8]| BoxedUint::from_be_slice(prime, (prime.len() * 8) as u32);
        let (p, q) = (number(p).map_err(|_| RsaError::BadKey)?, number(q).map_err(|_| RsaError::BadKey)?);
        let d = private_exponent(&p, &q, exponent).ok_or(RsaError::BadKey)?;
        let n = p.concatenating_mul(&q);
        let key = rsa::RsaPrivateKey::from_components(n, exponent.into(), d, alloc::vec![p, q]);
        let mut key = key.map_err(|_| RsaError::BadKey)?;
        key.precompute().map_err(|_| RsaError::BadKey)?;
        Ok(Self { key, exponent, blinding: RefCell::new(None) })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> RsaPublic {
        RsaPublic { key: self.key.to_public_key() }
    }

    /// Bytes in the modulus.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.size()
    }

    /// The first prime, big-endian, half as long as the modulus: with the modulus it is the whole private key.
    #[must_use]
    pub fn prime(&self) -> Zeroizing<Vec<u8>> {
        let prime = self.key.primes().first().map(|p| Zeroizing::new(p.to_be_bytes()));
        let prime = prime.and_then(|bytes| fixed(&bytes, self.size() / 2).ok());
        Zeroizing::new(prime.expect("a key has two primes of half its length"))
    }

    /// The private operation without padding, blinded and checked: [`Self::size`] bytes.
    pub fn raw(&self, rng: &mut Drbg, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
        let (params, precision) = (self.key.n_params(), self.key.n_bits_precision());
        let value = BoxedUint::from_be_slice(value, precision).map_err(|_| RsaError::BadSize)?;
        if value >= *self.key.n().as_ref() {
            return Err(RsaError::BadSize);
        }
        let value = BoxedMontyForm::new(value, params);
        let mut place = self.blinding.borrow_mut();
        let blinding = Blinding::next(&mut place, rng, params, self.exponent);
        let hidden = blinding.hide(&value).retrieve();
        let power = rsa::hazmat::rsa_decrypt(None::<&mut Drbg>, &self.key, &hidden).map_err(|_| RsaError::BadSize)?;
        let power = Zeroizing::new(blinding.show(&BoxedMontyForm::new(power, params)));
        if public_power(&power, self.exponent) != value {
            return Err(RsaError::BadKey);
        }
        let mut power = power.retrieve();
        let bytes = Zeroizing::new(power.to_be_bytes());
        power.zeroize();
        fixed(&bytes, self.size()).map(Zeroizing::new)
    }

    /// Decrypts what [`RsaPublic::encrypt_oaep`] made.
    pub fn decrypt_oaep(&self, rng: &mut Drbg, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
        if cipher.len() != self.size() {
            return Err(RsaError::Decrypt);
        }
        unpad_oaep(&self.raw(rng, cipher).map_err(|_| RsaError::Decrypt)?)
    }

    /// Decrypts what [`RsaPublic::encrypt_pkcs1`] made.
    pub fn decrypt_pkcs1(&self, rng: &mut Drbg, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
        if cipher.len() != self.size() {
            return Err(RsaError::BadSize);
        }
        unpad_pkcs1_type2(&self.raw(rng, cipher)?)
    }

    /// Signs a SHA-1 digest with PKCS #1 v1.5.
    pub fn sign_pkcs1_sha1(&self, rng: &mut Drbg, digest: &[u8; 20]) -> Result<Vec<u8>, RsaError> {
        self.sign_pkcs1(rng, &[&SHA1_DIGEST_INFO[..], digest].concat())
    }

    /// Signs a SHA-256 digest with PKCS #1 v1.5.
    pub fn sign_pkcs1_sha256(&self, rng: &mut Drbg, digest: &[u8; 32]) -> Result<Vec<u8>, RsaError> {
        self.sign_pkcs1(rng, &[&SHA256_DIGEST_INFO[..], digest].concat())
    }

    /// Signs up to `size() - 11` bytes, padded with PKCS #1 v1.5 as they are (`TPM_SS_RSASSAPKCS1v15_DER`).
    pub fn sign_pkcs1(&self, rng: &mut Drbg, data: &[u8]) -> Result<Vec<u8>, RsaError> {
        let padded = pkcs1_type1(data, self.size())?;
        self.raw(rng, &padded).map(|mut signature| core::mem::take(&mut *signature))
    }
}

/// The inverse of a small public exponent modulo (p - 1)(q - 1): (1 + k(p - 1)(q - 1)) / e for the one k below e that makes it
/// a whole number. A tenth of the work of inverting numbers of that size. `None` if there is no inverse.
fn private_exponent(p: &BoxedUint, q: &BoxedUint, exponent: u32) -> Option<BoxedUint> {
    let one = BoxedUint::one();
    let mut totient = p.wrapping_sub(&one).concatenating_mul(&q.wrapping_sub(&one));
    let divisor: NonZero<Limb> = NonZero::new(Limb::from(exponent)).into_option()?;
    let rest = totient.rem_limb(divisor);
    let factor = negated_inverse(rest.0, u64::from(exponent))?;
    // One limb longer than the totient: nothing is carried out of it.
    let mut product = totient.concatenating_mul(&BoxedUint::from(factor)).wrapping_add(&one);
    totient.zeroize();
    let (quotient, remainder) = product.div_rem_limb(divisor);
    product.zeroize();
    let exact = remainder == Limb::ZERO;
    exact.then(|| quotient.resize(p.bits_precision() + q.bits_precision()))
}

/// The k below `modulus` for which `number` times k is one less than a multiple of it.
fn negated_inverse(number: u64, modulus: u64) -> Option<u64> {
    // Extended Euclid; all numbers stay below 2^32 in size.
    let (mut a, mut b, mut x, mut y) = (i64::try_from(modulus).ok()?, i64::try_from(number).ok()?, 0i64, 1i64);
    while b != 0 {
        let quotient = a / b;
        (a, b, x, y) = (b, a - quotient * b, y, x - quotient * y);
    }
    let modulus = i64::try_from(modulus).ok()?;
    if a == 1 { u64::try_from((-x).rem_euclid(modulus)).ok() } else { None }
}
