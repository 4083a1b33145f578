//! Non-volatile storage (part 3, section 20).

use crate::auth::Protocol;
use crate::auth::session::Entity;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::AuthData;
use crate::structs::nv::{
    INDEX_0, INDEX_D_BIT, INDEX_DIR, INDEX_LOCK, INDEX_RESERVED, INDEX_TRIAL, NvArea, NvPublic, PER_AUTHREAD,
    PER_AUTHWRITE, PER_GLOBALLOCK, PER_OWNERREAD, PER_OWNERWRITE, PER_PPREAD, PER_PPWRITE, PER_READ_STCLEAR,
    PER_WRITE_STCLEAR, PER_WRITEALL, PER_WRITEDEFINE,
};
use crate::structs::pcr::{ALL_LOCALITIES, check_locality};
use crate::tpm::Tpm;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Bytes for all areas together, each with [`AREA_OVERHEAD`].
pub(crate) const NV_SPACE: u32 = 16 * 1024;
/// What an area takes beside its data.
const AREA_OVERHEAD: u32 = 128;
/// Areas at a time.
const MAX_AREAS: usize = 64;
/// The largest answer and command leave room for this much data.
const MAX_READ: u32 = 3900;
/// `TPM_MAX_NV_WRITE_NOOWNER`.
const MAX_WRITES_WITHOUT_OWNER: u32 = 64;

impl Tpm {
    /// Bytes that a new area could have.
    pub(crate) fn nv_free(&self) -> u32 {
        let used = self.permanent.nv.iter().map(|area| area.public.data_size.saturating_add(AREA_OVERHEAD));
        let left = NV_SPACE.saturating_sub(used.fold(0, u32::saturating_add));
        if self.permanent.nv.len() >= MAX_AREAS { 0 } else { left.saturating_sub(AREA_OVERHEAD) }
    }

    pub(crate) fn nv_area(&self, index: u32) -> Result<&NvArea, Code> {
        self.permanent.nv.iter().find(|area| area.public.index == index).ok_or(codes::BADINDEX)
    }

    fn nv_area_mut(&mut self, index: u32) -> Result<&mut NvArea, Code> {
        self.permanent.edit().nv.iter_mut().find(|area| area.public.index == index).ok_or(codes::BADINDEX)
    }

    /// The number of the next write without an owner, if one is allowed.
    fn next_unowned_write(&self) -> Result<u32, Code> {
        let next = self.permanent.no_owner_nv_writes.saturating_add(1);
        if next > MAX_WRITES_WITHOUT_OWNER { Err(codes::MAXNVWRITES) } else { Ok(next) }
    }

    /// The owner's areas need an enabled and activated TPM once NV is locked.
    fn check_nv_up(&self) -> Result<(), Code> {
        if self.permanent.flags.disable {
            return Err(codes::DISABLED);
        }
        if self.volatile.flags.deactivated { Err(codes::DEACTIVATED) } else { Ok(()) }
    }

    fn forget_locks(&mut self, index: u32) {
        self.volatile.nv_read_locked.retain(|locked| *locked != index);
        self.volatile.nv_write_locked.retain(|locked| *locked != index);
    }

    /// Takes areas away whose definition needed an owner (`TPM_OwnerClear`).
    pub(crate) fn clear_owner_nv(&mut self) {
        let owned = |public: &NvPublic| public.has(PER_OWNERREAD | PER_OWNERWRITE) && public.index & INDEX_D_BIT == 0;
        let gone: Vec<u32> =
            self.permanent.nv.iter().map(|area| &area.public).filter(|public| owned(public)).map(|p| p.index).collect();
        for index in gone {
            self.forget_locks(index);
            self.close_sessions_of(&Entity::nv(index));
            self.permanent.edit().nv.retain(|area| area.public.index != index);
        }
    }
}

/// Whether an area can be defined at all with these attributes (section 20.1, actions 7 to 9).
fn check_attributes(public: &NvPublic) -> Result<(), Code> {
    for info in [&public.pcr_read, &public.pcr_write] {
        check_locality(info.locality_at_release).map_err(|_| codes::INVALID_STRUCTURE)?;
    }
    let both = |mask: u32| public.permission.bits & mask == mask;
    if both(PER_OWNERWRITE | PER_AUTHWRITE) || both(PER_OWNERREAD | PER_AUTHREAD) {
        return Err(codes::AUTH_CONFLICT);
    }
    let restricted = public.pcr_write.locality_at_release != ALL_LOCALITIES;
    if !public.has(PER_OWNERWRITE | PER_AUTHWRITE | PER_WRITEDEFINE | PER_PPWRITE) && !restricted {
        return Err(codes::PER_NOWRITE);
    }
    if public.index & INDEX_RESERVED != 0 || [INDEX_0, INDEX_DIR, INDEX_LOCK].contains(&public.index) {
        return Err(codes::BADINDEX);
    }
    if public.data_size == 0 { Err(codes::BAD_PARAM_SIZE) } else { Ok(()) }
}

/// `TPM_NV_DefineSpace` (section 20.1): defines an area, or deletes one if its new size is 0.
pub(crate) fn tpm_nv_define_space(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let public: NvPublic = call.get()?;
    let enc_auth: [u8; 20] = call.only()?;
    let (index, authorized, checked) = (public.index, call.has_auths(1), tpm.permanent.flags.nv_locked);
    if index == INDEX_LOCK && !authorized {
        if public.data_size != 0 {
            return Err(codes::BADINDEX.into());
        }
        if !checked {
            tpm.permanent.edit().flags.nv_locked = true;
        }
        return Ok(());
    }
    if index == INDEX_0 || checked && index & INDEX_D_BIT != 0 {
        return Err(codes::BADINDEX.into());
    }
    let mut unowned_write = None;
    let auth: AuthData = if authorized {
        tpm.authorize_owner_by(call, 0, Protocol::Osap)?;
        call.decrypt_auth(0, &enc_auth, false)?
    } else {
        if checked {
            tpm.need_physical_presence()?;
            if tpm.permanent.has_owner() {
                return Err(codes::OWNER_SET.into());
            }
            if public.data_size == 0 {
                return Err(codes::BAD_DATASIZE.into());
            }
        }
        unowned_write = Some(tpm.next_unowned_write()?);
        enc_auth.into()
    };
    if let Ok(old) = tpm.nv_area(index) {
        let write_locked = tpm.volatile.nv_write_locked.contains(&index);
        let locked = old.public.has(PER_GLOBALLOCK) && tpm.volatile.flags.global_lock
            || old.public.has(PER_WRITE_STCLEAR) && write_locked;
        if checked && locked {
            return Err(codes::AREA_LOCKED.into());
        }
        // The old area goes even if the new definition is then refused (action 6).
        tpm.revoke_sessions_of(&Entity::nv(index));
        tpm.forget_locks(index);
        tpm.permanent.edit().nv.retain(|area| area.public.index != index);
        if public.data_size == 0 {
            return count_write(tpm, unowned_write);
        }
    }
    check_attributes(&public)?;
    if public.data_size > tpm.nv_free() {
        return Err(codes::NOSPACE.into());
    }
    if index != INDEX_TRIAL {
        let data = Zeroizing::new(alloc::vec![0xff; public.data_size as usize]);
        let public = NvPublic { read_st_clear: false, write_st_clear: false, write_define: false, ..public };
        tpm.permanent.edit().nv.push(NvArea { public, auth, data });
        return count_write(tpm, unowned_write);
    }
    Ok(())
}

fn count_write(tpm: &mut Tpm, unowned_write: Option<u32>) -> Done {
    if let Some(count) = unowned_write {
        tpm.permanent.edit().no_owner_nv_writes = count;
    }
    Ok(())
}

/// The parameters of both writes: index, offset, data.
fn write_parameters(call: &mut Call<'_>) -> Result<(u32, u32, Zeroizing<Vec<u8>>), Code> {
    Ok((call.get()?, call.get()?, call.only()?))
}

/// `TPM_NV_WriteValue` (section 20.2): without authorization, or with the owner's.
pub(crate) fn tpm_nv_write_value(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (index, offset, data) = write_parameters(call)?;
    let (authorized, checked) = (call.has_auths(1), tpm.permanent.flags.nv_locked);
    let owner_write = match index {
        INDEX_0 => false,
        INDEX_DIR => true,
        _ => tpm.nv_area(index)?.public.has(PER_OWNERWRITE),
    };
    if checked && owner_write {
        tpm.check_nv_up()?;
    }
    let mut unowned_write = None;
    if authorized {
        if !owner_write && index != INDEX_0 {
            return Err(codes::AUTH_CONFLICT.into());
        }
        tpm.authorize_owner(call, 0)?;
    } else if index != INDEX_0 {
        if checked && owner_write {
            return Err(codes::AUTH_CONFLICT.into());
        }
        if !tpm.permanent.has_owner() {
            unowned_write = Some(tpm.next_unowned_write()?);
        }
    }
    match index {
        INDEX_0 if data.is_empty() => tpm.volatile.flags.global_lock = true,
        INDEX_0 => return Err(codes::BADINDEX.into()),
        INDEX_DIR => write_dir(tpm, offset, &data)?,
        _ => {
            if tpm.nv_area(index)?.public.has(PER_AUTHWRITE) {
                return Err(codes::AUTH_CONFLICT.into());
            }
            if write_area(tpm, call.locality, index, offset, &data, checked)? {
                return count_write(tpm, unowned_write);
            }
        }
    }
    Ok(())
}

/// `TPM_NV_WriteValueAuth` (section 20.3): with the area's authorization.
pub(crate) fn tpm_nv_write_value_auth(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (index, offset, data) = write_parameters(call)?;
    let area = tpm.nv_area(index)?;
    if !area.public.has(PER_AUTHWRITE) {
        return Err(codes::AUTH_CONFLICT.into());
    }
    let secret = area.auth.clone();
    tpm.authorize(call, 0, &secret, &Entity::nv(index), Protocol::Any)?;
    write_area(tpm, call.locality, index, offset, &data, true)?;
    Ok(())
}

fn write_dir(tpm: &mut Tpm, offset: u32, data: &[u8]) -> Result<(), Code> {
    if data.is_empty() {
        return Ok(());
    }
    let value: [u8; 20] = data.try_into().map_err(|_| codes::NOT_FULLWRITE)?;
    if offset != 0 {
        return Err(codes::NOT_FULLWRITE);
    }
    tpm.permanent.edit().dir = value;
    Ok(())
}

/// The common end of both writes; whether the permanent state changed.
fn write_area(tpm: &mut Tpm, locality: u8, index: u32, offset: u32, data: &[u8], checked: bool) -> Result<bool, Code> {
    let area = tpm.nv_area(index)?;
    let public = &area.public;
    if checked {
        if public.has(PER_PPWRITE) {
            tpm.need_physical_presence()?;
        }
        let locked = public.has(PER_WRITEDEFINE) && public.write_define
            || public.has(PER_GLOBALLOCK) && tpm.volatile.flags.global_lock
            || public.has(PER_WRITE_STCLEAR) && tpm.volatile.nv_write_locked.contains(&index);
        if locked {
            return Err(codes::AREA_LOCKED);
        }
        tpm.check_short(&public.pcr_write, locality, codes::BAD_LOCALITY)?;
    }
    let mut changed = false;
    if data.is_empty() {
        changed = !public.write_define;
        if changed {
            tpm.nv_area_mut(index)?.public.write_define = true;
        }
        if !tpm.volatile.nv_write_locked.contains(&index) {
            tpm.volatile.nv_write_locked.push(index);
        }
    } else {
        let range = range(offset, data.len(), area.data.len())?;
        if public.has(PER_WRITEALL) && data.len() != area.data.len() {
            return Err(codes::NOT_FULLWRITE);
        }
        if area.data.get(range.clone()) != Some(data) {
            let place = tpm.nv_area_mut(index)?.data.get_mut(range).ok_or(codes::NOSPACE)?;
            place.copy_from_slice(data);
            changed = true;
        }
    }
    tpm.volatile.nv_read_locked.retain(|locked| *locked != index);
    Ok(changed)
}

/// The bytes from `offset` on, if they are within an area.
fn range(offset: u32, length: usize, size: usize) -> Result<core::ops::Range<usize>, Code> {
    let start = usize::try_from(offset).map_err(|_| codes::NOSPACE)?;
    let end = start.checked_add(length).filter(|end| *end <= size).ok_or(codes::NOSPACE)?;
    Ok(start..end)
}

/// `TPM_NV_ReadValue` (section 20.4): without authorization, or with the owner's.
pub(crate) fn tpm_nv_read_value(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (index, offset, size): (u32, u32, u32) = (call.get()?, call.get()?, call.only()?);
    let (authorized, checked) = (call.has_auths(1), tpm.permanent.flags.nv_locked);
    if index == INDEX_DIR {
        if authorized {
            tpm.authorize_owner(call, 0)?;
        }
        let dir = tpm.permanent.dir;
        let range = range(offset, size as usize, dir.len())?;
        call.put_sized(dir.get(range).unwrap_or_default());
        return Ok(());
    }
    let public = tpm.nv_area(index)?.public.clone();
    if checked && public.has(PER_OWNERREAD) {
        tpm.check_nv_up()?;
    }
    if authorized {
        if !public.has(PER_OWNERREAD) {
            return Err(codes::AUTH_CONFLICT.into());
        }
        tpm.authorize_owner(call, 0)?;
    } else if public.has(PER_AUTHREAD) || checked && public.has(PER_OWNERREAD) {
        return Err(codes::AUTH_CONFLICT.into());
    }
    Ok(read_area(tpm, call, &public, offset, size, checked)?)
}

/// `TPM_NV_ReadValueAuth` (section 20.5): with the area's authorization.
pub(crate) fn tpm_nv_read_value_auth(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (index, offset, size): (u32, u32, u32) = (call.get()?, call.get()?, call.only()?);
    let area = tpm.nv_area(index)?;
    let (public, secret) = (area.public.clone(), area.auth.clone());
    if !public.has(PER_AUTHREAD) {
        return Err(codes::AUTH_CONFLICT.into());
    }
    tpm.authorize(call, 0, &secret, &Entity::nv(index), Protocol::Any)?;
    Ok(read_area(tpm, call, &public, offset, size, true)?)
}

/// The common end of both reads. Reading nothing locks an area for reading, if it has that attribute.
fn read_area(
    tpm: &mut Tpm,
    call: &mut Call<'_>,
    public: &NvPublic,
    offset: u32,
    size: u32,
    checked: bool,
) -> Result<(), Code> {
    if checked {
        if public.has(PER_PPREAD) {
            tpm.need_physical_presence()?;
        }
        if public.has(PER_READ_STCLEAR) && tpm.volatile.nv_read_locked.contains(&public.index) {
            return Err(codes::DISABLED_CMD);
        }
        tpm.check_short(&public.pcr_read, call.locality, codes::BAD_LOCALITY)?;
    }
    if size == 0 {
        if !tpm.volatile.nv_read_locked.contains(&public.index) {
            tpm.volatile.nv_read_locked.push(public.index);
        }
        call.put_sized(&[]);
        return Ok(());
    }
    let area = tpm.nv_area(public.index)?;
    let range = range(offset, size as usize, area.data.len())?;
    if size > MAX_READ {
        return Err(codes::SIZE);
    }
    call.put_sized(area.data.get(range).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
