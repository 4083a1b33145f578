//! What a quote vouches for: the hashes that go into what the chip signs. Layouts in `docs/formats/management.md`; the verifier's half is
//! `crates/attest`.

use crate::hardware::{Quote, Version};
use crate::policy::saa_of;
use crate::state::{Group, Uuid};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::{Sha1, sha1};
use tpm_wire::mgr::{Evidence, Refused, code, quote_flags};

/// The bytes of a group's approval key as they are hashed: 256 zeros if there is none, as a new group of the C manager has.
fn key_bytes(group: &Group) -> Vec<u8> {
    group.approver.as_ref().map_or_else(|| vec![0; 256], |key| saa_of(key).bytes().to_vec())
}

/// SHA-1 of the approval key.
pub fn group_pubkey(group: &Group) -> [u8; 20] {
    sha1(&[&key_bytes(group)])
}

/// SHA-1 of approval key ‖ sequence (64 bits) ‖ count (32 bits) and digests ‖ count (32 bits) and kernel hashes.
pub fn group_info(group: &Group) -> [u8; 20] {
    let config = &group.config;
    let mut hash = Sha1::new();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    hash.update(&key_bytes(group));
    hash.update(&config.sequence.to_be_bytes());
    hash.update(&count(config.pcrs.len()));
    config.pcrs.iter().for_each(|condition| hash.update(&condition.digest));
    hash.update(&count(config.kernels.len()));
    config.kernels.iter().for_each(|kernel| hash.update(kernel));
    hash.finish()
}

/// The hashes that `flags` ask for, in ascending order of flag.
///
/// # Errors
/// `FAIL` if the vTPM's measurement is asked for and Xen has none: an empty hash signed by the chip would look like one.
pub fn hashes(flags: u32, uuid: &Uuid, measurement: Option<[u8; 20]>, group: &Group) -> Result<Vec<[u8; 20]>, Refused> {
    let mut hashes = Vec::new();
    if flags & quote_flags::UUID != 0 {
        hashes.push(sha1(&[uuid]));
    }
    if flags & quote_flags::MEASUREMENT != 0 {
        hashes.push(sha1(&[&measurement.ok_or(Refused(code::FAIL))?]));
    }
    if flags & quote_flags::GROUP_INFO != 0 {
        hashes.push(group_info(group));
    }
    if flags & quote_flags::GROUP_PUBKEY != 0 {
        hashes.push(group_pubkey(group));
    }
    Ok(hashes)
}

/// The answer that carries `quote`.
pub fn evidence(quote: Quote, hashes: Vec<[u8; 20]>) -> Evidence {
    let Quote { version, attest, signature, pcrs } = quote;
    let pcrs = pcrs.into_iter().map(|(_, value)| value.to_vec()).collect();
    match version {
        Version::V12 => Evidence::Tpm12 { signature, hashes, pcrs },
        Version::V20 => Evidence::Tpm20 { attest, signature, hashes, pcrs },
    }
}
