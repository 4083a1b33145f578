//! A vTPM's record as the manager keeps it: as it came, or encrypted with the key of the vTPM's group.

use super::Uuid;
use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::{CryptoRng, aead, hkdf_sha256};
use tpm_wire::mgr::{RECORD_MAX, RECORD_MIN};
use zeroize::Zeroizing;

/// The most bytes of a stored record: nonce, ciphertext, tag.
const MAX: usize = aead::NONCE_SIZE + RECORD_MAX + aead::TAG_SIZE;
/// What encryption adds.
const SEAL: usize = aead::NONCE_SIZE + aead::TAG_SIZE;

/// The record cannot be read: its group is not open, or it was not encrypted for this vTPM with this group's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the vTPM's record cannot be read: its group is not open")
    }
}

impl core::error::Error for Unreadable {}

/// A record of 52 to 64 bytes, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredRecord {
    bytes: Zeroizing<[u8; MAX]>,
    length: u8,
    sealed: bool,
}

impl StoredRecord {
    /// A record as it came, for a vTPM of a group whose key is [`super::GroupKey::Plain`]; `None` if it does not have 52 to 64
    /// bytes.
    pub fn plain(record: &[u8]) -> Option<Self> {
        (RECORD_MIN..=RECORD_MAX).contains(&record.len()).then(|| Self::from_parts(false, record))?
    }

    /// A record encrypted with its group's key. It opens for this vTPM in this group and nowhere else.
    pub fn sealed(record: &[u8], vtpm: &Uuid, group: &Uuid, key: &[u8; 32], rng: &mut impl CryptoRng) -> Option<Self> {
        if !(RECORD_MIN..=RECORD_MAX).contains(&record.len()) {
            return None;
        }
        let mut nonce = [0; aead::NONCE_SIZE];
        rng.fill_bytes(&mut nonce);
        let sealed = aead::seal(&record_key(key), &nonce, &associated(vtpm, group), record);
        Self::from_parts(true, &[&nonce, &sealed[..]].concat())
    }

    /// The record as it came. `key` is the group's, if it is a sealed one and open.
    pub fn open(&self, vtpm: &Uuid, group: &Uuid, key: Option<&[u8; 32]>) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        if !self.sealed {
            return Ok(Zeroizing::new(self.bytes().to_vec()));
        }
        let (nonce, sealed) = self.bytes().split_first_chunk().ok_or(Unreadable)?;
        aead::open(&record_key(key.ok_or(Unreadable)?), nonce, &associated(vtpm, group), sealed).map_err(|_| Unreadable)
    }

    /// Whether it is encrypted with the group's key.
    pub const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The stored bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }

    /// From the stored form, if the length is one that a record can have.
    pub(super) fn from_parts(sealed: bool, stored: &[u8]) -> Option<Self> {
        let extra = if sealed { SEAL } else { 0 };
        if !(RECORD_MIN + extra..=RECORD_MAX + extra).contains(&stored.len()) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; MAX]);
        bytes.get_mut(..stored.len())?.copy_from_slice(stored);
        Some(Self { bytes, length: u8::try_from(stored.len()).ok()?, sealed })
    }
}

fn record_key(group: &[u8; 32]) -> Zeroizing<[u8; aead::KEY_SIZE]> {
    let mut key = Zeroizing::new([0; aead::KEY_SIZE]);
    hkdf_sha256(group, &[], b"xen-vtpm manager 1 record", &mut key[..]);
    key
}

fn associated(vtpm: &Uuid, group: &Uuid) -> [u8; 32] {
    let mut both = [0; 32];
    let (first, second) = both.split_at_mut(16);
    first.copy_from_slice(vtpm);
    second.copy_from_slice(group);
    both
}
