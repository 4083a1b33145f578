//! `TPM_SetCapability` and `TPM_GetCapabilityOwner` (part 3, sections 7.2 and 7.3).

use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::state::permanent::Proofs;
use crate::state::volatile::ClearFlags;
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::vec::Vec;
use tpm_wire::Writer;
use zeroize::Zeroizing;

/// What the caller has shown.
#[derive(Clone, Copy)]
struct Shown {
    owner: bool,
    presence: bool,
    locality: u8,
}

/// `TPM_SetCapability` (section 7.2; what can be set by whom: part 2, sections 7.1 to 7.6).
pub(crate) fn tpm_set_capability(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let area: u32 = call.get()?;
    let (sub, value): (Vec<u8>, Vec<u8>) = (call.get()?, call.only()?);
    let owner = call.has_auths(1);
    if owner {
        tpm.authorize_owner(call, 0)?;
    }
    let shown = Shown { owner, presence: tpm.physical_presence(), locality: call.locality };
    let sub = u32::from_bytes(&sub, codes::BAD_PARAMETER).map_err(|_| codes::BAD_PARAMETER)?;
    match area {
        1 => set_permanent_flag(tpm, shown, sub, flag(&value)?)?,
        2 => set_permanent_data(tpm, shown, sub, &value)?,
        3 => set_clear_flag(tpm, sub, flag(&value)?)?,
        4 => set_clear_data(tpm, shown, sub, &value)?,
        5 => set_any_flag(tpm, shown, sub, flag(&value)?)?,
        6 | 7 => return Err(codes::BAD_PARAMETER.into()),
        _ => return Err(codes::BAD_MODE.into()),
    }
    Ok(())
}

fn flag(value: &[u8]) -> Result<bool, Code> {
    bool::from_bytes(value, codes::BAD_PARAMETER).map_err(|_| codes::BAD_PARAMETER)
}

fn number(value: &[u8]) -> Result<u32, Code> {
    u32::from_bytes(value, codes::BAD_PARAMETER).map_err(|_| codes::BAD_PARAMETER)
}

fn need(condition: bool) -> Result<(), Code> {
    if condition { Ok(()) } else { Err(codes::AUTHFAIL) }
}

fn only(condition: bool) -> Result<(), Code> {
    if condition { Ok(()) } else { Err(codes::BAD_PARAMETER) }
}

fn need_enabled(tpm: &Tpm) -> Result<(), Code> {
    if tpm.permanent.flags.disable { Err(codes::DISABLED) } else { Ok(()) }
}

fn need_up(tpm: &Tpm) -> Result<(), Code> {
    need_enabled(tpm)?;
    if tpm.volatile.flags.deactivated { Err(codes::DEACTIVATED) } else { Ok(()) }
}

fn need_high_locality(shown: Shown) -> Result<(), Code> {
    if shown.locality >= 3 { Ok(()) } else { Err(codes::BAD_LOCALITY) }
}

fn set_permanent_flag(tpm: &mut Tpm, shown: Shown, sub: u32, value: bool) -> Result<(), Code> {
    match sub {
        1 => need(shown.owner || shown.presence)?,
        2 => {
            if tpm.permanent.has_owner() {
                return Err(codes::OWNER_SET);
            }
            need(shown.presence)?;
            need_up(tpm)?;
        }
        3 => {
            need(shown.presence)?;
            need_enabled(tpm)?;
        }
        4 | 17 => {
            need(shown.owner)?;
            need_up(tpm)?;
        }
        5 => {
            need(shown.owner)?;
            only(value)?;
            need_up(tpm)?;
        }
        6 => {
            need(shown.owner)?;
            only(!value)?;
            need_up(tpm)?;
        }
        18 => {
            need_high_locality(shown)?;
            only(!value)?;
        }
        20 => need(shown.owner)?,
        _ => return Err(codes::BAD_PARAMETER),
    }
    let flags = &mut tpm.permanent.edit().flags;
    let place = match sub {
        1 => &mut flags.disable,
        2 => &mut flags.ownership,
        3 => &mut flags.deactivated,
        4 => &mut flags.read_pubek,
        5 => &mut flags.disable_owner_clear,
        6 => &mut flags.allow_maintenance,
        17 => &mut flags.read_srk_pub,
        18 => &mut flags.tpm_established,
        _ => &mut flags.disable_full_da_logic_info,
    };
    *place = value;
    Ok(())
}

fn set_permanent_data(tpm: &mut Tpm, shown: Shown, sub: u32, value: &[u8]) -> Result<(), Code> {
    match sub {
        23 => {
            let value = number(value)?;
            need(shown.owner)?;
            need_up(tpm)?;
            tpm.permanent.edit().restrict_delegate = value;
        }
        // New DAA secrets: everything joined so far is worth nothing afterwards, so the owner must want it.
        25 => {
            need(shown.owner)?;
            let (proofs, seed) = (Proofs::random(&mut tpm.rng), Zeroizing::new(tpm.rng.bytes()));
            let permanent = tpm.permanent.edit();
            permanent.proofs.daa_proof = proofs.daa_proof.clone();
            permanent.proofs.daa_blob_key = proofs.daa_blob_key.clone();
            permanent.daa_seed = seed;
            tpm.volatile.daa.clear();
        }
        _ => return Err(codes::BAD_PARAMETER),
    }
    Ok(())
}

fn set_clear_flag(tpm: &mut Tpm, sub: u32, value: bool) -> Result<(), Code> {
    only(sub == 2)?;
    need_up(tpm)?;
    only(value)?;
    tpm.volatile.flags.disable_force_clear = true;
    Ok(())
}

fn set_clear_data(tpm: &mut Tpm, shown: Shown, sub: u32, value: &[u8]) -> Result<(), Code> {
    let value = number(value)?;
    only(sub == 6)?;
    if !shown.presence && value & !tpm.volatile.deferred_physical_presence != 0 {
        return Err(codes::BAD_PRESENCE);
    }
    tpm.volatile.deferred_physical_presence = value;
    Ok(())
}

fn set_any_flag(tpm: &mut Tpm, shown: Shown, sub: u32, value: bool) -> Result<(), Code> {
    only(sub == 4)?;
    need_high_locality(shown)?;
    need_up(tpm)?;
    only(!value)?;
    tpm.volatile.tos_present = false;
    Ok(())
}

/// `TPM_GetCapabilityOwner` (section 7.3): version and flags as bit maps, flag 1 of each structure in bit 0.
pub(crate) fn tpm_get_capability_owner(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    let bits = |flags: Vec<u8>| (0u32..).zip(flags).fold(0u32, |bits, (at, set)| bits | u32::from(set) << at.min(31));
    let permanent = bits(tpm.permanent.flags.to_bytes());
    let flags: &ClearFlags = &tpm.volatile.flags;
    let volatile = bits(flags.to_bytes());
    Writer::new(&mut call.out).bytes(&[1, 1, 0, 0]).u32(permanent).u32(volatile);
    Ok(())
}

#[cfg(test)]
mod tests;
