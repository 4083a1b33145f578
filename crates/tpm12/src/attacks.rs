//! What broke other TPMs, tried on this one: ciphertexts of every length, secrets that outlive their key, sessions put away and
//! taken out again, structures passed off as others.

use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{command, commit, execute, owned, rng, send};
use crate::{Options, StartupType, Tpm12};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::rsa::RsaPublic;
use tpm_wire::Engine;

fn auth(tpm: &mut Tpm12, secret: [u8; 20]) -> Auth {
    Auth { keep: false, ..oiap(tpm, secret) }
}

/// The public part of the endorsement or storage root key.
fn internal_pub(tpm: &mut Tpm12, handle: u32) -> RsaPublic {
    let mut owner = auth(tpm, OWNER);
    public_of(&call(tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&handle.to_be_bytes()], &mut [&mut owner]).unwrap())
}

/// Ciphertexts for a 2048-bit key that no padding can be in: of every length up to one byte too many, and numbers from the
/// modulus on.
fn wrong_ciphertexts(key: &RsaPublic) -> Vec<Vec<u8>> {
    let modulus = key.modulus();
    let mut above = modulus.clone();
    above[255] = 0xff;
    let lengths = (0..=257).filter(|length| *length != 256).map(|length| vec![0x5a; length]);
    lengths.chain([vec![0; 256], vec![0xff; 256], modulus, above]).collect()
}

#[test]
fn ciphertexts_of_every_length_are_refused_with_the_same_answer_and_harm_nothing() {
    let mut tpm = owned();
    let (srk, ek) = (internal_pub(&mut tpm, SRK), internal_pub(&mut tpm, 0x4000_0006));
    for scheme in [2, 3] {
        let (handle, key) = new_key(&mut tpm, &template(0x14, 0, 1, scheme, 1, 2048));
        for data in wrong_ciphertexts(&public_of(&key)) {
            let mut own = auth(&mut tpm, KEY_AUTH);
            let code = if data.is_empty() { 3 } else { 33 };
            assert_eq!(call(&mut tpm, ord::UNBIND, &[handle], &[&sized(&data)], &mut [&mut own]), Err(code));
        }
        send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]).unwrap();
    }
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let (public, _) = key.split_at(key.len() - 260);
    for data in wrong_ciphertexts(&srk) {
        let (mut parent, mut own) = (auth(&mut tpm, SRK_AUTH), auth(&mut tpm, KEY_AUTH));
        let blob = [&[1, 1, 0, 0][..], &sized(&[]), &sized(&data)].concat();
        assert_eq!(call(&mut tpm, ord::UNSEAL, &[SRK], &[&blob], &mut [&mut parent, &mut own]), Err(19));
        assert_eq!(load_key(&mut tpm, SRK, SRK_AUTH, &[public, &sized(&data)].concat()), Err(33));
    }
    let identity = {
        let (mut srk, mut owner) = (auth(&mut tpm, SRK_AUTH), osap(&mut tpm, 2, 0, OWNER));
        let (enc, identity) = (owner.encrypt(&KEY_AUTH, false), template(0x12, 0, 1, 1, 2, 2048));
        let parameters: [&[u8]; 3] = [&enc, &[8; 20], &identity];
        let out = call(&mut tpm, ord::MAKE_IDENTITY, &[], &parameters, &mut [&mut srk, &mut owner]).unwrap();
        load_key(&mut tpm, SRK, SRK_AUTH, &out[..out.len() - 260]).unwrap()
    };
    for data in wrong_ciphertexts(&ek) {
        let (mut own, mut owner) = (auth(&mut tpm, KEY_AUTH), auth(&mut tpm, OWNER));
        let both = &mut [&mut own, &mut owner];
        assert_eq!(call(&mut tpm, ord::ACTIVATE_IDENTITY, &[identity], &[&sized(&data)], both), Err(33));
    }
    // None of it counted as a wrong authorization, and no key or session was left behind, authorized or not.
    assert!(load_key(&mut tpm, SRK, SRK_AUTH, &key).is_ok());
    let handles = |tpm: &mut Tpm12, kind: u32| {
        send(tpm, ord::GET_CAPABILITY, &[&0x14u32.to_be_bytes(), &sized(&kind.to_be_bytes())]).unwrap()[5]
    };
    assert_eq!((handles(&mut tpm, 1), handles(&mut tpm, 2)), (2, 0));
}

/// Whether `secret` stands anywhere in what the engine would store: all that it knows.
fn knows(tpm: &mut Tpm12, secret: &[u8]) -> bool {
    tpm.committed();
    let volatile = tpm.save_volatile();
    // Saving a state is a change, so that all of the permanent state is staged.
    send(tpm, ord::SAVE_STATE, &[]).unwrap();
    let permanent = tpm.staged().unwrap();
    let found = |state: &[u8]| state.windows(secret.len()).any(|window| window == secret);
    found(&volatile) || found(&permanent)
}

/// A secret that nothing else contains.
const MARK: [u8; 20] = *b"a secret to look for";

/// Makes and loads a key whose usage authorization is [`MARK`].
fn marked_key(tpm: &mut Tpm12) -> u32 {
    let mut parent = osap(tpm, 1, SRK, SRK_AUTH);
    let (usage, migration) = (parent.encrypt(&MARK, false), parent.encrypt(&MIGRATION_AUTH, true));
    let parameters: [&[u8]; 3] = [&usage, &migration, &signing_template(2, 512)];
    let key = call(tpm, ord::CREATE_WRAP_KEY, &[SRK], &parameters, &mut [&mut parent]).unwrap();
    assert!(!knows(tpm, &MARK), "making a key keeps nothing");
    load_key(tpm, SRK, SRK_AUTH, &key).unwrap()
}

#[test]
fn a_keys_secrets_go_with_the_key() {
    type Way = fn(&mut Tpm12, u32) -> Result<Vec<u8>, u32>;
    let kind = 1u32.to_be_bytes();
    let ways: [Way; 4] = [
        |tpm, handle| send(tpm, ord::FLUSH_SPECIFIC, &[&handle.to_be_bytes(), &1u32.to_be_bytes()]),
        |tpm, handle| send(tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]),
        |tpm, _| {
            let mut owner = auth(tpm, OWNER);
            call(tpm, ord::OWNER_CLEAR, &[], &[], &mut [&mut owner])
        },
        |tpm, _| {
            tpm.assert_physical_presence();
            send(tpm, ord::FORCE_CLEAR, &[])
        },
    ];
    for way in ways {
        let mut tpm = owned();
        let handle = marked_key(&mut tpm);
        let prime = tpm.prime_of(handle);
        assert!(knows(&mut tpm, &MARK) && knows(&mut tpm, &prime));
        // An OSAP session has a secret of its own, and a context takes all of it out of the TPM's hands but encrypted.
        let session = osap(&mut tpm, 1, handle, MARK);
        assert!(knows(&mut tpm, &session.key));
        let saved = send(&mut tpm, ord::SAVE_CONTEXT, &[&handle.to_be_bytes(), &kind, &[0; 16]]).unwrap();
        assert!(!saved.windows(20).any(|window| window == MARK));
        way(&mut tpm, handle).unwrap();
        for secret in [&MARK[..], &prime, &session.key] {
            assert!(!knows(&mut tpm, secret));
        }
    }
}

#[test]
fn clearing_forgets_owner_root_key_and_owners_areas_for_good() {
    let mut tpm = owned();
    let root = tpm.prime_of(SRK);
    let mut owner = osap(&mut tpm, 2, 0, OWNER);
    let enc = owner.encrypt(&[0x0a; 20], false);
    let definition = crate::commands::nv::tests::definition(0x1200, 0x0002_0002, 20);
    call(&mut tpm, ord::NV_DEFINE_SPACE, &[], &[&definition, &enc], &mut [&mut owner]).unwrap();
    let mut owner = auth(&mut tpm, OWNER);
    let parameters: [&[u8]; 3] = [&0x1200u32.to_be_bytes(), &[0; 4], &sized(&MARK)];
    call(&mut tpm, ord::NV_WRITE_VALUE, &[], &parameters, &mut [&mut owner]).unwrap();
    for secret in [&root[..], &OWNER, &SRK_AUTH, &MARK] {
        assert!(knows(&mut tpm, secret));
    }
    let mut owner = auth(&mut tpm, OWNER);
    call(&mut tpm, ord::OWNER_CLEAR, &[], &[], &mut [&mut owner]).unwrap();
    for secret in [&root[..], &OWNER, &SRK_AUTH, &MARK] {
        assert!(!knows(&mut tpm, secret));
    }
    // The cleared state is what is stored, and the old one does not come back with a failure to store.
    let state = commit(&mut tpm).unwrap();
    assert!(!state.windows(20).any(|window| window == MARK));
    let mut again = Tpm12::load(&state, rng(5), Options::default()).unwrap();
    again.startup(StartupType::Clear).unwrap();
    assert_eq!(send(&mut again, ord::OSAP, &[&[0, 2], &[0; 4], &[0; 20]]), Err(18));
}

#[test]
fn a_saved_session_for_an_area_does_not_open_its_successor() {
    let mut tpm = owned();
    let define = |tpm: &mut Tpm12, secret: [u8; 20]| {
        let mut owner = osap(tpm, 2, 0, OWNER);
        let enc = owner.encrypt(&secret, false);
        let definition = crate::commands::nv::tests::definition(0x1200, 0x0004_0004, 8);
        call(tpm, ord::NV_DEFINE_SPACE, &[], &[&definition, &enc], &mut [&mut owner]).unwrap();
    };
    define(&mut tpm, [0x0a; 20]);
    let session = osap(&mut tpm, 11, 0x1200, [0x0a; 20]);
    let saved = send(&mut tpm, ord::SAVE_AUTH_CONTEXT, &[&session.handle.to_be_bytes()]).unwrap();
    define(&mut tpm, [0x0b; 20]);
    assert_eq!(send(&mut tpm, ord::LOAD_AUTH_CONTEXT, &[&saved]), Err(90));
}

#[test]
fn a_lost_change_of_an_owners_key_is_lost_in_the_key_slots_too() {
    let mut tpm = owned();
    let (handle, key) = new_key(&mut tpm, &signing_template(2, 512));
    let public = [&signing_template(2, 512)[11..35], &sized(&public_of(&key).modulus())].concat();
    let control = |tpm: &mut Tpm12, value: u8| {
        let mut owner = auth(tpm, OWNER);
        let parameters: [&[u8]; 3] = [&public, &[0, 0, 0, 1], &[value]];
        call(tpm, ord::KEY_CONTROL_OWNER, &[handle], &parameters, &mut [&mut owner]).unwrap();
    };
    control(&mut tpm, 1);
    commit(&mut tpm).unwrap();
    control(&mut tpm, 0);
    tpm.discard();
    assert_eq!(send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]), Err(68), "it is the owner's as before");
}

#[test]
fn a_locked_tpm_compares_no_secret_at_all() {
    let mut tpm = owned();
    let (handle, _) = new_key(&mut tpm, &storage_template(0));
    for _ in 0..crate::auth::lockout::THRESHOLD {
        let mut wrong = oiap(&mut tpm, [9; 20]);
        assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut wrong]), Err(1));
    }
    let mut right = oiap(&mut tpm, KEY_AUTH);
    let packet = authorized(ord::GET_PUB_KEY, &[handle], &[], &[&mut right]);
    assert_eq!(execute(&mut tpm, 0, &packet)[6..10], [0, 0, 8, 3]);
    tpm.make_endorsement_key_revocable([7; 20]);
    tpm.assert_physical_presence();
    for guess in [[8; 20], [7; 20]] {
        assert_eq!(send(&mut tpm, ord::REVOKE_TRUST, &[&guess]), Err(0x803));
    }
    // The session survived, and is good when the time is over.
    tpm.set_time(1_000_000);
    assert_eq!(execute(&mut tpm, 0, &packet)[6..10], [0; 4]);
    assert_eq!(send(&mut tpm, ord::REVOKE_TRUST, &[&[7; 20]]), Ok(Vec::new()));
    assert_eq!(execute(&mut tpm, 0, &command(ord::READ_PUBEK, &[&[0; 20]]))[9], 35);
}

/// Every command that uses the private part of a key: not with another secret or none, not while a PCR or the locality is wrong.
#[test]
fn keys_are_used_by_who_knows_them_where_and_when_they_may_be() {
    let mut tpm = owned();
    let now = tpm_crypto::sha1(&[&[0, 3, 0, 4, 0, 0, 0, 0, 20], &[0; 20]]);
    let pcr = [&[0, 6, 0x1f, 0x01, 0, 3, 0, 4, 0, 0, 3, 0, 4, 0][..], &[0; 20], &now].concat();
    let (storage, key) = new_key(&mut tpm, &template12(0x11, 0, 3, 1, 2048, &pcr));
    let (signing, _) = new_key(&mut tpm, &template12(0x10, 0, 1, 2, 512, &pcr));
    let (binding, _) = new_key(&mut tpm, &template12(0x14, 0, 3, 1, 512, &pcr));
    let (authority, _) = new_key(&mut tpm, &template12(0x16, 0, 3, 1, 2048, &pcr));
    let pubkey = [&storage_template(0)[11..35], &sized(&public_of(&key).modulus())].concat();
    let destination = [&pubkey[..], &[0, 1], &[0; 20]].concat();
    let delegation = {
        let all = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        [&[0, 0x1b, 5][..], &all, &[0, 0x1a, 0, 0, 0, 2], &[0; 16]].concat()
    };
    let (new, old) = (signing_template(2, 512), sized(&[1; 256]));
    let list = sized(&[&[0, 0, 0, 1][..], &[0; 20]].concat());
    let commands: &[(u32, u32, Vec<u8>)] = &[
        (ord::SEAL, storage, [&[0; 20][..], &sized(&[]), &sized(b"x")].concat()),
        (ord::SEALX, storage, [&[0; 20][..], &sized(&[]), &sized(b"x")].concat()),
        (ord::CREATE_WRAP_KEY, storage, [&[0; 40], &new[..]].concat()),
        (ord::LOAD_KEY2, storage, new.clone()),
        (ord::LOAD_KEY, storage, new.clone()),
        (ord::CONVERT_MIGRATION_BLOB, storage, [&old[..], &sized(&[1; 198])].concat()),
        (ord::CMK_CREATE_KEY, storage, [&[0; 20], &template12(0x10, 0x12, 1, 2, 512, &[])[..], &[0; 40]].concat()),
        (ord::CMK_CREATE_BLOB, storage, [&[0, 1][..], &destination, &[0; 20], &list, &[0; 8], &old].concat()),
        (ord::CMK_CONVERT_MIGRATION, storage, [&[0; 80], &new[..], &list, &sized(&[1; 198])].concat()),
        (ord::ESTABLISH_TRANSPORT, storage, [&[0, 0x1e, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1][..], &old].concat()),
        (ord::DELEGATE_CREATE_KEY_DELEGATION, storage, [&delegation[..], &[0; 20]].concat()),
        (ord::MIGRATE_KEY, authority, [&pubkey[..], &old].concat()),
        (ord::UNBIND, binding, sized(&[1; 64])),
        (ord::SIGN, signing, sized(&[1; 20])),
        (ord::QUOTE, signing, [&[9; 20][..], &[0, 3, 1, 0, 0]].concat()),
        (ord::QUOTE2, signing, [&[9; 20][..], &[0, 3, 1, 0, 0, 1]].concat()),
        (ord::TICK_STAMP_BLOB, signing, [9; 40].into()),
        (ord::GET_AUDIT_DIGEST_SIGNED, signing, [&[0][..], &[9; 20]].concat()),
        (ord::GET_PUB_KEY, signing, Vec::new()),
    ];
    let send_all = |tpm: &mut Tpm12, locality: u8, open: &dyn Fn(&mut Tpm12, u32) -> Auth, codes: &[u32]| {
        for (ordinal, handle, parameters) in commands {
            let mut session = open(tpm, *handle);
            let code = call_at(tpm, locality, *ordinal, &[*handle], &[parameters], &mut [&mut session], false);
            assert!(matches!(code, Err(c) if codes.contains(&c)), "{ordinal:#x}: {code:?}");
            send(tpm, ord::RESET, &[]).unwrap();
            tpm.forgive();
        }
    };
    // AUTHFAIL, or BAD_MODE where a new secret comes along.
    send_all(&mut tpm, 0, &|tpm, _| auth(tpm, SRK_AUTH), &[1, 44]);
    send_all(&mut tpm, 0, &|tpm, handle| osap(tpm, 1, handle, SRK_AUTH), &[1]);
    send_all(&mut tpm, 0, &|tpm, _| osap(tpm, 4, 0, SRK_AUTH), &[1]);
    send_all(&mut tpm, 0, &|tpm, _| osap(tpm, 2, 0, OWNER), &[1]);
    for (ordinal, handle, parameters) in commands {
        let bare = send(&mut tpm, *ordinal, &[&handle.to_be_bytes(), parameters]);
        assert!(matches!(bare, Err(1 | 30)), "{ordinal:#x} without authorization: {bare:?}");
    }
    let right = |tpm: &mut Tpm12, handle: u32| osap(tpm, 1, handle, KEY_AUTH);
    send_all(&mut tpm, 1, &right, &[61]);
    send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[1; 20]]).unwrap();
    send_all(&mut tpm, 0, &right, &[24]);
}

#[test]
fn wrapped_commands_of_every_length_are_refused() {
    // The class of CVE-2023-1017: what is to be decrypted ends before it begins.
    let mut tpm = owned();
    let public = [0, 0x1e, 0, 0, 0, 2, 0, 0, 0, 7, 0, 1];
    for ordinal in
        [ord::OIAP, ord::DSAP, ord::LOAD_KEY2, ord::CERTIFY_KEY, ord::UNSEAL, ord::EXECUTE_TRANSPORT, u32::MAX]
    {
        for tag in [0xc0u16, 0xc1, 0xc2, 0xc3, 0xc4] {
            for length in 0..=120usize {
                let parameters: [&[u8]; 3] = [&[0x40, 0, 0, 3], &public, &sized(&[7; 20])];
                let handle = send(&mut tpm, ord::ESTABLISH_TRANSPORT, &parameters).unwrap()[..4].to_vec();
                let head = [&tag.to_be_bytes()[..], &(length as u32).to_be_bytes(), &ordinal.to_be_bytes()].concat();
                let mut wrapped = head.clone();
                wrapped.resize(length, 0);
                let mut packet =
                    command(ord::EXECUTE_TRANSPORT, &[&sized(&wrapped), &handle, &[5; 20], &[0], &[6; 20]]);
                packet[1] = 0xc2;
                let code = execute(&mut tpm, 0, &packet)[9];
                // A command that could be taken apart is refused for its authorization; the session ends either way.
                let apart = length >= 10 && (0xc1..=0xc3).contains(&tag) && ordinal != u32::MAX;
                assert!(matches!(code, 3 | 25) || code == 1 && apart, "{ordinal:#x} of {length} bytes: {code}");
                tpm.forgive();
            }
        }
    }
}
