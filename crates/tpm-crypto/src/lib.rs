//! The one door to cryptography: what the engines, the vault and the manager need, and nothing of the crates behind it.
//!
//! Primitives come from RustCrypto. What is written here is what no kept crate offers: the SP 800-90A generator, the
//! TPM 1.2 paddings over raw RSA, and a key generation that works in small steps. Secret-bearing types are wiped when they
//! are dropped, carry no `Debug`, and are compared with [`ct_eq`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aead;
mod cipher;
mod compare;
mod drbg;
pub mod ecc;
mod hash;
mod kdf;
mod mac;
pub mod number;
mod passphrase;
pub mod rsa;

pub use cipher::{aes_cfb_decrypt, aes_cfb_encrypt, aes_ctr, aes_ofb, mgf1_sha1, mgf1_sha256};
pub use compare::ct_eq;
pub use drbg::{Drbg, DrbgError};
pub use hash::{SHA1_SIZE, SHA256_SIZE, SHA384_SIZE, Sha1, sha1, sha256, sha384};
pub use kdf::{kdfa_sha256, kdfe_sha256};
pub use mac::{hkdf_sha256, hmac_sha1, hmac_sha256};
pub use passphrase::{pbkdf2_sha512, sha512};
/// The randomness trait of the crates behind this door; [`Drbg`] implements it.
pub use rand_core::CryptoRng;

#[cfg(test)]
mod test_hex {
    use alloc::vec::Vec;

    /// Bytes of a hexadecimal string.
    pub fn hex(text: &str) -> Vec<u8> {
        assert!(text.len().is_multiple_of(2));
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }
}
