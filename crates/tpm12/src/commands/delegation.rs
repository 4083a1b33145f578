//! Delegation (part 3, section 19) and what uses it (sections 18.3 and 18.4).

mod permissions;

use crate::auth::session::{ET_DEL_KEY_BLOB, ET_DEL_OWNER_BLOB, ET_DEL_ROW, ET_OWNER, Entity, PID_DSAP, Session};
use crate::auth::{KeyUse, Protocol, known_scheme, shared_secret};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::capability::MAX_FAMILIES;
use crate::structs::delegate::{
    DEL_KEY_BITS, DEL_OWNER_BITS, DelegateKeyBlob, DelegateOwnerBlob, DelegatePublic, DelegateRow, DelegateSensitive,
    FAMILY_ADMIN_LOCK, FAMILY_ENABLED, Family,
};
use crate::structs::key::{FLAG_MIGRATE_AUTHORITY, KEY_BIND, KEY_LEGACY, KEY_MIGRATE, KEY_SIGNING, KEY_STORAGE, Key};
use crate::structs::{AuthData, Digest, Nonce};
use crate::tpm::Tpm;
use crate::wire::{Tag, Wire};
use alloc::vec::Vec;
use permissions::{key_permission, owner_permission};
use tpm_crypto::{aes_ctr, ct_eq, hmac_sha1, sha1};
use zeroize::Zeroizing;

/// `TPM_MAX_NV_WRITE_NOOWNER`.
const MAX_WRITES_WITHOUT_OWNER: u32 = 64;

impl Tpm {
    fn family(&self, id: u32) -> Result<&Family, Code> {
        self.permanent.families.iter().find(|family| family.id == id).ok_or(codes::BADINDEX)
    }

    fn family_mut(&mut self, id: u32) -> Result<&mut Family, Code> {
        self.permanent.edit().families.iter_mut().find(|family| family.id == id).ok_or(codes::BADINDEX)
    }

    /// `TPM_DISABLED_CMD` for a family that is not enabled, `TPM_FAMILYCOUNT` for a delegation of an older generation.
    fn check_family(&self, public: &DelegatePublic) -> Result<(), Code> {
        let family = self.family(public.family_id)?;
        if family.flags & FAMILY_ENABLED == 0 {
            return Err(codes::DISABLED_CMD);
        }
        if family.verification_count == public.verification_count { Ok(()) } else { Err(codes::FAMILYCOUNT) }
    }

    fn delegate_row(&self, index: u32) -> Result<&DelegateRow, Code> {
        let row = usize::try_from(index).ok().and_then(|i| self.permanent.delegate_rows.get(i));
        row.and_then(Option::as_ref).ok_or(codes::BADINDEX)
    }

    /// Whether a delegation allows a command for an entity here and now.
    pub(crate) fn check_delegation(
        &self,
        public: &DelegatePublic,
        ordinal: u32,
        entity: &Entity,
        locality: u8,
    ) -> Result<(), Code> {
        let (kind, bit) = match entity.kind {
            ET_OWNER => (DEL_OWNER_BITS, owner_permission(ordinal)),
            _ => (DEL_KEY_BITS, key_permission(ordinal)),
        };
        let allowed = bit.is_some_and(|bit| public.permissions.per1 >> bit & 1 == 1);
        if public.permissions.kind != kind || !allowed {
            return Err(codes::AUTHFAIL);
        }
        self.check_family(public)?;
        self.check_short(&public.pcr_info, locality, codes::BAD_LOCALITY)
    }

    /// The delegation that the owner pointer points to.
    pub(crate) fn owner_pointer_delegation(&self) -> Option<(DelegatePublic, AuthData)> {
        let points = self.volatile.owner_pointer_type == ET_DEL_ROW;
        let row = self.delegate_row(self.volatile.owner_pointer).ok().filter(|_| points)?;
        Some((row.public.clone(), row.auth.clone()))
    }

    /// Whether a certified migratable key is used through a delegation that its owner has not allowed
    /// (`TPM_CMK_DELEGATE`, part 2, section 5.16).
    pub(crate) fn is_restricted_delegation(&self, call: &Call<'_>, index: usize, key: &Key) -> Result<bool, Code> {
        let handle = call.auths.get(index).copied().flatten().map(|auth| auth.handle);
        let session = handle.and_then(|handle| self.session(handle).ok());
        if !key.blob.has(FLAG_MIGRATE_AUTHORITY) || session.is_none_or(|session| session.delegation.is_none()) {
            return Ok(false);
        }
        let bit = match key.blob.usage {
            KEY_SIGNING => 31,
            KEY_STORAGE => 30,
            KEY_BIND => 29,
            KEY_LEGACY => 28,
            KEY_MIGRATE => 27,
            _ => return Ok(true),
        };
        Ok(self.permanent.restrict_delegate >> bit & 1 == 0)
    }

    /// A change of the tables ends every session that rests on them, every saved one, and the owner pointer.
    fn end_delegations(&mut self) {
        self.volatile.sessions.retain(|session| session.delegation.is_none());
        self.volatile.contexts.clear();
        self.volatile.owner_pointer_type = 0;
    }

    /// Encrypts a delegation's secret: initial counter and ciphertext.
    fn hide_secret(&mut self, auth: AuthData) -> (Vec<u8>, Vec<u8>) {
        let iv: [u8; 16] = self.rng.bytes();
        let mut data = DelegateSensitive { tag: Tag, auth }.to_secret();
        aes_ctr(&self.permanent.proofs.delegate_key, &iv, &mut data);
        (iv.to_vec(), data.to_vec())
    }

    fn show_secret(&self, additional: &[u8], sensitive: &[u8]) -> Result<AuthData, Code> {
        let iv: [u8; 16] = additional.try_into().map_err(|_| codes::BAD_DELEGATE)?;
        let mut data = Zeroizing::new(sensitive.to_vec());
        aes_ctr(&self.permanent.proofs.delegate_key, &iv, &mut data);
        let secret = DelegateSensitive::from_bytes(&data, codes::BAD_DELEGATE).map_err(|_| codes::BAD_DELEGATE)?;
        Ok(secret.auth)
    }

    fn blob_digest(&self, blob: &impl Wire) -> Digest {
        hmac_sha1(&*self.permanent.proofs.tpm_proof, &[&blob.to_bytes()])
    }
}

/// Either form of a delegation outside of the TPM.
enum Blob {
    Owner(DelegateOwnerBlob),
    Key(DelegateKeyBlob),
}

impl Blob {
    fn parse(bytes: &[u8], wrong: Code) -> Result<Self, Code> {
        match bytes {
            [0x00, 0x2a, ..] => DelegateOwnerBlob::from_bytes(bytes, wrong).map(Self::Owner),
            [0x00, 0x27, ..] => DelegateKeyBlob::from_bytes(bytes, wrong).map(Self::Key),
            _ => Err(wrong),
        }
        .map_err(|_| wrong)
    }

    fn public(&self) -> &DelegatePublic {
        match self {
            Self::Owner(blob) => &blob.public,
            Self::Key(blob) => &blob.public,
        }
    }

    /// The HMAC of the blob with an integrity of zeros.
    fn digest(&mut self, tpm: &Tpm) -> Digest {
        let old = core::mem::take(self.integrity_mut());
        let digest = match self {
            Self::Owner(blob) => tpm.blob_digest(blob),
            Self::Key(blob) => tpm.blob_digest(blob),
        };
        *self.integrity_mut() = old;
        digest
    }

    fn integrity_mut(&mut self) -> &mut Digest {
        match self {
            Self::Owner(blob) => &mut blob.integrity,
            Self::Key(blob) => &mut blob.integrity,
        }
    }

    fn check_integrity(&mut self, tpm: &Tpm) -> Result<(), Code> {
        let want = self.digest(tpm);
        if ct_eq(&want, self.integrity_mut()) { Ok(()) } else { Err(codes::AUTHFAIL) }
    }

    fn secret(&self, tpm: &Tpm) -> Result<AuthData, Code> {
        match self {
            Self::Owner(blob) => tpm.show_secret(&blob.additional, &blob.sensitive),
            Self::Key(blob) => tpm.show_secret(&blob.additional, &blob.sensitive),
        }
    }

    /// Signs the blob anew.
    fn seal(mut self, tpm: &Tpm) -> Vec<u8> {
        *self.integrity_mut() = self.digest(tpm);
        match self {
            Self::Owner(blob) => blob.to_bytes(),
            Self::Key(blob) => blob.to_bytes(),
        }
    }
}

/// What identifies a key in a key delegation: SHA-1 of its `TPM_STORE_PUBKEY`.
fn key_digest(key: &Key) -> Digest {
    sha1(&[&(key.blob.modulus.len() as u32).to_be_bytes(), &key.blob.modulus])
}

/// The delegation that authorized a command, if one did.
fn delegated_by(call: &Call<'_>) -> Option<DelegatePublic> {
    call.proofs.iter().flatten().next().and_then(|proof| proof.delegation.clone())
}

/// A delegation may only touch its own family.
fn check_same_family(call: &Call<'_>, family: u32) -> Result<(), Code> {
    match delegated_by(call) {
        Some(public) if public.family_id != family => Err(codes::DELEGATE_FAMILY),
        _ => Ok(()),
    }
}

/// A delegation made under a delegation grants no more than that.
fn check_no_more(call: &Call<'_>, public: &DelegatePublic) -> Result<(), Code> {
    let Some(own) = delegated_by(call) else { return Ok(()) };
    let (new, old) = (&public.permissions, &own.permissions);
    if new.per1 & !old.per1 != 0 || new.per2 & !old.per2 != 0 { Err(codes::AUTHFAIL) } else { Ok(()) }
}

fn next_unowned_write(tpm: &Tpm) -> Result<u32, Code> {
    let next = tpm.permanent.no_owner_nv_writes.saturating_add(1);
    if next > MAX_WRITES_WITHOUT_OWNER { Err(codes::MAXNVWRITES) } else { Ok(next) }
}

/// `TPM_Delegate_Manage` (section 19.1).
pub(crate) fn tpm_delegate_manage(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    const CREATE: u32 = 1;
    let (id, operation): (u32, u32) = (call.get()?, call.get()?);
    let data: Vec<u8> = call.only()?;
    if operation != CREATE {
        tpm.family(id)?;
    }
    let mut unowned_write = None;
    if call.has_auths(1) {
        tpm.authorize_owner(call, 0)?;
        if operation != CREATE {
            check_same_family(call, id)?;
        }
    } else {
        if tpm.permanent.has_owner() {
            return Err(codes::AUTHFAIL.into());
        }
        if operation != CREATE && tpm.family(id)?.flags & FAMILY_ADMIN_LOCK != 0 {
            return Err(codes::DELEGATE_LOCK.into());
        }
        unowned_write = Some(next_unowned_write(tpm)?);
    }
    let flag = || bool::from_bytes(&data, codes::BAD_PARAM_SIZE);
    let mut answer = Vec::new();
    match operation {
        CREATE => {
            let label = u8::from_bytes(&data, codes::BAD_PARAM_SIZE)?;
            if tpm.permanent.families.len() >= MAX_FAMILIES {
                return Err(codes::RESOURCES.into());
            }
            let permanent = tpm.permanent.edit();
            permanent.last_family_id = permanent.last_family_id.checked_add(1).ok_or(codes::RESOURCES)?;
            let id = permanent.last_family_id;
            permanent.families.push(Family { tag: Tag, label, id, verification_count: 1, flags: 0 });
            answer.extend(id.to_be_bytes());
        }
        2 => set_flag(tpm.family_mut(id)?, FAMILY_ENABLED, flag()?),
        3 => set_flag(tpm.family_mut(id)?, FAMILY_ADMIN_LOCK, flag()?),
        4 => tpm.permanent.edit().families.retain(|family| family.id != id),
        _ => return Err(codes::BAD_PARAMETER.into()),
    }
    if let Some(count) = unowned_write {
        tpm.permanent.edit().no_owner_nv_writes = count;
    }
    if delegated_by(call).is_some() {
        call.end_session(0);
    }
    tpm.end_delegations();
    call.put_sized(&answer);
    Ok(())
}

fn set_flag(family: &mut Family, flag: u32, value: bool) {
    family.flags = if value { family.flags | flag } else { family.flags & !flag };
}

/// `TPM_Delegate_CreateKeyDelegation` (section 19.2).
pub(crate) fn tpm_delegate_create_key_delegation(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let mut public: DelegatePublic = call.get()?;
    let enc_auth: [u8; 20] = call.only()?;
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key_by(call, 0, &key, KeyUse::Private, Protocol::Osap)?;
    let count = tpm.family(public.family_id)?.verification_count;
    check_same_family(call, public.family_id)?;
    check_no_more(call, &public)?;
    if public.permissions.kind != DEL_KEY_BITS {
        return Err(codes::BAD_PARAMETER.into());
    }
    let auth = call.decrypt_auth(0, &enc_auth, false)?;
    public.verification_count = count;
    let (additional, sensitive) = tpm.hide_secret(auth);
    let pub_key_digest = key_digest(&key);
    let blob = DelegateKeyBlob { tag: Tag, public, integrity: [0; 20], pub_key_digest, additional, sensitive };
    call.put_sized(&Blob::Key(blob).seal(tpm));
    Ok(())
}

/// `TPM_Delegate_CreateOwnerDelegation` (section 19.3).
pub(crate) fn tpm_delegate_create_owner_delegation(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let increment: bool = call.get()?;
    let mut public: DelegatePublic = call.get()?;
    let enc_auth: [u8; 20] = call.only()?;
    tpm.authorize_owner_by(call, 0, Protocol::Osap)?;
    tpm.family(public.family_id)?;
    check_same_family(call, public.family_id)?;
    check_no_more(call, &public)?;
    if public.permissions.kind != DEL_OWNER_BITS {
        return Err(codes::BAD_PARAMETER.into());
    }
    let auth = call.decrypt_auth(0, &enc_auth, false)?;
    if increment {
        let family = tpm.family_mut(public.family_id)?;
        family.verification_count = family.verification_count.wrapping_add(1);
        tpm.end_delegations();
    }
    public.verification_count = tpm.family(public.family_id)?.verification_count;
    let (additional, sensitive) = tpm.hide_secret(auth);
    let blob = DelegateOwnerBlob { tag: Tag, public, integrity: [0; 20], additional, sensitive };
    call.put_sized(&Blob::Owner(blob).seal(tpm));
    Ok(())
}

/// `TPM_Delegate_LoadOwnerDelegation` (section 19.4): without an owner the blob is in the clear and nobody's.
pub(crate) fn tpm_delegate_load_owner_delegation(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let index: u32 = call.get()?;
    let blob: DelegateOwnerBlob = call.get_sized()?;
    call.end()?;
    let family = tpm.family(blob.public.family_id)?;
    let (enabled, locked) = (family.flags & FAMILY_ENABLED != 0, family.flags & FAMILY_ADMIN_LOCK != 0);
    let owned = tpm.permanent.has_owner();
    let mut unowned_write = None;
    if owned {
        if !call.has_auths(1) {
            return Err(codes::AUTHFAIL.into());
        }
        tpm.authorize_owner(call, 0)?;
        check_same_family(call, blob.public.family_id)?;
    } else {
        if call.has_auths(1) {
            return Err(codes::AUTHFAIL.into());
        }
        if locked {
            return Err(codes::DELEGATE_LOCK.into());
        }
        unowned_write = Some(next_unowned_write(tpm)?);
    }
    if !enabled {
        return Err(codes::DISABLED_CMD.into());
    }
    let (public, auth) = if owned {
        let mut blob = Blob::Owner(blob);
        blob.check_integrity(tpm)?;
        let auth = blob.secret(tpm).map_err(|_| codes::INVALID_STRUCTURE)?;
        (blob.public().clone(), auth)
    } else {
        let sensitive = DelegateSensitive::from_bytes(&blob.sensitive, codes::INVALID_STRUCTURE)?;
        (blob.public.clone(), sensitive.auth)
    };
    let place = usize::try_from(index).map_err(|_| codes::BADINDEX)?;
    if place >= tpm.permanent.delegate_rows.len() {
        return Err(codes::BADINDEX.into());
    }
    let permanent = tpm.permanent.edit();
    if let Some(place) = permanent.delegate_rows.get_mut(place) {
        *place = Some(DelegateRow { tag: Tag, public, auth });
    }
    if let Some(count) = unowned_write {
        permanent.no_owner_nv_writes = count;
    }
    if delegated_by(call).is_some() {
        call.end_session(0);
    }
    tpm.end_delegations();
    Ok(())
}

/// `TPM_Delegate_ReadTable` (section 19.5).
pub(crate) fn tpm_delegate_read_table(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    let families: Vec<u8> = tpm.permanent.families.iter().flat_map(Wire::to_bytes).collect();
    let rows =
        (0u32..).zip(&tpm.permanent.delegate_rows).filter_map(|(index, row)| row.as_ref().map(|row| (index, row)));
    let rows: Vec<u8> =
        rows.flat_map(|(index, row)| [&index.to_be_bytes()[..], &row.public.to_bytes()].concat()).collect();
    call.put_sized(&families).put_sized(&rows);
    Ok(())
}

/// `TPM_Delegate_UpdateVerification` (section 19.6): brings a row or blob to its family's present generation.
pub(crate) fn tpm_delegate_update_verification(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let input: Vec<u8> = call.only()?;
    tpm.authorize_owner(call, 0)?;
    if let Ok(index) = u32::from_bytes(&input, codes::BAD_PARAMETER) {
        let family = tpm.delegate_row(index)?.public.family_id;
        let count = tpm.family(family)?.verification_count;
        check_same_family(call, family)?;
        let row = tpm.permanent.edit().delegate_rows.get_mut(index as usize);
        if let Some(Some(row)) = row {
            row.public.verification_count = count;
        }
        call.put_sized(&[]);
        return Ok(());
    }
    let mut blob = Blob::parse(&input, codes::BAD_PARAMETER)?;
    blob.check_integrity(tpm)?;
    let count = tpm.family(blob.public().family_id)?.verification_count;
    check_same_family(call, blob.public().family_id)?;
    match &mut blob {
        Blob::Owner(blob) => blob.public.verification_count = count,
        Blob::Key(blob) => blob.public.verification_count = count,
    }
    call.put_sized(&blob.seal(tpm));
    Ok(())
}

/// `TPM_Delegate_VerifyDelegation` (section 19.7).
pub(crate) fn tpm_delegate_verify_delegation(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let input: Vec<u8> = call.only()?;
    let mut blob = Blob::parse(&input, codes::BAD_PARAMETER)?;
    tpm.check_family(blob.public())?;
    blob.check_integrity(tpm)?;
    blob.secret(tpm).map_err(|_| codes::BAD_PARAMETER)?;
    Ok(())
}

/// `TPM_DSAP` (section 18.3).
pub(crate) fn tpm_dsap(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let [adip, kind]: [u8; 2] = call.get()?;
    let (handle, nonce_odd): (u32, Nonce) = (call.get()?, call.get()?);
    let value: Vec<u8> = call.only()?;
    let (entity, public, secret) = match u16::from(kind) {
        ET_DEL_ROW => {
            let index = u32::from_bytes(&value, codes::BAD_PARAMETER)?;
            let row = tpm.delegate_row(index)?;
            tpm.check_family(&row.public)?;
            (Entity::OWNER, row.public.clone(), row.auth.clone())
        }
        wanted @ (ET_DEL_OWNER_BLOB | ET_DEL_KEY_BLOB) => {
            let mut blob = Blob::parse(&value, codes::WRONG_ENTITYTYPE)?;
            if matches!(blob, Blob::Owner(_)) != (wanted == ET_DEL_OWNER_BLOB) {
                return Err(codes::WRONG_ENTITYTYPE.into());
            }
            tpm.check_family(blob.public())?;
            blob.check_integrity(tpm)?;
            let entity = match &blob {
                Blob::Owner(_) => Entity::OWNER,
                Blob::Key(blob) => {
                    let key = tpm.key(handle)?;
                    if !ct_eq(&blob.pub_key_digest, &key_digest(&key)) {
                        return Err(codes::KEYNOTFOUND.into());
                    }
                    Entity::key(key.pub_data_digest)
                }
            };
            let secret = blob.secret(tpm)?;
            (entity, blob.public().clone(), secret)
        }
        _ => return Err(codes::BAD_PARAMETER.into()),
    };
    if !known_scheme(adip) {
        return Err(codes::INAPPROPRIATE_ENC.into());
    }
    let nonce_even_dsap: Nonce = tpm.rng.bytes();
    let shared = shared_secret(&secret, &nonce_even_dsap, &nonce_odd);
    let session =
        Session { handle: 0, protocol: PID_DSAP, nonce_even: [0; 20], shared, entity, adip, delegation: Some(public) };
    let (handle, nonce_even) = tpm.open_session(session)?;
    call.put(&handle).put(&nonce_even).put(&nonce_even_dsap);
    Ok(())
}

/// `TPM_SetOwnerPointer` (section 18.4): who "the owner" is for sessions that know nothing of delegations.
pub(crate) fn tpm_set_owner_pointer(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (kind, value): (u16, u32) = (call.get()?, call.only()?);
    if kind == ET_DEL_ROW {
        tpm.check_family(&tpm.delegate_row(value)?.public)?;
        (tpm.volatile.owner_pointer_type, tpm.volatile.owner_pointer) = (ET_DEL_ROW, value);
    } else if kind == u16::from(ET_OWNER) {
        tpm.volatile.owner_pointer_type = 0;
    } else {
        return Err(codes::BAD_PARAMETER.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
