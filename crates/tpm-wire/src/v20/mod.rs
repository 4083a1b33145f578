//! TPM 2.0 Library specification 1.59: codes (part 2) and the structures that more than one room reads or writes.
//!
//! `cc`, `alg`, `rh`, `handle` and their like hold numbers under the specification's names; [`rc`] reads response codes.
//! The structures borrow from the bytes they were read from and write themselves with [`crate::Writer`]. Hashing a
//! structure into a Name or a digest is the caller's business: there is no cryptography here.

mod attest;
pub mod cc;
mod codes;
mod public;
pub mod rc;

pub use attest::{ATTEST_MAGIC, Attest, Attested, ClockInfo, Signature};
pub use codes::{
    ST_ATTEST_CERTIFY, ST_ATTEST_CREATION, ST_ATTEST_QUOTE, ST_CREATION, ST_NO_SESSIONS, ST_SESSIONS, alg, cap, curve,
    handle, nv, object, pt, rh, se, session, su,
};
pub use public::{EccParms, PcrBank, Public, RsaParms, Scheme, Symmetric, Unique};

#[cfg(test)]
mod tests;
