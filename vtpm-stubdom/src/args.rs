//! The domain's arguments (`extra=` in the xl configuration), separated by white space.
//!
//! | argument | meaning | default |
//! |---|---|---|
//! | `loglevel=error\|info\|debug` | what reaches the console | `info` |
//! | `clear`, `save`, `deactivated` | how the TPM is started for a guest, see [`Startup`] | `clear` |
//! | `maintcmds=0\|1` | whether the five TPM 1.2 maintenance ordinals exist | `0` |
//! | `hwinitpcr=all\|none\|N\|X-Y[,…]` | hardware PCRs whose values a new guest's PCRs start with | `none` |
//!
//! `hwinitpcrs=` is accepted too: Xen's manual page spells it so. Anything else is an error, and the vTPM does not start.

use alloc::string::{String, ToString};
use core::fmt;

/// The number of PCRs, in a guest's TPM and in a TPM 1.2 chip alike.
pub const PCR_COUNT: u32 = 24;

/// How the TPM is started for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Startup {
    /// `clear`: PCRs at their reset values (TPM_ST_CLEAR).
    #[default]
    Clear,
    /// `save`: the operator's word that the next guest continues the one whose volatile state a clean stop saved, though
    /// its domain is another (TPM_ST_STATE). Without a saved state the vTPM does not serve.
    Save,
    /// `deactivated`: as `clear`, with the TPM deactivated (TPM_ST_DEACTIVATED).
    Deactivated,
}

/// A set of PCR indices below [`PCR_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PcrSet(u32);

impl PcrSet {
    /// The indices in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..PCR_COUNT).filter(move |index| self.0 >> index & 1 == 1)
    }
}

/// What the arguments ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What reaches the console.
    pub log_level: log::LevelFilter,
    /// How the TPM is started for a guest.
    pub startup: Startup,
    /// Whether the maintenance ordinals exist.
    pub maintenance_commands: bool,
    /// Hardware PCRs that a new guest's PCRs start with.
    pub hardware_pcrs: PcrSet,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_level: log::LevelFilter::Info,
            startup: Startup::Clear,
            maintenance_commands: false,
            hardware_pcrs: PcrSet::default(),
        }
    }
}

/// An argument that is not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArgError {
    /// No argument of that name.
    Unknown(String),
    /// A known argument with a value outside its grammar.
    Value {
        /// The argument as given.
        argument: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Two different ways to start the TPM.
    TwoStartups(String),
    /// The same argument again, with another value.
    Twice(String),
    /// `locality=` rules name XSM labels.
    NeedsXsm(String),
}

const KNOWN: &str =
    "loglevel=error|info|debug, clear, save, deactivated, maintcmds=0|1, hwinitpcr=all|none|N|X-Y[,...]";

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unknown argument {argument:?}; known are: {KNOWN}"),
            Self::Value { argument, allowed } => write!(f, "argument {argument:?} is malformed; allowed is {allowed}"),
            Self::TwoStartups(argument) => {
                write!(f, "argument {argument:?} contradicts an earlier one; give one of clear, save, deactivated")
            }
            Self::Twice(argument) => write!(f, "argument {argument:?} contradicts an earlier one of the same name"),
            Self::NeedsXsm(argument) => write!(
                f,
                "argument {argument:?}: locality rules by label need XSM/FLASK support, which is not built; remove it (guests \
                 have locality 0)"
            ),
        }
    }
}

impl core::error::Error for ArgError {}

impl Options {
    /// Parses the whole command line.
    pub fn parse(line: &str) -> Result<Self, ArgError> {
        let (mut level, mut startup, mut maintenance, mut pcrs) = (None, None, None, None);
        for argument in line.split_ascii_whitespace() {
            let bad = |allowed| ArgError::Value { argument: shown(argument), allowed };
            let (name, value) = argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
            match (name, value) {
                ("loglevel", value) => {
                    let parsed = match value {
                        Some("error") => log::LevelFilter::Error,
                        Some("info") => log::LevelFilter::Info,
                        Some("debug") => log::LevelFilter::Debug,
                        _ => return Err(bad("loglevel=error, loglevel=info or loglevel=debug")),
                    };
                    once(&mut level, parsed, argument)?;
                }
                ("maintcmds", value) => {
                    let parsed = match value {
                        Some("0") => false,
                        Some("1") => true,
                        _ => return Err(bad("maintcmds=0 or maintcmds=1")),
                    };
                    once(&mut maintenance, parsed, argument)?;
                }
                ("hwinitpcr" | "hwinitpcrs", value) => {
                    let parsed = value.and_then(parse_pcrs).ok_or_else(|| {
                        bad(
                            "hwinitpcr=all, hwinitpcr=none, or PCR numbers 0 to 23 and ascending ranges of them, as in \
                             hwinitpcr=0-7,16",
                        )
                    })?;
                    once(&mut pcrs, parsed, argument)?;
                }
                ("locality", _) => return Err(ArgError::NeedsXsm(shown(argument))),
                ("clear" | "save" | "deactivated", None) => {
                    let parsed = match name {
                        "clear" => Startup::Clear,
                        "save" => Startup::Save,
                        _ => Startup::Deactivated,
                    };
                    if startup.replace(parsed).is_some_and(|earlier| earlier != parsed) {
                        return Err(ArgError::TwoStartups(shown(argument)));
                    }
                }
                _ => return Err(ArgError::Unknown(shown(argument))),
            }
        }
        let default = Self::default();
        Ok(Self {
            log_level: level.unwrap_or(default.log_level),
            startup: startup.unwrap_or(default.startup),
            maintenance_commands: maintenance.unwrap_or(default.maintenance_commands),
            hardware_pcrs: pcrs.unwrap_or(default.hardware_pcrs),
        })
    }
}

fn once<T: PartialEq>(slot: &mut Option<T>, value: T, argument: &str) -> Result<(), ArgError> {
    match slot {
        Some(earlier) if *earlier != value => Err(ArgError::Twice(shown(argument))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// The argument for an error line, cut so that one line stays one line.
fn shown(argument: &str) -> String {
    const LONGEST: usize = 80;
    if argument.chars().count() <= LONGEST {
        argument.to_string()
    } else {
        argument.chars().take(LONGEST).chain("...".chars()).collect()
    }
}

fn parse_pcrs(value: &str) -> Option<PcrSet> {
    match value {
        "all" => return Some(PcrSet((1 << PCR_COUNT) - 1)),
        "none" => return Some(PcrSet(0)),
        _ => {}
    }
    let mut set = 0u32;
    for item in value.split(',') {
        let (first, last) = match item.split_once('-') {
            Some((first, last)) => (parse_index(first)?, parse_index(last)?),
            None => (parse_index(item)?, parse_index(item)?),
        };
        if first > last {
            return None;
        }
        (first..=last).for_each(|index| set |= 1 << index);
    }
    Some(PcrSet(set))
}

fn parse_index(digits: &str) -> Option<u32> {
    // `parse` would let a sign through.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|index| *index < PCR_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn pcrs(line: &str) -> Vec<u32> {
        Options::parse(line).unwrap().hardware_pcrs.iter().collect()
    }

    #[test]
    fn nothing_means_the_documented_defaults() {
        assert_eq!(Options::parse(" \t "), Ok(Options::default()));
    }

    #[test]
    fn the_documented_grammar() {
        let options = Options::parse("loglevel=debug  deactivated maintcmds=1 hwinitpcr=0").unwrap();
        assert_eq!(options.log_level, log::LevelFilter::Debug);
        assert_eq!(options.startup, Startup::Deactivated);
        assert!(options.maintenance_commands);
        assert_eq!(Options::parse("save").unwrap().startup, Startup::Save);
        assert_eq!(Options::parse("clear clear").unwrap().startup, Startup::Clear);
        assert_eq!(Options::parse("loglevel=error maintcmds=0").unwrap().log_level, log::LevelFilter::Error);
    }

    #[test]
    fn pcr_lists_and_ranges() {
        assert_eq!(pcrs("hwinitpcr=none"), []);
        assert_eq!(pcrs("hwinitpcr=all"), (0..24).collect::<Vec<_>>());
        assert_eq!(pcrs("hwinitpcr=5"), [5]);
        assert_eq!(pcrs("hwinitpcr=0-7,16,23-23"), [0, 1, 2, 3, 4, 5, 6, 7, 16, 23]);
        assert_eq!(pcrs("hwinitpcrs=1,2-3"), [1, 2, 3]);
    }

    #[test]
    fn whatever_is_malformed_is_named_with_what_is_allowed() {
        for line in [
            "loglevel",
            "loglevel=",
            "loglevel=warn",
            "loglevel=Info",
            "maintcmds",
            "maintcmds=2",
            "maintcmds=yes",
            "hwinitpcr",
            "hwinitpcr=",
            "hwinitpcr=24",
            "hwinitpcr=1-24",
            "hwinitpcr=7-3",
            "hwinitpcr=1,",
            "hwinitpcr=-1",
            "hwinitpcr=1-",
            "hwinitpcr=+1",
            "hwinitpcr=0x1",
            "hwinitpcr=1-2-3",
            "hwinitpcr=4294967296",
            "hwinitpcr=all,1",
        ] {
            let error = Options::parse(line).unwrap_err();
            assert!(matches!(&error, ArgError::Value { argument, .. } if argument == line), "{line}: {error:?}");
            assert!(error.to_string().contains(line) && error.to_string().contains("allowed is"), "{error}");
        }
    }

    #[test]
    fn unknown_contradicting_and_unbuilt_arguments_are_refused() {
        for line in ["verbose", "clear=1", "save=", "=", "=x", "Clear", "tpm2=1"] {
            assert_eq!(Options::parse(line), Err(ArgError::Unknown(line.to_string())));
        }
        assert_eq!(Options::parse("clear save"), Err(ArgError::TwoStartups("save".to_string())));
        assert_eq!(Options::parse("maintcmds=1 maintcmds=0"), Err(ArgError::Twice("maintcmds=0".to_string())));
        assert_eq!(Options::parse("hwinitpcr=1 hwinitpcrs=2"), Err(ArgError::Twice("hwinitpcrs=2".to_string())));
        let error = Options::parse("locality=user:vm_r:domU_t=0,1").unwrap_err();
        assert!(error.to_string().contains("XSM/FLASK"));
        assert!(Options::parse(&"x".repeat(100_000)).unwrap_err().to_string().len() < 400);
    }
}
