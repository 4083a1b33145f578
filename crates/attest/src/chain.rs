//! From the chip to a guest: two quotes of the chip that a vTPM asked for, one over its endorsement key when that was made, one over its
//! PCRs now.

use crate::Bank;
use crate::bank::bitmap;
use crate::claims::Claims;
use crate::error::AttestError;
use crate::key::{EndorsementKey, QuoteKey};
use crate::quote::{Quoted, Request, Subject, composite, verify};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::Writer;
use tpm_wire::mgr::quote_flags;

/// The one locality that guests have.
const GUEST_LOCALITY: u8 = 0;

/// What `TPM_DeepQuote` has the manager sign along: SHA-1 of 0 (32 bits) ‖ `DQUT` ‖ the guest's nonce ‖ `TPM_PCR_INFO_SHORT` of the
/// vTPM's own PCRs, selected by three bytes. `None` for a PCR above 23, or values that are not in ascending order of PCR.
#[must_use]
pub fn deep_data(nonce: &[u8; 20], own: &[(u8, [u8; 20])]) -> Option<[u8; 20]> {
    let ascending = own.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0));
    if !ascending || own.iter().any(|(index, _)| *index >= crate::PCR_COUNT) {
        return None;
    }
    let mask = own.iter().fold(0, |mask, (index, _)| mask | 1 << index);
    let values: Vec<[u8; 20]> = own.iter().map(|(_, value)| *value).collect();
    let mut short = Vec::new();
    let digest = sha1(&[&composite(mask, &values)]);
    Writer::new(&mut short).u16(3).bytes(&bitmap(mask)).u8(1 << GUEST_LOCALITY).bytes(&digest);
    Some(sha1(&[&[0; 4], b"DQUT", nonce, &short]))
}

/// What `TPM_ParentSignEK` has the manager sign along: SHA-1 of the `TPM_PUBKEY` and the nonce, the checksum of `TPM_ReadPubek`.
#[must_use]
pub fn endorsement_data(pubek: &[u8], nonce: &[u8; 20]) -> [u8; 20] {
    sha1(&[pubek, nonce])
}

/// The answer to `TPM_ParentSignEK`, and what was asked.
#[derive(Clone, Copy)]
pub struct Endorsement<'a> {
    /// The vTPM's endorsement key.
    pub key: &'a EndorsementKey,
    /// The nonce. It need not be the verifier's: the key is made once.
    pub nonce: [u8; 20],
    /// The chip's PCRs that were asked for, as a mask.
    pub pcrs: u32,
    /// The flags; without [`quote_flags::UUID`] the answer does not say whose key it is.
    pub flags: u32,
    /// The answer.
    pub answer: &'a [u8],
}

/// The answer to `TPM_DeepQuote`, and what was asked.
#[derive(Clone, Copy)]
pub struct Deep<'a> {
    /// The verifier's nonce, fresh.
    pub nonce: [u8; 20],
    /// The vTPM's PCRs as the guest says they are, ascending.
    pub own: &'a [(u8, [u8; 20])],
    /// The chip's PCRs that were asked for, as a mask.
    pub pcrs: u32,
    /// The flags; without [`quote_flags::UUID`] the answer does not say whose PCRs they are.
    pub flags: u32,
    /// The answer.
    pub answer: &'a [u8],
}

/// The whole chain, and what the verifier wants of it.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    /// The attestation key of the vTPM's group, known to be of the right chip and manager ([`crate::Credential`]).
    pub key: &'a QuoteKey,
    /// The vTPM.
    pub uuid: [u8; 16],
    /// The bank of the chip's PCRs.
    pub bank: Bank,
    /// What else the manager has to vouch for in the deep quote. The UUID stands above.
    pub claims: &'a Claims,
    /// Of the run in which the vTPM was made.
    pub endorsement: Endorsement<'a>,
    /// Of now.
    pub deep: Deep<'a>,
}

/// What a chain proves: this vTPM, with this UUID, has this endorsement key and these PCRs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The vTPM's PCRs.
    pub own: Vec<(u8, [u8; 20])>,
    /// The chip when the endorsement key was made.
    pub then: Quoted,
    /// The chip now.
    pub now: Quoted,
}

impl Chain<'_> {
    /// The flags that a guest has to ask for at least, so that a chain can be made of its quotes.
    pub const FLAGS: u32 = quote_flags::UUID;

    /// Checks all of it.
    pub fn verify(&self) -> Result<Proven, AttestError> {
        let uuid_alone = Claims { uuid: Some(self.uuid), ..Claims::default() };
        let Endorsement { key, nonce, pcrs, flags, answer } = self.endorsement;
        if key.is_v20() {
            return Err(AttestError::UnfitKey { why: "a TPM 1.2 vTPM's endorsement key is a TPM_PUBKEY" });
        }
        let data = endorsement_data(key.encoded(), &nonce);
        let request = Request { subject: Subject::Vtpm, data, pcrs, bank: self.bank, flags, claims: &uuid_alone };
        let then = verify(self.key, &request, answer)?;

        let Deep { nonce, own, pcrs, flags, answer } = self.deep;
        let claims = Claims { uuid: Some(self.uuid), ..self.claims.clone() };
        let data = deep_data(&nonce, own).ok_or(AttestError::OwnPcrs)?;
        let request = Request { subject: Subject::Vtpm, data, pcrs, bank: self.bank, flags, claims: &claims };
        let now = verify(self.key, &request, answer)?;
        Ok(Proven { own: own.to_vec(), then, now })
    }
}
