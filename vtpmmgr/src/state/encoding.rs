//! The stored form of changes. A stored state is the changes that lead to it from nothing.
//!
//! A *part* is a 16-bit format and any number of items; an item is a kind (1 byte), a length (4 bytes) and a body. Both the
//! parts of a checkpoint and the entries after it have this form.

use super::{
    Anchor, ApprovalKey, Change, ChangeError, Config, Group, GroupAk, GroupKey, MAX_CONFIGURATIONS, MAX_KERNELS, State,
    StoredRecord, Vtpm,
};
use crate::args::AuthData;
use crate::hardware::{AttestationKey, Counter, PcrCondition, Sealed};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::{Reader, Truncated, Writer};
use zeroize::Zeroizing;

/// The format that this software writes.
const FORMAT: u16 = 1;
/// Bytes of a part before its first item.
pub(super) const PART_HEADER: usize = 2;
/// Bytes of an item before its body.
const ITEM_HEADER: usize = 1 + 4;
/// A part of a checkpoint is closed once it has this many bytes; one item may exceed it.
pub const MAX_PART: usize = vault::PART;

const OWNER: u8 = 1;
const ANCHOR: u8 = 2;
const ANCHOR_VALUE: u8 = 3;
const PUT_GROUP: u8 = 4;
const DELETE_GROUP: u8 = 5;
const PUT_VTPM: u8 = 6;
const DELETE_VTPM: u8 = 7;

/// Why a stored state was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateError {
    /// Written by a later version.
    NewerFormat(u16),
    /// Authentic and yet not what this software writes.
    Malformed,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat(found) => {
                write!(
                    f,
                    "the manager's records have format {found}, newer than this software ({FORMAT}): use the newer one"
                )
            }
            Self::Malformed => f.write_str("the manager's records are malformed: put a backup of the disk back"),
        }
    }
}

impl core::error::Error for StateError {}

impl From<Truncated> for StateError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

impl From<ChangeError> for StateError {
    fn from(_: ChangeError) -> Self {
        Self::Malformed
    }
}

/// What lies in an item, without owning it.
enum Item<'a> {
    Owner(Option<&'a AuthData>),
    Anchor(Option<&'a Anchor>),
    AnchorValue(u64),
    PutGroup(&'a Group),
    DeleteGroup(&'a [u8; 16]),
    PutVtpm(&'a [u8; 16], &'a Vtpm),
    DeleteVtpm(&'a [u8; 16]),
}

impl Change {
    fn as_item(&self) -> Item<'_> {
        match self {
            Self::Owner(owner) => Item::Owner(owner.as_ref()),
            Self::Anchor(anchor) => Item::Anchor(anchor.as_ref()),
            Self::AnchorValue(value) => Item::AnchorValue(*value),
            Self::PutGroup(group) => Item::PutGroup(group),
            Self::DeleteGroup(uuid) => Item::DeleteGroup(uuid),
            Self::PutVtpm { uuid, vtpm } => Item::PutVtpm(uuid, vtpm),
            Self::DeleteVtpm(uuid) => Item::DeleteVtpm(uuid),
        }
    }

    /// The entry that stands for these changes.
    pub fn to_entry(changes: &[Self]) -> Zeroizing<Vec<u8>> {
        // All at once, so that growing leaves no copy of a secret behind.
        let size = changes.iter().map(|change| change.as_item().size()).sum::<usize>();
        let mut out = new_part(PART_HEADER + size);
        for change in changes {
            change.as_item().put(&mut out);
        }
        out
    }
}

impl State {
    /// Bytes on disk after `change`, which can be made.
    pub(super) fn size_with(&self, change: &Change) -> usize {
        let some = |present: bool, item: Item<'_>| if present { item.size() } else { 0 };
        let before = match change {
            Change::Owner(_) => some(self.owner.is_some(), Item::Owner(self.owner.as_ref())),
            Change::Anchor(_) => some(self.anchor.is_some(), Item::Anchor(self.anchor.as_ref())),
            Change::AnchorValue(_) => 0,
            Change::PutGroup(group) => self.group(&group.uuid).map_or(0, |group| Item::PutGroup(group).size()),
            Change::DeleteGroup(uuid) => self.group(uuid).map_or(0, |group| Item::PutGroup(group).size()),
            Change::PutVtpm { uuid, .. } | Change::DeleteVtpm(uuid) => {
                self.vtpms.get(uuid).map_or(0, |vtpm| Item::PutVtpm(uuid, vtpm).size())
            }
        };
        let after = match change {
            Change::Owner(None) | Change::Anchor(None) => 0,
            Change::AnchorValue(_) | Change::DeleteGroup(_) | Change::DeleteVtpm(_) => 0,
            change => change.as_item().size(),
        };
        (self.size + after).saturating_sub(before)
    }

    /// Makes the changes of a stored part or entry.
    ///
    /// # Errors
    /// If it is not what this software writes; the state is of no use then.
    pub fn replay(&mut self, part: &[u8]) -> Result<(), StateError> {
        let mut r = Reader::new(part);
        let format = r.u16()?;
        if format > FORMAT {
            return Err(StateError::NewerFormat(format));
        }
        if format == 0 {
            return Err(StateError::Malformed);
        }
        while !r.is_empty() {
            let kind = r.u8()?;
            let mut body = Reader::new(r.sized32()?);
            let change = read(kind, &mut body)?;
            if !body.is_empty() {
                return Err(StateError::Malformed);
            }
            self.apply(change)?;
        }
        Ok(())
    }

    /// The parts of a checkpoint, made one at a time.
    pub fn parts(&self) -> Parts<'_> {
        Parts { state: self, next: Place::Head, done: false }
    }
}

/// How far [`Parts`] has come.
#[derive(Clone, Copy)]
enum Place {
    Head,
    Group(usize),
    /// After this one.
    Vtpm(Option<[u8; 16]>),
}

/// See [`State::parts`]. At least one part, each of at most [`MAX_PART`] bytes or with a single item.
pub struct Parts<'a> {
    state: &'a State,
    next: Place,
    done: bool,
}

impl Iterator for Parts<'_> {
    type Item = Zeroizing<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let mut out = new_part(MAX_PART);
        let room = |out: &Vec<u8>, item: &Item<'_>| out.len() == PART_HEADER || out.len() + item.size() <= MAX_PART;
        if matches!(self.next, Place::Head) {
            let owner = self.state.owner.as_ref().map(|owner| Item::Owner(Some(owner)));
            let anchor = self.state.anchor.as_ref().map(|anchor| Item::Anchor(Some(anchor)));
            owner.iter().chain(&anchor).for_each(|item| item.put(&mut out));
            self.next = Place::Group(0);
        }
        if let Place::Group(first) = self.next {
            for (at, group) in self.state.groups.iter().enumerate().skip(first) {
                let item = Item::PutGroup(group);
                if !room(&out, &item) {
                    self.next = Place::Group(at);
                    return Some(out);
                }
                // A group may be larger than a part: room for it first, so that growing leaves no copy of its key behind.
                if out.len() + item.size() > out.capacity() {
                    let mut larger = Zeroizing::new(Vec::with_capacity(out.len() + item.size()));
                    larger.extend_from_slice(&out);
                    out = larger;
                }
                item.put(&mut out);
            }
            self.next = Place::Vtpm(None);
        }
        if let Place::Vtpm(last) = self.next {
            let from = last.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
            for (uuid, vtpm) in self.state.vtpms.range((from, core::ops::Bound::Unbounded)) {
                let item = Item::PutVtpm(uuid, vtpm);
                if !room(&out, &item) {
                    return Some(out);
                }
                item.put(&mut out);
                self.next = Place::Vtpm(Some(*uuid));
            }
        }
        self.done = true;
        Some(out)
    }
}

fn new_part(capacity: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(capacity));
    Writer::new(&mut out).u16(FORMAT);
    out
}

impl Item<'_> {
    /// Bytes of the stored item.
    fn size(&self) -> usize {
        let body = match self {
            Self::Owner(owner) => owner.map_or(0, |owner| owner.0.len()),
            Self::Anchor(anchor) => anchor.map_or(0, |anchor| 8 + anchor.counter.to_bytes().len()),
            Self::AnchorValue(_) => 8,
            Self::DeleteGroup(_) | Self::DeleteVtpm(_) => 16,
            Self::PutVtpm(_, vtpm) => 16 + 16 + 4 + 1 + vtpm.record.as_ref().map_or(0, |record| record.bytes().len()),
            Self::PutGroup(group) => {
                let mut out = Zeroizing::new(Vec::with_capacity(1024));
                put_group(group, &mut Writer::new(&mut out));
                out.len()
            }
        };
        ITEM_HEADER + body
    }

    fn put(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Owner(_) => OWNER,
            Self::Anchor(_) => ANCHOR,
            Self::AnchorValue(_) => ANCHOR_VALUE,
            Self::PutGroup(_) => PUT_GROUP,
            Self::DeleteGroup(_) => DELETE_GROUP,
            Self::PutVtpm(..) => PUT_VTPM,
            Self::DeleteVtpm(_) => DELETE_VTPM,
        };
        let mut w = Writer::new(out);
        // Bodies are far below 4 GiB: the limits of `check` hold for everything that is kept.
        w.u8(kind).u32((self.size() - ITEM_HEADER) as u32);
        match self {
            Self::Owner(owner) => {
                w.bytes(owner.map_or(&[], |owner| &owner.0));
            }
            Self::Anchor(anchor) => {
                if let Some(anchor) = anchor {
                    w.u64(anchor.value).bytes(&anchor.counter.to_bytes());
                }
            }
            Self::AnchorValue(value) => {
                w.u64(*value);
            }
            Self::PutGroup(group) => put_group(group, &mut w),
            Self::DeleteGroup(uuid) | Self::DeleteVtpm(uuid) => {
                w.bytes(*uuid);
            }
            Self::PutVtpm(uuid, vtpm) => {
                let form = vtpm.record.as_ref().map_or(0, |record| 1 + u8::from(record.is_sealed()));
                w.bytes(*uuid).bytes(&vtpm.group).u32(vtpm.flags).u8(form);
                w.bytes(vtpm.record.as_ref().map_or(&[], StoredRecord::bytes));
            }
        }
    }
}

fn put_group(group: &Group, w: &mut Writer<'_>) {
    w.bytes(&group.uuid).u32(group.flags).bytes(&group.privacy_ca);
    match &group.approver {
        None => w.u32(0),
        Some(ApprovalKey::Rsa(modulus)) => w.sized32(modulus),
        Some(ApprovalKey::P256(point)) => w.sized32(point),
    };
    match &group.ak {
        None => w.u32(0),
        Some(ak) => w.sized32(&ak.key.to_bytes()).sized32(&ak.binding),
    };
    match &group.key {
        GroupKey::Plain(key) => {
            w.u8(0).bytes(&key[..]);
        }
        GroupKey::Sealed(seals) => {
            w.u8(seals.len() as u8);
            for (condition, sealed) in seals {
                condition.put(w);
                w.sized32(&sealed.to_bytes());
            }
        }
    }
    w.u64(group.config.sequence).u8(group.config.pcrs.len() as u8);
    for condition in &group.config.pcrs {
        condition.put(w);
    }
    w.u8(group.config.kernels.len() as u8);
    for kernel in &group.config.kernels {
        w.bytes(kernel);
    }
    w.sized32(&group.recovery);
}

fn read(kind: u8, r: &mut Reader<'_>) -> Result<Change, StateError> {
    Ok(match kind {
        OWNER if r.is_empty() => Change::Owner(None),
        OWNER => Change::Owner(Some(AuthData(r.array()?))),
        ANCHOR if r.is_empty() => Change::Anchor(None),
        ANCHOR => {
            let value = r.u64()?;
            let counter = Counter::parse(r.bytes(r.rest().len())?).ok_or(StateError::Malformed)?;
            Change::Anchor(Some(Anchor { counter, value }))
        }
        ANCHOR_VALUE => Change::AnchorValue(r.u64()?),
        PUT_GROUP => Change::PutGroup(Box::new(read_group(r)?)),
        DELETE_GROUP => Change::DeleteGroup(r.array()?),
        PUT_VTPM => {
            let (uuid, group, flags, form) = (r.array()?, r.array()?, r.u32()?, r.u8()?);
            let stored = r.bytes(r.rest().len())?;
            let record = match form {
                0 if stored.is_empty() => None,
                1 | 2 => Some(StoredRecord::from_parts(form == 2, stored).ok_or(StateError::Malformed)?),
                _ => return Err(StateError::Malformed),
            };
            Change::PutVtpm { uuid, vtpm: Vtpm { group, flags, record } }
        }
        DELETE_VTPM => Change::DeleteVtpm(r.array()?),
        _ => return Err(StateError::Malformed),
    })
}

fn read_group(r: &mut Reader<'_>) -> Result<Group, StateError> {
    let (uuid, flags, privacy_ca) = (r.array()?, r.u32()?, r.array()?);
    let approver = match r.sized32()? {
        [] => None,
        key => Some(match key.try_into() {
            Ok(point) => ApprovalKey::P256(point),
            Err(_) => ApprovalKey::Rsa(key.to_vec()),
        }),
    };
    let ak = match r.sized32()? {
        [] => None,
        key => {
            let key = AttestationKey::parse(key).ok_or(StateError::Malformed)?;
            Some(GroupAk { key, binding: r.sized32()?.to_vec() })
        }
    };
    let key = match r.u8()? {
        0 => GroupKey::Plain(Zeroizing::new(r.array()?)),
        count => GroupKey::Sealed(read_list(count, MAX_CONFIGURATIONS, || {
            let condition = PcrCondition::get(r)?;
            Ok((condition, Sealed::parse(r.sized32()?).ok_or(StateError::Malformed)?))
        })?),
    };
    let (sequence, count) = (r.u64()?, r.u8()?);
    let pcrs = read_list(count, MAX_CONFIGURATIONS, || Ok(PcrCondition::get(r)?))?;
    let count = r.u8()?;
    let kernels = read_list(count, MAX_KERNELS, || Ok(r.array()?))?;
    let recovery = r.sized32()?.to_vec();
    Ok(Group { uuid, flags, approver, privacy_ca, ak, key, config: Config { sequence, pcrs, kernels }, recovery })
}

fn read_list<I>(
    count: u8,
    limit: usize,
    mut item: impl FnMut() -> Result<I, StateError>,
) -> Result<Vec<I>, StateError> {
    if usize::from(count) > limit {
        return Err(StateError::Malformed);
    }
    (0..count).map(|_| item()).collect()
}
