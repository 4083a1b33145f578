use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::owned;
use alloc::vec::Vec;
use tpm_crypto::sha1;

fn parms_of(template: &[u8]) -> Vec<u8> {
    template[11..11 + 24].to_vec()
}

#[test]
fn a_key_is_certified_with_everything_that_matters_about_it() {
    let mut tpm = owned();
    let (cert, cert_key) = new_key(&mut tpm, &signing_template(2, 1024));
    let target_template = signing_template(3, 512);
    let (target, target_key) = new_key(&mut tpm, &target_template);
    let (mut a, mut b) = (oiap(&mut tpm, KEY_AUTH), oiap(&mut tpm, KEY_AUTH));
    let out = call(&mut tpm, ord::CERTIFY_KEY, &[cert, target], &[&[9; 20]], &mut [&mut a, &mut b]).unwrap();
    let digest = sha1(&[&public_of(&target_key).modulus()]);
    let common = [&[0, 0x10, 0, 0, 0, 0, 1][..], &parms_of(&target_template), &digest, &[9; 20], &[0]].concat();
    let info = [&[1, 1, 0, 0][..], &common, &[0; 4]].concat();
    assert!(out.starts_with(&info));
    let signature = &out[info.len() + 4..];
    assert_eq!(public_of(&cert_key).verify_pkcs1_sha1(&sha1(&[&info]), signature), Ok(()));

    let (mut a, mut b) = (oiap(&mut tpm, KEY_AUTH), oiap(&mut tpm, KEY_AUTH));
    let parameters: [&[u8]; 2] = [&[0; 20], &[9; 20]];
    let out = call(&mut tpm, ord::CERTIFY_KEY2, &[target, cert], &parameters, &mut [&mut a, &mut b]).unwrap();
    let info = [&[0, 0x29, 0, 1][..], &common, &[0; 8]].concat();
    assert!(out.starts_with(&info));
    let signature = &out[info.len() + 4..];
    assert_eq!(public_of(&cert_key).verify_pkcs1_sha1(&sha1(&[&info]), signature), Ok(()));
}

#[test]
fn each_key_needs_its_authorization() {
    let mut tpm = owned();
    let (cert, _) = new_key(&mut tpm, &signing_template(2, 512));
    let (open, _) = new_key(&mut tpm, &template(0x10, 0, 0, 1, 2, 512));
    let mut certify = |cert, target, secrets: &[[u8; 20]]| {
        let mut auths: Vec<Auth> = secrets.iter().map(|secret| oiap(&mut tpm, *secret)).collect();
        let mut auths: Vec<&mut Auth> = auths.iter_mut().collect();
        call(&mut tpm, ord::CERTIFY_KEY, &[cert, target], &[&[9; 20]], &mut auths).err()
    };
    assert_eq!(certify(cert, open, &[]), Some(1));
    assert_eq!(certify(cert, open, &[KEY_AUTH]), Some(1), "one authorization is the target's");
    assert_eq!(certify(open, cert, &[KEY_AUTH]), None);
    assert_eq!(certify(open, open, &[]), None);
    assert_eq!(certify(cert, open, &[KEY_AUTH, [0; 20]]), Some(29));
    assert_eq!(certify(cert, open, &[[0; 20], KEY_AUTH]), Some(1));
    assert_eq!(certify(cert, open, &[KEY_AUTH, KEY_AUTH]), None);
}

#[test]
fn keys_that_do_not_sign_do_not_certify() {
    let mut tpm = owned();
    let (target, _) = new_key(&mut tpm, &signing_template(2, 512));
    for (template, code) in [(template(0x14, 0, 1, 3, 1, 512), 40), (signing_template(3, 512), 40)] {
        let (cert, _) = new_key(&mut tpm, &template);
        let (mut a, mut b) = (oiap(&mut tpm, KEY_AUTH), oiap(&mut tpm, KEY_AUTH));
        let out = call(&mut tpm, ord::CERTIFY_KEY, &[cert, target], &[&[9; 20]], &mut [&mut a, &mut b]);
        assert_eq!(out, Err(code));
    }
}

#[test]
fn restrictions_to_pcrs_are_certified_in_the_form_they_need() {
    let mut tpm = owned();
    let (cert, _) = new_key(&mut tpm, &template(0x10, 0, 0, 1, 2, 512));
    let digest = sha1(&[&[0, 3, 1, 0, 0, 0, 0, 0, 20], &[0; 20]]);
    for (localities, tag) in [(0x1f, [1, 1]), (0x01, [0, 0x29])] {
        let info = [&[0, 6, 0, localities, 0, 3, 1, 0, 0, 0, 3, 1, 0, 0][..], &[0; 20], &digest].concat();
        let (target, _) = new_key(&mut tpm, &template12(0x10, 0, 1, 2, 512, &info));
        let mut auth = oiap(&mut tpm, KEY_AUTH);
        let out = call(&mut tpm, ord::CERTIFY_KEY, &[cert, target], &[&[9; 20]], &mut [&mut auth]).unwrap();
        assert_eq!(out[..2], tag);
        let at = out.windows(20).position(|window| window == [9; 20]).unwrap() + 21;
        match tag {
            [1, 1] => assert_eq!(out[at..at + 9], [0, 0, 0, 45, 0, 3, 1, 0, 0]),
            _ => assert_eq!(out[at..at + 10], [0, 0, 0, 26, 0, 3, 1, 0, 0, 1]),
        }
    }
}
