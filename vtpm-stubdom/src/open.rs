//! Opening the vTPM, creating it, or refusing: what the manager's record and the disk say together.
//!
//! | record at the manager | disk | done |
//! |---|---|---|
//! | none | blank | created |
//! | none | vault of this UUID, or unfinished one | refused: the manager does not know the key |
//! | creation under way (sequence 0) | blank | created, with the recorded key |
//! | creation under way | unfinished vault of this UUID, or first state under the same key | created again |
//! | creation under way | finished vault of this UUID | refused (the manager's disk is older): in use, or made with another key |
//! | key and state | vault of this UUID | opened at exactly that state; wrong key, damaged, rolled back: refused |
//! | key and state | blank | refused: wrong disk |
//! | any | vault of another UUID or of a manager | refused: belongs to another |
//! | any | vault of a newer format | refused: use the newer software |
//! | any | anything else | refused: not a vault |
//! | of the C vTPM | any | refused |
//! | any | I/O error, read-only, too small | refused with that |
//!
//! A refused disk is not written to.

use crate::args::{Options, Startup};
use crate::manager::{Link, Manager, Record};
use crate::refusal::Refusal;
use crate::saved::Saved;
use crate::store::Store;
use crate::tpm::{EngineOptions, GuestTpm};
use crate::wait::{Stopped, Waits};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use vault::{Content, Expect, Generation, Kind, Over, Owner, Vault, VaultError, VaultKey, probe};
use xen_abi::BlockDevice;

/// What is to be done.
pub enum Plan {
    /// Make a key and a TPM.
    Create,
    /// Make a TPM under the key of a creation that was cut off.
    CreateAgain(VaultKey),
    /// Open the vault.
    Open(VaultKey, Generation),
}

/// The table above, as far as it can be decided without the key.
pub fn plan(record: Record, content: &Content, owner: Owner) -> Result<Plan, Refusal> {
    match content {
        Content::Foreign => return Err(VaultError::Foreign.into()),
        Content::Vault(header) if header.owner != owner => {
            return Err(VaultError::OtherOwner { found: header.owner }.into());
        }
        Content::Vault(_) | Content::Blank => {}
    }
    let blank = *content == Content::Blank;
    match record {
        Record::Legacy => Err(Refusal::LegacyRecord),
        Record::Unknown if blank => Ok(Plan::Create),
        Record::Unknown => Err(Refusal::UnknownToManager),
        Record::Creating(key) => Ok(Plan::CreateAgain(key)),
        Record::Known(..) if blank => Err(Refusal::BlankDisk),
        Record::Known(key, generation) => Ok(Plan::Open(key, generation)),
    }
}

/// What a vTPM needs to be opened.
pub struct Opening<'a, L, B> {
    /// The manager.
    pub manager: Manager<'a, L>,
    /// The disk.
    pub disk: B,
    /// Our UUID.
    pub uuid: [u8; 16],
    /// The arguments.
    pub options: Options,
    /// Seeded.
    pub rng: Drbg,
    /// Time, and the request to stop.
    pub waits: &'a Waits<'a>,
}

impl<'a, L: Link, B: BlockDevice> Opening<'a, L, B> {
    /// Opens or creates the vTPM: the engine, not yet started, and the store that keeps it.
    pub async fn open<T: GuestTpm>(self) -> Result<(T, Store<'a, L, B>), Refusal> {
        let owner = Owner { kind: Kind::Vtpm, uuid: self.uuid };
        let record = self.manager.record().await?;
        let content = probe(&self.disk).await?;
        match plan(record, &content, owner)? {
            Plan::Open(key, generation) => self.load(owner, key, generation).await,
            Plan::Create => {
                let mut opening = self;
                let key = VaultKey::random(&mut opening.rng);
                // First the record: a disk whose key nobody knows must never exist.
                opening.manager.keep(&Record::creating(&key)).await?;
                opening.create(owner, key, Over::Blank).await
            }
            Plan::CreateAgain(key) => {
                log::info!(target: "vtpm", "An earlier creation of this vTPM was cut off; starting over");
                self.create(owner, key, Over::UnfinishedCreation).await
            }
        }
    }

    async fn load<T: GuestTpm>(
        mut self,
        owner: Owner,
        key: VaultKey,
        generation: Generation,
    ) -> Result<(T, Store<'a, L, B>), Refusal> {
        let (vault, bytes) = Vault::open(self.disk, owner, &key, Expect::Exactly(generation)).await?;
        let saved = Saved::decode(&bytes, T::KIND).map_err(Refusal::Saved)?;
        if self.options.startup == Startup::Save && saved.volatile.is_none() {
            return Err(Refusal::NothingSaved);
        }
        let tpm =
            T::load(&saved.engine, child(&mut self.rng), engine_options(&self.options)).map_err(Refusal::Engine)?;
        log::info!(target: "vtpm", "Opened the vTPM at state {}", generation.sequence);
        Ok((tpm, Store::new(vault, self.manager, key, saved, self.rng)))
    }

    async fn create<T: GuestTpm>(
        mut self,
        owner: Owner,
        key: VaultKey,
        over: Over,
    ) -> Result<(T, Store<'a, L, B>), Refusal> {
        if self.options.startup == Startup::Save {
            return Err(Refusal::NothingSaved);
        }
        log::info!(target: "vtpm", "Creating a new vTPM; its endorsement key takes a while");
        let mut making = T::manufacture(child(&mut self.rng), engine_options(&self.options));
        let mut tpm = loop {
            if let Some(tpm) = T::step(&mut making) {
                break tpm;
            }
            self.waits.next_turn().await;
        };
        let engine = tpm.staged().unwrap_or_default();
        let saved = Saved { engine_kind: T::KIND, open: None, earlier: Vec::new(), volatile: None, engine };
        let (vault, generation) =
            Vault::create(self.disk, owner, &key, &[], &saved.encode(), over, &mut self.rng).await?;
        let record = Record::encode(&key, generation);
        self.manager.keep_by_all_means(&record).await.map_err(|Stopped| crate::manager::ManagerError::Stopped)?;
        tpm.committed();
        log::info!(target: "vtpm", "Created the vTPM");
        Ok((tpm, Store::new(vault, self.manager, key, saved, self.rng)))
    }
}

fn engine_options(options: &Options) -> EngineOptions {
    EngineOptions { maintenance_commands: options.maintenance_commands }
}

/// A generator of the engine's own.
fn child(rng: &mut Drbg) -> Drbg {
    let seed = zeroize::Zeroizing::new(rng.bytes::<{ Drbg::ENTROPY_MIN }>());
    // Cannot fail: the seed has the length that is asked for.
    Drbg::new(&seed[..], b"engine").unwrap_or_else(|_| unreachable!("a seed of ENTROPY_MIN bytes"))
}
