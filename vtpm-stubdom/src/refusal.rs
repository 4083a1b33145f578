//! Why there is no service: one clear line for each cause.

use crate::args::ArgError;
use crate::manager::ManagerError;
use crate::saved::SavedError;
use crate::tpm::LoadError;
use core::fmt;
use vault::VaultError;
use xen_abi::NoEntropy;

/// Why this vTPM does not serve. Nothing on its disk was changed, except that a creation may have begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An argument is not understood.
    Arguments(ArgError),
    /// No source of randomness works.
    NoRandomness {
        /// What the CPU says.
        cpu: NoEntropy,
        /// What the manager says.
        chip: ManagerError,
    },
    /// The manager refuses, or is none of ours.
    Manager(ManagerError),
    /// The disk holds this vTPM, and the manager has no key for it.
    UnknownToManager,
    /// The manager knows this vTPM, and the disk is blank.
    BlankDisk,
    /// The manager's record is one of the C vTPM.
    LegacyRecord,
    /// The vault can't be opened or made.
    Vault(VaultError),
    /// The vault's content is not understood.
    Saved(SavedError),
    /// The engine refuses its state.
    Engine(LoadError),
    /// `save` was asked for, and there is nothing to continue from.
    NothingSaved,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(error) => error.fmt(f),
            Self::NoRandomness { cpu, chip } => write!(f, "no source of randomness: {cpu}; {chip}"),
            Self::Manager(error) => error.fmt(f),
            Self::UnknownToManager => f.write_str(
                "the disk holds this vTPM, but the manager does not know the key: attach it to the manager it was made with, or put \
                 the manager's own disk back",
            ),
            Self::BlankDisk => f.write_str(
                "the manager knows this vTPM, but the disk is blank: attach the disk that holds it (for a new vTPM use a new UUID)",
            ),
            Self::LegacyRecord => f.write_str(
                "the manager's record for this UUID was made by the C vtpm-stubdom, whose disks this vTPM does not read: use a new UUID \
                 and a blank disk",
            ),
            Self::Vault(error) => error.fmt(f),
            Self::Saved(error) => error.fmt(f),
            Self::Engine(error) => write!(f, "the TPM refuses its saved state: {error}"),
            Self::NothingSaved => f.write_str(
                "argument \"save\" says that the guest goes on where it stopped, but no clean stop saved its PCRs: reboot the guest and \
                 start the vTPM with \"clear\"",
            ),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<ManagerError> for Refusal {
    fn from(error: ManagerError) -> Self {
        Self::Manager(error)
    }
}
