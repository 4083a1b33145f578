//! The layout on disk, and what becomes of a disk on which any of it was changed, by accident or by somebody who repairs the
//! plain checksums afterwards.

mod common;

use common::{HEADER, SLOTS, SMALL, Seen, create, made, open, rng};
use tpm_crypto::sha256;
use vault::fake::{Dice, RamDisk, block_on};
use vault::{Content, Expect, MAX_LABEL, Over, VaultError, probe};

const COPIES: [usize; 2] = [0, 8 * 512];
/// Bytes of a superblock before its checksum, and with it.
const SUPERBLOCK: (usize, usize) = (80, 112);

/// Opens a changed image in every way: refused, or one of the states that may be there.
fn harmless(image: &[u8], seen: &[Seen], context: &str) {
    let (last, before) = (&seen[seen.len() - 1], &seen[seen.len() - 2]);
    for wanted in [last, before] {
        if let Ok(found) = open(image, Expect::Exactly(wanted.generation)) {
            assert_eq!(&found, wanted, "{context}");
        }
    }
    if let Ok(found) = open(image, Expect::Newest) {
        assert!([last, before].contains(&&found), "{context}");
    }
    let disk = RamDisk::from_image(image.to_vec());
    if let Ok(Content::Vault(header)) = block_on(probe(&disk)) {
        assert!(header.label.len() <= MAX_LABEL, "{context}");
    }
    assert!(disk.image() == image, "{context}");
}

#[test]
fn every_byte_of_the_header_areas_changed_is_refused_or_changes_nothing() {
    let (disk, seen) = made(3);
    let good = disk.image();
    let (last, before) = (&seen[3], &seen[2]);
    let superblocks = COPIES.map(|at| at..at + 512);
    let slots = SLOTS.map(|at| at..at + 1024);
    for at in superblocks.clone().into_iter().chain(slots.clone()).flatten() {
        for change in [0x01, 0xff] {
            let mut image = good.clone();
            image[at] ^= change;
            let context = format!("byte {at} ^ {change:#x}");
            harmless(&image, &seen, &context);
            // One copy of the superblock is enough, and the older slot is not needed for the newer state.
            if !slots[1].contains(&at) {
                assert_eq!(open(&image, Expect::Exactly(last.generation)).as_ref(), Ok(last), "{context}");
                assert_eq!(open(&image, Expect::Newest).as_ref(), Ok(last), "{context}");
            }
            if !slots[0].contains(&at) {
                assert_eq!(open(&image, Expect::Exactly(before.generation)).as_ref(), Ok(before), "{context}");
            }
            if (SLOTS[1]..SLOTS[1] + HEADER + 5 + 600 + 16).contains(&at) {
                assert!(open(&image, Expect::Exactly(last.generation)).is_err(), "{context}");
            }
        }
    }
}

#[test]
fn a_disk_cut_off_at_any_sector_is_refused() {
    let (disk, seen) = made(3);
    for sectors in 0..SMALL {
        for odd in [0, 1, 511] {
            let mut image = disk.image();
            image.truncate(sectors * 512 + odd);
            let refused = Err(VaultError::TooSmall { found: sectors as u64 * 512, needed: 64 * 1024 });
            assert_eq!(open(&image, Expect::Newest), refused);
            assert_eq!(open(&image, Expect::Exactly(seen[3].generation)), refused);
        }
    }
    // A vault that is larger than the smallest says what it needs.
    let disk = RamDisk::new(1000);
    create(&disk, b"", b"", Over::Blank, &mut rng(1)).unwrap();
    let needed = (16 + 2 * 488) * 512;
    for sectors in SMALL..1000 {
        let mut image = disk.image();
        image.truncate(sectors * 512);
        let found = sectors as u64 * 512;
        let refused = VaultError::TooSmall { found, needed };
        let outcome = open(&image, Expect::Newest).map(drop);
        assert_eq!(outcome, if found < needed { Err(refused) } else { Ok(()) });
    }
}

/// Puts `bytes` at `offset` of the superblocks in `copies` and makes their checksums right again.
fn with_superblock(image: &[u8], copies: &[usize], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    for &at in copies {
        image[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
        let sum = sha256(&[&image[at..at + SUPERBLOCK.0]]);
        image[at + SUPERBLOCK.0..at + SUPERBLOCK.1].copy_from_slice(&sum);
    }
    image
}

const NO_SUPERBLOCK: VaultError = VaultError::Damaged { what: "no copy of the superblock is whole" };

const EXTREMES: [u32; 16] = [0, 1, 2, 3, 7, 8, 48, 55, 57, 64, 2048, 2056, 0xffff, 0x7fff_ffff, 0xffff_fff8, u32::MAX];

#[test]
fn superblock_fields_with_a_right_checksum_and_a_wrong_meaning() {
    let (disk, seen) = made(3);
    let good = disk.image();
    for copies in [&COPIES[..], &COPIES[..1], &COPIES[1..]] {
        // Slot size and slot count: zero, one, overlapping, wrapping, beyond the disk.
        for (field, right) in [(72, 56), (76, 2)] {
            for value in EXTREMES.into_iter().filter(|value| *value != right) {
                let image = with_superblock(&good, copies, field, &value.to_be_bytes());
                harmless(&image, &seen, &format!("field {field} = {value}"));
                if copies.len() == 2 {
                    let refused = open(&image, Expect::Newest).unwrap_err();
                    let allowed = field == 72 && (56..=2048).contains(&value) && value % 8 == 0;
                    assert_eq!(refused == NO_SUPERBLOCK, !allowed, "field {field} = {value}: {refused:?}");
                }
            }
        }
        // Kind, stage, reserved bytes.
        for field in 20..24 {
            for value in 0..=255u8 {
                let image = with_superblock(&good, copies, field, &[value]);
                harmless(&image, &seen, &format!("field {field} = {value}"));
                if copies.len() == 2 && value != good[field] {
                    assert!(open(&image, Expect::Newest).is_err(), "field {field} = {value}");
                }
            }
        }
        // Vault id and key check.
        for field in [40, 55, 56, 71] {
            let image = with_superblock(&good, copies, field, &[!good[field]]);
            harmless(&image, &seen, &format!("field {field}"));
            assert!(open(&image, Expect::Newest).is_err());
        }
        let zero = with_superblock(&good, copies, 16, &[0; 4]);
        harmless(&zero, &seen, "format 0");
        if copies.len() == 2 {
            assert_eq!(open(&zero, Expect::Newest), Err(NO_SUPERBLOCK));
        }
    }
}

/// Puts `bytes` at `offset` of slot `index` and makes the slot's plain digest right again, as far as its lengths allow.
fn with_slot(image: &[u8], index: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let at = SLOTS[index];
    image[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
    let field = |offset: usize| u32::from_be_bytes(image[at + offset..][..4].try_into().unwrap()) as usize;
    let total = (HEADER + 16).wrapping_add(field(16)).wrapping_add(field(20)).clamp(HEADER, 56 * 512);
    let binding = &image[SUPERBLOCK.0..SUPERBLOCK.1];
    let digest = sha256(&[binding, &image[at..at + 56], &image[at + HEADER..at + total]]);
    image[at + 56..at + HEADER].copy_from_slice(&digest);
    image
}

#[test]
fn slot_fields_with_a_right_digest_and_a_wrong_meaning() {
    let (disk, seen) = made(3);
    let good = disk.image();
    assert!(with_slot(&good, 1, 0, b"vaultgen") == good, "the digest is made as the vault makes it");
    for index in [0, 1] {
        for field in [16, 20] {
            let right = u32::from_be_bytes(good[SLOTS[index] + field..][..4].try_into().unwrap());
            let near = [4, 6, 599, 601, 616, 3072, 3073, 56 * 512 - 104, 56 * 512 - 103, 56 * 512 - 109, 56 * 512];
            for value in EXTREMES.into_iter().chain(near).filter(|value| *value != right) {
                let image = with_slot(&good, index, field, &value.to_be_bytes());
                harmless(&image, &seen, &format!("slot {index}, field {field} = {value}"));
                assert!(open(&image, Expect::Exactly(seen[2 + index].generation)).is_err());
            }
        }
        // Both lengths together, so that their sum wraps.
        for (label, state) in [(u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX), (1 << 31, 1 << 31), (605, 0)] {
            let image = with_slot(&good, index, 16, &[label.to_be_bytes(), state.to_be_bytes()].concat());
            harmless(&image, &seen, &format!("slot {index}, lengths {label} and {state}"));
        }
        for sequence in [0, 1, 2, 5, 100, u64::MAX - 1, u64::MAX] {
            let image = with_slot(&good, index, 8, &sequence.to_be_bytes());
            harmless(&image, &seen, &format!("slot {index}, sequence {sequence}"));
            let newest = open(&image, Expect::Newest);
            if sequence > 4 {
                // Whole, and not made with the key: nothing that a power cut leaves.
                assert_eq!(newest, Err(VaultError::Damaged { what: "the newest state does not authenticate" }));
            }
        }
        // Any part of salt, label, ciphertext and tag.
        for offset in (24..56).chain(HEADER..HEADER + 5 + 600 + 16) {
            let byte = !good[SLOTS[index] + offset];
            let image = with_slot(&good, index, offset, &[byte]);
            harmless(&image, &seen, &format!("slot {index}, byte {offset}"));
            let refused = VaultError::Damaged { what: "the current state does not authenticate" };
            assert_eq!(open(&image, Expect::Exactly(seen[2 + index].generation)), Err(refused));
        }
    }
}

#[test]
fn slots_moved_copied_or_brought_from_another_vault() {
    let (disk, seen) = made(3);
    let good = disk.image();
    let slot = |image: &[u8], index: usize| image[SLOTS[index]..SLOTS[index] + 56 * 512].to_vec();
    let put = |image: &mut [u8], index: usize, bytes: &[u8]| {
        image[SLOTS[index]..SLOTS[index] + 56 * 512].copy_from_slice(bytes);
    };
    let mut swapped = good.clone();
    put(&mut swapped, 0, &slot(&good, 1));
    put(&mut swapped, 1, &slot(&good, 0));
    assert_eq!(open(&swapped, Expect::Newest).as_ref(), Ok(&seen[3]));
    assert_eq!(open(&swapped, Expect::Exactly(seen[2].generation)).as_ref(), Ok(&seen[2]));

    let mut doubled = good.clone();
    put(&mut doubled, 0, &slot(&good, 1));
    assert_eq!(open(&doubled, Expect::Exactly(seen[3].generation)).as_ref(), Ok(&seen[3]));
    let refused = open(&doubled, Expect::Exactly(seen[2].generation));
    assert_eq!(refused, Err(VaultError::Ahead { found: 4, expected: 3 }));

    // The same owner and key, but another vault.
    let other = RamDisk::new(SMALL);
    create(&other, b"label", &[1; 600], Over::Blank, &mut rng(8)).unwrap();
    let mut mixed = good.clone();
    put(&mut mixed, 1, &slot(&other.image(), 0));
    assert_eq!(open(&mixed, Expect::Newest).as_ref(), Ok(&seen[2]));
    assert!(open(&with_slot(&mixed, 1, 8, &9u64.to_be_bytes()), Expect::Newest).is_err());
}

#[test]
fn random_changes_in_the_header_areas() {
    let (disk, seen) = made(3);
    let good = disk.image();
    let mut dice = Dice(1);
    let areas = [COPIES[0], COPIES[1], SLOTS[0], SLOTS[1]];
    for round in 0..5_000 {
        let mut image = good.clone();
        for _ in 0..=dice.roll(6) {
            let at = areas[dice.roll(4)] + dice.roll(120);
            image[at] = [0, 1, 0x7f, 0x80, 0xff, dice.bits() as u8][dice.roll(6)];
        }
        harmless(&image, &seen, &format!("round {round}"));
    }
}

/// What `docs/formats/vault.md` says about where things are.
#[test]
fn the_layout_is_as_documented() {
    let (disk, seen) = made(1);
    let image = disk.image();
    for at in COPIES {
        assert_eq!(&image[at..at + 24], b"Xen vTPM vault\r\n\0\0\0\x01\x01\x02\0\0");
        assert_eq!(&image[at + 24..at + 40], b"\x12\x34uuid of a vTPM");
        assert_eq!(&image[at + 72..at + 80], &[0, 0, 0, 56, 0, 0, 0, 2]);
        assert_eq!(&image[at + 80..at + 112], &sha256(&[&image[at..at + 80]]));
        assert!(image[at + 112..at + 8 * 512].iter().all(|&byte| byte == 0));
    }
    for (index, at) in SLOTS.into_iter().enumerate() {
        assert_eq!(&image[at..at + 8], b"vaultgen");
        assert_eq!(image[at + 8..at + 16], seen[index].generation.sequence.to_be_bytes());
        assert_eq!(image[at + 16..at + 24], [0, 0, 0, 5, 0, 0, 2, 88]);
        assert_eq!(image[at + 56..at + 80], seen[index].generation.identity);
        assert_eq!(&image[at + 88..at + 93], b"label");
        let end = at + HEADER + 5 + 600 + 16;
        let digest = sha256(&[&image[80..112], &image[at..at + 56], &image[at + 88..end]]);
        assert_eq!(image[at + 56..at + 88], digest);
        assert!(image[end..end.next_multiple_of(512)].iter().all(|&byte| byte == 0));
    }
    let Ok(Content::Vault(header)) = block_on(probe(&disk)) else { panic!() };
    assert_eq!(header.label, b"label");
}
