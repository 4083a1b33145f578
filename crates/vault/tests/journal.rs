//! The journal: power that fails at every write and flush, disks that fail, and disks that somebody changed.

mod common;

use common::{OWNER, key, rng};
use std::cell::Cell;
use tpm_crypto::Drbg;
use vault::fake::{Dice, Fate, FlakyDisk, RamDisk, block_on};
use vault::{
    Content, ENTRY_OVERHEAD, Expect, Journal, Kind, MAX_ENTRY, MAX_JOURNAL_LABEL, Over, Owner, Vault, VaultError,
    VaultKey, probe, probe_journal,
};
use xen_abi::{BlockDevice, DiskError};
use zeroize::Zeroizing;

/// Sectors of most disks here: areas of 15 blocks.
const SECTORS: usize = 256;
/// Where the areas begin, and how long they are, in bytes.
const AREAS: [usize; 2] = [16 * 512, 136 * 512];
const AREA: usize = 120 * 512;
const BLOCK: usize = 4096;

/// What an opened journal is about: its label and everything it gave back.
#[derive(Clone, PartialEq, Eq, Default)]
struct Seen {
    label: Vec<u8>,
    contents: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> = self.contents.iter().map(Vec::len).collect();
        write!(f, "label of {} bytes, contents of {lengths:?}", self.label.len())
    }
}

fn part(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// Content that tells which one it is.
fn content(number: u8, len: usize) -> Vec<u8> {
    common::state(number, len)
}

fn create<B: BlockDevice>(disk: B, label: &[u8], parts: &[Vec<u8>], over: Over) -> Result<Journal<B>, VaultError> {
    let parts = parts.iter().map(|bytes| part(bytes));
    block_on(Journal::create(disk, OWNER, &key(), label, parts, over, &mut rng(1)))
}

fn open_on<B: BlockDevice>(disk: B) -> Result<(Journal<B>, Vec<Vec<u8>>), VaultError> {
    let mut contents = Vec::new();
    let journal = block_on(Journal::open(disk, OWNER, &key(), |content| {
        contents.push(content.to_vec());
        Ok::<_, VaultError>(())
    }))?;
    Ok((journal, contents))
}

/// Opens a copy of `image`, and checks that a refusal did not touch it.
fn open(image: &[u8]) -> Result<Seen, VaultError> {
    let disk = RamDisk::from_image(image.to_vec());
    let outcome = open_on(&disk).map(|(journal, contents)| Seen { label: journal.label().to_vec(), contents });
    if outcome.is_err() {
        assert!(disk.image() == image, "a refused disk was written to");
    }
    outcome
}

/// What an owner does with its journal.
#[derive(Clone)]
enum Act {
    Append(usize),
    /// All so far in one part, with a new label or the old one.
    Checkpoint(Option<&'static [u8]>),
}
use Act::{Append, Checkpoint};

/// Entries of one sector and of several blocks, checkpoints in between.
const STORY: [Act; 9] = [
    Append(40),
    Append(5000),
    Append(0),
    Checkpoint(None),
    Append(700),
    Checkpoint(Some(&[7; 5000])),
    Checkpoint(Some(b"short")),
    Append(9000),
    Append(100),
];

/// What the owner knows: what was acknowledged, and what was under way.
#[derive(Clone, Default)]
struct Known {
    acknowledged: Option<Seen>,
    under_way: Option<Seen>,
}

fn flat(seen: &Seen) -> (Vec<u8>, Vec<u8>) {
    (seen.label.clone(), seen.contents.concat())
}

fn act<B: BlockDevice>(
    journal: &mut Journal<B>,
    act: &Act,
    number: u8,
    seen: &mut Seen,
    rng: &mut Drbg,
) -> (Seen, Result<(), VaultError>) {
    let mut next = seen.clone();
    let outcome = match act {
        Append(len) => {
            next.contents.push(content(number, *len));
            block_on(journal.append(next.contents.last().unwrap(), rng))
        }
        Checkpoint(label) => {
            if let Some(label) = label {
                next.label = label.to_vec();
            }
            // In parts of 4000 bytes.
            let all = seen.contents.concat();
            let parts: Vec<_> = all.chunks(4000).map(part).collect();
            block_on(journal.checkpoint(*label, parts, rng))
        }
    };
    if outcome.is_ok() {
        *seen = next.clone();
    }
    (next, outcome)
}

/// Creates a journal and lives through the story until the power ends.
fn live(disk: FlakyDisk, known: &mut Known) -> Result<(), VaultError> {
    let mut rng = rng(2);
    let first = Seen { label: b"label".to_vec(), contents: vec![content(99, 300), content(98, 4500)] };
    known.under_way = Some(first.clone());
    let mut journal = create(disk, &first.label, &first.contents, Over::UnfinishedCreation)?;
    let mut seen = first;
    known.acknowledged = Some(seen.clone());
    for (step, number) in STORY.iter().zip(1..) {
        let mut next = seen.clone();
        let (under_way, outcome) = act(&mut journal, step, number, &mut next, &mut rng);
        known.under_way = Some(under_way);
        outcome?;
        seen = next;
        known.acknowledged = Some(seen.clone());
    }
    Ok(())
}

/// Every subset if there are few sectors, and many of them otherwise; torn sectors in either case.
fn fates(unflushed: usize) -> Vec<Fate> {
    let mut fates: Vec<_> = match unflushed {
        0..=6 => (0..1 << unflushed).map(Fate::Subset).collect(),
        _ => (0..40).map(Fate::Seeded).chain([Fate::Lost, Fate::Kept]).collect(),
    };
    fates.extend((0..30).map(Fate::Torn));
    fates
}

#[test]
fn power_cut_at_every_operation() {
    let trial = FlakyDisk::new(SECTORS);
    live(trial.clone(), &mut Known::default()).unwrap();
    let whole = trial.operations();
    assert!(whole > 40, "the story writes");
    let (mut old, mut new) = (0, 0);
    for cut in 0..whole {
        let disk = FlakyDisk::new(SECTORS);
        disk.cut_at(cut);
        let mut known = Known::default();
        assert_eq!(live(disk.clone(), &mut known), Err(VaultError::Disk(DiskError::Gone)));
        for fate in fates(disk.unflushed()) {
            let context = format!("cut at {cut}, {fate:?}");
            let image = disk.image_after(fate);
            let Some(acknowledged) = &known.acknowledged else {
                check_unfinished(&image, &known, &context);
                continue;
            };
            let seen = open(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = flat(&seen);
            let under_way = known.under_way.as_ref().map(flat);
            if found == flat(acknowledged) {
                old += 1;
            } else {
                assert_eq!(Some(&found), under_way.as_ref(), "{context}: neither the last nor the next state");
                new += 1;
            }
            // The label that is read without a key is the one that is opened.
            let Ok(Content::Vault(header)) = block_on(probe_journal(&RamDisk::from_image(image.clone()))) else {
                panic!("{context}")
            };
            assert_eq!(header.label, seen.label, "{context}");
            goes_on(&image, &seen, &context);
        }
    }
    assert!(old > 1000 && new > 60, "{old} {new}");
}

/// Nothing was acknowledged: the journal can be made anew, or holds the first state.
fn check_unfinished(image: &[u8], known: &Known, context: &str) {
    match open(image) {
        Err(VaultError::Blank | VaultError::Unfinished) => {
            let disk = RamDisk::from_image(image.to_vec());
            create(disk.clone(), b"new", &[b"again".to_vec()], Over::UnfinishedCreation)
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            let again = Seen { label: b"new".to_vec(), contents: vec![b"again".to_vec()] };
            assert_eq!(open(&disk.image()), Ok(again), "{context}");
        }
        Ok(seen) => assert_eq!(Some(seen), known.under_way, "{context}"),
        Err(error) => panic!("{context}: {error}"),
    }
}

/// A journal that was opened takes entries and checkpoints, and so does the one after it.
fn goes_on(image: &[u8], seen: &Seen, context: &str) {
    for step in [Append(50), Checkpoint(None)] {
        let disk = FlakyDisk::from_image(image.to_vec());
        let (mut journal, contents) = open_on(disk.clone()).unwrap();
        assert_eq!(contents, seen.contents);
        let mut now = seen.clone();
        for (step, number) in [step, Append(60)].iter().zip(200..) {
            let (_, outcome) = act(&mut journal, step, number, &mut now, &mut rng(3));
            outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
            let again = open(&disk.image_after(Fate::Lost)).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(flat(&again), flat(&now), "{context}");
        }
    }
}

/// A disk that reports an error at one operation: having done nothing, half of it, or all of it.
struct Doubtful {
    disk: FlakyDisk,
    done: bool,
    at: Cell<u64>,
}

impl Doubtful {
    async fn operate(&self, operation: impl Future<Output = Result<(), DiskError>>) -> Result<(), DiskError> {
        let left = self.at.get();
        self.at.set(left.wrapping_sub(1));
        if left == 0 {
            if self.done {
                operation.await?;
            }
            return Err(DiskError::Io);
        }
        operation.await
    }
}

impl BlockDevice for &Doubtful {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }
    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(sector, out).await
    }
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        self.operate(self.disk.write(sector, data)).await
    }
    async fn flush(&self) -> Result<(), DiskError> {
        self.operate(self.disk.flush()).await
    }
}

#[test]
fn an_error_at_any_operation_costs_that_operation_only() {
    let start = FlakyDisk::new(SECTORS);
    let first = Seen { label: b"label".to_vec(), contents: vec![content(99, 300)] };
    create(start.clone(), &first.label, &first.contents, Over::Blank).unwrap();
    let start = start.image_after(Fate::Lost);
    let mut failures = 0;
    for done in [false, true] {
        for at in 0..60 {
            let disk = Doubtful { disk: FlakyDisk::from_image(start.clone()), done, at: Cell::new(at) };
            let (mut journal, _) = open_on(&disk).unwrap();
            let (mut seen, mut rng) = (first.clone(), rng(4));
            let mut doubt = None;
            for (step, number) in STORY.iter().zip(1..) {
                let before = seen.clone();
                let (next, outcome) = act(&mut journal, step, number, &mut seen, &mut rng);
                let found = flat(&open(&disk.disk.image_after(Fate::Lost)).unwrap());
                match outcome {
                    // One success, and the failed one never was.
                    Ok(()) => {
                        assert_eq!(found, flat(&seen), "{at} {done}");
                        doubt = None;
                    }
                    Err(error) => {
                        failures += 1;
                        assert_eq!(error, VaultError::Disk(DiskError::Io));
                        assert!(found == flat(&before) || found == flat(&next), "{at} {done}");
                        assert!(doubt.is_none());
                        doubt = Some(next);
                    }
                }
            }
        }
    }
    assert!(failures > 40, "{failures}");
}

/// A disk that dies for good is an error and no more.
#[test]
fn a_disk_that_stops_answering_is_an_error() {
    let (disk, _) = made();
    let flaky = FlakyDisk::from_image(disk.image());
    let (mut journal, _) = open_on(flaky.clone()).unwrap();
    flaky.cut_at(0);
    for _ in 0..3 {
        assert_eq!(block_on(journal.append(b"x", &mut rng(5))), Err(VaultError::Disk(DiskError::Gone)));
        let checkpoint = block_on(journal.checkpoint(None, [part(b"x")], &mut rng(5)));
        assert_eq!(checkpoint, Err(VaultError::Disk(DiskError::Gone)));
    }
    let flaky = FlakyDisk::from_image(disk.image());
    flaky.fail_reads(DiskError::Io);
    assert_eq!(open_on(flaky).map(drop), Err(VaultError::Disk(DiskError::Io)));
}

/// A journal in its second area: a checkpoint of two parts (blocks 1 and 2 to 3) and entries in blocks 4, 5 to 6, 7, 8.
fn made() -> (RamDisk, Seen) {
    let disk = RamDisk::new(SECTORS);
    let mut rng = rng(6);
    let mut journal = create(disk.clone(), b"old label", &[content(1, 100)], Over::Blank).unwrap();
    block_on(journal.append(&content(2, 100), &mut rng)).unwrap();
    let parts = [content(3, 1000), content(4, 5000)];
    block_on(journal.checkpoint(Some(b"label"), parts.iter().map(|bytes| part(bytes)), &mut rng)).unwrap();
    let mut contents = parts.to_vec();
    for (number, len) in [(5, 100), (6, 6000), (7, 0), (8, 480)] {
        contents.push(content(number, len));
        block_on(journal.append(contents.last().unwrap(), &mut rng)).unwrap();
    }
    (disk, Seen { label: b"label".to_vec(), contents })
}

const fn block(n: usize) -> usize {
    AREAS[1] + n * BLOCK
}

/// Without its last entry.
fn shorter(seen: &Seen, by: usize) -> Seen {
    let contents = seen.contents[..seen.contents.len() - by].to_vec();
    Seen { label: seen.label.clone(), contents }
}

#[test]
fn the_layout_is_as_documented() {
    let (disk, seen) = made();
    let image = disk.image();
    assert_eq!(open(&image).as_ref(), Ok(&seen));
    assert_eq!(image[22], 1, "laid out as a journal");
    assert_eq!(image[72..76], 120u32.to_be_bytes(), "sectors in an area");
    assert!(image[AREAS[0]..AREAS[0] + 5 * BLOCK].iter().all(|byte| *byte == 0), "the old header is wiped");
    assert_eq!(image[block(0)..block(0) + 8], *b"vaultjnl");
    assert_eq!(image[block(0) + 8..block(0) + 16], 2u64.to_be_bytes());
    assert_eq!(image[block(0) + 16..block(0) + 24], [0, 0, 0, 5, 0, 0, 0, 2]);
    assert_eq!(image[block(0) + 128..block(0) + 133], *b"label");
    for (index, (at, len)) in [(1, 1000), (2, 5000), (4, 100), (5, 6000), (7, 0), (8, 480u32)].iter().enumerate() {
        let frame = &image[block(*at)..];
        assert_eq!(frame[..8], *b"vaultent");
        assert_eq!(frame[8..12], (index as u32).to_be_bytes());
        assert_eq!(frame[12..16], len.to_be_bytes());
    }
    assert!(image[block(9)..].iter().all(|byte| *byte == 0));
    let header = vault::Header { format: 1, owner: OWNER, unfinished: false, label: b"label".to_vec() };
    assert_eq!(block_on(probe_journal(&disk)), Ok(Content::Vault(header.clone())));
    assert_eq!(block_on(probe(&disk)), Ok(Content::Vault(header)));
}

/// A journal as the first version wrote it.
#[test]
fn format_1_opens() {
    let image = include_bytes!("data/journal-1.img");
    let (_, seen) = made();
    assert_eq!(open(image), Ok(seen));
}

#[test]
fn the_first_and_only_changed_byte_decides() {
    let (disk, seen) = made();
    let image = disk.image();
    let frames = [(1, 1064), (2, 5064), (4, 164), (5, 6064), (7, 64), (8, 544)];
    for (at, len) in frames {
        for offset in (0..len).step_by(13).chain([len - 1]) {
            let mut image = image.clone();
            image[block(at) + offset] ^= 0x10;
            let expected = match at {
                1 | 2 => Err(VaultError::Damaged { what: "its checkpoint is not whole" }),
                8 => Ok(shorter(&seen, 1)),
                _ => {
                    Err(VaultError::Damaged { what: "an entry in the middle of its journal is not as it was written" })
                }
            };
            assert_eq!(open(&image), expected, "block {at}, byte {offset}");
        }
    }
    for offset in 0..133 {
        let mut image = image.clone();
        image[block(0) + offset] ^= 1;
        assert_eq!(open(&image), Err(VaultError::Damaged { what: "no checkpoint is whole" }), "byte {offset}");
    }
}

#[test]
fn entries_swapped_moved_replayed_or_cut_off() {
    let (disk, seen) = made();
    let image = disk.image();
    let damaged = Err(VaultError::Damaged { what: "an entry in the middle of its journal is not as it was written" });
    let copy = |image: &mut Vec<u8>, from: usize, to: usize, blocks: usize| {
        image.copy_within(block(from)..block(from + blocks), block(to));
    };
    // Two entries of one block exchanged.
    let mut swapped = image.clone();
    copy(&mut swapped, 4, 7, 1);
    swapped[block(4)..block(5)].copy_from_slice(&image[block(7)..block(8)]);
    assert_eq!(open(&swapped), damaged);
    // An entry again, at the end or over another one.
    for (from, to) in [(4, 9), (8, 9), (1, 9), (7, 9), (4, 10)] {
        let mut again = image.clone();
        copy(&mut again, from, to, 1);
        assert_eq!(open(&again).as_ref(), Ok(&seen), "{from} to {to}: not for that place");
    }
    for (from, to) in [(4, 7), (7, 4), (8, 7), (8, 4)] {
        let mut again = image.clone();
        copy(&mut again, from, to, 1);
        assert_eq!(open(&again), damaged, "{from} to {to}");
    }
    // Taken out, with what follows moved up.
    let mut moved = image.clone();
    copy(&mut moved, 5, 4, 5);
    assert_eq!(open(&moved).unwrap_or_default(), shorter(&seen, 4), "nothing that is there belongs there");
    // One entry missing in the middle, and all from one on missing at the end.
    for (number, at) in [4, 5, 7, 8].into_iter().enumerate() {
        let mut gone = image.clone();
        gone[block(at)..block(at + 1)].fill(0);
        let expected = if at == 8 { Ok(shorter(&seen, 1)) } else { damaged.clone() };
        assert_eq!(open(&gone), expected);
        gone[block(at)..].fill(0);
        assert_eq!(open(&gone), Ok(shorter(&seen, 4 - number)), "for the owner to notice");
    }
    // The area of another time, or of another vault with the same key and owner.
    for seed in [1, 9] {
        let other = RamDisk::new(SECTORS);
        let mut journal = block_on(Journal::create(
            other.clone(),
            OWNER,
            &key(),
            b"label",
            [part(b"x")],
            Over::Blank,
            &mut rng(seed),
        ))
        .unwrap();
        block_on(journal.checkpoint(None, [part(b"other")], &mut rng(seed))).unwrap();
        let mut mixed = image.clone();
        mixed[block(0)..].copy_from_slice(&other.image()[block(0)..]);
        // With the same seed it is the very same vault, brought back to an earlier state.
        let expected = if seed == 1 {
            Ok(vec![b"other".to_vec()])
        } else {
            Err(VaultError::Damaged { what: "no checkpoint is whole" })
        };
        assert_eq!(open(&mixed).map(|seen| seen.contents), expected);
    }
    for cut in [0, 100, 127, 128, 200, 255] {
        let refused = open(&image[..cut * 512]).unwrap_err();
        assert!(matches!(refused, VaultError::TooSmall { .. }), "{refused}");
    }
}

/// An entry that failed and was written over: its old bytes put back break the chain as soon as anything follows.
#[test]
fn an_entry_that_was_written_over_does_not_come_back() {
    let start = made().0.image();
    let disk = FlakyDisk::from_image(start.clone());
    let (mut journal, before) = open_on(disk.clone()).unwrap();
    disk.fail_at(disk.operations() + 1, DiskError::Io);
    assert!(block_on(journal.append(b"failed", &mut rng(7))).is_err());
    let failed = {
        // What would have been on the disk, had the flush worked.
        let disk = FlakyDisk::from_image(start);
        let (mut journal, _) = open_on(disk.clone()).unwrap();
        block_on(journal.append(b"failed", &mut rng(7))).unwrap();
        disk.image_after(Fate::Lost)
    };
    assert_eq!(open(&failed).unwrap().contents.last().unwrap(), b"failed");
    for content in [b"in its place", b"and after it"] {
        block_on(journal.append(content, &mut rng(8))).unwrap();
    }
    let mut image = disk.image_after(Fate::Lost);
    assert_eq!(open(&image).unwrap().contents.len(), before.len() + 2);
    image[block(9)..block(10)].copy_from_slice(&failed[block(9)..block(10)]);
    let damaged = VaultError::Damaged { what: "an entry in the middle of its journal is not as it was written" };
    assert_eq!(open(&image), Err(damaged));
}

#[test]
fn random_changes_never_give_anything_but_what_was_written() {
    let (disk, seen) = made();
    let image = disk.image();
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let mut image = image.clone();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(9 * BLOCK);
            match dice.roll(4) {
                0 => image[block(0) + at] ^= 1 << dice.roll(8),
                1 => image[block(0) + at..][..dice.roll(600)].fill(dice.roll(256) as u8),
                2 => {
                    let (from, to) = (block(dice.roll(9)), block(dice.roll(9)));
                    image.copy_within(from..from + BLOCK, to);
                }
                _ => image[dice.roll(AREAS[0])] ^= 1 << dice.roll(8),
            }
        }
        if let Ok(found) = open(&image) {
            assert_eq!(found.label, seen.label);
            assert!(seen.contents.starts_with(&found.contents), "seed {seed}");
            assert!(found.contents.len() >= 2, "seed {seed}: a checkpoint is whole or refused");
        }
    }
}

#[test]
fn a_full_area_takes_a_checkpoint_and_one_that_is_too_large_harms_nothing() {
    let disk = FlakyDisk::new(SECTORS);
    let mut rng = rng(9);
    let mut journal = create(disk.clone(), b"", &[b"first".to_vec()], Over::Blank).unwrap();
    let mut count = 0;
    while journal.fits(10) {
        block_on(journal.append(&[count; 10], &mut rng)).unwrap();
        count += 1;
    }
    assert_eq!(count, 13, "15 blocks less header and checkpoint");
    let operations = disk.operations();
    assert_eq!(block_on(journal.append(b"more", &mut rng)), Err(VaultError::TooLarge { size: 4, limit: 0 }));
    assert_eq!(disk.operations(), operations);
    let too_many = (0..15).map(|_| part(&[0; 100]));
    let refused = block_on(journal.checkpoint(None, too_many, &mut rng));
    assert_eq!(refused, Err(VaultError::TooLarge { size: 100, limit: 0 }));
    assert_eq!(open(&disk.image_after(Fate::Lost)).unwrap().contents.len(), 14);
    block_on(journal.checkpoint(None, [part(b"all")], &mut rng)).unwrap();
    assert!(!journal.fits(MAX_ENTRY) && journal.fits(13 * BLOCK - ENTRY_OVERHEAD) && !journal.fits(13 * BLOCK));
    block_on(journal.append(&content(1, 13 * BLOCK - ENTRY_OVERHEAD), &mut rng)).unwrap();
    assert_eq!(open(&disk.image_after(Fate::Lost)).unwrap().contents.len(), 2);

    let long = vec![1; MAX_JOURNAL_LABEL + 1];
    let refused = block_on(journal.checkpoint(Some(&long), [part(b"")], &mut rng));
    assert_eq!(refused, Err(VaultError::TooLarge { size: MAX_JOURNAL_LABEL + 1, limit: MAX_JOURNAL_LABEL }));
    block_on(journal.checkpoint(Some(&long[1..]), [part(b"")], &mut rng)).unwrap();
    assert_eq!(open(&disk.image_after(Fate::Lost)).unwrap().label, long[1..]);
}

#[test]
fn capacity_grows_with_the_disk_and_is_kept() {
    let mut last = 0;
    for sectors in [128, 256, 4096, 32_768, 80_000] {
        let disk = RamDisk::new(sectors);
        let mut journal = create(disk, b"", &[], Over::Blank).unwrap();
        let capacity = journal.capacity();
        assert!(capacity > last);
        last = capacity;
        let parts = (0..capacity / vault::PART).map(|_| part(&vec![1; vault::PART]));
        let rest = part(&vec![2; capacity % vault::PART]);
        block_on(journal.checkpoint(None, parts.chain([rest]), &mut rng(1))).unwrap();
        assert!(journal.fits(1000));
    }
    assert!(last > 11 << 20, "{last}");
}

#[test]
fn a_journal_is_not_taken_for_slots_nor_slots_for_a_journal() {
    let (disk, _) = made();
    let opened = block_on(Vault::open(&disk, OWNER, &key(), Expect::Newest)).map(drop);
    assert_eq!(opened, Err(VaultError::OtherLayout));
    for over in [Over::Blank, Over::UnfinishedCreation] {
        let made = block_on(Vault::create(&disk, OWNER, &key(), b"", b"", over, &mut rng(1))).map(drop);
        assert_eq!(made, Err(VaultError::Exists));
        assert_eq!(create(&disk, b"", &[], over).map(drop), Err(VaultError::Exists));
    }
    let (slots, _) = common::made(2);
    assert_eq!(open(&slots.image()), Err(VaultError::OtherLayout));
}

#[test]
fn a_wrong_key_or_owner_is_named_and_an_error_of_the_owner_ends_the_opening() {
    let (disk, seen) = made();
    let ok = |_: &[u8]| Ok::<_, VaultError>(());
    let wrong = VaultKey::from_bytes(&[1; 32]);
    assert_eq!(block_on(Journal::open(&disk, OWNER, &wrong, ok)).map(drop), Err(VaultError::WrongKey));
    let other = Owner { kind: Kind::Manager, uuid: OWNER.uuid };
    let refused = block_on(Journal::open(&disk, other, &key(), ok)).map(drop);
    assert_eq!(refused, Err(VaultError::OtherOwner { found: OWNER }));
    let mut given = 0;
    let refused = block_on(Journal::open(&disk, OWNER, &key(), |content| {
        given += 1;
        if content == seen.contents[3] { Err(VaultError::Exists) } else { Ok(()) }
    }));
    assert_eq!((refused.map(drop), given), (Err(VaultError::Exists), 4));
    assert_eq!(block_on(probe_journal(&RamDisk::new(SECTORS))), Ok(Content::Blank));
    // What lies behind the slots of a vault lies in the areas of a journal.
    let mut image = vec![0; 20_000 * 512];
    image[15_000 * 512] = 1;
    assert_eq!(block_on(probe(&RamDisk::from_image(image.clone()))), Ok(Content::Blank));
    assert_eq!(block_on(probe_journal(&RamDisk::from_image(image))), Ok(Content::Foreign));
}

/// The cost of an entry: one write and one flush, whatever else the journal holds.
#[test]
fn an_entry_costs_the_same_in_a_large_journal() {
    for parts in [1, 20, 200] {
        let disk = FlakyDisk::new(40_000);
        let content = vec![content(1, vault::PART); parts];
        let mut journal = create(disk.clone(), b"", &content, Over::Blank).unwrap();
        let before = disk.operations();
        for _ in 0..10 {
            block_on(journal.append(&[1; 100], &mut rng(1))).unwrap();
        }
        assert_eq!(disk.operations() - before, 20);
        disk.cut_at(disk.operations() + 1);
        assert!(block_on(journal.append(&[1; 100], &mut rng(1))).is_err());
        assert_eq!(disk.unflushed(), 1, "one sector");
    }
}

const _: () = assert!(AREAS[0] + AREA == AREAS[1]);
