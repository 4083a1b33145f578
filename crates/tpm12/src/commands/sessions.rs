//! Authorization sessions (part 3, section 18).

use crate::auth::session::{ET_COUNTER, ET_KEYHANDLE, ET_NV, ET_OWNER, ET_SRK, Entity, PID_OIAP, PID_OSAP, Session};
use crate::auth::{known_scheme, shared_secret};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::{AuthData, Nonce};
use crate::tpm::{KH_SRK, Tpm};
use zeroize::Zeroizing;

/// `TPM_OIAP` (section 18.1).
pub(crate) fn tpm_oiap(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let session = Session {
        handle: 0,
        protocol: PID_OIAP,
        nonce_even: [0; 20],
        shared: Zeroizing::new([0; 20]),
        entity: Entity::BLOB,
        adip: 0,
        delegation: None,
    };
    let (handle, nonce_even) = tpm.open_session(session)?;
    call.put(&handle).put(&nonce_even);
    Ok(())
}

/// `TPM_OSAP` (section 18.2).
pub(crate) fn tpm_osap(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let [adip, kind]: [u8; 2] = call.get()?;
    let (value, nonce_odd): (u32, Nonce) = (call.get()?, call.only()?);
    if !known_scheme(adip) {
        return Err(codes::INAPPROPRIATE_ENC.into());
    }
    let (entity, secret) = tpm.osap_entity(kind, value)?;
    // An owner pointer makes an owner's OSAP session one of the delegation it points to.
    let (secret, delegation) = match tpm.owner_pointer_delegation().filter(|_| entity == Entity::OWNER) {
        Some((public, secret)) => (secret, Some(public)),
        None => (secret, None),
    };
    let nonce_even_osap: Nonce = tpm.rng.bytes();
    let shared = shared_secret(&secret, &nonce_even_osap, &nonce_odd);
    let session = Session { handle: 0, protocol: PID_OSAP, nonce_even: [0; 20], shared, entity, adip, delegation };
    let (handle, nonce_even) = tpm.open_session(session)?;
    call.put(&handle).put(&nonce_even).put(&nonce_even_osap);
    Ok(())
}

impl Tpm {
    /// What an OSAP session may be for, and its secret.
    fn osap_entity(&self, kind: u8, value: u32) -> Result<(Entity, AuthData), Code> {
        match kind {
            ET_KEYHANDLE | ET_SRK => {
                let key = self.key(if kind == ET_SRK { KH_SRK } else { value })?;
                Ok((Entity::key(key.pub_data_digest), key.usage_auth.clone()))
            }
            ET_OWNER => {
                let secret = self.permanent.owner_auth.clone().ok_or(codes::BAD_PARAMETER)?;
                Ok((Entity::OWNER, secret))
            }
            ET_COUNTER => {
                let counter = self.permanent.counters.iter().find(|counter| counter.id == value);
                Ok((Entity::counter(value), counter.ok_or(codes::BAD_COUNTER)?.auth.clone()))
            }
            ET_NV => {
                let area = self.permanent.nv.iter().find(|area| area.public.index == value);
                Ok((Entity::nv(value), area.ok_or(codes::BADINDEX)?.auth.clone()))
            }
            _ => Err(codes::BAD_PARAMETER),
        }
    }
}
