//! What all split drivers do with xenstore: states and keys (`public/io/xenbus.h`).

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use xen_abi::{Store, StoreError};

/// The state of one side of a device (`enum xenbus_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Made by the toolstack.
    Initialising = 1,
    /// The back end waits for the front end's ring.
    InitWait = 2,
    /// The front end has published its ring.
    Initialised = 3,
    /// In use.
    Connected = 4,
    /// Going down.
    Closing = 5,
    /// Down.
    Closed = 6,
    /// Physical devices only.
    Reconfiguring = 7,
    /// Physical devices only.
    Reconfigured = 8,
}

impl State {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Initialising,
            2 => Self::InitWait,
            3 => Self::Initialised,
            4 => Self::Connected,
            5 => Self::Closing,
            6 => Self::Closed,
            7 => Self::Reconfiguring,
            8 => Self::Reconfigured,
            _ => return None,
        })
    }
}

/// Why a key of a device directory is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// Not there, or not readable for us: xenstored says either of a directory that was removed.
    Missing,
    /// There, but not what it should be.
    Malformed(Excerpt),
    /// xenstored failed; worth another try.
    Store(StoreError),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing or not readable"),
            Self::Malformed(value) => write!(f, "malformed ({value})"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

/// The beginning of a value, for a log line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excerpt(heapless::Vec<u8, 40>, usize);

impl Excerpt {
    /// The beginning of `value`.
    pub fn new(value: &[u8]) -> Self {
        Self(value.iter().copied().take(40).collect(), value.len())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())?;
        if self.1 > self.0.len() { write!(f, " and so on, {} bytes", self.1) } else { Ok(()) }
    }
}

/// The raw value of `dir/key`.
pub fn read_key(store: &mut impl Store, dir: &str, key: &str) -> Result<Vec<u8>, KeyError> {
    store.read(None, &format!("{dir}/{key}")).map_err(|error| match error {
        StoreError::NoEntry | StoreError::Access => KeyError::Missing,
        other => KeyError::Store(other),
    })
}

/// A decimal number of at most 64 bits, without sign or blanks.
pub fn parse_u64(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

/// A decimal number of at most 32 bits, without sign or blanks.
pub fn parse_number(value: &[u8]) -> Option<u32> {
    parse_u64(value).and_then(|number| number.try_into().ok())
}

/// The number in `dir/key`.
pub fn read_number(store: &mut impl Store, dir: &str, key: &str) -> Result<u32, KeyError> {
    let value = read_key(store, dir, key)?;
    parse_number(&value).ok_or_else(|| KeyError::Malformed(Excerpt::new(&value)))
}

/// The number in `dir/key`, or `default` if it is missing.
pub fn read_number_or(store: &mut impl Store, dir: &str, key: &str, default: u32) -> Result<u32, KeyError> {
    match read_number(store, dir, key) {
        Err(KeyError::Missing) => Ok(default),
        other => other,
    }
}

/// The state in `dir/state`.
pub fn read_state(store: &mut impl Store, dir: &str) -> Result<State, KeyError> {
    let value = read_key(store, dir, "state")?;
    parse_number(&value).and_then(State::from_number).ok_or_else(|| KeyError::Malformed(Excerpt::new(&value)))
}

/// Writes `dir/state`.
pub fn write_state(store: &mut impl Store, dir: &str, state: State) -> Result<(), StoreError> {
    store.write(None, &format!("{dir}/state"), format!("{}", state as u32).as_bytes())
}

/// How often a transaction is run again before it is given up.
const TRANSACTION_TRIES: u32 = 10;

/// Writes several keys of `dir` in one transaction.
pub fn publish(store: &mut impl Store, dir: &str, keys: &[(&str, &str)]) -> Result<(), StoreError> {
    for _ in 0..TRANSACTION_TRIES {
        let tx = store.begin()?;
        let written =
            keys.iter().try_for_each(|(key, value)| store.write(Some(tx), &format!("{dir}/{key}"), value.as_bytes()));
        match (written, store.end(tx, written.is_ok())) {
            (Err(error), _) => return Err(error),
            (Ok(()), Err(StoreError::Again)) => {}
            (Ok(()), ended) => return ended,
        }
    }
    Err(StoreError::Again)
}

/// The front end's view of its back end: where it is and in which domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackEnd {
    /// The back end's directory.
    pub dir: alloc::string::String,
    /// Its domain.
    pub domid: xen_abi::DomId,
}

/// Longest path of a device directory that is accepted, in bytes.
const MAX_DIR: usize = 256;

/// Checks a directory name that stands in a key.
pub fn parse_dir(value: &[u8]) -> Option<&str> {
    let dir = core::str::from_utf8(value).ok()?;
    let plain = dir.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte));
    (dir.starts_with('/') && !dir.ends_with('/') && !dir.contains("//") && dir.len() <= MAX_DIR && plain).then_some(dir)
}

/// Reads `backend` and `backend-id` of a front end's directory.
pub fn read_back_end(store: &mut impl Store, dir: &str) -> Result<BackEnd, KeyError> {
    let value = read_key(store, dir, "backend")?;
    let back_dir = parse_dir(&value).ok_or_else(|| KeyError::Malformed(Excerpt::new(&value)))?;
    let id = read_number(store, dir, "backend-id")?;
    let id = u16::try_from(id).map_err(|_| KeyError::Malformed(Excerpt::new(format!("{id}").as_bytes())))?;
    Ok(BackEnd { dir: back_dir.into(), domid: xen_abi::DomId(id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{DOM0, Machine};
    use alloc::string::ToString;

    #[test]
    fn numbers_are_plain_decimals_of_32_bits() {
        assert_eq!(parse_number(b"0"), Some(0));
        assert_eq!(parse_number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"4294967296", b"99999999999999999999", b"-1", b"+1", b" 1", b"1\0", b"0x1", b"1 "] {
            assert_eq!(parse_number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn directories_are_plain_absolute_paths() {
        assert_eq!(parse_dir(b"/local/domain/1/device/vtpm/0"), Some("/local/domain/1/device/vtpm/0"));
        for bad in
            [&b""[..], b"device/vtpm/0", b"/a/", b"/a//b", b"/a\0b", b"/a b", b"/\xff", &[b'/'; 300], &[b'a'; 300]]
        {
            assert_eq!(parse_dir(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(Excerpt::new(b"ab\0\xff").to_string(), r#""ab\x00\xff""#);
        assert!(Excerpt::new(&[b'x'; 2000]).to_string().len() < 80);
    }

    #[test]
    fn a_transaction_that_meets_another_change_is_run_again() {
        let machine = Machine::new();
        let mut dom0 = machine.domain(DOM0);
        machine.refuse_commits(3);
        assert_eq!(publish(&mut dom0, "/x", &[("a", "1"), ("b", "2")]), Ok(()));
        assert_eq!((machine.read("/x/a"), machine.read("/x/b")), (Some("1".into()), Some("2".into())));
        machine.refuse_commits(1000);
        assert_eq!(publish(&mut dom0, "/x", &[("a", "3")]), Err(StoreError::Again));
        assert_eq!(machine.read("/x/a"), Some("1".into()));
    }
}
