//! A slot: header, label and sealed state of one generation.

use crate::superblock::Superblock;
use crate::{Generation, MAX_LABEL, VaultKey};
use alloc::vec::Vec;
use tpm_crypto::{CryptoRng, aead, hkdf_sha256, sha256};
use xen_abi::SECTOR_SIZE;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::Zeroizing;

/// The first bytes of a slot that was ever written.
const MAGIC: [u8; 8] = *b"vaultgen";

/// The start of a slot on disk. Label, ciphertext and the cipher's tag follow at once.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    sequence: U64,
    label_len: U32,
    state_len: U32,
    salt: [u8; 32],
    digest: [u8; 32],
}

/// Bytes in a header.
const HEADER: usize = 88;
/// Bytes of a slot that are neither label nor state.
pub const OVERHEAD: usize = HEADER + aead::TAG_SIZE;

const _: () = assert!(size_of::<Raw>() == HEADER && HEADER <= SECTOR_SIZE);

/// What a slot's first sector says, before anything of it is believed.
#[derive(Clone, Copy)]
pub struct SlotHeader {
    raw: Raw,
    label_len: usize,
    total: usize,
}

/// A slot whose bytes are all there: the digest in the header is theirs.
pub struct Whole<'a> {
    raw: &'a Raw,
    label: &'a [u8],
    sealed: &'a [u8],
}

impl SlotHeader {
    /// Reads a header; `None` unless the magic is there and the lengths fit a slot of `slot_size` bytes.
    pub fn parse(sector: &[u8; SECTOR_SIZE], slot_size: usize) -> Option<Self> {
        let (raw, _) = Raw::read_from_prefix(sector).ok()?;
        let label_len = usize::try_from(raw.label_len.get()).ok()?;
        let state_len = usize::try_from(raw.state_len.get()).ok()?;
        let total = OVERHEAD.checked_add(label_len)?.checked_add(state_len)?;
        let fits = raw.magic == MAGIC && label_len <= MAX_LABEL && total <= slot_size && raw.sequence.get() > 0;
        fits.then_some(Self { raw, label_len, total })
    }

    /// The generation that the header claims to be.
    pub fn claims(&self) -> Generation {
        let mut identity = [0; 24];
        identity.iter_mut().zip(self.raw.digest).for_each(|(to, from)| *to = from);
        Generation { sequence: self.raw.sequence.get(), identity }
    }

    /// Bytes of the slot in use: at least a header and at most the slot.
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Checks the digest of a slot; `slot` holds the bytes of the slot from its start, at least [`Self::total`] of them. What
    /// the header says is taken from `self`, not from `slot`.
    pub fn whole<'a>(&'a self, superblock: &Superblock, slot: &'a [u8]) -> Option<Whole<'a>> {
        let body = slot.get(HEADER..self.total)?;
        let (label, sealed) = body.split_at_checked(self.label_len)?;
        let digest = digest(superblock, &self.raw, label, sealed);
        (digest == self.raw.digest).then_some(Whole { raw: &self.raw, label, sealed })
    }
}

impl Whole<'_> {
    /// The label, which only [`Self::open`] authenticates.
    pub const fn label(&self) -> &[u8] {
        self.label
    }

    /// The state, if slot, superblock and label are what the holder of `key` wrote.
    pub fn open(&self, superblock: &Superblock, key: &VaultKey) -> Option<Zeroizing<Vec<u8>>> {
        let associated = associated(superblock, self.raw, self.label);
        let key = generation_key(superblock, key, &self.raw.salt);
        aead::open(&key, &NONCE, &associated, self.sealed).ok()
    }
}

/// Builds a slot's bytes, filled up to whole sectors with zeros. The caller has checked that label and state fit.
pub fn build(
    superblock: &Superblock,
    key: &VaultKey,
    sequence: u64,
    label: &[u8],
    state: &[u8],
    rng: &mut impl CryptoRng,
) -> (Generation, Vec<u8>) {
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    let mut raw = Raw {
        magic: MAGIC,
        sequence: sequence.into(),
        label_len: (label.len() as u32).into(),
        state_len: (state.len() as u32).into(),
        salt,
        digest: [0; 32],
    };
    let associated = associated(superblock, &raw, label);
    let sealed = aead::seal(&generation_key(superblock, key, &salt), &NONCE, &associated, state);
    raw.digest = digest(superblock, &raw, label, &sealed);

    let total = HEADER + label.len() + sealed.len();
    let header = SlotHeader { raw, label_len: label.len(), total };
    let mut bytes = Vec::with_capacity(total.next_multiple_of(SECTOR_SIZE));
    bytes.extend_from_slice(raw.as_bytes());
    bytes.extend_from_slice(label);
    bytes.extend_from_slice(&sealed);
    bytes.resize(total.next_multiple_of(SECTOR_SIZE), 0);
    (header.claims(), bytes)
}

/// Every generation has a key of its own, so one nonce serves them all.
const NONCE: [u8; aead::NONCE_SIZE] = [0; aead::NONCE_SIZE];

fn generation_key(superblock: &Superblock, key: &VaultKey, salt: &[u8; 32]) -> Zeroizing<[u8; aead::KEY_SIZE]> {
    let mut salted = [0; 48];
    let (head, tail) = salted.split_at_mut(32);
    head.copy_from_slice(salt);
    tail.copy_from_slice(superblock.vault_id());
    let mut out = Zeroizing::new([0; aead::KEY_SIZE]);
    hkdf_sha256(key.as_bytes(), &salted, b"xen-vtpm vault 1 generation", &mut out[..]);
    out
}

/// What the cipher authenticates beside the state: the superblock, the header up to the digest, and the label.
fn associated(superblock: &Superblock, raw: &Raw, label: &[u8]) -> Vec<u8> {
    [&superblock.binding(), covered(raw), label].concat()
}

/// The digest that names a generation and shows a slot to be whole.
fn digest(superblock: &Superblock, raw: &Raw, label: &[u8], sealed: &[u8]) -> [u8; 32] {
    sha256(&[&superblock.binding(), covered(raw), label, sealed])
}

/// The header up to the digest.
fn covered(raw: &Raw) -> &[u8] {
    let (covered, _) = raw.as_bytes().split_at(HEADER - 32);
    covered
}
