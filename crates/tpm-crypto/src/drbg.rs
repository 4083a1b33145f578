//! HMAC_DRBG with SHA-256 (NIST SP 800-90A revision 1, section 10.1.2).

use crate::mac::hmac_sha256;
use core::convert::Infallible;
use core::fmt;
use rand_core::{TryCryptoRng, TryRng};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Fewer than [`Drbg::ENTROPY_MIN`] bytes of entropy input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrbgError;

impl fmt::Display for DrbgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too little entropy for the random generator: give it at least 48 bytes from a working source")
    }
}

impl core::error::Error for DrbgError {}

/// The random generator behind every key and nonce.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Drbg {
    key: [u8; 32],
    value: [u8; 32],
    requests: u64,
}

impl Drbg {
    /// Bytes of entropy input that a seeding needs: the security strength (256 bits) and half as much again for the nonce
    /// (SP 800-90A, section 8.6.7).
    pub const ENTROPY_MIN: usize = 48;

    /// After so many requests a reseeding is due. The standard allows 2^48; the owner may ask far earlier.
    const RESEED_INTERVAL: u64 = 1 << 48;

    /// A generator from at least [`Self::ENTROPY_MIN`] bytes of full entropy; `personal` tells generators apart.
    pub fn new(entropy: &[u8], personal: &[u8]) -> Result<Self, DrbgError> {
        if entropy.len() < Self::ENTROPY_MIN {
            return Err(DrbgError);
        }
        let mut drbg = Self { key: [0; 32], value: [1; 32], requests: 0 };
        drbg.update(&[entropy, personal]);
        Ok(drbg)
    }

    /// Mixes fresh entropy in (at least 32 bytes to count as a reseeding).
    pub fn reseed(&mut self, entropy: &[u8], additional: &[u8]) -> Result<(), DrbgError> {
        self.stir(&[entropy, additional]);
        if entropy.len() < 32 {
            return Err(DrbgError);
        }
        self.requests = 0;
        Ok(())
    }

    /// Mixes in bytes that may be worth nothing (`TPM_StirRandom`): never makes the generator weaker.
    pub fn stir(&mut self, data: &[&[u8]]) {
        self.update(data);
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(1 << 16) {
            self.generate(part);
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// HMAC_DRBG_Generate without additional input, for at most 2^16 bytes.
    fn generate(&mut self, out: &mut [u8]) {
        // A machine that makes a request every nanosecond gets here after three days of nothing else; a vTPM never does.
        assert!(self.requests < Self::RESEED_INTERVAL, "random generator used 2^48 times without a reseeding");
        for chunk in out.chunks_mut(32) {
            self.value = hmac_sha256(&self.key, &[&self.value]);
            chunk.iter_mut().zip(&self.value).for_each(|(byte, random)| *byte = *random);
        }
        self.update(&[]);
        self.requests += 1;
    }

    fn update(&mut self, data: &[&[u8]]) {
        let with_data = data.iter().any(|part| !part.is_empty());
        for round in 0..if with_data { 2u8 } else { 1 } {
            let mut mac = crate::mac::HmacSha256::new(&self.key);
            mac.update(&self.value);
            mac.update(&[round]);
            data.iter().for_each(|part| mac.update(part));
            self.key = mac.finish();
            self.value = hmac_sha256(&self.key, &[&self.value]);
        }
    }
}

impl TryRng for Drbg {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Drbg {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // NIST CAVP drbgvectors_no_reseed, HMAC_DRBG SHA-256, without prediction resistance, personalization or additional
    // input, count 0: the second of two 1024-bit requests is compared.
    #[test]
    fn cavp_example() {
        let entropy = "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488";
        let nonce = "659ba96c601dc69fc902940805ec0ca8";
        let mut drbg = Drbg::new(&hex(&[entropy, nonce].concat()), b"").unwrap();
        let (_, out) = (drbg.bytes::<128>(), drbg.bytes::<128>());
        let want = "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89\
                    d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1\
                    07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668\
                    961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8";
        assert_eq!(out, hex(want)[..]);
    }

    #[test]
    fn too_little_entropy_is_refused() {
        assert!(Drbg::new(&[1; 47], b"").is_err());
        let mut drbg = Drbg::new(&[1; 48], b"").unwrap();
        assert_eq!(drbg.reseed(&[1; 31], b""), Err(DrbgError));
        assert_eq!(drbg.reseed(&[1; 32], b""), Ok(()));
    }

    #[test]
    fn stirring_and_personalization_change_the_output() {
        let make = |personal: &[u8]| Drbg::new(&[5; 48], personal).unwrap();
        let (mut a, mut b, mut c) = (make(b""), make(b"x"), make(b""));
        c.stir(&[b"stirred"]);
        let (a, b, c): ([u8; 32], [u8; 32], [u8; 32]) = (a.bytes(), b.bytes(), c.bytes());
        assert!(a != b && a != c && b != c);
    }
}
