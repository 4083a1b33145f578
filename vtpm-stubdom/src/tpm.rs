//! What a vTPM asks of its engine beyond executing commands.

use crate::args::Startup;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::Drbg;
use tpm_wire::{Engine, Progress};
use zeroize::Zeroizing;

/// What the operator's arguments say to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineOptions {
    /// Whether the maintenance ordinals exist.
    pub maintenance_commands: bool,
}

/// A state that the engine refuses, in the engine's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadError(pub String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for LoadError {}

/// Why the service answers in the engine's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The change could not be made durable.
    Failure,
    /// A locality that guests do not have.
    BadLocality,
}

/// A quote of the hardware TPM that a command waits for (Xen's `TPM_DeepQuote` and `TPM_ParentSignEK`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentRequest {
    /// What is signed along.
    pub nonce: [u8; 20],
    /// `TPM_PCR_SELECTION` of the hardware TPM's PCRs: 16-bit size and bit map.
    pub selection: Vec<u8>,
    /// What else the manager is to vouch for.
    pub flags: u32,
}

/// An engine that can be a guest's TPM. Between [`Self::load`] or its manufacture and the first [`Self::init`] or
/// [`Self::resume_volatile`] no command is executed.
pub trait GuestTpm: Engine + Sized {
    /// The byte that stands for this engine in the saved state; fixed for ever.
    const KIND: u8;

    /// A manufacture under way.
    type Manufacture;

    /// Begins to make a new TPM, with an endorsement key of its own.
    fn manufacture(rng: Drbg, options: EngineOptions) -> Self::Manufacture;

    /// Goes on with the manufacture for a few milliseconds. The first [`Engine::staged`] of the TPM is its whole state.
    fn step(making: &mut Self::Manufacture) -> Option<Self>;

    /// The TPM of which `state` is the last committed state.
    fn load(state: &[u8], rng: Drbg, options: EngineOptions) -> Result<Self, LoadError>;

    /// Power-on and start for a new guest (TPM_Init, TPM_Startup): volatile state is gone, PCRs are at their reset values.
    /// [`Startup::Save`] starts as `Clear`; what was saved comes by [`Self::resume_volatile`].
    fn init(&mut self, startup: Startup);

    /// Tells the time, before each command: microseconds of a clock that does not go backwards.
    fn set_time(&mut self, now_us: u64);

    /// Sets a PCR of a guest that has not begun to run commands.
    fn set_pcr(&mut self, index: u32, value: &[u8; 20]);

    /// PCRs, sessions and whatever else lives as long as the guest, for [`Self::resume_volatile`].
    fn save_volatile(&mut self) -> Zeroizing<Vec<u8>>;

    /// Puts back what [`Self::save_volatile`] gave. After an error the volatile state is as after [`Self::init`].
    fn resume_volatile(&mut self, volatile: &[u8]) -> Result<(), LoadError>;

    /// What a command that is [`Progress::Working`] needs from the manager. Until [`Self::answer_parent_request`]
    /// [`Engine::resume`] gets nowhere. `None`, always, from an engine that has no such commands.
    fn parent_request(&self) -> Option<ParentRequest> {
        None
    }

    /// The manager's answer to [`Self::parent_request`], without its header; `None` if there is none: the command fails.
    fn answer_parent_request(&mut self, answer: Option<&[u8]>, response: &mut Vec<u8>) -> Progress {
        let _ = answer;
        self.resume(response)
    }

    /// A whole response that says why the engine was not asked, in this TPM family's form.
    fn rejection(reason: Rejection) -> [u8; 10];
}
