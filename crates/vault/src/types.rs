//! What the owner of a vault says and is told.

use alloc::vec::Vec;
use core::fmt;
use tpm_crypto::CryptoRng;
use zeroize::Zeroizing;

/// What sort of program a vault belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One guest's vTPM.
    Vtpm,
    /// The manager.
    Manager,
}

impl Kind {
    /// The byte that stands for it on disk.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Vtpm => 1,
            Self::Manager => 2,
        }
    }

    /// The kind that `code` stands for.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Vtpm),
            2 => Some(Self::Manager),
            _ => None,
        }
    }
}

/// Whose vault it is. Another owner's vault is never opened, whatever the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The sort of program.
    pub kind: Kind,
    /// The UUID of the vTPM or of the manager, in the order in which it is printed.
    pub uuid: [u8; 16],
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Vtpm => "vTPM ",
            Kind::Manager => "manager ",
        })?;
        for (i, byte) in self.uuid.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The 32-byte secret that every generation's own key is derived from. Wiped when dropped.
pub struct VaultKey(Zeroizing<[u8; 32]>);

impl VaultKey {
    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A new key.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Self(Zeroizing::new([0; 32]));
        rng.fill_bytes(&mut key.0[..]);
        key
    }

    /// Its bytes, for whoever keeps them (the manager's record, the sealed root).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One state as it lies on the disk. Equal generations are equal bytes: the identity is the start of a SHA-256 over all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation {
    /// Ascending from 1.
    pub sequence: u64,
    /// The first 24 bytes of the digest.
    pub identity: [u8; 24],
}

/// Which generation an owner opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// This one and no other: an older (or merely other) one is refused as rolled back, and a newer one beside it was written
    /// but never acknowledged.
    Exactly(Generation),
    /// The newest that is whole. Can't notice an older copy of the disk put back.
    Newest,
}

/// What a new vault may replace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// Nothing: the part of the disk that will be used must be all zeros.
    Blank,
    /// As `Blank`, or a vault of the same owner from whose creation nothing was ever acknowledged: one marked unfinished, or
    /// one with the same key that never got past its first generation.
    UnfinishedCreation,
}

/// What a disk holds, as far as one can tell without the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeros wherever a vault would be, and at the very end.
    Blank,
    /// A vault.
    Vault(Header),
    /// Something else.
    Foreign,
}

/// The plain part of a vault. Not authenticated before the vault is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The format version.
    pub format: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Power failed while it was being created, and nothing in it was ever acknowledged: it can't be opened, but may be made
    /// anew with [`Over::UnfinishedCreation`].
    pub unfinished: bool,
    /// The label of the newest whole generation; empty if there is none.
    pub label: Vec<u8>,
}
