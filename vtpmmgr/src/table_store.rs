//! The records of all vTPMs on the manager's disk.

use crate::records::{Table, TableFull};
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::Drbg;
use vault::{Vault, VaultError};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// Why a record was not saved or loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// There are [`crate::records::MAX_VTPMS`] records already.
    Full,
    /// The disk or the vault on it failed; nothing that was acknowledged is lost.
    Vault(VaultError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "there are records of {} vTPMs, and no room for more", crate::records::MAX_VTPMS),
            Self::Vault(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StoreError {}

impl From<VaultError> for StoreError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<TableFull> for StoreError {
    fn from(_: TableFull) -> Self {
        Self::Full
    }
}

/// The open vault and the records in it.
pub struct Store<B> {
    vault: Vault<B>,
    table: Table,
    rng: Drbg,
    /// A write failed, and nobody knows whether it reached the disk.
    in_doubt: bool,
}

impl<B: BlockDevice> Store<B> {
    /// The records `table`, as they are in `vault`.
    pub const fn new(vault: Vault<B>, table: Table, rng: Drbg) -> Self {
        Self { vault, table, rng, in_doubt: false }
    }

    /// How many vTPMs have a record.
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// The record of a vTPM, if it has one.
    pub async fn load(&mut self, uuid: &[u8; 16]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.settle().await?;
        Ok(self.table.get(uuid).map(|record| Zeroizing::new(record.to_vec())))
    }

    /// Keeps a record of 52 to 64 bytes; it is durable when this returns.
    pub async fn save(&mut self, uuid: &[u8; 16], record: &[u8]) -> Result<(), StoreError> {
        self.settle().await?;
        let table = self.table.with(uuid, record)?;
        // Marked before the first byte goes out: a wait that is given up leaves the same doubt as an error.
        self.in_doubt = true;
        let generation = self.vault.write(table.bytes(), &mut self.rng).await?;
        self.vault.confirm(generation);
        self.table = table;
        self.in_doubt = false;
        Ok(())
    }

    /// After a failed write the disk may hold the old table or the new one, and a restart would show either. A vTPM that was
    /// told of the failure has gone back to its old state, so the old table must be certain before anyone builds on it.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.in_doubt {
            let generation = self.vault.write(self.table.bytes(), &mut self.rng).await?;
            self.vault.confirm(generation);
            self.in_doubt = false;
        }
        Ok(())
    }
}
