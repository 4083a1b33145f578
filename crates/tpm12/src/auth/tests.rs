use super::lockout::THRESHOLD;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{execute, owned, send};
use alloc::vec::Vec;

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
fn one_session_is_not_two() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let mut same = auth.clone();
    let blob = [&[1, 1, 0, 0][..], &sized(&[]), &sized(&[1; 256])].concat();
    let code = call(&mut tpm, ord::UNSEAL, &[SRK], &[&blob], &mut [&mut auth, &mut same]);
    assert_eq!(code, Err(19), "found to be no sealed blob before the second session counts");
}
