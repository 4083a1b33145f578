//! The engine as its owner sees it.

use crate::Options;
use crate::call::ParentQuote;
use crate::dispatch::{self, Outcome, Supplies};
use crate::state::permanent::Permanent;
use crate::state::volatile::Volatile;
use crate::state::{StateError, Tracked, load_permanent, load_volatile, store_permanent, store_volatile};
use crate::tpm::Tpm;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::Drbg;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen};
use tpm_wire::{Engine, Progress};
use zeroize::Zeroizing;

mod platform;
pub use platform::PlatformError;

/// Bits of the endorsement key that a TPM is made with.
const EK_BITS: usize = 2048;

/// `TPM_STARTUP_TYPE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartupType {
    /// `TPM_ST_CLEAR`: a fresh start.
    Clear,
    /// `TPM_ST_STATE`: go on from what `TPM_SaveState` kept.
    State,
    /// `TPM_ST_DEACTIVATED`: start, but deactivated until the next start.
    Deactivated,
}

/// `TPM_ST_STATE` was asked for, but no `TPM_SaveState` came before the last stop, or something came after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSavedState;

impl fmt::Display for NoSavedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no saved TPM state to start from: start with \"clear\"")
    }
}

impl core::error::Error for NoSavedState {}

/// A PCR index of 24 or above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSuchPcr;

impl fmt::Display for NoSuchPcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a TPM 1.2 has PCRs 0 to 23")
    }
}

impl core::error::Error for NoSuchPcr {}

/// A command that waits for something.
struct Pending {
    locality: u8,
    command: Zeroizing<Vec<u8>>,
    need: Need,
}

/// What for.
enum Need {
    Key(Box<KeyGen>),
    Parent(ParentQuote),
}

fn respond_with(code: crate::codes::Code, response: &mut Vec<u8>) -> Progress {
    response.clear();
    response.extend_from_slice(&dispatch::error_response(code));
    Progress::Done
}

/// A TPM 1.2.
pub struct Tpm12 {
    tpm: Tpm,
    /// The state that the owner has made durable.
    committed: Zeroizing<Vec<u8>>,
    /// A newer state that it has not.
    staged: Option<Zeroizing<Vec<u8>>>,
    pending: Option<Pending>,
    /// The TPM's clock less its owner's: a restored TPM's time goes on where it was saved.
    clock_offset: u64,
}

/// A TPM in the making: its endorsement key takes a while.
pub struct Manufacture {
    rng: Option<Drbg>,
    options: Options,
    generation: KeyGen,
}

impl Manufacture {
    /// Works for a few milliseconds. The TPM when it is made; after that, `None` for ever.
    pub fn step(&mut self) -> Option<Tpm12> {
        let ek = self.generation.step(self.rng.as_mut()?)?;
        let mut rng = self.rng.take()?;
        let permanent = Permanent::manufacture(&mut rng, ek);
        let committed = store_permanent(&permanent);
        let staged = Some(committed.clone());
        let tpm = Tpm { new_endorsement_key: true, ..Tpm::new(permanent, rng, self.options) };
        Some(Tpm12 { tpm, committed, staged, pending: None, clock_offset: 0 })
    }
}

impl Tpm12 {
    /// Starts to make a new TPM with a 2048-bit endorsement key of its own, enabled, activated and without an owner. Its first
    /// state is staged when it is there. It is not started.
    #[must_use]
    pub fn manufacture(rng: Drbg, options: Options) -> Manufacture {
        let generation = KeyGen::new(EK_BITS, DEFAULT_EXPONENT).expect("2048 bits is a size that RSA keys have");
        Manufacture { rng: Some(rng), options, generation }
    }

    /// The TPM with this permanent state, not started.
    pub fn load(state: &[u8], rng: Drbg, options: Options) -> Result<Self, StateError> {
        let permanent = load_permanent(state)?;
        let committed = Zeroizing::new(state.to_vec());
        Ok(Self { tpm: Tpm::new(permanent, rng, options), committed, staged: None, pending: None, clock_offset: 0 })
    }

    /// Tells the time: microseconds of any clock that does not go backwards. Ticks and the dictionary attack defence need it.
    pub fn set_time(&mut self, now_us: u64) {
        let now = now_us.saturating_add(self.clock_offset);
        self.tpm.volatile.now = self.tpm.volatile.now.max(now);
    }

    /// `TPM_Startup` by the platform. A `TPM_Startup` that the guest sends afterwards gets `TPM_INVALID_POSTINIT`.
    pub fn startup(&mut self, kind: StartupType) -> Result<(), NoSavedState> {
        self.tpm.startup(kind).map_err(|_| NoSavedState)?;
        self.stage();
        Ok(())
    }

    /// `TPM_Init` and `TPM_Startup(ST_CLEAR)`, as the reset of the machine does for a hardware TPM: PCRs, loaded keys and
    /// sessions are gone, permanent data stays.
    pub fn reset_for_new_guest(&mut self) {
        // Only a start from a saved state can fail.
        let _ = self.reset(StartupType::Clear);
    }

    /// `TPM_Init`, then [`Self::startup`].
    pub fn reset(&mut self, kind: StartupType) -> Result<(), NoSavedState> {
        self.cancel();
        self.tpm.init();
        self.startup(kind)
    }

    /// Gives a PCR a value before service begins.
    pub fn set_pcr(&mut self, index: u32, value: [u8; 20]) -> Result<(), NoSuchPcr> {
        *self.tpm.pcr_mut(index).map_err(|_| NoSuchPcr)? = value;
        Ok(())
    }

    /// The volatile state, for a stop under a living guest. It holds secrets, and is worth nothing without the permanent
    /// state of the same moment.
    #[must_use]
    pub fn save_volatile(&self) -> Zeroizing<Vec<u8>> {
        store_volatile(&self.tpm.volatile)
    }

    /// Goes on with what [`Self::save_volatile`] gave, in place of a start. A hash sequence under way is lost.
    pub fn restore_volatile(&mut self, saved: &[u8]) -> Result<(), StateError> {
        let volatile: Volatile = load_volatile(saved)?;
        self.tpm.hash = None;
        let owners_now = self.tpm.volatile.now.saturating_sub(self.clock_offset);
        self.clock_offset = volatile.now.saturating_sub(owners_now);
        self.tpm.volatile = volatile;
        Ok(())
    }

    /// The quote of the hardware TPM that a command waits for (only with [`Options::parent_quotes`]).
    /// [`Engine::resume`] does nothing until [`Self::answer_parent_request`] was called.
    #[must_use]
    pub fn parent_request(&self) -> Option<&ParentQuote> {
        match &self.pending {
            Some(Pending { need: Need::Parent(quote), .. }) => Some(quote),
            _ => None,
        }
    }

    /// The manager's answer to [`Self::parent_request`], without its header; `None` if there is none: the command fails.
    pub fn answer_parent_request(&mut self, answer: Option<&[u8]>, response: &mut Vec<u8>) -> Progress {
        match (self.pending.take(), answer) {
            (Some(Pending { locality, command, need: Need::Parent(_) }), Some(answer)) => {
                let supplies = Supplies { parent_answer: Some(answer.to_vec()), key: None };
                self.run(locality, command, supplies, response)
            }
            _ => respond_with(crate::codes::FAIL, response),
        }
    }

    fn run(&mut self, locality: u8, command: Zeroizing<Vec<u8>>, supplies: Supplies, out: &mut Vec<u8>) -> Progress {
        let need = match dispatch::run(&mut self.tpm, locality, &command, supplies, None) {
            Outcome::Response(response) => {
                out.clear();
                out.extend_from_slice(&response);
                self.stage();
                return Progress::Done;
            }
            Outcome::NeedsKey { bits, exponent } => match KeyGen::new(bits as usize, exponent) {
                Ok(generation) => Need::Key(Box::new(generation)),
                Err(_) => return respond_with(crate::codes::BAD_KEY_PROPERTY, out),
            },
            Outcome::NeedsParent(quote) => Need::Parent(quote),
        };
        self.pending = Some(Pending { locality, command, need });
        Progress::Working
    }

    fn stage(&mut self) {
        if self.tpm.permanent.take_changed() {
            self.staged = Some(store_permanent(&self.tpm.permanent));
        }
    }
}

#[cfg(test)]
impl Tpm12 {
    /// Presence as its command sets it.
    pub(crate) fn assert_physical_presence(&mut self) {
        self.tpm.volatile.flags.physical_presence = true;
    }

    /// What `TPM_GetTicks` would tell.
    pub(crate) fn tick_nonce(&self) -> [u8; 20] {
        self.tpm.volatile.tick_nonce
    }

    /// What the private part of a loaded key or the storage root key is made of.
    pub(crate) fn prime_of(&self, handle: u32) -> Zeroizing<Vec<u8>> {
        self.tpm.key(handle).ok().unwrap().rsa.prime()
    }

    /// As a TPM whose endorsement key `TPM_CreateRevocableEK` made.
    pub(crate) fn make_endorsement_key_revocable(&mut self, reset: [u8; 20]) {
        let permanent = self.tpm.permanent.edit();
        permanent.flags.enable_revoke_ek = true;
        permanent.ek_reset = Zeroizing::new(reset);
    }

    /// As if no authorization had ever failed.
    pub(crate) fn forgive(&mut self) {
        self.tpm.end_lockout();
    }

    /// As a TPM whose manufacturer left the endorsement key to its user.
    pub(crate) fn forget_endorsement_key(&mut self) {
        self.tpm.permanent.edit().ek = None;
    }
}

impl Engine for Tpm12 {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
        self.cancel();
        self.run(locality, Zeroizing::new(command.to_vec()), Supplies::default(), response)
    }

    fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
        let generation = match &mut self.pending {
            Some(Pending { need: Need::Key(generation), .. }) => generation,
            Some(_) => return Progress::Working,
            None => return respond_with(crate::codes::FAIL, response),
        };
        let Some(key) = generation.step(&mut self.tpm.rng) else {
            return Progress::Working;
        };
        match self.pending.take() {
            Some(Pending { locality, command, .. }) => {
                self.run(locality, command, Supplies { key: Some(key), parent_answer: None }, response)
            }
            None => Progress::Working,
        }
    }

    fn cancel(&mut self) {
        self.pending = None;
    }

    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.staged.clone()
    }

    fn committed(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.committed = staged;
        }
    }

    fn discard(&mut self) {
        self.staged = None;
        self.cancel();
        match load_permanent(&self.committed) {
            Ok(permanent) => self.tpm.permanent = Tracked::new(permanent),
            // It was loaded or written by this very program; should it not load, nothing that follows can be trusted.
            Err(_) => self.tpm.volatile.failed = true,
        }
        self.tpm.drop_orphans();
    }
}
