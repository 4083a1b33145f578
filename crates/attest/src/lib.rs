//! Checks, offline, what a manager's chip says: [`verify`] a quote, or the whole [`Chain`] from the chip's attestation key over the manager
//! to one vTPM's endorsement key and its PCRs. What is signed and how it is laid out: docs/formats/attestation.md.
//!
//! Nothing in an answer is believed before the signature over it verifies, and everything that a verifier wants to know is pinned by
//! him: the key, the nonce, which PCRs of which bank, and what else the manager is to vouch for. An answer that says more, less or
//! something else is refused.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attested;
mod bank;
mod chain;
mod claims;
mod credential;
mod error;
mod key;
mod quote;

pub use attested::{Attested, ClockInfo};
pub use bank::{PCR_COUNT, pcr_indices};
pub use chain::{Chain, Deep, Endorsement, Proven, deep_data, endorsement_data};
pub use claims::{Claims, GroupInfo};
pub use credential::{Credential, CredentialError, SECRET_SIZE};
pub use error::AttestError;
pub use key::{EndorsementKey, QuoteKey};
pub use quote::{Quoted, Request, Subject, verify};
pub use tpm_wire::Bank;
