//! A frame: one part of a checkpoint, or one entry. Each names the one before it by its tag.

use super::BLOCK;
use super::area::AreaKey;
use alloc::vec::Vec;
use tpm_crypto::{CryptoRng, aead};
use xen_abi::SECTOR_SIZE;
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::Zeroizing;

/// The first bytes of a frame.
const MAGIC: [u8; 8] = *b"vaultent";

/// The start of a frame. Ciphertext and tag follow at once.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    index: U32,
    length: U32,
    reserved: [u8; 4],
    nonce: [u8; aead::NONCE_SIZE],
    previous: [u8; aead::TAG_SIZE],
}

/// Bytes before the ciphertext.
const HEADER: usize = 48;
/// Bytes of a frame that are not content.
pub const ENTRY_OVERHEAD: usize = HEADER + aead::TAG_SIZE;
/// Blocks in the longest frame.
pub const MAX_BLOCKS: u32 = 16;
/// The longest entry in bytes.
pub const MAX_ENTRY: usize = MAX_BLOCKS as usize * BLOCK - ENTRY_OVERHEAD;

const _: () = assert!(size_of::<Raw>() == HEADER);

/// Blocks that a frame with `length` bytes of content takes.
pub const fn blocks(length: usize) -> u32 {
    // Content has at most 64 KiB.
    (length + ENTRY_OVERHEAD).div_ceil(BLOCK) as u32
}

/// Where a frame stands in its area and in the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first block, counted from the start of the area.
    pub block: u32,
    /// How many frames are before it.
    pub index: u32,
    /// The tag of the frame before it.
    pub previous: [u8; aead::TAG_SIZE],
}

impl Place {
    /// The place behind a frame here that takes `blocks` and has `tag`.
    pub const fn after(self, blocks: u32, tag: [u8; aead::TAG_SIZE]) -> Self {
        Self { block: self.block + blocks, index: self.index + 1, previous: tag }
    }
}

/// Builds a frame, filled up to whole sectors; its tag comes with it. `content` has at most [`MAX_ENTRY`] bytes.
pub fn build(
    area: &AreaKey,
    place: Place,
    content: &[u8],
    rng: &mut impl CryptoRng,
) -> (Vec<u8>, [u8; aead::TAG_SIZE]) {
    let mut nonce = [0; aead::NONCE_SIZE];
    rng.fill_bytes(&mut nonce);
    let raw = Raw {
        magic: MAGIC,
        index: place.index.into(),
        length: (content.len() as u32).into(),
        reserved: [0; 4],
        nonce,
        previous: place.previous,
    };
    let sealed = aead::seal(&area.key, &nonce, &associated(area, &raw, place.block), content);
    let total = HEADER + sealed.len();
    let mut bytes = Vec::with_capacity(total.next_multiple_of(SECTOR_SIZE));
    bytes.extend_from_slice(raw.as_bytes());
    bytes.extend_from_slice(&sealed);
    bytes.resize(total.next_multiple_of(SECTOR_SIZE), 0);
    (bytes, sealed.last_chunk().copied().unwrap_or_default())
}

/// What the first bytes of a block say, if a frame could begin there.
#[derive(Clone, Copy)]
pub struct FrameHeader {
    raw: Raw,
    total: usize,
}

impl FrameHeader {
    /// Reads a frame's header at the start of `block`.
    pub fn parse(block: &[u8]) -> Option<Self> {
        let (raw, _) = Raw::read_from_prefix(block).ok()?;
        let length = usize::try_from(raw.length.get()).ok().filter(|length| *length <= MAX_ENTRY)?;
        (raw.magic == MAGIC && raw.reserved == [0; 4]).then_some(Self { raw, total: length + ENTRY_OVERHEAD })
    }

    /// Blocks that the frame takes, at most [`MAX_BLOCKS`].
    pub const fn blocks(&self) -> u32 {
        self.total.div_ceil(BLOCK) as u32
    }

    /// Whether it claims to be the frame of this place in the chain.
    pub fn is_at(&self, place: Place) -> bool {
        self.raw.index.get() == place.index && self.raw.previous == place.previous
    }

    /// The content and the tag, if the frame was written to this block of this area. `bytes` begin with the frame.
    pub fn open(&self, area: &AreaKey, block: u32, bytes: &[u8]) -> Option<(Zeroizing<Vec<u8>>, [u8; aead::TAG_SIZE])> {
        let sealed = bytes.get(HEADER..self.total)?;
        let content = aead::open(&area.key, &self.raw.nonce, &associated(area, &self.raw, block), sealed).ok()?;
        Some((content, *sealed.last_chunk()?))
    }
}

/// What is authenticated beside the content: the vault, the header, and the place on disk.
fn associated(area: &AreaKey, raw: &Raw, block: u32) -> Vec<u8> {
    [&area.binding, raw.as_bytes(), &block.to_be_bytes()].concat()
}
