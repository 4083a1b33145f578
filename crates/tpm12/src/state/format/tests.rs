use super::*;
use crate::testing::fresh_state;
use alloc::vec;

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
    let mut at = 10;
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
    for at in 10..state.len() - 4 {
        let mut bad = state.to_vec();
        bad[at..at + 4].fill(0xff);
        let _ = load_permanent(&bad);
    }
}

#[test]
fn each_cause_has_its_own_message() {
    let mut newer = fresh_state().to_vec();
    newer[9] = 2;
    let texts = [
        load_permanent(b"something else").err(),
        load_permanent(&newer).err(),
        load_permanent(&fresh_state()[..100]).err(),
        load_permanent(&fresh_state()[..9]).err(),
    ]
    .map(|error| alloc::string::ToString::to_string(&error.unwrap()));
    assert!(texts[0].contains("not a TPM 1.2 state"));
    assert!(texts[1].contains("format 2"));
    assert!(texts[2].contains("endorsement key"));
    assert!(texts[3].contains("header"));
    assert_eq!(load_permanent(&[]).err(), Some(StateError::Foreign));
    assert_eq!(vec![newer[9]], [2]);
}
