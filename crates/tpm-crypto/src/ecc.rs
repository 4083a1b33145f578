//! The NIST P-256 curve as TPM 2.0 uses it: one-pass Diffie-Hellman and ECDSA (Library 1.59, part 1, annex C).

use crate::drbg::Drbg;
use core::fmt;
use p256::ecdsa::Signature;
use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

/// Bytes in a coordinate, and in each half of a signature.
pub const P256_SIZE: usize = 32;

/// What can go wrong with a key or a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EccError {
    /// The coordinates are no point on the curve, or the private number is out of range.
    BadKey,
    /// The signature does not verify.
    Signature,
}

impl fmt::Display for EccError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadKey => "not a P-256 key",
            Self::Signature => "ECDSA signature does not verify",
        })
    }
}

impl core::error::Error for EccError {}

/// A public key: a point on the curve, not the one at infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct P256Public(p256::PublicKey);

impl P256Public {
    /// A key from its big-endian coordinates. Leading zeros may be missing, as some chips leave them out.
    pub fn new(x: &[u8], y: &[u8]) -> Result<Self, EccError> {
        let mut point = [0; 1 + 2 * P256_SIZE];
        point[0] = 4;
        for (coordinate, end) in [(x, 1 + P256_SIZE), (y, 1 + 2 * P256_SIZE)] {
            let start = end.checked_sub(coordinate.len()).filter(|start| *start + P256_SIZE >= end);
            let room = start.and_then(|start| point.get_mut(start..end)).ok_or(EccError::BadKey)?;
            room.copy_from_slice(coordinate);
        }
        p256::PublicKey::from_sec1_bytes(&point).map(Self).map_err(|_| EccError::BadKey)
    }

    /// The coordinates x and y.
    #[must_use]
    pub fn coordinates(&self) -> ([u8; P256_SIZE], [u8; P256_SIZE]) {
        let point = self.0.to_sec1_point(false);
        let coordinate = |bytes: Option<&p256::FieldBytes>| bytes.map_or([0; P256_SIZE], |bytes| (*bytes).into());
        (coordinate(point.x()), coordinate(point.y()))
    }

    /// Checks the ECDSA signature (r, s) over a 32-byte digest. Both halves of the range of s are good, as in TPM 2.0.
    pub fn verify(&self, digest: &[u8; 32], r: &[u8], s: &[u8]) -> Result<(), EccError> {
        let half = |bytes: &[u8]| -> Result<[u8; P256_SIZE], EccError> {
            let mut out = [0; P256_SIZE];
            let start = P256_SIZE.checked_sub(bytes.len()).ok_or(EccError::Signature)?;
            out[start..].copy_from_slice(bytes);
            Ok(out)
        };
        let signature = Signature::from_scalars(half(r)?, half(s)?).map_err(|_| EccError::Signature)?;
        ecdsa_verify(&self.0, digest, &signature)
    }
}

fn ecdsa_verify(key: &p256::PublicKey, digest: &[u8; 32], signature: &Signature) -> Result<(), EccError> {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    p256::ecdsa::VerifyingKey::from(key).verify_prehash(digest, signature).map_err(|_| EccError::Signature)
}

/// A private key. Wiped when dropped.
pub struct P256Private(p256::SecretKey);

impl P256Private {
    /// A new key.
    pub fn generate(rng: &mut Drbg) -> Self {
        loop {
            // Out of range once in 2^32 tries.
            if let Ok(key) = Self::from_bytes(&Zeroizing::new(rng.bytes())) {
                return key;
            }
        }
    }

    /// A key from its big-endian number, from 1 to the group's order less 1.
    pub fn from_bytes(number: &[u8; P256_SIZE]) -> Result<Self, EccError> {
        p256::SecretKey::from_slice(number).map(Self).map_err(|_| EccError::BadKey)
    }

    /// The big-endian number.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; P256_SIZE]> {
        let mut bytes = self.0.to_bytes();
        let out = Zeroizing::new(bytes.into());
        zeroize::Zeroize::zeroize(bytes.as_mut_slice());
        out
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> P256Public {
        P256Public(self.0.public_key())
    }

    /// The x coordinate of the secret shared with the holder of `other`.
    #[must_use]
    pub fn agree(&self, other: &P256Public) -> Zeroizing<[u8; P256_SIZE]> {
        Zeroizing::new((*self.0.diffie_hellman(&other.0).raw_secret_bytes()).into())
    }

    /// The ECDSA signature (r, s) over a 32-byte digest, with the nonce of RFC 6979.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> ([u8; P256_SIZE], [u8; P256_SIZE]) {
        use p256::ecdsa::signature::hazmat::PrehashSigner;
        let signature: Signature = p256::ecdsa::SigningKey::from(&self.0)
            .sign_prehash(digest)
            .expect("a 32-byte digest can be signed with every P-256 key");
        let (r, s) = signature.split_bytes();
        (r.into(), s.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    fn number(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    // RFC 5903, section 8.1.
    #[test]
    fn rfc_5903_agreement() {
        let i = P256Private::from_bytes(&number("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433"));
        let r = P256Private::from_bytes(&number("C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53"));
        let (i, r) = (i.ok().unwrap(), r.ok().unwrap());
        let (x, y) = i.public().coordinates();
        assert_eq!(x, number("DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"));
        assert_eq!(y, number("5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3"));
        let z = number("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE");
        assert_eq!((*i.agree(&r.public()), *r.agree(&i.public())), (z, z));
    }

    // RFC 6979, A.2.5: SHA-256 of "sample".
    #[test]
    fn rfc_6979_signature() {
        let key = P256Private::from_bytes(&number("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"));
        let key = key.ok().unwrap();
        let digest = crate::sha256(&[b"sample"]);
        let r = number("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716");
        let s = number("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8");
        assert_eq!(key.public().verify(&digest, &r, &s), Ok(()));
        assert_eq!(key.sign(&digest), (r, s));
        let other = crate::sha256(&[b"simple"]);
        assert_eq!(key.public().verify(&other, &r, &s), Err(EccError::Signature));
        assert_eq!(key.public().verify(&digest, &s, &r), Err(EccError::Signature));
        for (r, s) in [(&[0; 32][..], &s[..]), (&r, &[]), (&[0xff; 32], &s), (&[1; 33], &s)] {
            assert_eq!(key.public().verify(&digest, r, s), Err(EccError::Signature));
        }
    }

    #[test]
    fn what_is_not_on_the_curve_is_refused() {
        let key = P256Private::generate(&mut Drbg::new(&[1; 48], b"").unwrap());
        let (x, mut y) = key.public().coordinates();
        assert_eq!(P256Public::new(&x, &y), Ok(key.public()));
        y[31] ^= 1;
        for (x, y) in [(&x[..], &y[..]), (&[], &[]), (&[0; 33], &[0; 32]), (&[0; 32], &[0; 100])] {
            assert_eq!(P256Public::new(x, y), Err(EccError::BadKey));
        }
        for number in [[0; 32], [0xff; 32]] {
            assert!(P256Private::from_bytes(&number).is_err());
        }
    }
}
