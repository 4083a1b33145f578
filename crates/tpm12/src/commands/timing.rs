//! Timing ticks (part 3, section 23).

use crate::auth::KeyUse;
use crate::call::{Call, Done};
use crate::codes;
use crate::commands::crypto::sign_info;
use crate::structs::key::{KEY_IDENTITY, KEY_LEGACY, KEY_SIGNING, SS_INFO, SS_SHA1};
use crate::structs::{Digest, Nonce};
use crate::tpm::Tpm;
use crate::wire::{Tag, Wire, wire_struct};
use tpm_crypto::sha1;

wire_struct! {
    /// `TPM_CURRENT_TICKS` (part 2, section 15.1).
    #[derive(Clone)]
    pub(crate) struct CurrentTicks {
        tag: Tag<0x0014>,
        ticks: u64,
        /// Microseconds in a tick.
        rate: u16,
        nonce: Nonce,
    }
}

impl Tpm {
    /// Microseconds since the start of the tick session.
    pub(crate) fn ticks(&self) -> CurrentTicks {
        let ticks = self.volatile.now.saturating_sub(self.volatile.tick_start);
        CurrentTicks { tag: Tag, ticks, rate: 1, nonce: self.volatile.tick_nonce }
    }
}

/// `TPM_GetTicks` (section 23.1).
pub(crate) fn tpm_get_ticks(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    call.put(&tpm.ticks());
    Ok(())
}

/// `TPM_TickStampBlob` (section 23.2).
pub(crate) fn tpm_tick_stamp_blob(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (replay, digest): (Nonce, Digest) = (call.get()?, call.only()?);
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    if ![KEY_SIGNING, KEY_IDENTITY, KEY_LEGACY].contains(&key.blob.usage) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    if ![SS_SHA1, SS_INFO].contains(&key.blob.parms.sig_scheme) {
        return Err(codes::INAPPROPRIATE_SIG.into());
    }
    let ticks = tpm.ticks();
    let stamped = [&digest[..], &ticks.to_bytes()].concat();
    let signature = tpm.sign_digest(&key, &sha1(&[&sign_info(*b"TSTP", &replay, &stamped)]))?;
    call.put(&ticks).put(&signature);
    Ok(())
}

#[cfg(test)]
mod tests;
