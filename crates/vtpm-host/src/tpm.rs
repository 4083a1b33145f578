//! The engine with its state: a change is durable before its answer goes out.

use crate::disk::FileDisk;
use crate::home::{Home, Lock};
use crate::options::Start;
use crate::ready::ready;
use anyhow::{Context, Result, anyhow};
use std::time::Instant;
use tpm_crypto::Drbg;
use tpm_wire::{Engine, Progress, ResponseHeader, v12::TAG_RSP_COMMAND};
use tpm12::{Options, StartupType, Tpm12};
use vault::{Content, Expect, Kind, Over, Owner, Vault, probe};
use zeroize::Zeroizing;

/// The vault's owner in a state folder. There is one TPM in a folder, so it needs no UUID of its own.
const OWNER: Owner = Owner { kind: Kind::Vtpm, uuid: [0; 16] };
/// `TPM_FAIL` (part 2, section 16).
const FAIL: u32 = 9;

/// A TPM in a state folder.
pub struct Tpm {
    engine: Tpm12,
    vault: Vault<FileDisk>,
    rng: Drbg,
    response: Vec<u8>,
    began: Instant,
    _lock: Lock,
}

impl Tpm {
    /// Opens the TPM of a state folder, makes it if the folder never had one, and starts it.
    pub fn open(home: Home, options: Options, start: Start) -> Result<Self> {
        let Home { key, disk, lock } = home;
        let mut rng = generator(b"vtpm-host")?;
        let content = ready(probe(&disk))?;
        let unfinished = matches!(&content, Content::Vault(header) if header.unfinished);
        let (mut engine, vault) = if content == Content::Blank || unfinished {
            log::info!("making a new TPM 1.2");
            let mut manufacture = Tpm12::manufacture(generator(b"engine")?, options);
            let mut engine = loop {
                if let Some(engine) = manufacture.step() {
                    break engine;
                }
            };
            let state = engine.staged().context("a new engine has no state to keep")?;
            let over = if unfinished { Over::UnfinishedCreation } else { Over::Blank };
            let (vault, _) = ready(Vault::create(disk, OWNER, &key, &[], &state, over, &mut rng))?;
            engine.committed();
            (engine, vault)
        } else {
            let (vault, state) = ready(Vault::open(disk, OWNER, &key, Expect::Newest))?;
            (Tpm12::load(&state, generator(b"engine")?, options)?, vault)
        };
        let kind = match start {
            Start::Clear => Some(StartupType::Clear),
            Start::State => Some(StartupType::State),
            Start::Deactivated => Some(StartupType::Deactivated),
            Start::ByClient => None,
        };
        if let Some(kind) = kind {
            engine.startup(kind).context("startup-state")?;
        }
        let mut tpm = Self { engine, vault, rng, response: Vec::new(), began: Instant::now(), _lock: lock };
        tpm.keep()?;
        Ok(tpm)
    }

    /// Executes a command and returns its response. A change that can't be made durable is undone and answered `TPM_FAIL`.
    pub fn execute(&mut self, command: &[u8]) -> &[u8] {
        self.engine.set_time(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX));
        let mut progress = self.engine.execute(0, command, &mut self.response);
        while progress == Progress::Working {
            progress = self.engine.resume(&mut self.response);
        }
        if let Err(error) = self.keep() {
            log::error!("a command failed, its change is not made: {error:#}");
            self.response.clear();
            self.response.extend_from_slice(&ResponseHeader::bare(TAG_RSP_COMMAND, FAIL));
        }
        &self.response
    }

    fn keep(&mut self) -> Result<()> {
        let Some(state) = self.engine.staged() else { return Ok(()) };
        match ready(self.vault.write(&state, &mut self.rng)) {
            Ok(generation) => {
                self.vault.confirm(generation);
                self.engine.committed();
                Ok(())
            }
            Err(error) => {
                self.engine.discard();
                Err(error.into())
            }
        }
    }
}

/// A generator seeded by the kernel.
fn generator(personal: &[u8]) -> Result<Drbg> {
    let mut seed = Zeroizing::new([0; Drbg::ENTROPY_MIN]);
    getrandom::fill(&mut seed[..]).map_err(|error| anyhow!("the kernel gives no random bytes: {error}"))?;
    Ok(Drbg::new(&seed[..], personal)?)
}
