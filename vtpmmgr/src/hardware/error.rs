//! Why the chip did not do as asked: one error type for both versions of chip.

use crate::chip12::{self, codes};
use core::fmt;
use tpm_wire::{TransportError, v20};

/// The first command code of TPM 2.0 (`TPM_CC_FIRST`; part 2, section 6.5). The ordinals of TPM 1.2 that the manager uses lie below.
const CC_FIRST: u32 = 0x11f;

/// A secret that goes with something on the chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secret {
    /// The chip's owner (1.2) or its owner hierarchy (2.0).
    Owner,
    /// The storage root key.
    Srk,
    /// A sealed blob: a recovery code, for example.
    Blob,
}

/// Why the chip did not do as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChipError {
    /// No answer came.
    Transport(TransportError),
    /// The chip answered an error code (1.2: part 2, section 16; 2.0: part 2, section 6.6).
    Refused {
        /// The command: ordinal or command code.
        ordinal: u32,
        /// The return code.
        code: u32,
    },
    /// The answer is not what the specification lays down for this command.
    Malformed {
        /// The command.
        ordinal: u32,
    },
    /// The answer's HMAC is wrong: it does not come from a chip that knows the secret.
    NotAuthentic {
        /// The command.
        ordinal: u32,
    },
    /// The chip does not take a secret.
    WrongSecret(Secret),
    /// The PCRs are not those that the secret is sealed to.
    PcrMismatch,
    /// The secret is sealed for another locality.
    Locality {
        /// The locality it is sealed for.
        sealed: u8,
    },
    /// The chip does not know the key or blob: it is another chip, or was cleared since.
    NotOurs {
        /// The command.
        ordinal: u32,
        /// The chip's return code.
        code: u32,
    },
    /// The storage root key is not the one that the disk was made with.
    OtherRoot,
    /// `srk_auth=random` for a chip whose owner has chosen a secret before.
    SrkAuthChosen,
    /// The owner's secret is not known: it was drawn at random and is not on this disk.
    OwnerUnknown,
    /// There is no such counter on the chip.
    NoCounter,
    /// Another counter was stepped since the machine started, and a TPM 1.2 chip steps one only.
    CounterTaken,
    /// What was stored is for another version of chip, or is not what this software writes.
    BadForm {
        /// What it is.
        what: &'static str,
    },
    /// The chip cannot do this.
    Unsupported {
        /// What it cannot do.
        what: &'static str,
    },
}

impl fmt::Display for ChipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "the TPM chip: {error}"),
            Self::Refused { ordinal, code } => {
                let (command, answer) = names(*ordinal, *code);
                write!(f, "the TPM chip answered {answer} to {command}")?;
                match *code {
                    codes::DEACTIVATED | codes::DISABLED if *ordinal < CC_FIRST => {
                        f.write_str(": the chip is switched off, enable and activate it in the firmware's set-up")
                    }
                    v20::rc::LOCKOUT if *ordinal >= CC_FIRST => f.write_str(
                        ": too many wrong secrets lately; wait until the chip forgets one, or reset its lockout with another program",
                    ),
                    v20::rc::FAILURE if *ordinal >= CC_FIRST => {
                        f.write_str(": the chip has found a defect in itself; switch the machine off and on")
                    }
                    _ => write!(f, " (code {code:#x})"),
                }
            }
            Self::Malformed { ordinal } => {
                write!(f, "the TPM chip's answer to {} is malformed", names(*ordinal, 0).0)
            }
            Self::NotAuthentic { ordinal } => {
                write!(f, "the TPM chip's answer to {} is not authentic", names(*ordinal, 0).0)
            }
            Self::WrongSecret(Secret::Owner) => {
                f.write_str("the TPM chip does not accept its owner's secret: give the right one with owner_auth=")
            }
            Self::WrongSecret(Secret::Srk) => f.write_str(
                "the TPM chip does not accept the secret of its storage root key: give the right one with srk_auth= \
                 (if nobody knows it, or the chip has another owner now, only clearing the chip in the firmware helps, which ends all it has sealed)",
            ),
            Self::WrongSecret(Secret::Blob) => f.write_str("the TPM chip does not accept the code for the sealed secret"),
            Self::PcrMismatch => {
                f.write_str("the PCRs are not those that the manager's disk is sealed to: this machine was started with something else")
            }
            Self::Locality { sealed } => {
                write!(f, "the manager's disk is sealed for locality {sealed}: set tpmlocality={sealed}")
            }
            Self::NotOurs { ordinal, code } => write!(
                f,
                "the TPM chip does not know the manager's keys: it is another chip, or it was cleared ({} to {}, code {code:#x})",
                names(*ordinal, *code).1,
                names(*ordinal, *code).0,
            ),
            Self::OtherRoot => f.write_str(
                "the TPM chip's storage root key is not the one that the manager's disk was made with: it is another chip, \
                 it was cleared, or something between the manager and the chip exchanges its answers",
            ),
            Self::SrkAuthChosen => f.write_str(
                "the TPM chip has an owner already, so the secret of its storage root key cannot be drawn at random: give it with srk_auth=",
            ),
            Self::OwnerUnknown => f.write_str(
                "the secret of the TPM chip's owner is not known: it was drawn at random for another disk; give it with owner_auth=",
            ),
            Self::NoCounter => f.write_str("the TPM chip has no such counter: it was cleared, or the counter was deleted"),
            Self::CounterTaken => f.write_str(
                "another program has stepped another counter of the TPM chip, which steps only one until the machine is started anew: \
                 restart the machine",
            ),
            Self::BadForm { what } => write!(f, "{what} is not in a form that this TPM chip can use"),
            Self::Unsupported { what } => write!(f, "the TPM chip does not support {what}"),
        }
    }
}

impl core::error::Error for ChipError {}

impl From<TransportError> for ChipError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// What a failed command says about the chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// No believable answer: the chip may have done it or not, and may come back.
    Lost,
    /// The chip was started anew under the manager, or is out of sessions or slots; it did nothing.
    Reset,
    /// A secret was refused. A nonce that was changed on its way looks the same, so it is worth one more question; more would
    /// set off the chip's defence against guessing.
    Doubtful,
    /// An answer that asking again does not change.
    Final,
}

impl ChipError {
    /// Whether asking again can help.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        match *self {
            Self::Transport(TransportError::TooLong) => Outlook::Final,
            Self::Transport(_) | Self::Malformed { .. } | Self::NotAuthentic { .. } => Outlook::Lost,
            Self::Refused { ordinal, code } if ordinal < CC_FIRST => chip12::outlook(code),
            Self::Refused { ordinal, code } => outlook20(ordinal, code),
            Self::WrongSecret(_) | Self::NoCounter => Outlook::Doubtful,
            _ => Outlook::Final,
        }
    }
}

/// As [`chip12::outlook`], for TPM 2.0 (part 2, section 6.6.3): a chip that is not started, and handles or sessions that it
/// has lost or has no room for.
const fn outlook20(_ordinal: u32, code: u32) -> Outlook {
    match v20::rc::kind(code) {
        // TPM_RC_INITIALIZE; TPM_RC_CONTEXT_GAP, _OBJECT_MEMORY, _SESSION_MEMORY, _MEMORY, _SESSION_HANDLES, _OBJECT_HANDLES;
        // TPM_RC_REFERENCE_H0 to _H6 and _S0 to _S6.
        0x100 | 0x901..=0x906 | 0x910..=0x916 | 0x918..=0x91e => Outlook::Reset,
        v20::rc::AUTH_FAIL | v20::rc::BAD_AUTH => Outlook::Doubtful,
        _ => Outlook::Final,
    }
}

/// The names of a command and of an answer to it.
fn names(ordinal: u32, code: u32) -> (&'static str, &'static str) {
    if ordinal < CC_FIRST {
        (codes::ordinal_name(ordinal), codes::code_name(code))
    } else {
        (v20::cc::name(ordinal), v20::rc::name(code))
    }
}
