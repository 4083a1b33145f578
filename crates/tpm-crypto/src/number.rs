//! Arithmetic on big-endian numbers, as direct anonymous attestation needs it (TPM Main 1.2, part 3, section 26).
//!
//! The time of an operation depends on the lengths of its numbers and on the modulus, never on the other values.

use crate::rsa::MAX_BITS;
use alloc::vec::Vec;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul, NonZero, Odd};
use zeroize::Zeroizing;

fn number(bytes: &[u8]) -> Zeroizing<BoxedUint> {
    let bits = u32::try_from(bytes.len() * 8).expect("numbers come in packets");
    Zeroizing::new(BoxedUint::from_be_slice(bytes, bits.max(8)).expect("the precision is that of the bytes"))
}

fn bytes(number: &BoxedUint) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(number.to_be_bytes().into_vec())
}

/// Without leading zeros.
fn trimmed(number: &[u8]) -> &[u8] {
    let at = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(at..).unwrap_or_default()
}

/// `a + b`, with leading zeros.
#[must_use]
pub fn add(a: &[u8], b: &[u8]) -> Zeroizing<Vec<u8>> {
    let sum = Zeroizing::new(number(a).concatenating_add(&*number(b)));
    bytes(&sum)
}

/// `a * b`, with leading zeros.
#[must_use]
pub fn mul(a: &[u8], b: &[u8]) -> Zeroizing<Vec<u8>> {
    let product = Zeroizing::new(number(a).concatenating_mul(&*number(b)));
    bytes(&product)
}

/// `a mod modulus`, as long as the modulus. `None` for the modulus zero.
#[must_use]
pub fn rem(a: &[u8], modulus: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let divisor = NonZero::new((*number(modulus)).clone()).into_option()?;
    let rest = Zeroizing::new(number(a).rem(&divisor));
    sized(&bytes(&rest), modulus.len())
}

/// `factor * base^exponent mod modulus`, as long as the modulus. `None` unless the modulus is an odd number above 1 of at most
/// [`MAX_BITS`].
#[must_use]
pub fn mul_pow_mod(factor: &[u8], base: &[u8], exponent: &[u8], modulus: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits = trimmed(modulus);
    if digits.len() > MAX_BITS / 8 || digits == [1] {
        return None;
    }
    let odd = Odd::new((*number(digits)).clone()).into_option()?;
    let params = BoxedMontyParams::new_vartime(odd.clone());
    let form = |value: &[u8]| {
        let reduced = number(value).rem(odd.as_nz_ref());
        Zeroizing::new(BoxedMontyForm::new(reduced, &params))
    };
    let power = Zeroizing::new(form(base).pow(&number(exponent)));
    let product = Zeroizing::new(power.mul(&form(factor)));
    let out = Zeroizing::new(product.retrieve());
    sized(&bytes(&out), modulus.len())
}

/// `number` with leading zeros added or removed.
fn sized(number: &[u8], size: usize) -> Option<Zeroizing<Vec<u8>>> {
    crate::rsa::fixed(number, size).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Drbg;
    use crate::rsa::{DEFAULT_EXPONENT, KeyGen};

    fn value(bytes: &[u8]) -> u128 {
        bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
    }

    #[test]
    fn small_numbers_as_the_machine_computes_them() {
        let (a, b): (u128, u128) = (0xffff_ffff_ffff_ffff, 0x1_0000_0001);
        let (a_bytes, b_bytes) = (a.to_be_bytes(), b.to_be_bytes());
        assert_eq!(value(&add(&a_bytes, &b_bytes)), a + b);
        assert_eq!(value(&add(&[0xff; 8], &[1])), 1 << 64);
        assert_eq!(value(&mul(&[0xff; 8], &b_bytes[11..])), a * b);
        assert_eq!(rem(&a_bytes, &[0, 97]).unwrap()[..], [0, (a % 97) as u8]);
        assert!(rem(&a_bytes, &[0, 0]).is_none());
        assert_eq!(value(&add(&[], &[7])), 7);
    }

    #[test]
    fn powers_modulo_odd_numbers() {
        let naive = (0..77).fold(5u64, |product, _| product * 123_456_789 % 1_000_003);
        let out = mul_pow_mod(&[5], &123_456_789u32.to_be_bytes(), &[77], &1_000_003u32.to_be_bytes()).unwrap();
        assert_eq!(value(&out), u128::from(naive));
        assert_eq!(out.len(), 4);
        for bad in [&[][..], &[0], &[1], &[0, 1], &[8], &[0xff; 513]] {
            assert!(mul_pow_mod(&[1], &[2], &[3], bad).is_none());
        }
        assert_eq!(mul_pow_mod(&[1], &[], &[3], &[9]).unwrap()[..], [0]);
        assert_eq!(mul_pow_mod(&[1], &[2], &[], &[9]).unwrap()[..], [1]);
    }

    #[test]
    fn agrees_with_rsa() {
        let mut rng = Drbg::new(&[9; 48], b"").unwrap();
        let mut generation = KeyGen::new(512, DEFAULT_EXPONENT).unwrap();
        let key = core::iter::repeat_with(|| generation.step(&mut rng)).flatten().next().unwrap();
        let n = key.public().modulus();
        let message = rng.bytes::<63>();
        let power = mul_pow_mod(&[1], &message, &DEFAULT_EXPONENT.to_be_bytes(), &n).unwrap();
        assert_eq!(*power, key.public().raw(&message).unwrap());
    }
}
