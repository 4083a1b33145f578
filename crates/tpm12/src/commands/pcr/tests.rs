use crate::dispatch::table::ord;
use crate::testing::{send, send_at, tpm};
use tpm_crypto::sha1;

fn read(tpm: &mut crate::Tpm12, pcr: u32) -> alloc::vec::Vec<u8> {
    send(tpm, ord::PCR_READ, &[&pcr.to_be_bytes()]).unwrap()
}

#[test]
fn an_extend_hashes_the_old_value_and_the_digest() {
    let mut tpm = tpm();
    let want = sha1(&[&sha1(&[&[0; 20], &[1; 20]]), &[2; 20]]);
    send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[1; 20]]).unwrap();
    assert_eq!(send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[2; 20]]).unwrap(), want);
    assert_eq!(read(&mut tpm, 10), want);
    assert_eq!(read(&mut tpm, 11), [0; 20]);
}

#[test]
fn indices_and_sizes_are_checked() {
    let mut tpm = tpm();
    for pcr in [24u32, 25, 0x8000_0000, u32::MAX] {
        assert_eq!(send(&mut tpm, ord::PCR_READ, &[&pcr.to_be_bytes()]), Err(2));
        assert_eq!(send(&mut tpm, ord::EXTEND, &[&pcr.to_be_bytes(), &[0; 20]]), Err(2));
    }
    for length in [0usize, 1, 3, 5, 23, 25] {
        assert_eq!(send(&mut tpm, ord::EXTEND, &[&alloc::vec![0; length]]), Err(25));
    }
    assert_eq!(send(&mut tpm, ord::PCR_READ, &[&[0; 5]]), Err(25));
}

/// PC Client specification: which locality may extend and reset which PCR.
#[test]
fn localities_extend_and_reset_what_the_pc_client_specification_allows() {
    let allowed = |pcr: u32, reset: bool| -> &'static [u8] {
        match (pcr, reset) {
            (16 | 23, _) => &[0, 1, 2, 3, 4],
            (17 | 18, false) => &[2, 3, 4],
            (17..=19, true) => &[4],
            (19, false) => &[2, 3],
            (20, false) => &[1, 2, 3],
            (20, true) => &[2, 4],
            (21 | 22, _) => &[2],
            (_, false) => &[0, 1, 2, 3, 4],
            (_, true) => &[],
        }
    };
    let mut tpm = tpm();
    for pcr in 0..24u32 {
        let mut selection = [0, 3, 0, 0, 0];
        selection[2 + pcr as usize / 8] = 1 << (pcr % 8);
        for locality in 0..5u8 {
            let extended = send_at(&mut tpm, locality, ord::EXTEND, &[&pcr.to_be_bytes(), &[1; 20]]);
            let want = if allowed(pcr, false).contains(&locality) { None } else { Some(61) };
            assert_eq!(extended.err(), want, "extend of PCR {pcr} at {locality}");
            let reset = send_at(&mut tpm, locality, ord::PCR_RESET, &[&selection]);
            let want = match allowed(pcr, true) {
                [] => Some(50),
                allowed if allowed.contains(&locality) => None,
                _ => Some(51),
            };
            assert_eq!(reset.err(), want, "reset of PCR {pcr} at {locality}");
            if want.is_none() {
                assert_eq!(read(&mut tpm, pcr), if (17..23).contains(&pcr) { [0xff; 20] } else { [0; 20] });
            }
        }
    }
    assert_eq!(send_at(&mut tpm, 5, ord::EXTEND, &[&[0; 24]]), Err(61));
}

#[test]
fn a_reset_is_for_all_selected_pcrs_or_none() {
    let mut tpm = tpm();
    send(&mut tpm, ord::EXTEND, &[&16u32.to_be_bytes(), &[1; 20]]).unwrap();
    let before = read(&mut tpm, 16);
    assert_eq!(send(&mut tpm, ord::PCR_RESET, &[&[0, 3, 1, 0, 1]]), Err(50));
    assert_eq!(send(&mut tpm, ord::PCR_RESET, &[&[0, 3, 0, 0, 0x11]]), Err(51));
    assert_eq!(read(&mut tpm, 16), before);
    assert_eq!(send(&mut tpm, ord::PCR_RESET, &[&[0, 3, 0, 0, 0]]), Err(16));
    assert_eq!(send(&mut tpm, ord::PCR_RESET, &[&[0, 4, 0, 0, 1, 0]]), Err(16));
    assert_eq!(send(&mut tpm, ord::PCR_RESET, &[&[0, 3, 0, 0, 0x81]]), Ok(alloc::vec![]));
    assert_eq!(read(&mut tpm, 16), [0; 20]);
}

mod quotes {
    use crate::dispatch::table::ord;
    use crate::testing::client::*;
    use crate::testing::{owned, send};
    use tpm_crypto::sha1;

    #[test]
    fn a_quote_signs_the_composite_hash_and_the_nonce() {
        let mut tpm = owned();
        let (handle, key) = new_key(&mut tpm, &signing_template(2, 1024));
        let extended = send(&mut tpm, ord::EXTEND, &[&10u32.to_be_bytes(), &[1; 20]]).unwrap();
        let mut auth = oiap(&mut tpm, KEY_AUTH);
        let selection = [0, 3, 1, 4, 0];
        let out = call(&mut tpm, ord::QUOTE, &[handle], &[&[9; 20], &selection], &mut [&mut auth]).unwrap();
        let composite = [&selection[..], &[0, 0, 0, 40], &[0; 20], &extended].concat();
        let (data, signature) = out.split_at(composite.len());
        assert_eq!(data, composite);
        let info = [&[1, 1, 0, 0][..], b"QUOT", &sha1(&[&composite]), &[9; 20]].concat();
        assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), &signature[4..]), Ok(()));
    }

    #[test]
    fn a_second_form_tells_locality_and_version() {
        let mut tpm = owned();
        let (handle, key) = new_key(&mut tpm, &signing_template(2, 1024));
        for (add, version) in [(0, &b""[..]), (1, b"\x00\x30\x01\x02\x01\x00\x00\x02\x03XVTR\x00\x00")] {
            let mut auth = oiap(&mut tpm, KEY_AUTH);
            let selection = [0, 3, 1, 0, 0];
            let parameters: [&[u8]; 3] = [&[9; 20], &selection, &[add]];
            let out = call_at(&mut tpm, 3, ord::QUOTE2, &[handle], &parameters, &mut [&mut auth], false).unwrap();
            let composite = [&selection[..], &[0, 0, 0, 20], &[0; 20]].concat();
            let short = [&selection[..], &[8], &sha1(&[&composite])].concat();
            let signature = &out[short.len() + 4 + version.len() + 4..];
            assert!(out.starts_with(&[&short[..], &sized(version)].concat()));
            let info = [&[0, 0x36][..], b"QUT2", &[9; 20], &short, version].concat();
            assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), signature), Ok(()));
        }
    }

    #[test]
    fn only_keys_that_sign_digests_quote() {
        let mut tpm = owned();
        for (template, code) in
            [(template(0x14, 0, 1, 3, 1, 512), 39), (signing_template(3, 512), 39), (storage_template(0), 39)]
        {
            let (handle, _) = new_key(&mut tpm, &template);
            let mut auth = oiap(&mut tpm, KEY_AUTH);
            let out = call(&mut tpm, ord::QUOTE, &[handle], &[&[9; 20], &[0, 3, 1, 0, 0]], &mut [&mut auth]);
            assert_eq!(out, Err(code));
        }
    }
}
