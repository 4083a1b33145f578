use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, rng, send};
use alloc::vec::Vec;
use tpm_crypto::sha1;

fn identity_template() -> Vec<u8> {
    template(0x12, 0, 1, 1, 2, 2048)
}

fn make(tpm: &mut Tpm12, template: &[u8]) -> Result<Vec<u8>, u32> {
    let (mut srk, mut owner) = (oiap(tpm, SRK_AUTH), osap(tpm, 2, 0, OWNER));
    let enc = owner.encrypt(&KEY_AUTH, false);
    call(tpm, ord::MAKE_IDENTITY, &[], &[&enc, &[8; 20], template], &mut [&mut srk, &mut owner])
}

/// The identity's wrapped key and its binding.
fn split(out: &[u8]) -> (&[u8], &[u8]) {
    let at = out.len() - 256 - 4;
    (&out[..at], &out[at + 4..])
}

#[test]
fn an_identity_is_bound_to_its_label_and_activated_by_its_owner() {
    let mut tpm = owned();
    let out = make(&mut tpm, &identity_template()).unwrap();
    let (key, binding) = split(&out);
    let public = public_of(key);
    let pubkey = [&identity_template()[11..35], &sized(&public.modulus())].concat();
    let contents = [&[1, 1, 0, 0][..], &[0, 0, 0, 0x79], &[8; 20], &pubkey].concat();
    assert_eq!(public.verify_pkcs1_sha1(&sha1(&[&contents]), binding), Ok(()));

    let handle = load_key(&mut tpm, SRK, SRK_AUTH, key).unwrap();
    let ek = {
        let mut auth = oiap(&mut tpm, OWNER);
        public_of(&call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]).unwrap())
    };
    let session_key = [&[0, 0, 0, 6, 0, 1, 0, 16][..], &[0x77; 16]].concat();
    let id = sha1(&[&pubkey]);
    let old = [&session_key[..], &id].concat();
    let pcr = |locality: u8| [&[0, 3, 0, 0, 0, locality][..], &[0; 20]].concat();
    let new = |kind: u8, id: &[u8], locality| {
        let inner = [&[0, 0x2b][..], &session_key, id, &pcr(locality)].concat();
        [&[0, 0x0c, 0, kind][..], &sized(&inner)].concat()
    };
    let activate = |tpm: &mut Tpm12, plain: &[u8]| {
        let blob = ek.encrypt_oaep(&mut rng(9), plain).unwrap();
        let (mut own, mut owner) = (oiap(tpm, KEY_AUTH), oiap(tpm, OWNER));
        call(tpm, ord::ACTIVATE_IDENTITY, &[handle], &[&sized(&blob)], &mut [&mut own, &mut owner])
    };
    assert_eq!(activate(&mut tpm, &old), Ok(session_key.clone()));
    assert_eq!(activate(&mut tpm, &new(1, &id, 0x1f)), Ok(session_key.clone()));
    assert_eq!(activate(&mut tpm, &new(2, &id, 0x1f)), Err(52));
    assert_eq!(activate(&mut tpm, &new(1, &id, 0x02)), Err(61));
    assert_eq!(activate(&mut tpm, &new(1, &[0; 20], 0x1f)), Err(3));
    assert_eq!(activate(&mut tpm, &[&session_key[..], &[0; 20]].concat()), Err(3));
    for cut in [0, 1, 7, 20, 43] {
        assert!(activate(&mut tpm, &old[..cut]).is_err());
    }
    let (mut own, mut owner) = (oiap(&mut tpm, KEY_AUTH), oiap(&mut tpm, OWNER));
    let garbage = call(&mut tpm, ord::ACTIVATE_IDENTITY, &[handle], &[&sized(&[1; 256])], &mut [&mut own, &mut owner]);
    assert_eq!(garbage, Err(33));
}

#[test]
fn an_identity_signs_what_the_tpm_made_and_nothing_else() {
    let mut tpm = owned();
    let out = make(&mut tpm, &identity_template()).unwrap();
    let handle = load_key(&mut tpm, SRK, SRK_AUTH, split(&out).0).unwrap();
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    assert_eq!(call(&mut tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]), Err(36));
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    assert!(call(&mut tpm, ord::QUOTE, &[handle], &[&[9; 20], &[0, 3, 1, 0, 0]], &mut [&mut auth]).is_ok());
    let (migratable, _) = new_key(&mut tpm, &template(0x10, 2, 1, 1, 2, 512));
    let (mut a, mut b) = (oiap(&mut tpm, KEY_AUTH), oiap(&mut tpm, KEY_AUTH));
    let certified = call(&mut tpm, ord::CERTIFY_KEY, &[handle, migratable], &[&[9; 20]], &mut [&mut a, &mut b]);
    assert_eq!(certified, Err(15));
    assert!(send(&mut tpm, ord::EVICT_KEY, &[&handle.to_be_bytes()]).is_ok());
}

#[test]
fn identities_are_what_the_specification_says() {
    let mut tpm = owned();
    assert_eq!(make(&mut tpm, &template(0x12, 0, 1, 1, 2, 1024)), Err(40));
    assert_eq!(make(&mut tpm, &template(0x12, 2, 1, 1, 2, 2048)), Err(36));
    assert_eq!(make(&mut tpm, &template(0x10, 0, 1, 1, 2, 2048)), Err(36));
    let (mut srk, mut owner) = (oiap(&mut tpm, SRK_AUTH), oiap(&mut tpm, OWNER));
    let parameters: [&[u8]; 3] = [&[0; 20], &[8; 20], &identity_template()];
    let with_oiap = call(&mut tpm, ord::MAKE_IDENTITY, &[], &parameters, &mut [&mut srk, &mut owner]);
    assert_eq!(with_oiap, Err(44), "the new secret must be encrypted");
}
