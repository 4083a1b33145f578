use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, owned, rng, send, stranger};
use crate::{Options, StartupType};
use alloc::vec::Vec;

fn save(tpm: &mut Tpm12, handle: u32, kind: u32) -> Result<Vec<u8>, u32> {
    let out = send(tpm, ord::SAVE_CONTEXT, &[&handle.to_be_bytes(), &kind.to_be_bytes(), &[7; 16]])?;
    Ok(out[4..].to_vec())
}

fn load(tpm: &mut Tpm12, keep: bool, blob: &[u8]) -> Result<u32, u32> {
    let out = send(tpm, ord::LOAD_CONTEXT, &[&[0xff; 4], &[keep.into()], &sized(blob)])?;
    Ok(u32::from_be_bytes(out[..4].try_into().unwrap()))
}

fn signs(tpm: &mut Tpm12, handle: u32) -> bool {
    let mut auth = oiap(tpm, KEY_AUTH);
    auth.keep = false;
    call(tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]).is_ok()
}

#[test]
fn a_key_context_is_loaded_often_and_outlives_a_start() {
    let mut tpm = owned();
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let blob = save(&mut tpm, handle, 1).unwrap();
    assert!(signs(&mut tpm, handle));
    assert_eq!(load(&mut tpm, true, &blob), Err(88), "the handle is in use");
    let second = load(&mut tpm, false, &blob).unwrap();
    assert!(second != handle && signs(&mut tpm, second));
    tpm.reset_for_new_guest();
    assert_eq!(load(&mut tpm, true, &blob), Ok(handle));
    assert!(signs(&mut tpm, handle));
    assert_eq!(load(&mut stranger(), false, &blob), Err(90));
}

#[test]
fn every_byte_of_a_context_counts() {
    let mut tpm = owned();
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let blob = save(&mut tpm, handle, 1).unwrap();
    for at in 0..blob.len() {
        let mut bad = blob.clone();
        bad[at] ^= 1;
        assert!(load(&mut tpm, false, &bad).is_err(), "byte {at}");
        assert!(load(&mut tpm, false, &blob[..at]).is_err());
    }
}

#[test]
fn a_session_context_is_loaded_once_and_not_after_a_start() {
    let mut tpm = owned();
    let mut auth = osap(&mut tpm, 1, SRK, SRK_AUTH);
    let blob = save(&mut tpm, auth.handle, 2).unwrap();
    assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]), Err(34));
    assert_eq!(load(&mut tpm, true, &blob), Ok(auth.handle));
    assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]), Err(12), "authorized, not readable");
    assert_eq!(load(&mut tpm, false, &blob), Err(90), "used up");

    let auth = oiap(&mut tpm, OWNER);
    let blob = save(&mut tpm, auth.handle, 2).unwrap();
    let count = u32::from_be_bytes(blob[26..30].try_into().unwrap());
    assert!(send(&mut tpm, ord::FLUSH_SPECIFIC, &[&count.to_be_bytes(), &5u32.to_be_bytes()]).is_ok());
    assert_eq!(load(&mut tpm, false, &blob), Err(90));
    assert_eq!(send(&mut tpm, ord::FLUSH_SPECIFIC, &[&[0; 4], &5u32.to_be_bytes()]), Err(90));

    let auth = oiap(&mut tpm, OWNER);
    let blob = save(&mut tpm, auth.handle, 2).unwrap();
    tpm.reset_for_new_guest();
    assert_eq!(load(&mut tpm, false, &blob), Err(90));
}

#[test]
fn session_contexts_have_places_and_kinds_are_checked() {
    let mut tpm = owned();
    for _ in 0..128 {
        let auth = oiap(&mut tpm, OWNER);
        save(&mut tpm, auth.handle, 2).unwrap();
    }
    let auth = oiap(&mut tpm, OWNER);
    assert_eq!(save(&mut tpm, auth.handle, 2), Err(99));
    for kind in [0, 1, 3, 4, 5, 6, 7, 8, 9, u32::MAX] {
        assert_eq!(save(&mut tpm, auth.handle, kind), Err(53));
    }
    assert_eq!(save(&mut tpm, SRK, 1), Err(53));
}

#[test]
fn the_older_commands_do_the_same() {
    let mut tpm = owned();
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let key = send(&mut tpm, ord::SAVE_KEY_CONTEXT, &[&handle.to_be_bytes()]).unwrap();
    let auth = oiap(&mut tpm, OWNER);
    let session = send(&mut tpm, ord::SAVE_AUTH_CONTEXT, &[&auth.handle.to_be_bytes()]).unwrap();
    assert_eq!(send(&mut tpm, ord::LOAD_AUTH_CONTEXT, &[&key]), Err(53));
    assert!(send(&mut tpm, ord::LOAD_KEY_CONTEXT, &[&key]).is_ok());
    assert_eq!(send(&mut tpm, ord::LOAD_AUTH_CONTEXT, &[&session]).unwrap(), auth.handle.to_be_bytes());
}

#[test]
fn the_owner_keeps_a_key_across_starts() {
    let mut tpm = owned();
    let (handle, key) = new_key(&mut tpm, &signing_template(2, 512));
    let public = [&signing_template(2, 512)[11..35], &sized(&public_of(&key).modulus())].concat();
    let control = |tpm: &mut Tpm12, public: &[u8], bit: u32, value: u8| {
        let mut auth = oiap(tpm, OWNER);
        call(tpm, ord::KEY_CONTROL_OWNER, &[handle], &[public, &bit.to_be_bytes(), &[value]], &mut [&mut auth]).err()
    };
    assert_eq!(control(&mut tpm, &public, 2, 1), Some(44));
    let mut wrong = public.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(control(&mut tpm, &wrong, 1, 1), Some(3));
    assert_eq!(control(&mut tpm, &public, 1, 1), None);
    assert_eq!(send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]), Err(68));
    assert_eq!(save(&mut tpm, handle, 1), Err(79));
    let state = commit(&mut tpm).unwrap();
    let mut tpm = Tpm12::load(&state, rng(6), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    assert!(signs(&mut tpm, handle));
    assert_eq!(control(&mut tpm, &public, 1, 0), None);
    assert!(send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]).is_ok());
    tpm.reset_for_new_guest();
    assert!(!signs(&mut tpm, handle));
}
