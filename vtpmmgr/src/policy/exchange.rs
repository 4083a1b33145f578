//! The key exchange between the manager and an approval agent: Diffie-Hellman in group 14 of RFC 3526, as in the C manager. Here the
//! other side's half is checked.

use alloc::vec::Vec;
use tpm_crypto::{Drbg, number, sha256};
use tpm_wire::mgr::DH_SIZE;
use zeroize::Zeroizing;

/// The prime of RFC 3526, section 3. It is a safe prime: (p - 1) / 2 is prime too, so that only 1 and p - 1 have a small order.
const PRIME: [u8; DH_SIZE] = {
    let mut prime = [0; DH_SIZE];
    let digits = b"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74\
        020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437\
        4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
        EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05\
        98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB\
        9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B\
        E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718\
        3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF";
    let mut at = 0;
    while at < DH_SIZE {
        prime[at] = digit(digits[2 * at]) << 4 | digit(digits[2 * at + 1]);
        at += 1;
    }
    prime
};

const fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'A'..=b'F' => character - b'A' + 10,
        _ => panic!("a hexadecimal digit"),
    }
}

const GENERATOR: [u8; 1] = [2];
/// Bytes of a private exponent: twice what the strength of the group can use.
const SECRET: usize = 64;

/// One side's secret.
pub struct Exchange {
    secret: Zeroizing<[u8; SECRET]>,
}

impl Exchange {
    /// A new secret.
    pub fn new(rng: &mut Drbg) -> Self {
        let mut secret = Zeroizing::new(rng.bytes());
        // Never zero, and always of the full length.
        if let Some(top) = secret.first_mut() {
            *top |= 0x80;
        }
        Self { secret }
    }

    /// The half to send.
    pub fn public(&self) -> [u8; DH_SIZE] {
        power(&GENERATOR, &self.secret[..]).try_into().unwrap_or([0; DH_SIZE])
    }

    /// SHA-256 of the shared secret; `None` unless the other half is a number from 2 to p - 2.
    pub fn shared(&self, other: &[u8; DH_SIZE]) -> Option<Zeroizing<[u8; 32]>> {
        let above = |bytes: &[u8; DH_SIZE], limit: &[u8; DH_SIZE]| bytes > limit;
        let mut one = [0; DH_SIZE];
        *one.last_mut()? = 1;
        let mut largest = PRIME;
        *largest.last_mut()? -= 1;
        if !above(other, &one) || !above(&largest, other) {
            return None;
        }
        let shared = Zeroizing::new(power(other, &self.secret[..]));
        Some(Zeroizing::new(sha256(&[&shared])))
    }
}

fn power(base: &[u8], exponent: &[u8]) -> Vec<u8> {
    // The modulus is a constant that the arithmetic takes.
    number::mul_pow_mod(&[1], base, exponent, &PRIME).map(|value| value.to_vec()).unwrap_or_default()
}

/// `data` exclusive-or the shared secret: hides and shows.
pub fn hidden(secret: &[u8; 32], data: &[u8; 32]) -> [u8; 32] {
    let mut out = *data;
    out.iter_mut().zip(secret).for_each(|(byte, mask)| *byte ^= mask);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same() {
        let mut rng = Drbg::new(&[7; 48], b"").unwrap();
        let (a, b) = (Exchange::new(&mut rng), Exchange::new(&mut rng));
        let (at_a, at_b) = (a.shared(&b.public()).unwrap(), b.shared(&a.public()).unwrap());
        assert!(at_a == at_b && a.public() != b.public());
        assert_eq!(hidden(&at_b, &hidden(&at_a, &[9; 32])), [9; 32]);
    }

    #[test]
    fn the_prime_is_that_of_the_rfc() {
        // p = 2^2048 - 2^1984 - 1 + 2^64 * (floor(2^1918 pi) + 124476): first and last words, and Fermat's test to base 3.
        assert_eq!(
            (&PRIME[..12], &PRIME[244..]),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x0f, 0xda, 0xa2][..],
                &[0x8a, 0xac, 0xaa, 0x68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..]
            )
        );
        let mut one_less = PRIME;
        one_less[255] -= 1;
        let mut one = [0; 256];
        one[255] = 1;
        assert_eq!(power(&[3], &one_less), one);
        // 2 is a square modulo p, so that its powers are the prime-order half: 2^((p - 1) / 2) = 1.
        let half: Vec<u8> = core::iter::once(0)
            .chain(one_less)
            .collect::<Vec<_>>()
            .windows(2)
            .map(|pair| pair[0] << 7 | pair[1] >> 1)
            .collect();
        assert_eq!(power(&GENERATOR, &half), one);
        assert_eq!(power(&[3, 5], &half).len(), 256);
    }

    #[test]
    fn halves_that_give_the_secret_away_are_refused() {
        let mut rng = Drbg::new(&[7; 48], b"").unwrap();
        let exchange = Exchange::new(&mut rng);
        let small = |last: u8| core::array::from_fn(|at| if at == 255 { last } else { 0 });
        let near = |less: u8| {
            let mut number = PRIME;
            number[255] -= less;
            number
        };
        for bad in [small(0), small(1), near(0), near(1), [0xff; 256]] {
            assert!(exchange.shared(&bad).is_none());
        }
        for good in [small(2), near(2)] {
            assert!(exchange.shared(&good).is_some());
        }
    }
}
