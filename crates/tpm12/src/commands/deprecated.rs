//! Deprecated commands (part 3, section 27) that old software still sends.

use crate::call::{Call, Done};
use crate::codes;
use crate::commands::storage::load_key;
use crate::tpm::Tpm;

/// `TPM_EvictKey` (section 27.1.1).
pub(crate) fn tpm_evict_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let [handle, _] = call.handles;
    Ok(tpm.remove_key(handle)?)
}

/// `TPM_Terminate_Handle` (section 27.1.2).
pub(crate) fn tpm_terminate_handle(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let [handle, _] = call.handles;
    tpm.session(handle)?;
    tpm.close_session(handle);
    Ok(())
}

/// `TPM_DirWriteAuth` (section 27.3.1): there is one DIR.
pub(crate) fn tpm_dir_write_auth(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (index, value): (u32, [u8; 20]) = (call.get()?, call.only()?);
    tpm.authorize_owner(call, 0)?;
    if index != 0 {
        return Err(codes::BADINDEX.into());
    }
    tpm.permanent.edit().dir = value;
    Ok(())
}

/// `TPM_DirRead` (section 27.3.2).
pub(crate) fn tpm_dir_read(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let index: u32 = call.only()?;
    if index != 0 {
        return Err(codes::BADINDEX.into());
    }
    let dir = tpm.permanent.dir;
    call.put(&dir);
    Ok(())
}

/// `TPM_Reset` (section 27.5): all authorization sessions end.
pub(crate) fn tpm_reset(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.volatile.sessions.clear();
    Ok(())
}

/// `TPM_OwnerReadPubek` (section 27.6).
pub(crate) fn tpm_owner_read_pubek(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    let key = tpm.pubek()?;
    call.put(&key);
    Ok(())
}

/// `TPM_DisablePubekRead` (section 27.7).
pub(crate) fn tpm_disable_pubek_read(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    tpm.permanent.edit().flags.read_pubek = false;
    Ok(())
}

/// `TPM_LoadKey` (section 27.8): unlike `TPM_LoadKey2`, the handle is covered by the response's HMAC.
pub(crate) fn tpm_load_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let handle = load_key(tpm, call)?;
    call.put(&handle);
    Ok(())
}

pub(crate) mod asym;
#[cfg(test)]
mod tests;
