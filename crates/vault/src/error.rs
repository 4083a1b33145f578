//! Why a vault was not opened, made or written.

use crate::Owner;
use core::fmt;
use xen_abi::DiskError;

/// Why a vault was not opened, made or written. Every refusal to open leaves the disk as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VaultError {
    /// The disk did not do as asked.
    Disk(DiskError),
    /// There is nothing on the disk.
    Blank,
    /// There is something on the disk that is no vault.
    Foreign,
    /// The vault was made by a later version of this software.
    NewerFormat {
        /// The version on the disk.
        found: u32,
    },
    /// The vault belongs to someone else.
    OtherOwner {
        /// Whom it belongs to.
        found: Owner,
    },
    /// The right owner's vault, but laid out for other software: a journal where slots are expected, or the other way round.
    OtherLayout,
    /// The key is not this vault's key.
    WrongKey,
    /// The creation of this vault was cut off; nothing in it was ever acknowledged.
    Unfinished,
    /// The vault is not as it was left.
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// All that is whole on the disk is older than, or other than, the generation that was asked for.
    RolledBack {
        /// The newest sequence that is whole; 0 if the vault is unfinished.
        found: u64,
        /// The sequence that was asked for.
        expected: u64,
    },
    /// The disk is further than one generation ahead of the generation that was asked for.
    Ahead {
        /// The newest sequence that is whole.
        found: u64,
        /// The sequence that was asked for.
        expected: u64,
    },
    /// The disk is smaller than the vault that is, or should be, on it.
    TooSmall {
        /// Bytes on the disk.
        found: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// State or label do not fit.
    TooLarge {
        /// Bytes to be kept.
        size: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// There is a vault in use where a new one should be made.
    Exists,
    /// There is not enough memory to hold the state.
    NoMemory {
        /// Bytes that were asked for.
        needed: usize,
    },
}

impl From<DiskError> for VaultError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "the disk failed: {error}"),
            Self::Blank => f.write_str("the disk is blank where a vault is expected: attach the disk that holds it"),
            Self::Foreign => f.write_str(
                "the disk holds something that is not a vault, which is left alone: attach the right disk, or a new one filled with zeros",
            ),
            Self::NewerFormat { found } => {
                write!(f, "the vault has format {found}, which is newer than this software knows (1): use the newer software")
            }
            Self::OtherOwner { found } => write!(f, "the vault belongs to {found}: attach the right disk"),
            Self::OtherLayout => f.write_str("the vault is laid out for another program: attach the right disk"),
            Self::WrongKey => f.write_str(
                "the vault was made with another key: disk and manager do not belong together, attach the disk that this manager knows",
            ),
            Self::Unfinished => {
                f.write_str("the vault's creation was cut off before anything was kept in it: it may be created anew")
            }
            Self::Damaged { what } => {
                write!(f, "the vault is damaged ({what}): put a backup of the disk back, if it is as new as the damaged one")
            }
            Self::RolledBack { found, expected } => write!(
                f,
                "the vault is an older or other copy: it holds state {found} and state {expected} is expected; put the current disk back"
            ),
            Self::Ahead { found, expected } => write!(
                f,
                "the vault is ahead of its record: it holds state {found} and the record says {expected}; the manager's disk is an older copy, put the current one back"
            ),
            Self::TooSmall { found, needed } => write!(
                f,
                "the disk has {found} bytes and the vault needs {needed}: make it larger, or put back what was cut off"
            ),
            Self::TooLarge { size, limit } => {
                write!(f, "{size} bytes are to be kept and {limit} fit: the disk has to be made larger before the vault is created")
            }
            Self::Exists => f.write_str("the disk holds a vault that is in use, which is not replaced"),
            Self::NoMemory { needed } => {
                write!(f, "{needed} bytes of memory are needed to hold the state: give the domain more memory")
            }
        }
    }
}

impl core::error::Error for VaultError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            _ => None,
        }
    }
}
