//! A hostile disk: a vault is refused or opens with a state that was once written to it, and a refused disk is left as it was.

use crate::input::Input;
use std::sync::OnceLock;
use tpm_crypto::{Drbg, sha256};
use vault::fake::{RamDisk, block_on};
use vault::{Expect, Generation, Kind, MIN_DISK, Over, Owner, Vault, VaultKey, probe};

const OWNER: Owner = Owner { kind: Kind::Vtpm, uuid: [5; 16] };
const STATES: [&[u8]; 3] = [b"first state", &[7; 600], b"third"];
const LABELS: [&[u8]; 3] = [b"label", b"", &[8; 300]];
const SLOT: usize = 56 * 512;

fn tools() -> (VaultKey, Drbg) {
    (VaultKey::from_bytes(&[3; 32]), Drbg::new(&[9; 48], b"fuzz").unwrap())
}

/// A disk with three generations written, and their names.
fn prepared() -> &'static (Vec<u8>, [Generation; 3]) {
    static IMAGE: OnceLock<(Vec<u8>, [Generation; 3])> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let (disk, (key, mut rng)) = (RamDisk::new(MIN_DISK as usize / 512), tools());
        let made = Vault::create(disk.clone(), OWNER, &key, LABELS[0], STATES[0], Over::Blank, &mut rng);
        let (mut vault, first) = block_on(made).unwrap();
        let more = [1, 2].map(|i| {
            let written = block_on(vault.write_with_label(LABELS[i], STATES[i], &mut rng)).unwrap();
            vault.confirm(written);
            written
        });
        (disk.image(), [first, more[0], more[1]])
    })
}

/// Makes the superblocks' checksums and the slots' digests right again, which anybody can who has the disk.
fn seal(image: &mut [u8]) {
    for at in [0, 4096] {
        let sum = sha256(&[&image[at..at + 80]]);
        image[at + 80..at + 112].copy_from_slice(&sum);
    }
    let mut complete: [u8; 80] = image[..80].try_into().unwrap();
    complete[21] = 2;
    let binding = sha256(&[&complete]);
    for at in [8192, 8192 + SLOT] {
        let size = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        let end = at.saturating_add(88 + 16).saturating_add(size(at + 16)).saturating_add(size(at + 20));
        if let Some(body) = image.get(at + 88..end) {
            let digest = sha256(&[&binding, &image[at..at + 56], body]);
            image[at + 56..at + 88].copy_from_slice(&digest);
        }
    }
}

/// Changes a good disk (or an empty one) here and there, and looks at it, opens it, or makes a vault on it.
pub fn run(data: &[u8]) {
    let (mut input, (good, names), (key, mut rng)) = (Input::new(data), prepared(), tools());
    let mut image = if input.rarely(8) { vec![0; good.len()] } else { good.clone() };
    let what = input.u8();
    while !input.is_empty() {
        let at = input.choose(&[0, 4096, 8192, 8192 + SLOT, 8192 + 88, 8192 + SLOT + 88, good.len() - 600]);
        let (at, patch) = (at + input.below(120), input.bytes(false));
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
    let _ = block_on(probe(&disk));
    assert!(disk.image() == image);
    if what & 0x20 != 0 {
        let over = if what & 1 == 0 { Over::Blank } else { Over::UnfinishedCreation };
        let made = block_on(Vault::create(disk.clone(), OWNER, &key, b"l", b"new", over, &mut rng));
        assert!(made.is_ok() || disk.image() == image);
        return;
    }
    let expect = if what & 0x10 == 0 { Expect::Newest } else { Expect::Exactly(names[usize::from(what) % 3]) };
    let Ok((mut vault, state)) = block_on(Vault::open(disk.clone(), OWNER, &key, expect)) else {
        return assert!(disk.image() == image);
    };
    let which = names.iter().position(|name| *name == vault.generation()).expect("a generation that was written");
    assert!(*state == STATES[which] && vault.label() == LABELS[which]);
    assert!(matches!(expect, Expect::Newest) || expect == Expect::Exactly(names[which]));
    let next = block_on(vault.write(b"next", &mut rng)).unwrap();
    vault.confirm(next);
    let (_, again) = block_on(Vault::open(disk, OWNER, &key, Expect::Exactly(next))).unwrap();
    assert_eq!(*again, b"next");
}
