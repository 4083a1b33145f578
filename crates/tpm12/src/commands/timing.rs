//! Timing ticks (part 3, section 23).

use crate::call::{Call, Done};
use crate::structs::Nonce;
use crate::tpm::Tpm;
use crate::wire::{Tag, wire_struct};

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
        let ticks = self.now.saturating_sub(self.volatile.tick_start);
        CurrentTicks { tag: Tag, ticks, rate: 1, nonce: self.volatile.tick_nonce }
    }
}

/// `TPM_GetTicks` (section 23.1).
pub(crate) fn tpm_get_ticks(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    call.put(&tpm.ticks());
    Ok(())
}
