//! The state and the disk that holds it: each change is durable before it counts.
//!
//! A change is one entry of a [`Journal`]; where it does not fit any more, a checkpoint of the whole state makes room first. With
//! `rollback=strict` the entry also names the next step of the chip's counter ([`crate::anchor`]), which is made before the
//! change is acknowledged; with `rollback=periodic` such a step is an entry of its own, now and then.
//!
//! What fails is in doubt: a restart could find it done or not. Before anything is built on it or told to anyone, the next call
//! makes it certain that it was *not* done, which is what whoever asked for it was told.

#[cfg(test)]
mod tests;

use crate::anchor::{AnchorError, MonotonicCounter, PERIOD, catch_up, make, verify};
use crate::args::Rollback;
use crate::hardware::Counter;
use crate::state::{Anchor, Change, ChangeError, State};
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::Drbg;
use vault::{Journal, VaultError, VaultKey};
use xen_abi::{BlockDevice, Instant};

/// Why a change was not made, or the state cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The change itself.
    Change(ChangeError),
    /// The disk or the vault on it failed, or is full; nothing that was acknowledged is lost.
    Vault(VaultError),
    /// The chip's counter did not follow.
    Anchor(AnchorError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(error) => error.fmt(f),
            Self::Vault(error) => error.fmt(f),
            Self::Anchor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StoreError {}

impl From<ChangeError> for StoreError {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

impl From<VaultError> for StoreError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<AnchorError> for StoreError {
    fn from(error: AnchorError) -> Self {
        Self::Anchor(error)
    }
}

/// The open journal, the state in it, and the counter that it is tied to.
pub struct Store<B, C> {
    journal: Journal<B>,
    state: State,
    rng: Drbg,
    mode: Rollback,
    /// The counter of `state.anchor()`, if the mode wants it.
    counter: Option<C>,
    /// An entry was being written, and nobody knows whether it reached the disk. The state in memory is the one before it.
    in_doubt: bool,
    /// What takes back a change that is durable, but whose counter step failed; and so was not acknowledged.
    undo: Vec<Change>,
    /// The chip may be one step behind the state's anchor.
    behind: bool,
    /// There were changes since the last step.
    changed: bool,
    /// When a step was last tried.
    last_try: Option<Instant>,
    /// A failed step was reported.
    warned: bool,
}

/// A step of the counter whose entry is on the disk. To be run where a slow chip holds up nobody who waits for the disk, and
/// its outcome to be given to [`Store::finish_step`].
pub struct Step<C> {
    counter: C,
    value: u64,
    /// It was tried before, and may have been made.
    again: bool,
}

/// What became of a [`Step`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepOutcome {
    value: u64,
    result: Result<(), AnchorError>,
}

impl<C: MonotonicCounter> Step<C> {
    /// Steps the counter, unless an attempt before this one did.
    pub async fn run(self) -> StepOutcome {
        let result =
            if self.again { catch_up(&self.counter, self.value).await } else { make(&self.counter, self.value).await };
        StepOutcome { value: self.value, result }
    }
}

impl<B: BlockDevice, C: MonotonicCounter + Clone> Store<B, C> {
    /// The `state` that `journal` holds, tied to nothing yet: [`Self::tie`] comes next, unless the mode is off.
    pub const fn new(journal: Journal<B>, state: State, rng: Drbg) -> Self {
        Self {
            journal,
            state,
            rng,
            mode: Rollback::Off,
            counter: None,
            in_doubt: false,
            undo: Vec::new(),
            behind: false,
            changed: false,
            last_try: None,
            warned: false,
        }
    }

    /// Ties the disk to the counter `which`, reached through `counter`, or checks that it is tied to it and up to date; and steps
    /// it, so that every copy of the disk made before this start is an older one. The step is also a check of its own: a TPM 1.2
    /// chip does not authenticate what it says when the counter is read.
    ///
    /// # Errors
    /// [`AnchorError::OlderCopy`] and [`AnchorError::OtherChip`] are what this is for. A state that is tied to another counter
    /// than `which` is not to be given here.
    pub async fn tie(&mut self, which: &Counter, counter: C, mode: Rollback, now: Instant) -> Result<(), StoreError> {
        if mode == Rollback::Off {
            return Ok(());
        }
        match self.state.anchor() {
            Some(anchor) => verify(&counter, anchor.value).await?,
            None => {
                let value = counter.read().await.map_err(AnchorError::Chip)?;
                self.write(alloc::vec![Change::Anchor(Some(Anchor { counter: which.clone(), value }))]).await?;
            }
        }
        (self.mode, self.counter) = (mode, Some(counter));
        match self.step(now).await {
            // Read, and where it should be, but not to be stepped at the moment: tried again later.
            Err(StoreError::Anchor(AnchorError::Chip(_))) if mode == Rollback::Periodic => Ok(()),
            Err(StoreError::Anchor(AnchorError::Moved { expected: disk, found: chip })) => {
                Err(AnchorError::OlderCopy { disk: disk.saturating_sub(1), chip: chip.saturating_sub(1) }.into())
            }
            other => other,
        }
    }

    /// What is remembered. In doubt about a failed change this is the state without it, and not to be told to anyone:
    /// [`Self::settled`] is.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What is remembered, once it is certain that a restart would show the same.
    pub async fn settled(&mut self) -> Result<&State, StoreError> {
        self.settle().await?;
        Ok(&self.state)
    }

    /// Makes a change. It is durable when this returns, and with `rollback=strict` out of reach of an older copy.
    ///
    /// # Errors
    /// Nothing has changed then, nor will it have after a restart once the next call succeeds; between the two a restart may show
    /// either.
    pub async fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        self.apply_all(alloc::vec![change]).await
    }

    /// As [`Self::apply`], for changes that are made together or not at all. Together they have to fit an entry of 64 KiB.
    pub async fn apply_all(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.settle().await?;
        let size = self.rehearse(&changes)?;
        let limit = self.journal.capacity();
        if size > limit && size > self.state.size() {
            return Err(VaultError::TooLarge { size, limit }.into());
        }
        let undo = self.write(changes).await?;
        self.changed = true;
        if self.behind && self.mode == Rollback::Strict {
            self.undo = undo;
            self.make().await?;
            self.undo = Vec::new();
        }
        Ok(())
    }

    /// Writes a checkpoint with another label. The old label is wiped when this returns.
    pub async fn relabel(&mut self, label: &[u8]) -> Result<(), StoreError> {
        self.settle().await?;
        Ok(self.journal.checkpoint(Some(label), self.state.parts(), &mut self.rng).await?)
    }

    /// The root secret: what the copies in the label are to give back.
    pub const fn root(&self) -> &VaultKey {
        self.journal.key()
    }

    /// The label.
    pub fn label(&self) -> &[u8] {
        self.journal.label()
    }

    /// When [`Self::begin_step`] next has something to do: at once, if that is in the past. `None` if there is nothing to do until
    /// something changes.
    pub fn next_step(&self) -> Option<Instant> {
        let wanted = self.mode == Rollback::Periodic && (self.changed || self.behind);
        wanted.then(|| self.last_try.map_or(Instant::from_millis(0), |at| at + PERIOD))
    }

    /// With `rollback=periodic`: writes the entry of the next step if one is due, and gives the step to be run.
    pub async fn begin_step(&mut self, now: Instant) -> Result<Option<Step<C>>, StoreError> {
        if self.next_step().is_none_or(|due| due > now) {
            return Ok(None);
        }
        self.begin(now).await
    }

    /// Takes note of what became of a step.
    pub fn finish_step(&mut self, outcome: StepOutcome) {
        if self.state.anchor().is_none_or(|anchor| anchor.value != outcome.value) {
            return;
        }
        match outcome.result {
            Ok(()) => {
                self.behind = false;
                if core::mem::take(&mut self.warned) {
                    log::info!(target: "vtpmmgr", "the TPM chip's counter is stepped again");
                }
            }
            Err(error) => {
                if !core::mem::replace(&mut self.warned, true) {
                    log::warn!(
                        target: "vtpmmgr",
                        "{error}; until it is stepped again, an older copy of the manager's disk is not told from this one"
                    );
                }
            }
        }
    }

    /// The last step before a clean stop: every copy of the disk that was made before it is an older one.
    pub async fn stop(&mut self, now: Instant) -> Result<(), StoreError> {
        self.step(now).await
    }

    /// Whether the chip is known to be where the disk expects it; `None` if the disk is not tied to a counter.
    pub fn is_anchored(&self) -> Option<bool> {
        self.counter.is_some().then_some(!self.behind)
    }

    /// A whole step, now.
    async fn step(&mut self, now: Instant) -> Result<(), StoreError> {
        if let Some(step) = self.begin(now).await? {
            let outcome = step.run().await;
            self.finish_step(outcome);
            outcome.result?;
        }
        Ok(())
    }

    async fn begin(&mut self, now: Instant) -> Result<Option<Step<C>>, StoreError> {
        let Some(counter) = self.counter.clone() else { return Ok(None) };
        self.last_try = Some(now);
        self.settle().await?;
        // A step that is still owed is made first; the disk is never ahead by more than one.
        let again = self.behind;
        if !again {
            self.write(self.next_value()).await?;
            (self.behind, self.changed) = (true, false);
        }
        let value = self.state.anchor().map_or(0, |anchor| anchor.value);
        Ok(Some(Step { counter, value, again }))
    }

    fn next_value(&self) -> Vec<Change> {
        let next = self.state.anchor().and_then(|anchor| anchor.value.checked_add(1));
        next.map(Change::AnchorValue).into_iter().collect()
    }

    /// Whether the changes can be made one after another, and how large the state is then. Leaves it as it was.
    fn rehearse(&mut self, changes: &[Change]) -> Result<usize, ChangeError> {
        let Some((last, before)) = changes.split_last() else { return Ok(self.state.size()) };
        let order: Vec<_> = self.state.groups().iter().map(|group| group.uuid).collect();
        let mut undo = Vec::new();
        let made = before.iter().try_for_each(|change| {
            undo.push(self.state.apply(change.clone())?);
            Ok(())
        });
        let outcome = made.and_then(|()| self.state.check(last));
        for change in undo.into_iter().rev() {
            self.state.apply(change)?;
        }
        self.state.reorder(&order);
        outcome
    }

    /// Writes an entry and then changes the state in memory; with `rollback=strict` the entry names the next step. Gives what takes
    /// the changes back.
    async fn write(&mut self, mut changes: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        let strict = self.mode == Rollback::Strict && !matches!(changes[..], [Change::AnchorValue(_)]);
        if strict {
            changes.extend(self.next_value());
        }
        let entry = Change::to_entry(&changes);
        if !self.journal.fits(entry.len()) {
            self.journal.checkpoint(None, self.state.parts(), &mut self.rng).await?;
        }
        // Marked before the first byte goes out: a wait that is given up leaves the same doubt as an error.
        self.in_doubt = true;
        self.journal.append(&entry, &mut self.rng).await?;
        self.in_doubt = false;
        self.behind |= strict;
        let mut undo = Vec::new();
        for change in changes {
            let back = self.state.apply(change)?;
            // The counter does not go back.
            if !matches!(back, Change::AnchorValue(_)) {
                undo.insert(0, back);
            }
        }
        Ok(undo)
    }

    /// Makes it certain that what failed before was not done.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.behind && self.mode == Rollback::Strict {
            self.catch_up().await?;
        }
        if !self.undo.is_empty() {
            self.write(self.undo.clone()).await?;
            self.undo = Vec::new();
            self.make().await?;
        }
        if self.in_doubt {
            self.write(Vec::new()).await?;
            if self.behind && self.mode == Rollback::Strict {
                self.make().await?;
            }
        }
        Ok(())
    }

    /// The step that an entry has just announced.
    async fn make(&mut self) -> Result<(), StoreError> {
        if let (Some(counter), Some(anchor)) = (&self.counter, self.state.anchor()) {
            make(counter, anchor.value).await?;
        }
        self.behind = false;
        Ok(())
    }

    /// A step that was announced, and perhaps made.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        if let (Some(counter), Some(anchor)) = (&self.counter, self.state.anchor()) {
            catch_up(counter, anchor.value).await?;
        }
        self.behind = false;
        Ok(())
    }
}
