//! Every reason to refuse a disk, each with its own error, and the disk untouched.

mod common;

use common::{OWNER, SLOTS, SMALL, create, key, made, open, open_as, rng};
use vault::fake::{FlakyDisk, RamDisk, block_on};
use vault::{
    Content, Expect, Generation, Kind, MAX_LABEL, MAX_STATE, MIN_DISK, Over, Owner, Vault, VaultError, VaultKey, probe,
};
use xen_abi::DiskError;

/// What `probe` says of an image; never a write.
fn probed(image: &[u8]) -> Result<Content, VaultError> {
    let disk = RamDisk::from_image(image.to_vec());
    let content = block_on(probe(&disk));
    assert!(disk.image() == image);
    content
}

/// What `create` says of an image that it must not replace; never a write.
fn not_replaced(image: &[u8], over: Over) -> VaultError {
    let disk = RamDisk::from_image(image.to_vec());
    let error = create(&disk, b"", b"new", over, &mut rng(1)).map(drop).unwrap_err();
    assert!(disk.image() == image);
    error
}

#[test]
fn a_blank_disk_is_blank_to_everyone() {
    let image = vec![0; SMALL * 512];
    assert_eq!(probed(&image), Ok(Content::Blank));
    assert_eq!(open(&image, Expect::Newest), Err(VaultError::Blank));
    for over in [Over::Blank, Over::UnfinishedCreation] {
        create(RamDisk::from_image(image.clone()), b"", b"", over, &mut rng(1)).unwrap();
    }
}

#[test]
fn anything_else_on_the_disk_is_foreign_and_left_alone() {
    // The first byte, a partition table, an ext4 superblock, a byte in the second copy's place, in a slot, at the very end.
    let size = 8192 * 512;
    for at in [0, 510, 1080, 8 * 512, 20 * 512, 2 << 20, size - 64 * 1024, size - 512, size - 1] {
        let mut image = vec![0; size];
        image[at] = 1;
        assert_eq!(probed(&image), Ok(Content::Foreign), "byte {at}");
        assert_eq!(open(&image, Expect::Newest), Err(VaultError::Foreign));
        assert_eq!(not_replaced(&image, Over::Blank), VaultError::Foreign);
        assert_eq!(not_replaced(&image, Over::UnfinishedCreation), VaultError::Foreign);
    }
}

#[test]
fn a_newer_format_is_named_and_kept() {
    let (disk, _) = made(1);
    let mut image = disk.image();
    for (newer, copies) in [(2u32, &[0, 8 * 512][..]), (u32::MAX, &[0, 8 * 512])] {
        copies.iter().for_each(|at| image[at + 16..at + 20].copy_from_slice(&newer.to_be_bytes()));
        let refused = VaultError::NewerFormat { found: newer };
        assert_eq!(probed(&image), Err(refused));
        assert_eq!(open(&image, Expect::Newest), Err(refused));
        assert_eq!(not_replaced(&image, Over::Blank), refused);
        assert_eq!(not_replaced(&image, Over::UnfinishedCreation), refused);
    }
}

#[test]
fn one_copy_of_a_newer_format_is_left_alone() {
    let (disk, seen) = made(0);
    for at in [0, 8 * 512] {
        let mut image = disk.image();
        image[at + 16..at + 20].copy_from_slice(&2u32.to_be_bytes());
        assert_eq!(open(&image, Expect::Newest).as_ref(), Ok(&seen[0]));
        let disk = RamDisk::from_image(image.clone());
        block_on(Vault::open(&disk, OWNER, &key(), Expect::Newest)).map(drop).unwrap();
        assert!(disk.image() == image);
        assert_eq!(not_replaced(&image, Over::UnfinishedCreation), VaultError::NewerFormat { found: 2 });
    }
}

#[test]
fn a_complete_vault_that_was_touched_after_its_creation_is_not_made_anew() {
    let image = made(0).0.image();
    for (at, byte) in [(SLOTS[0], 0), (SLOTS[0] + 15, 2), (SLOTS[1], 1), (SLOTS[1] + 511, 1)] {
        let mut image = image.clone();
        image[at] = byte;
        assert_eq!(not_replaced(&image, Over::UnfinishedCreation), VaultError::Exists, "byte {at}");
    }
}

#[test]
fn another_owner_is_named() {
    let image = made(1).0.image();
    let others =
        [Owner { uuid: [0; 16], ..OWNER }, Owner { kind: Kind::Manager, ..OWNER }, Owner { uuid: [0xff; 16], ..OWNER }];
    for other in others {
        let refused = Err(VaultError::OtherOwner { found: OWNER });
        assert_eq!(open_as(&image, other, &key(), Expect::Newest), refused);
        for over in [Over::Blank, Over::UnfinishedCreation] {
            let disk = RamDisk::from_image(image.clone());
            let made = block_on(Vault::create(&disk, other, &key(), b"", b"", over, &mut rng(1))).map(drop);
            assert_eq!(made, Err(VaultError::OtherOwner { found: OWNER }));
            assert!(disk.image() == image);
        }
    }
    assert_eq!(
        VaultError::OtherOwner { found: OWNER }.to_string(),
        "the vault belongs to vTPM 12347575-6964-206f-6620-61207654504d: attach the right disk"
    );
}

#[test]
fn a_wrong_key_is_not_called_damage() {
    let (disk, seen) = made(2);
    for wrong in [[0; 32], [0xff; 32], [0x5b; 32]] {
        for expect in [Expect::Newest, Expect::Exactly(seen[2].generation)] {
            let outcome = open_as(&disk.image(), OWNER, &VaultKey::from_bytes(&wrong), expect);
            assert_eq!(outcome, Err(VaultError::WrongKey));
        }
    }
}

#[test]
fn only_the_expected_state_is_opened() {
    let (disk, seen) = made(5);
    let image = disk.image();
    // The last but one is still there: the last one may have been written and never acknowledged.
    for expected in &seen[4..] {
        assert_eq!(open(&image, Expect::Exactly(expected.generation)).as_ref(), Ok(expected));
    }
    assert_eq!(open(&image, Expect::Newest).as_ref(), Ok(&seen[5]));
    for old in &seen[..4] {
        let expected = old.generation.sequence;
        assert_eq!(open(&image, Expect::Exactly(old.generation)), Err(VaultError::Ahead { found: 6, expected }));
    }
    for expected in [7, 8, u64::MAX] {
        let future = Generation { sequence: expected, ..seen[5].generation };
        assert_eq!(open(&image, Expect::Exactly(future)), Err(VaultError::RolledBack { found: 6, expected }));
    }
    let other = Generation { identity: [1; 24], ..seen[5].generation };
    assert_eq!(open(&image, Expect::Exactly(other)), Err(VaultError::RolledBack { found: 6, expected: 6 }));
}

#[test]
fn an_older_copy_put_back_is_rolled_back() {
    let mut random = rng(1);
    let disk = RamDisk::new(SMALL);
    let (mut vault, mut last) = create(disk.clone(), b"", b"", Over::Blank, &mut random).unwrap();
    let mut copies = vec![disk.image()];
    for number in 0..6u8 {
        last = block_on(vault.write(&[number], &mut random)).unwrap();
        vault.confirm(last);
        copies.push(disk.image());
    }
    let current = copies.pop().unwrap();
    open(&current, Expect::Exactly(last)).unwrap();
    for (copy, found) in copies.iter().zip(1..) {
        assert_eq!(open(copy, Expect::Exactly(last)), Err(VaultError::RolledBack { found, expected: 7 }));
    }
}

#[test]
fn a_damaged_current_state_is_called_damage_and_not_rollback() {
    let (disk, seen) = made(3);
    let current = seen[3].generation;
    let slot = SLOTS[1];
    // Magic, sequence, label length, state length, salt, digest, label, state, tag.
    for at in [0, 8, 16, 20, 30, 60, 90, 200, 88 + 5 + 600 + 3] {
        let mut image = disk.image();
        image[slot + at] ^= 0x80;
        let outcome = open(&image, Expect::Exactly(current));
        assert!(
            matches!(outcome, Err(VaultError::Damaged { .. } | VaultError::RolledBack { .. })),
            "byte {at}: {outcome:?}"
        );
        if at != 8 {
            assert!(matches!(outcome, Err(VaultError::Damaged { .. })), "byte {at}: {outcome:?}");
        }
    }
    let mut image = disk.image();
    SLOTS.iter().for_each(|slot| image[slot + 200] ^= 1);
    let all = Err(VaultError::Damaged { what: "no slot holds a whole state" });
    assert_eq!(open(&image, Expect::Newest), all);
    assert_eq!(open(&image, Expect::Exactly(current)), all);
}

#[test]
fn damaged_superblocks() {
    let (disk, _) = made(1);
    let mut image = disk.image();
    [0, 8 * 512].iter().for_each(|at| image[at + 60] ^= 1);
    let refused = VaultError::Damaged { what: "no copy of the superblock is whole" };
    assert_eq!(probed(&image), Err(refused));
    assert_eq!(open(&image, Expect::Newest), Err(refused));
    assert_eq!(not_replaced(&image, Over::UnfinishedCreation), refused);

    // The second copy comes from another vault.
    let other = RamDisk::new(SMALL);
    create(&other, b"", b"", Over::Blank, &mut rng(7)).unwrap();
    let mut image = disk.image();
    image[8 * 512..9 * 512].copy_from_slice(&other.image()[..512]);
    let refused = VaultError::Damaged { what: "the two copies of the superblock disagree" };
    assert_eq!(probed(&image), Err(refused));
    assert_eq!(open(&image, Expect::Newest), Err(refused));
    assert_eq!(not_replaced(&image, Over::UnfinishedCreation), refused);
}

#[test]
fn a_vault_in_use_is_not_replaced() {
    let (disk, _) = made(0);
    assert_eq!(not_replaced(&disk.image(), Over::Blank), VaultError::Exists);
    // Its creation was complete, but the owner says that it was never told so: that holds for a first generation only.
    create(&disk, b"", b"new", Over::UnfinishedCreation, &mut rng(2)).unwrap();
    assert_eq!(open(&disk.image(), Expect::Newest).unwrap().state, b"new");
    for writes in 1..4 {
        let image = made(writes).0.image();
        for over in [Over::Blank, Over::UnfinishedCreation] {
            assert_eq!(not_replaced(&image, over), VaultError::Exists);
        }
    }
    let wrong = VaultKey::from_bytes(&[1; 32]);
    let image = disk.image();
    let made = block_on(Vault::create(&disk, OWNER, &wrong, b"", b"", Over::UnfinishedCreation, &mut rng(1)));
    assert_eq!(made.map(drop), Err(VaultError::WrongKey));
    assert!(disk.image() == image);
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_written() {
    assert_eq!(MIN_DISK, SMALL as u64 * 512);
    for sectors in [0, 1, 9, 15, 16, SMALL - 1] {
        let found = sectors as u64 * 512;
        let small = VaultError::TooSmall { found, needed: MIN_DISK };
        assert_eq!(probed(&vec![0; sectors * 512]), Err(small));
        assert_eq!(not_replaced(&vec![0; sectors * 512], Over::Blank), small);
    }
    let (limit, mut random) = (56 * 512 - 104, rng(1));
    let disk = RamDisk::new(SMALL);
    let refused = create(&disk, b"", &vec![1; limit + 1], Over::Blank, &mut random).map(drop);
    assert_eq!(refused, Err(VaultError::TooLarge { size: limit + 1, limit }));
    let refused = create(&disk, &[1; MAX_LABEL + 1], b"", Over::Blank, &mut random).map(drop);
    assert_eq!(refused, Err(VaultError::TooLarge { size: MAX_LABEL + 1, limit: MAX_LABEL }));
    assert!(disk.image().iter().all(|&byte| byte == 0));

    let (mut vault, _) = create(&disk, &[1; MAX_LABEL], b"", Over::Blank, &mut random).unwrap();
    let limit = limit - MAX_LABEL;
    assert_eq!(vault.capacity(), limit);
    let before = disk.image();
    let refused = block_on(vault.write(&vec![1; limit + 1], &mut random));
    assert_eq!(refused, Err(VaultError::TooLarge { size: limit + 1, limit }));
    assert!(disk.image() == before);
    let full = vec![1; limit];
    let generation = block_on(vault.write(&full, &mut random)).unwrap();
    assert!(open(&disk.image(), Expect::Exactly(generation)).unwrap().state == full);
}

#[test]
fn a_large_disk_is_used_up_to_its_limit_only() {
    for sectors in [4096, 4112, 10_000] {
        let disk = RamDisk::new(sectors);
        let (vault, _) = create(&disk, b"", b"", Over::Blank, &mut rng(1)).unwrap();
        assert_eq!(vault.capacity(), if sectors == 4096 { 2040 * 512 - 104 } else { MAX_STATE });
        // A disk that was made larger still opens, with anything at all behind the vault.
        disk.edit(|image| image.resize(image.len() + 512_000, 0xaa));
        open(&disk.image(), Expect::Newest).unwrap();
    }
}

#[test]
fn disk_errors_are_passed_on() {
    let (disk, _) = made(1);
    for error in [DiskError::Io, DiskError::Gone] {
        let broken = FlakyDisk::from_image(disk.image());
        broken.fail_reads(error);
        assert_eq!(block_on(probe(&broken)), Err(VaultError::Disk(error)));
        let opened = block_on(Vault::open(broken.clone(), OWNER, &key(), Expect::Newest)).map(drop);
        assert_eq!(opened, Err(VaultError::Disk(error)));
        for over in [Over::Blank, Over::UnfinishedCreation] {
            let created = create(broken.clone(), b"", b"", over, &mut rng(1)).map(drop);
            assert_eq!(created, Err(VaultError::Disk(error)));
        }
        assert_eq!(broken.operations(), 0, "nothing was written");
    }
}

#[test]
fn the_label_is_readable_without_the_key_and_changes_with_the_state() {
    let disk = RamDisk::new(SMALL);
    let mut random = rng(1);
    let (mut vault, _) = create(disk.clone(), b"one", b"1", Over::Blank, &mut random).unwrap();
    for number in 0..4u8 {
        let label = vec![number; 700 * usize::from(number)];
        let generation = block_on(vault.write_with_label(&label, &[number], &mut random)).unwrap();
        assert_ne!(vault.label(), label);
        vault.confirm(generation);
        assert_eq!(vault.label(), label);
        let Ok(Content::Vault(header)) = probed(&disk.image()) else { panic!() };
        assert_eq!((header.format, header.owner, header.unfinished, header.label), (1, OWNER, false, label.clone()));
        let seen = open(&disk.image(), Expect::Newest).unwrap();
        assert_eq!((seen.generation, seen.label, seen.state), (generation, label, vec![number]));
    }
}

#[test]
fn every_refusal_is_one_line_that_says_what_to_do() {
    let errors = [
        VaultError::Disk(DiskError::Io),
        VaultError::Blank,
        VaultError::Foreign,
        VaultError::NewerFormat { found: 2 },
        VaultError::OtherOwner { found: OWNER },
        VaultError::WrongKey,
        VaultError::Unfinished,
        VaultError::Damaged { what: "part" },
        VaultError::RolledBack { found: 1, expected: 2 },
        VaultError::Ahead { found: 3, expected: 1 },
        VaultError::TooSmall { found: 1, needed: 2 },
        VaultError::TooLarge { size: 2, limit: 1 },
        VaultError::Exists,
        VaultError::NoMemory { needed: 1 },
    ];
    let mut texts = errors.map(|error| error.to_string());
    assert!(texts.iter().all(|text| !text.contains('\n') && text.len() < 200), "{texts:#?}");
    texts.sort();
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]));
}
