//! The bodies of the answers to management commands. `parse` gives `None` for anything that [`to_bytes`](Status::to_bytes) does not make.

use super::{ConfigList, DH_SIZE, SaaKey, read16, sized16};
use crate::cursor::{Reader, Writer};
use crate::header::HEADER_SIZE;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Flags in [`Status`].
pub mod status_flags {
    /// The chip answered when it was last asked.
    pub const CHIP_ANSWERS: u8 = 1;
    /// Xen has FLASK, so that labels are checked.
    pub const LABELS: u8 = 2;
    /// The manager's disk is sealed to PCRs.
    pub const SEALED: u8 = 4;
    /// There is a recovery code.
    pub const RECOVERY: u8 = 8;
}

/// Flags in [`GroupShow`].
pub mod group_flags {
    /// Its key is known: its vTPMs can be served.
    pub const OPEN: u32 = 1;
    /// Its key is sealed to PCRs of its own.
    pub const SEALED: u32 = 2;
    /// It has an attestation key.
    pub const HAS_KEY: u32 = 4;
    /// Its key was given to its approval agent.
    pub const REGISTERED: u32 = 8;
}

/// Flags in [`VtpmShow`] and [`VtpmPage`].
pub mod vtpm_flags {
    /// It has the admin's rights.
    pub const ADMIN: u32 = 1;
    /// It has a record.
    pub const RECORD: u32 = 2;
    /// It is connected.
    pub const CONNECTED: u32 = 4;
    /// The admin has locked it: it gets no record and no quote.
    pub const LOCKED: u32 = 8;
}

/// `rollback=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RollbackMode {
    /// 0: an older disk is not noticed.
    Off,
    /// 1: the counter moves at most every 60 seconds.
    Periodic,
    /// 2: the counter moves with each change.
    Strict,
}

/// The answer to STATUS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// 0x12 or 0x20.
    pub chip_version: u8,
    /// `TPM_CAP_VENDOR_INFO`'s or `TPM_PT_MANUFACTURER`'s four letters.
    pub vendor: [u8; 4],
    /// The chip's firmware version: 1.2: major, minor as two 32-bit halves; 2.0: `TPM_PT_FIRMWARE_VERSION_1` and `_2`.
    pub firmware: u64,
    /// The PCR bank used, as `TPM_ALG_ID`.
    pub bank: u16,
    /// [`status_flags`].
    pub flags: u8,
    /// How the disk is protected against an older copy.
    pub rollback: RollbackMode,
    /// The counter's value that the disk expects.
    pub counter: u64,
    /// Seconds since the manager began to serve.
    pub uptime: u64,
    /// What GET_BOOT_ID answers.
    pub boot_id: [u8; 20],
    /// Groups there are.
    pub groups: u32,
    /// vTPMs there are.
    pub vtpms: u32,
    /// vTPMs that are connected.
    pub connected: u32,
    /// The manager's version.
    pub version: String,
}

impl Status {
    const FORMAT: u16 = 1;

    /// Format 1 (16 bits), then the fields in their order, integers big-endian, rollback mode as a byte, version behind its 16-bit length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        let rollback = match self.rollback {
            RollbackMode::Off => 0,
            RollbackMode::Periodic => 1,
            RollbackMode::Strict => 2,
        };
        out.u16(Self::FORMAT)
            .u8(self.chip_version)
            .bytes(&self.vendor)
            .u64(self.firmware)
            .u16(self.bank)
            .u8(self.flags);
        out.u8(rollback).u64(self.counter).u64(self.uptime).bytes(&self.boot_id);
        out.u32(self.groups).u32(self.vtpms).u32(self.connected);
        sized16(&mut out, self.version.as_bytes());
        bytes
    }

    /// Reads it. Fields behind the known ones are those of a newer manager.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        if from.u16().ok()? != Self::FORMAT {
            return None;
        }
        Some(Self {
            chip_version: from.u8().ok()?,
            vendor: from.array().ok()?,
            firmware: from.u64().ok()?,
            bank: from.u16().ok()?,
            flags: from.u8().ok()?,
            rollback: match from.u8().ok()? {
                0 => RollbackMode::Off,
                1 => RollbackMode::Periodic,
                2 => RollbackMode::Strict,
                _ => return None,
            },
            counter: from.u64().ok()?,
            uptime: from.u64().ok()?,
            boot_id: from.array().ok()?,
            groups: from.u32().ok()?,
            vtpms: from.u32().ok()?,
            connected: from.u32().ok()?,
            version: String::from_utf8(read16(&mut from).ok()?.to_vec()).ok()?,
        })
    }
}

/// The answer to GROUP_NEW: UUID, AIK modulus (256 bytes), identity binding (256 bytes).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewGroup {
    /// The group's UUID.
    pub uuid: [u8; 16],
    /// Its AIK.
    pub aik: Box<[u8; 256]>,
    /// `TPM_MakeIdentity`'s signature.
    pub binding: Box<[u8; 256]>,
}

impl NewGroup {
    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.uuid[..], &self.aik[..], &self.binding[..]].concat()
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (uuid, aik, binding) = (from.array().ok()?, from.array().ok()?, from.array().ok()?);
        from.is_empty().then(|| Self { uuid, aik: Box::new(aik), binding: Box::new(binding) })
    }
}

/// The answer to GROUP_REGISTER: half of a key exchange, recovery blob, and a quote with the external data SHA-1 of `REGR` ‖ the
/// agent's half ‖ this half ‖ blob. (So the C stack documents it; its program hashes flags and that hash once more, and a vTPM
/// could have had the same signed by GET_QUOTE.)
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The manager's half.
    pub dh: Box<[u8; DH_SIZE]>,
    /// The group's key exclusive-or SHA-256 of the shared secret (256 bytes).
    pub blob: [u8; 32],
    /// 1.2: the signature (256 bytes); 2.0: an [`super::Evidence`].
    pub quote: Vec<u8>,
}

impl Registration {
    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.dh[..], &self.blob, &self.quote].concat()
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (dh, blob) = (from.array().ok()?, from.array().ok()?);
        Some(Self { dh: Box::new(dh), blob, quote: from.rest().to_vec() })
    }
}

/// A configuration of a group, as its key is sealed to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// `TPM_ALG_ID` of the bank.
    pub bank: u16,
    /// PCRs 0 to 23, PCR *n* as bit *n*.
    pub mask: u32,
    /// 1.2: SHA-1 of the `TPM_PCR_COMPOSITE`; 2.0: SHA-256 over the values, as `TPM2_PolicyPCR` has it.
    pub digest: Vec<u8>,
}

/// The answer to GROUP_SHOW in the C stack's form: UUID, SAA modulus (zeros if the key has another form or there is none), list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSummary {
    /// The group's UUID.
    pub uuid: [u8; 16],
    /// 256 bytes.
    pub saa: Box<[u8; 256]>,
    /// Sequence of the configuration list.
    pub sequence: u64,
    /// SHA-1 composites only: on a 2.0 chip there are none.
    pub composites: Vec<[u8; 20]>,
    /// Kernel hashes.
    pub kernels: Vec<[u8; 20]>,
}

impl GroupSummary {
    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let conditions = self.composites.iter().map(|composite| (0, *composite)).collect();
        let list = super::LegacyList { sequence: self.sequence, conditions, kernels: self.kernels.clone() };
        [&self.uuid[..], &self.saa[..], &list.signed_part()].concat()
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (uuid, saa, sequence) = (from.array().ok()?, Box::new(from.array().ok()?), from.u64().ok()?);
        let mut digests = || (0..from.u32().ok()?).map(|_| from.array().ok()).collect::<Option<Vec<_>>>();
        let (composites, kernels) = (digests()?, digests()?);
        from.is_empty().then_some(Self { uuid, saa, sequence, composites, kernels })
    }
}

/// The answer to GROUP_SHOW2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupShow {
    /// The group's UUID.
    pub uuid: [u8; 16],
    /// [`group_flags`].
    pub flags: u32,
    /// How many vTPMs it has.
    pub vtpms: u32,
    /// Who signs its lists.
    pub saa: Option<SaaKey>,
    /// Sequence of its list; 0 if there was none.
    pub sequence: u64,
    /// The list's configurations.
    pub conditions: Vec<Condition>,
    /// The list's kernel hashes.
    pub kernels: Vec<[u8; 20]>,
}

impl GroupShow {
    /// UUID, flags, vTPMs (32 bits each), key as [`SaaKey::write`] has it, sequence (64 bits), count (32 bits) and conditions (bank 16 bits,
    /// mask 32 bits, digest behind its 16-bit length), count (32 bits) and kernel hashes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).bytes(&self.uuid).u32(self.flags).u32(self.vtpms);
        SaaKey::write(self.saa.as_ref(), &mut bytes);
        let mut out = Writer::new(&mut bytes);
        out.u64(self.sequence).u32(u32::try_from(self.conditions.len()).unwrap_or(u32::MAX));
        for condition in &self.conditions {
            out.u16(condition.bank).u32(condition.mask);
            sized16(&mut out, &condition.digest);
        }
        out.u32(u32::try_from(self.kernels.len()).unwrap_or(u32::MAX));
        self.kernels.iter().for_each(|kernel| {
            out.bytes(kernel);
        });
        bytes
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (uuid, flags, vtpms) = (from.array().ok()?, from.u32().ok()?, from.u32().ok()?);
        let (saa, sequence) = (SaaKey::read(&mut from)?, from.u64().ok()?);
        let n = from.u32().ok()?;
        let condition = |_| {
            let (bank, mask) = (from.u16().ok()?, from.u32().ok()?);
            Some(Condition { bank, mask, digest: read16(&mut from).ok()?.to_vec() })
        };
        let conditions = (0..n).map(condition).collect::<Option<_>>()?;
        let n = from.u32().ok()?;
        let kernels = (0..n).map(|_| from.array().ok()).collect::<Option<_>>()?;
        from.is_empty().then_some(Self { uuid, flags, vtpms, saa, sequence, conditions, kernels })
    }
}

/// The answer to GROUP_KEYS, which a verifier starts from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupKeys {
    /// The group's UUID.
    pub uuid: [u8; 16],
    /// The group's attestation key: 1.2: the AIK's modulus (256 bytes); 2.0: `TPMT_PUBLIC`.
    pub attestation: Vec<u8>,
    /// What binds it: 1.2: the identity binding (256 bytes); 2.0: `TPMS_ATTEST` and `TPMT_SIGNATURE` of its creation.
    pub binding: Vec<u8>,
    /// The chip's endorsement key, in the same forms; empty if the chip does not tell.
    pub endorsement: Vec<u8>,
}

impl GroupKeys {
    /// UUID, then each behind its 16-bit length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.uuid.to_vec();
        let mut out = Writer::new(&mut bytes);
        [&self.attestation, &self.binding, &self.endorsement].iter().for_each(|field| sized16(&mut out, field));
        bytes
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let uuid = from.array().ok()?;
        let mut field = || Some(read16(&mut from).ok()?.to_vec());
        let (attestation, binding, endorsement) = (field()?, field()?, field()?);
        from.is_empty().then_some(Self { uuid, attestation, binding, endorsement })
    }
}

/// The answer to CHIP_PCRS: the values as they go into a [`ConfigList`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChipPcrs(pub super::PcrValues);

impl ChipPcrs {
    /// As [`super::PcrValues::write`] has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.write(&mut bytes);
        bytes
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let values = super::PcrValues::read(&mut from).ok()?;
        from.is_empty().then_some(Self(values))
    }

    /// A list for `group` with these values as its only configuration.
    pub fn into_list(self, group: [u8; 16], sequence: u64, kernels: Vec<[u8; 20]>) -> ConfigList {
        ConfigList { group, sequence, conditions: alloc::vec![self.0], kernels }
    }
}

/// The answer to VTPM_SHOW: group's index (32 bits) and UUID, flags (32 bits), label hash (20 bytes).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VtpmShow {
    /// Its group's index.
    pub index: u32,
    /// Its group's UUID.
    pub group: [u8; 16],
    /// [`vtpm_flags`].
    pub flags: u32,
    /// SHA-1 of the label of the domain that is connected as this vTPM; zeros if none is, or Xen has no FLASK.
    pub label: [u8; 20],
}

impl VtpmShow {
    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).u32(self.index).bytes(&self.group).u32(self.flags).bytes(&self.label);
        bytes
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (index, group, flags, label) = (from.u32().ok()?, from.array().ok()?, from.u32().ok()?, from.array().ok()?);
        from.is_empty().then_some(Self { index, group, flags, label })
    }
}

/// A line of [`VtpmPage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VtpmEntry {
    /// The vTPM.
    pub uuid: [u8; 16],
    /// Its group's index.
    pub index: u32,
    /// [`vtpm_flags`].
    pub flags: u32,
}

/// The answer to VTPM_LIST2: total (32 bits), and from the offset on as many entries (24 bytes) as a packet holds, by UUID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VtpmPage {
    /// How many there are in all.
    pub total: u32,
    /// Some of them.
    pub entries: Vec<VtpmEntry>,
}

impl VtpmPage {
    /// Entries in one packet.
    pub const MAX: usize = (crate::MAX_PACKET - HEADER_SIZE - 4) / 24;

    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        out.u32(self.total);
        self.entries.iter().for_each(|entry| {
            out.bytes(&entry.uuid).u32(entry.index).u32(entry.flags);
        });
        bytes
    }

    /// Reads it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let total = from.u32().ok()?;
        let mut entries = Vec::new();
        while !from.is_empty() {
            entries.push(VtpmEntry { uuid: from.array().ok()?, index: from.u32().ok()?, flags: from.u32().ok()? });
        }
        Some(Self { total, entries })
    }
}
