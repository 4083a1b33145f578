//! What a group's approval agent signs: the platforms on which the group may be opened, and the domains that may use it.

use super::{Refused, code, end, read_selection, write_selection};
use crate::cursor::{Reader, Writer};
use alloc::vec::Vec;

/// The most platform configurations of a list of our form.
pub const MAX_CONDITIONS: usize = 8;
/// The most kernel hashes of a list of our form.
pub const MAX_KERNELS: usize = 64;
/// The most platform configurations of a list of the C stack's form (`NR_SEALS_PER_GROUP`).
pub const LEGACY_CONDITIONS: usize = 5;
/// The most kernel hashes of a list of the C stack's form (`NR_KERNS_PER_GROUP`).
pub const LEGACY_KERNELS: usize = 16;

/// The C stack's `TPM_MGR_CFG_LIST`, with the PCR selections that go with its composites.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LegacyList {
    /// Never smaller than that of the list before.
    pub sequence: u64,
    /// For each configuration the mask of PCRs and SHA-1 of the `TPM_PCR_COMPOSITE`, which names the PCRs once more.
    pub conditions: Vec<(u32, [u8; 20])>,
    /// SHA-1 hashes of the labels that may use the group; none: all may.
    pub kernels: Vec<[u8; 20]>,
}

impl LegacyList {
    /// The signed part: sequence (64 bits), count and composites, count and kernel hashes.
    pub fn signed_part(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        out.u64(self.sequence).u32(count(self.conditions.len()));
        self.conditions.iter().for_each(|(_, digest)| {
            out.bytes(digest);
        });
        out.u32(count(self.kernels.len()));
        self.kernels.iter().for_each(|kernel| {
            out.bytes(kernel);
        });
        bytes
    }

    /// The signed part and behind it the selections.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signed_part();
        let mut out = Writer::new(&mut bytes);
        self.conditions.iter().for_each(|(mask, _)| write_selection(&mut out, *mask));
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote, all of it; else a code.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let mut from = Reader::new(bytes);
        let sequence = from.u64()?;
        let composites = digests(&mut from, LEGACY_CONDITIONS)?;
        let kernels = digests(&mut from, LEGACY_KERNELS)?;
        let mut conditions = Vec::with_capacity(composites.len());
        for composite in composites {
            conditions.push((read_selection(&mut from)?, composite));
        }
        end(&from)?;
        Ok(Self { sequence, conditions, kernels })
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A 32-bit count and so many SHA-1 digests. A count above `most` is a size error if the digests are there, as in the C manager.
fn digests(from: &mut Reader<'_>, most: usize) -> Result<Vec<[u8; 20]>, Refused> {
    let n = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    let bytes = from.bytes(n.checked_mul(20).ok_or(Refused(code::BAD_PARAMETER))?)?;
    if n > most {
        return Err(Refused(code::SIZE));
    }
    Ok(bytes.as_chunks::<20>().0.to_vec())
}

/// What some PCRs must be, one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PcrValues {
    /// The bank as `TPM_ALG_ID`: SHA-1 (4), SHA-256 (0xb) or SHA-384 (0xc); the only one of a TPM 1.2 is SHA-1.
    pub bank: u16,
    /// PCRs 0 to 23, PCR *n* as bit *n*.
    pub mask: u32,
    /// For each of them, in ascending order, its value.
    pub values: Vec<Vec<u8>>,
}

impl PcrValues {
    /// Bytes in a digest of `bank`.
    pub const fn digest_size(bank: u16) -> Option<usize> {
        match bank {
            4 => Some(20),
            0xb => Some(32),
            0xc => Some(48),
            _ => None,
        }
    }

    /// Appends bank (16 bits), mask (32 bits) and the values.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut out = Writer::new(out);
        out.u16(self.bank).u32(self.mask);
        self.values.iter().for_each(|value| {
            out.bytes(value);
        });
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, Refused> {
        let (bank, mask) = (from.u16()?, from.u32()?);
        let size = Self::digest_size(bank).ok_or(Refused(code::BAD_PARAMETER))?;
        if mask >> 24 != 0 {
            return Err(Refused(code::BAD_PARAMETER));
        }
        let values = (0..mask.count_ones()).map(|_| from.bytes(size).map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Self { bank, mask, values })
    }
}

/// Our list: names its group, so that it is worth nothing for another one with the same approval agent, and the PCRs' values one by one,
/// so that the manager can say which of them differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigList {
    /// The group it is for.
    pub group: [u8; 16],
    /// Greater than that of the list before.
    pub sequence: u64,
    /// The configurations; none: the group's key is sealed to no PCRs.
    pub conditions: Vec<PcrValues>,
    /// SHA-1 hashes of the labels that may use the group; none: all may.
    pub kernels: Vec<[u8; 20]>,
}

const MAGIC: &[u8; 4] = b"VTCL";
const VERSION: u16 = 2;

impl ConfigList {
    /// The list, all of which is signed: `VTCL`, version 2 (16 bits), group, sequence, count (32 bits) and conditions, count (32 bits)
    /// and kernel hashes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        out.bytes(MAGIC).u16(VERSION).bytes(&self.group).u64(self.sequence).u32(count(self.conditions.len()));
        self.conditions.iter().for_each(|condition| condition.write(&mut bytes));
        let mut out = Writer::new(&mut bytes);
        out.u32(count(self.kernels.len()));
        self.kernels.iter().for_each(|kernel| {
            out.bytes(kernel);
        });
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote, all of it; else a code.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let mut from = Reader::new(bytes);
        if from.array()? != *MAGIC || from.u16()? != VERSION {
            return Err(Refused(code::BAD_PARAMETER));
        }
        let (group, sequence, n) = (from.array()?, from.u64()?, from.u32()?);
        if n > count(MAX_CONDITIONS) {
            return Err(Refused(code::SIZE));
        }
        let conditions = (0..n).map(|_| PcrValues::read(&mut from)).collect::<Result<_, _>>()?;
        let kernels = digests(&mut from, MAX_KERNELS)?;
        end(&from)?;
        Ok(Self { group, sequence, conditions, kernels })
    }
}
