//! Reading: what a disk holds, before any of it is believed.

use crate::slot::SlotHeader;
use crate::superblock::{COPIES, Copy, Layout, SLOTS, SLOTS_START, Stage, Superblock, slot_sectors_for};
use crate::{Generation, MIN_DISK, VaultError};
use alloc::vec;
use alloc::vec::Vec;
use xen_abi::{BlockDevice, SECTOR_SIZE};

/// Bytes read at a time while looking for zeros.
const CHUNK: usize = 32 * 1024;
/// How much of the very end of a disk has to be zeros: partition tables and RAID keep copies there.
const TAIL_SECTORS: u64 = 128;

/// What the places of a superblock hold.
pub enum Survey {
    Blank,
    Foreign,
    Vault(Found),
}

/// The superblocks of a vault.
pub struct Found {
    /// The one that counts.
    pub current: Superblock,
    /// Both copies, as they were read.
    pub copies: [Copy; 2],
}

impl Found {
    /// The copies that are whole.
    pub fn good(&self) -> impl Iterator<Item = Superblock> {
        self.copies.into_iter().filter_map(|copy| match copy {
            Copy::Good(superblock) => Some(superblock),
            Copy::Newer(_) | Copy::Broken | Copy::Other => None,
        })
    }

    /// The format of a copy that we do not know.
    pub fn newer(&self) -> Option<u32> {
        newer(&self.copies)
    }
}

/// Finds out what is on the disk; `layout` says how much of it has to be zeros to count as blank. Fails if there is a vault
/// that nobody can use.
pub async fn survey<B: BlockDevice>(disk: &B, layout: Layout) -> Result<Survey, VaultError> {
    // Also the check that both copies lie on the disk.
    let slot_sectors = slot_sectors_for(layout, disk.sectors())?;
    let mut copies = [Copy::Other; 2];
    for (copy, sector) in copies.iter_mut().zip(COPIES) {
        *copy = Superblock::parse(&read_sector(disk, sector).await?);
    }
    let current = match copies {
        [Copy::Good(a), Copy::Good(b)] => choose(a, b)?,
        [Copy::Good(only), _] | [_, Copy::Good(only)] => only,
        _ => {
            if let Some(found) = newer(&copies) {
                return Err(VaultError::NewerFormat { found });
            }
            if copies.contains(&Copy::Broken) {
                return Err(VaultError::Damaged { what: "no copy of the superblock is whole" });
            }
            let used = SLOTS_START + u64::from(SLOTS) * u64::from(slot_sectors);
            return Ok(if is_blank(disk, used).await? { Survey::Blank } else { Survey::Foreign });
        }
    };
    if current.sectors() > disk.sectors() {
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_SIZE as u64);
        return Err(VaultError::TooSmall { found: bytes(disk.sectors()), needed: bytes(current.sectors()) });
    }
    Ok(Survey::Vault(Found { current, copies }))
}

/// The superblock that counts when both copies are whole.
fn choose(a: Superblock, b: Superblock) -> Result<Superblock, VaultError> {
    match (a.stage, b.stage) {
        // The copies of one vault: it is complete as soon as the first copy says so.
        (Stage::Complete, _) if a.binding() == b.binding() => Ok(a),
        (_, Stage::Complete) if a.binding() == b.binding() => Ok(b),
        // An unfinished vault that was being made anew when that was cut off as well.
        (Stage::Creating, _) => Ok(a),
        (_, Stage::Creating) => Ok(b),
        _ => Err(VaultError::Damaged { what: "the two copies of the superblock disagree" }),
    }
}

fn newer(copies: &[Copy; 2]) -> Option<u32> {
    copies.iter().find_map(|copy| match copy {
        Copy::Newer(format) => Some(*format),
        Copy::Good(_) | Copy::Broken | Copy::Other => None,
    })
}

/// Whether the first `used` sectors and the last ones are zeros.
async fn is_blank<B: BlockDevice>(disk: &B, used: u64) -> Result<bool, VaultError> {
    let end = disk.sectors();
    let used = used.min(end);
    let tail = end.saturating_sub(TAIL_SECTORS).max(used);
    let mut buffer = vec![0; CHUNK];
    for (mut at, end) in [(0, used), (tail, end)] {
        while at < end {
            let sectors = (end - at).min((CHUNK / SECTOR_SIZE) as u64);
            let chunk = buffer.split_at_mut(sectors as usize * SECTOR_SIZE).0;
            disk.read(at, chunk).await?;
            if chunk.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += sectors;
        }
    }
    Ok(true)
}

/// The first sector of a slot, read once.
pub struct SlotStart {
    sector: [u8; SECTOR_SIZE],
    /// The header, if there is one.
    pub header: Option<SlotHeader>,
}

impl SlotStart {
    /// The generation that the header claims to be.
    pub fn claims(&self) -> Option<Generation> {
        self.header.as_ref().map(SlotHeader::claims)
    }

    /// Whether nothing was ever written here.
    pub fn is_empty(&self) -> bool {
        self.sector == [0; SECTOR_SIZE]
    }
}

/// Reads the first sector of each slot.
pub async fn slot_starts<B: BlockDevice>(disk: &B, superblock: &Superblock) -> Result<[SlotStart; 2], VaultError> {
    let start = async |index| {
        let sector = read_sector(disk, superblock.slot_start(index)).await?;
        Ok::<_, VaultError>(SlotStart { header: SlotHeader::parse(&sector, superblock.slot_size()), sector })
    };
    Ok([start(0).await?, start(1).await?])
}

/// Reads the rest of slot `index`, whose header says how long it is, behind the sector that was read already.
pub async fn slot_bytes<B: BlockDevice>(
    disk: &B,
    superblock: &Superblock,
    index: usize,
    start: &SlotStart,
    header: &SlotHeader,
) -> Result<Vec<u8>, VaultError> {
    let needed = header.total().next_multiple_of(SECTOR_SIZE);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(needed).map_err(|_| VaultError::NoMemory { needed })?;
    bytes.extend_from_slice(&start.sector);
    bytes.resize(needed, 0);
    if let Some((_, rest)) = bytes.split_at_mut_checked(SECTOR_SIZE)
        && !rest.is_empty()
    {
        disk.read(superblock.slot_start(index) + 1, rest).await?;
    }
    Ok(bytes)
}

pub async fn read_sector<B: BlockDevice>(disk: &B, sector: u64) -> Result<[u8; SECTOR_SIZE], VaultError> {
    let mut bytes = [0; SECTOR_SIZE];
    disk.read(sector, &mut bytes).await?;
    Ok(bytes)
}

const _: () = assert!(MIN_DISK >= (COPIES[1] + 1) * SECTOR_SIZE as u64);
