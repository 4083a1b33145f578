//! A TPM's life: power, commands, and moving to another host. Every change is durable before it is acknowledged.

use crate::blob::{self, Kind, MigrationKey};
use crate::home::Place;
use crate::kept::{Kept, Secret, check_length};
use crate::ready::ready;
use crate::storage::{Storage, generator};
use anyhow::{Context, Result, anyhow, ensure};
use std::time::{Duration, Instant};
use tpm_crypto::Drbg;
use tpm_wire::durable::{self, Outcome, Turn};
use tpm_wire::{ResponseHeader, v12::TAG_RSP_COMMAND};
use tpm12::{Options, StartupType, Tpm12};
use vault::VaultKey;

/// `TPM_FAIL` (part 2, section 16).
pub const FAIL: u32 = 9;
const BAD_PARAMETER: u32 = 3;
const BAD_PARAM_SIZE: u32 = 25;
const BAD_VERSION: u32 = 46;

/// Where the state lies, and how it is protected there and on the way.
pub struct Keeping {
    /// `--tpmstate`.
    pub place: Place,
    /// File mode bits of new state files.
    pub mode: u32,
    /// `--key`.
    pub key: Option<VaultKey>,
    /// `--migration-key`.
    pub migration_key: Option<MigrationKey>,
    /// `--migration incoming`: the place is opened and locked when the first state comes in, or INIT does.
    pub incoming: bool,
    /// `--migration release-lock-outgoing`: the place is let go of when all state went out.
    pub release: bool,
}

/// The one who starts the TPM, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// INIT on the control channel, then `TPM_Startup` by a client.
    ByControl,
    /// The program switches the TPM on; a client sends `TPM_Startup`.
    ByClient,
    /// The program, with this `TPM_Startup`.
    Now(StartupType),
}

/// A refusal: the return code for the control channel, and what the log says.
#[derive(Debug)]
pub struct Refused {
    /// A TPM return code.
    pub code: u32,
    /// In words.
    pub reason: anyhow::Error,
}

impl From<anyhow::Error> for Refused {
    fn from(reason: anyhow::Error) -> Self {
        Self { code: FAIL, reason }
    }
}

/// A TPM and its state.
pub struct Tpm {
    keeping: Keeping,
    options: Options,
    /// Held as long as the state is ours.
    storage: Option<Storage>,
    /// What was durable when the storage was let go of.
    released: Option<Kept>,
    engine: Option<Tpm12>,
    running: bool,
    /// The locality of the commands that come next: 0 to 4.
    pub locality: u8,
    response: Vec<u8>,
    began: Instant,
    /// Nonces of sealed blobs.
    rng: Drbg,
}

impl Tpm {
    /// Opens the place, unless state is to come in first.
    pub fn open(keeping: Keeping, options: Options) -> Result<Self> {
        let mut tpm = Self {
            options,
            storage: None,
            released: None,
            engine: None,
            running: false,
            locality: 0,
            response: Vec::new(),
            began: Instant::now(),
            rng: generator(b"vtpm-host blobs")?,
            keeping,
        };
        if !tpm.keeping.incoming {
            tpm.hold()?;
        }
        Ok(tpm)
    }

    /// Does what `start` says.
    pub fn start(&mut self, start: Start) -> Result<()> {
        let kind = match start {
            Start::ByControl => return Ok(()),
            Start::ByClient => None,
            Start::Now(kind) => Some(kind),
        };
        self.power_on(false).map_err(|refused| refused.reason)?;
        let (Some(engine), Some(storage), Some(kind)) = (&mut self.engine, &mut self.storage, kind) else {
            return Ok(());
        };
        if engine.is_started() {
            log::info!("the TPM goes on from its stored volatile state");
            return Ok(());
        }
        engine.startup(kind).context("startup-state")?;
        ready(durable::keep(engine, storage))
    }

    /// Whether commands are executed.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether `--migration-key` was given.
    pub fn has_migration_key(&self) -> bool {
        self.keeping.migration_key.is_some()
    }

    /// Whether `--key` was given.
    pub fn has_key(&self) -> bool {
        self.keeping.key.is_some()
    }

    /// The storage, opened and locked if it is not.
    fn hold(&mut self) -> Result<&mut Storage> {
        let storage = match self.storage.take() {
            Some(storage) => storage,
            None => {
                let Keeping { place, key, mode, .. } = &self.keeping;
                let storage = Storage::open(place, key.as_ref(), *mode)?;
                let gone = self.released.take();
                if gone.is_some_and(|gone| storage.kept().is_none_or(|kept| kept.encode() != gone.encode())) {
                    // Somebody else's TPM now: what is in memory here is older.
                    (self.engine, self.running) = (None, false);
                    log::warn!("the state was changed while it was released: the TPM is stopped");
                }
                storage
            }
        };
        Ok(self.storage.insert(storage))
    }

    /// `TPM_Init`: the TPM is made if the place never had one, and goes on from a stored volatile state if there is one.
    /// `consume` takes that away at once; else the next command does.
    pub fn power_on(&mut self, consume: bool) -> Result<(), Refused> {
        self.running = false;
        self.hold()?;
        let storage = self.storage.as_mut().context("the storage was opened")?;
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => match storage.kept() {
                Some(kept) => Tpm12::load(&kept.engine, generator(b"engine")?, self.options)
                    .map_err(|error| Refused { code: FAIL, reason: error.into() })?,
                None => make(storage, self.options)?,
            },
        };
        let engine = self.engine.insert(engine);
        engine.init();
        self.locality = 0;
        if let Some(volatile) = storage.kept().and_then(|kept| kept.volatile.as_ref()) {
            engine
                .restore_volatile(volatile)
                .map_err(|error| anyhow!(error).context("the stored volatile state is refused"))?;
            if consume {
                storage.forget_volatile()?;
            }
        }
        self.running = true;
        Ok(())
    }

    /// Power off: what is volatile is lost.
    pub fn stop(&mut self) {
        if self.running {
            self.running = false;
            if let Some(engine) = &mut self.engine {
                engine.init();
            }
        }
    }

    /// A response that says only that the TPM did not do it.
    pub fn failure(&mut self) -> &[u8] {
        self.bare(FAIL)
    }

    /// A response of nothing but a return code.
    pub fn bare(&mut self, code: u32) -> &[u8] {
        self.response.clear();
        self.response.extend_from_slice(&ResponseHeader::bare(TAG_RSP_COMMAND, code));
        &self.response
    }

    /// Executes a command and returns its response. Between the steps of a long one `cancelled` is asked. A command that was
    /// cancelled, whose change can't be made durable, or that comes to a stopped TPM is answered `TPM_FAIL`.
    pub fn execute(&mut self, command: &[u8], mut cancelled: impl FnMut() -> bool) -> &[u8] {
        let (true, Some(engine), Some(storage)) = (self.running, &mut self.engine, &mut self.storage) else {
            return self.failure();
        };
        // A volatile state from before this command must never come back after it.
        if let Err(error) = storage.forget_volatile() {
            log::error!("a command was not executed, the stored volatile state can't be removed: {error:#}");
            return self.failure();
        }
        engine.set_time(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX));
        let turn = async |_: &mut Tpm12, _: &Storage, _: &mut Vec<u8>| {
            if cancelled() { Turn::Cancel } else { Turn::Resume }
        };
        let packet = (self.locality, command);
        match ready(durable::execute(engine, storage, packet, &mut self.response, turn)) {
            Outcome::Answered => &self.response,
            Outcome::Cancelled => {
                log::info!("a command was cancelled");
                self.failure()
            }
            Outcome::NotKept(error) => {
                log::error!("a command failed, its change is not made: {error:#}");
                self.failure()
            }
        }
    }

    /// Something that the platform does to a running TPM. What it stages is made durable.
    pub fn platform(
        &mut self,
        act: impl FnOnce(&mut Tpm12) -> Result<(), tpm12::PlatformError>,
    ) -> Result<(), Refused> {
        let (true, Some(engine), Some(storage)) = (self.running, &mut self.engine, &mut self.storage) else {
            return Err(anyhow!("the TPM is stopped").into());
        };
        storage.forget_volatile()?;
        act(engine).map_err(|error| Refused { code: error.code(), reason: error.into() })?;
        Ok(ready(durable::keep(engine, storage))?)
    }

    /// `tpmEstablished`; false for a TPM that was never switched on.
    pub fn established(&self) -> bool {
        self.engine.as_ref().is_some_and(Tpm12::established)
    }

    /// Stores the volatile state, for the next INIT.
    pub fn store_volatile(&mut self) -> Result<(), Refused> {
        let (true, Some(engine), Some(storage)) = (self.running, &self.engine, &mut self.storage) else {
            return Err(anyhow!("the TPM is stopped").into());
        };
        Ok(storage.store_volatile(engine.save_volatile())?)
    }

    fn kept(&self) -> Option<&Kept> {
        self.storage.as_ref().and_then(Storage::kept).or(self.released.as_ref())
    }

    /// The blob of this kind for another host; empty if there is no such state.
    pub fn blob(&mut self, kind: Kind) -> Result<Secret, Refused> {
        let running = self.engine.as_ref().filter(|_| self.running);
        let state = match kind {
            Kind::Permanent => self.kept().map(|kept| kept.engine.clone()),
            Kind::Volatile => match running {
                Some(engine) => Some(engine.save_volatile()),
                None => self.kept().and_then(|kept| kept.volatile.clone()),
            },
            Kind::SaveState => None,
        };
        let key = self.keeping.migration_key.as_ref();
        Ok(state.map(|state| blob::wrap(kind, &state, key, &mut self.rng)).unwrap_or_default())
    }

    /// All state goes out: with `release-lock-outgoing` the other side may have the storage now.
    pub fn went_out(&mut self) {
        if self.keeping.release && self.storage.is_some() {
            log::info!("the state goes out, its lock is released");
            self.released = self.kept().cloned();
            self.storage = None;
        }
    }

    /// Whether the storage was let go of.
    pub fn is_released(&self) -> bool {
        self.released.is_some()
    }

    /// Takes a blob from another host in place of the state here. The TPM has to be stopped; the state here stays if the blob
    /// is refused.
    pub fn put_blob(&mut self, kind: Kind, blob: &[u8]) -> Result<(), Refused> {
        ensure_stopped(self.running)?;
        check_length(blob.len()).map_err(|reason| Refused { code: BAD_PARAM_SIZE, reason })?;
        if kind == Kind::SaveState && blob.is_empty() {
            return Ok(());
        }
        let key = self.keeping.migration_key.as_ref();
        let state =
            blob::unwrap(kind, blob, key).map_err(|error| Refused { code: error.code(), reason: error.into() })?;
        let refused = |error: tpm12::StateError| {
            let newer = matches!(error, tpm12::StateError::Newer { .. } | tpm12::StateError::NewerLevel { .. });
            Refused { code: if newer { BAD_VERSION } else { BAD_PARAMETER }, reason: error.into() }
        };
        match kind {
            Kind::Permanent => {
                // Whether it loads is asked before anything is touched.
                let engine = Tpm12::load(&state, generator(b"engine")?, self.options).map_err(refused)?;
                self.hold()?.write(Kept { engine: state, volatile: None })?;
                self.engine = Some(engine);
            }
            Kind::Volatile => {
                let permanent = self.hold()?.kept().map(|kept| kept.engine.clone());
                let permanent = permanent.context("a volatile state came before its permanent one")?;
                let mut engine = Tpm12::load(&permanent, generator(b"engine")?, self.options).map_err(refused)?;
                engine.restore_volatile(&state).map_err(refused)?;
                self.hold()?.store_volatile(state)?;
            }
            Kind::SaveState => {
                return Err(anyhow!("a save-state blob that is not empty, which this program never makes").into());
            }
        }
        Ok(())
    }

    /// Locks the storage again after its lock was released, `retries` times 10 ms apart.
    pub fn lock_storage(&mut self, retries: u32) -> Result<(), Refused> {
        /// More than a minute is no use to anybody who waits for the answer.
        const MOST: u32 = 6000;
        let mut left = retries.min(MOST);
        loop {
            match self.hold() {
                Ok(_) => return Ok(()),
                Err(error) if left == 0 => return Err(error.into()),
                Err(_) => left -= 1,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn ensure_stopped(running: bool) -> Result<(), Refused> {
    /// `TPM_BAD_ORDINAL`: as swtpm answers it.
    const BAD_ORDINAL: u32 = 10;
    let stopped = || {
        ensure!(!running, "state comes in while the TPM runs: STOP it first");
        Ok(())
    };
    stopped().map_err(|reason| Refused { code: BAD_ORDINAL, reason })
}

/// Makes a new TPM; its endorsement key takes a while.
fn make(storage: &mut Storage, options: Options) -> Result<Tpm12> {
    log::info!("making a new TPM 1.2");
    let mut manufacture = Tpm12::manufacture(generator(b"engine")?, options);
    let mut engine = loop {
        if let Some(engine) = manufacture.step() {
            break engine;
        }
    };
    ready(durable::keep(&mut engine, storage))?;
    Ok(engine)
}
