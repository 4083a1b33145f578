use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, fresh_state, owned, rng, send, unstarted};
use crate::{Options, StartupType, Tpm12};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen, RsaPrivate};
use tpm_crypto::{mgf1_sha1, sha1};

extern crate std;

const ALL: [u32; 5] = [
    ord::CREATE_MAINTENANCE_ARCHIVE,
    ord::LOAD_MAINTENANCE_ARCHIVE,
    ord::KILL_MAINTENANCE_FEATURE,
    ord::LOAD_MANU_MAINT_PUB,
    ord::READ_MANU_MAINT_PUB,
];

/// The maintainer's key.
fn maintainer() -> &'static RsaPrivate {
    // One for each thread: a private key is not shared between threads.
    std::thread_local!(static KEY: &'static RsaPrivate = Box::leak(Box::new(make_key())));
    KEY.with(|key| *key)
}

fn make_key() -> RsaPrivate {
    let (mut rng, mut generation) = (rng(93), KeyGen::new(2048, DEFAULT_EXPONENT).unwrap());
    core::iter::repeat_with(|| generation.step(&mut rng)).flatten().next().unwrap()
}

fn pubkey(modulus: &[u8], enc: u8, sig: u8) -> Vec<u8> {
    let parms = [(modulus.len() as u32 * 8).to_be_bytes(), 2u32.to_be_bytes(), [0; 4]].concat();
    [&[0, 0, 0, 1, 0, enc, 0, sig][..], &sized(&parms), &sized(modulus)].concat()
}

/// An owned TPM with the maintainer's key.
fn maintained(mut tpm: Tpm12) -> Tpm12 {
    let key = pubkey(&maintainer().public().modulus(), 3, 1);
    let checksum = send(&mut tpm, ord::LOAD_MANU_MAINT_PUB, &[&[9; 20], &key]).unwrap();
    assert_eq!(checksum, sha1(&[&key, &[9; 20]]));
    assert_eq!(send(&mut tpm, ord::READ_MANU_MAINT_PUB, &[&[8; 20]]).unwrap(), sha1(&[&key, &[8; 20]]));
    assert_eq!(send(&mut tpm, ord::LOAD_MANU_MAINT_PUB, &[&[9; 20], &key]), Err(8), "once in its life");
    tpm
}

fn other() -> Tpm12 {
    let mut tpm =
        Tpm12::load(fresh_state(), rng(201), Options { maintenance_commands: true, parent_quotes: false }).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    take_ownership(&mut tpm).unwrap();
    maintained(tpm)
}

fn by_owner(tpm: &mut Tpm12, ordinal: u32, parameters: &[&[u8]]) -> Result<Vec<u8>, u32> {
    by(tpm, OWNER, ordinal, parameters)
}

fn by(tpm: &mut Tpm12, secret: [u8; 20], ordinal: u32, parameters: &[&[u8]]) -> Result<Vec<u8>, u32> {
    let mut owner = oiap(tpm, secret);
    call(tpm, ordinal, &[], parameters, &mut [&mut owner])
}

/// Random and archive.
fn create(tpm: &mut Tpm12, random: u8) -> (Vec<u8>, Vec<u8>) {
    let out = by_owner(tpm, ord::CREATE_MAINTENANCE_ARCHIVE, &[&[random]]).unwrap();
    let size = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
    (out[4..4 + size].to_vec(), out[8 + size..].to_vec())
}

fn srk_modulus(tpm: &mut Tpm12) -> Vec<u8> {
    public_of(&by_owner(tpm, ord::OWNER_READ_INTERNAL_PUB, &[&SRK.to_be_bytes()]).unwrap()).modulus()
}

/// What a maintainer does with an archive: encrypts it to the new TPM's storage root key and signs it.
fn hand_over(archive: &[u8], random: &[u8], to: &mut Tpm12) -> (Vec<u8>, Vec<u8>) {
    let (public, cipher) = archive.split_at(archive.len() - 260);
    let plain = maintainer().decrypt_oaep(&mut rng(1), &cipher[4..]).unwrap();
    let target = tpm_crypto::rsa::RsaPublic::new(&srk_modulus(to), DEFAULT_EXPONENT).unwrap();
    let cipher = target.encrypt_oaep(&mut rng(2), &plain).unwrap();
    let archive = [public, &sized(&cipher)].concat();
    let signature = maintainer().sign_pkcs1_sha1(&mut rng(3), &sha1(&[&archive, random])).unwrap();
    (archive, signature)
}

fn load(tpm: &mut Tpm12, archive: &[u8], signature: &[u8], random: &[u8]) -> Result<Vec<u8>, u32> {
    by_owner(tpm, ord::LOAD_MAINTENANCE_ARCHIVE, &[&sized(archive), &sized(signature), &sized(random)])
}

#[test]
fn without_the_option_there_are_no_such_commands() {
    let mut tpm = Tpm12::load(fresh_state(), rng(2), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    for ordinal in ALL {
        assert_eq!(send(&mut tpm, ordinal, &[]), Err(10));
    }
}

#[test]
fn a_tpm_is_carried_over_with_its_keys_and_sealed_data() {
    for random in [0, 1] {
        let (mut from, mut to) = (maintained(owned()), other());
        let key = create_key(&mut from, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
        assert!(load_key(&mut to, SRK, SRK_AUTH, &key).is_err());
        let (mask, archive) = create(&mut from, random);
        assert_eq!(mask.len(), usize::from(random) * 198);
        let (archive, signature) = hand_over(&archive, &mask, &mut to);
        assert_eq!(load(&mut to, &archive, &signature[1..], &mask), Err(98));
        assert_eq!(load(&mut to, &archive[1..], &signature, &mask), Err(98));
        load(&mut to, &archive, &signature, &mask).unwrap();
        assert_eq!(srk_modulus(&mut to), srk_modulus(&mut from));
        // The storage root key is used with the source owner's authorization from now on.
        assert!(load_key(&mut to, SRK, SRK_AUTH, &key).is_err());
        load_key(&mut to, SRK, OWNER, &key).unwrap();
        // And all of that is in the stored state.
        let state = commit(&mut to).unwrap();
        let mut again =
            Tpm12::load(&state, rng(6), Options { maintenance_commands: true, parent_quotes: false }).unwrap();
        again.startup(StartupType::Clear).unwrap();
        load_key(&mut again, SRK, OWNER, &key).unwrap();
    }
}

#[test]
fn the_archive_is_what_the_specification_says() {
    let mut tpm = maintained(owned());
    let (random, archive) = create(&mut tpm, 0);
    assert!(random.is_empty());
    let (public, cipher) = archive.split_at(archive.len() - 260);
    assert_eq!(public_of(public).modulus(), srk_modulus(&mut tpm));
    let mut o1 = maintainer().decrypt_oaep(&mut rng(1), &cipher[4..]).unwrap().to_vec();
    assert_eq!(o1.len(), 198);
    mgf1_sha1(&[&OWNER], &mut o1);
    let (seed, block) = o1.split_at_mut(20);
    mgf1_sha1(&[block], seed);
    mgf1_sha1(&[seed], block);
    assert_eq!(block[..20], OWNER);
    assert_eq!(block[20..22], [1, 4], "TPM_PT_MAINT");
    assert_eq!(block[42..62], sha1(&[public]));
    let prime = [&seed[4..], &block[66..]].concat();
    assert!(RsaPrivate::from_prime(&srk_modulus(&mut tpm), &prime, DEFAULT_EXPONENT).is_ok());
}

#[test]
fn archives_need_a_key_the_owner_and_the_feature() {
    let mut tpm = owned();
    assert_eq!(send(&mut tpm, ord::READ_MANU_MAINT_PUB, &[&[0; 20]]), Err(13));
    assert_eq!(by_owner(&mut tpm, ord::CREATE_MAINTENANCE_ARCHIVE, &[&[0]]), Err(13));
    assert_eq!(load(&mut tpm, b"archive", b"signature", &[]), Err(13));
    let modulus = maintainer().public().modulus();
    for weak in [pubkey(&modulus[..128], 3, 1), pubkey(&modulus, 2, 1), pubkey(&modulus, 3, 2), pubkey(&[0; 256], 3, 1)]
    {
        assert_eq!(send(&mut tpm, ord::LOAD_MANU_MAINT_PUB, &[&[0; 20], &weak]), Err(40));
    }
    let mut tpm = maintained(tpm);
    assert_eq!(by_owner(&mut tpm, ord::CREATE_MAINTENANCE_ARCHIVE, &[&[2]]), Err(3));
    assert_eq!(by_owner(&mut tpm, ord::CREATE_MAINTENANCE_ARCHIVE, &[]), Err(25));
    for ordinal in [ord::CREATE_MAINTENANCE_ARCHIVE, ord::KILL_MAINTENANCE_FEATURE] {
        let mut wrong = oiap(&mut tpm, SRK_AUTH);
        let parameters: &[&[u8]] = if ordinal == ord::CREATE_MAINTENANCE_ARCHIVE { &[&[0]] } else { &[] };
        assert_eq!(call(&mut tpm, ordinal, &[], parameters, &mut [&mut wrong]), Err(1));
    }
    let signed = |archive: &[u8]| maintainer().sign_pkcs1_sha1(&mut rng(3), &sha1(&[archive])).unwrap();
    assert_eq!(load(&mut tpm, b"no key", &signed(b"no key"), &[]), Err(3));
    // Encrypted to this TPM, but no archive: the state stays as it is.
    let target = tpm_crypto::rsa::RsaPublic::new(&srk_modulus(&mut tpm), DEFAULT_EXPONENT).unwrap();
    let (_, archive) = create(&mut tpm, 0);
    let before = commit(&mut tpm);
    for plain in [vec![0; 198], vec![], vec![1; 21]] {
        let cipher = target.encrypt_oaep(&mut rng(2), &plain).unwrap();
        let archive = [&archive[..archive.len() - 260], &sized(&cipher)].concat();
        assert_eq!(load(&mut tpm, &archive, &signed(&archive), &[]), Err(33));
    }
    assert!(before.is_some() && commit(&mut tpm).is_none());

    by_owner(&mut tpm, ord::KILL_MAINTENANCE_FEATURE, &[]).unwrap();
    assert_eq!(by_owner(&mut tpm, ord::CREATE_MAINTENANCE_ARCHIVE, &[&[0]]), Err(8));
    assert_eq!(load(&mut tpm, b"no key", &signed(b"no key"), &[]), Err(8));
}

#[test]
fn not_before_the_start_nor_while_disabled() {
    let (mut cold, mut disabled) = (unstarted(), owned());
    disabled.assert_physical_presence();
    send(&mut disabled, ord::PHYSICAL_DISABLE, &[]).unwrap();
    for ordinal in ALL {
        assert_eq!(send(&mut cold, ordinal, &[]), Err(38));
        assert_eq!(send(&mut disabled, ordinal, &[]), Err(7));
    }
}

/// An archive of the maintainer's own making, for the storage root key of `tpm`: its key is the maintainer's.
fn forged(tpm: &mut Tpm12, payload: u8, usage: u16, flags: u32) -> (Vec<u8>, Vec<u8>) {
    let scheme = if usage == 0x11 { (3, 1) } else { (1, 2) };
    let template = template(usage, flags, 1, scheme.0, scheme.1, 2048);
    let public = [&template[..template.len() - 8], &sized(&maintainer().public().modulus())].concat();
    let prime = sized(&maintainer().prime());
    let (mut seed, part) = (prime[..20].to_vec(), &prime[20..]);
    let mut block = [&OWNER[..], &[1, payload], &[0x99; 20], &sha1(&[&public]), &sized(part)].concat();
    mgf1_sha1(&[&seed], &mut block);
    mgf1_sha1(&[&block], &mut seed);
    let mut plain = [seed, block].concat();
    mgf1_sha1(&[&OWNER], &mut plain);
    let target = tpm_crypto::rsa::RsaPublic::new(&srk_modulus(tpm), DEFAULT_EXPONENT).unwrap();
    let archive = [public, sized(&target.encrypt_oaep(&mut rng(2), &plain).unwrap())].concat();
    let signature = maintainer().sign_pkcs1_sha1(&mut rng(3), &sha1(&[&archive])).unwrap();
    (archive, signature)
}

#[test]
fn an_archive_holds_a_storage_root_key_and_nothing_else() {
    let mut tpm = maintained(owned());
    for (payload, usage, flags, code) in [(3, 0x11, 0, 41), (1, 0x11, 0, 41), (4, 0x11, 2, 36), (4, 0x10, 0, 36)] {
        let (archive, signature) = forged(&mut tpm, payload, usage, flags);
        assert_eq!(load(&mut tpm, &archive, &signature, &[]), Err(code));
    }
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let (archive, signature) = forged(&mut tpm, 4, 0x11, 0);
    load(&mut tpm, &archive, &signature, &[]).unwrap();
    assert_eq!(srk_modulus(&mut tpm), maintainer().public().modulus());
    assert_eq!(
        send(&mut tpm, ord::GET_PUB_KEY, &[&handle.to_be_bytes()]),
        Err(12),
        "everything of the old owner is gone"
    );
    assert_eq!(send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]), Err(8));
}

#[test]
fn with_a_random_mask_the_owner_comes_along() {
    let (mut from, mut to) = (maintained(owned()), other());
    let new: [u8; 20] = [0x21; 20];
    let mut auth = osap(&mut from, 2, 0x4000_0001, OWNER);
    let encrypted = auth.encrypt(&new, false);
    call(&mut from, ord::CHANGE_AUTH_OWNER, &[], &[&[0, 4], &encrypted, &[0, 2]], &mut [&mut auth]).unwrap();
    let out = by(&mut from, new, ord::CREATE_MAINTENANCE_ARCHIVE, &[&[1]]).unwrap();
    let (random, archive) = (&out[4..202], &out[206..]);
    let (archive, signature) = hand_over(archive, random, &mut to);
    load(&mut to, &archive, &signature, random).unwrap();
    assert_eq!(by_owner(&mut to, ord::KILL_MAINTENANCE_FEATURE, &[]), Err(1));
    by(&mut to, new, ord::KILL_MAINTENANCE_FEATURE, &[]).unwrap();
}

#[test]
fn the_flags_tell_that_maintenance_was_done() {
    let mut tpm = maintained(owned());
    let done = |tpm: &mut Tpm12| {
        let out = send(tpm, ord::GET_CAPABILITY, &[&[0, 0, 0, 4], &sized(&[0, 0, 1, 8])]).unwrap();
        out[4 + 2 + 18]
    };
    assert_eq!(done(&mut tpm), 0);
    create(&mut tpm, 0);
    assert_eq!(done(&mut tpm), 1);
}
