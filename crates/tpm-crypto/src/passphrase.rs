//! Keys from passphrases: PBKDF2 (RFC 8018) with HMAC-SHA-512, and plain SHA-512.

use sha2::Digest;

/// SHA-512 of `data`.
#[must_use]
pub fn sha512(data: &[u8]) -> [u8; 64] {
    sha2::Sha512::digest(data).into()
}

/// Fills `out` with PBKDF2-HMAC-SHA-512 of a passphrase.
pub fn pbkdf2_sha512(passphrase: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
    pbkdf2::pbkdf2_hmac::<sha2::Sha512>(passphrase, salt, rounds, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // FIPS 180-4's example, and the usual example for PBKDF2 with SHA-512 (password, salt, 2 rounds).
    #[test]
    fn published_examples() {
        let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(sha512(b"abc"), hex(abc)[..]);
        let mut out = [0; 32];
        pbkdf2_sha512(b"password", b"salt", 2, &mut out);
        assert_eq!(out, hex("e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c")[..]);
    }
}
