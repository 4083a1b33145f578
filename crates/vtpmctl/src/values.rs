//! UUIDs, hexadecimal, PCRs and flags, as they are written.

use attest::{Bank, PCR_COUNT, pcr_indices};
use tpm_wire::mgr::quote_flags;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal digits.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("an even number of hexadecimal digits is wanted".into());
    }
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.map(byte).collect::<Option<_>>().ok_or_else(|| "not hexadecimal".into())
}

/// Exactly so many bytes of hexadecimal digits.
pub fn exactly<const N: usize>(text: &str) -> Result<[u8; N], String> {
    unhex(text)?.try_into().map_err(|_| format!("{} hexadecimal digits are wanted", 2 * N))
}

/// 20 bytes, as a command-line argument.
pub fn digest(text: &str) -> Result<[u8; 20], String> {
    exactly(text)
}

/// A UUID with or without hyphens.
pub fn uuid(text: &str) -> Result<[u8; 16], String> {
    let hyphens = text.len() == 36 && text.char_indices().all(|(at, c)| (c == '-') == [8, 13, 18, 23].contains(&at));
    let digits = if hyphens { text.replace('-', "") } else { text.to_owned() };
    exactly(&digits).map_err(|_| "a UUID is wanted, as in ac0a5b9e-cbe2-4c07-b43b-1d69e46fb839".into())
}

/// A UUID with hyphens.
pub fn show_uuid(uuid: &[u8; 16]) -> String {
    let text = hex(uuid);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| text.get(range).unwrap_or_default());
    parts.join("-")
}

/// A mask of PCRs: numbers and ranges between commas, as in 0-7,14; `none`, `all`.
pub fn pcrs(text: &str) -> Result<u32, String> {
    let index = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u8>().ok().filter(|index| digits && *index < PCR_COUNT)
    };
    match text {
        "none" => return Ok(0),
        "all" => return Ok((1 << PCR_COUNT) - 1),
        _ => {}
    }
    let mut mask = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (index(first), index(last)) {
            (Some(first), Some(last)) if first <= last => (first..=last).for_each(|pcr| mask |= 1 << pcr),
            _ => return Err("PCRs 0 to 23 are wanted, as in 0-7,14 (or all, or none)".into()),
        }
    }
    Ok(mask)
}

/// As [`pcrs`] reads it.
pub fn show_pcrs(mask: u32) -> String {
    let mut parts: Vec<(u8, u8)> = Vec::new();
    for index in pcr_indices(mask) {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => parts.push((index, index)),
        }
    }
    if parts.is_empty() {
        return "none".into();
    }
    let part = |(first, last): &(u8, u8)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// A PCR and its value, as in 7=0123...
pub fn pcr_value(text: &str) -> Result<(u8, Vec<u8>), String> {
    let wanted = || "a PCR and its value are wanted, as in 7=00112233... in hexadecimal".to_owned();
    let (index, value) = text.split_once('=').ok_or_else(wanted)?;
    let mask = pcrs(index)?;
    let value = unhex(value)?;
    match (pcr_indices(mask).next(), mask.count_ones(), value.len()) {
        (Some(index), 1, 20 | 32 | 48) => Ok((index, value)),
        _ => Err(wanted()),
    }
}

/// A bank's name.
pub fn bank(text: &str) -> Result<Bank, String> {
    match text {
        "sha1" => Ok(Bank::Sha1),
        "sha256" => Ok(Bank::Sha256),
        "sha384" => Ok(Bank::Sha384),
        _ => Err("sha1, sha256 or sha384 is wanted".into()),
    }
}

/// As [`bank`] reads it.
pub const fn show_bank(bank: Bank) -> &'static str {
    match bank {
        Bank::Sha1 => "sha1",
        Bank::Sha256 => "sha256",
        Bank::Sha384 => "sha384",
    }
}

/// Names of a quote's flags, in their order.
const FLAGS: [(&str, u32); 4] = [
    ("uuid", quote_flags::UUID),
    ("label", quote_flags::MEASUREMENT),
    ("group", quote_flags::GROUP_INFO),
    ("group-key", quote_flags::GROUP_PUBKEY),
];

/// Flags between commas, or `none`.
pub fn flags(text: &str) -> Result<u32, String> {
    if text == "none" {
        return Ok(0);
    }
    let flag = |name| FLAGS.iter().find(|(known, _)| *known == name).map(|(_, flag)| flag);
    let flags = text.split(',').map(flag).try_fold(0, |all, flag| Some(all | flag?));
    flags.ok_or_else(|| "uuid, label, group, group-key (with commas between), or none is wanted".into())
}

/// As [`flags`] reads it.
pub fn show_flags(flags: u32) -> String {
    let names: Vec<_> = FLAGS.iter().filter(|(_, flag)| flags & flag != 0).map(|(name, _)| *name).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for mask in [0, 1, 0xff, 0x80_0001, 0xff_ffff, 0b1011_0111] {
            assert_eq!(pcrs(&show_pcrs(mask)), Ok(mask));
        }
        assert_eq!(show_pcrs(0x40ff), "0-7,14");
        assert_eq!(pcrs("all"), Ok(0xff_ffff));
        for flag in 0..16 {
            assert_eq!(flags(&show_flags(flag)), Ok(flag));
        }
        let id = *b"0123456789abcdef";
        assert_eq!(uuid(&show_uuid(&id)), Ok(id));
        assert_eq!(uuid(&hex(&id)), Ok(id));
        for name in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
            assert_eq!(bank(show_bank(name)), Ok(name));
        }
        assert_eq!(pcr_value(&format!("7={}", "ab".repeat(20))), Ok((7, vec![0xab; 20])));
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "24", "0-", "-1", "3-2", "1,,2", "+1", "0x1", "255", "1 "] {
            assert!(pcrs(text).is_err(), "{text}");
        }
        for text in ["", "0", "0g", "+1"] {
            assert!(unhex(text).is_err() || text.is_empty(), "{text}");
        }
        for text in [
            "",
            "ac0a5b9e",
            "ac0a5b9e-cbe2-4c07-b43b-1d69e46fb83",
            "ac0a5b9ecbe24c07b43b1d69e46fb8399",
            "ac0a5b9-ecbe2-4c07-b43b-1d69e46fb839",
        ] {
            assert!(uuid(text).is_err(), "{text}");
        }
        for text in ["7", "7=", "7=00", "0-1=0000000000000000000000000000000000000000", "24=00", "none=00"] {
            assert!(pcr_value(text).is_err(), "{text}");
        }
        assert!(flags("uuid,").is_err() && flags("").is_err() && bank("SHA1").is_err());
    }
}
