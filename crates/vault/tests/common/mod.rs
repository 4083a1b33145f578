//! What the tests of the vault share.
#![allow(dead_code)] // each test program uses its part of this

use tpm_crypto::Drbg;
use vault::fake::{RamDisk, block_on};
use vault::{Expect, Generation, Kind, Over, Owner, Vault, VaultError, VaultKey};
use xen_abi::BlockDevice;

pub const OWNER: Owner = Owner { kind: Kind::Vtpm, uuid: *b"\x12\x34uuid of a vTPM" };

/// Sectors of the smallest disk.
pub const SMALL: usize = 128;
/// Where the slots of a vault on the smallest disk begin, in bytes.
pub const SLOTS: [usize; 2] = [16 * 512, 72 * 512];
/// Bytes of a slot's header.
pub const HEADER: usize = 88;

pub fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 64], b"tests of the vault").unwrap()
}

pub fn key() -> VaultKey {
    VaultKey::from_bytes(&[0x5a; 32])
}

/// A state of `len` bytes that tells which one it is.
pub fn state(number: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| number.wrapping_mul(31) ^ (i as u8)).collect()
}

/// What an opened vault is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub generation: Generation,
    pub label: Vec<u8>,
    pub state: Vec<u8>,
}

pub fn open(image: &[u8], expect: Expect) -> Result<Seen, VaultError> {
    open_as(image, OWNER, &key(), expect)
}

/// Opens a copy of `image`, and checks that a refusal did not touch it.
pub fn open_as(image: &[u8], owner: Owner, key: &VaultKey, expect: Expect) -> Result<Seen, VaultError> {
    let disk = RamDisk::from_image(image.to_vec());
    let outcome = block_on(Vault::open(&disk, owner, key, expect));
    let outcome = outcome.map(|(vault, state)| Seen {
        generation: vault.generation(),
        label: vault.label().to_vec(),
        state: state.to_vec(),
    });
    if outcome.is_err() {
        assert!(disk.image() == image, "a refused disk was written to");
    }
    outcome
}

/// Makes a vault with the key and owner of these tests.
pub fn create<B: BlockDevice>(
    disk: B,
    label: &[u8],
    state: &[u8],
    over: Over,
    rng: &mut Drbg,
) -> Result<(Vault<B>, Generation), VaultError> {
    block_on(Vault::create(disk, OWNER, &key(), label, state, over, rng))
}

/// A small disk after `writes` confirmed writes; what it holds, oldest first. Each state takes two sectors.
pub fn made(writes: u8) -> (RamDisk, Vec<Seen>) {
    let disk = RamDisk::new(SMALL);
    let mut rng = rng(1);
    let (first, label) = (state(1, 600), b"label".to_vec());
    let (mut vault, generation) = create(disk.clone(), &label, &first, Over::Blank, &mut rng).unwrap();
    let mut seen = vec![Seen { generation, label: label.clone(), state: first }];
    for number in 2..=writes + 1 {
        let state = state(number, 600);
        let generation = block_on(vault.write(&state, &mut rng)).unwrap();
        vault.confirm(generation);
        seen.push(Seen { generation, label: label.clone(), state });
    }
    (disk, seen)
}
