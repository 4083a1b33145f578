//! Authenticated encryption: AES-256-GCM-SIV (RFC 8452), which stays safe when a nonce repeats.

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// Bytes in a key.
pub const KEY_SIZE: usize = 32;
/// Bytes in a nonce.
pub const NONCE_SIZE: usize = 12;
/// How many bytes longer a sealed message is than its content.
pub const TAG_SIZE: usize = 16;

/// The message was not sealed with this key, nonce and associated data, or it was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAuthentic;

impl fmt::Display for NotAuthentic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong key, or the sealed data was changed")
    }
}

impl core::error::Error for NotAuthentic {}

/// Encrypts `plain` and authenticates it with `associated`: ciphertext, then a tag of [`TAG_SIZE`] bytes.
///
/// # Panics
/// If `plain` is 64 GiB or longer.
#[must_use]
pub fn seal(key: &[u8; KEY_SIZE], nonce: &[u8; NONCE_SIZE], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    Aes256GcmSiv::new(key.into())
        .encrypt(nonce.into(), Payload { msg: plain, aad: associated })
        .expect("shorter than the 64 GiB that the cipher takes")
}

/// Checks and decrypts what [`seal`] made.
pub fn open(
    key: &[u8; KEY_SIZE],
    nonce: &[u8; NONCE_SIZE],
    associated: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
    Aes256GcmSiv::new(key.into())
        .decrypt(nonce.into(), Payload { msg: sealed, aad: associated })
        .map(Zeroizing::new)
        .map_err(|_| NotAuthentic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // RFC 8452, appendix C.2.
    #[test]
    fn rfc_8452_example() {
        let (mut key, mut nonce) = ([0; KEY_SIZE], [0; NONCE_SIZE]);
        (key[0], nonce[0]) = (1, 3);
        let sealed = seal(&key, &nonce, &[1], &hex("0200000000000000"));
        assert_eq!(sealed, hex("1de22967237a813291213f267e3b452f02d01ae33e4ec854"));
        assert_eq!(open(&key, &nonce, &[1], &sealed).unwrap()[..], hex("0200000000000000")[..]);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let (key, nonce) = ([7; KEY_SIZE], [9; NONCE_SIZE]);
        let sealed = seal(&key, &nonce, b"aad", b"content");
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert_eq!(open(&key, &nonce, b"aad", &bad), Err(NotAuthentic));
            assert_eq!(open(&key, &nonce, b"aad", &sealed[..i]), Err(NotAuthentic));
        }
        assert_eq!(open(&key, &nonce, b"aae", &sealed), Err(NotAuthentic));
        assert_eq!(open(&[8; KEY_SIZE], &nonce, b"aad", &sealed), Err(NotAuthentic));
    }
}
