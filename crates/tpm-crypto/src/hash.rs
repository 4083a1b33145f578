//! SHA-1 (FIPS 180-4; what TPM 1.2 is built on), SHA-256 and SHA-384.

use sha1::Digest;

/// Bytes in a SHA-1 digest.
pub const SHA1_SIZE: usize = 20;
/// Bytes in a SHA-256 digest.
pub const SHA256_SIZE: usize = 32;
/// Bytes in a SHA-384 digest.
pub const SHA384_SIZE: usize = 48;

/// SHA-1 of the concatenation of `parts`.
#[must_use]
pub fn sha1(parts: &[&[u8]]) -> [u8; SHA1_SIZE] {
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; SHA256_SIZE] {
    let mut hash = sha2::Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// SHA-384 of the concatenation of `parts`.
#[must_use]
pub fn sha384(parts: &[&[u8]]) -> [u8; SHA384_SIZE] {
    let mut hash = sha2::Sha384::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A SHA-1 computation under way.
#[derive(Clone)]
pub struct Sha1(sha1::Sha1);

impl Sha1 {
    /// Starts one.
    #[must_use]
    pub fn new() -> Self {
        Self(sha1::Sha1::new())
    }

    /// Takes in more data.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Ends it.
    #[must_use]
    pub fn finish(self) -> [u8; SHA1_SIZE] {
        self.0.finalize().into()
    }
}

impl Default for Sha1 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // FIPS 180-4's examples.
    #[test]
    fn fips_180_4_examples() {
        assert_eq!(sha1(&[b"a", b"bc"]), hex("a9993e364706816aba3e25717850c26c9cd0d89d")[..]);
        let abc = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(&[b"ab", b"", b"c"]), abc[..]);
        let abc = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
        assert_eq!(sha384(&[b"abc"]), hex(abc)[..]);
    }
}
