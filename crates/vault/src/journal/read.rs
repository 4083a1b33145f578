//! Reading a journal: which area counts, and what it holds.

use super::area::{AreaHeader, AreaKey, Start, read_start};
use super::frame::{FrameHeader, MAX_BLOCKS, Place};
use super::{BLOCK, BLOCK_SECTORS, sector};
use crate::VaultError;
use crate::superblock::Superblock;
use alloc::vec;
use alloc::vec::Vec;
use xen_abi::BlockDevice;

/// The label of the newest area whose header is whole; empty if there is none.
pub async fn newest_label<B: BlockDevice>(disk: &B, superblock: &Superblock) -> Result<Vec<u8>, VaultError> {
    let mut newest: Option<AreaHeader> = None;
    for half in [0, 1] {
        if let Start::Whole(header) = read_start(disk, superblock, half).await?
            && newest.as_ref().is_none_or(|newest| newest.sequence() < header.sequence())
        {
            newest = Some(header);
        }
    }
    Ok(newest.map(|header| header.label).unwrap_or_default())
}

/// The area that counts: the newest whose header is whole. A header is written after all of its checkpoint is durable, and the
/// header of the other area is wiped after that; so a broken header beside a whole one is a write that power failed in.
pub async fn newest<B: BlockDevice>(disk: &B, superblock: &Superblock) -> Result<(usize, AreaHeader), VaultError> {
    let starts = [read_start(disk, superblock, 0).await?, read_start(disk, superblock, 1).await?];
    let torn = |start: &Start, half| {
        if let Start::Torn(Some(claimed)) = start {
            log::warn!(target: "vault", "area {half} holds part of checkpoint {claimed}: taken for a write that power failed in");
        }
    };
    match starts {
        [Start::Whole(a), Start::Whole(b)] if a.sequence() == b.sequence() => {
            Err(VaultError::Damaged { what: "two checkpoints have the same number" })
        }
        [Start::Whole(a), Start::Whole(b)] => Ok(if a.sequence() > b.sequence() { (0, a) } else { (1, b) }),
        [Start::Whole(a), other] => {
            torn(&other, 1);
            Ok((0, a))
        }
        [other, Start::Whole(b)] => {
            torn(&other, 0);
            Ok((1, b))
        }
        _ => Err(VaultError::Damaged { what: "no checkpoint is whole" }),
    }
}

/// A window of blocks of one area.
struct Window<'a, B> {
    disk: &'a B,
    superblock: &'a Superblock,
    half: usize,
    first: u32,
    bytes: Vec<u8>,
}

impl<B: BlockDevice> Window<'_, B> {
    /// The bytes from `block` on: `blocks` of them, at most [`MAX_BLOCKS`], or what is left of the area.
    async fn at(&mut self, block: u32, blocks: u32) -> Result<&[u8], VaultError> {
        let all = self.superblock.blocks();
        let end = block.saturating_add(blocks).min(all);
        let held = self.first + (self.bytes.len() / BLOCK) as u32;
        if block < self.first || end > held {
            let count = (all - block.min(all)).min(2 * MAX_BLOCKS) as usize;
            self.first = block;
            self.bytes.clear();
            self.bytes.resize(count * BLOCK, 0);
            let at = sector(self.superblock, self.half, block);
            // In halves, so that no request is longer than what a write of the longest frame needs.
            for (chunk, at) in self.bytes.chunks_mut(MAX_BLOCKS as usize * BLOCK).zip((at..).step_by(CHUNK_SECTORS)) {
                self.disk.read(at, chunk).await?;
            }
        }
        let from = (block - self.first) as usize * BLOCK;
        Ok(self.bytes.get(from..).unwrap_or_default())
    }
}

const CHUNK_SECTORS: usize = MAX_BLOCKS as usize * BLOCK_SECTORS as usize;

/// Gives the content of the area to `replay`; returns where the next entry goes.
pub async fn replay<B: BlockDevice, E: From<VaultError>>(
    disk: &B,
    superblock: &Superblock,
    half: usize,
    header: &AreaHeader,
    area: &AreaKey,
    replay: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Place, E> {
    let mut window = Window { disk, superblock, half, first: 0, bytes: vec![] };
    let mut place = Place { block: header.blocks(), index: 0, previous: [0; 16] };
    loop {
        if place.index == header.parts() {
            if place.previous != *header.last() {
                return Err(VaultError::Damaged { what: "its checkpoint is not the one that its header names" }.into());
            }
            place.previous = *header.tag();
        }
        let bytes = window.at(place.block, 1).await?;
        let frame = FrameHeader::parse(bytes).filter(|frame| frame.is_at(place));
        let mut opened = None;
        if let Some(frame) = frame {
            let bytes = window.at(place.block, frame.blocks()).await?;
            opened = frame.open(area, place.block, bytes).map(|opened| (frame.blocks(), opened));
        }
        let Some((blocks, (content, tag))) = opened else {
            if place.index < header.parts() {
                return Err(VaultError::Damaged { what: "its checkpoint is not whole" }.into());
            }
            if frame.is_some() {
                log::warn!(target: "vault", "the last entry of the journal is not whole: taken for a write that power failed in");
            }
            refuse_more(&mut window, area, place.block).await?;
            return Ok(place);
        };
        replay(&content)?;
        place = place.after(blocks, tag);
    }
}

/// Fails if there is a good frame of this area from `block` on, where the journal has ended: then what is missing before it was
/// there once.
async fn refuse_more<B: BlockDevice>(window: &mut Window<'_, B>, area: &AreaKey, block: u32) -> Result<(), VaultError> {
    for block in block..window.superblock.blocks() {
        let Some(frame) = FrameHeader::parse(window.at(block, 1).await?) else { continue };
        if frame.open(area, block, window.at(block, frame.blocks()).await?).is_some() {
            return Err(VaultError::Damaged { what: "an entry in the middle of its journal is not as it was written" });
        }
    }
    Ok(())
}
