//! What all requests share: the store, the chip, the policy, and who is connected.

use crate::anchor::MonotonicCounter;
use crate::hardware::{ChipError, ChipInfo, Hardware, RootKey, Version};
use crate::policy::{Peer, Policy};
use crate::state::{ChangeError, Group, GroupAk, State, Uuid};
use crate::store::{Store, StoreError};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, RefMut};
use core::fmt;
use core::future::poll_fn;
use core::ops::{Deref, DerefMut};
use core::task::Poll;
use frontback::looper::Timer;
use frontback::tpmback::FrontId;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{Refused, code};
use vault::{Kind, Owner, VaultError};
use xen_abi::{BlockDevice, Instant};

/// A value that one task at a time has, across waits.
pub struct Lock<'a, V> {
    value: RefCell<V>,
    timer: &'a Timer,
}

/// The value, given back when dropped.
pub struct Held<'l, 'a, V> {
    value: RefMut<'l, V>,
    timer: &'a Timer,
}

impl<'a, V> Lock<'a, V> {
    /// A lock around `value`.
    pub const fn new(value: V, timer: &'a Timer) -> Self {
        Self { value: RefCell::new(value), timer }
    }

    /// Waits for it.
    pub async fn lock(&self) -> Held<'_, 'a, V> {
        poll_fn(|_| match self.value.try_borrow_mut() {
            Ok(value) => Poll::Ready(Held { value, timer: self.timer }),
            Err(_) => Poll::Pending,
        })
        .await
    }

    /// What `look` sees in it, if nobody has it.
    pub fn peek<O>(&self, look: impl FnOnce(&V) -> O) -> Option<O> {
        self.value.try_borrow().ok().map(|value| look(&value))
    }
}

impl<V> Drop for Held<'_, '_, V> {
    fn drop(&mut self) {
        // Whoever waits was perhaps polled before this in the same turn.
        self.timer.wake_at(self.timer.now());
    }
}

impl<V> Deref for Held<'_, '_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V> DerefMut for Held<'_, '_, V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.value
    }
}

/// A front end that is connected.
#[derive(Clone)]
pub struct Member {
    /// Its connection.
    pub front: FrontId,
    /// The vTPM that it is.
    pub uuid: Uuid,
    /// What is known of its domain.
    pub peer: Peer,
}

/// What all requests share.
pub struct Office<'a, B, C, T> {
    /// The disk.
    pub store: Lock<'a, Store<B, C>>,
    /// The chip.
    pub chip: &'a Hardware<'a, T>,
    /// What the chip's keys of the manager lie under.
    pub root: &'a RootKey,
    /// The chip as it was at start.
    pub info: &'a ChipInfo,
    /// Who may do what.
    pub policy: RefCell<Policy>,
    /// Who is connected.
    pub members: RefCell<Vec<Member>>,
    /// Time.
    pub timer: &'a Timer,
    /// When the service began.
    pub began: Instant,
    /// `rollback=`, for STATUS.
    pub rollback: crate::args::Rollback,
    /// The chip did not do what it was last asked.
    pub chip_fails: Cell<bool>,
    /// What failed last at the disk.
    pub disk_fails: Cell<Option<StoreError>>,
}

impl<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport> Office<'_, B, C, T> {
    /// Makes a code of what the disk said, and says it on the console: once for each new cause.
    pub fn disk_error(&self, error: StoreError) -> Refused {
        let code = match error {
            StoreError::Change(ChangeError::TooManyVtpms | ChangeError::TooManyGroups)
            | StoreError::Vault(VaultError::TooLarge { .. }) => code::RESOURCES,
            StoreError::Change(ChangeError::FirstGroup) => code::BADINDEX,
            StoreError::Change(_) | StoreError::Vault(_) | StoreError::Anchor(_) => code::FAIL,
        };
        if self.disk_fails.replace(Some(error)) != Some(error) {
            log::error!(target: "vtpmmgr", "a request failed: {error}");
        }
        Refused(code)
    }

    /// The disk did what it was asked.
    pub fn disk_works(&self) {
        if self.disk_fails.take().is_some() {
            log::info!(target: "vtpmmgr", "the manager's disk takes records again");
        }
    }

    /// Makes a code of what the chip said, and says a failure on the console: once, not for each vTPM that meets it.
    pub fn chip_error(&self, error: ChipError) -> Refused {
        match error {
            // What was asked was wrong, and the chip says how.
            ChipError::Refused { code: code @ 1..=0xff, .. } if self.info.version == Version::V12 => {
                log::debug!(target: "vtpmmgr", "{error}");
                Refused(code)
            }
            ChipError::PcrMismatch => Refused(code::WRONG_PCR),
            ChipError::Unsupported { .. } => {
                log::warn!(target: "vtpmmgr", "{error}");
                Refused(code::DISABLED_CMD)
            }
            ChipError::BadForm { .. } => Refused(code::BAD_PARAMETER),
            _ => {
                if !self.chip_fails.replace(true) {
                    log::error!(target: "vtpmmgr", "{error}; vTPMs that need the chip get TPM_FAIL until it answers");
                }
                Refused(code::FAIL)
            }
        }
    }

    /// The outcome of something that the chip was asked.
    pub fn chip_said<O>(&self, outcome: Result<O, ChipError>) -> Result<O, Refused> {
        match outcome {
            Ok(out) => {
                if self.chip_fails.replace(false) {
                    log::info!(target: "vtpmmgr", "the TPM chip works again");
                }
                Ok(out)
            }
            Err(error) => Err(self.chip_error(error)),
        }
    }

    /// Whether somebody is connected as this vTPM.
    pub fn is_connected(&self, uuid: &Uuid) -> bool {
        self.members.borrow().iter().any(|member| member.uuid == *uuid)
    }

    /// What `look` sees in the state, once it is certain.
    pub async fn state<O>(&self, look: impl FnOnce(&State) -> Result<O, Refused>) -> Result<O, Refused> {
        let mut store = self.store.lock().await;
        match store.settled().await {
            Ok(state) => look(state),
            Err(error) => Err(self.disk_error(error)),
        }
    }

    /// Changes a group: `edit` is done to what it is now, whatever it was when the chip was asked.
    pub async fn edit_group(
        &self,
        uuid: &Uuid,
        edit: impl FnOnce(&mut Group) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut store = self.store.lock().await;
        let state = store.settled().await.map_err(|error| self.disk_error(error))?;
        let mut group = state.group(uuid).cloned().ok_or(Refused(code::BADINDEX))?;
        edit(&mut group)?;
        let change = crate::state::Change::PutGroup(alloc::boxed::Box::new(group));
        store.apply(change).await.map_err(|error| self.disk_error(error))
    }

    /// The group's attestation key; made now if it has none. Making one takes a TPM 1.2 chip up to a minute.
    pub async fn attestation_key(&self, group: &Uuid, rng: &mut Drbg) -> Result<GroupAk, Refused> {
        let look = |state: &State| {
            let group = state.group(group).ok_or(Refused(code::BADINDEX))?;
            Ok((group.ak.clone(), group.privacy_ca, state.owner().cloned()))
        };
        let (known, label, owner) = self.state(look).await?;
        if let Some(known) = known {
            return Ok(known);
        }
        log::info!(target: "vtpmmgr", "making an attestation key for group {}", GroupName(group));
        let made = self.chip.ak_create(self.root, owner.as_ref(), &label, rng).await;
        let (key, binding) = self.chip_said(made)?;
        let mut ak = GroupAk { key, binding };
        self.edit_group(group, |group| {
            // Somebody else may have made one in the meantime; the first one stays.
            match &group.ak {
                Some(first) => ak = first.clone(),
                None => group.ak = Some(ak.clone()),
            }
            Ok(())
        })
        .await?;
        Ok(ak)
    }
}

/// The vTPM with this UUID, as it is called on the console.
pub const fn vtpm_name(uuid: &Uuid) -> Owner {
    Owner { kind: Kind::Vtpm, uuid: *uuid }
}

/// The group with this UUID, as it is called on the console.
pub struct GroupName<'u>(pub &'u Uuid);

impl fmt::Display for GroupName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
