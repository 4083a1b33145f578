use crate::dispatch::table::ord;
use crate::testing::{send, tpm};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::sha1;

fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], data].concat()
}

#[test]
fn a_hash_sequence_gives_the_hash_and_extends() {
    let mut tpm = tpm();
    assert_eq!(send(&mut tpm, ord::SHA1_START, &[]).unwrap(), 2048u32.to_be_bytes());
    send(&mut tpm, ord::SHA1_UPDATE, &[&sized(&[3; 128])]).unwrap();
    let digest = sha1(&[&[3; 128], &[4; 5]]);
    assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(&[4; 5])]).unwrap(), digest);

    send(&mut tpm, ord::SHA1_START, &[]).unwrap();
    let out = send(&mut tpm, ord::SHA1_COMPLETE_EXTEND, &[&7u32.to_be_bytes(), &sized(b"abc")]).unwrap();
    let digest = sha1(&[b"abc"]);
    assert_eq!(out, [digest, sha1(&[&[0; 20], &digest])].concat());
}

#[test]
fn a_sequence_ends_with_any_other_command_and_takes_whole_blocks() {
    let mut tpm = tpm();
    assert_eq!(send(&mut tpm, ord::SHA1_UPDATE, &[&sized(&[0; 64])]), Err(26));
    assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(&[])]), Err(26));
    send(&mut tpm, ord::SHA1_START, &[]).unwrap();
    send(&mut tpm, ord::GET_TICKS, &[]).unwrap();
    assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(&[])]), Err(26));
    for (length, code) in [(63, 27), (2112, 27)] {
        send(&mut tpm, ord::SHA1_START, &[]).unwrap();
        assert_eq!(send(&mut tpm, ord::SHA1_UPDATE, &[&sized(&vec![0; length])]), Err(code));
        assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(&[])]), Err(26));
    }
    send(&mut tpm, ord::SHA1_START, &[]).unwrap();
    assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(&[0; 65])]), Err(27));
}

#[test]
fn random_numbers_come_in_the_size_asked_for_up_to_what_fits() {
    let mut tpm = tpm();
    for (wanted, given) in [(0u32, 0u32), (1, 1), (20, 20), (2048, 2048), (2049, 2048), (u32::MAX, 2048)] {
        let out = send(&mut tpm, ord::GET_RANDOM, &[&wanted.to_be_bytes()]).unwrap();
        assert_eq!(out[..4], given.to_be_bytes());
        assert_eq!(out.len(), 4 + given as usize);
    }
    let mut draw = || send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 20]]).unwrap();
    assert_ne!(draw(), draw());
}

#[test]
fn stirring_takes_up_to_255_bytes() {
    let mut tpm = tpm();
    assert_eq!(send(&mut tpm, ord::STIR_RANDOM, &[&sized(&[1; 255])]), Ok(vec![]));
    assert_eq!(send(&mut tpm, ord::STIR_RANDOM, &[&sized(&[1; 256])]), Err(3));
    assert_eq!(send(&mut tpm, ord::STIR_RANDOM, &[&sized(&[1; 9])[..12]]), Err(25));
}

mod signing {
    use super::sized;
    use crate::dispatch::table::ord;
    use crate::testing::client::*;
    use crate::testing::{openssl_verifies, owned};
    use alloc::vec;
    use alloc::vec::Vec;
    use tpm_crypto::sha1;

    fn sign(tpm: &mut crate::Tpm12, handle: u32, data: &[u8]) -> Result<Vec<u8>, u32> {
        let mut auth = oiap(tpm, KEY_AUTH);
        call(tpm, ord::SIGN, &[handle], &[&sized(data)], &mut [&mut auth]).map(|out| out[4..].to_vec())
    }

    #[test]
    fn signatures_of_every_scheme_verify() {
        let mut tpm = owned();
        for bits in [512, 1024, 2048] {
            let (handle, key) = new_key(&mut tpm, &signing_template(2, bits));
            let signature = sign(&mut tpm, handle, &[5; 20]).unwrap();
            assert_eq!(public_of(&key).verify_pkcs1_sha1(&[5; 20], &signature), Ok(()));
            assert!(openssl_verifies(&public_of(&key), &[5; 20], &signature));
            for length in [0, 1, 19, 21, 300] {
                assert_eq!(sign(&mut tpm, handle, &vec![5; length]), Err(3));
            }
        }
        let (handle, key) = new_key(&mut tpm, &signing_template(3, 512));
        for length in [1, 20, 53] {
            let signature = sign(&mut tpm, handle, &vec![7; length]).unwrap();
            assert_eq!(public_of(&key).verify_pkcs1(&vec![7; length], &signature), Ok(()));
        }
        assert_eq!(sign(&mut tpm, handle, &[7; 54]), Err(3));
        let (handle, key) = new_key(&mut tpm, &signing_template(4, 512));
        let signature = sign(&mut tpm, handle, b"any length").unwrap();
        let info = [&[0, 5][..], b"SIGN", &[0x55; 20], &sized(b"any length")].concat();
        assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), &signature), Ok(()));
    }

    #[test]
    fn only_signing_and_legacy_keys_sign() {
        let mut tpm = owned();
        for (template, result) in [
            (template(0x15, 0, 1, 3, 2, 512), None),
            (template(0x14, 0, 1, 3, 1, 512), Some(36)),
            (storage_template(0), Some(36)),
        ] {
            let (handle, _) = new_key(&mut tpm, &template);
            assert_eq!(sign(&mut tpm, handle, &[5; 20]).err(), result);
        }
        let mut auth = oiap(&mut tpm, SRK_AUTH);
        assert_eq!(call(&mut tpm, ord::SIGN, &[SRK], &[&sized(&[5; 20])], &mut [&mut auth]), Err(36));
    }
}
