//! Making a change durable: vault, then record, then confirmed.

use crate::manager::{Link, Manager, Record};
use crate::saved::Saved;
use crate::wait::Stopped;
use core::fmt;
use tpm_crypto::Drbg;
use vault::{Vault, VaultError, VaultKey};
use xen_abi::BlockDevice;

/// Why a change was not made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The disk did not take it; the state before it stands.
    Vault(VaultError),
    /// The domain is stopping and the manager does not answer: which of the two states stands is seen at the next start.
    Undecided,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(error) => error.fmt(f),
            Self::Undecided => f.write_str("stopping before the manager recorded the new state"),
        }
    }
}

impl core::error::Error for StoreError {}

/// The vTPM's state at rest.
pub struct Store<'a, L, B> {
    vault: Vault<B>,
    manager: Manager<'a, L>,
    key: VaultKey,
    saved: Saved,
    rng: Drbg,
    undecided: bool,
}

impl<'a, L: Link, B: BlockDevice> Store<'a, L, B> {
    /// `saved` is what `vault` holds, and the manager's record names it.
    pub fn new(vault: Vault<B>, manager: Manager<'a, L>, key: VaultKey, saved: Saved, rng: Drbg) -> Self {
        Self { vault, manager, key, saved, rng, undecided: false }
    }

    /// What is durable.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The way to the manager.
    pub fn manager(&self) -> &Manager<'a, L> {
        &self.manager
    }

    /// Makes `next` durable in place of [`Self::saved`].
    pub async fn write(&mut self, next: Saved) -> Result<(), StoreError> {
        if self.undecided {
            // Another write would go over a state that the manager may have recorded.
            return Err(StoreError::Undecided);
        }
        let generation = self.vault.write(&next.encode(), &mut self.rng).await.map_err(StoreError::Vault)?;
        let record = Record::encode(&self.key, generation);
        self.undecided = true;
        self.manager.keep_by_all_means(&record).await.map_err(|Stopped| StoreError::Undecided)?;
        self.undecided = false;
        self.vault.confirm(generation);
        self.saved = next;
        Ok(())
    }
}
