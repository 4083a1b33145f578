//! The superblock: whose vault it is and where its slots lie. Two copies, 4 KiB apart, written only while a vault is created.

use crate::{Kind, MIN_DISK, Owner, VaultError, VaultKey};
use tpm_crypto::{CryptoRng, ct_eq, hkdf_sha256, sha256};
use xen_abi::SECTOR_SIZE;
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a vault of any format.
pub const MAGIC: [u8; 16] = *b"Xen vTPM vault\r\n";
/// The format that this software writes.
pub const FORMAT: u32 = 1;
/// Where the copies lie, in sectors.
pub const COPIES: [u64; 2] = [0, 8];
/// Where the slots begin, in sectors.
pub const SLOTS_START: u64 = 16;
/// How many slots there are.
pub const SLOTS: u32 = 2;
/// A slot is a multiple of this many sectors, so that slots do not share a physical sector of 4 KiB.
const ALIGN: u32 = 8;
/// The largest slot in sectors: 1 MiB.
const MAX_SLOT_SECTORS: u32 = 2048;
/// The largest area of a journal in sectors: 16 MiB.
const MAX_AREA_SECTORS: u32 = 32_768;
/// The smallest slot in sectors: what the smallest disk has.
const MIN_SLOT_SECTORS: u32 = ((MIN_DISK / SECTOR_SIZE as u64 - SLOTS_START) / SLOTS as u64) as u32;

/// What lies in the two halves of a vault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Slots: each holds one whole state.
    Slots,
    /// Areas of a journal: a checkpoint and what came after it.
    Journal,
}

impl Layout {
    const fn code(self) -> u8 {
        match self {
            Self::Slots => 0,
            Self::Journal => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Slots),
            1 => Some(Self::Journal),
            _ => None,
        }
    }

    /// The largest half, in sectors.
    const fn max_sectors(self) -> u32 {
        match self {
            Self::Slots => MAX_SLOT_SECTORS,
            Self::Journal => MAX_AREA_SECTORS,
        }
    }
}

/// How far creation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Under way: nothing was acknowledged.
    Creating,
    /// Done: the first generation is durable.
    Complete,
}

/// A superblock on disk.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 16],
    format: U32,
    kind: u8,
    stage: u8,
    layout: u8,
    reserved: u8,
    uuid: [u8; 16],
    vault_id: [u8; 16],
    key_check: [u8; 16],
    slot_sectors: U32,
    slots: U32,
    checksum: [u8; 32],
}

const _: () = assert!(size_of::<Raw>() == 112);

/// A superblock that is whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    pub owner: Owner,
    pub stage: Stage,
    pub layout: Layout,
    pub slot_sectors: u32,
    vault_id: [u8; 16],
    key_check: [u8; 16],
}

/// What one copy of the superblock turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    Good(Superblock),
    /// The magic is there, in a format that we do not know.
    Newer(u32),
    /// The magic is there, but the rest does not hold together.
    Broken,
    /// No magic.
    Other,
}

impl Superblock {
    /// One for a new vault on a disk of `sectors`.
    pub fn new(
        owner: Owner,
        key: &VaultKey,
        layout: Layout,
        sectors: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, VaultError> {
        let slot_sectors = slot_sectors_for(layout, sectors)?;
        let mut vault_id = [0; 16];
        rng.fill_bytes(&mut vault_id);
        Ok(Self { owner, stage: Stage::Creating, layout, slot_sectors, vault_id, key_check: key_check(key, &vault_id) })
    }

    /// Reads one copy.
    pub fn parse(sector: &[u8; SECTOR_SIZE]) -> Copy {
        let Ok((raw, _)) = Raw::read_from_prefix(sector) else { return Copy::Other };
        if raw.magic != MAGIC {
            return Copy::Other;
        }
        if raw.format.get() > FORMAT {
            return Copy::Newer(raw.format.get());
        }
        raw.decode().map_or(Copy::Broken, Copy::Good)
    }

    /// The sector that [`Self::parse`] reads back.
    pub fn to_sector(self) -> [u8; SECTOR_SIZE] {
        let raw = self.raw();
        let mut sector = [0; SECTOR_SIZE];
        let (head, _) = sector.split_at_mut(size_of::<Raw>());
        head.copy_from_slice(raw.as_bytes());
        sector
    }

    /// The digest that ties every generation to this vault; it does not depend on the stage.
    pub fn binding(self) -> [u8; 32] {
        Self { stage: Stage::Complete, ..self }.raw().checksum
    }

    /// The random name of the vault.
    pub const fn vault_id(&self) -> &[u8; 16] {
        &self.vault_id
    }

    /// Whether `key` is the key that the vault was made with.
    pub fn has_key(&self, key: &VaultKey) -> bool {
        ct_eq(&key_check(key, &self.vault_id), &self.key_check)
    }

    /// The first sector of slot `index`.
    pub fn slot_start(&self, index: usize) -> u64 {
        SLOTS_START + index as u64 * u64::from(self.slot_sectors)
    }

    /// Bytes in a slot.
    pub const fn slot_size(&self) -> usize {
        self.slot_sectors as usize * SECTOR_SIZE
    }

    /// Sectors from the start of the disk to the end of the last slot.
    pub fn sectors(&self) -> u64 {
        self.slot_start(SLOTS as usize)
    }

    fn raw(self) -> Raw {
        let stage = match self.stage {
            Stage::Creating => 1,
            Stage::Complete => 2,
        };
        let mut raw = Raw {
            magic: MAGIC,
            format: FORMAT.into(),
            kind: self.owner.kind.code(),
            stage,
            layout: self.layout.code(),
            reserved: 0,
            uuid: self.owner.uuid,
            vault_id: self.vault_id,
            key_check: self.key_check,
            slot_sectors: self.slot_sectors.into(),
            slots: SLOTS.into(),
            checksum: [0; 32],
        };
        raw.checksum = raw.sum();
        raw
    }
}

impl Raw {
    /// SHA-256 of everything before the checksum.
    fn sum(&self) -> [u8; 32] {
        let (covered, _) = self.as_bytes().split_at(size_of::<Self>() - 32);
        sha256(&[covered])
    }

    /// The meaning, if every field has a value that this format allows.
    fn decode(&self) -> Option<Superblock> {
        let stage = match self.stage {
            1 => Stage::Creating,
            2 => Stage::Complete,
            _ => return None,
        };
        let layout = Layout::from_code(self.layout)?;
        let slot_sectors = self.slot_sectors.get();
        let sound = self.checksum == self.sum()
            && self.format.get() == FORMAT
            && self.reserved == 0
            && self.slots.get() == SLOTS
            && (MIN_SLOT_SECTORS..=layout.max_sectors()).contains(&slot_sectors)
            && slot_sectors.is_multiple_of(ALIGN);
        let owner = Owner { kind: Kind::from_code(self.kind)?, uuid: self.uuid };
        let (vault_id, key_check) = (self.vault_id, self.key_check);
        sound.then_some(Superblock { owner, stage, layout, slot_sectors, vault_id, key_check })
    }
}

/// The largest slots or areas that fit a disk of `sectors`.
pub fn slot_sectors_for(layout: Layout, sectors: u64) -> Result<u32, VaultError> {
    let found = sectors.saturating_mul(SECTOR_SIZE as u64);
    if found < MIN_DISK {
        return Err(VaultError::TooSmall { found, needed: MIN_DISK });
    }
    let each = (sectors - SLOTS_START) / u64::from(SLOTS);
    let each = u32::try_from(each).unwrap_or(u32::MAX).min(layout.max_sectors());
    Ok(each - each % ALIGN)
}

/// A value that tells a wrong key from a damaged vault, and nothing about the key.
fn key_check(key: &VaultKey, vault_id: &[u8; 16]) -> [u8; 16] {
    let mut check = [0; 16];
    hkdf_sha256(key.as_bytes(), vault_id, b"xen-vtpm vault 1 key check", &mut check);
    check
}
