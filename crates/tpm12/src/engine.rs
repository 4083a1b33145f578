//! The engine as its owner sees it.

use crate::Options;
use crate::dispatch::{self, Outcome};
use crate::state::permanent::Permanent;
use crate::state::volatile::Volatile;
use crate::state::{StateError, load_permanent, load_volatile, store_permanent, store_volatile};
use crate::tpm::Tpm;
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::Drbg;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen, RsaPrivate};
use tpm_wire::{Engine, Progress};
use zeroize::Zeroizing;

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

/// A command that waits for a key.
struct Pending {
    locality: u8,
    command: Zeroizing<Vec<u8>>,
    generation: KeyGen,
}

/// A TPM 1.2.
pub struct Tpm12 {
    tpm: Tpm,
    /// The state that the owner has made durable.
    committed: Zeroizing<Vec<u8>>,
    /// A newer state that it has not.
    staged: Option<Zeroizing<Vec<u8>>>,
    pending: Option<Pending>,
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
        Some(Tpm12 { tpm: Tpm::new(permanent, rng, self.options), committed, staged, pending: None })
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
        Ok(Self { tpm: Tpm::new(permanent, rng, options), committed, staged: None, pending: None })
    }

    /// Tells the time: microseconds of any clock that does not go backwards. Ticks and the dictionary attack defence need it.
    pub fn set_time(&mut self, now_us: u64) {
        self.tpm.now = self.tpm.now.max(now_us);
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
        self.tpm.now = self.tpm.now.max(volatile.tick_start);
        self.tpm.volatile = volatile;
        Ok(())
    }

    fn run(
        &mut self,
        locality: u8,
        command: Zeroizing<Vec<u8>>,
        key: Option<RsaPrivate>,
        out: &mut Vec<u8>,
    ) -> Progress {
        match dispatch::run(&mut self.tpm, locality, &command, key, None) {
            Outcome::Response(response) => {
                out.clear();
                out.extend_from_slice(&response);
                self.stage();
                Progress::Done
            }
            Outcome::NeedsKey { bits, exponent } => match KeyGen::new(bits as usize, exponent) {
                Ok(generation) => {
                    self.pending = Some(Pending { locality, command, generation });
                    Progress::Working
                }
                Err(_) => {
                    out.clear();
                    out.extend_from_slice(&dispatch::error_response(crate::codes::BAD_KEY_PROPERTY));
                    Progress::Done
                }
            },
        }
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

    /// As a TPM whose manufacturer left the endorsement key to its user.
    pub(crate) fn forget_endorsement_key(&mut self) {
        self.tpm.permanent.edit().ek = None;
    }
}

impl Engine for Tpm12 {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
        self.cancel();
        self.run(locality, Zeroizing::new(command.to_vec()), None, response)
    }

    fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
        let Some(pending) = &mut self.pending else {
            response.clear();
            response.extend_from_slice(&dispatch::error_response(crate::codes::FAIL));
            return Progress::Done;
        };
        let Some(key) = pending.generation.step(&mut self.tpm.rng) else {
            return Progress::Working;
        };
        match self.pending.take() {
            Some(Pending { locality, command, generation: _ }) => self.run(locality, command, Some(key), response),
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
        let permanent = load_permanent(&self.committed).expect("what was stored by this program loads");
        self.tpm.permanent = crate::state::Tracked::new(permanent);
        self.tpm.drop_orphans();
    }
}
