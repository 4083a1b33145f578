//! Who may do what: which vTPM is served, out of which group, and who has the admin's rights.
//!
//! Decisions only: nothing here waits, asks the chip or writes to the disk.

mod approval;
mod exchange;
mod labels;

pub use approval::{Approval, approve, approve_legacy, condition_of, key_of, saa_of, verify_legacy};
pub use exchange::{Exchange, hidden};
pub use labels::{BackLabels, NoLabels, Peer, PeerLabels};

use crate::state::{Group, GroupKey, State, StoredRecord, Uuid, Vtpm};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;
use tpm_crypto::{Drbg, ct_eq, hkdf_sha256};
use tpm_wire::mgr::{Refused, code};
use zeroize::Zeroizing;

/// Flags of a vTPM that outlive a restart.
pub mod vtpm_marks {
    /// The admin has locked it.
    pub const LOCKED: u32 = 1;
}

/// Flags of a group that outlive a restart.
pub mod group_marks {
    /// Its key was given to its approval agent.
    pub const REGISTERED: u32 = 1;
}

/// A group's key.
pub type Key = Zeroizing<[u8; 32]>;

/// What was decided at start, and what holds until the manager stops.
pub struct Policy {
    admins: Vec<Uuid>,
    /// Keys of sealed groups that are open.
    keys: BTreeMap<Uuid, Key>,
    /// Groups that were made in this run: only their keys are known never to have been anywhere else.
    fresh: Vec<Uuid>,
    /// Recoveries that were begun and not ended: one for each group.
    exchanges: BTreeMap<Uuid, Exchange>,
    /// A group is closed because the chip failed, not because it said no.
    unsure: bool,
    said_unchecked: Cell<bool>,
}

/// A vTPM that is served.
pub struct Served<'s> {
    /// What is kept of it.
    pub vtpm: &'s Vtpm,
    /// Its group.
    pub group: &'s Group,
    /// What stands for the domain in its group's list, and in quotes; `None` without FLASK.
    pub measurement: Option<[u8; 20]>,
}

impl Policy {
    /// `admins`: the UUIDs of `admin_uuid=`.
    pub fn new(admins: &[Uuid]) -> Self {
        Self {
            admins: admins.to_vec(),
            keys: BTreeMap::new(),
            fresh: Vec::new(),
            exchanges: BTreeMap::new(),
            unsure: false,
            said_unchecked: Cell::new(false),
        }
    }

    /// Whether this vTPM was given the admin's rights.
    pub fn is_admin(&self, uuid: &Uuid) -> bool {
        self.admins.contains(uuid)
    }

    /// The vTPM that asks, if it is known and may be served to this peer.
    ///
    /// # Errors
    /// `BAD_PARAMETER` for an unknown one, `DISABLED` for a locked one or a peer that its group's list does not name, `FAIL` if
    /// Xen has labels but does not tell this one.
    pub fn serve<'s>(&self, state: &'s State, uuid: &Uuid, peer: &Peer) -> Result<Served<'s>, Refused> {
        let vtpm = state.vtpm(uuid).ok_or(Refused(code::BAD_PARAMETER))?;
        let group = state.group(&vtpm.group).ok_or(Refused(code::FAIL))?;
        if vtpm.flags & vtpm_marks::LOCKED != 0 {
            return Err(Refused(code::DISABLED));
        }
        let measurement = self.check(group, peer)?;
        Ok(Served { vtpm, group, measurement })
    }

    /// Whether the peer may use the group, and what stands for it there.
    pub fn check(&self, group: &Group, peer: &Peer) -> Result<Option<[u8; 20]>, Refused> {
        let list = &group.config.kernels;
        if matches!(peer, Peer::Unchecked) && !list.is_empty() && !self.said_unchecked.replace(true) {
            log::warn!(
                target: "vtpmmgr",
                "this Xen has no FLASK: which domain connects as a vTPM is not checked against the lists of the groups, only its UUID is"
            );
        }
        peer.measured(list)
    }

    /// Whether these rights are the admin's. The admin may be a vTPM that never saved a record; one that did is served like any other.
    ///
    /// # Errors
    /// `AUTHFAIL`.
    pub fn check_admin(&self, state: &State, uuid: &Uuid, peer: &Peer) -> Result<(), Refused> {
        let known = state.vtpm(uuid).is_some();
        if self.is_admin(uuid) && (!known || self.serve(state, uuid, peer).is_ok()) {
            Ok(())
        } else {
            Err(Refused(code::AUTHFAIL))
        }
    }

    /// The key of a group's records, or `None` if they are not encrypted once more.
    ///
    /// # Errors
    /// `WRONG_PCR` for a group that is not open.
    pub fn record_key(&self, group: &Group) -> Result<Option<&[u8; 32]>, Refused> {
        match (&group.key, self.keys.get(&group.uuid)) {
            (GroupKey::Plain(_), _) => Ok(None),
            (GroupKey::Sealed(_), Some(key)) => Ok(Some(key)),
            (GroupKey::Sealed(_), None) => Err(Refused(code::WRONG_PCR)),
        }
    }

    /// The group's key, whether or not it is in use.
    pub fn group_key(&self, group: &Group) -> Result<Key, Refused> {
        match &group.key {
            GroupKey::Plain(key) => Ok(key.clone()),
            GroupKey::Sealed(_) => self.keys.get(&group.uuid).cloned().ok_or(Refused(code::WRONG_PCR)),
        }
    }

    /// Whether a sealed group was opened.
    pub fn has_key(&self, group: &Uuid) -> bool {
        self.keys.contains_key(group)
    }

    /// Whether a group is closed only because the chip failed when it was to be opened.
    pub const fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Takes note of that.
    pub const fn set_unsure(&mut self, unsure: bool) {
        self.unsure = unsure;
    }

    /// Whether the group's vTPMs can be served.
    pub fn is_open(&self, group: &Group) -> bool {
        self.record_key(group).is_ok()
    }

    /// `record` (52 to 64 bytes) as it is to be kept for this vTPM in this group.
    pub fn keep(&self, record: &[u8], vtpm: &Uuid, group: &Group, rng: &mut Drbg) -> Result<StoredRecord, Refused> {
        let stored = match self.record_key(group)? {
            None => StoredRecord::plain(record),
            Some(key) => StoredRecord::sealed(record, vtpm, &group.uuid, key, rng),
        };
        stored.ok_or(Refused(code::BAD_PARAM_SIZE))
    }

    /// The key of a sealed group: from now on it is open.
    pub fn open(&mut self, group: Uuid, key: Key) {
        self.keys.insert(group, key);
    }

    /// A group is gone.
    pub fn forget(&mut self, group: &Uuid) {
        self.keys.remove(group);
        self.exchanges.remove(group);
        self.fresh.retain(|fresh| fresh != group);
    }

    /// A group was made in this run.
    pub fn is_new(&mut self, group: Uuid) {
        self.fresh.push(group);
    }

    /// Whether the group's key can be given to its agent: the group was made in this run, and nobody was given the key yet.
    pub fn can_register(&self, group: &Group) -> bool {
        self.fresh.contains(&group.uuid) && group.flags & group_marks::REGISTERED == 0
    }

    /// Begins to recover a group; one that was begun before is void.
    pub fn begin_recovery(&mut self, group: Uuid, exchange: Exchange) {
        self.exchanges.insert(group, exchange);
    }

    /// Ends a recovery: whether `blob` holds the group's key, which then is open.
    pub fn end_recovery(&mut self, group: &Group, dh: &[u8; 256], blob: &[u8; 32]) -> Result<(), Refused> {
        let exchange = self.exchanges.remove(&group.uuid).ok_or(Refused(code::FAIL))?;
        let secret = exchange.shared(dh).ok_or(Refused(code::BAD_PARAMETER))?;
        let key = Zeroizing::new(hidden(&secret, blob));
        if !ct_eq(&check_value(&key)[..], &group.recovery) {
            return Err(Refused(code::AUTHFAIL));
        }
        self.open(group.uuid, key);
        Ok(())
    }
}

/// What is kept of a group's key that was given away, to know it again.
pub fn check_value(key: &[u8; 32]) -> Key {
    let mut value = Zeroizing::new([0; 32]);
    hkdf_sha256(key, &[], b"xen-vtpm manager 1 group check", &mut value[..]);
    value
}

#[cfg(test)]
mod tests;
