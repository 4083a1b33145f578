//! What can go wrong, and the exit code that says so.

use attest::AttestError;
use std::fmt;
use std::process::ExitCode;
use tpm_wire::mgr::code;

/// Why a command failed. (A wrong command line is clap's business: exit code 2.)
#[derive(Debug)]
pub enum Error {
    /// A file that cannot be used, or arguments that do not go together.
    Input(String),
    /// No manager (or TPM) is reached, or it stopped in the middle.
    Unreachable(String),
    /// It refused.
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its code.
        code: u32,
        /// Whether the code is for a sender without rights.
        no_rights: bool,
    },
    /// A guest's TPM refused.
    Tpm {
        /// What was asked.
        what: &'static str,
        /// Its code.
        code: u32,
    },
    /// It answered something else than the answer.
    Malformed(&'static str),
    /// Evidence that proves nothing.
    Unproven(String),
}

impl Error {
    /// 1: refused or malformed, 3: unreachable, 4: not proven, 5: input.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused { .. } | Self::Tpm { .. } | Self::Malformed(_) => 1,
            Self::Unreachable(_) => 3,
            Self::Unproven(_) => 4,
            Self::Input(_) => 5,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(text) | Self::Unreachable(text) => f.write_str(text),
            Self::Refused { what, no_rights: true, .. } => write!(
                f,
                "{what}: the manager gives this domain no rights: its UUID (of the vtpm= line that connects it to the manager) has to stand in the \
                 manager's admin_uuid="
            ),
            Self::Refused { what, code, .. } => write!(f, "{what}: {} (code {code})", meaning(*code)),
            Self::Tpm { what, code } => write!(f, "{what}: {} (code {code})", meaning_of_tpm(*code)),
            Self::Malformed(what) => {
                write!(
                    f,
                    "{what}: the answer is malformed; is this the manager, and of the same version as this program?"
                )
            }
            Self::Unproven(text) => write!(f, "not proven: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<AttestError> for Error {
    fn from(error: AttestError) -> Self {
        Self::Unproven(error.to_string())
    }
}

/// What a guest's TPM means by its code (TPM Main 1.2, part 2, section 16).
fn meaning_of_tpm(code: u32) -> &'static str {
    match code {
        1 => "the owner's secret is wrong (--owner-auth)",
        6 | 7 => "the TPM is deactivated or disabled",
        8 => "not possible (any more): an endorsement key is vouched for in the run of the vTPM in which it was made",
        9 => "the TPM failed, or its manager gave no quote; the console of the vTPM says why",
        10 => "this TPM does not know the command; it is none behind a manager",
        0x12 => "the TPM has no owner yet: take ownership first",
        0x26 => "the TPM is not started",
        0x803 => "the TPM defends itself against guessing: wait",
        _ => "refused",
    }
}

/// What the manager means by its code.
fn meaning(code: u32) -> &'static str {
    match code {
        code::AUTHFAIL => {
            "not authorized: the group is closed, the signature is not by its approval key, or the secret is wrong"
        }
        code::BADINDEX => "there is no group with this number",
        code::BAD_PARAMETER => {
            "there is no such vTPM, or a value that the manager does not take (an older list than the group has?)"
        }
        code::INVALID_REQUEST => "flags that a quote does not have",
        code::DISABLED => "the vTPM is locked, or its domain's label is not in the group's list",
        code::DISABLED_CMD => "not possible with this chip, or not any more with this group or vTPM",
        code::FAIL => "the manager's disk or chip failed, or it cannot be done now; the manager's console says why",
        code::BAD_ORDINAL => "the manager, or this TPM, does not know the command",
        code::RESOURCES => "no room for more",
        code::SIZE => "more entries than a list may have",
        code::WRONG_PCR => "the group is sealed to other PCR values than the chip has now",
        code::BAD_PARAM_SIZE => "the manager found the command too long or too short",
        code::BAD_TAG => {
            "this TPM is no manager: give the device that connects this domain to the manager's domain, not to a vTPM"
        }
        0x800 => "the chip is busy: try again",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_manager_has_words_of_its_own() {
        let codes = [1, 2, 3, 5, 7, 8, 9, 10, 21, 23, 24, 25, 30, 0x800];
        for (at, code) in codes.iter().enumerate() {
            assert_ne!(meaning(*code), meaning(0xffff), "{code}");
            assert!(codes[..at].iter().all(|other| meaning(*other) != meaning(*code)), "{code}");
        }
    }
}
