//! The rows of `cargo xtask bench engine` in process: one test each, which executes its command as often as [`RUNS`] says. As an
//! ordinary test that is once. `xtask` runs them under callgrind with two counts; the difference is what the commands cost,
//! session handling included where a command can't be without, and nothing of a socket or a disk.

use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send};
use alloc::vec::Vec;

extern crate std;

/// The environment variable with the number of executions.
const RUNS: &str = "TPM12_ROW_RUNS";
/// An NV area that is read and written with its own authorization.
const AREA: u32 = 0x1100;
const AREA_AUTH: [u8; 20] = [0x05; 20];
const ENTITY_SRK: u16 = 4;

fn repeat(mut command: impl FnMut()) {
    let runs = std::env::var(RUNS).map_or(1, |text| text.parse().expect("a number of runs"));
    (0..runs).for_each(|_| command());
}

fn plain(ordinal: u32, parameters: &[&[u8]]) {
    let mut tpm = owned();
    repeat(|| {
        send(&mut tpm, ordinal, parameters).unwrap();
    });
}

/// A command of an entity that is used with one OIAP session.
fn with_session(tpm: &mut Tpm12, secret: [u8; 20], ordinal: u32, handles: &[u32], parameters: &[&[u8]]) {
    let mut auth = oiap(tpm, secret);
    repeat(|| {
        call(tpm, ordinal, handles, parameters, &mut [&mut auth]).unwrap();
        crate::testing::commit(tpm);
    });
}

fn signer(tpm: &mut Tpm12) -> (u32, Vec<u8>) {
    new_key(tpm, &signing_template(2, 2048))
}

#[test]
fn get_random() {
    plain(ord::GET_RANDOM, &[&16u32.to_be_bytes()]);
}

#[test]
fn pcr_read() {
    plain(ord::PCR_READ, &[&[0; 4]]);
}

#[test]
fn extend() {
    plain(ord::EXTEND, &[&16u32.to_be_bytes(), &[7; 20]]);
}

#[test]
fn oiap_session() {
    let mut tpm = owned();
    repeat(|| {
        let auth = oiap(&mut tpm, SRK_AUTH);
        send(&mut tpm, ord::TERMINATE_HANDLE, &[&auth.handle.to_be_bytes()]).unwrap();
    });
}

#[test]
fn osap_session() {
    let mut tpm = owned();
    repeat(|| {
        let auth = osap(&mut tpm, ENTITY_SRK, SRK, SRK_AUTH);
        send(&mut tpm, ord::TERMINATE_HANDLE, &[&auth.handle.to_be_bytes()]).unwrap();
    });
}

#[test]
fn create_wrap_key_1024() {
    let mut tpm = owned();
    repeat(|| drop(create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 1024)).unwrap()));
}

#[test]
fn create_wrap_key_2048() {
    let mut tpm = owned();
    repeat(|| drop(create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 2048)).unwrap()));
}

#[test]
fn load_key2() {
    let mut tpm = owned();
    let (_, key) = signer(&mut tpm);
    repeat(|| {
        let handle = load_key(&mut tpm, SRK, SRK_AUTH, &key).unwrap();
        send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]).unwrap();
    });
}

#[test]
fn sign() {
    let mut tpm = owned();
    let (handle, _) = signer(&mut tpm);
    with_session(&mut tpm, KEY_AUTH, ord::SIGN, &[handle], &[&sized(&[5; 20])]);
}

#[test]
fn quote() {
    let mut tpm = owned();
    let (handle, _) = signer(&mut tpm);
    with_session(&mut tpm, KEY_AUTH, ord::QUOTE, &[handle], &[&[9; 20], &[0, 3, 0xff, 0, 0]]);
}

/// Seals 32 bytes; the blob.
fn seal_once(tpm: &mut Tpm12) -> Vec<u8> {
    let mut auth = osap(tpm, ENTITY_SRK, SRK, SRK_AUTH);
    auth.keep = false;
    let hidden = auth.encrypt(&KEY_AUTH, false);
    call(tpm, ord::SEAL, &[SRK], &[&hidden, &sized(&[]), &sized(&[6; 32])], &mut [&mut auth]).unwrap()
}

#[test]
fn seal() {
    let mut tpm = owned();
    repeat(|| drop(seal_once(&mut tpm)));
}

#[test]
fn unseal() {
    let mut tpm = owned();
    let blob = seal_once(&mut tpm);
    let (mut parent, mut data) = (oiap(&mut tpm, SRK_AUTH), oiap(&mut tpm, KEY_AUTH));
    repeat(|| drop(call(&mut tpm, ord::UNSEAL, &[SRK], &[&blob], &mut [&mut parent, &mut data]).unwrap()));
}

/// An owned TPM with [`AREA`] of 32 bytes.
fn with_area() -> Tpm12 {
    let mut tpm = owned();
    let mut owner = osap(&mut tpm, 2, 0x4000_0001, OWNER);
    owner.keep = false;
    let hidden = owner.encrypt(&AREA_AUTH, false);
    let every_locality = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let attributes = [&[0, 0x17][..], &0x0004_0004u32.to_be_bytes(), &[0; 3], &32u32.to_be_bytes()].concat();
    let public = [&[0, 0x18][..], &AREA.to_be_bytes(), &every_locality, &every_locality, &attributes].concat();
    call(&mut tpm, ord::NV_DEFINE_SPACE, &[], &[&public, &hidden], &mut [&mut owner]).unwrap();
    tpm
}

#[test]
fn nv_write() {
    let (mut tpm, area) = (with_area(), AREA.to_be_bytes());
    with_session(&mut tpm, AREA_AUTH, ord::NV_WRITE_VALUE_AUTH, &[], &[&area, &[0; 4], &sized(&[8; 32])]);
}

#[test]
fn nv_read() {
    let (mut tpm, area) = (with_area(), AREA.to_be_bytes());
    with_session(&mut tpm, AREA_AUTH, ord::NV_READ_VALUE_AUTH, &[], &[&area, &[0; 4], &32u32.to_be_bytes()]);
}
