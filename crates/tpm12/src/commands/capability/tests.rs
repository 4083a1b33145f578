use crate::dispatch::table::ord;
use crate::testing::{send, tpm};
use alloc::vec::Vec;

fn ask(area: u32, sub: &[u8]) -> Result<Vec<u8>, u32> {
    let size = sub.len() as u32;
    let out = send(&mut tpm(), ord::GET_CAPABILITY, &[&area.to_be_bytes(), &size.to_be_bytes(), sub])?;
    assert_eq!(out[..4], (out.len() as u32 - 4).to_be_bytes());
    Ok(out[4..].to_vec())
}

fn property(property: u32) -> Result<Vec<u8>, u32> {
    ask(5, &property.to_be_bytes())
}

#[test]
fn what_linux_asks_when_it_probes() {
    let numbers = |out: Vec<u8>| -> Vec<u32> {
        out.chunks(4).map(|chunk| u32::from_be_bytes(chunk.try_into().unwrap())).collect()
    };
    assert_eq!(numbers(property(0x115).unwrap()), [750_000, 2_000_000, 750_000, 750_000]);
    assert_eq!(numbers(property(0x120).unwrap()), [3_000_000, 3_000_000, 300_000_000]);
    assert_eq!(numbers(property(0x103).unwrap()), [u32::from_be_bytes(*b"XVTR")]);
    assert_eq!(numbers(property(0x101).unwrap()), [24]);
    assert_eq!(numbers(property(0x124).unwrap()), [4088]);
    assert_eq!(ask(6, &[]), Ok([1, 1, 0, 0].to_vec()));
    assert_eq!(ask(0x1a, &[]), Ok(b"\x00\x30\x01\x02\x01\x00\x00\x02\x03XVTR\x00\x00".to_vec()));
    assert_eq!(ask(4, &0x108u32.to_be_bytes()).unwrap().len(), 22);
    assert_eq!(ask(4, &0x109u32.to_be_bytes()), Ok([0, 0x20, 0, 0, 0, 0, 0].to_vec()));
    assert_eq!(property(0x111), Ok([0].to_vec()));
}

#[test]
fn ordinals_are_told_as_they_are() {
    assert_eq!(ask(1, &ord::EXTEND.to_be_bytes()), Ok([1].to_vec()));
    assert_eq!(ask(1, &0x55u32.to_be_bytes()), Ok([0].to_vec()));
}

#[test]
fn unknown_areas_and_malformed_subareas_are_bad_modes() {
    assert_eq!(ask(0x99, &[]), Err(44));
    assert_eq!(property(0x999), Err(44));
    assert_eq!(ask(5, &[0; 3]), Err(44));
    assert_eq!(ask(5, &[0; 5]), Err(44));
    let lying = send(&mut tpm(), ord::GET_CAPABILITY, &[&[0, 0, 0, 5], &[0xff; 4], &[0; 4]]);
    assert_eq!(lying, Err(25));
}

#[test]
fn every_area_and_property_answers_without_a_panic() {
    for area in 0..0x20 {
        for length in 0..12 {
            let _ = ask(area, &alloc::vec![0; length]);
            let _ = ask(area, &alloc::vec![0xff; length]);
        }
    }
    for number in 0..0x200 {
        let _ = property(number);
    }
}
