use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, rng, send, stranger, tpm};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen, RsaPrivate};
use tpm_crypto::{mgf1_sha1, sha1};

extern crate std;

/// A key outside any TPM, the same for all tests.
pub(super) fn outside() -> &'static RsaPrivate {
    // One for each thread: a private key is not shared between threads.
    std::thread_local!(static KEY: &'static RsaPrivate = Box::leak(Box::new(make_key())));
    KEY.with(|key| *key)
}

fn make_key() -> RsaPrivate {
    let (mut rng, mut generation) = (rng(91), KeyGen::new(2048, DEFAULT_EXPONENT).unwrap());
    core::iter::repeat_with(|| generation.step(&mut rng)).flatten().next().unwrap()
}

/// A `TPM_PUBKEY`.
pub(super) fn pubkey(modulus: &[u8], enc: u16, sig: u16) -> Vec<u8> {
    let parms = [(modulus.len() as u32 * 8).to_be_bytes(), 2u32.to_be_bytes(), [0; 4]].concat();
    let schemes = [enc.to_be_bytes(), sig.to_be_bytes()].concat();
    [&1u32.to_be_bytes()[..], &schemes, &sized(&parms), &sized(modulus)].concat()
}

/// The storage root key's `TPM_PUBKEY`.
pub(super) fn srk_pub(tpm: &mut Tpm12) -> Vec<u8> {
    let mut owner = oiap(tpm, OWNER);
    call(tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&SRK.to_be_bytes()], &mut [&mut owner]).unwrap()
}

/// The owner's word that keys may go to a key.
pub(super) fn authorize_destination(tpm: &mut Tpm12, scheme: u16, key: &[u8]) -> Result<Vec<u8>, u32> {
    let mut owner = oiap(tpm, OWNER);
    call(tpm, ord::AUTHORIZE_MIGRATION_KEY, &[], &[&scheme.to_be_bytes(), key], &mut [&mut owner])
}

/// The encrypted part of a wrapped key, behind its size.
pub(super) fn enc_part(key: &[u8]) -> &[u8] {
    &key[key.len() - 260..]
}

/// The key with another encrypted part.
pub(super) fn rewrapped(key: &[u8], enc_part: &[u8]) -> Vec<u8> {
    [&key[..key.len() - 260], enc_part].concat()
}

/// Two byte strings behind their sizes.
pub(super) fn two(out: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let size = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
    let (first, second) = out[4..].split_at(size);
    assert_eq!(second[..4], (second.len() as u32 - 4).to_be_bytes());
    (first.to_vec(), second[4..].to_vec())
}

fn create_blob(
    tpm: &mut Tpm12,
    kind: u16,
    destination: &[u8],
    key: &[u8],
    secret: [u8; 20],
) -> Result<(Vec<u8>, Vec<u8>), u32> {
    let (mut parent, mut migration) = (oiap(tpm, SRK_AUTH), oiap(tpm, secret));
    let parameters: [&[u8]; 3] = [&kind.to_be_bytes(), destination, enc_part(key)];
    let out = call(tpm, ord::CREATE_MIGRATION_BLOB, &[SRK], &parameters, &mut [&mut parent, &mut migration])?;
    Ok(two(&out))
}

fn convert(tpm: &mut Tpm12, data: &[u8], random: &[u8]) -> Result<Vec<u8>, u32> {
    let mut parent = oiap(tpm, SRK_AUTH);
    call(tpm, ord::CONVERT_MIGRATION_BLOB, &[SRK], &[&sized(data), &sized(random)], &mut [&mut parent])
}

/// The OAEP encoding of [`outside`]'s private part as a TPM sends it away, without a mask and not yet encrypted.
pub(super) fn encoded(payload: u8, public: &[u8], label: &[u8; 20]) -> Vec<u8> {
    let prime = sized(&outside().prime());
    let (mut seed, part) = (prime[..20].to_vec(), &prime[20..]);
    let mut block = [&label[..], &[1, payload], &KEY_AUTH, &sha1(&[public]), &sized(part)].concat();
    mgf1_sha1(&[&seed], &mut block);
    mgf1_sha1(&[&block], &mut seed);
    [seed, block].concat()
}

/// A key blob of [`outside`] without its encrypted part.
pub(super) fn outside_blob(template: &[u8]) -> Vec<u8> {
    [&template[..template.len() - 8], &sized(&outside().public().modulus())].concat()
}

/// Loads a signing key of [`KEY_AUTH`] and verifies a signature it makes.
pub(super) fn check_signing(tpm: &mut Tpm12, key: &[u8]) {
    let handle = load_key(tpm, SRK, SRK_AUTH, key).unwrap();
    let mut auth = oiap(tpm, KEY_AUTH);
    let digest = sha1(&[b"moved"]);
    let out = call(tpm, ord::SIGN, &[handle], &[&sized(&digest)], &mut [&mut auth]).unwrap();
    public_of(key).verify_pkcs1_sha1(&digest, &out[4..]).unwrap();
}

/// A migratable signing key.
fn migratable(tpm: &mut Tpm12, bits: u32) -> Vec<u8> {
    create_key(tpm, SRK, SRK_AUTH, &template(0x10, 2, 1, 1, 2, bits)).unwrap()
}

#[test]
fn a_key_migrates_to_another_tpm_and_signs_there() {
    let (mut from, mut to) = (owned(), stranger());
    let to_pub = srk_pub(&mut to);
    let destination = authorize_destination(&mut from, 1, &to_pub).unwrap();
    for bits in [1024, 2048] {
        let key = migratable(&mut from, bits);
        assert!(load_key(&mut to, SRK, SRK_AUTH, &key).is_err());
        let (random, data) = create_blob(&mut from, 1, &destination, &key, MIGRATION_AUTH).unwrap();
        let moved = rewrapped(&key, &convert(&mut to, &data, &random).unwrap());
        check_signing(&mut to, &moved);
        // It may go on from there, by its own migration authorization.
        let (mut parent, mut migration) = (oiap(&mut to, SRK_AUTH), oiap(&mut to, MIGRATION_AUTH));
        let home = authorize_destination(&mut to, 2, &srk_pub(&mut from)).unwrap();
        let parameters: [&[u8]; 3] = [&2u16.to_be_bytes(), &home, enc_part(&moved)];
        let out =
            call(&mut to, ord::CREATE_MIGRATION_BLOB, &[SRK], &parameters, &mut [&mut parent, &mut migration]).unwrap();
        let (random, data) = two(&out);
        assert!(random.is_empty(), "rewrapping masks nothing");
        check_signing(&mut from, &rewrapped(&key, &sized(&data)));
    }
}

#[test]
fn the_blob_is_what_the_specification_says() {
    let mut tpm = owned();
    let destination = pubkey(&outside().public().modulus(), 3, 1);
    let destination = authorize_destination(&mut tpm, 1, &destination).unwrap();
    let key = migratable(&mut tpm, 2048);
    let (random, data) = create_blob(&mut tpm, 1, &destination, &key, MIGRATION_AUTH).unwrap();
    let mut o1 = outside().decrypt_oaep(&mut rng(5), &data).unwrap().to_vec();
    assert_eq!((o1.len(), random.len()), (198, 198));
    o1.iter_mut().zip(&random).for_each(|(byte, mask)| *byte ^= mask);
    let (seed, block) = o1.split_at_mut(20);
    mgf1_sha1(&[block], seed);
    mgf1_sha1(&[seed], block);
    // pHash, one, TPM_MIGRATE_ASYMKEY: payload, usageAuth, pubDataDigest, partPrivKeyLen.
    assert_eq!(block[..20], MIGRATION_AUTH);
    assert_eq!(block[20..22], [1, 3]);
    assert_eq!(block[22..42], KEY_AUTH);
    assert_eq!(block[42..62], sha1(&[&key[..key.len() - 260]]));
    assert_eq!(block[62..66], 112u32.to_be_bytes());
    assert_eq!(seed[..4], 128u32.to_be_bytes());
    let prime = [&seed[4..], &block[66..]].concat();
    assert_eq!(prime.len(), 128);
    assert!(RsaPrivate::from_prime(&public_of(&key).modulus(), &prime, DEFAULT_EXPONENT).is_ok());
    // Another blob of the same key has another mask.
    assert_ne!(create_blob(&mut tpm, 1, &destination, &key, MIGRATION_AUTH).unwrap().0, random);
}

#[test]
fn a_migration_authority_passes_a_blob_on() {
    let (mut from, mut to) = (owned(), stranger());
    let (authority, blob) = new_key(&mut from, &template(0x16, 0, 1, 3, 1, 2048));
    let destination = pubkey(&public_of(&blob).modulus(), 3, 1);
    let destination = authorize_destination(&mut from, 1, &destination).unwrap();
    let key = migratable(&mut from, 1024);
    let (random, data) = create_blob(&mut from, 1, &destination, &key, MIGRATION_AUTH).unwrap();
    let to_pub = srk_pub(&mut to);
    let migrate = |tpm: &mut Tpm12, handle: u32, secret, to: &[u8], data: &[u8]| {
        let mut auth = oiap(tpm, secret);
        call(tpm, ord::MIGRATE_KEY, &[handle], &[to, &sized(data)], &mut [&mut auth])
    };
    let out = migrate(&mut from, authority, KEY_AUTH, &to_pub, &data).unwrap();
    let moved = rewrapped(&key, &convert(&mut to, &out[4..], &random).unwrap());
    check_signing(&mut to, &moved);

    assert_eq!(migrate(&mut from, authority, SRK_AUTH, &to_pub, &data), Err(1));
    assert_eq!(migrate(&mut from, SRK, SRK_AUTH, &to_pub, &data), Err(36));
    assert_eq!(migrate(&mut from, authority, KEY_AUTH, &to_pub, &data[1..]), Err(33));
    assert_eq!(migrate(&mut from, authority, KEY_AUTH, &pubkey(&[0; 256], 3, 1), &data), Err(40));
    let small = RsaPrivate::public(outside()).modulus()[..64].to_vec();
    let small = pubkey(&[&small[..63], &[small[63] | 1]].concat(), 3, 1);
    assert_eq!(migrate(&mut from, authority, KEY_AUTH, &small, &data), Err(43), "198 bytes fit no 512-bit key");
    assert_eq!(send(&mut from, ord::MIGRATE_KEY, &[&authority.to_be_bytes(), &to_pub, &sized(&data)]), Err(1));
}

#[test]
fn what_is_not_authorized_does_not_migrate() {
    let mut tpm = owned();
    let plain = pubkey(&outside().public().modulus(), 3, 1);
    let destination = authorize_destination(&mut tpm, 1, &plain).unwrap();
    let key = migratable(&mut tpm, 512);
    assert_eq!(create_blob(&mut tpm, 1, &destination, &key, KEY_AUTH).unwrap_err(), 29);
    for at in [destination.len() - 1, destination.len() - 21, destination.len() - 30] {
        let mut forged = destination.clone();
        forged[at] ^= 1;
        assert_eq!(create_blob(&mut tpm, 1, &forged, &key, MIGRATION_AUTH).unwrap_err(), 15);
    }
    for kind in [0, 3, 4, 5, 6] {
        assert_eq!(create_blob(&mut tpm, kind, &destination, &key, MIGRATION_AUTH).unwrap_err(), 3);
    }
    assert_eq!(create_blob(&mut tpm, 2, &destination, &key, MIGRATION_AUTH).unwrap_err(), 44, "not for this scheme");
    let fixed = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    assert_eq!(create_blob(&mut tpm, 1, &destination, &fixed, MIGRATION_AUTH).unwrap_err(), 29);
    let mut damaged = key.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(create_blob(&mut tpm, 1, &destination, &damaged, MIGRATION_AUTH).unwrap_err(), 33);

    // The parent's authorization may only be missing if the parent needs none; the migration's session is OIAP.
    let parameters: [&[u8]; 3] = [&1u16.to_be_bytes(), &destination, enc_part(&key)];
    let mut alone = oiap(&mut tpm, MIGRATION_AUTH);
    assert_eq!(call(&mut tpm, ord::CREATE_MIGRATION_BLOB, &[SRK], &parameters, &mut [&mut alone]), Err(1));
    let (mut parent, mut shared) = (oiap(&mut tpm, SRK_AUTH), osap(&mut tpm, 1, SRK, SRK_AUTH));
    let both = &mut [&mut parent, &mut shared];
    assert_eq!(call(&mut tpm, ord::CREATE_MIGRATION_BLOB, &[SRK], &parameters, both), Err(44));
    let (mut parent, mut migration) = (oiap(&mut tpm, SRK_AUTH), oiap(&mut tpm, MIGRATION_AUTH));
    let both = &mut [&mut parent, &mut migration];
    assert_eq!(call(&mut tpm, ord::CREATE_MIGRATION_BLOB, &[0x0100_0000], &parameters, both), Err(12));
}

#[test]
fn owners_authorize_only_strong_destinations() {
    let mut tpm = owned();
    let modulus = outside().public().modulus();
    assert_eq!(authorize_destination(&mut tpm, 1, &pubkey(&modulus[..128], 3, 1)), Err(40));
    assert_eq!(authorize_destination(&mut tpm, 1, &pubkey(&modulus, 2, 1)), Err(14));
    let mut other_exponent = pubkey(&modulus, 3, 1);
    other_exponent.splice(8..24, sized(&[&[0, 0, 8, 0, 0, 0, 0, 2][..], &sized(&[3])].concat()));
    assert_eq!(authorize_destination(&mut tpm, 1, &other_exponent), Err(40));
    let plain = pubkey(&modulus, 3, 1);
    assert_eq!(authorize_destination(&mut tpm, 1, &plain[..plain.len() - 1]), Err(25));
    assert_eq!(authorize_destination(&mut tpm, 1, &[&plain[..], &[0]].concat()), Err(25));
    let mut wrong = oiap(&mut tpm, SRK_AUTH);
    let parameters: [&[u8]; 2] = [&[0, 1], &plain];
    assert_eq!(call(&mut tpm, ord::AUTHORIZE_MIGRATION_KEY, &[], &parameters, &mut [&mut wrong]), Err(1));
}

#[test]
fn converting_refuses_what_no_tpm_has_sent() {
    let (mut from, mut to) = (owned(), stranger());
    let to_pub = srk_pub(&mut to);
    let destination = authorize_destination(&mut from, 1, &to_pub).unwrap();
    let key = migratable(&mut from, 512);
    let (random, data) = create_blob(&mut from, 1, &destination, &key, MIGRATION_AUTH).unwrap();
    assert_eq!(convert(&mut to, &data, &random[1..]), Err(3));
    assert_eq!(convert(&mut to, &data, &[]), Err(3));
    assert_eq!(convert(&mut to, &data[1..], &random), Err(33));
    assert_eq!(convert(&mut to, &[], &random), Err(33));
    let mut wrong = random.clone();
    wrong[0] ^= 1;
    assert!(convert(&mut to, &data, &wrong).is_err());
    // Whatever can be encrypted to the destination: every length of the encoding, all of zeros.
    let public = public_of(&to_pub);
    for size in 0..=214 {
        let cipher = public.encrypt_oaep(&mut rng(size as u8), &vec![0; size]).unwrap();
        assert!(matches!(convert(&mut to, &cipher, &vec![0; size]), Err(33)));
    }
    let mut auth = oiap(&mut to, OWNER);
    let parameters: [&[u8]; 2] = [&sized(&data), &sized(&random)];
    assert_eq!(call(&mut to, ord::CONVERT_MIGRATION_BLOB, &[SRK], &parameters, &mut [&mut auth]), Err(1));
    assert!(convert(&mut to, &data, &random).is_ok());
}

#[test]
fn a_blob_of_another_program_converts_and_only_one_that_is_for_migration() {
    let mut tpm = owned();
    let srk = public_of(&srk_pub(&mut tpm));
    let blob = outside_blob(&template(0x10, 2, 1, 1, 2, 2048));
    let mut converted = |payload: u8| {
        let cipher = srk.encrypt_oaep(&mut rng(8), &encoded(payload, &blob, &MIGRATION_AUTH)).unwrap();
        convert(&mut tpm, &cipher, &[0; 198])
    };
    for payload in [0, 1, 4, 6, 7, 8] {
        assert_eq!(converted(payload), Err(41));
    }
    let key = [&blob[..], &converted(3).unwrap()].concat();
    check_signing(&mut tpm, &key);
}

#[test]
fn nothing_migrates_without_an_owner_or_while_disabled() {
    let all = [
        ord::CREATE_MIGRATION_BLOB,
        ord::CONVERT_MIGRATION_BLOB,
        ord::AUTHORIZE_MIGRATION_KEY,
        ord::MIGRATE_KEY,
        ord::CMK_SET_RESTRICTIONS,
        ord::CMK_APPROVE_MA,
        ord::CMK_CREATE_KEY,
        ord::CMK_CREATE_TICKET,
        ord::CMK_CREATE_BLOB,
        ord::CMK_CONVERT_MIGRATION,
    ];
    let (mut unowned, mut disabled) = (tpm(), owned());
    disabled.assert_physical_presence();
    send(&mut disabled, ord::PHYSICAL_DISABLE, &[]).unwrap();
    for ordinal in all {
        assert_eq!(send(&mut unowned, ordinal, &[]), Err(18));
        assert_eq!(send(&mut disabled, ordinal, &[]), Err(7));
    }
}
