use crate::dispatch::table::ord;
use crate::testing::{commit, fresh_state, rng, send, tpm, unstarted};
use crate::{NoSavedState, Options, StartupType, Tpm12};
use tpm_wire::Engine;

const INVALID_POSTINIT: Result<alloc::vec::Vec<u8>, u32> = Err(38);

#[test]
fn nothing_but_startup_runs_before_startup_and_it_runs_once() {
    let mut tpm = unstarted();
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), INVALID_POSTINIT);
    assert_eq!(send(&mut tpm, ord::GET_CAPABILITY, &[&[0, 0, 0, 6, 0, 0, 0, 0]]), INVALID_POSTINIT);
    assert_eq!(send(&mut tpm, ord::STARTUP, &[&[0, 4]]), Err(3));
    assert_eq!(send(&mut tpm, ord::STARTUP, &[&[0, 1]]), Ok(alloc::vec![]));
    assert_eq!(send(&mut tpm, ord::STARTUP, &[&[0, 1]]), INVALID_POSTINIT);
    // What Linux sends to a TPM that its platform has started.
    assert_eq!(send(&mut self::tpm(), ord::STARTUP, &[&[0, 1]]), INVALID_POSTINIT);
    assert_eq!(send(&mut tpm, ord::INIT, &[]), Err(10));
}

#[test]
fn a_deactivated_start_lasts_until_the_next_one() {
    let mut tpm = unstarted();
    tpm.startup(StartupType::Deactivated).unwrap();
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), Err(6));
    assert!(send(&mut tpm, ord::EXTEND, &[&[0; 24]]).is_ok_and(|value| value == [0; 20]));
    tpm.reset_for_new_guest();
    assert!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]).is_ok());
}

#[test]
fn a_saved_state_comes_back_once_and_only_if_nothing_came_after_it() {
    let restart = |state: &[u8]| {
        let mut tpm = Tpm12::load(state, rng(9), Options::default()).unwrap();
        tpm.startup(StartupType::State).map(|()| tpm)
    };
    let mut first = tpm();
    let extended = send(&mut first, ord::EXTEND, &[&[0, 0, 0, 3], &[7; 20]]).unwrap();
    assert_eq!(commit(&mut first), None, "an extend is volatile");
    send(&mut first, ord::SAVE_STATE, &[]).unwrap();
    let state = commit(&mut first).unwrap();
    let mut second = restart(&state).unwrap();
    assert_eq!(send(&mut second, ord::PCR_READ, &[&[0, 0, 0, 3]]).unwrap(), extended);
    // The start used it up, durably.
    let state = commit(&mut second).unwrap();
    assert_eq!(restart(&state).err(), Some(NoSavedState));

    send(&mut first, ord::PCR_READ, &[&[0; 4]]).unwrap();
    let state = commit(&mut first).unwrap();
    assert_eq!(restart(&state).err(), Some(NoSavedState));
    assert_eq!(restart(fresh_state()).err(), Some(NoSavedState));
}

#[test]
fn volatile_state_moves_to_another_engine() {
    let mut first = tpm();
    let extended = send(&mut first, ord::EXTEND, &[&[0, 0, 0, 3], &[7; 20]]).unwrap();
    send(&mut first, ord::OIAP, &[]).unwrap();
    let saved = first.save_volatile();
    let mut second = unstarted();
    second.restore_volatile(&saved).unwrap();
    assert_eq!(send(&mut second, ord::PCR_READ, &[&[0, 0, 0, 3]]).unwrap(), extended);
    assert_eq!(second.save_volatile(), saved);
    for cut in 0..saved.len() {
        assert!(unstarted().restore_volatile(&saved[..cut]).is_err());
    }
}

#[test]
fn a_new_guest_finds_fresh_pcrs_and_the_old_permanent_state() {
    let mut tpm = tpm();
    tpm.set_pcr(5, [9; 20]).unwrap();
    assert!(tpm.set_pcr(24, [9; 20]).is_err());
    assert_eq!(send(&mut tpm, ord::PCR_READ, &[&[0, 0, 0, 5]]).unwrap(), [9; 20]);
    send(&mut tpm, ord::OIAP, &[]).unwrap();
    tpm.reset_for_new_guest();
    for pcr in 0..24u32 {
        let value = send(&mut tpm, ord::PCR_READ, &[&pcr.to_be_bytes()]).unwrap();
        assert_eq!(value, if (17..=22).contains(&pcr) { [0xff; 20] } else { [0; 20] });
    }
    assert_eq!(tpm.staged(), None);
}

#[test]
fn discard_goes_back_to_the_committed_state() {
    let mut tpm = tpm();
    let lock = crate::commands::nv::tests::definition(0xffff_ffff, 0, 0);
    send(&mut tpm, ord::NV_DEFINE_SPACE, &[&lock, &[0; 20]]).unwrap();
    assert!(tpm.staged().is_some());
    tpm.discard();
    assert_eq!(tpm.staged(), None);
    let flags =
        send(&mut tpm, ord::GET_CAPABILITY, &[&4u32.to_be_bytes(), &4u32.to_be_bytes(), &0x108u32.to_be_bytes()]);
    assert_eq!(flags.unwrap()[4 + 2 + 15], 0, "nvLocked");
}
