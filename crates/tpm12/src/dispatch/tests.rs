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

/// Every command that uses a key, with keys of every kind: what a key is not for fails with an error of its own, and nothing else
/// happens (the class of CVE-2025-2884, a signature with a key and scheme that do not go together).
#[test]
fn keys_do_what_they_are_for() {
    use crate::testing::client::*;
    use crate::testing::owned;
    let mut tpm = owned();
    let identity = {
        let (mut srk, mut owner) = (oiap(&mut tpm, SRK_AUTH), osap(&mut tpm, 2, 0, OWNER));
        let enc = owner.encrypt(&KEY_AUTH, false);
        let parameters: [&[u8]; 3] = [&enc, &[8; 20], &template(0x12, 0, 1, 1, 2, 2048)];
        let out = call(&mut tpm, ord::MAKE_IDENTITY, &[], &parameters, &mut [&mut srk, &mut owner]).unwrap();
        load_key(&mut tpm, SRK, SRK_AUTH, &out[..out.len() - 260]).unwrap()
    };
    let mut keys = vec![("identity", identity)];
    for (name, template) in [
        ("sha1", signing_template(2, 512)),
        ("der", signing_template(3, 512)),
        ("info", signing_template(4, 512)),
        ("storage", storage_template(0)),
        ("bind oaep", template(0x14, 0, 1, 3, 1, 512)),
        ("bind pkcs1", template(0x14, 0, 1, 2, 1, 512)),
        ("legacy", template(0x15, 0, 1, 3, 2, 512)),
        ("legacy der", template(0x15, 0, 1, 2, 3, 512)),
    ] {
        keys.push((name, new_key(&mut tpm, &template).0));
    }
    let (nonce, selection) = ([9; 20], [0, 3, 1, 0, 0]);
    let quote = [&nonce[..], &selection].concat();
    let commands: [(&str, u32, Vec<u8>, &[&str]); 8] = [
        ("Sign", ord::SIGN, sized(&[5; 20]), &["sha1", "der", "info", "legacy", "legacy der"]),
        ("Quote", ord::QUOTE, quote.clone(), &["identity", "sha1", "info", "legacy"]),
        ("Quote2", ord::QUOTE2, [&quote[..], &[1]].concat(), &["identity", "sha1", "legacy"]),
        ("TickStampBlob", ord::TICK_STAMP_BLOB, [nonce, nonce].concat(), &["identity", "sha1", "info", "legacy"]),
        (
            "GetAuditDigestSigned",
            ord::GET_AUDIT_DIGEST_SIGNED,
            [&[0][..], &nonce].concat(),
            &["identity", "sha1", "info", "legacy"],
        ),
        ("UnBind", ord::UNBIND, sized(&[1; 64]), &[]),
        ("LoadKey2", ord::LOAD_KEY2, signing_template(2, 512), &[]),
        (
            "GetPubKey",
            ord::GET_PUB_KEY,
            vec![],
            &["identity", "sha1", "der", "info", "storage", "bind oaep", "bind pkcs1", "legacy", "legacy der"],
        ),
    ];
    for (command, ordinal, parameters, works_with) in &commands {
        for (name, handle) in &keys {
            let mut auth = oiap(&mut tpm, KEY_AUTH);
            auth.keep = false;
            let result = call(&mut tpm, *ordinal, &[*handle], &[parameters], &mut [&mut auth]);
            assert_eq!(result.is_ok(), works_with.contains(name), "{command} with {name}: {result:?}");
        }
    }
}
