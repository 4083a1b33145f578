//! The banks of PCRs that this project knows.

use core::fmt;

/// A bank of PCRs, by its hash. The numbers are `TPM_ALG_ID`s (TPM 2.0, part 2, section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bank {
    /// SHA-1: the only one of a TPM 1.2.
    Sha1 = 0x0004,
    /// SHA-256.
    Sha256 = 0x000b,
    /// SHA-384.
    Sha384 = 0x000c,
}

impl Bank {
    /// Its `TPM_ALG_ID`.
    #[must_use]
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// The bank with this `TPM_ALG_ID`.
    #[must_use]
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000b => Some(Self::Sha256),
            0x000c => Some(Self::Sha384),
            _ => None,
        }
    }

    /// Bytes in each of its PCRs.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
        })
    }
}
