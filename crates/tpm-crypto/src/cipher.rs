//! AES in counter and feedback mode and the MGF1 mask, as TPM 1.2 and 2.0 use them.

use crate::hash::{sha1, sha256};
use aes::cipher::{KeyIvInit, StreamCipher};

/// Encrypts or decrypts `data` in place with AES-128 in counter mode; `iv` is the first counter block, counted as a
/// 128-bit big-endian number (TPM Main 1.2, part 1, section 31.1.3; `TPM_ES_SYM_CTR`).
pub fn aes_ctr(key: &[u8; 16], iv: &[u8; 16], data: &mut [u8]) {
    ctr::Ctr128BE::<aes::Aes128>::new(key.into(), iv.into()).apply_keystream(data);
}

/// Encrypts or decrypts `data` in place with AES-128 in output feedback mode (SP 800-38A, 6.4; `TPM_ES_SYM_OFB`).
pub fn aes_ofb(key: &[u8; 16], iv: &[u8; 16], data: &mut [u8]) {
    ofb::Ofb::<aes::Aes128>::new(key.into(), iv.into()).apply_keystream(data);
}

/// Encrypts `data` in place with AES-128 in 128-bit cipher feedback mode (SP 800-38A, 6.3; TPM 2.0's parameter encryption).
pub fn aes_cfb_encrypt(key: &[u8; 16], iv: &[u8; 16], data: &mut [u8]) {
    cfb_mode::Encryptor::<aes::Aes128>::new(key.into(), iv.into()).encrypt(data);
}

/// Undoes [`aes_cfb_encrypt`].
pub fn aes_cfb_decrypt(key: &[u8; 16], iv: &[u8; 16], data: &mut [u8]) {
    cfb_mode::Decryptor::<aes::Aes128>::new(key.into(), iv.into()).decrypt(data);
}

/// XORs the MGF1-SHA-1 mask of the concatenation of `seed` into `data` (PKCS #1 v2.1, B.2.1).
pub fn mgf1_sha1(seed: &[&[u8]], data: &mut [u8]) {
    let joined = zeroize::Zeroizing::new(seed.concat());
    for (counter, chunk) in (0u32..).zip(data.chunks_mut(20)) {
        let mask = zeroize::Zeroizing::new(sha1(&[&joined, &counter.to_be_bytes()]));
        chunk.iter_mut().zip(mask.iter()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// XORs the MGF1-SHA-256 mask of `seed` into `data` (PKCS #1 v2.1, B.2.1).
pub fn mgf1_sha256(seed: &[u8], data: &mut [u8]) {
    for (counter, chunk) in (0u32..).zip(data.chunks_mut(32)) {
        let mask = zeroize::Zeroizing::new(sha256(&[seed, &counter.to_be_bytes()]));
        chunk.iter_mut().zip(mask.iter()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // SP 800-38A, F.5.1.
    #[test]
    fn sp_800_38a_counter_example() {
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
        let mut data = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        aes_ctr(&key, &iv, &mut data);
        assert_eq!(data, hex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"));
    }

    // SP 800-38A, F.4.1.
    #[test]
    fn sp_800_38a_output_feedback_example() {
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let mut data = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        aes_ofb(&key, &iv, &mut data);
        assert_eq!(data, hex("3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed825"));
    }

    // SP 800-38A, F.3.13.
    #[test]
    fn sp_800_38a_feedback_example() {
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let cipher = hex("3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b");
        for length in [0, 1, 15, 16, 17, 32] {
            let mut data = plain[..length].to_vec();
            aes_cfb_encrypt(&key, &iv, &mut data);
            assert_eq!(data, cipher[..length]);
            aes_cfb_decrypt(&key, &iv, &mut data);
            assert_eq!(data, plain[..length]);
        }
    }

    // The vectors of the public-domain test of MGF1 with SHA-1: seeds "foo" and "bar".
    #[test]
    fn mgf1_examples() {
        let mut out = [0; 5];
        mgf1_sha1(&[b"f", b"oo"], &mut out);
        assert_eq!(out, hex("1ac9075cd4")[..]);
        let mut out = [0; 50];
        mgf1_sha1(&[b"bar"], &mut out);
        let want =
            "bc0c655e016bc2931d85a2e675181adcef7f581f76df2739da74faac41627be2f7f415c89e983fd0ce80ced9878641cb4876";
        assert_eq!(out, hex(want)[..]);
    }
}
