//! Numbers of others as RSA keys: a guest can wrap any numbers to a key whose public half it knows, and have them loaded.

use crypto_bigint::{BoxedUint, ConcatenatingMul};
use tpm_crypto::Drbg;
use tpm_crypto::rsa::RsaPrivate;

/// An odd number of 64 bytes; a multiple of 15 if told so.
fn factor(rng: &mut Drbg, top_bit: bool, multiple: bool) -> [u8; 64] {
    let mut bytes = rng.bytes::<64>();
    (bytes[0], bytes[63]) = (bytes[0] & 0x7f | u8::from(top_bit) << 7, bytes[63] & 0xe0 | 0x1f);
    if multiple {
        // At most 29 less: nothing is borrowed, and an odd number stays odd.
        let rest = bytes.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % 15) as u8;
        bytes[63] -= if rest.is_multiple_of(2) { rest } else { rest + 15 };
    }
    bytes
}

#[test]
fn factors_that_are_no_primes_do_no_harm_and_what_is_accepted_comes_back() {
    let mut rng = Drbg::new(&[7; 48], b"factors").unwrap();
    let (mut accepted, mut narrow) = (0, 0);
    for round in 0..400u32 {
        let (multiples, wide) = (round % 4 == 1, round % 2 == 0);
        let (p, q) = (factor(&mut rng, true, multiples), factor(&mut rng, wide, multiples));
        let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
        let modulus = number(&p).concatenating_mul(&number(&q)).to_be_bytes();
        for exponent in [3, 15, 65537, 0xffff_ffff] {
            let Ok(key) = RsaPrivate::from_prime(&modulus, &p, exponent) else { continue };
            accepted += 1;
            narrow += u32::from(!wide);
            for value in [&[][..], &[0; 128], &[1], &[2; 127], &[0xff; 128], &[7; 129]] {
                let _ = (key.raw(&mut rng, value).is_ok(), key.decrypt_oaep(&mut rng, value).is_ok());
            }
            let _ = key.sign_pkcs1_sha1(&mut rng, &[5; 20]).is_ok();
            let again = RsaPrivate::from_prime(&key.public().modulus(), &key.prime(), exponent);
            assert!(again.is_ok_and(|again| again.prime() == key.prime()), "what was loaded once loads again");
        }
    }
    assert!(accepted > 50 && narrow > 20, "{accepted} keys of random factors, {narrow} with a narrow one");
}
