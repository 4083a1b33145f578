//! The external forms of both states (docs/formats/tpm12-state.md).
//!
//! Header: 8 bytes of magic, 16-bit format version; the permanent state has a 16-bit engine level, too. Then sections: 16-bit number, 32-bit length, content. A version fixes
//! which sections there are, and their order. What is stored once must load for ever: a change of a section is a new version,
//! and the reader of the old one stays.

use super::permanent::Permanent;
use super::volatile::Volatile;
use crate::wire::Wire;
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"XVTPM12P";
const MAGIC_VOLATILE: &[u8; 8] = b"XVTPM12V";
/// Version 1 had no section 24.
const VERSION: u16 = 2;
/// What keys and proofs are derived like. A TPM keeps the level that it was made with for its life.
pub(crate) const LEVEL: u16 = 1;
const VERSION_VOLATILE: u16 = 1;

/// Why a stored state was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateError {
    /// It does not begin like a state of this engine.
    Foreign,
    /// A later version of this program wrote it.
    Newer {
        /// Its format version.
        found: u16,
    },
    /// It was made with a later engine level than this program knows.
    NewerLevel {
        /// Its engine level.
        found: u16,
    },
    /// The named part is cut short, has the wrong length, or holds values that no TPM can have.
    Damaged(&'static str),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("not a TPM 1.2 state: check that the right disk is attached"),
            Self::Newer { found } => write!(
                f,
                "TPM 1.2 state of format {found}, this program knows up to {VERSION}: start it with the newer program"
            ),
            Self::NewerLevel { found } => {
                write!(
                    f,
                    "TPM 1.2 of engine level {found}, this program knows up to {LEVEL}: start it with the newer program"
                )
            }
            Self::Damaged(part) => write!(f, "TPM 1.2 state is damaged in its part \"{part}\": restore a backup"),
        }
    }
}

impl core::error::Error for StateError {}

fn put_section(out: &mut Vec<u8>, number: u16, content: &impl Wire) {
    Writer::new(out).u16(number).u32(0);
    let start = out.len();
    content.put(&mut Writer::new(out));
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some((_, place)) = out.get_mut(..start).and_then(<[u8]>::split_last_chunk_mut::<4>) {
        *place = size.to_be_bytes();
    }
}

fn get_section<T: Wire>(r: &mut Reader<'_>, number: u16, name: &'static str) -> Result<T, StateError> {
    let damaged = StateError::Damaged(name);
    if r.u16().map_err(|_| damaged)? != number {
        return Err(damaged);
    }
    let content = r.sized32().map_err(|_| damaged)?;
    T::from_bytes(content, crate::codes::BAD_PARAM_SIZE).map_err(|_| damaged)
}

/// Reads magic and version, which is between `oldest` and `newest`.
fn open_header<'a>(
    bytes: &'a [u8],
    magic: &[u8; 8],
    oldest: u16,
    newest: u16,
) -> Result<(Reader<'a>, u16), StateError> {
    let mut r = Reader::new(bytes);
    if r.array::<8>().ok().as_ref() != Some(magic) {
        return Err(StateError::Foreign);
    }
    match r.u16() {
        Ok(version) if version > newest => Err(StateError::Newer { found: version }),
        Ok(version) if version >= oldest => Ok((r, version)),
        _ => Err(StateError::Damaged("header")),
    }
}

/// The section that came with version 2.
const FAILED_AUTHS: (u16, &str) = (24, "failed authorizations");

/// Declares the sections of [`Permanent`] that every version has once for both directions.
macro_rules! sections {
    ($($number:literal $name:literal $field:ident),* $(,)?) => {
        /// The external form of the permanent state.
        pub(crate) fn store_permanent(permanent: &Permanent) -> Zeroizing<Vec<u8>> {
            // Room for everything, so that growing leaves no copies of secrets behind.
            let nv: usize = permanent.nv.iter().map(|area| area.data.len() + 128).sum();
            let saved = permanent.saved_state.as_ref().map_or(0, |saved| saved.len());
            let keys = permanent.owner_evict.len() * 2048;
            let mut out = Zeroizing::new(Vec::with_capacity(16 * 1024 + nv + saved + keys));
            Writer::new(&mut out).bytes(MAGIC).u16(VERSION).u16(permanent.level);
            $(put_section(&mut out, $number, &permanent.$field);)*
            put_section(&mut out, FAILED_AUTHS.0, &permanent.failed_auths);
            out
        }

        /// Reads what [`store_permanent`] wrote.
        pub(crate) fn load_permanent(bytes: &[u8]) -> Result<Permanent, StateError> {
            let (mut r, version) = open_header(bytes, MAGIC, 1, VERSION)?;
            let level = match r.u16() {
                Ok(LEVEL) => LEVEL,
                Ok(found) if found > LEVEL => return Err(StateError::NewerLevel { found }),
                _ => return Err(StateError::Damaged("header")),
            };
            let mut permanent = Permanent { level, $($field: get_section(&mut r, $number, $name)?,)* failed_auths: 0 };
            if version >= 2 {
                permanent.failed_auths = get_section(&mut r, FAILED_AUTHS.0, FAILED_AUTHS.1)?;
            }
            check(&permanent)?;
            if r.is_empty() { Ok(permanent) } else { Err(StateError::Damaged("end")) }
        }
    };
}

sections! {
    1 "flags" flags,
    2 "endorsement key" ek,
    3 "endorsement key reset" ek_reset,
    4 "DAA seed" daa_seed,
    5 "proofs" proofs,
    6 "owner" owner_auth,
    7 "storage root key" srk,
    8 "operator" operator_auth,
    9 "DIR" dir,
    10 "maintenance key" maintenance_pub,
    11 "audited ordinals" audited,
    12 "audit counter" audit_counter,
    13 "families" families,
    14 "last family" last_family_id,
    15 "delegation rows" delegate_rows,
    16 "CMK restrictions" restrict_delegate,
    17 "NV writes without owner" no_owner_nv_writes,
    18 "NV areas" nv,
    19 "counters" counters,
    20 "next counter" next_counter_id,
    21 "counter floor" counter_floor,
    22 "owner's keys" owner_evict,
    23 "saved state" saved_state,
}

/// What the types alone do not promise.
fn check(permanent: &Permanent) -> Result<(), StateError> {
    if permanent.delegate_rows.len() != super::permanent::DELEGATE_ROWS {
        return Err(StateError::Damaged("delegation rows"));
    }
    if permanent.nv.iter().any(|area| area.data.len() != area.public.data_size as usize) {
        return Err(StateError::Damaged("NV areas"));
    }
    if permanent.srk.is_some() != permanent.owner_auth.is_some() {
        return Err(StateError::Damaged("storage root key"));
    }
    Ok(())
}

/// The external form of the volatile state.
pub(crate) fn store_volatile(volatile: &Volatile) -> Zeroizing<Vec<u8>> {
    let keys = volatile.keys.len() * 2048;
    let mut out = Zeroizing::new(Vec::with_capacity(16 * 1024 + keys));
    Writer::new(&mut out).bytes(MAGIC_VOLATILE).u16(VERSION_VOLATILE);
    put_section(&mut out, 1, volatile);
    out
}

/// Reads what [`store_volatile`] wrote.
pub(crate) fn load_volatile(bytes: &[u8]) -> Result<Volatile, StateError> {
    let (mut r, _) = open_header(bytes, MAGIC_VOLATILE, VERSION_VOLATILE, VERSION_VOLATILE)?;
    let volatile = get_section(&mut r, 1, "volatile state")?;
    if r.is_empty() { Ok(volatile) } else { Err(StateError::Damaged("end")) }
}

#[cfg(test)]
mod tests;
