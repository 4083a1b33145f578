use super::*;
use crate::testing::fresh_state;

#[test]
fn a_stored_state_loads_to_the_same_bytes() {
    let state = fresh_state();
    assert_eq!(store_permanent(&load_permanent(state).unwrap())[..], *state);
}

#[test]
fn every_truncation_and_any_addition_is_refused() {
    let state = fresh_state();
    for cut in 0..state.len() {
        let refused = load_permanent(&state[..cut]).err().unwrap();
        assert_eq!(refused == StateError::Foreign, cut < 8, "{cut}: {refused}");
    }
    assert_eq!(load_permanent(&[state, &[0]].concat()).err(), Some(StateError::Damaged("end")));
}

#[test]
fn every_length_field_is_checked() {
    let state = fresh_state();
    let mut at = 12;
    while at < state.len() {
        let length = u32::from_be_bytes(state[at + 2..at + 6].try_into().unwrap());
        for lie in [0, 1, length.wrapping_sub(1), length + 1, 0xffff, u32::MAX] {
            let mut bad = state.to_vec();
            bad[at + 2..at + 6].copy_from_slice(&lie.to_be_bytes());
            assert!(lie == length || load_permanent(&bad).is_err());
        }
        at += 6 + length as usize;
    }
    assert_eq!(at, state.len());
}

#[test]
fn every_word_set_to_a_large_number_is_survived() {
    let state = fresh_state();
    for at in 12..state.len() - 4 {
        let mut bad = state.to_vec();
        bad[at..at + 4].fill(0xff);
        let _ = load_permanent(&bad);
    }
}

#[test]
fn each_cause_has_its_own_message() {
    let mut newer = fresh_state().to_vec();
    newer[9] = 3;
    let mut level = fresh_state().to_vec();
    level[11] = 2;
    let texts = [
        load_permanent(b"something else").err(),
        load_permanent(&newer).err(),
        load_permanent(&fresh_state()[..100]).err(),
        load_permanent(&fresh_state()[..9]).err(),
        load_permanent(&level).err(),
    ]
    .map(|error| alloc::string::ToString::to_string(&error.unwrap()));
    assert!(texts[0].contains("not a TPM 1.2 state"));
    assert!(texts[1].contains("format 3"));
    assert!(texts[2].contains("endorsement key"));
    assert!(texts[3].contains("header"));
    assert!(texts[4].contains("level 2"));
    assert_eq!(load_permanent(&[]).err(), Some(StateError::Foreign));
}

/// States of released formats. They load for ever, in every later version of this program; no file here is ever changed.
mod released {
    use crate::dispatch::table::ord;
    use crate::testing::client::*;
    use crate::testing::{rng, send};
    use crate::{Options, StartupType, Tpm12};

    const VERSION_1: &[u8] = include_bytes!("../../../tests/data/state-v1.bin");
    /// The same TPM, with so many wrong authorizations behind it that it begins locked.
    const VERSION_2: &[u8] = include_bytes!("../../../tests/data/state-v2.bin");

    #[test]
    fn version_1_loads_and_its_secrets_work() {
        secrets_work(Tpm12::load(VERSION_1, rng(90), Options::default()).unwrap());
    }

    #[test]
    fn version_2_loads_and_its_secrets_work_after_the_delay() {
        let mut tpm = Tpm12::load(VERSION_2, rng(90), Options::default()).unwrap();
        tpm.startup(StartupType::Clear).unwrap();
        let mut auth = oiap(&mut tpm, OWNER);
        assert_eq!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).err(), Some(0x803));
        let mut tpm = Tpm12::load(VERSION_2, rng(90), Options::default()).unwrap();
        tpm.set_time(u64::MAX / 2);
        secrets_work(tpm);
    }

    fn secrets_work(mut tpm: Tpm12) {
        tpm.startup(StartupType::Clear).unwrap();
        // The owner, a key that the owner holds, data sealed by this TPM, an NV area, a counter.
        let mut auth = oiap(&mut tpm, OWNER);
        assert!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).is_ok());
        let handles = send(&mut tpm, ord::GET_CAPABILITY, &[&[0, 0, 0, 7, 0, 0, 0, 0]]).unwrap();
        let handle = u32::from_be_bytes(handles[6..10].try_into().unwrap());
        let mut auth = oiap(&mut tpm, KEY_AUTH);
        assert!(call(&mut tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]).is_ok());
        let area = send(&mut tpm, ord::NV_READ_VALUE, &[&[0, 0, 0x11, 0], &[0; 4], &[0, 0, 0, 5]]).unwrap();
        assert_eq!(area[4..], *b"hello");
        assert_eq!(send(&mut tpm, ord::READ_COUNTER, &[&[0; 4]]).unwrap()[6..], [0, 0, 0, 1]);
        let blob = include_bytes!("../../../tests/data/sealed-v1.bin");
        let (mut parent, mut data) = (oiap(&mut tpm, SRK_AUTH), oiap(&mut tpm, KEY_AUTH));
        let out = call(&mut tpm, ord::UNSEAL, &[SRK], &[blob], &mut [&mut parent, &mut data]).unwrap();
        assert_eq!(out[4..], *b"sealed in version 1");
    }
}
