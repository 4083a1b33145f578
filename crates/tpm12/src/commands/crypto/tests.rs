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
