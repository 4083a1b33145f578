//! What a TPM signs about itself (part 2, section 10.12), and signatures (section 11.3).

use super::codes::{ST_ATTEST_CERTIFY, ST_ATTEST_CREATION, ST_ATTEST_QUOTE, alg};
use super::public::PcrBank;
use crate::cursor::{Reader, Truncated};

/// `TPM_GENERATED_VALUE`: what a restricted key signs begins with it only if the TPM made it.
pub const ATTEST_MAGIC: u32 = 0xff54_4347;

/// `TPMS_CLOCK_INFO` (section 10.11.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockInfo {
    /// Milliseconds that the TPM had power, since its clock was last set.
    pub clock: u64,
    /// Resets since it was made or cleared.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether `clock` was never higher before.
    pub safe: bool,
}

impl ClockInfo {
    /// Reads it.
    pub fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let (clock, reset_count, restart_count) = (r.u64()?, r.u32()?, r.u32()?);
        let safe = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Truncated),
        };
        Ok(Self { clock, reset_count, restart_count, safe })
    }
}

/// `TPMU_ATTEST` (section 10.12.11): what is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attested<'a> {
    /// `TPMS_QUOTE_INFO`: PCRs.
    Quote {
        /// The bank and the PCRs; a quote over several banks is refused.
        pcrs: PcrBank,
        /// The hash over their values, with the signing scheme's hash.
        digest: &'a [u8],
    },
    /// `TPMS_CERTIFY_INFO`: a loaded object.
    Certify {
        /// Its Name.
        name: &'a [u8],
        /// Its qualified Name.
        qualified_name: &'a [u8],
    },
    /// `TPMS_CREATION_INFO`: how an object was made.
    Creation {
        /// Its Name.
        name: &'a [u8],
        /// The hash over its creation data, with the hash of its Name.
        creation_hash: &'a [u8],
    },
}

/// `TPMS_ATTEST` (section 10.12.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attest<'a> {
    /// The qualified Name of the key that signs.
    pub signer: &'a [u8],
    /// What the caller had put in: a nonce.
    pub extra_data: &'a [u8],
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// The TPM's firmware version.
    pub firmware: u64,
    /// What is said.
    pub attested: Attested<'a>,
}

impl<'a> Attest<'a> {
    /// Reads one that ends where `bytes` end. One that does not begin with [`ATTEST_MAGIC`] is refused, and so are kinds that
    /// nobody here asks for.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        let (magic, kind) = (r.u32()?, r.u16()?);
        let (signer, extra_data) = (r.sized16()?, r.sized16()?);
        let clock = ClockInfo::get(&mut r)?;
        let firmware = r.u64()?;
        let attested = match kind {
            ST_ATTEST_QUOTE => {
                let (mut pcrs, mut banks) = (None, 0usize);
                PcrBank::list(&mut r, |bank| {
                    pcrs = Some(bank);
                    banks += 1;
                })?;
                let pcrs = pcrs.filter(|_| banks == 1).ok_or(Truncated)?;
                Attested::Quote { pcrs, digest: r.sized16()? }
            }
            ST_ATTEST_CERTIFY => Attested::Certify { name: r.sized16()?, qualified_name: r.sized16()? },
            ST_ATTEST_CREATION => Attested::Creation { name: r.sized16()?, creation_hash: r.sized16()? },
            _ => return Err(Truncated),
        };
        if magic != ATTEST_MAGIC || !r.is_empty() {
            return Err(Truncated);
        }
        Ok(Self { signer, extra_data, clock, firmware, attested })
    }
}

/// `TPMT_SIGNATURE` (section 11.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature<'a> {
    /// RSASSA-PKCS1-v1_5.
    Rsassa {
        /// The hash that was signed.
        hash: u16,
        /// The signature: as long as the modulus.
        signature: &'a [u8],
    },
    /// ECDSA.
    Ecdsa {
        /// The hash that was signed.
        hash: u16,
        /// r, possibly without leading zeros.
        r: &'a [u8],
        /// s, the same.
        s: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads one that ends where `bytes` end. Other schemes are refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        let (scheme, hash) = (r.u16()?, r.u16()?);
        let signature = match scheme {
            alg::RSASSA => Self::Rsassa { hash, signature: r.sized16()? },
            alg::ECDSA => Self::Ecdsa { hash, r: r.sized16()?, s: r.sized16()? },
            _ => return Err(Truncated),
        };
        if r.is_empty() { Ok(signature) } else { Err(Truncated) }
    }
}
