use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, rng, send, stranger};
use alloc::vec;
use alloc::vec::Vec;

const DATA_AUTH: [u8; 20] = [0x44; 20];

fn seal(tpm: &mut Tpm12, ordinal: u32, kind: u16, pcr_info: &[u8], data: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = osap(tpm, kind, SRK, SRK_AUTH);
    let enc_auth = auth.encrypt(&DATA_AUTH, false);
    call(tpm, ordinal, &[SRK], &[&enc_auth, &sized(pcr_info), &sized(data)], &mut [&mut auth])
}

fn unseal(tpm: &mut Tpm12, blob: &[u8], secret: [u8; 20]) -> Result<Vec<u8>, u32> {
    let (mut parent, mut data) = (oiap(tpm, SRK_AUTH), oiap(tpm, secret));
    let out = call(tpm, ord::UNSEAL, &[SRK], &[blob], &mut [&mut parent, &mut data])?;
    assert_eq!(out[..4], (out.len() as u32 - 4).to_be_bytes());
    Ok(out[4..].to_vec())
}

#[test]
fn sealed_data_comes_back_with_the_right_secret_only() {
    let mut tpm = owned();
    let blob = seal(&mut tpm, ord::SEAL, 1, &[], b"disk key").unwrap();
    assert_eq!(unseal(&mut tpm, &blob, DATA_AUTH), Ok(b"disk key".to_vec()));
    assert_eq!(unseal(&mut tpm, &blob, [0; 20]), Err(29));
    assert!(!blob.windows(8).any(|window| window == b"disk key"));
    for at in [4, 8, 12, 100, 250] {
        let mut bad = blob.clone();
        bad[at % blob.len()] ^= 1;
        assert!(unseal(&mut tpm, &bad, DATA_AUTH).is_err());
    }
    assert_eq!(unseal(&mut stranger(), &blob, DATA_AUTH), Err(19));
}

#[test]
fn seal_takes_what_fits_and_nothing_empty() {
    let mut tpm = owned();
    assert_eq!(seal(&mut tpm, ord::SEAL, 1, &[], &[]), Err(3));
    let longest = 256 - 42 - 65;
    assert!(seal(&mut tpm, ord::SEAL, 1, &[], &vec![7; longest]).is_ok());
    assert_eq!(seal(&mut tpm, ord::SEAL, 1, &[], &vec![7; longest + 1]), Err(43));
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let parameters: [&[u8]; 3] = [&[0; 20], &sized(&[]), &sized(b"x")];
    assert_eq!(call(&mut tpm, ord::SEAL, &[SRK], &parameters, &mut [&mut auth]), Err(44));
}

#[test]
fn sealing_to_pcrs_and_localities_holds() {
    let mut tpm = owned();
    let now = tpm_crypto::sha1(&[&[0, 3, 0, 4, 0, 0, 0, 0, 20], &[0; 20]]);
    let short = [&[0, 3, 0, 4, 0][..], &now, &[0; 20]].concat();
    let long = |locality: u8| [&[0, 6, 0x1f, locality, 0, 3, 0, 4, 0, 0, 3, 0, 4, 0][..], &[0; 20], &now].concat();
    let one = seal(&mut tpm, ord::SEAL, 1, &short, b"one").unwrap();
    let two = seal(&mut tpm, ord::SEAL, 1, &long(0x01), b"two").unwrap();
    let three = seal(&mut tpm, ord::SEAL, 1, &long(0x04), b"three").unwrap();
    assert_eq!(two[..2], [0, 0x16]);
    assert_eq!(unseal(&mut tpm, &one, DATA_AUTH), Ok(b"one".to_vec()));
    assert_eq!(unseal(&mut tpm, &two, DATA_AUTH), Ok(b"two".to_vec()));
    assert_eq!(unseal(&mut tpm, &three, DATA_AUTH), Err(61));
    assert_eq!(seal(&mut tpm, ord::SEAL, 1, &long(0), b"x"), Err(16));
    assert_eq!(seal(&mut tpm, ord::SEAL, 1, &short[1..], b"x"), Err(2));
    send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[1; 20]]).unwrap();
    assert_eq!(unseal(&mut tpm, &one, DATA_AUTH), Err(24));
    assert_eq!(unseal(&mut tpm, &two, DATA_AUTH), Err(24));
}

#[test]
fn sealx_hides_the_data_on_the_wire_with_either_scheme() {
    let mut tpm = owned();
    for kind in [0x0001u16, 0x0601] {
        let mut auth = osap(&mut tpm, kind, SRK, SRK_AUTH);
        let enc_auth = auth.encrypt(&DATA_AUTH, false);
        let mut data = b"secret".to_vec();
        hide(&auth, &auth.even.clone(), &mut data);
        let parameters: [&[u8]; 3] = [&enc_auth, &sized(&[]), &sized(&data)];
        let blob = call(&mut tpm, ord::SEALX, &[SRK], &parameters, &mut [&mut auth]).unwrap();

        let (mut parent, mut own) = (osap(&mut tpm, kind, SRK, SRK_AUTH), oiap(&mut tpm, DATA_AUTH));
        let even = parent.even;
        let out = call(&mut tpm, ord::UNSEAL, &[SRK], &[&blob], &mut [&mut parent, &mut own]).unwrap();
        assert!(!parent.keep);
        let mut data = out[4..].to_vec();
        assert_ne!(data, b"secret");
        hide(&parent, &even, &mut data);
        assert_eq!(data, b"secret");
        assert_eq!(unseal(&mut tpm, &blob, DATA_AUTH), Err(44), "without a shared secret");
    }
}

fn hide(auth: &Auth, even: &[u8; 20], data: &mut [u8]) {
    if auth.aes {
        let iv = tpm_crypto::sha1(&[even, &auth.odd]);
        tpm_crypto::aes_ctr(auth.key[..16].try_into().unwrap(), iv[..16].try_into().unwrap(), data);
    } else {
        tpm_crypto::mgf1_sha1(&[even, &auth.odd, b"XOR", &auth.key], data);
    }
}

#[test]
fn keys_of_all_sizes_are_made_loaded_and_read() {
    let mut tpm = owned();
    for bits in [512, 1024, 2048] {
        let (handle, key) = new_key(&mut tpm, &signing_template(2, bits));
        let mut auth = oiap(&mut tpm, KEY_AUTH);
        let public = call(&mut tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut auth]).unwrap();
        assert_eq!(public_of(&public).modulus(), public_of(&key).modulus());
        assert_eq!(public_of(&public).size() as u32 * 8, bits);
        let mut wrong = oiap(&mut tpm, SRK_AUTH);
        assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut wrong]), Err(1));
        send(&mut tpm, ord::FLUSH_SPECIFIC, &[&handle.to_be_bytes(), &1u32.to_be_bytes()]).unwrap();
        assert_eq!(send(&mut tpm, ord::GET_PUB_KEY, &[&handle.to_be_bytes()]), Err(12));
    }
}

#[test]
fn impossible_keys_are_refused() {
    let mut tpm = owned();
    let mut check = |template: &[u8], code| assert_eq!(create_key(&mut tpm, SRK, SRK_AUTH, template), Err(code));
    check(&template(0x12, 0, 1, 1, 2, 2048), 36);
    check(&template(0x13, 0, 1, 3, 1, 2048), 36);
    check(&template(0x10, 16, 1, 1, 2, 1024), 36);
    check(&template(0x17, 0, 1, 1, 2, 1024), 40);
    check(&template(0x10, 0, 1, 3, 2, 1024), 40);
    check(&template(0x11, 0, 1, 3, 1, 1024), 40);
    check(&template(0x10, 0, 2, 1, 2, 1024), 40);
    check(&template(0x10, 32, 1, 1, 2, 1024), 40);
    for bits in [0, 8, 511, 520, 2064, 4096, u32::MAX] {
        check(&template(0x10, 0, 1, 1, 2, bits), 40);
    }
    check(&signing_template(2, 1024)[..30], 25);
    let mut version = signing_template(2, 1024);
    version[1] = 2;
    check(&version, 46);
    assert_eq!(create_key(&mut tpm, SRK, [0; 20], &signing_template(2, 512)), Err(1));
}

#[test]
fn loading_checks_where_a_key_comes_from() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    assert_eq!(load_key(&mut tpm, SRK, [0; 20], &key), Err(1));
    let (signing, _) = new_key(&mut tpm, &signing_template(2, 512));
    assert_eq!(load_key(&mut tpm, signing, KEY_AUTH, &key), Err(36));
    assert_eq!(load_key(&mut tpm, 0x0123_4567, KEY_AUTH, &key), Err(12));
    // Every byte of the blob is bound by the digest or the encryption.
    for at in (4..key.len()).step_by(7) {
        let mut bad = key.clone();
        bad[at] ^= 4;
        assert!(load_key(&mut tpm, SRK, SRK_AUTH, &bad).is_err(), "byte {at}");
    }
    let mut rng = rng(3);
    assert_eq!(load_key(&mut stranger(), SRK, SRK_AUTH, &key), Err(33));
    // A non-migratable key that somebody made outside the TPM.
    let srk = tpm_srk(&mut tpm);
    let forged = public_of(&srk).encrypt_oaep(&mut rng, &[1; 200]).unwrap();
    let at = key.len() - 256;
    assert_eq!(load_key(&mut tpm, SRK, SRK_AUTH, &[&key[..at], &forged].concat()), Err(25));
}

fn tpm_srk(tpm: &mut Tpm12) -> Vec<u8> {
    let mut auth = oiap(tpm, OWNER);
    call(tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&SRK.to_be_bytes()], &mut [&mut auth]).unwrap()
}

#[test]
fn a_key_hierarchy_works_and_migratable_parents_keep_migratable_children() {
    let mut tpm = owned();
    let (storage, _) = new_key(&mut tpm, &storage_template(2));
    assert_eq!(create_key(&mut tpm, storage, KEY_AUTH, &signing_template(2, 512)), Err(36));
    let child = create_key(&mut tpm, storage, KEY_AUTH, &template(0x10, 2, 1, 1, 2, 512)).unwrap();
    assert!(load_key(&mut tpm, storage, KEY_AUTH, &child).is_ok());
    let mut auth = osap(&mut tpm, 1, storage, KEY_AUTH);
    let parameters: [&[u8]; 3] = [&[0; 20], &sized(&[]), &sized(b"x")];
    assert_eq!(call(&mut tpm, ord::SEAL, &[storage], &parameters, &mut [&mut auth]), Err(36));
}

#[test]
fn twenty_keys_fit_and_the_next_one_does_not() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    for _ in 0..20 {
        load_key(&mut tpm, SRK, SRK_AUTH, &key).unwrap();
    }
    assert_eq!(load_key(&mut tpm, SRK, SRK_AUTH, &key), Err(17));
}

#[test]
fn keys_bound_to_pcrs_stop_working_when_they_change() {
    let mut tpm = owned();
    let now = tpm_crypto::sha1(&[&[0, 3, 0, 4, 0, 0, 0, 0, 20], &[0; 20]]);
    let info = [&[0, 6, 0, 0x1f, 0, 3, 0, 4, 0, 0, 3, 0, 4, 0][..], &[0; 20], &now].concat();
    let (handle, _) = new_key(&mut tpm, &template12(0x10, 0, 1, 2, 512, &info));
    let (readable, _) = new_key(&mut tpm, &template12(0x10, 8, 1, 2, 512, &info));
    let get = |tpm: &mut Tpm12, handle| {
        let mut auth = oiap(tpm, KEY_AUTH);
        call(tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut auth]).err()
    };
    assert_eq!(get(&mut tpm, handle), None);
    send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[1; 20]]).unwrap();
    assert_eq!(get(&mut tpm, handle), Some(24));
    assert_eq!(get(&mut tpm, readable), None, "pcrIgnoredOnRead");
}

#[test]
fn bound_data_is_unbound() {
    let mut tpm = owned();
    let mut rng = rng(8);
    for (usage, enc, plain, out) in [
        (0x14, 3, &b"\x01\x01\x00\x00\x02data"[..], Ok(&b"data"[..])),
        (0x14, 2, b"\x01\x01\x00\x00\x02data", Ok(b"data")),
        (0x14, 3, b"\x01\x01\x00\x00\x05data", Err(67)),
        (0x14, 3, b"data", Err(67)),
        (0x15, 2, b"anything", Ok(b"anything")),
        (0x15, 3, b"anything", Err(67)),
    ] {
        let sig = if usage == 0x15 { 2 } else { 1 };
        let (handle, key) = new_key(&mut tpm, &template(usage, 0, 1, enc, sig, 1024));
        let public = public_of(&key);
        let cipher = match enc {
            3 => public.encrypt_oaep(&mut rng, plain),
            _ => public.encrypt_pkcs1(&mut rng, plain),
        }
        .unwrap();
        let mut unbind = |data: &[u8]| {
            let mut auth = oiap(&mut tpm, KEY_AUTH);
            call(&mut tpm, ord::UNBIND, &[handle], &[&sized(data)], &mut [&mut auth])
        };
        assert_eq!(unbind(&cipher).map(|out| out[4..].to_vec()), out.map(<[u8]>::to_vec));
        assert_eq!(unbind(&[]), Err(3));
        for length in [1, 127, 129, 256] {
            assert!(unbind(&vec![1; length]).is_err());
        }
        send(&mut tpm, ord::FLUSH_SPECIFIC, &[&handle.to_be_bytes(), &1u32.to_be_bytes()]).unwrap();
    }
    let (signing, _) = new_key(&mut tpm, &signing_template(2, 512));
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    assert_eq!(call(&mut tpm, ord::UNBIND, &[signing], &[&sized(&[1; 64])], &mut [&mut auth]), Err(36));
}
