//! Vaults as released versions wrote them.

mod common;

use common::{Seen, open_as};
use vault::fake::{RamDisk, block_on};
use vault::{Content, Expect, Generation, Header, Kind, Owner, VaultKey, probe};

#[test]
fn format_1_opens() {
    let image = include_bytes!("data/format-1.img");
    let owner = Owner { kind: Kind::Vtpm, uuid: std::array::from_fn(|i| 0xa0 + i as u8) };
    let key = VaultKey::from_bytes(&std::array::from_fn(|i| i as u8));
    let confirmed = Seen {
        generation: Generation {
            sequence: 2,
            identity:
                *b"\x68\xe1\xc9\x41\xed\xad\x49\x71\xfc\x63\xd6\xe8\x50\x2c\x34\x56\x8f\xed\xf4\x13\x5d\xd6\x3b\x68",
        },
        label: b"label one".to_vec(),
        state: vec![2; 1000],
    };
    let newest = Seen {
        generation: Generation {
            sequence: 3,
            identity:
                *b"\xed\x06\xe3\xb7\x86\x6e\xcd\xe6\x18\x35\xc5\x39\x3f\xbd\x4d\x3c\xc8\xa6\x1a\x39\x78\xd1\x23\x42",
        },
        label: b"label two".to_vec(),
        state: b"third state".to_vec(),
    };
    let header = Header { format: 1, owner, unfinished: false, label: b"label two".to_vec() };
    assert_eq!(block_on(probe(&RamDisk::from_image(image.to_vec()))), Ok(Content::Vault(header)));
    assert_eq!(open_as(image, owner, &key, Expect::Exactly(confirmed.generation)), Ok(confirmed));
    assert_eq!(open_as(image, owner, &key, Expect::Exactly(newest.generation)), Ok(newest.clone()));
    assert_eq!(open_as(image, owner, &key, Expect::Newest), Ok(newest));
}
