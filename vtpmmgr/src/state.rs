//! All that the manager remembers: groups, vTPMs, the chip's owner secret, and what the chip's counter must say.
//!
//! The state in memory is what the disk holds; [`crate::store::Store`] alone changes it, one [`Change`] after another, each
//! of which is durable before it counts. Layout on disk in `docs/formats/manager.md`.

mod encoding;
mod record;
#[cfg(test)]
mod tests;

pub use encoding::{MAX_PART, Parts, StateError};
pub use record::{StoredRecord, Unreadable};

use crate::args::AuthData;
use crate::hardware::{Counter, PcrCondition, Sealed};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// The most vTPMs that one manager keeps.
pub const MAX_VTPMS: usize = 16_384;
/// The most groups that one manager keeps.
pub const MAX_GROUPS: usize = 64;
/// The most PCR configurations of a group.
pub const MAX_CONFIGURATIONS: usize = 8;
/// The most kernels on a group's list.
pub const MAX_KERNELS: usize = 64;
/// The longest attestation key's binding, recovery blob or modulus, in bytes.
pub const MAX_BLOB: usize = 1024;

/// The name of a vTPM or of a group, in the order in which it is printed.
pub type Uuid = [u8; 16];

/// All that the manager remembers.
#[derive(Default)]
pub struct State {
    owner: Option<AuthData>,
    anchor: Option<Anchor>,
    groups: Vec<Group>,
    vtpms: BTreeMap<Uuid, Vtpm>,
    /// Bytes that all of it takes on disk.
    size: usize,
}

/// The chip's counter that this state is tied to.
#[derive(Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Which.
    pub counter: Counter,
    /// What it says, or is about to say: one more than the chip if power failed between disk and chip.
    pub value: u64,
}

/// The key of a group's System Approval Agent, which approves configurations.
#[derive(Clone, PartialEq, Eq)]
pub enum ApprovalKey {
    /// An RSA modulus of 256 or 384 bytes, big-endian; the exponent is 65537.
    Rsa(Vec<u8>),
    /// A point on NIST P-256, x and y, big-endian.
    P256([u8; 64]),
}

/// A group's key on the chip that signs quotes.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupAk {
    /// The key, as [`crate::hardware::AttestationKey::to_bytes`] gives it.
    pub key: crate::hardware::AttestationKey,
    /// TPM 1.2: the TPM_IDENTITY_CONTENTS signature; TPM 2.0: what the chip certified about the key. At most [`MAX_BLOB`] bytes.
    pub binding: Vec<u8>,
}

/// Where the key that a group's records are encrypted with comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// It lies here: whoever opens the manager's disk opens the group. Records of such a group are not encrypted once more.
    Plain(Zeroizing<[u8; 32]>),
    /// The chip gives it back under any of these conditions, of which there are at most [`MAX_CONFIGURATIONS`].
    Sealed(Vec<(PcrCondition, Sealed)>),
}

/// What a group's approval agent has approved.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Ascending with each approved list.
    pub sequence: u64,
    /// PCR configurations under which the group may be opened; at most [`MAX_CONFIGURATIONS`].
    pub pcrs: Vec<PcrCondition>,
    /// SHA-1 of the XSM labels that its vTPMs may have; at most [`MAX_KERNELS`].
    pub kernels: Vec<[u8; 20]>,
}

/// A group of vTPMs.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub uuid: Uuid,
    /// For the policy to define.
    pub flags: u32,
    /// Who approves its configurations.
    pub approver: Option<ApprovalKey>,
    /// The label of the privacy CA that its attestation key was made for.
    pub privacy_ca: [u8; 20],
    /// What signs its quotes, once it has been made.
    pub ak: Option<GroupAk>,
    /// The key of its records.
    pub key: GroupKey,
    /// What was approved.
    pub config: Config,
    /// What gives the group's key back to whoever registered; at most [`MAX_BLOB`] bytes, empty if nobody has.
    pub recovery: Vec<u8>,
}

/// A vTPM that the manager knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Vtpm {
    /// Its group.
    pub group: Uuid,
    /// For the policy to define. Only what is to outlive a restart belongs here.
    pub flags: u32,
    /// What it saved last.
    pub record: Option<StoredRecord>,
}

/// One step from a state to the next.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The chip's owner secret, if the manager drew it.
    Owner(Option<AuthData>),
    /// The counter that anchors the disk, or none.
    Anchor(Option<Anchor>),
    /// What the counter is to say from now on.
    AnchorValue(u64),
    /// A new group, or another content for one that exists. The first group ever put is the manager's own.
    PutGroup(Box<Group>),
    /// An end to a group that has no vTPM.
    DeleteGroup(Uuid),
    /// A new vTPM, or another content for one that exists.
    PutVtpm {
        /// Its name.
        uuid: Uuid,
        /// Its content.
        vtpm: Vtpm,
    },
    /// An end to a vTPM.
    DeleteVtpm(Uuid),
}

/// Why a change was not made. The state is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// There are [`MAX_VTPMS`] vTPMs.
    TooManyVtpms,
    /// There are [`MAX_GROUPS`] groups.
    TooManyGroups,
    /// A part of a group exceeds what is kept of it.
    GroupTooLarge,
    /// There is no such group.
    NoSuchGroup,
    /// There is no such vTPM.
    NoSuchVtpm,
    /// The group has vTPMs.
    GroupInUse,
    /// The manager's own group stays.
    FirstGroup,
    /// There is no counter whose value could change.
    NoAnchor,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyVtpms => write!(f, "there are {MAX_VTPMS} vTPMs, and no room for more: delete some"),
            Self::TooManyGroups => write!(f, "there are {MAX_GROUPS} groups, and no room for more: delete some"),
            Self::GroupTooLarge => write!(
                f,
                "a group keeps at most {MAX_CONFIGURATIONS} PCR configurations, {MAX_KERNELS} kernels and {MAX_BLOB} bytes of anything else"
            ),
            Self::NoSuchGroup => f.write_str("there is no such group"),
            Self::NoSuchVtpm => f.write_str("there is no such vTPM"),
            Self::GroupInUse => f.write_str("the group has vTPMs: move or delete them first"),
            Self::FirstGroup => f.write_str("the manager's own group cannot be deleted"),
            Self::NoAnchor => f.write_str("the disk is not tied to a counter"),
        }
    }
}

impl core::error::Error for ChangeError {}

impl State {
    /// The chip's owner secret, if the manager drew it.
    pub const fn owner(&self) -> Option<&AuthData> {
        self.owner.as_ref()
    }

    /// The counter that the state is tied to.
    pub const fn anchor(&self) -> Option<&Anchor> {
        self.anchor.as_ref()
    }

    /// All groups, in the order in which they were made; the first is the manager's own. Never empty once a disk is open.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group.
    pub fn group(&self, uuid: &Uuid) -> Option<&Group> {
        self.groups.iter().find(|group| group.uuid == *uuid)
    }

    /// How many vTPMs there are.
    pub fn count(&self) -> usize {
        self.vtpms.len()
    }

    /// A vTPM.
    pub fn vtpm(&self, uuid: &Uuid) -> Option<&Vtpm> {
        self.vtpms.get(uuid)
    }

    /// All vTPMs, in ascending order of UUID.
    pub fn vtpms(&self) -> impl Iterator<Item = (&Uuid, &Vtpm)> {
        self.vtpms.iter()
    }

    /// The vTPMs of a group, in ascending order of UUID.
    pub fn vtpms_of(&self, group: &Uuid) -> impl Iterator<Item = (&Uuid, &Vtpm)> {
        let group = *group;
        self.vtpms.iter().filter(move |(_, vtpm)| vtpm.group == group)
    }

    /// Bytes that all of it takes on disk.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Whether `change` can be made, and how many bytes the state then takes.
    pub fn check(&self, change: &Change) -> Result<usize, ChangeError> {
        let known = match change {
            Change::Owner(_) | Change::Anchor(_) => true,
            Change::AnchorValue(_) => self.anchor.is_some(),
            Change::PutGroup(group) => {
                if !group.is_within_limits() {
                    return Err(ChangeError::GroupTooLarge);
                }
                let known = self.group(&group.uuid).is_some();
                if !known && self.groups.len() >= MAX_GROUPS {
                    return Err(ChangeError::TooManyGroups);
                }
                true
            }
            Change::DeleteGroup(uuid) => {
                if self.groups.first().is_some_and(|first| first.uuid == *uuid) {
                    return Err(ChangeError::FirstGroup);
                }
                if self.vtpms_of(uuid).next().is_some() {
                    return Err(ChangeError::GroupInUse);
                }
                self.group(uuid).is_some()
            }
            Change::PutVtpm { uuid, vtpm } => {
                if !self.vtpms.contains_key(uuid) && self.vtpms.len() >= MAX_VTPMS {
                    return Err(ChangeError::TooManyVtpms);
                }
                self.group(&vtpm.group).is_some()
            }
            Change::DeleteVtpm(uuid) => self.vtpms.contains_key(uuid),
        };
        match change {
            _ if known => Ok(self.size_with(change)),
            Change::AnchorValue(_) => Err(ChangeError::NoAnchor),
            Change::DeleteVtpm(_) => Err(ChangeError::NoSuchVtpm),
            _ => Err(ChangeError::NoSuchGroup),
        }
    }

    /// Puts the groups, after some were deleted and put back, into the order that they had.
    pub(crate) fn reorder(&mut self, order: &[Uuid]) {
        self.groups.sort_by_key(|group| order.iter().position(|uuid| *uuid == group.uuid));
    }

    /// Makes `change`, and gives the change that takes it back. A deleted group comes back as the last one.
    ///
    /// # Errors
    /// As [`Self::check`]; nothing has changed then.
    pub fn apply(&mut self, change: Change) -> Result<Change, ChangeError> {
        self.size = self.check(&change)?;
        Ok(match change {
            Change::Owner(owner) => Change::Owner(core::mem::replace(&mut self.owner, owner)),
            Change::Anchor(anchor) => Change::Anchor(core::mem::replace(&mut self.anchor, anchor)),
            Change::AnchorValue(value) => {
                let anchor = self.anchor.as_mut().ok_or(ChangeError::NoAnchor)?;
                Change::AnchorValue(core::mem::replace(&mut anchor.value, value))
            }
            Change::PutGroup(group) => match self.groups.iter_mut().find(|known| known.uuid == group.uuid) {
                Some(known) => Change::PutGroup(Box::new(core::mem::replace(known, *group))),
                None => {
                    let uuid = group.uuid;
                    self.groups.push(*group);
                    Change::DeleteGroup(uuid)
                }
            },
            Change::DeleteGroup(uuid) => {
                let at = self.groups.iter().position(|group| group.uuid == uuid).ok_or(ChangeError::NoSuchGroup)?;
                Change::PutGroup(Box::new(self.groups.remove(at)))
            }
            Change::PutVtpm { uuid, vtpm } => match self.vtpms.insert(uuid, vtpm) {
                Some(vtpm) => Change::PutVtpm { uuid, vtpm },
                None => Change::DeleteVtpm(uuid),
            },
            Change::DeleteVtpm(uuid) => {
                let vtpm = self.vtpms.remove(&uuid).ok_or(ChangeError::NoSuchVtpm)?;
                Change::PutVtpm { uuid, vtpm }
            }
        })
    }
}

impl Group {
    /// A group with a new name and key and nothing else.
    pub fn new(rng: &mut tpm_crypto::Drbg) -> Self {
        let mut uuid: Uuid = rng.bytes();
        // A version 4 UUID (RFC 9562, section 5.4).
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Self {
            uuid,
            flags: 0,
            approver: None,
            privacy_ca: [0; 20],
            ak: None,
            key: GroupKey::Plain(Zeroizing::new(rng.bytes())),
            config: Config::default(),
            recovery: Vec::new(),
        }
    }

    fn is_within_limits(&self) -> bool {
        let seals = match &self.key {
            GroupKey::Plain(_) => 1,
            GroupKey::Sealed(seals) => seals.len(),
        };
        let approver = match &self.approver {
            Some(ApprovalKey::Rsa(modulus)) => [256, 384].contains(&modulus.len()),
            Some(ApprovalKey::P256(_)) | None => true,
        };
        (1..=MAX_CONFIGURATIONS).contains(&seals)
            && approver
            && self.config.pcrs.len() <= MAX_CONFIGURATIONS
            && self.config.kernels.len() <= MAX_KERNELS
            && self.ak.as_ref().is_none_or(|ak| ak.binding.len() <= MAX_BLOB)
            && self.recovery.len() <= MAX_BLOB
    }
}
