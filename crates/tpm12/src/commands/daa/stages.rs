//! The stages that `TPM_DAA_Join` and `TPM_DAA_Sign` have in common.

use super::{DaaSession, Input, Output, nothing};
use crate::codes::{self, Code};
use crate::structs::Digest;
use crate::structs::daa::{MODULUS_SIZE, POWER0, POWER1, R01_SIZE};
use crate::tpm::Tpm;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::number::{add, mul, mul_pow_mod, rem};
use tpm_crypto::{mgf1_sha1, sha1};
use zeroize::Zeroizing;

/// A secret number, big-endian.
pub(super) type Secret = Zeroizing<Vec<u8>>;

/// A number without leading zeros: how numbers of no fixed size are answered.
pub(super) fn trimmed(number: &[u8]) -> Secret {
    let at = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    Zeroizing::new(number.get(at..).unwrap_or_default().to_vec())
}

/// The number modulo 256^`size`.
pub(super) fn low(number: &[u8], size: usize) -> &[u8] {
    number.get(number.len().saturating_sub(size)..).unwrap_or_default()
}

/// The number divided by 256^`size`.
pub(super) fn high(number: &[u8], size: usize) -> &[u8] {
    number.get(..number.len().saturating_sub(size)).unwrap_or_default()
}

/// The number as `size` bytes, if it has no more.
pub(super) fn fixed(number: &[u8], size: usize) -> Option<Secret> {
    let digits = trimmed(number);
    let mut out = Zeroizing::new(vec![0; size]);
    let at = size.checked_sub(digits.len())?;
    out.get_mut(at..)?.copy_from_slice(&digits);
    Some(out)
}

/// An input that the issuer's settings know by its digest.
fn known<'a>(data: &'a [u8], digest: &Digest, wrong: Code) -> Result<&'a [u8], Code> {
    if sha1(&[data]) == *digest && data.len() <= MODULUS_SIZE { Ok(data) } else { Err(wrong) }
}

impl DaaSession {
    /// The TPM's secret f, as long as the issuer's q (stages 4.j, 5.j, 14.f, 17.e and 18.e).
    fn f(&self) -> Result<Secret, Code> {
        let half = |last: u8| Zeroizing::new(sha1(&[&*self.tpm.rekey, &self.tpm.count.to_be_bytes(), &[last]]));
        let both = Zeroizing::new([&half(0)[..], &half(1)[..]].concat());
        rem(&both, &self.issuer.q).ok_or(codes::DAA_ISSUER_SETTINGS)
    }

    /// The lower part of f.
    pub(super) fn f0(&self) -> Result<Secret, Code> {
        Ok(Zeroizing::new(low(&self.f()?, POWER0).to_vec()))
    }

    /// The higher part of f.
    pub(super) fn f1(&self) -> Result<Secret, Code> {
        Ok(Zeroizing::new(high(&self.f()?, POWER0).to_vec()))
    }

    /// The number that a label and the seed of this run give.
    pub(super) fn r(&self, label: &[u8; 2], size: usize) -> Secret {
        let mut out = Zeroizing::new(vec![0; size]);
        mgf1_sha1(&[label, &*self.context_seed], &mut out);
        out
    }

    /// `DAA_scratch` = `DAA_scratch` (1 if it is `NULL`) * X^`exponent` mod n, with X in input 0 and n in input 1.
    pub(super) fn accumulate(&mut self, input: &Input<'_>, x: &Digest, exponent: &[u8]) -> Result<(), Code> {
        let base = known(input.0, x, codes::DAA_INPUT_DATA0)?;
        let modulus = known(input.1, &self.issuer.n, codes::DAA_INPUT_DATA1)?;
        let factor = self.scratch.take().unwrap_or_else(|| Zeroizing::new(vec![1]));
        let product = mul_pow_mod(&factor, base, exponent, modulus).ok_or(codes::DAA_INPUT_DATA1)?;
        self.scratch = Some(fixed(&product, MODULUS_SIZE).ok_or(codes::DAA_INPUT_DATA1)?);
        Ok(())
    }

    /// The same, and the product is the answer.
    pub(super) fn finish(&mut self, input: &Input<'_>, x: &Digest, exponent: &[u8]) -> Output {
        self.accumulate(input, x, exponent)?;
        self.scratch.take().ok_or(codes::FAIL)
    }

    /// R0^r0 with a new seed (join 9, sign 2).
    pub(super) fn commit_r0(&mut self, tpm: &mut Tpm, input: &Input<'_>) -> Output {
        self.context_seed = Zeroizing::new(tpm.rng.bytes());
        self.scratch = None;
        let (x, exponent) = (self.issuer.r0, self.r(b"r0", R01_SIZE));
        self.accumulate(input, &x, &exponent)?;
        nothing()
    }

    /// * R1^r1 (join 10, sign 3).
    pub(super) fn commit_r1(&mut self, input: &Input<'_>) -> Output {
        let (x, exponent) = (self.issuer.r1, self.r(b"r1", R01_SIZE));
        self.accumulate(input, &x, &exponent)?;
        nothing()
    }

    /// * S0^r2 (join 11, sign 4).
    pub(super) fn commit_r2(&mut self, input: &Input<'_>) -> Output {
        let (x, exponent) = (self.issuer.s0, self.r(b"r2", crate::structs::daa::R2_SIZE));
        self.accumulate(input, &x, &exponent)?;
        nothing()
    }

    /// Takes w, a number whose order is q (join 13, sign 6).
    pub(super) fn take_w(&mut self, input: &Input<'_>) -> Output {
        let gamma = known(input.0, &self.issuer.gamma, codes::DAA_INPUT_DATA0)?;
        if input.1.len() != MODULUS_SIZE {
            return Err(codes::DAA_INPUT_DATA1);
        }
        let power = mul_pow_mod(&[1], input.1, &self.issuer.q, gamma).ok_or(codes::DAA_INPUT_DATA0)?;
        if trimmed(&power)[..] != [1] {
            return Err(codes::DAA_WRONG_W);
        }
        self.scratch = Some(Zeroizing::new(input.1.to_vec()));
        nothing()
    }

    /// E = w^f (join 14, sign 7).
    pub(super) fn give_e(&mut self, input: &Input<'_>) -> Output {
        let exponent = self.f()?;
        self.w_to(input, &exponent)
    }

    /// E1 = w^(r0 + 2^104 r1 mod q) (join 15, sign 8).
    pub(super) fn give_e1(&mut self, input: &Input<'_>) -> Output {
        let mut shifted = self.r(b"r1", R01_SIZE);
        shifted.extend_from_slice(&[0; POWER0]);
        let sum = add(&self.r(b"r0", R01_SIZE), &shifted);
        let exponent = rem(&sum, &self.issuer.q).ok_or(codes::DAA_ISSUER_SETTINGS)?;
        let out = self.w_to(input, &exponent)?;
        self.scratch = None;
        Ok(out)
    }

    fn w_to(&self, input: &Input<'_>, exponent: &[u8]) -> Output {
        let gamma = known(input.0, &self.issuer.gamma, codes::DAA_INPUT_DATA0)?;
        let w = self.scratch.as_ref().ok_or(codes::FAIL)?;
        let power = mul_pow_mod(&[1], w, exponent, gamma).ok_or(codes::DAA_INPUT_DATA0)?;
        Ok(trimmed(&power))
    }

    /// A nonce of the TPM's joins the verifier's challenge (join 16, sign 9).
    pub(super) fn give_nonce(&mut self, tpm: &mut Tpm, input: &Input<'_>) -> Output {
        if input.0.len() != self.digest.len() {
            return Err(codes::DAA_INPUT_DATA0);
        }
        let nonce: [u8; 20] = tpm.rng.bytes();
        self.digest = sha1(&[input.0, &nonce]);
        Ok(Zeroizing::new(nonce.to_vec()))
    }

    /// s0 = r0 + c * f0 (join 17, sign 11).
    pub(super) fn give_s0(&self) -> Output {
        Ok(trimmed(&self.respond(&self.r(b"r0", R01_SIZE), &self.f0()?)))
    }

    /// s1 = r1 + c * f1 (join 18, sign 12).
    pub(super) fn give_s1(&self) -> Output {
        Ok(trimmed(&self.respond(&self.r(b"r1", R01_SIZE), &self.f1()?)))
    }

    /// r + c * `secret`, with c the digest that is the challenge.
    pub(super) fn respond(&self, r: &[u8], secret: &[u8]) -> Secret {
        add(r, &mul(&self.digest, secret))
    }

    /// s2 = r2 + c * `secret` modulo 2^1024 (join 19, sign 13).
    pub(super) fn give_s2(&self, secret: &[u8]) -> Output {
        let sum = self.respond(&self.r(b"r2", crate::structs::daa::R2_SIZE), secret);
        Ok(trimmed(low(&sum, POWER1)))
    }

    /// What s2 leaves over stays for s3 (join 20, sign 14).
    pub(super) fn keep_s12(&mut self, secret: &[u8]) {
        let sum = self.respond(&self.r(b"r2", crate::structs::daa::R2_SIZE), secret);
        self.scratch = Some(Zeroizing::new(high(&sum, POWER1).to_vec()));
    }

    /// s3 = `r` + c * `secret` + what s2 left over (join 21, sign 15).
    pub(super) fn give_s3(&mut self, r: &[u8], secret: &[u8]) -> Output {
        let rest = self.scratch.take().ok_or(codes::FAIL)?;
        Ok(trimmed(&add(&self.respond(r, secret), &rest)))
    }
}
