//! The header of an area: which checkpoint it holds, with the label.

use super::BLOCK;
use crate::io::read_sector;
use crate::superblock::Superblock;
use crate::{VaultError, VaultKey};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::{CryptoRng, aead, ct_eq, hkdf_sha256, sha256};
use xen_abi::{BlockDevice, SECTOR_SIZE};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::Zeroizing;

/// The first bytes of an area in use.
const MAGIC: [u8; 8] = *b"vaultjnl";
/// The longest label of a journal in bytes.
pub const MAX_JOURNAL_LABEL: usize = 16 * 1024;

/// The start of an area on disk. The label follows at once.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    sequence: U64,
    label_len: U32,
    parts: U32,
    reserved: [u8; 8],
    salt: [u8; 32],
    last: [u8; aead::TAG_SIZE],
    tag: [u8; aead::TAG_SIZE],
    digest: [u8; 32],
}

/// Bytes before the label.
const HEADER: usize = 128;
/// Blocks that a header with the longest label takes.
pub const MAX_HEADER_BLOCKS: u32 = header_blocks(MAX_JOURNAL_LABEL);

const _: () = assert!(size_of::<Raw>() == HEADER && HEADER <= SECTOR_SIZE);

/// Blocks that a header with a label of this many bytes takes.
pub const fn header_blocks(label_len: usize) -> u32 {
    // A label has at most 16 KiB.
    (HEADER + label_len).div_ceil(BLOCK) as u32
}

/// What an area's frames are sealed with, and what ties them to this area of this vault.
pub struct AreaKey {
    pub key: Zeroizing<[u8; aead::KEY_SIZE]>,
    pub binding: [u8; 32],
    salt: [u8; 32],
}

impl AreaKey {
    /// For a new checkpoint.
    pub fn random(superblock: &Superblock, key: &VaultKey, sequence: u64, rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        Self::derive(superblock, key, sequence, salt)
    }

    fn derive(superblock: &Superblock, key: &VaultKey, sequence: u64, salt: [u8; 32]) -> Self {
        let salted = [&salt[..], superblock.vault_id(), &sequence.to_be_bytes()].concat();
        let mut out = Zeroizing::new([0; aead::KEY_SIZE]);
        hkdf_sha256(key.as_bytes(), &salted, b"xen-vtpm vault 1 journal", &mut out[..]);
        Self { key: out, binding: superblock.binding(), salt }
    }
}

/// A header whose bytes are all there. Only [`Self::open`] shows who wrote it.
pub struct AreaHeader {
    raw: Raw,
    pub label: Vec<u8>,
}

impl AreaHeader {
    /// The header of checkpoint `sequence`, which has `parts` frames, `last` being the tag of the last of them.
    pub fn new(area: &AreaKey, sequence: u64, label: &[u8], parts: u32, last: [u8; aead::TAG_SIZE]) -> Self {
        let mut raw = Raw {
            magic: MAGIC,
            sequence: sequence.into(),
            label_len: (label.len() as u32).into(),
            parts: parts.into(),
            reserved: [0; 8],
            salt: area.salt,
            last,
            tag: [0; aead::TAG_SIZE],
            digest: [0; 32],
        };
        raw.tag = tag(area, &raw, label);
        raw.digest = digest(&area.binding, &raw, label);
        Self { raw, label: label.to_vec() }
    }

    pub fn sequence(&self) -> u64 {
        self.raw.sequence.get()
    }

    pub fn parts(&self) -> u32 {
        self.raw.parts.get()
    }

    /// The tag of the checkpoint's last frame.
    pub const fn last(&self) -> &[u8; aead::TAG_SIZE] {
        &self.raw.last
    }

    /// The tag that the first entry continues from.
    pub const fn tag(&self) -> &[u8; aead::TAG_SIZE] {
        &self.raw.tag
    }

    pub const fn blocks(&self) -> u32 {
        header_blocks(self.label.len())
    }

    /// The area's key, if the holder of `key` wrote the header.
    pub fn open(&self, superblock: &Superblock, key: &VaultKey) -> Option<AreaKey> {
        let area = AreaKey::derive(superblock, key, self.sequence(), self.raw.salt);
        ct_eq(&tag(&area, &self.raw, &self.label), &self.raw.tag).then_some(area)
    }

    /// Its bytes, filled up to whole sectors.
    pub fn to_sectors(&self) -> Vec<u8> {
        let mut bytes = [self.raw.as_bytes(), &self.label].concat();
        bytes.resize(bytes.len().next_multiple_of(SECTOR_SIZE), 0);
        bytes
    }
}

/// What the start of an area turned out to be.
pub enum Start {
    /// Nothing was written there, or it was wiped.
    Empty,
    /// Not all of a header is there; the sequence that it claims, if there is that much of it.
    Torn(Option<u64>),
    Whole(AreaHeader),
}

/// Reads the header of area `index`.
pub async fn read_start<B: BlockDevice>(disk: &B, superblock: &Superblock, index: usize) -> Result<Start, VaultError> {
    let at = superblock.slot_start(index);
    let first = read_sector(disk, at).await?;
    let Some((raw, start)) = parse(&first) else {
        return Ok(if first == [0; SECTOR_SIZE] { Start::Empty } else { Start::Torn(None) });
    };
    let claimed = Some(raw.sequence.get());
    let Some(length) = usize::try_from(raw.label_len.get())
        .ok()
        .filter(|length| *length <= MAX_JOURNAL_LABEL && header_blocks(*length) < superblock.blocks())
    else {
        return Ok(Start::Torn(claimed));
    };
    let mut label = start.to_vec();
    if length > start.len() {
        let mut rest = vec![0; (length - start.len()).next_multiple_of(SECTOR_SIZE)];
        disk.read(at + 1, &mut rest).await?;
        label.extend_from_slice(&rest);
    }
    label.truncate(length);
    let whole =
        raw.reserved == [0; 8] && raw.sequence.get() > 0 && raw.digest == digest(&superblock.binding(), &raw, &label);
    Ok(if whole { Start::Whole(AreaHeader { raw, label }) } else { Start::Torn(claimed) })
}

fn parse(sector: &[u8; SECTOR_SIZE]) -> Option<(Raw, &[u8])> {
    let (raw, start) = Raw::read_from_prefix(sector).ok()?;
    (raw.magic == MAGIC).then_some((raw, start))
}

/// An area's frames have random nonces; the header's is zero.
const NONCE: [u8; aead::NONCE_SIZE] = [0; aead::NONCE_SIZE];

/// Proves who wrote header and label.
fn tag(area: &AreaKey, raw: &Raw, label: &[u8]) -> [u8; aead::TAG_SIZE] {
    let (covered, _) = raw.as_bytes().split_at(HEADER - 32 - aead::TAG_SIZE);
    let associated = [&area.binding, covered, label].concat();
    let sealed = aead::seal(&area.key, &NONCE, &associated, &[]);
    sealed.first_chunk().copied().unwrap_or_default()
}

/// Shows that a header is whole.
fn digest(binding: &[u8; 32], raw: &Raw, label: &[u8]) -> [u8; 32] {
    let (covered, _) = raw.as_bytes().split_at(HEADER - 32);
    sha256(&[binding, covered, label])
}
