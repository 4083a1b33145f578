use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send};
use alloc::vec::Vec;

const NEW: [u8; 20] = [0x99; 20];

fn change(tpm: &mut Tpm12, kind: u16, old: [u8; 20], data: &[u8]) -> Result<Vec<u8>, u32> {
    let (mut parent, mut entity) = (osap(tpm, 1, SRK, SRK_AUTH), oiap(tpm, old));
    let enc = parent.encrypt(&NEW, false);
    let parameters: [&[u8]; 4] = [&[0, 4], &enc, &kind.to_be_bytes(), &sized(data)];
    let out = call(tpm, ord::CHANGE_AUTH, &[SRK], &parameters, &mut [&mut parent, &mut entity])?;
    Ok(out[4..].to_vec())
}

#[test]
fn a_keys_authorization_changes() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let (public, encrypted) = key.split_at(key.len() - 256);
    assert_eq!(change(&mut tpm, 5, [0; 20], encrypted), Err(29));
    assert_eq!(change(&mut tpm, 7, KEY_AUTH, encrypted), Err(37));
    assert_eq!(change(&mut tpm, 5, KEY_AUTH, &encrypted[1..]), Err(33));
    let changed = change(&mut tpm, 5, KEY_AUTH, encrypted).unwrap();
    let handle = load_key(&mut tpm, SRK, SRK_AUTH, &[public, &changed].concat()).unwrap();
    for (secret, code) in [(KEY_AUTH, Some(1)), (NEW, None)] {
        let mut auth = oiap(&mut tpm, secret);
        let signed = call(&mut tpm, ord::SIGN, &[handle], &[&sized(&[1; 20])], &mut [&mut auth]);
        assert_eq!(signed.err(), code);
    }
}

#[test]
fn the_authorization_of_sealed_data_changes() {
    let mut tpm = owned();
    let mut auth = osap(&mut tpm, 1, SRK, SRK_AUTH);
    let enc = auth.encrypt(&KEY_AUTH, false);
    let blob = call(&mut tpm, ord::SEAL, &[SRK], &[&enc, &sized(&[]), &sized(b"data")], &mut [&mut auth]).unwrap();
    let (head, encrypted) = blob.split_at(12);
    // A private key looks like sealed data: each is refused as the other.
    assert_eq!(change(&mut tpm, 5, KEY_AUTH, encrypted), Err(67));
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    assert_eq!(change(&mut tpm, 3, KEY_AUTH, &key[key.len() - 256..]), Err(19));
    let changed = change(&mut tpm, 3, KEY_AUTH, encrypted).unwrap();
    let changed = [head, &changed].concat();
    for (secret, code) in [(KEY_AUTH, Some(29)), (NEW, None)] {
        let (mut parent, mut own) = (oiap(&mut tpm, SRK_AUTH), oiap(&mut tpm, secret));
        let data = call(&mut tpm, ord::UNSEAL, &[SRK], &[&changed], &mut [&mut parent, &mut own]);
        assert_eq!(data.err(), code);
    }
}

#[test]
fn the_owners_and_the_root_keys_authorizations_change() {
    let mut tpm = owned();
    let change = |tpm: &mut Tpm12, protocol: u16, kind: u16, owner| {
        let mut auth = osap(tpm, 2, 0, owner);
        let enc = auth.encrypt(&NEW, false);
        let parameters: [&[u8]; 3] = [&protocol.to_be_bytes(), &enc, &kind.to_be_bytes()];
        call(tpm, ord::CHANGE_AUTH_OWNER, &[], &parameters, &mut [&mut auth]).err()
    };
    assert_eq!(change(&mut tpm, 3, 2, OWNER), Some(3));
    assert_eq!(change(&mut tpm, 4, 5, OWNER), Some(37));
    let mut lingering = osap(&mut tpm, 2, 0, OWNER);
    let put_away = osap(&mut tpm, 2, 0, OWNER);
    let saved = send(&mut tpm, ord::SAVE_AUTH_CONTEXT, &[&put_away.handle.to_be_bytes()]).unwrap();
    assert_eq!(change(&mut tpm, 4, 2, OWNER), None);
    assert_eq!(send(&mut tpm, ord::LOAD_AUTH_CONTEXT, &[&saved]), Err(90), "a saved session of the old secret");
    assert_eq!(call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut lingering]), Err(34));
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let mut owners = osap(&mut tpm, 2, 0, NEW);
    let put_away = osap(&mut tpm, 1, SRK, SRK_AUTH);
    let saved = send(&mut tpm, ord::SAVE_AUTH_CONTEXT, &[&put_away.handle.to_be_bytes()]).unwrap();
    assert_eq!(change(&mut tpm, 4, 4, NEW), None);
    assert_eq!(send(&mut tpm, ord::LOAD_AUTH_CONTEXT, &[&saved]), Err(90));
    assert_eq!(call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut owners]), Err(34));
    assert_eq!(load_key(&mut tpm, SRK, SRK_AUTH, &key), Err(1));
    assert!(load_key(&mut tpm, SRK, NEW, &key).is_ok());
    assert!(send(&mut tpm, ord::RESET, &[]).is_ok());
}
