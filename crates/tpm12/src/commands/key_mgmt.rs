//! Session management (part 3, section 21): contexts kept outside of the TPM, keys kept in it; and the older forms of
//! section 27.2.

use crate::auth::session::{HandleKind, MAX_SESSIONS, Session};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::capability::{MAX_CONTEXTS, MAX_DAA, MAX_TRANSPORTS};
use crate::commands::daa::DaaSession;
use crate::commands::eviction::{RT_AUTH, RT_DAA_TPM, RT_KEY, RT_TRANS};
use crate::commands::transport::TransportSession;
use crate::state::permanent::OwnerEvictKey;
use crate::state::volatile::LoadedKey;
use crate::structs::key::{FLAG_VOLATILE, PubKey};
use crate::structs::{Digest, Nonce};
use crate::tpm::{FREE_KEYS, MAX_KEYS, Tpm};
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::{aes_ctr, ct_eq, hmac_sha1};
use zeroize::Zeroizing;

/// `TPM_KEY_CONTROL_OWNER_EVICT`.
const CONTROL_OWNER_EVICT: u32 = 1;

wire_struct! {
    /// `TPM_CONTEXT_BLOB` (part 2, section 18.1). The additional data is the initial counter of the encryption.
    pub(crate) struct ContextBlob {
        tag: Tag<0x0001>,
        kind: u32,
        handle: u32,
        label: [u8; 16],
        count: u32,
        integrity: Digest,
        additional: Vec<u8>,
        sensitive: Zeroizing<Vec<u8>>,
    }
}

wire_struct! {
    /// `TPM_CONTEXT_SENSITIVE` (part 2, section 18.2).
    pub(crate) struct ContextSensitive {
        tag: Tag<0x0002>,
        nonce: Nonce,
        data: Zeroizing<Vec<u8>>,
    }
}

impl ContextBlob {
    /// HMAC of the blob with the sensitive part in the clear and an integrity of zeros.
    fn digest(&mut self, tpm: &Tpm) -> Digest {
        let integrity = core::mem::take(&mut self.integrity);
        let bytes = self.to_secret();
        self.integrity = integrity;
        hmac_sha1(&*tpm.permanent.proofs.tpm_proof, &[&bytes])
    }

    fn crypt(&mut self, tpm: &Tpm) -> Result<(), Code> {
        let iv: [u8; 16] = self.additional[..].try_into().map_err(|_| codes::BADCONTEXT)?;
        aes_ctr(&tpm.permanent.proofs.context_key, &iv, &mut self.sensitive);
        Ok(())
    }
}

impl Tpm {
    fn daa_session(&self, handle: u32) -> Option<&DaaSession> {
        self.volatile.daa.iter().find(|session| session.handle == handle)
    }

    /// Saves a resource; all but keys leave the TPM.
    fn save_context(&mut self, kind: u32, handle: u32, label: [u8; 16]) -> Result<Vec<u8>, Code> {
        let missing = codes::INVALID_RESOURCE;
        let data = match kind {
            RT_KEY => {
                let key = self.volatile.keys.iter().find(|key| key.handle == handle).ok_or(missing)?;
                if key.owner_evict {
                    return Err(codes::OWNER_CONTROL);
                }
                key.to_secret()
            }
            RT_AUTH => self.session(handle).map_err(|_| missing)?.to_secret(),
            // Saved and loaded again, it would look as if no other command had run meanwhile.
            RT_TRANS if self.volatile.exclusive == handle => return Err(missing),
            RT_TRANS => self.transport(handle).map_err(|_| missing)?.to_secret(),
            RT_DAA_TPM => self.daa_session(handle).ok_or(missing)?.to_secret(),
            _ => return Err(missing),
        };
        let count = if kind == RT_KEY { 0 } else { self.note_context()? };
        let sensitive = ContextSensitive { tag: Tag, nonce: self.volatile.context_nonce, data };
        let mut blob = ContextBlob {
            tag: Tag,
            kind,
            handle,
            label,
            count,
            integrity: [0; 20],
            additional: self.rng.bytes::<16>().to_vec(),
            sensitive: sensitive.to_secret(),
        };
        blob.integrity = blob.digest(self);
        blob.crypt(self)?;
        match kind {
            RT_AUTH => self.close_session(handle),
            RT_TRANS => self.end_transport(handle),
            RT_DAA_TPM => self.end_daa(handle)?,
            _ => {}
        }
        Ok(blob.to_bytes())
    }

    /// A place in the list of saved sessions, and the count that stands there.
    fn note_context(&mut self) -> Result<u32, Code> {
        let count = self.volatile.context_count.checked_add(1).filter(|count| *count < u32::MAX);
        let count = count.ok_or(codes::TOOMANYCONTEXTS)?;
        let contexts = &mut self.volatile.contexts;
        let full = contexts.len() >= MAX_CONTEXTS;
        match contexts.iter_mut().find(|place| **place == 0) {
            Some(place) => *place = count,
            None if full => return Err(codes::NOCONTEXTSPACE),
            None => contexts.push(count),
        }
        self.volatile.context_count = count;
        Ok(count)
    }

    /// Brings a resource back; the handle it has now.
    fn load_context(&mut self, mut blob: ContextBlob, keep_handle: bool) -> Result<u32, Code> {
        blob.crypt(self)?;
        if !ct_eq(&blob.digest(self), &blob.integrity) {
            return Err(codes::BADCONTEXT);
        }
        let sensitive = ContextSensitive::from_bytes(&blob.sensitive, codes::BADCONTEXT)?;
        let fresh = ct_eq(&sensitive.nonce, &self.volatile.context_nonce);
        let place = self.volatile.contexts.iter().position(|count| *count == blob.count && blob.count != 0);
        if blob.kind != RT_KEY && (!fresh || place.is_none()) {
            return Err(codes::BADCONTEXT);
        }
        let handle = self.handle_for(blob.kind, blob.handle, keep_handle)?;
        let data = &sensitive.data;
        let volatile = &mut self.volatile;
        match blob.kind {
            RT_KEY => {
                let key = LoadedKey::from_bytes(data, codes::BADCONTEXT)?;
                // A key that depends on PCRs above it, or is volatile, does not outlive a start.
                if !fresh && (key.parent_pcr_status || key.key.blob.has(FLAG_VOLATILE)) {
                    return Err(codes::BADCONTEXT);
                }
                if volatile.keys.len() >= MAX_KEYS {
                    return Err(codes::RESOURCES);
                }
                volatile.keys.push(LoadedKey { handle, ..key });
            }
            RT_AUTH => {
                let session = Session::from_bytes(data, codes::BADCONTEXT)?;
                if volatile.sessions.len() >= MAX_SESSIONS {
                    return Err(codes::RESOURCES);
                }
                volatile.sessions.push(Session { handle, ..session });
            }
            RT_TRANS => {
                let session = TransportSession::from_bytes(data, codes::BADCONTEXT)?;
                if volatile.transports.len() >= MAX_TRANSPORTS {
                    return Err(codes::RESOURCES);
                }
                volatile.transports.push(TransportSession { handle, ..session });
            }
            RT_DAA_TPM => {
                let session = DaaSession::from_bytes(data, codes::BADCONTEXT)?;
                if volatile.daa.len() >= MAX_DAA {
                    return Err(codes::RESOURCES);
                }
                volatile.daa.push(DaaSession { handle, ..session });
            }
            _ => return Err(codes::INVALID_RESOURCE),
        }
        if let Some(place) = place.and_then(|place| self.volatile.contexts.get_mut(place)) {
            *place = 0;
        }
        Ok(handle)
    }

    fn handle_for(&mut self, kind: u32, old: u32, keep: bool) -> Result<u32, Code> {
        let kind = match kind {
            RT_KEY => HandleKind::Key,
            RT_AUTH => HandleKind::Auth,
            RT_TRANS => HandleKind::Transport,
            RT_DAA_TPM => HandleKind::Daa,
            _ => return Err(codes::INVALID_RESOURCE),
        };
        match self.handle_in_use(old) {
            false => Ok(old),
            true if keep => Err(codes::BAD_HANDLE),
            true => Ok(self.new_handle(kind)),
        }
    }
}

/// `TPM_SaveContext` (section 21.2).
pub(crate) fn tpm_save_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (kind, label): (u32, [u8; 16]) = (call.get()?, call.only()?);
    let [handle, _] = call.handles;
    let blob = tpm.save_context(kind, handle, label)?;
    call.put_sized(&blob);
    Ok(())
}

/// `TPM_LoadContext` (section 21.3). Which entity a session is for is inside the blob, so that the handle of the entity says
/// nothing new.
pub(crate) fn tpm_load_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let keep_handle: bool = call.get()?;
    let blob: ContextBlob = call.get_sized()?;
    call.end()?;
    call.out_handle = Some(tpm.load_context(blob, keep_handle)?);
    Ok(())
}

/// `TPM_SaveKeyContext` (section 27.2.1).
pub(crate) fn tpm_save_key_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    save_old(tpm, call, RT_KEY)
}

/// `TPM_LoadKeyContext` (section 27.2.2).
pub(crate) fn tpm_load_key_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    load_old(tpm, call, RT_KEY)
}

/// `TPM_SaveAuthContext` (section 27.2.3).
pub(crate) fn tpm_save_auth_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    save_old(tpm, call, RT_AUTH)
}

/// `TPM_LoadAuthContext` (section 27.2.4).
pub(crate) fn tpm_load_auth_context(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    load_old(tpm, call, RT_AUTH)
}

fn save_old(tpm: &mut Tpm, call: &mut Call<'_>, kind: u32) -> Done {
    call.end()?;
    let [handle, _] = call.handles;
    let blob = tpm.save_context(kind, handle, [0; 16])?;
    call.put_sized(&blob);
    Ok(())
}

fn load_old(tpm: &mut Tpm, call: &mut Call<'_>, kind: u32) -> Done {
    let blob: ContextBlob = call.get_sized()?;
    call.end()?;
    if blob.kind != kind {
        return Err(codes::INVALID_RESOURCE.into());
    }
    call.out_handle = Some(tpm.load_context(blob, false)?);
    Ok(())
}

/// `TPM_KeyControlOwner` (section 21.1): the owner keeps a key in the TPM, or gives it free.
pub(crate) fn tpm_key_control_owner(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let public: PubKey = call.get()?;
    let (bit, value): (u32, bool) = (call.get()?, call.only()?);
    tpm.authorize_owner(call, 0)?;
    let [handle, _] = call.handles;
    let loaded = tpm.volatile.keys.iter().find(|key| key.handle == handle).cloned();
    let loaded = loaded.ok_or(codes::INVALID_KEYHANDLE)?;
    if loaded.key.blob.public() != public {
        return Err(codes::BAD_PARAMETER.into());
    }
    if bit != CONTROL_OWNER_EVICT {
        return Err(codes::BAD_MODE.into());
    }
    if loaded.owner_evict == value {
        return Ok(());
    }
    if value {
        if loaded.parent_pcr_status || loaded.key.blob.has(FLAG_VOLATILE) {
            return Err(codes::BAD_PARAMETER.into());
        }
        if tpm.permanent.owner_evict.len() >= MAX_KEYS - FREE_KEYS {
            return Err(codes::NOSPACE.into());
        }
        let kept = OwnerEvictKey { handle, key: loaded.key, parent_pcr_status: false };
        tpm.permanent.edit().owner_evict.push(kept);
    } else {
        tpm.permanent.edit().owner_evict.retain(|kept| kept.handle != handle);
    }
    if let Some(key) = tpm.volatile.keys.iter_mut().find(|key| key.handle == handle) {
        key.owner_evict = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
