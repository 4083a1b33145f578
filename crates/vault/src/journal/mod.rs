//! A state that is kept as a checkpoint and the changes after it.

mod area;
mod frame;
mod read;

pub use area::MAX_JOURNAL_LABEL;
pub use frame::{ENTRY_OVERHEAD, MAX_ENTRY};

use crate::io::{Survey, survey};
use crate::superblock::{Layout, Stage, Superblock};
use crate::vault::{heal, may_replace, probe_as, write_superblocks};
use crate::{Content, Over, Owner, VaultError, VaultKey};
use alloc::vec;
use alloc::vec::Vec;
use area::{AreaHeader, AreaKey, MAX_HEADER_BLOCKS, header_blocks};
use frame::Place;
use tpm_crypto::CryptoRng;
use xen_abi::{BlockDevice, DiskError, SECTOR_SIZE};
use zeroize::Zeroizing;

pub use read::newest_label;

/// Every frame begins at a multiple of this many bytes, so that on a disk with physical sectors of that size no write touches
/// what was acknowledged before.
pub const BLOCK: usize = 4096;
/// Sectors in a block.
const BLOCK_SECTORS: u64 = (BLOCK / SECTOR_SIZE) as u64;
/// The best size of a checkpoint's parts, in bytes: its frame fills its blocks.
pub const PART: usize = 8 * BLOCK - ENTRY_OVERHEAD;

impl Superblock {
    /// Blocks in an area.
    pub const fn blocks(&self) -> u32 {
        self.slot_sectors / BLOCK_SECTORS as u32
    }
}

/// An open journal: its current area, and another one to spare.
///
/// The content of parts and entries is the owner's business; [`Self::open`] gives them back in the order in which they were
/// written. An entry is durable when [`Self::append`] returns, whatever else the journal holds: one write and one flush.
pub struct Journal<B> {
    disk: B,
    superblock: Superblock,
    key: VaultKey,
    label: Vec<u8>,
    /// Which half is current.
    half: usize,
    area: AreaKey,
    /// Where the next entry goes.
    next: Place,
    /// The highest sequence that was ever given to a checkpoint.
    attempted: u64,
    /// The header of a newer checkpoint was written to the spare area and may or may not be there: nothing is to be built on
    /// the current area before it is certain that it is not.
    doubtful: bool,
}

/// As [`crate::probe`], for whoever keeps a [`Journal`].
pub async fn probe_journal<B: BlockDevice>(disk: &B) -> Result<Content, VaultError> {
    probe_as(disk, Layout::Journal).await
}

impl<B: BlockDevice> Journal<B> {
    /// Makes a journal on `disk` with `parts` as its first checkpoint.
    ///
    /// `label` is up to [`MAX_JOURNAL_LABEL`] bytes that are readable without the key ([`probe_journal`]) and authenticated
    /// with the rest. Each part has at most [`MAX_ENTRY`] bytes. Until this returns, the vault is marked unfinished on disk.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::OtherOwner`], [`VaultError::WrongKey`] or [`VaultError::Foreign`] if the disk
    /// holds what `over` does not allow to replace; the disk is not written to then. A complete journal is never replaced.
    pub async fn create(
        disk: B,
        owner: Owner,
        key: &VaultKey,
        label: &[u8],
        parts: impl IntoIterator<Item = Zeroizing<Vec<u8>>>,
        over: Over,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, VaultError> {
        let mut superblock = Superblock::new(owner, key, Layout::Journal, disk.sectors(), rng)?;
        check_label(&superblock, label)?;
        match survey(&disk, Layout::Journal).await? {
            Survey::Blank => {}
            Survey::Foreign => return Err(VaultError::Foreign),
            Survey::Vault(found) => may_replace(&disk, &found, owner, key, over).await?,
        }
        write_superblocks(&disk, &superblock).await?;
        wipe(&disk, &superblock, 1).await?;
        wipe(&disk, &superblock, 0).await?;
        disk.flush().await?;
        let area = AreaKey::random(&superblock, key, 1, rng);
        let place = write_parts(&disk, &superblock, 0, &area, header_blocks(label.len()), parts, rng).await?;
        let header = AreaHeader::new(&area, 1, label, place.index, place.previous);
        disk.write(superblock.slot_start(0), &header.to_sectors()).await?;
        disk.flush().await?;
        superblock.stage = Stage::Complete;
        write_superblocks(&disk, &superblock).await?;
        Ok(Self {
            disk,
            superblock,
            key: VaultKey::from_bytes(key.as_bytes()),
            label: label.to_vec(),
            half: 0,
            area,
            next: Place { previous: *header.tag(), ..place },
            attempted: 1,
            doubtful: false,
        })
    }

    /// Opens the journal on `disk` and gives the content of its parts and entries to `replay`, oldest first. Writes only after
    /// it was opened, and then only to put a lost copy of the superblock right.
    ///
    /// An entry that is not whole, with nothing after it, is a write that power failed in, and is passed over. An entry that is
    /// not whole with a good one after it is damage.
    ///
    /// # Errors
    /// Each cause has its own [`VaultError`]; an error of `replay` ends the opening. An older copy of the disk is not noticed:
    /// that is for the owner to see from the content.
    pub async fn open<E: From<VaultError>>(
        disk: B,
        owner: Owner,
        key: &VaultKey,
        mut replay: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let found = match survey(&disk, Layout::Journal).await? {
            Survey::Blank => return Err(VaultError::Blank.into()),
            Survey::Foreign => return Err(VaultError::Foreign.into()),
            Survey::Vault(found) => found,
        };
        let superblock = found.current;
        if superblock.owner != owner {
            return Err(VaultError::OtherOwner { found: superblock.owner }.into());
        }
        if superblock.layout != Layout::Journal {
            return Err(VaultError::OtherLayout.into());
        }
        if superblock.stage == Stage::Creating {
            return Err(VaultError::Unfinished.into());
        }
        if !superblock.has_key(key) {
            return Err(VaultError::WrongKey.into());
        }
        let (half, header) = read::newest(&disk, &superblock).await?;
        let area = header
            .open(&superblock, key)
            .ok_or(VaultError::Damaged { what: "the header of the newest checkpoint does not authenticate" })?;
        let next = read::replay(&disk, &superblock, half, &header, &area, &mut replay).await?;
        heal(&disk, &found).await;
        Ok(Self {
            disk,
            superblock,
            key: VaultKey::from_bytes(key.as_bytes()),
            attempted: header.sequence(),
            label: header.label,
            half,
            area,
            next,
            doubtful: false,
        })
    }

    /// Appends an entry of at most [`MAX_ENTRY`] bytes. It is durable when this returns.
    ///
    /// After an error, or if the future is dropped, the entry may be on the disk or not. The next entry or checkpoint that is
    /// written takes its place, so one that succeeds makes it certain that the failed one never was.
    ///
    /// # Errors
    /// [`VaultError::TooLarge`] if it does not fit what is left ([`Self::fits`]): then a checkpoint makes room.
    /// [`VaultError::Disk`].
    pub async fn append(&mut self, content: &[u8], rng: &mut impl CryptoRng) -> Result<(), VaultError> {
        if !self.fits(content.len()) {
            let limit = (self.left() as usize * BLOCK).saturating_sub(ENTRY_OVERHEAD).min(MAX_ENTRY);
            return Err(VaultError::TooLarge { size: content.len(), limit });
        }
        self.settle().await?;
        let (bytes, tag) = frame::build(&self.area, self.next, content, rng);
        self.disk.write(self.sector(self.half, self.next.block), &bytes).await?;
        self.disk.flush().await?;
        self.next = self.next.after(frame::blocks(content.len()), tag);
        Ok(())
    }

    /// Whether an entry of this many bytes fits what is left of the area.
    pub const fn fits(&self, length: usize) -> bool {
        length <= MAX_ENTRY && frame::blocks(length) <= self.left() && self.next.index < u32::MAX
    }

    const fn left(&self) -> u32 {
        self.superblock.blocks().saturating_sub(self.next.block)
    }

    /// Writes a checkpoint to the other area, which becomes the current one, with another label if one is given. `parts` stand
    /// for all that was written so far. When this returns, the new checkpoint is durable and the old label is wiped.
    ///
    /// After an error, or if the future is dropped, the old area and label still count.
    ///
    /// # Errors
    /// [`VaultError::TooLarge`] and [`VaultError::Disk`].
    pub async fn checkpoint(
        &mut self,
        label: Option<&[u8]>,
        parts: impl IntoIterator<Item = Zeroizing<Vec<u8>>>,
        rng: &mut impl CryptoRng,
    ) -> Result<(), VaultError> {
        let label = label.unwrap_or(&self.label).to_vec();
        check_label(&self.superblock, &label)?;
        let sequence = self.attempted.checked_add(1);
        let sequence = sequence.ok_or(VaultError::Damaged { what: "its sequence numbers have run out" })?;
        self.settle().await?;
        let spare = 1 - self.half;
        let area = AreaKey::random(&self.superblock, &self.key, sequence, rng);
        let start = header_blocks(label.len());
        let place = write_parts(&self.disk, &self.superblock, spare, &area, start, parts, rng).await?;
        self.disk.flush().await?;
        let header = AreaHeader::new(&area, sequence, &label, place.index, place.previous);
        // Marked before the first byte goes out: a wait that is given up leaves the same doubt as an error.
        (self.doubtful, self.attempted) = (true, sequence);
        self.disk.write(self.superblock.slot_start(spare), &header.to_sectors()).await?;
        self.disk.flush().await?;
        self.doubtful = false;
        let old = core::mem::replace(&mut self.half, spare);
        self.area = area;
        self.next = Place { previous: *header.tag(), ..place };
        self.label = header.label;
        // With the old header gone, nobody takes the old area for the newest if the new header should rot one day.
        let wiped = async {
            wipe(&self.disk, &self.superblock, old).await?;
            self.disk.flush().await
        };
        if let Err(error) = wiped.await {
            log::warn!(target: "vault", "the header of the checkpoint before this one could not be wiped: {error}");
        }
        Ok(())
    }

    /// Makes certain that no header of a failed checkpoint is in the spare area.
    async fn settle(&mut self) -> Result<(), VaultError> {
        if self.doubtful {
            wipe(&self.disk, &self.superblock, 1 - self.half).await?;
            self.disk.flush().await?;
            self.doubtful = false;
        }
        Ok(())
    }

    /// The key that the journal was opened with, for an owner who seals it anew.
    pub const fn key(&self) -> &VaultKey {
        &self.key
    }

    /// The label.
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// Bytes that the parts of a checkpoint may have together, if they are of about [`PART`] bytes each: at least a quarter of
    /// the area is left for entries then.
    pub const fn capacity(&self) -> usize {
        let blocks = self.superblock.blocks().saturating_sub(header_blocks(self.label.len()));
        (blocks - blocks.div_ceil(4)) as usize * (BLOCK - BLOCK / 16)
    }

    fn sector(&self, half: usize, block: u32) -> u64 {
        sector(&self.superblock, half, block)
    }
}

/// The first sector of a block of an area.
fn sector(superblock: &Superblock, half: usize, block: u32) -> u64 {
    superblock.slot_start(half) + u64::from(block) * BLOCK_SECTORS
}

fn check_label(superblock: &Superblock, label: &[u8]) -> Result<(), VaultError> {
    // Two blocks at least for a checkpoint and an entry.
    let room = (superblock.blocks().saturating_sub(2) as usize * BLOCK).saturating_sub(BLOCK);
    let limit = room.min(MAX_JOURNAL_LABEL);
    if label.len() > limit { Err(VaultError::TooLarge { size: label.len(), limit }) } else { Ok(()) }
}

/// Overwrites the place of an area's header with zeros. Not flushed.
async fn wipe<B: BlockDevice>(disk: &B, superblock: &Superblock, half: usize) -> Result<(), DiskError> {
    let blocks = MAX_HEADER_BLOCKS.min(superblock.blocks());
    disk.write(superblock.slot_start(half), &vec![0; blocks as usize * BLOCK]).await
}

/// Writes the frames of a checkpoint, from block `start` on; what follows them continues from the place returned. Not flushed.
async fn write_parts<B: BlockDevice>(
    disk: &B,
    superblock: &Superblock,
    half: usize,
    area: &AreaKey,
    start: u32,
    parts: impl IntoIterator<Item = Zeroizing<Vec<u8>>>,
    rng: &mut impl CryptoRng,
) -> Result<Place, VaultError> {
    let mut place = Place { block: start, index: 0, previous: [0; 16] };
    for part in parts {
        let left = superblock.blocks().saturating_sub(place.block);
        if part.len() > MAX_ENTRY || frame::blocks(part.len()) > left {
            let limit = (left as usize * BLOCK).saturating_sub(ENTRY_OVERHEAD).min(MAX_ENTRY);
            return Err(VaultError::TooLarge { size: part.len(), limit });
        }
        let (bytes, tag) = frame::build(area, place, &part, rng);
        disk.write(sector(superblock, half, place.block), &bytes).await?;
        place = place.after(frame::blocks(part.len()), tag);
    }
    Ok(place)
}
