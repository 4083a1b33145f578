//! A quote of the chip, as the manager answers with it.

use crate::Bank;
use crate::attested::{Attested, ClockInfo};
use crate::bank::{PCR_COUNT, bitmap, pcr_indices};
use crate::claims::Claims;
use crate::error::AttestError;
use crate::key::QuoteKey;
use alloc::vec::Vec;
use tpm_crypto::{ct_eq, sha1, sha256};
use tpm_wire::mgr::{Evidence, GROUP_QUOTE_FLAGS, QUOTE_FLAGS, external_data_preimage, group_quote_preimage};
use tpm_wire::{Reader, Writer};

/// Whom a quote is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// GET_QUOTE: the vTPM that asked.
    Vtpm,
    /// GROUP_QUOTE: a group; its UUID is the claim. The flags are [`GROUP_QUOTE_FLAGS`].
    Group,
}

/// What the verifier asked for, and so what alone is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which command.
    pub subject: Subject,
    /// 20 bytes: a fresh nonce, or the hash of what a vTPM vouches for ([`crate::deep_data`], [`crate::endorsement_data`]).
    pub data: [u8; 20],
    /// The PCRs as a mask, PCR *n* as bit *n*.
    pub pcrs: u32,
    /// Their bank; SHA-1 on a TPM 1.2.
    pub bank: Bank,
    /// [`tpm_wire::mgr::quote_flags`].
    pub flags: u32,
    /// What is wanted behind the flags.
    pub claims: &'a Claims,
}

/// What a quote proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// The bank.
    pub bank: Bank,
    /// The PCRs' values, ascending.
    pub pcrs: Vec<(u8, Vec<u8>)>,
    /// For each flag that was asked for, ascending, the hash that is signed along.
    pub hashes: Vec<(u32, [u8; 20])>,
    /// The clock of a TPM 2.0 chip.
    pub clock: Option<ClockInfo>,
    /// The firmware version of a TPM 2.0 chip.
    pub firmware: Option<u64>,
}

impl Quoted {
    /// Fails unless this PCR was quoted and has this value.
    pub fn expect(&self, index: u8, value: &[u8]) -> Result<(), AttestError> {
        let found = self.pcrs.iter().find(|(known, _)| *known == index);
        if found.is_some_and(|(_, found)| ct_eq(found, value)) { Ok(()) } else { Err(AttestError::Pcr { index }) }
    }
}

/// Checks the body of an answer to GET_QUOTE or GROUP_QUOTE: that `key` signed it, for this request and no other, and that nothing in
/// it is not signed.
pub fn verify(key: &QuoteKey, request: &Request<'_>, answer: &[u8]) -> Result<Quoted, AttestError> {
    let flags = match request.subject {
        Subject::Vtpm => request.flags & !QUOTE_FLAGS == 0,
        Subject::Group => request.flags == GROUP_QUOTE_FLAGS,
    };
    if !flags || request.pcrs >> PCR_COUNT != 0 {
        return Err(AttestError::Malformed { what: "the request" });
    }
    if key.is_v20() { verify_20(key, request, answer) } else { verify_12(key, request, answer) }
}

/// The external (1.2) or qualifying (2.0) data: a SHA-1 hash.
fn external_data(request: &Request<'_>, hashes: &[[u8; 20]]) -> [u8; 20] {
    sha1(&[&match request.subject {
        Subject::Vtpm => external_data_preimage(request.flags, &request.data, hashes),
        Subject::Group => group_quote_preimage(&request.data, hashes),
    }])
}

fn verify_12(key: &QuoteKey, request: &Request<'_>, answer: &[u8]) -> Result<Quoted, AttestError> {
    let malformed = AttestError::Malformed { what: "the answer" };
    if request.bank != Bank::Sha1 {
        return Err(AttestError::Bank { wanted: request.bank });
    }
    let evidence = Evidence::parse_12(answer, request.flags, request.pcrs).ok_or(malformed)?;
    let Evidence::Tpm12 { signature, hashes, pcrs: values } = evidence else { return Err(malformed) };
    let composite = sha1(&[&composite(request.pcrs, &values)]);
    key.verify_12(&quote_info(&composite, &external_data(request, &hashes)), &signature)?;
    let hashes = request.claims.check(request.flags, &hashes)?;
    let pcrs = pcr_indices(request.pcrs).zip(values).collect();
    Ok(Quoted { bank: Bank::Sha1, pcrs, hashes, clock: None, firmware: None })
}

/// `TPM_PCR_COMPOSITE` (TPM Main 1.2, part 2, section 8.2), with a selection of three bytes.
pub(crate) fn composite<V: AsRef<[u8]>>(pcrs: u32, values: &[V]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let values: Vec<u8> = values.iter().flat_map(AsRef::as_ref).copied().collect();
    Writer::new(&mut bytes).u16(3).bytes(&bitmap(pcrs)).sized32(&values);
    bytes
}

/// `TPM_QUOTE_INFO` (TPM Main 1.2, part 2, section 11.3).
fn quote_info(composite: &[u8; 20], external: &[u8; 20]) -> Vec<u8> {
    [&[1, 1, 0, 0][..], b"QUOT", composite, external].concat()
}

fn verify_20(key: &QuoteKey, request: &Request<'_>, answer: &[u8]) -> Result<Quoted, AttestError> {
    let malformed = AttestError::Malformed { what: "the answer" };
    let mut from = Reader::new(answer);
    let mut part = || crate::attested::sized16(&mut from).map_err(|_| malformed);
    let (attest, signature) = (part()?, part()?);
    key.verify_20(attest, signature)?;
    let attested = Attested::parse(attest)?;
    if attested.bank != request.bank {
        return Err(AttestError::Bank { wanted: request.bank });
    }
    if attested.pcrs != request.pcrs {
        return Err(AttestError::Selection);
    }
    let evidence = Evidence::parse_20(answer, request.flags, request.pcrs, request.bank.size()).ok_or(malformed)?;
    let Evidence::Tpm20 { hashes, pcrs: values, .. } = evidence else { return Err(malformed) };
    if !ct_eq(&attested.extra_data, &external_data(request, &hashes)) {
        return Err(AttestError::ExternalData);
    }
    let hashes = request.claims.check(request.flags, &hashes)?;
    // The key's scheme is with SHA-256, and so is this.
    let parts: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    if !ct_eq(&attested.digest, &sha256(&parts)) {
        return Err(AttestError::PcrValues);
    }
    let pcrs = pcr_indices(request.pcrs).zip(values).collect();
    let (clock, firmware) = (Some(attested.clock), Some(attested.firmware));
    Ok(Quoted { bank: attested.bank, pcrs, hashes, clock, firmware })
}
