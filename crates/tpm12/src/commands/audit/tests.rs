use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, owned, send};
use alloc::vec::Vec;
use tpm_crypto::sha1;

fn audit(tpm: &mut Tpm12, ordinal: u32, on: bool) -> Option<u32> {
    let mut auth = oiap(tpm, OWNER);
    auth.keep = false;
    let parameters: [&[u8]; 2] = [&ordinal.to_be_bytes(), &[on.into()]];
    call(tpm, ord::SET_ORDINAL_AUDIT_STATUS, &[], &parameters, &mut [&mut auth]).err()
}

/// Counter, digest, ordinals.
fn digest(tpm: &mut Tpm12) -> (u32, [u8; 20], Vec<u8>) {
    let out = send(tpm, ord::GET_AUDIT_DIGEST, &[&[0; 4]]).unwrap();
    assert_eq!((&out[..6], out[30]), (&[0, 0x0e, 0, 0, 0, 0][..], 0));
    (u32::from_be_bytes(out[6..10].try_into().unwrap()), out[10..30].try_into().unwrap(), out[35..].to_vec())
}

#[test]
fn audited_commands_are_recorded_in_and_out() {
    let mut tpm = owned();
    assert_eq!(digest(&mut tpm), (0, [0; 20], Vec::new()));
    assert_eq!(audit(&mut tpm, ord::EXTEND, true), None);
    assert_eq!(audit(&mut tpm, ord::PCR_READ, true), None);
    commit(&mut tpm);
    let value = send(&mut tpm, ord::EXTEND, &[&[0, 0, 0, 1], &[7; 20]]).unwrap();
    assert!(commit(&mut tpm).is_some(), "the counter is permanent");
    assert_eq!(send(&mut tpm, ord::PCR_READ, &[&[0, 0, 0, 99]]), Err(2), "failures are not recorded");
    let counter = [0, 0x0e, 0, 0, 0, 0, 0, 0, 0, 1];
    let input = sha1(&[&ord::EXTEND.to_be_bytes(), &[0, 0, 0, 1], &[7; 20]]);
    let output = sha1(&[&[0; 4], &ord::EXTEND.to_be_bytes(), &value]);
    let first = sha1(&[&[0; 20], &[0, 0x12], &input, &counter]);
    let second = sha1(&[&first, &[0, 0x13], &output, &counter]);
    let ordinals = [ord::EXTEND.to_be_bytes(), ord::PCR_READ.to_be_bytes()].concat();
    assert_eq!(digest(&mut tpm), (1, second, ordinals));
    send(&mut tpm, ord::PCR_READ, &[&[0, 0, 0, 9]]).unwrap();
    assert_eq!(commit(&mut tpm), None, "one increment for a whole audit");
    assert_eq!(audit(&mut tpm, ord::EXTEND, false), None);
    assert_eq!(digest(&mut tpm).2, ord::PCR_READ.to_be_bytes());
}

#[test]
fn an_identity_closes_the_audit() {
    let mut tpm = owned();
    audit(&mut tpm, ord::EXTEND, true);
    send(&mut tpm, ord::EXTEND, &[&[0, 0, 0, 1], &[7; 20]]).unwrap();
    let (_, before, ordinals) = digest(&mut tpm);
    let (signing, key) = new_key(&mut tpm, &signing_template(2, 1024));
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let mut ask = |tpm: &mut Tpm12, close| {
        call(tpm, ord::GET_AUDIT_DIGEST_SIGNED, &[signing], &[&[close], &[9; 20]], &mut [&mut auth])
    };
    let out = ask(&mut tpm, 0).unwrap();
    let signed = [&before[..], &out[..10], &sha1(&[&ordinals])].concat();
    let info = [&[0, 5][..], b"ADIG", &[9; 20], &sized(&signed)].concat();
    assert_eq!(out[10..50], [before, sha1(&[&ordinals])].concat());
    assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), &out[54..]), Ok(()));
    assert_eq!(ask(&mut tpm, 1), Err(36));
    assert_eq!(digest(&mut tpm).1, before);
}

#[test]
fn only_existing_ordinals_are_audited() {
    let mut tpm = owned();
    for ordinal in [0, 0x55, ord::GET_AUDIT_DIGEST, u32::MAX] {
        assert_eq!(audit(&mut tpm, ordinal, true), Some(2));
    }
}
