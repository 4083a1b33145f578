//! Power that fails at every write and flush, and disks that fail without losing power.

mod common;

use common::{HEADER, OWNER, SLOTS, SMALL, create, key, open, rng, state};
use vault::fake::{Fate, FlakyDisk, block_on};
use vault::{Content, Expect, Generation, Over, Vault, VaultError, probe};
use xen_abi::DiskError;

/// What the owner knows about the vault.
#[derive(Default)]
struct Known {
    /// The last state and label that were acknowledged.
    acknowledged: Option<(Generation, Vec<u8>, Vec<u8>)>,
    /// The ones that were being written.
    under_way: Option<(Vec<u8>, Vec<u8>)>,
}

/// States of one to several sectors, some shorter than the one before, with new labels now and then.
const STORY: [(usize, &[u8]); 6] =
    [(100, b"one"), (1500, b"one"), (40, b"two"), (0, b"two"), (2600, b""), (700, &[7; 900])];

/// Creates a vault and writes to it until the story or the power ends.
async fn live(disk: FlakyDisk, over: Over, known: &mut Known) -> Result<(), VaultError> {
    let mut rng = rng(2);
    let mut story = STORY.iter().zip(1..).map(|((len, label), number)| (state(number, *len), label.to_vec()));
    let (first, label) = story.next().unwrap();
    known.under_way = Some((first.clone(), label.clone()));
    let (mut vault, generation) = Vault::create(disk, OWNER, &key(), &label, &first, over, &mut rng).await?;
    known.acknowledged = Some((generation, first, label));
    for (state, label) in story {
        known.under_way = Some((state.clone(), label.clone()));
        let generation = if label == vault.label() {
            vault.write(&state, &mut rng).await?
        } else {
            vault.write_with_label(&label, &state, &mut rng).await?
        };
        vault.confirm(generation);
        known.acknowledged = Some((generation, state, label));
    }
    Ok(())
}

/// Every subset if there are few sectors, and many of them otherwise; torn sectors in either case.
fn fates(unflushed: usize) -> Vec<Fate> {
    let mut fates: Vec<_> = match unflushed {
        0..=8 => (0..1 << unflushed).map(Fate::Subset).collect(),
        _ => (0..200).map(Fate::Seeded).chain([Fate::Lost, Fate::Kept]).collect(),
    };
    fates.extend((0..100).map(Fate::Torn));
    fates
}

/// Checks what is found after a power cut, and that the vault can be used again.
fn check(image: &[u8], known: &Known, context: &str) {
    let newest = open(image, Expect::Newest);
    let Some((generation, state, label)) = &known.acknowledged else {
        check_unfinished(image, known, context);
        return;
    };
    let seen = newest.unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = (seen.state.clone(), seen.label.clone());
    let last = (state.clone(), label.clone());
    assert!(
        found == last || Some(&found) == known.under_way.as_ref(),
        "{context}: neither the last nor the next state"
    );
    let exact = open(image, Expect::Exactly(*generation)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!((exact.generation, &exact.state, &exact.label) == (*generation, state, label), "{context}");

    // The label that is read without a key is the one of the newest state.
    let disk = FlakyDisk::from_image(image.to_vec());
    let Ok(Content::Vault(header)) = block_on(probe(&disk)) else { panic!("{context}: no vault") };
    assert!(!header.unfinished && header.label == seen.label, "{context}: label");

    // Writing again does not harm what was confirmed.
    for expect in [Expect::Newest, Expect::Exactly(*generation)] {
        let disk = FlakyDisk::from_image(image.to_vec());
        let (mut vault, opened) = block_on(Vault::open(disk.clone(), OWNER, &key(), expect)).unwrap();
        let before = vault.generation();
        let next = block_on(vault.write(b"next", &mut rng(3))).unwrap();
        let image = disk.image_after(Fate::Lost);
        assert_eq!(open(&image, Expect::Exactly(before)).unwrap().state[..], opened[..], "{context}");
        assert_eq!(open(&image, Expect::Exactly(next)).unwrap().state, b"next", "{context}");
        assert_eq!(open(&image, Expect::Newest).unwrap().state, b"next", "{context}");
    }
}

/// Nothing was acknowledged: the vault can be made anew, or holds the first state.
fn check_unfinished(image: &[u8], known: &Known, context: &str) {
    let content = block_on(probe(&FlakyDisk::from_image(image.to_vec()))).unwrap();
    match (&content, open(image, Expect::Newest)) {
        (Content::Blank, Err(VaultError::Blank)) => {}
        (Content::Vault(header), Err(VaultError::Unfinished)) => assert!(header.unfinished, "{context}"),
        (Content::Vault(header), Ok(seen)) => {
            assert!(!header.unfinished, "{context}");
            assert_eq!(Some((seen.state, seen.label)), known.under_way, "{context}");
        }
        (content, outcome) => panic!("{context}: {content:?}, {outcome:?}"),
    }
    let never = Generation { sequence: 1, identity: [0; 24] };
    assert!(open(image, Expect::Exactly(never)).is_err(), "{context}");

    let disk = FlakyDisk::from_image(image.to_vec());
    create(disk.clone(), b"new", b"again", Over::UnfinishedCreation, &mut rng(4))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let seen = open(&disk.image_after(Fate::Lost), Expect::Newest).unwrap();
    assert_eq!((&seen.state[..], &seen.label[..]), (&b"again"[..], &b"new"[..]), "{context}");
}

/// Lives through the story on copies of `start`, and cuts the power at every operation.
fn cut_everywhere(start: &[u8], over: Over) {
    let trial = FlakyDisk::from_image(start.to_vec());
    block_on(live(trial.clone(), over, &mut Known::default())).unwrap();
    assert!(trial.operations() > 12, "the story writes");
    for cut in 0..trial.operations() {
        let disk = FlakyDisk::from_image(start.to_vec());
        disk.cut_at(cut);
        let mut known = Known::default();
        let ended = block_on(live(disk.clone(), over, &mut known));
        assert_eq!(ended, Err(VaultError::Disk(DiskError::Gone)));
        for fate in fates(disk.unflushed()) {
            check(&disk.image_after(fate), &known, &format!("cut at {cut}, {fate:?}"));
        }
    }
}

#[test]
fn power_cut_at_every_operation_from_a_blank_disk() {
    cut_everywhere(&vec![0; SMALL * 512], Over::Blank);
}

#[test]
fn power_cut_at_every_operation_while_an_unfinished_vault_is_made_anew() {
    let trial = FlakyDisk::new(SMALL);
    let operations = {
        create(trial.clone(), b"old", b"old", Over::Blank, &mut rng(9)).unwrap();
        trial.operations()
    };
    for cut in 0..operations {
        let disk = FlakyDisk::new(SMALL);
        disk.cut_at(cut);
        assert!(create(disk.clone(), b"old", b"old", Over::Blank, &mut rng(9)).is_err());
        for fate in [Fate::Lost, Fate::Kept] {
            let start = disk.image_after(fate);
            let trial = FlakyDisk::from_image(start.clone());
            block_on(live(trial.clone(), Over::UnfinishedCreation, &mut Known::default())).unwrap();
            for again in 0..trial.operations() {
                let disk = FlakyDisk::from_image(start.clone());
                disk.cut_at(again);
                let mut known = Known::default();
                block_on(live(disk.clone(), Over::UnfinishedCreation, &mut known)).unwrap_err();
                if known.acknowledged.is_none() {
                    // It may be the old creation that is found, if that had come to its end.
                    let image = disk.image_after(Fate::Seeded(again));
                    let old = open(&image, Expect::Newest).is_ok_and(|seen| seen.state == b"old");
                    if old {
                        known.under_way = Some((b"old".to_vec(), b"old".to_vec()));
                    }
                    check(&image, &known, &format!("cut at {cut} ({fate:?}) and at {again}"));
                }
            }
        }
    }
}

#[test]
fn an_unfinished_vault_on_a_disk_that_was_made_larger_is_made_anew() {
    let disk = FlakyDisk::new(SMALL);
    disk.cut_at(6);
    create(disk.clone(), b"", b"old", Over::Blank, &mut rng(8)).map(drop).unwrap_err();
    let mut image = disk.image_after(Fate::Kept);
    // With something other than zeros, where the new second slot will be.
    image.resize(400 * 512, 0xaa);
    for _ in 0..2 {
        let disk = FlakyDisk::from_image(image);
        let (vault, _) = create(disk.clone(), b"", b"new", Over::UnfinishedCreation, &mut rng(9)).unwrap();
        assert_eq!(vault.capacity(), 192 * 512 - HEADER - 16);
        image = disk.image_after(Fate::Lost);
        assert_eq!(open(&image, Expect::Newest).unwrap().state, b"new");
    }
}

#[test]
fn a_large_state_survives_lost_and_torn_sectors() {
    let disk = FlakyDisk::new(4096);
    let mut rng = rng(5);
    let (old, new) = (state(1, 300_000), state(2, 400_000));
    let (mut vault, first) = create(disk.clone(), b"", &old, Over::Blank, &mut rng).unwrap();
    disk.cut_at(disk.operations() + 1);
    assert!(block_on(vault.write(&new, &mut rng)).is_err());
    assert_eq!(disk.unflushed(), (HEADER + 400_000 + 16usize).div_ceil(512));
    for seed in 0..10 {
        let image = disk.image_after(Fate::Torn(seed));
        assert!(open(&image, Expect::Newest).unwrap().state == old);
        assert!(open(&image, Expect::Exactly(first)).unwrap().state == old);
    }
    assert!(open(&disk.image_after(Fate::Kept), Expect::Newest).unwrap().state == new);
    assert!(open(&disk.image_after(Fate::Kept), Expect::Exactly(first)).unwrap().state == old);
}

#[test]
fn a_disk_that_fails_once_loses_nothing_and_can_be_written_again() {
    let trial = FlakyDisk::new(SMALL);
    let mut random = rng(6);
    create(trial.clone(), b"", b"first", Over::Blank, &mut random).unwrap();
    let start = trial.image_after(Fate::Lost);
    for failing in 0..2 {
        for error in [DiskError::Io, DiskError::NoFlush, DiskError::Gone] {
            let disk = FlakyDisk::from_image(start.clone());
            let (mut vault, _) = block_on(Vault::open(disk.clone(), OWNER, &key(), Expect::Newest)).unwrap();
            disk.fail_at(failing, error);
            let first = vault.generation();
            let write = block_on(vault.write(&state(2, 2000), &mut random));
            assert_eq!(write, Err(VaultError::Disk(error)));
            assert_eq!(vault.generation(), first);
            assert_eq!(open(&disk.image_after(Fate::Kept), Expect::Exactly(first)).unwrap().state, b"first");
            let second = block_on(vault.write(b"second", &mut random)).unwrap();
            vault.confirm(second);
            let third = block_on(vault.write(b"third", &mut random)).unwrap();
            let image = disk.image_after(Fate::Lost);
            assert_eq!(open(&image, Expect::Exactly(second)).unwrap().state, b"second");
            assert_eq!(open(&image, Expect::Exactly(third)).unwrap().state, b"third");
        }
    }
}

#[test]
fn a_generation_that_nobody_confirms_never_costs_the_confirmed_one() {
    let disk = FlakyDisk::new(SMALL);
    let mut random = rng(7);
    let (mut vault, first) = create(disk.clone(), b"kept", b"first", Over::Blank, &mut random).unwrap();
    for round in 0..5u8 {
        let generation = block_on(vault.write_with_label(b"other", &[round], &mut random)).unwrap();
        assert_eq!(generation.sequence, 2 + u64::from(round), "no two writes have the same number");
        let image = disk.image_after(Fate::Lost);
        assert_eq!(open(&image, Expect::Exactly(first)).unwrap().state, b"first");
        assert_eq!(open(&image, Expect::Exactly(generation)).unwrap().state, [round]);
        assert_eq!((vault.generation(), vault.label()), (first, &b"kept"[..]));
    }
    // A generation that is not the last one written is not taken for it.
    vault.confirm(Generation { sequence: 2, identity: [9; 24] });
    assert_eq!(vault.generation(), first);
}

/// The copy of a superblock that is put right when a vault is opened, and power that fails right then.
#[test]
fn a_lost_superblock_copy_is_put_right_and_that_is_crash_safe() {
    let (disk, seen) = common::made(3);
    let last = seen.last().unwrap();
    for lost in [0, 8 * 512] {
        let mut image = disk.image();
        image[lost + 30] ^= 1;
        let healed = FlakyDisk::from_image(image.clone());
        block_on(Vault::open(healed.clone(), OWNER, &key(), Expect::Exactly(last.generation))).unwrap();
        assert!(healed.image_after(Fate::Lost) == disk.image());
        for cut in 0..healed.operations() {
            let disk = FlakyDisk::from_image(image.clone());
            disk.cut_at(cut);
            block_on(Vault::open(disk.clone(), OWNER, &key(), Expect::Newest)).map(drop).unwrap();
            for fate in fates(disk.unflushed()) {
                assert_eq!(&open(&disk.image_after(fate), Expect::Newest).unwrap(), last);
            }
        }
        // An open that is refused does not put anything right.
        let wrong = vault::VaultKey::from_bytes(&[1; 32]);
        assert_eq!(common::open_as(&image, OWNER, &wrong, Expect::Newest), Err(VaultError::WrongKey));
    }
    assert_eq!(SLOTS[1] - SLOTS[0], 56 * 512);
}
