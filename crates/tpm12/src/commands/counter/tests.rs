use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, owned, send};
use alloc::vec::Vec;
use tpm_wire::Engine;

fn create(tpm: &mut Tpm12) -> Result<(u32, u32), u32> {
    let mut auth = osap(tpm, 2, 0, OWNER);
    let enc = auth.encrypt(&KEY_AUTH, false);
    let out = call(tpm, ord::CREATE_COUNTER, &[], &[&enc, b"test"], &mut [&mut auth])?;
    assert_eq!(out[4..10], *b"\x00\x0etest");
    Ok((u32::from_be_bytes(out[..4].try_into().unwrap()), value(&out[4..])))
}

fn value(out: &[u8]) -> u32 {
    u32::from_be_bytes(out[6..10].try_into().unwrap())
}

fn increment(tpm: &mut Tpm12, id: u32) -> Result<u32, u32> {
    let mut auth = oiap(tpm, KEY_AUTH);
    call(tpm, ord::INCREMENT_COUNTER, &[], &[&id.to_be_bytes()], &mut [&mut auth]).map(|out| value(&out))
}

fn read(tpm: &mut Tpm12, id: u32) -> Result<Vec<u8>, u32> {
    send(tpm, ord::READ_COUNTER, &[&id.to_be_bytes()])
}

#[test]
fn one_counter_counts_between_two_starts() {
    let mut tpm = owned();
    let (a, first) = create(&mut tpm).unwrap();
    let (b, second) = create(&mut tpm).unwrap();
    assert!(second > first);
    assert_eq!(increment(&mut tpm, a), Ok(first + 1));
    assert_eq!(increment(&mut tpm, a), Ok(first + 2));
    assert_eq!(increment(&mut tpm, b), Err(69));
    tpm.reset_for_new_guest();
    assert_eq!(increment(&mut tpm, b), Ok(second + 1));
    assert_eq!(value(&read(&mut tpm, a).unwrap()), first + 2);
    assert_eq!(read(&mut tpm, 99), Err(69));
    assert!(commit(&mut tpm).is_some());
}

#[test]
fn no_counter_ever_starts_again_from_a_value_that_was() {
    let mut tpm = owned();
    let (id, _) = create(&mut tpm).unwrap();
    let highest = (0..5).map(|_| increment(&mut tpm, id).unwrap()).last().unwrap();
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    assert!(call(&mut tpm, ord::RELEASE_COUNTER, &[], &[&id.to_be_bytes()], &mut [&mut auth]).is_ok());
    assert_eq!(read(&mut tpm, id), Err(69));
    let (next, value) = create(&mut tpm).unwrap();
    assert!(value > highest && next != id);
    assert_eq!(increment(&mut tpm, next), Err(69), "the active counter was released");
    let mut auth = oiap(&mut tpm, OWNER);
    assert!(call(&mut tpm, ord::RELEASE_COUNTER_OWNER, &[], &[&next.to_be_bytes()], &mut [&mut auth]).is_ok());
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::RELEASE_COUNTER_OWNER, &[], &[&next.to_be_bytes()], &mut [&mut auth]), Err(69));
}

#[test]
fn counters_are_authorized_and_few() {
    let mut tpm = owned();
    for _ in 0..8 {
        create(&mut tpm).unwrap();
    }
    assert_eq!(create(&mut tpm), Err(21));
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::INCREMENT_COUNTER, &[], &[&0u32.to_be_bytes()], &mut [&mut auth]), Err(1));
    let mut auth = osap(&mut tpm, 10, 0, KEY_AUTH);
    assert!(call(&mut tpm, ord::INCREMENT_COUNTER, &[], &[&0u32.to_be_bytes()], &mut [&mut auth]).is_ok());
    assert_eq!(call(&mut tpm, ord::INCREMENT_COUNTER, &[], &[&1u32.to_be_bytes()], &mut [&mut auth]), Err(1));
    assert!(tpm.staged().is_some());
}
