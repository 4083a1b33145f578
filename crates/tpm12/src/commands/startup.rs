//! Admin startup and state (part 3, section 3).

use crate::StartupType;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::state::volatile::{ClearFlags, LoadedKey, Lockout, Volatile};
use crate::state::{load_volatile, store_volatile};
use crate::tpm::Tpm;

impl Tpm {
    /// `TPM_Init`: everything volatile is gone.
    pub(crate) fn init(&mut self) {
        // The dictionary attack defence must not be reset by a reboot.
        let lockout = core::mem::take(&mut self.volatile.lockout);
        self.volatile = Volatile::fresh(&mut self.rng, self.volatile.now, Lockout { reset_used: false, ..lockout });
        self.hash = None;
    }

    /// `TPM_Startup` (section 3.2).
    pub(crate) fn startup(&mut self, kind: StartupType) -> Result<(), Code> {
        if !self.volatile.post_initialise {
            return Err(codes::INVALID_POSTINIT);
        }
        if kind == StartupType::State {
            self.resume_saved()?;
        } else {
            self.volatile.flags = ClearFlags::default();
            self.volatile.flags.deactivated = self.permanent.flags.deactivated || kind == StartupType::Deactivated;
            self.load_owner_evict();
        }
        if self.permanent.saved_state.is_some() {
            self.permanent.edit().saved_state = None;
        }
        self.volatile.post_initialise = false;
        Ok(())
    }

    /// The owner's keys are in the TPM at every start.
    fn load_owner_evict(&mut self) {
        self.volatile.keys = self
            .permanent
            .owner_evict
            .iter()
            .map(|kept| LoadedKey {
                handle: kept.handle,
                key: kept.key.clone(),
                parent_pcr_status: kept.parent_pcr_status,
                owner_evict: true,
            })
            .collect();
    }

    /// `ST_STATE`: what `TPM_SaveState` kept comes back; sessions do not (`TPM_STARTUP_EFFECTS`).
    fn resume_saved(&mut self) -> Result<(), Code> {
        let saved = self.permanent.saved_state.clone().ok_or(codes::FAIL)?;
        let saved = load_volatile(&saved).map_err(|_| codes::FAIL)?;
        let lockout = core::mem::take(&mut self.volatile.lockout);
        let now = self.volatile.now;
        self.volatile = Volatile { tick_nonce: self.rng.bytes(), now, tick_start: now, lockout, ..saved };
        self.volatile.sessions.clear();
        self.volatile.transports.clear();
        self.volatile.exclusive = 0;
        self.volatile.daa.clear();
        Ok(())
    }
}

/// `TPM_Init`: no packet can bring it, only the platform's reset can.
pub(crate) fn tpm_init(_: &mut Tpm, _: &mut Call<'_>) -> Done {
    Err(codes::BAD_ORDINAL.into())
}

/// `TPM_Startup`.
pub(crate) fn tpm_startup(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let kind = match call.only::<u16>()? {
        1 => StartupType::Clear,
        2 => StartupType::State,
        3 => StartupType::Deactivated,
        _ if !tpm.volatile.post_initialise => return Err(codes::INVALID_POSTINIT.into()),
        _ => return Err(codes::BAD_PARAMETER.into()),
    };
    Ok(tpm.startup(kind)?)
}

/// `TPM_SaveState` (section 3.3).
pub(crate) fn tpm_save_state(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let saved = store_volatile(&tpm.volatile);
    tpm.permanent.edit().saved_state = Some(saved);
    Ok(())
}

#[cfg(test)]
mod tests;
