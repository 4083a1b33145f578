use super::lockout::THRESHOLD;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{execute, owned, rng, send};
use alloc::vec::Vec;
use tpm_wire::Engine;

fn read_srk(tpm: &mut crate::Tpm12, auth: &mut Auth) -> Result<Vec<u8>, u32> {
    call(tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [auth])
}

/// `TPM_INVALID_KEYHANDLE`: the authorization was right, the storage root key is just not readable this way.
const AUTHORIZED: Result<Vec<u8>, u32> = Err(12);

#[test]
fn sessions_roll_their_nonces_and_end_when_told() {
    let mut tpm = owned();
    let (_, key) = new_key(&mut tpm, &signing_template(2, 512));
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let packet = authorized(ord::LOAD_KEY2, &[SRK], &[&key], &[&mut auth]);
    let first = execute(&mut tpm, 0, &packet);
    check_response(&first, ord::LOAD_KEY2, &mut [&mut auth], true).unwrap();
    let replayed = execute(&mut tpm, 0, &packet);
    assert_eq!(replayed[6..10], [0, 0, 0, 1], "an old nonce");
    assert_eq!(read_srk(&mut tpm, &mut auth), Err(34), "an error ends the session");

    let mut auth = oiap(&mut tpm, SRK_AUTH);
    auth.keep = false;
    call_at(&mut tpm, 0, ord::LOAD_KEY2, &[SRK], &[&key], &mut [&mut auth], true).unwrap();
    auth.keep = true;
    assert_eq!(read_srk(&mut tpm, &mut auth), Err(34));
}

#[test]
fn every_bit_of_a_command_is_authorized() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    for at in [14, 20, 40, 100, 200] {
        let mut auth = oiap(&mut tpm, SRK_AUTH);
        let mut packet = authorized(ord::LOAD_KEY2, &[SRK], &[&key], &[&mut auth]);
        packet[at] ^= 1;
        let code = execute(&mut tpm, 0, &packet)[9];
        assert!(code != 0);
    }
    for from_end in [1, 20, 21, 22, 41] {
        let mut auth = oiap(&mut tpm, SRK_AUTH);
        let mut packet = authorized(ord::LOAD_KEY2, &[SRK], &[&key], &[&mut auth]);
        let at = packet.len() - from_end;
        packet[at] ^= 1;
        assert_eq!(execute(&mut tpm, 0, &packet)[9], 1);
    }
}

#[test]
fn a_session_for_one_entity_is_none_for_another() {
    let mut tpm = owned();
    let mut auth = osap(&mut tpm, 2, 0, OWNER);
    assert_eq!(read_srk(&mut tpm, &mut auth), Err(1));
    let mut auth = osap(&mut tpm, 1, SRK, SRK_AUTH);
    assert_eq!(read_srk(&mut tpm, &mut auth), AUTHORIZED);
    let mut auth = osap(&mut tpm, 4, 0, SRK_AUTH);
    assert_eq!(read_srk(&mut tpm, &mut auth), AUTHORIZED);
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let mut auth = osap(&mut tpm, 1, handle, KEY_AUTH);
    send(&mut tpm, ord::FLUSH_SPECIFIC, &[&handle.to_be_bytes(), &1u32.to_be_bytes()]).unwrap();
    assert_eq!(read_srk(&mut tpm, &mut auth), Err(34), "it goes with its key");
}

#[test]
fn unknown_entities_and_schemes_get_no_session() {
    let mut tpm = owned();
    let mut osap =
        |kind: u16, value: u32| send(&mut tpm, ord::OSAP, &[&kind.to_be_bytes(), &value.to_be_bytes(), &[0; 20]]).err();
    assert_eq!(osap(1, 0x0101_0101), Some(12));
    assert_eq!(osap(0x0201, SRK), Some(14));
    assert_eq!(osap(3, 0), Some(3));
    assert_eq!(osap(10, 5), Some(69));
    assert_eq!(osap(11, 5), Some(2));
}

#[test]
fn sixteen_sessions_fit() {
    let mut tpm = owned();
    for _ in 0..16 {
        oiap(&mut tpm, OWNER);
    }
    assert_eq!(send(&mut tpm, ord::OIAP, &[]), Err(21));
}

#[test]
fn guessing_locks_for_a_while_and_time_forgives() {
    let mut tpm = owned();
    let guess = |tpm: &mut crate::Tpm12, secret| {
        let mut auth = oiap(tpm, secret);
        read_srk(tpm, &mut auth)
    };
    for _ in 0..THRESHOLD {
        assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    }
    assert_eq!(guess(&mut tpm, SRK_AUTH), Err(0x803), "the right secret is refused, too");
    // A reboot of the guest does not help the guesser.
    tpm.reset_for_new_guest();
    assert_eq!(guess(&mut tpm, SRK_AUTH), Err(0x803));
    tpm.set_time(1_000_000);
    assert_eq!(guess(&mut tpm, SRK_AUTH), AUTHORIZED);
    assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    tpm.set_time(2_000_000);
    assert_eq!(guess(&mut tpm, SRK_AUTH), Err(0x803), "the delay doubles");
    tpm.set_time(10_000_000_000);
    assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    assert_eq!(guess(&mut tpm, SRK_AUTH), AUTHORIZED, "forgiven");
}

#[test]
fn a_restart_is_no_way_around_the_delay() {
    let mut tpm = owned();
    let guess = |tpm: &mut crate::Tpm12, secret| {
        let mut auth = oiap(tpm, secret);
        read_srk(tpm, &mut auth)
    };
    let restarted = |tpm: &mut crate::Tpm12| {
        let state = tpm.staged().unwrap();
        let mut again = crate::Tpm12::load(&state, rng(91), crate::Options::default()).unwrap();
        again.startup(crate::StartupType::Clear).unwrap();
        again
    };
    for round in 0..u64::from(THRESHOLD) + 3 {
        tpm.set_time(round * 10_000_000);
        assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    }
    let mut tpm = restarted(&mut tpm);
    assert_eq!(guess(&mut tpm, SRK_AUTH), Err(0x803));
    tpm.set_time(8_000_000);
    assert_eq!(guess(&mut tpm, SRK_AUTH), AUTHORIZED, "the delay of so many failures is over");
    assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    tpm.set_time(23_000_000);
    assert_eq!(guess(&mut tpm, SRK_AUTH), Err(0x803), "and goes on doubling");
    tpm.set_time(10_000_000_000);
    assert_eq!(guess(&mut tpm, [9; 20]), Err(1));
    let mut tpm = restarted(&mut tpm);
    assert_eq!(guess(&mut tpm, SRK_AUTH), AUTHORIZED, "what time has forgiven stays forgiven");
}

#[test]
fn one_session_is_not_two() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let mut same = auth.clone();
    let blob = [&[1, 1, 0, 0][..], &sized(&[]), &sized(&[1; 256])].concat();
    let code = call(&mut tpm, ord::UNSEAL, &[SRK], &[&blob], &mut [&mut auth, &mut same]);
    assert_eq!(code, Err(19), "found to be no sealed blob before the second session counts");
}

/// Every command of the owner's, with parameters that are right: without the owner's secret it changes nothing.
#[test]
fn what_is_the_owners_is_nobody_elses() {
    let mut tpm = owned();
    let (handle, key) = new_key(&mut tpm, &signing_template(2, 512));
    let public = [&signing_template(2, 512)[11..35], &sized(&public_of(&key).modulus())].concat();
    let strong = [&storage_template(0)[11..35], &sized(&[0xff; 256])].concat();
    let delegation = {
        let pcr = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        [&[0, 0x1b, 5][..], &pcr, &[0, 0x1a, 0, 0, 0, 1], &[0; 16]].concat()
    };
    let area = crate::commands::nv::tests::definition(0x1200, 0x0002_0002, 4);
    let identity = template(0x12, 0, 1, 1, 2, 2048);
    let none: &[u32] = &[];
    let owners: &[(u32, &[u32], Vec<u8>)] = &[
        (ord::OWNER_SET_DISABLE, none, [1].into()),
        (ord::OWNER_CLEAR, none, [].into()),
        (ord::DISABLE_OWNER_CLEAR, none, [].into()),
        (ord::SET_CAPABILITY, none, [&[0, 0, 0, 1][..], &sized(&[0, 0, 0, 17]), &sized(&[1])].concat()),
        (ord::GET_CAPABILITY_OWNER, none, [].into()),
        (ord::SET_ORDINAL_AUDIT_STATUS, none, [0, 0, 0, 0x46, 1].into()),
        (ord::RESET_LOCK_VALUE, none, [].into()),
        (ord::AUTHORIZE_MIGRATION_KEY, none, [&[0, 1][..], &strong].concat()),
        (ord::CMK_SET_RESTRICTIONS, none, [0; 4].into()),
        (ord::CMK_APPROVE_MA, none, [0; 20].into()),
        (ord::CMK_CREATE_TICKET, none, [&strong[..], &[0; 20], &sized(&[0; 256])].concat()),
        (ord::CREATE_MAINTENANCE_ARCHIVE, none, [1].into()),
        (ord::LOAD_MAINTENANCE_ARCHIVE, none, [0; 12].into()),
        (ord::KILL_MAINTENANCE_FEATURE, none, [].into()),
        (ord::OWNER_READ_INTERNAL_PUB, none, [0x40, 0, 0, 6].into()),
        (ord::MAKE_IDENTITY, none, [&[0; 40], &identity[..]].concat()),
        (ord::ACTIVATE_IDENTITY, &[handle], sized(&[1; 256])),
        (ord::CHANGE_AUTH_OWNER, none, [&[0, 4][..], &[0; 20], &[0, 2]].concat()),
        (ord::DELEGATE_MANAGE, none, [&[0, 0, 0, 0, 0, 0, 0, 1][..], &sized(&[5])].concat()),
        (ord::DELEGATE_CREATE_OWNER_DELEGATION, none, [&[0][..], &delegation, &[0; 20]].concat()),
        (ord::DELEGATE_UPDATE_VERIFICATION, none, sized(&[0; 4])),
        (ord::NV_DEFINE_SPACE, none, [&area[..], &[0; 20]].concat()),
        (ord::NV_WRITE_VALUE, none, [&[0x10, 0, 0, 1, 0, 0, 0, 0][..], &sized(&[1; 20])].concat()),
        (ord::KEY_CONTROL_OWNER, &[handle], [&public[..], &[0, 0, 0, 1, 1]].concat()),
        (ord::CREATE_COUNTER, none, [0; 24].into()),
        (ord::RELEASE_COUNTER_OWNER, none, [0; 4].into()),
        (ord::DAA_JOIN, &[0], [&[0][..], &sized(&[0, 0, 0, 1]), &sized(&[])].concat()),
        (ord::DAA_SIGN, &[0], [&[0][..], &sized(&[1; 306]), &sized(&[])].concat()),
        (ord::DIR_WRITE_AUTH, none, [0; 24].into()),
        (ord::OWNER_READ_PUBEK, none, [].into()),
        (ord::DISABLE_PUBEK_READ, none, [].into()),
        (ord::DEEP_QUOTE, none, [&[0; 20][..], &[0, 3, 0, 0, 0, 0, 3, 0, 0, 0], &[0; 4]].concat()),
        (ord::PARENT_SIGN_EK, none, [&[0; 20][..], &[0, 3, 0, 0, 0]].concat()),
    ];
    let nv_lock = crate::commands::nv::tests::definition(0xffff_ffff, 0, 0);
    send(&mut tpm, ord::NV_DEFINE_SPACE, &[&nv_lock, &[0; 20]]).unwrap();
    crate::testing::commit(&mut tpm);
    for (ordinal, handles, parameters) in owners {
        let keys = match *ordinal {
            ord::MAKE_IDENTITY => Some(SRK_AUTH),
            ord::ACTIVATE_IDENTITY => Some(KEY_AUTH),
            _ => None,
        };
        let kinds: [fn(&mut crate::Tpm12) -> Auth; 5] = [
            |tpm| oiap(tpm, [0x0e; 20]),
            |tpm| oiap(tpm, SRK_AUTH),
            |tpm| osap(tpm, 2, 0, [0x0e; 20]),
            |tpm| osap(tpm, 4, 0, SRK_AUTH),
            |tpm| Auth { keep: false, even: [0; 20], ..oiap(tpm, OWNER) },
        ];
        for (number, open) in kinds.iter().enumerate() {
            let mut session = open(&mut tpm);
            let mut first = keys.map(|secret| oiap(&mut tpm, secret));
            let mut auths: Vec<&mut Auth> = first.iter_mut().chain([&mut session]).collect();
            let code = call(&mut tpm, *ordinal, handles, &[parameters], &mut auths);
            // The code is that of the authorization in question, or that of a session of the wrong kind.
            let failed = if keys.is_some() { 29 } else { 1 };
            assert!(matches!(code, Err(c) if c == failed || c == 44), "{ordinal:#x} as {number}: {code:?}");
            send(&mut tpm, ord::RESET, &[]).unwrap();
            tpm.forgive();
        }
        let bare = [&handles.iter().flat_map(|handle| handle.to_be_bytes()).collect::<Vec<u8>>(), &parameters[..]];
        assert!(send(&mut tpm, *ordinal, &bare).is_err(), "{ordinal:#x} without authorization");
        assert_eq!(crate::testing::commit(&mut tpm), None, "{ordinal:#x} changed something");
    }
}

#[test]
fn every_session_has_a_handle_and_a_nonce_of_its_own() {
    let mut tpm = owned();
    let mut seen = Vec::from([[0; 20]]);
    let mut handles = Vec::new();
    for _ in 0..16 {
        let session = oiap(&mut tpm, OWNER);
        assert_eq!(session.handle >> 24, 2);
        assert!(!handles.contains(&session.handle) && !seen.contains(&session.even));
        handles.push(session.handle);
        seen.push(session.even);
    }
}
