//! What a TPM 2.0 signs: `TPMS_ATTEST` with a `TPMS_QUOTE_INFO` (Library 1.59, part 2, section 10.12).

use crate::bank::mask_of;
use crate::error::{AttestError, cut};
use crate::{Bank, PCR_COUNT};
use alloc::vec::Vec;
use tpm_wire::{Reader, Truncated};

/// `TPM_GENERATED_VALUE`.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const ATTEST_QUOTE: u16 = 0x8018;
const WHAT: &str = "the TPMS_ATTEST";

/// `TPMS_CLOCK_INFO`: the chip's clock when it signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockInfo {
    /// Milliseconds that the chip was powered.
    pub clock: u64,
    /// Resets of the chip since its owner was cleared.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether the clock has never been ahead of this since the last orderly stop.
    pub safe: bool,
}

/// A quote as a TPM 2.0 signed it. Parsing it proves nothing; [`crate::verify`] does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attested {
    /// The qualified name of the key.
    pub qualified_signer: Vec<u8>,
    /// `extraData`: the caller's qualifying data.
    pub extra_data: Vec<u8>,
    /// The clock.
    pub clock: ClockInfo,
    /// The chip's firmware version.
    pub firmware: u64,
    /// The bank.
    pub bank: Bank,
    /// PCR *n* is bit *n*.
    pub pcrs: u32,
    /// The hash, with the signing scheme's algorithm, of the PCRs' values one after another.
    pub digest: Vec<u8>,
}

/// A byte string behind its 16-bit length (`TPM2B_*`).
pub(crate) fn sized16<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let length = from.u16()?;
    from.bytes(length.into())
}

impl Attested {
    /// Reads a whole `TPMS_ATTEST`. A quote over no bank, several banks, or PCRs above 23 is malformed: the manager makes none such.
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        let malformed = AttestError::Malformed { what: WHAT };
        let mut from = Reader::new(bytes);
        if from.u32().map_err(cut(WHAT))? != GENERATED {
            return Err(AttestError::NotGenerated);
        }
        let kind = from.u16().map_err(cut(WHAT))?;
        if kind != ATTEST_QUOTE {
            return Err(AttestError::NotAQuote { found: kind });
        }
        let mut body = || -> Result<Self, Truncated> {
            let qualified_signer = sized16(&mut from)?.to_vec();
            let extra_data = sized16(&mut from)?.to_vec();
            let (clock, reset_count, restart_count) = (from.u64()?, from.u32()?, from.u32()?);
            let safe = match from.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Truncated),
            };
            let firmware = from.u64()?;
            if from.u32()? != 1 {
                return Err(Truncated);
            }
            let bank = Bank::from_id(from.u16()?).ok_or(Truncated)?;
            let length = from.u8()?;
            let bitmap = from.bytes(length.into())?;
            let pcrs = mask_of(bitmap).filter(|mask| mask >> PCR_COUNT == 0).ok_or(Truncated)?;
            let digest = sized16(&mut from)?.to_vec();
            let clock = ClockInfo { clock, reset_count, restart_count, safe };
            Ok(Self { qualified_signer, extra_data, clock, firmware, bank, pcrs, digest })
        };
        let attested = body().map_err(cut(WHAT))?;
        if from.is_empty() { Ok(attested) } else { Err(malformed) }
    }
}
