//! A hostile disk: a journal is refused or opens with what was once written to it, from the first entry on, and a refused disk is
//! left as it was.

use crate::input::Input;
use std::sync::OnceLock;
use tpm_crypto::{Drbg, sha256};
use vault::fake::{RamDisk, block_on};
use vault::{Journal, Kind, Over, Owner, VaultError, VaultKey, probe_journal};
use zeroize::Zeroizing;

const OWNER: Owner = Owner { kind: Kind::Manager, uuid: [5; 16] };
const SECTORS: usize = 160;
/// Where the areas begin, and how long they are, in bytes.
const AREAS: [usize; 2] = [8192, 8192 + AREA];
const AREA: usize = 72 * 512;
const BLOCK: usize = 4096;

/// A label, and the contents of a checkpoint and its entries.
type Content = (Vec<u8>, Vec<Vec<u8>>);

fn tools() -> (VaultKey, Drbg) {
    (VaultKey::from_bytes(&[3; 32]), Drbg::new(&[9; 48], b"fuzz").unwrap())
}

fn part(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// A disk on which both areas hold something: the older one's header is put back. And what was in each.
fn prepared() -> &'static (Vec<u8>, [Content; 2]) {
    static IMAGE: OnceLock<(Vec<u8>, [Content; 2])> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let (disk, (key, mut rng)) = (RamDisk::new(SECTORS), tools());
        let made = Journal::create(disk.clone(), OWNER, &key, b"one", [part(b"first")], Over::Blank, &mut rng);
        let mut journal = block_on(made).unwrap();
        let (a, b) = (vec![1; 30], vec![2; 5000]);
        for entry in [&a, &b] {
            block_on(journal.append(entry, &mut rng)).unwrap();
        }
        let header = disk.image()[AREAS[0]..AREAS[0] + BLOCK].to_vec();
        let parts = [part(&[3; 4000]), part(&[4; 10])];
        block_on(journal.checkpoint(Some(b"two"), parts, &mut rng)).unwrap();
        let (c, d) = (vec![5; 400], vec![]);
        for entry in [&c, &d] {
            block_on(journal.append(entry, &mut rng)).unwrap();
        }
        disk.edit(|image| image[AREAS[0]..AREAS[0] + BLOCK].copy_from_slice(&header));
        let old = (b"one".to_vec(), vec![b"first".to_vec(), a, b]);
        (disk.image(), [old, (b"two".to_vec(), vec![vec![3; 4000], vec![4; 10], c, d])])
    })
}

/// Makes the superblocks' checksums and the headers' digests right again, which anybody can who has the disk.
fn seal(image: &mut [u8]) {
    for at in [0, 4096] {
        let sum = sha256(&[&image[at..at + 80]]);
        image[at + 80..at + 112].copy_from_slice(&sum);
    }
    let mut complete: [u8; 80] = image[..80].try_into().unwrap();
    complete[21] = 2;
    let binding = sha256(&[&complete]);
    for at in AREAS {
        let length = u32::from_be_bytes(image[at + 16..at + 20].try_into().unwrap()) as usize;
        if let Some(label) = image.get(at + 128..(at + 128).saturating_add(length)) {
            let digest = sha256(&[&binding, &image[at..at + 96], label]);
            image[at + 96..at + 128].copy_from_slice(&digest);
        }
    }
}

/// Changes a good disk here and there, looks at it and opens it.
pub fn run(data: &[u8]) {
    let (mut input, (good, known), (key, mut rng)) = (Input::new(data), prepared(), tools());
    let mut image = good.clone();
    let what = input.u8();
    while !input.is_empty() {
        let area = input.choose(&AREAS);
        let at = if input.rarely(6) { input.choose(&[0, 4096]) } else { area + BLOCK * input.below(9) };
        if input.rarely(3) {
            let from = input.choose(&AREAS) + BLOCK * input.below(9);
            image.copy_within(from..from + BLOCK, at);
            continue;
        }
        let (at, patch) = (at + input.below(160), input.bytes(false));
        let end = (at + patch.len()).min(image.len());
        image[at..end].copy_from_slice(&patch[..end - at]);
    }
    if what & 0x80 == 0 {
        seal(&mut image);
    }
    if what & 0x40 != 0 {
        image.truncate(good.len() - usize::from(what & 7) * 300);
    }
    let disk = RamDisk::from_image(image.clone());
    let _ = block_on(probe_journal(&disk));
    assert!(disk.image() == image);
    let mut contents = Vec::new();
    let opened = block_on(Journal::open(disk.clone(), OWNER, &key, |content| {
        contents.push(content.to_vec());
        Ok::<_, VaultError>(())
    }));
    let Ok(mut journal) = opened else {
        return assert!(disk.image() == image);
    };
    let (_, all) = known.iter().find(|(label, _)| label == journal.label()).expect("a label that was written");
    assert!(all.starts_with(&contents), "something that was never written, or in another order");
    let appended = block_on(journal.append(b"next", &mut rng));
    assert!(appended.is_ok() || matches!(appended, Err(VaultError::TooLarge { .. })));
    if appended.is_ok() {
        contents.push(b"next".to_vec());
    }
    let mut again = Vec::new();
    let opened = block_on(Journal::open(disk, OWNER, &key, |content| {
        again.push(content.to_vec());
        Ok::<_, VaultError>(())
    }));
    assert!(opened.is_ok() && again == contents, "what was found and added is there");
}
