use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, rng};
use tpm_crypto::{hmac_sha1, sha1};

const NEW: [u8; 20] = [0x99; 20];

#[test]
fn a_keys_authorization_changes_without_its_parents_owner_knowing() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let (public, encrypted) = key.split_at(key.len() - 256);
    let identity = {
        let (mut srk, mut owner) = (oiap(&mut tpm, SRK_AUTH), osap(&mut tpm, 2, 0, OWNER));
        let enc = owner.encrypt(&KEY_AUTH, false);
        let template = template(0x12, 0, 1, 1, 2, 2048);
        let parameters: [&[u8]; 3] = [&enc, &[8; 20], &template];
        let out = call(&mut tpm, ord::MAKE_IDENTITY, &[], &parameters, &mut [&mut srk, &mut owner]).unwrap();
        out[..out.len() - 260].to_vec()
    };
    let handle = load_key(&mut tpm, SRK, SRK_AUTH, &identity).unwrap();
    let parms = &template(0x13, 0, 0, 3, 1, 1024)[11..35];
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let out = call(&mut tpm, ord::CHANGE_AUTH_ASYM_START, &[handle], &[&[7; 20], parms], &mut [&mut auth]).unwrap();
    let info_size = 4 + 2 + 4 + 1 + 24 + 20 + 20 + 1 + 4;
    let (info, rest) = out.split_at(info_size);
    assert_eq!(public_of(&identity).verify_pkcs1_sha1(&sha1(&[info]), &rest[4..260]), Ok(()));
    let ephemeral = u32::from_be_bytes(rest[260..264].try_into().unwrap());
    let ephemeral_key = public_of(&rest[264..]);

    let finish = |tpm: &mut crate::Tpm12, old: [u8; 20], owner: [u8; 20]| {
        let enc_new = ephemeral_key.encrypt_oaep(&mut rng(2), &[NEW, [6; 20]].concat()).unwrap();
        let link = hmac_sha1(&old, &[&NEW]);
        let mut auth = oiap(tpm, owner);
        let parameters: [&[u8]; 4] = [&[0, 5], &link, &sized(&enc_new), &sized(encrypted)];
        call(tpm, ord::CHANGE_AUTH_ASYM_FINISH, &[SRK, ephemeral], &parameters, &mut [&mut auth])
    };
    assert_eq!(finish(&mut tpm, [0; 20], OWNER), Err(1));
    assert_eq!(finish(&mut tpm, KEY_AUTH, SRK_AUTH), Err(1));
    let out = finish(&mut tpm, KEY_AUTH, OWNER).unwrap();
    assert_eq!(out[280..], hmac_sha1(&NEW, &[&out[260..280], &[6; 20]]));
    assert_eq!(finish(&mut tpm, KEY_AUTH, OWNER), Err(12), "the ephemeral key is gone");
    let handle = load_key(&mut tpm, SRK, SRK_AUTH, &[public, &out[4..260]].concat()).unwrap();
    let mut auth = oiap(&mut tpm, NEW);
    assert!(call(&mut tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]).is_ok());
}

#[test]
fn only_an_identity_starts_it() {
    let mut tpm = owned();
    let (handle, _) = new_key(&mut tpm, &signing_template(2, 512));
    let parms = &template(0x13, 0, 0, 3, 1, 1024)[11..35];
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let out = call(&mut tpm, ord::CHANGE_AUTH_ASYM_START, &[handle], &[&[7; 20], parms], &mut [&mut auth]);
    assert_eq!(out, Err(36));
}
