use super::table::ord;
use crate::testing::{command, execute, send, tpm};
use alloc::vec;
use alloc::vec::Vec;

fn code(packet: &[u8]) -> u32 {
    let response = execute(&mut tpm(), 0, packet);
    u32::from_be_bytes(response[6..10].try_into().unwrap())
}

#[test]
fn headers_are_checked_before_anything_else() {
    let good = command(ord::GET_TICKS, &[]);
    assert_eq!(code(&good), 0);
    for cut in 0..good.len() {
        assert_eq!(code(&good[..cut]), 25);
    }
    for size in [0u32, 9, 11, 4088, u32::MAX] {
        let mut bad = good.clone();
        bad[2..6].copy_from_slice(&size.to_be_bytes());
        assert_eq!(code(&bad), 25);
    }
    for tag in [0u16, 0xc0, 0xc4, 0x8001, 0x01c1, 0xffff] {
        let mut bad = good.clone();
        bad[..2].copy_from_slice(&tag.to_be_bytes());
        assert_eq!(code(&bad), 30);
    }
    for ordinal in [0u32, 0x55, 0x8000_0099, u32::MAX] {
        assert_eq!(code(&command(ordinal, &[])), 10);
    }
    assert_eq!(code(&command(ord::GET_TICKS, &[&[0]])), 25);
    assert_eq!(code(&vec![0xc1; 5000]), 23);
}

#[test]
fn authorizations_come_only_where_the_table_has_them() {
    let mut packet = command(ord::GET_TICKS, &[&[0; 45]]);
    packet[1] = 0xc2;
    assert_eq!(code(&packet), 30);
    packet[1] = 0xc3;
    assert_eq!(code(&packet), 30);
}

#[test]
fn every_ordinal_survives_every_short_parameter_block() {
    let mut tpm = tpm();
    for ordinal in (0..0x100).chain([0x4000_000a, 0x4000_000b]) {
        for tag in [0xc1, 0xc2, 0xc3] {
            for fill in [0u8, 1, 0xff] {
                for length in [0, 1, 2, 3, 4, 5, 8, 20, 24, 45, 49, 60, 90, 94, 98, 128, 200, 300] {
                    let mut packet = command(ordinal, &[&vec![fill; length]]);
                    packet[1] = tag;
                    execute(&mut tpm, 0, &packet);
                }
            }
        }
    }
    let _: Vec<u8> = send(&mut tpm, ord::GET_TEST_RESULT, &[]).unwrap();
}
