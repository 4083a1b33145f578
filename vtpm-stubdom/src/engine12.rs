//! The TPM 1.2 engine as a guest's TPM.

use crate::args::Startup;
use crate::tpm::{EngineOptions, GuestTpm, LoadError, ParentRequest, Rejection};
use alloc::string::ToString;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::v12::TAG_RSP_COMMAND;
use tpm_wire::{Progress, ResponseHeader};
use tpm12::{Manufacture, Options, ParentQuote, StartupType, StateError, Tpm12};
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
        let kind = match startup {
            Startup::Clear | Startup::Save => StartupType::Clear,
            Startup::Deactivated => StartupType::Deactivated,
        };
        // Only a start from a saved state can fail.
        let _ = self.reset(kind);
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

    fn parent_request(&self) -> Option<ParentRequest> {
        let ParentQuote { nonce, selection, flags } = Self::parent_request(self)?.clone();
        Some(ParentRequest { nonce, selection, flags })
    }

    fn answer_parent_request(&mut self, answer: Option<&[u8]>, response: &mut Vec<u8>) -> Progress {
        Self::answer_parent_request(self, answer, response)
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
        Self { maintenance_commands: options.maintenance_commands, parent_quotes: true }
    }
}

impl From<StateError> for LoadError {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::packet;
    use std::vec;
    use tpm_wire::Engine;

    const EXTEND: u32 = 0x14;
    const PCR_READ: u32 = 0x15;
    const STARTUP: u32 = 0x99;
    const GET_RANDOM: u32 = 0x46;

    fn rng() -> Drbg {
        Drbg::new(&[7; 48], b"").unwrap()
    }

    fn made() -> Tpm12 {
        let mut making = <Tpm12 as GuestTpm>::manufacture(rng(), EngineOptions::default());
        loop {
            if let Some(tpm) = <Tpm12 as GuestTpm>::step(&mut making) {
                return tpm;
            }
        }
    }

    fn ask(tpm: &mut Tpm12, ordinal: u32, params: &[u8]) -> (u32, Vec<u8>) {
        let mut response = vec![];
        assert_eq!(tpm.execute(0, &packet(0xc1, ordinal, params), &mut response), Progress::Done);
        let (header, body) = ResponseHeader::parse(&response).unwrap();
        (header.code.get(), body.to_vec())
    }

    fn extend(tpm: &mut Tpm12) -> (u32, Vec<u8>) {
        ask(tpm, EXTEND, &[&[0, 0, 0, 9][..], &[1; 20]].concat())
    }

    #[test]
    fn a_tpm_through_its_lives() {
        let mut tpm = made();
        let state = tpm.staged().expect("a new TPM stages its whole state");
        tpm.committed();
        GuestTpm::init(&mut tpm, Startup::Clear);
        GuestTpm::set_pcr(&mut tpm, 9, &[5; 20]);
        assert_eq!(ask(&mut tpm, PCR_READ, &[0, 0, 0, 9]), (0, vec![5; 20]));
        assert_eq!(ask(&mut tpm, STARTUP, &[0, 1]).0, 38, "the guest's TPM_Startup comes too late");
        let (_, extended) = extend(&mut tpm);
        let volatile = GuestTpm::save_volatile(&mut tpm);

        let mut again = <Tpm12 as GuestTpm>::load(&state, rng(), EngineOptions::default()).unwrap();
        again.resume_volatile(&volatile).unwrap();
        assert_eq!(ask(&mut again, PCR_READ, &[0, 0, 0, 9]), (0, extended));
        GuestTpm::init(&mut again, Startup::Clear);
        assert_eq!(ask(&mut again, PCR_READ, &[0, 0, 0, 9]), (0, vec![0; 20]));
        GuestTpm::init(&mut again, Startup::Deactivated);
        assert_eq!(ask(&mut again, GET_RANDOM, &[0, 0, 0, 4]).0, 6, "deactivated");
        GuestTpm::init(&mut again, Startup::Clear);
        assert_eq!(ask(&mut again, GET_RANDOM, &[0, 0, 0, 4]).0, 0, "and only until the next start");

        assert!(again.resume_volatile(&volatile[1..]).is_err());
        let error = <Tpm12 as GuestTpm>::load(&state[1..], rng(), EngineOptions::default()).err().unwrap();
        assert!(!error.0.is_empty());
    }

    #[test]
    fn rejections_are_whole_responses() {
        let code = |reason| ResponseHeader::parse(&Tpm12::rejection(reason)).unwrap().0.code.get();
        assert_eq!((code(Rejection::Failure), code(Rejection::BadLocality)), (9, 61));
    }
}
