//! What reaches a TPM beside commands: its reset line, and locality 4's hash sequence (TCG PC Client TPM Interface
//! Specification 1.21, sections 9 and 10; TPM Main, part 3, section 3.1).

use super::Tpm12;
use crate::codes;
use crate::tpm::HashSequence;
use core::fmt;
use tpm_crypto::{Sha1, sha1};
use tpm_wire::Engine;

/// The PCRs of the dynamic launch.
const DYNAMIC: core::ops::RangeInclusive<usize> = 17..=22;
/// The PCR that the launched code is measured into.
const LAUNCH: usize = 17;
/// Stands for the platform's sequence where a command's has its transport session: no session has this handle.
const PLATFORM: u32 = u32::MAX;

/// The platform asked for something that the TPM does not do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlatformError {
    /// No `TPM_Startup` came since `TPM_Init`.
    NotStarted,
    /// Only localities 3 and 4 may do this.
    BadLocality,
    /// No hash sequence is under way, or a command came into it.
    NoSequence,
}

impl PlatformError {
    /// The return code that says this (part 2, section 16).
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::NotStarted => codes::INVALID_POSTINIT.0,
            Self::BadLocality => codes::BAD_LOCALITY.0,
            Self::NoSequence => codes::SHA_THREAD.0,
        }
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "the TPM waits for TPM_Startup",
            Self::BadLocality => "only localities 3 and 4 may do this",
            Self::NoSequence => "no hash sequence of the platform is under way",
        })
    }
}

impl core::error::Error for PlatformError {}

impl Tpm12 {
    /// `TPM_Init`: everything volatile is gone, and `TPM_Startup` has to come, by command or by [`Self::startup`].
    pub fn init(&mut self) {
        self.cancel();
        self.tpm.init();
    }

    /// Whether `TPM_Startup` was done since the last `TPM_Init`.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.tpm.volatile.post_initialise
    }

    /// The TPM's own copy of what `TPM_SaveState` kept exists.
    #[must_use]
    pub fn has_saved_state(&self) -> bool {
        self.tpm.permanent.saved_state.is_some()
    }

    /// `tpmEstablished`: a dynamic launch has taken place since the bit was reset.
    #[must_use]
    pub fn established(&self) -> bool {
        self.tpm.permanent.flags.tpm_established
    }

    /// `TSC_ResetEstablishmentBit` as the interface's register does it. The change is staged.
    pub fn reset_established(&mut self, locality: u8) -> Result<(), PlatformError> {
        if !(3..=4).contains(&locality) {
            return Err(PlatformError::BadLocality);
        }
        if self.tpm.permanent.flags.tpm_established {
            self.tpm.permanent.edit().flags.tpm_established = false;
            self.stage();
        }
        Ok(())
    }

    /// `TPM_HASH_START`: PCRs 17 to 22 are zeros, a trusted system is there, and its measurement begins. The change of the
    /// establishment bit is staged.
    pub fn hash_start(&mut self) -> Result<(), PlatformError> {
        if !self.is_started() {
            return Err(PlatformError::NotStarted);
        }
        self.cancel();
        self.tpm.end_transport(self.tpm.volatile.exclusive);
        let volatile = &mut self.tpm.volatile;
        volatile.tos_present = true;
        volatile.pcrs.0.get_mut(DYNAMIC).into_iter().flatten().for_each(|pcr| *pcr = [0; 20]);
        self.tpm.hash = Some(HashSequence { hash: Sha1::new(), transport: PLATFORM });
        if !self.tpm.permanent.flags.tpm_established {
            self.tpm.permanent.edit().flags.tpm_established = true;
            self.stage();
        }
        Ok(())
    }

    /// `TPM_HASH_DATA`.
    pub fn hash_data(&mut self, data: &[u8]) -> Result<(), PlatformError> {
        match &mut self.tpm.hash {
            Some(sequence) if sequence.transport == PLATFORM => sequence.hash.update(data),
            _ => return Err(PlatformError::NoSequence),
        }
        Ok(())
    }

    /// `TPM_HASH_END`: PCR 17 is extended.
    pub fn hash_end(&mut self) -> Result<(), PlatformError> {
        let sequence = self.tpm.hash.take_if(|sequence| sequence.transport == PLATFORM);
        let digest = sequence.ok_or(PlatformError::NoSequence)?.hash.finish();
        if let Some(pcr) = self.tpm.volatile.pcrs.0.get_mut(LAUNCH) {
            *pcr = sha1(&[&*pcr, &digest]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{execute, tpm, unstarted};

    fn read(tpm: &mut Tpm12, pcr: u8) -> [u8; 20] {
        let response = execute(tpm, 0, &[0, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x15, 0, 0, 0, pcr]);
        response[10..].try_into().unwrap()
    }

    #[test]
    fn a_dynamic_launch_is_measured() {
        let mut tpm = tpm();
        assert!(!tpm.established());
        assert_eq!(read(&mut tpm, 17), [0xff; 20]);
        tpm.hash_start().unwrap();
        assert!(tpm.established() && tpm.staged().is_some());
        tpm.hash_data(b"a").unwrap();
        tpm.hash_data(b"").unwrap();
        tpm.hash_data(b"bc").unwrap();
        tpm.hash_end().unwrap();
        assert_eq!(read(&mut tpm, 17), sha1(&[&[0; 20], &sha1(&[b"abc"])]));
        for pcr in 18..=22 {
            assert_eq!(read(&mut tpm, pcr), [0; 20], "PCR {pcr}");
        }
        assert_eq!(read(&mut tpm, 16), [0; 20]);
        assert_eq!(tpm.hash_end(), Err(PlatformError::NoSequence));

        assert_eq!(tpm.reset_established(2), Err(PlatformError::BadLocality));
        assert_eq!(tpm.reset_established(5), Err(PlatformError::BadLocality));
        assert!(tpm.established());
        tpm.committed();
        tpm.reset_established(3).unwrap();
        assert!(!tpm.established() && tpm.staged().is_some());
    }

    #[test]
    fn the_platform_and_the_commands_have_sequences_of_their_own() {
        const SHA1_START: [u8; 10] = [0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0xa0];
        let mut tpm = tpm();
        assert_eq!(tpm.hash_data(b"a"), Err(PlatformError::NoSequence));
        execute(&mut tpm, 0, &SHA1_START);
        assert_eq!(tpm.hash_data(b"a"), Err(PlatformError::NoSequence), "the command's sequence");
        assert_eq!(tpm.hash_end(), Err(PlatformError::NoSequence));

        tpm.hash_start().unwrap();
        let update = [0, 0xc1, 0, 0, 0, 18, 0, 0, 0, 0xa1, 0, 0, 0, 4, 1, 2, 3, 4];
        assert_eq!(execute(&mut tpm, 0, &update)[6..10], codes::SHA_THREAD.0.to_be_bytes());
        assert_eq!(tpm.hash_end(), Err(PlatformError::NoSequence), "the command ended it");
    }

    #[test]
    fn a_reset_waits_for_its_startup() {
        let mut tpm = unstarted();
        assert!(!tpm.is_started());
        assert_eq!(tpm.hash_start(), Err(PlatformError::NotStarted));
        tpm.startup(crate::StartupType::Clear).unwrap();
        assert!(tpm.is_started());
        tpm.init();
        assert!(!tpm.is_started() && !tpm.has_saved_state());
    }
}
