//! The `extra=` line of the manager's configuration.
//!
//! Words between white space, each `name=value`. The names and values are those that Xen's vtpmmgr(7) documents; where its
//! C program silently ignored what it did not know, this one refuses to start and says why: a misspelt `srk_auth=` must
//! never become a well-known secret.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use frontback::parse_uuid;
use log::LevelFilter;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Where PC platforms put the TPM's registers (PC Client TIS 1.3, section 4).
pub const DEFAULT_IOMEM: u64 = 0xfed4_0000;
/// Bytes between the register pages of two localities.
pub const LOCALITY_STRIDE: u64 = 0x1000;

/// A 20-byte TPM 1.2 authorization value. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct AuthData(pub [u8; 20]);

/// `owner_auth=` or `srk_auth=`: the secret that goes with an entity of the chip.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthChoice {
    /// A fixed value: well-known, a given hash, or the SHA-1 of a text.
    Fixed(AuthData),
    /// A value drawn when ownership is taken.
    Random,
}

/// `tpmdriver=`: how the chip is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// `tpm_tis`: registers in memory (`iomem=` in the configuration).
    Tis,
    /// `tpmfront`: the TPM of another domain (`vtpm=` in the configuration, device 0).
    Front,
}

/// `tpmirq=`: whether the operator wanted interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irq {
    /// `0`: poll, which is what the manager does.
    Poll,
    /// A number or `probe`: not to be had in a PVH domain; the manager says so once and polls.
    Wanted,
}

/// `rollback=`: when the chip's counter moves, which makes an older copy of the disk unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rollback {
    /// `off`: never. Older copies of the disk are not told from the newest one.
    Off,
    /// `periodic`: at start, at clean stop, and at most once in a minute while there are changes.
    Periodic,
    /// `strict`: with every change.
    Strict,
}

/// The most UUIDs that `admin_uuid=` takes.
pub const MAX_ADMINS: usize = 16;

/// All that the command line decides.
pub struct Options {
    /// The owner's secret, used when ownership is taken.
    pub owner_auth: AuthChoice,
    /// The storage root key's secret.
    pub srk_auth: AuthChoice,
    /// How the chip is reached.
    pub driver: Driver,
    /// Physical address of the chip's registers at locality 0.
    pub iomem: u64,
    /// Interrupts.
    pub irq: Irq,
    /// The locality the manager works at, 0 to 4.
    pub locality: u8,
    /// `srk_handle=`: the persistent storage key of a TPM 2.0 chip to use in place of the one at 0x81000001.
    pub srk_handle: Option<u32>,
    /// `seal_pcrs=`: a bit for each PCR from 0 to 23 that the root secret is to be sealed to; 0 for none.
    pub seal_pcrs: u32,
    /// `recover=`: the recovery code that opens the disk when the PCRs do not.
    pub recover: Option<AuthData>,
    /// `rollback=`.
    pub rollback: Rollback,
    /// `admin_uuid=`: the vTPMs that have the administrator's rights; at most [`MAX_ADMINS`].
    pub admins: Vec<[u8; 16]>,
    /// The least severe line that is still printed.
    pub log_level: LevelFilter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owner_auth: AuthChoice::Fixed(OWNER_WELL_KNOWN),
            srk_auth: AuthChoice::Fixed(SRK_WELL_KNOWN),
            driver: Driver::Tis,
            iomem: DEFAULT_IOMEM,
            irq: Irq::Poll,
            locality: 0,
            srk_handle: None,
            seal_pcrs: 0,
            recover: None,
            rollback: Rollback::Periodic,
            admins: Vec::new(),
            log_level: LevelFilter::Info,
        }
    }
}

/// `owner_auth=well-known`: all ones.
pub const OWNER_WELL_KNOWN: AuthData = AuthData([0xff; 20]);
/// `srk_auth=well-known`: all zeroes (`TSS_WELL_KNOWN_SECRET`).
pub const SRK_WELL_KNOWN: AuthData = AuthData([0; 20]);

/// An argument that the manager does not start with. Never holds the value of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgError {
    /// The word, or only its name where the value may be secret.
    pub argument: String,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument '{}' in extra= is not valid: {}", self.argument, self.expected)
    }
}

impl core::error::Error for ArgError {}

const AUTH_FORMS: &str = "use well-known, random, hash:<40 hex digits> or text:<string without spaces>";
const KNOWN: &str = "known are owner_auth=, srk_auth=, tpmdriver=, tpmiomem=, tpmirq=, tpmlocality=, tpm2=1, srk_handle=, \
     seal_pcrs=, recover=, rollback=, admin_uuid= and loglevel=";
const NAMES: [&str; 13] = [
    "owner_auth",
    "srk_auth",
    "tpmdriver",
    "tpmiomem",
    "tpmirq",
    "tpmlocality",
    "tpm2",
    "srk_handle",
    "seal_pcrs",
    "recover",
    "rollback",
    "admin_uuid",
    "loglevel",
];

/// Reads the command line. The first argument that is wrong, unknown or given twice is the error.
pub fn parse(line: &str) -> Result<Options, ArgError> {
    let mut options = Options::default();
    let (mut seen, mut registers) = ([false; NAMES.len()], false);
    for word in line.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let Some(known) = NAMES.iter().position(|n| *n == name) else {
            return Err(ArgError { argument: name.to_string(), expected: KNOWN });
        };
        if core::mem::replace(&mut seen[known], true) {
            return Err(ArgError { argument: name.to_string(), expected: "it is given twice" });
        }
        registers |= name == "tpmiomem";
        let secret = matches!(name, "owner_auth" | "srk_auth" | "recover");
        apply(&mut options, name, value).map_err(|expected| ArgError {
            argument: if secret { [name, "=..."].concat() } else { word.to_string() },
            expected,
        })?;
    }
    if registers && options.driver == Driver::Front {
        let expected = "leave it out with tpmdriver=tpmfront: the TPM of another domain has no registers here";
        return Err(ArgError { argument: "tpmiomem".to_string(), expected });
    }
    Ok(options)
}

fn apply(options: &mut Options, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "owner_auth" => options.owner_auth = auth(value, OWNER_WELL_KNOWN)?,
        "srk_auth" => options.srk_auth = auth(value, SRK_WELL_KNOWN)?,
        "tpmdriver" => {
            options.driver = match value {
                "tpm_tis" => Driver::Tis,
                "tpmfront" => Driver::Front,
                _ => return Err("use tpm_tis (registers) or tpmfront (the TPM of another domain)"),
            }
        }
        "tpmiomem" => {
            options.iomem = number(value)
                .filter(|base| *base != 0 && base % LOCALITY_STRIDE == 0 && *base < 1 << 52)
                .ok_or("use the physical address of the TPM's registers, for example 0xfed40000")?;
        }
        "tpmirq" => {
            options.irq = match (value, number(value)) {
                (_, Some(0)) => Irq::Poll,
                ("probe", _) | (_, Some(1..=0xffff)) => Irq::Wanted,
                _ => return Err("use 0 (polling), an interrupt number or probe"),
            }
        }
        "tpmlocality" => {
            options.locality = match value.as_bytes() {
                [digit @ b'0'..=b'4'] => digit - b'0',
                _ => return Err("use a locality from 0 to 4"),
            }
        }
        // The chip itself is asked for its version; the word is taken so that old configurations go on working.
        "tpm2" if value == "1" => (),
        "tpm2" => return Err("use tpm2=1 or leave it out; the chip is asked for its version"),
        "srk_handle" => {
            let digits = value.strip_prefix("0x").unwrap_or(value);
            let handle = u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
            options.srk_handle = match handle {
                Some(0x8100_0000..=0x81ff_ffff) => handle,
                _ => return Err("use a persistent handle of TPM 2.0 in hexadecimal, 81000000 to 81ffffff"),
            };
        }
        "seal_pcrs" => {
            options.seal_pcrs =
                pcrs(value).ok_or("use PCRs from 0 to 23 and ranges of them, for example seal_pcrs=0-7,14")?;
        }
        "recover" => {
            let digits = value.replace('-', "");
            options.recover = Some(hex(&digits).ok_or("use the recovery code: 40 hex digits, hyphens anywhere")?);
        }
        "rollback" => {
            options.rollback = match value {
                "off" => Rollback::Off,
                "periodic" => Rollback::Periodic,
                "strict" => Rollback::Strict,
                _ => return Err("use periodic, strict or off"),
            }
        }
        "admin_uuid" => {
            let expected = "use at most 16 UUIDs of vTPMs, with commas between them";
            for text in value.split(',') {
                options.admins.push(parse_uuid(text.as_bytes()).map_err(|_| expected)?);
            }
            if options.admins.len() > MAX_ADMINS {
                return Err(expected);
            }
        }
        "loglevel" => {
            options.log_level = match value {
                "error" => LevelFilter::Error,
                "info" => LevelFilter::Info,
                "debug" => LevelFilter::Debug,
                _ => return Err("use error, info or debug"),
            }
        }
        _ => return Err(KNOWN),
    }
    Ok(())
}

fn auth(value: &str, well_known: AuthData) -> Result<AuthChoice, &'static str> {
    if value == "well-known" {
        Ok(AuthChoice::Fixed(well_known))
    } else if value == "random" {
        Ok(AuthChoice::Random)
    } else if let Some(text) = value.strip_prefix("text:").filter(|text| !text.is_empty()) {
        Ok(AuthChoice::Fixed(AuthData(tpm_crypto::sha1(&[text.as_bytes()]))))
    } else if let Some(digits) = value.strip_prefix("hash:") {
        hex(digits).map(AuthChoice::Fixed).ok_or(AUTH_FORMS)
    } else {
        Err(AUTH_FORMS)
    }
}

/// 40 hexadecimal digits.
fn hex(digits: &str) -> Option<AuthData> {
    let mut value = AuthData([0; 20]);
    if digits.len() != 40 {
        return None;
    }
    for (byte, pair) in value.0.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        for digit in pair {
            *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(value)
}

/// PCRs and ranges of them as a mask, never empty.
fn pcrs(list: &str) -> Option<u32> {
    let index = |text: &str| text.parse::<u32>().ok().filter(|index| *index < 24 && !text.starts_with('+'));
    let mut mask = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        if first > last {
            return None;
        }
        (first..=last).for_each(|index| mask |= 1 << index);
    }
    Some(mask)
}

/// A decimal number, or a hexadecimal one behind `0x`. No sign, no blanks.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(choice: &AuthChoice) -> [u8; 20] {
        match choice {
            AuthChoice::Fixed(auth) => auth.0,
            AuthChoice::Random => panic!("a fixed value was expected"),
        }
    }

    #[test]
    fn nothing_given_means_the_documented_defaults() {
        let options = parse("  ").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((fixed(&options.owner_auth), fixed(&options.srk_auth)), ([0xff; 20], [0; 20]));
        assert_eq!((options.iomem, options.locality, options.irq), (0xfed4_0000, 0, Irq::Poll));
        assert_eq!(options.log_level, LevelFilter::Info);
        assert_eq!((options.driver, options.rollback, options.seal_pcrs), (Driver::Tis, Rollback::Periodic, 0));
        assert!(options.recover.is_none() && options.srk_handle.is_none() && options.admins.is_empty());
    }

    #[test]
    fn the_whole_grammar() {
        let line = "owner_auth=hash:000102030405060708090a0b0c0d0e0fFEFDFCFB srk_auth=text:abc tpmdriver=tpm_tis \
                    tpmiomem=0xfed41000 tpmirq=probe tpmlocality=2\ttpm2=1 loglevel=debug";
        let options = parse(line).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(fixed(&options.owner_auth)[..5], [0, 1, 2, 3, 4]);
        assert_eq!(fixed(&options.owner_auth)[16..], [0xfe, 0xfd, 0xfc, 0xfb]);
        // FIPS 180-4: SHA-1 of "abc".
        assert_eq!(fixed(&options.srk_auth)[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!((options.iomem, options.locality, options.irq), (0xfed4_1000, 2, Irq::Wanted));
        assert_eq!(options.log_level, LevelFilter::Debug);
        assert!(matches!(parse("srk_auth=random").map(|o| o.srk_auth), Ok(AuthChoice::Random)));
        let line = "tpmdriver=tpmfront srk_handle=0x81000010 seal_pcrs=0-2,14,23 rollback=strict \
                    recover=00010203-04050607-08090a0b-0c0d0e0f-10111213 \
                    admin_uuid=00112233-4455-6677-8899-aabbccddeeff,ffffffff-ffff-ffff-ffff-ffffffffffff";
        let options = parse(line).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((options.driver, options.srk_handle), (Driver::Front, Some(0x8100_0010)));
        assert_eq!((options.seal_pcrs, options.rollback), (0x80_4007, Rollback::Strict));
        assert_eq!(options.recover.map(|code| code.0[18..].to_vec()), Some(alloc::vec![0x12, 0x13]));
        assert_eq!((options.admins[0][15], options.admins[1]), (0xff, [0xff; 16]));
        assert_eq!(parse("srk_handle=81000002").ok().and_then(|o| o.srk_handle), Some(0x8100_0002));
        assert_eq!(parse("seal_pcrs=0-23").map(|o| o.seal_pcrs).ok(), Some(0xff_ffff));
        for (word, mode) in [("off", Rollback::Off), ("periodic", Rollback::Periodic)] {
            assert_eq!(parse(&["rollback=", word].concat()).map(|o| o.rollback).ok(), Some(mode));
        }
        for irq in ["tpmirq=7", "tpmirq=0x10"] {
            assert_eq!(parse(irq).map(|o| o.irq).ok(), Some(Irq::Wanted));
        }
        assert_eq!(parse("tpmirq=0").map(|o| o.irq).ok(), Some(Irq::Poll));
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        for line in [
            "loglevel",
            "loglevel=",
            "loglevel=warn",
            "tpm2=0",
            "tpm2",
            "vtpm2=1",
            "tpmlocality=5",
            "tpmlocality=",
            "tpmlocality=22",
            "tpmirq=",
            "tpmirq=-1",
            "tpmirq=65536",
            "tpmiomem=",
            "tpmiomem=0",
            "tpmiomem=0xfed40001",
            "tpmiomem=0x+fed40000",
            "tpmiomem=99999999999999999999999",
            "tpmdriver=tis",
            "tpmdriver=",
            "tpmiomem=0xfed40000 tpmdriver=tpmfront",
            "srk_handle=",
            "srk_handle=0x80000000",
            "srk_handle=82000000",
            "srk_handle=0x+1000001",
            "srk_handle=0x181000001",
            "seal_pcrs=",
            "seal_pcrs=24",
            "seal_pcrs=3-1",
            "seal_pcrs=0-",
            "seal_pcrs=1,",
            "seal_pcrs=+1",
            "seal_pcrs=-1",
            "seal_pcrs=1-2-3",
            "rollback=on",
            "rollback=",
            "admin_uuid=",
            "admin_uuid=00112233-4455-6677-8899-aabbccddeeff,",
            "admin_uuid=00112233445566778899aabbccddeeff",
            "loglevel=info loglevel=debug",
        ] {
            let error = parse(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
            assert!(line.starts_with(error.argument.split('=').next().unwrap_or("?")), "{error}");
        }
        for value in ["", "wellknown", "hash:", "hash:00", "hash:zz0102030405060708090a0b0c0d0e0f10111213", "text:"] {
            let line = ["srk_auth=", value].concat();
            let error = parse(&line).err().unwrap_or_else(|| panic!("{line} was accepted"));
            assert_eq!(error.argument, "srk_auth=...", "a secret must not be repeated on the console");
        }
        for value in ["", "0001", "00010203-04050607-08090a0b-0c0d0e0f-1011121z"] {
            let error = parse(&["recover=", value].concat()).err().unwrap_or_else(|| panic!("{value} was accepted"));
            assert_eq!(error.argument, "recover=...");
        }
        let many = ["00112233-4455-6677-8899-aabbccddeeff"; MAX_ADMINS + 1];
        assert!(parse(&["admin_uuid=", &many.join(",")].concat()).is_err());
        assert!(parse(&["admin_uuid=", &many[1..].join(",")].concat()).is_ok());
        let nine = ["owner_auth=hash:", &"0".repeat(41)].concat();
        assert!(parse(&nine).is_err());
    }
}
