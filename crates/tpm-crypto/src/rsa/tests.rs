//! Round trips, refusals, and OAEP against that of the crate `rsa`.

use super::*;
use crate::Drbg;
use alloc::vec;

fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"rsa tests").unwrap()
}

fn generate(bits: usize, exponent: u32, rng: &mut Drbg) -> RsaPrivate {
    let mut generation = KeyGen::new(bits, exponent).unwrap();
    core::iter::repeat_with(|| generation.step(rng)).flatten().next().unwrap()
}

#[test]
fn keys_of_every_size_work_and_come_back_from_one_prime() {
    let mut rng = rng(1);
    for (bits, exponent) in [(512, 65537), (528, 3), (768, 17), (1024, 65537), (2048, 65537)] {
        let key = generate(bits, exponent, &mut rng);
        let public = key.public();
        assert_eq!((key.size() * 8, public.exponent(), public.modulus().len()), (bits, exponent, bits / 8));
        let again = RsaPrivate::from_prime(&public.modulus(), &key.prime(), exponent).unwrap();
        let cipher = public.encrypt_oaep(&mut rng, b"secret").unwrap();
        assert_eq!(again.decrypt_oaep(&mut rng, &cipher).unwrap()[..], b"secret"[..]);
        let cipher = public.encrypt_pkcs1(&mut rng, b"secret").unwrap();
        assert_eq!(again.decrypt_pkcs1(&mut rng, &cipher).unwrap()[..], b"secret"[..]);
        let signature = again.sign_pkcs1_sha1(&mut rng, &[7; 20]).unwrap();
        assert_eq!(public.verify_pkcs1_sha1(&[7; 20], &signature), Ok(()));
        assert_eq!(public.verify_pkcs1_sha1(&[8; 20], &signature), Err(RsaError::Signature));
    }
}

#[test]
fn ciphertexts_of_every_length_are_refused_without_a_panic() {
    let mut rng = rng(2);
    let key = generate(512, 65537, &mut rng);
    for length in 0..=key.size() * 2 + 1 {
        for fill in [0u8, 1, 0xff] {
            let cipher = vec![fill; length];
            assert!(key.decrypt_oaep(&mut rng, &cipher).is_err());
            assert!(key.decrypt_pkcs1(&mut rng, &cipher).is_err());
            assert!(key.public().verify_pkcs1_sha1(&[0; 20], &cipher).is_err());
        }
    }
    let modulus = key.public().modulus();
    assert_eq!(key.decrypt_oaep(&mut rng, &modulus).err(), Some(RsaError::Decrypt));
    assert_eq!(key.raw(&mut rng, &modulus).err(), Some(RsaError::BadSize));
    assert_eq!(key.public().raw(&modulus).err(), Some(RsaError::BadSize));
}

#[test]
fn the_longest_data_of_each_padding_fits_and_one_byte_more_does_not() {
    let mut rng = rng(3);
    let key = generate(1024, 65537, &mut rng);
    let public = key.public();
    for (extra, fits) in [(0, true), (1, false)] {
        let (oaep, pkcs1) = (vec![5; 128 - 42 + extra], vec![5; 128 - 11 + extra]);
        assert_eq!(public.encrypt_oaep(&mut rng, &oaep).is_ok(), fits);
        assert_eq!(public.encrypt_pkcs1(&mut rng, &pkcs1).is_ok(), fits);
        assert_eq!(key.sign_pkcs1(&mut rng, &pkcs1).is_ok(), fits);
    }
}

#[test]
fn numbers_that_are_no_key_are_refused() {
    let mut rng = rng(4);
    let key = generate(512, 65537, &mut rng);
    let (modulus, prime) = (key.public().modulus(), key.prime());
    let refused = |modulus: &[u8], prime: &[u8], exponent| {
        assert_eq!(RsaPrivate::from_prime(modulus, prime, exponent).err(), Some(RsaError::BadKey));
    };
    refused(&modulus, &prime[1..], 65537);
    refused(&modulus, &[&[0], &prime[..]].concat(), 65537);
    refused(&modulus, &[0; 32], 65537);
    refused(&modulus, &[0xff; 32], 65537);
    for exponent in [0, 1, 2, 4] {
        refused(&modulus, &prime, exponent);
    }
    let mut even = modulus.clone();
    even[63] ^= 1;
    refused(&even, &prime, 65537);
    let mut other = prime.to_vec();
    other[31] ^= 2;
    refused(&modulus, &other, 65537);
    for length in [0, 1, 63, 513, 4096] {
        assert!(RsaPublic::new(&vec![0xff; length], 65537).is_err());
    }
    for bits in [0, 511, 520, 4112, usize::MAX] {
        assert!(KeyGen::new(bits, 65537).is_err());
    }
}

#[test]
fn a_prime_square_is_no_key() {
    let mut rng = rng(5);
    let prime = generate(512, 65537, &mut rng).prime();
    let p = crypto_bigint::BoxedUint::from_be_slice_vartime(&prime);
    let square = crypto_bigint::ConcatenatingMul::concatenating_mul(&p, &p).to_be_bytes();
    assert_eq!(RsaPrivate::from_prime(&square, &prime, 65537).err(), Some(RsaError::BadKey));
}

#[test]
fn primes_have_random_bits_everywhere() {
    // CVE-2021-3505's kind of fault: bits of every prime that are always zero (or one).
    let mut rng = rng(6);
    let (mut ones, mut zeros) = ([0u8; 32], [0u8; 32]);
    for _ in 0..32 {
        let prime = generate(512, 65537, &mut rng).prime();
        for (i, byte) in prime.iter().enumerate() {
            ones[i] |= byte;
            zeros[i] |= !byte;
        }
    }
    // The top two bits and the lowest are one by construction.
    assert_eq!(ones, [0xff; 32]);
    let mut want = [0xff; 32];
    (want[0], want[31]) = (0x3f, 0xfe);
    assert_eq!(zeros, want);
}

#[test]
fn oaep_is_what_another_implementation_makes_and_takes() {
    let mut rng = rng(7);
    let key = generate(1024, 65537, &mut rng);
    let public = key.public();
    let modulus = crypto_bigint::BoxedUint::from_be_slice_vartime(&public.modulus());
    let prime = crypto_bigint::BoxedUint::from_be_slice_vartime(&key.prime());
    let divisor = crypto_bigint::NonZero::new(prime.clone()).unwrap();
    let other = rsa::RsaPrivateKey::from_p_q(prime, modulus.div_rem(&divisor).0, 65537u32.into()).unwrap();
    let padding = || rsa::Oaep::<sha1::Sha1>::new_with_label(*b"TCPA");
    for length in [0, 1, 20, 85, 86] {
        let data = vec![length as u8; length];
        let cipher = public.encrypt_oaep(&mut rng, &data).unwrap();
        assert_eq!(other.decrypt_blinded(&mut rng, padding(), &cipher).unwrap(), data);
        let cipher = other.to_public_key().encrypt(&mut rng, padding(), &data).unwrap();
        assert_eq!(key.decrypt_oaep(&mut rng, &cipher).unwrap()[..], data[..]);
    }
    let wrong = other.to_public_key().encrypt(&mut rng, rsa::Oaep::<sha1::Sha1>::new(), b"no label").unwrap();
    assert_eq!(key.decrypt_oaep(&mut rng, &wrong).err(), Some(RsaError::Decrypt));
}

#[test]
fn malformed_oaep_blocks_are_refused() {
    use super::padding::{oaep, unpad_oaep};
    use crate::cipher::mgf1_sha1;
    let mut rng = rng(8);
    let good = oaep(&mut rng, b"data", 128).unwrap();
    assert_eq!(unpad_oaep(&good).unwrap()[..], b"data"[..]);
    for at in 0..good.len() - 4 {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        assert!(unpad_oaep(&bad).is_err(), "byte {at}");
    }
    // Nothing but zeros after the label: no end, and another byte before the end.
    for rest in [[0u8; 87], [2; 87]] {
        let label = crate::sha1(&[b"TCPA"]);
        let mut block = [&label[..], &rest].concat();
        mgf1_sha1(&[&[9; 20]], &mut block);
        let mut seed = [9; 20];
        mgf1_sha1(&[&block], &mut seed);
        assert!(unpad_oaep(&[&[0][..], &seed, &block].concat()).is_err());
    }
    for length in 0..42 {
        assert!(unpad_oaep(&vec![0; length]).is_err());
    }
}

#[test]
fn blinding_wears_out_and_is_renewed() {
    let mut rng = rng(9);
    let key = generate(512, 3, &mut rng);
    let mut value = [0; 64];
    for round in 0..100u8 {
        value[40] = round;
        let power = key.raw(&mut rng, &value).unwrap();
        assert_eq!(key.public().raw(&power).unwrap(), value);
    }
    let copy = key.clone();
    assert_eq!(copy.raw(&mut rng, &value).unwrap(), key.raw(&mut rng, &value).unwrap());
}

// Decoded here step by step as PKCS #1 v2.1, section 7.1.2, step 3 lays it down.
#[test]
fn oaep_with_sha_256_decodes() {
    let mut rng = rng(9);
    let key = generate(1024, 65537, &mut rng);
    for length in [0, 16, 62] {
        let data = vec![7; length];
        let cipher = key.public().encrypt_oaep_sha256(&mut rng, b"SECRET\0", &data).unwrap();
        let mut encoded = key.raw(&mut rng, &cipher).unwrap().to_vec();
        let (zero, rest) = encoded.split_first_mut().unwrap();
        let (seed, block) = rest.split_at_mut(32);
        crate::mgf1_sha256(block, seed);
        crate::mgf1_sha256(seed, block);
        assert_eq!((*zero, &block[..32]), (0, &crate::sha256(&[b"SECRET\0"])[..]));
        let end = block.len() - length;
        assert_eq!((block[end - 1], &block[end..]), (1, &data[..]));
        assert!(block[32..end - 1].iter().all(|byte| *byte == 0));
    }
    assert!(key.public().encrypt_oaep_sha256(&mut rng, b"", &[0; 63]).is_err());
}

#[test]
fn a_sha_256_signature_verifies_and_a_changed_one_does_not() {
    let mut rng = rng(10);
    let key = generate(1024, 65537, &mut rng);
    let mut signature = key.sign_pkcs1_sha256(&mut rng, &[3; 32]).unwrap();
    assert_eq!(key.public().verify_pkcs1_sha256(&[3; 32], &signature), Ok(()));
    assert!(key.public().verify_pkcs1_sha256(&[4; 32], &signature).is_err());
    signature[5] ^= 1;
    assert!(key.public().verify_pkcs1_sha256(&[3; 32], &signature).is_err());
}
