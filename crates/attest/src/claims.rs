//! What the manager vouches for beside PCRs: the extra information of a quote.

use crate::error::AttestError;
use alloc::vec::Vec;
use tpm_crypto::{ct_eq, sha1};
use tpm_wire::Writer;
use tpm_wire::mgr::quote_flags;

/// The approval agent's key and configuration list of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupInfo {
    /// [`tpm_wire::mgr::SaaKey::bytes`]; none: 256 zeros stand for it.
    pub key: Option<Vec<u8>>,
    /// Sequence of the list.
    pub sequence: u64,
    /// Digests of its configurations.
    pub conditions: Vec<Vec<u8>>,
    /// Its kernel hashes.
    pub kernels: Vec<[u8; 20]>,
}

/// What the verifier wants to hear. A flag that is asked for without a claim here is answered with a hash that is checked to be
/// signed, and nothing else ([`crate::Quoted::hashes`]).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// The vTPM that asked; of a group quote, the group.
    pub uuid: Option<[u8; 16]>,
    /// SHA-1 of the XSM label of its domain.
    pub label_hash: Option<[u8; 20]>,
    /// Its group's key and list.
    pub group: Option<GroupInfo>,
    /// Its group's approval key: [`tpm_wire::mgr::SaaKey::bytes`], or 256 zeros for none.
    pub group_key: Option<Vec<u8>>,
}

fn key_or_zeros(key: Option<&[u8]>) -> &[u8] {
    key.unwrap_or(&[0; 256])
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl GroupInfo {
    fn hash(&self) -> [u8; 20] {
        let mut bytes = key_or_zeros(self.key.as_deref()).to_vec();
        let mut out = Writer::new(&mut bytes);
        out.u64(self.sequence).u32(count(self.conditions.len()));
        for digest in &self.conditions {
            out.bytes(digest);
        }
        out.u32(count(self.kernels.len()));
        for kernel in &self.kernels {
            out.bytes(kernel);
        }
        sha1(&[&bytes])
    }
}

impl Claims {
    /// Each flag, what it is called, and the hash that it has to come with, if the verifier knows it.
    fn wanted(&self) -> [(u32, &'static str, Option<[u8; 20]>); 4] {
        [
            (quote_flags::UUID, "UUID", self.uuid.map(|uuid| sha1(&[&uuid]))),
            (quote_flags::MEASUREMENT, "label", self.label_hash.map(|hash| sha1(&[&hash]))),
            (quote_flags::GROUP_INFO, "group and configuration list", self.group.as_ref().map(GroupInfo::hash)),
            (quote_flags::GROUP_PUBKEY, "group key", self.group_key.as_ref().map(|key| sha1(&[key]))),
        ]
    }

    /// The flags whose claims are known.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.wanted().iter().filter(|(.., hash)| hash.is_some()).fold(0, |flags, (flag, ..)| flags | flag)
    }

    /// Compares the signed hashes, one for each of `flags` in ascending order, with what is wanted.
    pub(crate) fn check(&self, flags: u32, hashes: &[[u8; 20]]) -> Result<Vec<(u32, [u8; 20])>, AttestError> {
        let mut found = hashes.iter();
        let mut named = Vec::new();
        for (flag, what, wanted) in self.wanted() {
            if flags & flag == 0 {
                if wanted.is_some() {
                    return Err(AttestError::NoClaim { what });
                }
                continue;
            }
            let hash = found.next().ok_or(AttestError::Malformed { what: "the answer" })?;
            if wanted.is_some_and(|wanted| !ct_eq(&wanted, hash)) {
                return Err(AttestError::Claim { what });
            }
            named.push((flag, *hash));
        }
        Ok(named)
    }
}
