//! Key generation in steps of a few milliseconds, so that a loop stays alive beside it and a cancel is seen.

use super::{MAX_BITS, MIN_BITS, RsaError, RsaPrivate};
use crate::Drbg;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use crypto_bigint::BoxedUint;
use crypto_primes::hazmat::{SetBits, SmallFactorsSieve, random_odd_integer};
use crypto_primes::{Flavor, is_prime};
use zeroize::Zeroizing;

/// A key generation under way. Dropping it gives it up.
pub struct KeyGen {
    prime_bits: NonZeroU32,
    exponent: u32,
    sieve: Option<SmallFactorsSieve<BoxedUint>>,
    first: Option<Zeroizing<Vec<u8>>>,
}

impl KeyGen {
    /// Starts a key of `bits` (a multiple of 16 between [`MIN_BITS`] and [`MAX_BITS`]) with an odd exponent above 2.
    pub fn new(bits: usize, exponent: u32) -> Result<Self, RsaError> {
        let fits = (MIN_BITS..=MAX_BITS).contains(&bits) && bits.is_multiple_of(16);
        if !fits || exponent < 3 || exponent.is_multiple_of(2) {
            return Err(RsaError::BadKey);
        }
        let prime_bits = NonZeroU32::new(bits as u32 / 2).ok_or(RsaError::BadKey)?;
        Ok(Self { prime_bits, exponent, sieve: None, first: None })
    }

    /// Tests one candidate (about a millisecond for a 2048-bit key); the key, once it is found.
    pub fn step(&mut self, rng: &mut Drbg) -> Option<RsaPrivate> {
        let candidate = Zeroizing::new(self.next_candidate(rng)?);
        let bytes = Zeroizing::new(candidate.to_be_bytes().into_vec());
        if !self.fits_exponent(&bytes) || !is_prime(Flavor::Any, &*candidate) {
            return None;
        }
        // Candidates of one sieve lie close together: the next prime starts from a random number of its own.
        self.sieve = None;
        let Some(first) = self.first.take() else {
            self.first = Some(bytes);
            return None;
        };
        // FIPS 186-4, B.3.1: the primes differ in their first 100 bits. If not, the second one is tried again.
        if first.iter().take(13).eq(bytes.iter().take(13)) {
            self.first = Some(first);
            return None;
        }
        RsaPrivate::from_primes(&first, &bytes, self.exponent).ok()
    }

    fn next_candidate(&mut self, rng: &mut Drbg) -> Option<BoxedUint> {
        if self.sieve.is_none() {
            let start = random_odd_integer::<BoxedUint, _>(rng, self.prime_bits, SetBits::TwoMsb).ok()?;
            self.sieve = SmallFactorsSieve::new(start.get(), self.prime_bits, false).ok();
        }
        let candidate = self.sieve.as_mut()?.next();
        if candidate.is_none() {
            self.sieve = None;
        }
        candidate
    }

    /// Whether the exponent has an inverse modulo `prime - 1`.
    fn fits_exponent(&self, prime: &[u8]) -> bool {
        let exponent = u64::from(self.exponent);
        let remainder = prime.iter().fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % exponent);
        let (mut a, mut b) = (exponent, (remainder + exponent - 1) % exponent);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    }
}
