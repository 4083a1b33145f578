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
            (17 | 18 | 19, true) => &[4],
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
