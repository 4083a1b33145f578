//! The vault in its place, and what it holds.

use crate::disk::FileDisk;
use crate::home::{Home, Lock, Place};
use crate::kept::{Kept, Secret};
use crate::ready::ready;
use anyhow::{Context, Result, anyhow, bail};
use tpm_crypto::Drbg;
use tpm_wire::durable::Keeper;
use vault::{Content, Expect, Kind, Over, Owner, Vault, VaultKey, probe};
use zeroize::Zeroizing;

/// The vault's owner. There is one TPM in a place, so it needs no UUID of its own.
const OWNER: Owner = Owner { kind: Kind::Vtpm, uuid: [0; 16] };

/// State at rest, locked against a second program.
pub struct Storage {
    key: VaultKey,
    rng: Drbg,
    disk: FileDisk,
    vault: Option<Vault<FileDisk>>,
    kept: Option<Kept>,
    _lock: Lock,
}

impl Storage {
    /// Opens what lies at `place`. A state that does not open is refused and left as it is.
    pub fn open(place: &Place, key: Option<&VaultKey>, mode: u32) -> Result<Self> {
        let Home { key, disk, lock } = Home::open(place, key, mode)?;
        let rng = generator(b"vtpm-host")?;
        let (vault, kept) = match ready(probe(&disk))? {
            Content::Blank => (None, None),
            Content::Vault(header) if header.unfinished => (None, None),
            Content::Vault(_) | Content::Foreign => {
                let (vault, bytes) = ready(Vault::open(disk.clone(), OWNER, &key, Expect::Newest))?;
                (Some(vault), Some(Kept::decode(bytes)?))
            }
        };
        Ok(Self { key, rng, disk, vault, kept, _lock: lock })
    }

    /// What is durable, if there ever was a TPM here.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Makes `kept` durable in place of [`Self::kept`].
    pub fn write(&mut self, kept: Kept) -> Result<()> {
        let bytes = kept.encode();
        match &mut self.vault {
            Some(vault) => {
                let generation = ready(vault.write(&bytes, &mut self.rng)).context("the state is not written")?;
                vault.confirm(generation);
            }
            None => {
                // What lies there, if anything, is a creation that was cut off: no state was ever acknowledged.
                let over = Over::UnfinishedCreation;
                let disk = self.disk.clone();
                let made = ready(Vault::create(disk, OWNER, &self.key, &[], &bytes, over, &mut self.rng));
                self.vault = Some(made.context("the state is not written")?.0);
            }
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Takes the stored volatile state away, if there is one.
    pub fn forget_volatile(&mut self) -> Result<()> {
        match &self.kept {
            Some(Kept { engine, volatile: Some(_) }) => self.write(Kept { engine: engine.clone(), volatile: None }),
            _ => Ok(()),
        }
    }

    /// Stores a volatile state beside the permanent one.
    pub fn store_volatile(&mut self, volatile: Secret) -> Result<()> {
        let Some(kept) = &self.kept else { bail!("there is no permanent state that a volatile one could belong to") };
        self.write(Kept { engine: kept.engine.clone(), volatile: Some(volatile) })
    }
}

impl Keeper for Storage {
    type Error = anyhow::Error;

    async fn keep(&mut self, engine: Secret) -> Result<()> {
        self.write(Kept { engine, volatile: None })
    }
}

/// A generator seeded by the kernel.
pub fn generator(personal: &[u8]) -> Result<Drbg> {
    let mut seed = Zeroizing::new([0; Drbg::ENTROPY_MIN]);
    getrandom::fill(&mut seed[..]).map_err(|error| anyhow!("the kernel gives no random bytes: {error}"))?;
    Ok(Drbg::new(&seed[..], personal)?)
}
