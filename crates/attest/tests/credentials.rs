//! Challenges, answered as a chip does it: by other code than ours that made them, as far as that can be.

mod common;

use attest::{Credential, CredentialError, EndorsementKey, QuoteKey};
use common::{AK, Signer, ecc_public, modulus, rng, shared_rsa, sized};
use tpm_crypto::ecc::{P256Private, P256Public};
use tpm_crypto::{aes_cfb_decrypt, hmac_sha256, kdfa_sha256, kdfe_sha256};
use tpm_wire::Reader;

/// Restricted, decrypting, admin's policy, made here and fixed here: the EK profile's.
const EK: u32 = 1 << 17 | 1 << 16 | 1 << 7 | 1 << 5 | 1 << 4 | 1 << 1;

fn ecc_ek(key: &P256Private, attributes: u32, aes: [u8; 6]) -> Vec<u8> {
    let (x, y) = key.public().coordinates();
    [
        &[0, 0x23, 0, 0x0b][..],
        &attributes.to_be_bytes(),
        &sized(&[7; 32]),
        &aes,
        &[0, 0x10, 0, 3, 0, 0x10],
        &sized(&x),
        &sized(&y),
    ]
    .concat()
}

const AES_128_CFB: [u8; 6] = [0, 6, 0, 128, 0, 0x43];

#[test]
fn a_tpm_1_2_answers_with_the_secret() {
    let [aik, ..] = Signer::all();
    let ek = EndorsementKey::from_modulus(&modulus(&shared_rsa())).ok().unwrap();
    let credential = Credential::new(&ek, &aik.key(), &mut rng()).ok().unwrap();
    let contents = shared_rsa().decrypt_oaep(&mut rng(), &credential.blob).ok().unwrap();
    // TPM_SYMMETRIC_KEY and the SHA-1 digest of the TPM_PUBKEY.
    let (symmetric, digest) = contents.split_at(contents.len() - 20);
    assert_eq!(digest, tpm_crypto::sha1(&[aik.key().encoded()]));
    assert!(Credential::is_answered(&credential.secret, false, symmetric));
    assert!(!Credential::is_answered(&credential.secret, true, symmetric));
    assert!(!Credential::is_answered(&[0; 16], false, symmetric));
    for cut in 0..symmetric.len() {
        assert!(!Credential::is_answered(&credential.secret, false, &symmetric[..cut]));
    }
    assert!(!Credential::is_answered(&credential.secret, false, &[symmetric, &[0]].concat()));
}

/// TPM2_ActivateCredential, by the steps of part 1, section 24.5.
fn activate(ek: &P256Private, name: &[u8], blob: &[u8]) -> Option<Vec<u8>> {
    let mut from = Reader::new(blob);
    let part = |from: &mut Reader<'_>| {
        let length = from.u16().unwrap();
        from.bytes(length.into()).unwrap().to_vec()
    };
    let (object, encrypted) = (part(&mut from), part(&mut from));
    assert!(from.is_empty());
    let mut from = Reader::new(&encrypted);
    let (x, y) = (part(&mut from), part(&mut from));
    let z = ek.agree(&P256Public::new(&x, &y).unwrap());
    let (mut seed, mut key, mut integrity) = ([0; 32], [0; 16], [0; 32]);
    kdfe_sha256(&*z, b"IDENTITY", &x, &ek.public().coordinates().0, &mut seed);
    kdfa_sha256(&seed, b"INTEGRITY", b"", b"", &mut integrity);
    let mut from = Reader::new(&object);
    let mac = part(&mut from);
    let mut identity = from.rest().to_vec();
    if mac != hmac_sha256(&integrity, &[&identity, name]) {
        return None;
    }
    kdfa_sha256(&seed, b"STORAGE", name, b"", &mut key);
    aes_cfb_decrypt(&key, &[0; 16], &mut identity);
    Some(identity)
}

#[test]
fn a_tpm_2_0_answers_for_the_named_key_only() {
    let (ek, ak) = (P256Private::from_bytes(&[8; 32]).ok().unwrap(), P256Private::from_bytes(&[9; 32]).ok().unwrap());
    let key = QuoteKey::parse(&ecc_public(&ak, AK, &[0x18, 0x0b], 3)).ok().unwrap();
    let public = EndorsementKey::parse(&ecc_ek(&ek, EK, AES_128_CFB)).ok().unwrap();
    let credential = Credential::new(&public, &key, &mut rng()).ok().unwrap();
    let answer = activate(&ek, &key.name(), &credential.blob).unwrap();
    assert!(Credential::is_answered(&credential.secret, true, &answer));
    assert!(!Credential::is_answered(&credential.secret, false, &answer));
    let [_, _, other] = Signer::all();
    assert_eq!(activate(&ek, &other.key().name(), &credential.blob), None);
    let v12 = Signer::all()[0].key();
    assert!(matches!(Credential::new(&public, &v12, &mut rng()), Err(CredentialError::OtherVersion)));
}

#[test]
fn endorsement_keys_that_are_none() {
    let ek = P256Private::from_bytes(&[8; 32]).ok().unwrap();
    for bit in [17, 16, 18, 5, 4, 1] {
        assert!(EndorsementKey::parse(&ecc_ek(&ek, EK ^ 1 << bit, AES_128_CFB)).is_err(), "bit {bit}");
    }
    for aes in [[0, 6, 1, 0, 0, 0x43], [0, 6, 0, 128, 0, 0x42]] {
        assert!(EndorsementKey::parse(&ecc_ek(&ek, EK, aes)).is_err());
    }
    let [aik, ..] = Signer::all();
    assert!(EndorsementKey::parse(aik.key().encoded()).is_err());
}
