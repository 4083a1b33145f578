//! Capabilities (part 3, section 7; the areas: part 2, section 21).

use crate::auth::lockout::THRESHOLD;
use crate::auth::session::{
    ENC_AES128_CTR, ENC_XOR, MAX_SESSIONS, PID_ADCP, PID_ADIP, PID_DSAP, PID_OIAP, PID_OSAP, PID_OWNER, PID_TRANSPORT,
};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::eviction::{RT_AUTH, RT_CONTEXT, RT_COUNTER, RT_DAA_TPM, RT_KEY, RT_TRANS};
use crate::dispatch::table;
use crate::structs::key::{
    ALG_AES128, ALG_HMAC, ALG_MGF1, ALG_RSA, ALG_SHA, ALG_XOR, ES_NONE, ES_RSAESOAEP, ES_RSAESPKCS, ES_SYM_CTR,
    ES_SYM_OFB, KeyParms, SS_DER, SS_INFO, SS_NONE, SS_SHA1,
};
use crate::structs::pcr::PCR_COUNT;
use crate::tpm::{MAX_KEYS, Tpm};
use crate::wire::Wire;
use alloc::vec::Vec;
use tpm_wire::{MAX_PACKET, Reader, Writer};

/// `TPM_VENDOR_ID`: ours; the TCG's registry has no such entry.
pub(crate) const VENDOR: [u8; 4] = *b"XVTR";
/// `TPM_VERSION`: 1.2 and this engine's own level.
const VERSION: [u8; 4] = [1, 2, 1, 0];
/// TPM Main specification level 2, errata 3 (revision 116).
const SPEC_LEVEL: u16 = 2;
const ERRATA: u8 = 3;

/// Interface timeouts A to D in microseconds, as the reference vTPM tells them.
const TIMEOUTS: [u32; 4] = [750_000, 2_000_000, 750_000, 750_000];
/// Durations of short, medium and long commands in microseconds. SeaBIOS counts them in ticks of 3.58 MHz in 31 bits: 600 seconds
/// are over at once there, and it gives the TPM up in the self test.
const DURATIONS: [u32; 3] = [3_000_000, 3_000_000, 300_000_000];
/// `TPM_STARTUP_EFFECTS` (part 2, section 4.8): `TPM_Startup` ends sessions of all kinds and hash sequences; contexts survive
/// ST_STATE; every start begins a new audit digest with ST_CLEAR.
const STARTUP_EFFECTS: u32 = 0x0000_014e;

/// Counters at a time.
pub(crate) const MAX_COUNTERS: usize = 8;
/// Transport sessions at a time.
pub(crate) const MAX_TRANSPORTS: usize = 8;
/// Saved session contexts at a time.
pub(crate) const MAX_CONTEXTS: usize = 128;
/// DAA sessions at a time.
pub(crate) const MAX_DAA: usize = 2;
/// Families of delegations.
pub(crate) const MAX_FAMILIES: usize = 8;
/// The largest distance between the counts of saved contexts.
pub(crate) const CONTEXT_DISTANCE: u32 = 0xffff_ffff;

/// `TPM_CAP_VERSION_VAL`.
pub(crate) const VERSION_VAL: u32 = 0x1a;

/// `TPM_GetCapability` (section 7.1).
pub(crate) fn tpm_get_capability(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let area: u32 = call.get()?;
    let sub: Vec<u8> = call.only()?;
    let answer = tpm.capability(area, &sub)?;
    call.put(&answer);
    Ok(())
}

impl Tpm {
    /// A capability's value.
    pub(crate) fn capability(&self, area: u32, sub: &[u8]) -> Result<Vec<u8>, Code> {
        let mut out = Vec::new();
        let number = || -> Result<u32, Code> { u32::from_bytes(sub, codes::BAD_MODE).map_err(|_| codes::BAD_MODE) };
        let short = || -> Result<u16, Code> { u16::from_bytes(sub, codes::BAD_MODE).map_err(|_| codes::BAD_MODE) };
        match area {
            0x01 => table::find(number()?, &self.options).is_some().put(&mut Writer::new(&mut out)),
            0x02 => {
                let known = [ALG_RSA, ALG_SHA, ALG_HMAC, ALG_AES128, ALG_MGF1, ALG_XOR].contains(&number()?);
                known.put(&mut Writer::new(&mut out));
            }
            0x03 => {
                let known =
                    [PID_OIAP, PID_OSAP, PID_ADIP, PID_ADCP, PID_OWNER, PID_DSAP, PID_TRANSPORT].contains(&short()?);
                known.put(&mut Writer::new(&mut out));
            }
            0x04 => match number()? {
                0x108 => {
                    Writer::new(&mut out).u16(0x001f);
                    self.permanent.flags.put(&mut Writer::new(&mut out));
                }
                0x109 => {
                    Writer::new(&mut out).u16(0x0020);
                    self.volatile.flags.put(&mut Writer::new(&mut out));
                }
                _ => return Err(codes::BAD_MODE),
            },
            0x05 => self.property(number()?, &mut out)?,
            0x06 => out.extend([1, 1, 0, 0]),
            0x07 => self.handles(RT_KEY, &mut out)?,
            0x08 => self.check_loaded(sub)?.put(&mut Writer::new(&mut out)),
            0x09 => false.put(&mut Writer::new(&mut out)),
            0x0c => self.loaded_key(number()?)?.owner_evict.put(&mut Writer::new(&mut out)),
            0x0d => self.permanent.nv.iter().for_each(|area| area.public.index.put(&mut Writer::new(&mut out))),
            0x11 => {
                let mut public = self.nv_area(number()?)?.public.clone();
                public.read_st_clear = self.volatile.nv_read_locked.contains(&public.index);
                public.write_st_clear = self.volatile.nv_write_locked.contains(&public.index);
                public.put(&mut Writer::new(&mut out));
            }
            0x12 => [ALG_AES128, ALG_MGF1].contains(&number()?).put(&mut Writer::new(&mut out)),
            0x14 => self.handles(number()?, &mut out)?,
            0x15 => [ES_NONE, ES_SYM_CTR, ES_SYM_OFB].contains(&short()?).put(&mut Writer::new(&mut out)),
            0x17 => {
                let known = [u32::from(ENC_XOR), u32::from(ENC_AES128_CTR)].contains(&number()?);
                known.put(&mut Writer::new(&mut out));
            }
            0x18 => {
                let mut r = Reader::new(sub);
                let (major, minor, size) = (r.u8()?, r.u8()?, r.u16()?);
                if !r.is_empty() {
                    return Err(codes::BAD_MODE);
                }
                let fits = (1..=(PCR_COUNT / 8) as u16).contains(&size);
                (major == 1 && (1..=2).contains(&minor) && fits).put(&mut Writer::new(&mut out));
            }
            0x19 => self.da_logic(&mut out),
            VERSION_VAL => {
                let mut w = Writer::new(&mut out);
                w.u16(0x0030).bytes(&VERSION).u16(SPEC_LEVEL).u8(ERRATA).bytes(&VENDOR).u16(0);
            }
            _ => return Err(codes::BAD_MODE),
        }
        Ok(out)
    }

    fn property(&self, property: u32, out: &mut Vec<u8>) -> Result<(), Code> {
        let volatile = &self.volatile;
        let count = |n: usize| n as u32;
        let left = |max: usize, used: usize| count(max.saturating_sub(used));
        let sessions = volatile.sessions.len();
        let saved = volatile.contexts.iter().filter(|place| **place != 0).count();
        let value = match property {
            0x101 => count(PCR_COUNT),
            0x102 => 1,
            0x103 => u32::from_be_bytes(VENDOR),
            0x104 => left(MAX_KEYS, volatile.keys.len()),
            // Tenths of a second between increments of a counter (part 3, section 25.2).
            0x107 => 0,
            0x10a | 0x11d => left(MAX_SESSIONS, sessions),
            0x10b => left(MAX_TRANSPORTS, volatile.transports.len()),
            0x10c => left(MAX_COUNTERS, self.permanent.counters.len()),
            0x10d | 0x11e => count(MAX_SESSIONS),
            0x10e => count(MAX_TRANSPORTS),
            0x10f => count(MAX_COUNTERS),
            0x110 => count(MAX_KEYS),
            0x111 => {
                self.permanent.has_owner().put(&mut Writer::new(out));
                return Ok(());
            }
            0x112 => left(MAX_CONTEXTS, saved),
            0x113 => count(MAX_CONTEXTS),
            0x114 => count(MAX_FAMILIES),
            0x115 => {
                TIMEOUTS.iter().for_each(|timeout| timeout.put(&mut Writer::new(out)));
                return Ok(());
            }
            0x116 => STARTUP_EFFECTS,
            0x117 => count(crate::state::permanent::DELEGATE_ROWS),
            0x119 => count(MAX_DAA),
            0x11a => left(MAX_DAA, volatile.daa.len()),
            0x11b => CONTEXT_DISTANCE,
            // An interrupted DAA command does not lose its session.
            0x11c => {
                true.put(&mut Writer::new(out));
                return Ok(());
            }
            0x11f => self.permanent.restrict_delegate,
            0x120 => {
                DURATIONS.iter().for_each(|duration| duration.put(&mut Writer::new(out)));
                return Ok(());
            }
            0x122 => match volatile.active_counter {
                crate::state::volatile::COUNTER_RELEASED => crate::state::volatile::NO_COUNTER,
                active => active,
            },
            0x123 => self.nv_free(),
            0x124 => count(MAX_PACKET),
            _ => return Err(codes::BAD_MODE),
        };
        value.put(&mut Writer::new(out));
        Ok(())
    }

    /// `TPM_KEY_HANDLE_LIST`: a 16-bit count and the handles.
    fn handles(&self, kind: u32, out: &mut Vec<u8>) -> Result<(), Code> {
        let volatile = &self.volatile;
        let handles: Vec<u32> = match kind {
            RT_KEY => volatile.keys.iter().map(|key| key.handle).collect(),
            RT_AUTH => volatile.sessions.iter().map(|session| session.handle).collect(),
            RT_TRANS => volatile.transports.iter().map(|session| session.handle).collect(),
            RT_CONTEXT => volatile.contexts.iter().copied().filter(|count| *count != 0).collect(),
            RT_COUNTER => self.permanent.counters.iter().map(|counter| counter.id).collect(),
            RT_DAA_TPM => volatile.daa.iter().map(|session| session.handle).collect(),
            _ => return Err(codes::BAD_MODE),
        };
        let mut w = Writer::new(out);
        w.u16(handles.len() as u16);
        handles.iter().for_each(|handle| handle.put(&mut w));
        Ok(())
    }

    /// Whether a key of these parameters could be loaded now.
    fn check_loaded(&self, sub: &[u8]) -> Result<bool, Code> {
        let parms = KeyParms::from_bytes(sub, codes::BAD_MODE).map_err(|_| codes::BAD_MODE)?;
        let sizes = parms.rsa_details().is_ok_and(|(bits, _)| [512, 1024, 2048].contains(&bits));
        let schemes = [ES_NONE, ES_RSAESPKCS, ES_RSAESOAEP].contains(&parms.enc_scheme)
            && [SS_NONE, SS_SHA1, SS_DER, SS_INFO].contains(&parms.sig_scheme);
        Ok(sizes && schemes && self.volatile.keys.len() < MAX_KEYS)
    }

    /// `TPM_DA_INFO` (part 2, section 21.9), or the limited form if the owner chose that.
    fn da_logic(&self, out: &mut Vec<u8>) {
        let lockout = &self.volatile.lockout;
        let left = self.lockout_left();
        let active = u8::from(left > 0);
        let mut w = Writer::new(out);
        // `TPM_DA_ACTION_TIMEOUT` is the only action there is.
        if self.permanent.flags.disable_full_da_logic_info {
            w.u16(0x0038).u8(active).u16(0x0039).u32(1).u32(0);
        } else {
            let failures = u16::try_from(lockout.failures).unwrap_or(u16::MAX);
            let seconds = u32::try_from(left.div_ceil(1_000_000)).unwrap_or(u32::MAX);
            w.u16(0x0037).u8(active).u16(failures).u16(THRESHOLD as u16).u16(0x0039).u32(1).u32(seconds).u32(0);
        }
    }
}

pub(crate) mod set;
#[cfg(test)]
mod tests;
