use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, owned, send, tpm};
use alloc::vec::Vec;
use tpm_crypto::hmac_sha1;

const SECRET: [u8; 20] = [0x77; 20];

fn manage(tpm: &mut Tpm12, family: u32, operation: u32, data: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = oiap(tpm, OWNER);
    auth.keep = false;
    let parameters: [&[u8]; 3] = [&family.to_be_bytes(), &operation.to_be_bytes(), &sized(data)];
    call(tpm, ord::DELEGATE_MANAGE, &[], &parameters, &mut [&mut auth]).map(|out| out[4..].to_vec())
}

fn new_family(tpm: &mut Tpm12) -> u32 {
    let id = u32::from_be_bytes(manage(tpm, 0, 1, &[9]).unwrap().try_into().unwrap());
    manage(tpm, id, 2, &[1]).unwrap();
    id
}

/// `TPM_DELEGATE_PUBLIC` for all localities.
fn public(kind: u32, bits: u32, family: u32) -> Vec<u8> {
    let pcr = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let (kind, bits, family) = (kind.to_be_bytes(), bits.to_be_bytes(), family.to_be_bytes());
    [&[0, 0x1b, 5][..], &pcr, &[0, 0x1a], &kind, &bits, &[0; 4], &family, &[0; 4]].concat()
}

fn create_owner(tpm: &mut Tpm12, increment: bool, public: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = osap(tpm, 2, 0, OWNER);
    create_owner_with(tpm, &mut auth, increment, public)
}

fn create_owner_with(tpm: &mut Tpm12, auth: &mut Auth, increment: bool, public: &[u8]) -> Result<Vec<u8>, u32> {
    let enc = auth.encrypt(&SECRET, false);
    let ordinal = ord::DELEGATE_CREATE_OWNER_DELEGATION;
    call(tpm, ordinal, &[], &[&[increment.into()], public, &enc], &mut [auth]).map(|out| out[4..].to_vec())
}

fn dsap(tpm: &mut Tpm12, kind: u16, handle: u32, value: &[u8]) -> Result<Auth, u32> {
    let odd = [0x66; 20];
    let parameters: [&[u8]; 4] = [&kind.to_be_bytes(), &handle.to_be_bytes(), &odd, &sized(value)];
    let out = send(tpm, ord::DSAP, &parameters)?;
    let key = hmac_sha1(&SECRET, &[&out[24..44], &odd]);
    let handle = u32::from_be_bytes(out[..4].try_into().unwrap());
    Ok(Auth { handle, even: out[4..24].try_into().unwrap(), key, keep: true, odd: [0x55; 20], aes: false })
}

fn load(tpm: &mut Tpm12, row: u32, blob: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = oiap(tpm, OWNER);
    auth.keep = false;
    call(tpm, ord::DELEGATE_LOAD_OWNER_DELEGATION, &[], &[&row.to_be_bytes(), &sized(blob)], &mut [&mut auth])
}

const READ_PUBEK: u32 = 1 << 9;

#[test]
fn a_delegated_owner_does_what_it_may_and_nothing_else() {
    let mut tpm = owned();
    let family = new_family(&mut tpm);
    let blob = create_owner(&mut tpm, false, &public(1, READ_PUBEK, family)).unwrap();
    assert!(!blob.windows(20).any(|window| window == SECRET));
    let mut auth = dsap(&mut tpm, 7, 0, &blob).unwrap();
    assert!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).is_ok());
    assert_eq!(call(&mut tpm, ord::DISABLE_PUBEK_READ, &[], &[], &mut [&mut auth]), Err(1));
    assert_eq!(dsap(&mut tpm, 9, 0, &blob).err(), Some(37));
    assert_eq!(dsap(&mut tpm, 5, 0, &blob).err(), Some(3));
    for at in 0..blob.len() {
        let mut bad = blob.clone();
        bad[at] ^= 1;
        assert!(dsap(&mut tpm, 7, 0, &bad).is_err(), "byte {at}");
        assert!(dsap(&mut tpm, 7, 0, &blob[..at]).is_err());
    }
    // A new generation makes the old one worthless, until the owner says otherwise.
    create_owner(&mut tpm, true, &public(1, READ_PUBEK, family)).unwrap();
    assert_eq!(dsap(&mut tpm, 7, 0, &blob).err(), Some(64));
    assert_eq!(send(&mut tpm, ord::DELEGATE_VERIFY_DELEGATION, &[&sized(&blob)]), Err(64));
    let mut auth = oiap(&mut tpm, OWNER);
    let updated = call(&mut tpm, ord::DELEGATE_UPDATE_VERIFICATION, &[], &[&sized(&blob)], &mut [&mut auth]).unwrap();
    assert!(send(&mut tpm, ord::DELEGATE_VERIFY_DELEGATION, &[&updated]).is_ok());
    assert!(dsap(&mut tpm, 7, 0, &updated[4..]).is_ok());
    manage(&mut tpm, family, 2, &[0]).unwrap();
    assert_eq!(dsap(&mut tpm, 7, 0, &updated[4..]).err(), Some(8));
    manage(&mut tpm, family, 4, &[]).unwrap();
    assert_eq!(dsap(&mut tpm, 7, 0, &updated[4..]).err(), Some(2));
}

#[test]
fn a_row_delegates_and_the_owner_pointer_makes_it_the_owner() {
    let mut tpm = owned();
    let family = new_family(&mut tpm);
    let blob = create_owner(&mut tpm, false, &public(1, READ_PUBEK, family)).unwrap();
    assert_eq!(load(&mut tpm, 4, &blob), Err(2));
    assert!(load(&mut tpm, 1, &blob).is_ok());
    assert!(commit(&mut tpm).is_some());
    let mut auth = dsap(&mut tpm, 8, 0, &[0, 0, 0, 1]).unwrap();
    assert!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).is_ok());
    assert_eq!(dsap(&mut tpm, 8, 0, &[0, 0, 0, 2]).err(), Some(2));
    let table = send(&mut tpm, ord::DELEGATE_READ_TABLE, &[]).unwrap();
    assert_eq!(table[..4], 15u32.to_be_bytes());
    assert_eq!(table[19 + 4..19 + 8], [0, 0, 0, 1]);

    let point = |tpm: &mut Tpm12, kind: u16, row: u32| {
        send(tpm, ord::SET_OWNER_POINTER, &[&kind.to_be_bytes(), &row.to_be_bytes()]).err()
    };
    assert_eq!(point(&mut tpm, 8, 3), Some(2));
    assert_eq!(point(&mut tpm, 1, 1), Some(3));
    assert_eq!(point(&mut tpm, 8, 1), None);
    let mut auth = oiap(&mut tpm, SECRET);
    assert!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).is_ok());
    let mut auth = osap(&mut tpm, 2, 0, SECRET);
    assert!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).is_ok());
    assert_eq!(call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut auth]), Err(1));
    assert_eq!(point(&mut tpm, 2, 0), None);
    let mut auth = oiap(&mut tpm, SECRET);
    assert_eq!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]), Err(1));
}

#[test]
fn a_delegated_key_is_used_as_far_as_allowed() {
    let mut tpm = owned();
    let family = new_family(&mut tpm);
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let (other, _) = new_key(&mut tpm, &signing_template(2, 512));
    let mut auth = osap(&mut tpm, 1, handle, KEY_AUTH);
    let enc = auth.encrypt(&SECRET, false);
    let ordinal = ord::DELEGATE_CREATE_KEY_DELEGATION;
    let sign_only = public(2, 1 << 14, family);
    let blob = call(&mut tpm, ordinal, &[handle], &[&sign_only, &enc], &mut [&mut auth]).unwrap()[4..].to_vec();
    assert_eq!(dsap(&mut tpm, 9, other, &blob).err(), Some(13));
    let mut auth = dsap(&mut tpm, 9, handle, &blob).unwrap();
    assert!(call(&mut tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]).is_ok());
    assert_eq!(call(&mut tpm, ord::SIGN, &[other], &[&sized(&[1; 20])], &mut [&mut auth]), Err(1));
    let mut auth = dsap(&mut tpm, 9, handle, &blob).unwrap();
    assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut auth]), Err(1));
    let mut auth = osap(&mut tpm, 1, handle, KEY_AUTH);
    let enc = auth.encrypt(&SECRET, false);
    let owners = public(1, 1, family);
    assert_eq!(call(&mut tpm, ordinal, &[handle], &[&owners, &enc], &mut [&mut auth]), Err(3));
}

#[test]
fn a_delegation_passes_on_no_more_than_it_has_and_stays_in_its_family() {
    let mut tpm = owned();
    let (family, other) = (new_family(&mut tpm), new_family(&mut tpm));
    let may_delegate = 1 << 1 | READ_PUBEK;
    let blob = create_owner(&mut tpm, false, &public(1, may_delegate, family)).unwrap();
    let mut pass_on = |bits, family| {
        let mut auth = dsap(&mut tpm, 7, 0, &blob).unwrap();
        create_owner_with(&mut tpm, &mut auth, false, &public(1, bits, family)).err()
    };
    assert_eq!(pass_on(READ_PUBEK, family), None);
    assert_eq!(pass_on(READ_PUBEK | 1, family), Some(1));
    assert_eq!(pass_on(READ_PUBEK, other), Some(76));
}

#[test]
fn restrictions_to_localities_hold() {
    let mut tpm = owned();
    let family = new_family(&mut tpm);
    let mut only_two = public(1, READ_PUBEK, family);
    only_two[8] = 4;
    let blob = create_owner(&mut tpm, false, &only_two).unwrap();
    for (locality, code) in [(0, Some(61)), (2, None)] {
        let mut auth = dsap(&mut tpm, 7, 0, &blob).unwrap();
        let out = call_at(&mut tpm, locality, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth], false);
        assert_eq!(out.err(), code);
    }
}

#[test]
fn without_an_owner_families_can_be_prepared_and_locked() {
    let mut tpm = tpm();
    let mut manage = |family: u32, operation: u32, data: &[u8]| {
        let parameters: [&[u8]; 3] = [&family.to_be_bytes(), &operation.to_be_bytes(), &sized(data)];
        send(&mut tpm, ord::DELEGATE_MANAGE, &parameters)
    };
    assert_eq!(manage(0, 1, &[1, 2]), Err(25));
    assert_eq!(manage(0, 1, &[1]).unwrap(), [0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(manage(7, 2, &[1]), Err(2));
    assert_eq!(manage(1, 5, &[1]), Err(3));
    assert!(manage(1, 2, &[1]).is_ok());
    let sensitive = [&[0, 0x26][..], &SECRET].concat();
    let blob = [&[0, 0x2a][..], &public(1, READ_PUBEK, 1), &[0; 20], &[0; 4], &sized(&sensitive)].concat();
    let parameters: [&[u8]; 2] = [&[0; 4], &sized(&blob)];
    assert!(send(&mut tpm, ord::DELEGATE_LOAD_OWNER_DELEGATION, &parameters).is_ok());
    let mut manage = |family: u32, operation: u32, data: &[u8]| {
        let parameters: [&[u8]; 3] = [&family.to_be_bytes(), &operation.to_be_bytes(), &sized(data)];
        send(&mut tpm, ord::DELEGATE_MANAGE, &parameters)
    };
    assert!(manage(1, 3, &[1]).is_ok());
    assert_eq!(manage(1, 2, &[0]), Err(75));
    for label in 2..=8 {
        manage(0, 1, &[label]).unwrap();
    }
    assert_eq!(manage(0, 1, &[9]), Err(21));
}
