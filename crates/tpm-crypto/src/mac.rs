//! HMAC (RFC 2104) and HKDF (RFC 5869).

use hmac::{Hmac, KeyInit, Mac};

/// HMAC-SHA-1 of the concatenation of `parts`.
#[must_use]
pub fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key).expect("HMAC takes keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// An HMAC-SHA-256 computation under way.
pub(crate) struct HmacSha256(Hmac<sha2::Sha256>);

impl HmacSha256 {
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
    }

    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

/// HMAC-SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = HmacSha256::new(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finish()
}

/// HKDF-SHA-256, extract and expand: fills `out` with key material for the purpose that `info` names.
///
/// # Panics
/// If `out` is longer than 8160 bytes (255 blocks), a mistake of the caller.
pub fn hkdf_sha256(key: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) {
    hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), key).expand(info, out).expect("at most 255 blocks are asked for");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // RFC 2202 case 2, RFC 4231 case 2.
    #[test]
    fn rfc_hmac_examples() {
        let data: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(hmac_sha1(b"Jefe", &data), hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")[..]);
        let want = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(hmac_sha256(b"Jefe", &data), want[..]);
    }

    // RFC 5869 A.1.
    #[test]
    fn rfc_5869_example() {
        let mut out = [0; 42];
        hkdf_sha256(&[0x0b; 22], &hex("000102030405060708090a0b0c"), &hex("f0f1f2f3f4f5f6f7f8f9"), &mut out);
        let want = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(out, hex(want)[..]);
    }
}
