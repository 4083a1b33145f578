//! The TPM 1.2 engine as a guest's TPM.

use crate::args::Startup;
use crate::tpm::{EngineOptions, GuestTpm, LoadError, Rejection};
use alloc::string::ToString;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::ResponseHeader;
use tpm_wire::v12::TAG_RSP_COMMAND;
use tpm12::{Manufacture, Options, StartupType, StateError, Tpm12};
use zeroize::Zeroizing;

/// TPM Main, part 2, section 16.
const FAIL: u32 = 9;
const BAD_LOCALITY: u32 = 0x3d;

impl GuestTpm for Tpm12 {
    const KIND: u8 = 1;
    type Manufacture = Manufacture;

    fn manufacture(rng: Drbg, options: EngineOptions) -> Manufacture {
        Self::manufacture(rng, options.into())
    }

    fn step(making: &mut Manufacture) -> Option<Self> {
        making.step()
    }

    fn load(state: &[u8], rng: Drbg, options: EngineOptions) -> Result<Self, LoadError> {
        Self::load(state, rng, options.into()).map_err(LoadError::from)
    }

    fn init(&mut self, startup: Startup) {
        self.reset_for_new_guest();
        if startup == Startup::Deactivated {
            // Only a start from a saved state can fail.
            let _ = self.startup(StartupType::Deactivated);
        }
    }

    fn set_time(&mut self, now_us: u64) {
        Self::set_time(self, now_us);
    }

    fn set_pcr(&mut self, index: u32, value: &[u8; 20]) {
        // The arguments allow only indices that the engine has.
        let _ = Self::set_pcr(self, index, *value);
    }

    fn save_volatile(&mut self) -> Zeroizing<Vec<u8>> {
        Self::save_volatile(self)
    }

    fn resume_volatile(&mut self, volatile: &[u8]) -> Result<(), LoadError> {
        self.restore_volatile(volatile).map_err(LoadError::from)
    }

    fn rejection(reason: Rejection) -> [u8; 10] {
        let code = match reason {
            Rejection::Failure => FAIL,
            Rejection::BadLocality => BAD_LOCALITY,
        };
        ResponseHeader::bare(TAG_RSP_COMMAND, code)
    }
}

impl From<EngineOptions> for Options {
    fn from(options: EngineOptions) -> Self {
        Self { maintenance_commands: options.maintenance_commands }
    }
}

impl From<StateError> for LoadError {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}
