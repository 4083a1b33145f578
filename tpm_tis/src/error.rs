//! What can go wrong, and what to do about it.

use core::fmt;
use tpm_wire::TransportError;

/// A locality above 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLocality(pub u8);

impl fmt::Display for BadLocality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no TPM locality {} (0 to 4 exist)", self.0)
    }
}

impl core::error::Error for BadLocality {}

/// Why a command was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// Another command is under way, or its result was not fetched.
    Busy,
    /// Longer than [`crate::MAX_COMMAND`], or the size in its header is not its length.
    Malformed,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the TPM driver has another command under way",
            Self::Malformed => "the command's header does not match its length, or it is longer than 4096 bytes",
        })
    }
}

impl core::error::Error for SubmitError {}

/// What the driver waited for in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// `tpmRegValidSts` in `TPM_ACCESS` or `TPM_LOC_STATE` (`TIMEOUT_A`).
    AccessValid,
    /// `commandReady` (`TIMEOUT_B`), or `cmdReady` obeyed (`TIMEOUT_C`), or the end of a command left running (`TIMEOUT_B`).
    CommandReady,
    /// A burst count above zero (`TIMEOUT_A` or `TIMEOUT_D`).
    Burst,
    /// `stsValid` (`TIMEOUT_C`).
    StatusValid,
    /// The whole command or response to pass ([`crate::Timeouts::transfer`]).
    Transfer,
    /// The response (the command's duration).
    Response,
}

/// Why a command has no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TisError {
    /// Registers read as all ones.
    NoChip,
    /// The chip's interface is switched to another type; its `TPM_INTERFACE_ID`.
    NotFifo(u32),
    /// The chip's interface is not CRB; its `TPM_INTERFACE_ID`.
    NotCrb(u32),
    /// The chip has locality 0 only, and this one was asked for.
    NoLocality(u8),
    /// A CRB's buffer lies elsewhere than in the registers, or is too small for a header.
    BadBuffer {
        /// Its physical address.
        start: u64,
        /// Its bytes.
        size: u32,
    },
    /// The command is longer than a CRB's buffer of so many bytes.
    CommandTooLong(usize),
    /// The chip shows a fatal error (`tpmSts`).
    Failed,
    /// Another locality holds the chip and did not give it up.
    LocalityRefused,
    /// The chip was taken away in mid-command.
    LocalityLost,
    /// Too late.
    TimedOut(Wait),
    /// The chip wanted no more bytes before the command's end.
    CommandCut,
    /// The chip wanted more bytes after the command's end.
    CommandOpen,
    /// The chip dropped the running command.
    Dropped,
    /// The size in the response's header is less than a header or more than 4096.
    BadSize(u32),
    /// The response ended before the size in its header.
    ResponseCut,
    /// The response went on after the size in its header.
    ResponseOpen,
    /// Given up at the caller's wish.
    Cancelled,
}

impl fmt::Display for TisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChip => f.write_str("no TPM at 0xfed40000: is iomem= set, and is the TPM enabled in the firmware?"),
            Self::NotFifo(id) => {
                write!(f, "the TPM speaks CRB, not TIS/FIFO (interface id {id:#010x}): switch it in the firmware")
            }
            Self::NotCrb(id) => write!(f, "the TPM does not speak CRB (interface id {id:#010x}): use the TIS/FIFO driver"),
            Self::NoLocality(locality) => {
                write!(f, "the TPM has no locality {locality}, only locality 0: leave tpmlocality= out")
            }
            Self::BadBuffer { start, size } => write!(
                f,
                "the TPM wants its commands or responses in {size} bytes at {start:#x}, which is no place inside its registers: \
                 such a TPM (often one in the firmware) cannot be used from a domain; switch to a discrete one in the firmware",
            ),
            Self::CommandTooLong(limit) => write!(f, "the command is longer than the TPM's buffer of {limit} bytes"),
            Self::Failed => f.write_str("the TPM shows a fatal error: only a reset of the machine starts it again"),
            Self::LocalityRefused => f.write_str(
                "another locality holds the TPM and does not give it up: keep dom0's TPM driver off it, or use another tpmlocality=",
            ),
            Self::LocalityLost => f.write_str("another locality took the TPM away in mid-command"),
            Self::TimedOut(wait) => write!(
                f,
                "the TPM did not {} in time",
                match wait {
                    Wait::AccessValid => "make its access register valid",
                    Wait::CommandReady => "become ready for a command",
                    Wait::Burst => "take or give the next byte",
                    Wait::StatusValid => "make its status valid",
                    Wait::Transfer => "pass the whole command or response",
                    Wait::Response => "answer the command",
                }
            ),
            Self::CommandCut => f.write_str("the TPM stopped taking bytes before the command's end"),
            Self::CommandOpen => f.write_str("the TPM asks for more bytes after the command's end"),
            Self::Dropped => f.write_str("the TPM dropped the running command (was it reset?)"),
            Self::BadSize(size) => write!(f, "the TPM announced a response of {size} bytes (10 to 4096 are possible)"),
            Self::ResponseCut => f.write_str("the TPM's response ended before the size it announced"),
            Self::ResponseOpen => f.write_str("the TPM's response went on after the size it announced"),
            Self::Cancelled => f.write_str("the command was cancelled"),
        }
    }
}

impl core::error::Error for TisError {}

impl From<TisError> for TransportError {
    fn from(error: TisError) -> Self {
        match error {
            TisError::NoChip
            | TisError::NotFifo(_)
            | TisError::NotCrb(_)
            | TisError::NoLocality(_)
            | TisError::BadBuffer { .. }
            | TisError::Failed
            | TisError::LocalityRefused
            | TisError::LocalityLost => Self::Gone,
            TisError::CommandTooLong(_) => Self::TooLong,
            TisError::TimedOut(_) | TisError::Cancelled => Self::TimedOut,
            TisError::CommandCut
            | TisError::CommandOpen
            | TisError::Dropped
            | TisError::BadSize(_)
            | TisError::ResponseCut
            | TisError::ResponseOpen => Self::Garbled,
        }
    }
}
