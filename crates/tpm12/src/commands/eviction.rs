//! Eviction (part 3, section 22).

use crate::call::{Call, Done};
use crate::codes;
use crate::tpm::Tpm;

pub(crate) const RT_KEY: u32 = 1;
pub(crate) const RT_AUTH: u32 = 2;
pub(crate) const RT_TRANS: u32 = 4;
pub(crate) const RT_CONTEXT: u32 = 5;
pub(crate) const RT_COUNTER: u32 = 6;
pub(crate) const RT_DAA_TPM: u32 = 8;

/// `TPM_FlushSpecific` (section 22.1).
pub(crate) fn tpm_flush_specific(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let kind: u32 = call.only()?;
    let [handle, _] = call.handles;
    match kind {
        RT_KEY => tpm.remove_key(handle)?,
        RT_AUTH => {
            tpm.session(handle)?;
            tpm.close_session(handle);
        }
        RT_TRANS => {
            tpm.transport(handle)?;
            tpm.end_transport(handle);
        }
        RT_DAA_TPM => tpm.end_daa(handle)?,
        RT_CONTEXT => {
            let place = tpm.volatile.contexts.iter_mut().find(|count| **count == handle && handle != 0);
            *place.ok_or(codes::BADCONTEXT)? = 0;
        }
        _ => return Err(codes::INVALID_RESOURCE.into()),
    }
    Ok(())
}
