//! An approval agent: keys, signed lists, key exchanges.

use crate::bus::rng;
use std::sync::OnceLock;
use tpm_crypto::ecc::P256Private;
use tpm_crypto::number::mul_pow_mod;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen, RsaPrivate};
use tpm_crypto::{sha1, sha256};
use tpm_wire::mgr::{ConfigList, LegacyList, Management, SaaKey};

/// Modulus and a prime.
type Numbers = (Vec<u8>, Vec<u8>);

/// An RSA key, made once for each size and number.
pub fn rsa(bits: usize, n: u8) -> RsaPrivate {
    static KEYS: [OnceLock<Numbers>; 3] = [const { OnceLock::new() }; 3];
    let place = match (bits, n) {
        (2048, 0) => 0,
        (2048, _) => 1,
        _ => 2,
    };
    let (modulus, prime) = KEYS[place].get_or_init(|| {
        let (mut rng, mut making) = (rng(40 + n), KeyGen::new(bits, DEFAULT_EXPONENT).unwrap());
        loop {
            if let Some(key) = making.step(&mut rng) {
                break (key.public().modulus(), key.prime().to_vec());
            }
        }
    });
    RsaPrivate::from_prime(modulus, prime, DEFAULT_EXPONENT).unwrap()
}

pub fn modulus(n: u8) -> Box<[u8; 256]> {
    rsa(2048, n).public().modulus().try_into().unwrap()
}

/// A list of the C stack's form, signed by key `n`.
pub fn signed_legacy(n: u8, index: u32, list: LegacyList) -> Management {
    let signature = rsa(2048, n).sign_pkcs1_sha1(&mut rng(1), &sha1(&[&list.signed_part()])).unwrap();
    Management::GroupUpdate { index, signature: signature.try_into().unwrap(), list }
}

/// A list of our form, signed by an RSA key.
pub fn signed(key: RsaPrivate, index: u32, list: &ConfigList) -> Management {
    let list = list.to_bytes();
    let signature = key.sign_pkcs1_sha256(&mut rng(1), &sha256(&[&list])).unwrap();
    Management::GroupUpdate2 { index, signature, list }
}

pub fn p256() -> (P256Private, SaaKey) {
    let key = P256Private::generate(&mut rng(50));
    let (x, y) = key.public().coordinates();
    (key, SaaKey::EcdsaP256([x, y].concat().try_into().unwrap()))
}

/// A list of our form, signed by a P-256 key.
pub fn signed_p256(key: &P256Private, index: u32, list: &ConfigList) -> Management {
    let list = list.to_bytes();
    let (r, s) = key.sign(&sha256(&[&list]));
    Management::GroupUpdate2 { index, signature: [r, s].concat(), list }
}

/// The agent's side of the key exchange, by arithmetic of its own: RFC 3526's group 14.
pub struct Half(pub [u8; 32]);

const PRIME: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B\
302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8\
A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B\
E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF";

fn prime() -> Vec<u8> {
    (0..256).map(|at| u8::from_str_radix(&PRIME[2 * at..2 * at + 2], 16).unwrap()).collect()
}

impl Half {
    pub fn public(&self) -> [u8; 256] {
        mul_pow_mod(&[1], &[2], &self.0, &prime()).unwrap()[..].try_into().unwrap()
    }

    /// SHA-256 of the shared secret.
    pub fn shared(&self, other: &[u8]) -> [u8; 32] {
        sha256(&[&mul_pow_mod(&[1], other, &self.0, &prime()).unwrap()])
    }
}

pub fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    core::array::from_fn(|at| a[at] ^ b[at])
}
