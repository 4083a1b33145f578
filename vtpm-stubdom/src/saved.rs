//! What the vault keeps for a vTPM: the engine's state and the mark of the guest instance. Layout: docs/formats/vtpm-state.md.

use crate::instance::{BOOT_ID_SIZE, Instance};
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::{Reader, Truncated, Writer};
use xen_abi::DomId;
use zeroize::Zeroizing;

/// Bytes that are wiped when dropped and never printed.
pub type Secret = Zeroizing<Vec<u8>>;

const MAGIC: &[u8; 8] = b"vTPMstat";
const VERSION: u16 = 1;
const HAS_INSTANCE: u8 = 1;
const HAS_VOLATILE: u8 = 2;

/// The content of the vault.
#[derive(Clone)]
pub struct Saved {
    /// Which engine made [`Self::engine`]: [`crate::GuestTpm::KIND`].
    pub engine_kind: u8,
    /// The guest instance that was admitted last.
    pub open: Option<Instance>,
    /// Domains that were admitted before it since the machine started: whoever of them comes back finds its PCRs gone.
    pub earlier: Vec<DomId>,
    /// That guest's volatile state, if a clean stop saved it and it was not used since.
    pub volatile: Option<Secret>,
    /// The engine's persistent state.
    pub engine: Secret,
}

/// A saved state that this version does not understand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SavedError {
    /// Not a vTPM's state.
    Foreign,
    /// Made by a later version.
    Newer(u16),
    /// Fields that contradict each other, end early, or are followed by more.
    Malformed,
    /// Made by another engine.
    OtherEngine(u8),
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the vault opens but holds something other than a vTPM's state"),
            Self::Newer(version) => {
                write!(
                    f,
                    "the vTPM's state has format {version}, which is newer than this software knows ({VERSION}): use the newer software"
                )
            }
            Self::Malformed => {
                f.write_str("the vault opens but the vTPM's state in it is malformed; report this as a bug")
            }
            Self::OtherEngine(kind) => {
                write!(f, "the vTPM's state belongs to an engine of kind {kind}, which this image does not have")
            }
        }
    }
}

impl core::error::Error for SavedError {}

impl From<Truncated> for SavedError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

impl Saved {
    /// The bytes for the vault.
    pub fn encode(&self) -> Secret {
        let empty = Secret::default();
        let volatile = self.volatile.as_ref().unwrap_or(&empty);
        // Reserved whole: a vector that grows leaves unwiped copies behind.
        let mut out = Secret::new(Vec::with_capacity(64 + 2 * self.earlier.len() + volatile.len() + self.engine.len()));
        let flags =
            if self.open.is_some() { HAS_INSTANCE } else { 0 } | if self.volatile.is_some() { HAS_VOLATILE } else { 0 };
        let instance = self.open.unwrap_or(Instance { boot: [0; BOOT_ID_SIZE], domid: DomId(0) });
        // Domain numbers are 15 bits and stand here once each.
        let earlier = self.earlier.iter().take(usize::from(u16::MAX));
        let mut writer = Writer::new(&mut out);
        writer
            .bytes(MAGIC)
            .u16(VERSION)
            .u8(self.engine_kind)
            .u8(flags)
            .bytes(&instance.boot)
            .u16(instance.domid.0)
            .u16(earlier.len() as u16);
        earlier.for_each(|domid| {
            writer.u16(domid.0);
        });
        writer.sized32(volatile).sized32(&self.engine);
        out
    }

    /// Reads [`Self::encode`]'s bytes back, for the engine of kind `kind`.
    pub fn decode(bytes: &[u8], kind: u8) -> Result<Self, SavedError> {
        let mut reader = Reader::new(bytes);
        if reader.array::<8>().ok().as_ref() != Some(MAGIC) {
            return Err(SavedError::Foreign);
        }
        match reader.u16()? {
            VERSION => {}
            newer if newer > VERSION => return Err(SavedError::Newer(newer)),
            _ => return Err(SavedError::Malformed),
        }
        let engine_kind = reader.u8()?;
        if engine_kind != kind {
            return Err(SavedError::OtherEngine(engine_kind));
        }
        let flags = reader.u8()?;
        let instance = Instance { boot: reader.array()?, domid: DomId(reader.u16()?) };
        let count = reader.u16()?;
        let (earlier, _) = reader.bytes(2 * usize::from(count))?.as_chunks();
        let earlier: Vec<_> = earlier.iter().map(|domid| DomId(u16::from_be_bytes(*domid))).collect();
        let volatile = reader.sized32()?;
        let engine = reader.sized32()?;
        let stray = (flags & HAS_INSTANCE == 0 && !earlier.is_empty())
            || (flags & HAS_VOLATILE == 0 && !volatile.is_empty())
            || flags & !(HAS_INSTANCE | HAS_VOLATILE) != 0;
        if stray || !reader.is_empty() {
            return Err(SavedError::Malformed);
        }
        Ok(Self {
            engine_kind,
            open: (flags & HAS_INSTANCE != 0).then_some(instance),
            earlier,
            volatile: (flags & HAS_VOLATILE != 0).then(|| Secret::new(volatile.to_vec())),
            engine: Secret::new(engine.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn example() -> Saved {
        Saved {
            engine_kind: 1,
            open: Some(Instance { boot: [7; BOOT_ID_SIZE], domid: DomId(0x1234) }),
            earlier: vec![DomId(9), DomId(0x1233)],
            volatile: Some(Secret::new(b"pcrs".to_vec())),
            engine: Secret::new(b"engine".to_vec()),
        }
    }

    #[test]
    fn what_is_saved_reads_back() {
        for open in [None, example().open] {
            for volatile in [None, Some(Secret::default()), example().volatile] {
                let earlier = if open.is_some() { example().earlier } else { vec![] };
                let saved = Saved { open, earlier, volatile: volatile.clone(), ..example() };
                let back = Saved::decode(&saved.encode(), 1).ok().unwrap();
                assert_eq!((back.open, back.volatile, &back.engine[..]), (open, volatile, &b"engine"[..]));
                assert_eq!(back.earlier, saved.earlier);
            }
        }
    }

    #[test]
    fn version_1_reads_for_ever() {
        let mut bytes = b"vTPMstat\x00\x01\x01\x03".to_vec();
        bytes.extend([7; 20]);
        bytes.extend(b"\x12\x34\x00\x02\x00\x09\x12\x33\x00\x00\x00\x04pcrs\x00\x00\x00\x06engine");
        assert_eq!(example().encode().to_vec(), bytes);
        assert!(Saved::decode(&bytes, 1).is_ok());
    }

    #[test]
    fn every_other_byte_string_is_refused_for_its_reason() {
        let good = example().encode().to_vec();
        for cut in 0..good.len() {
            let error = Saved::decode(&good[..cut], 1).err().unwrap();
            assert_eq!(error, if cut < 8 { SavedError::Foreign } else { SavedError::Malformed }, "cut at {cut}");
        }
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            Saved::decode(&bytes, 1).err()
        };
        assert_eq!(with(0, b"V"), Some(SavedError::Foreign));
        assert_eq!(with(8, &[0, 2]), Some(SavedError::Newer(2)));
        assert_eq!(with(8, &[0, 0]), Some(SavedError::Malformed));
        assert_eq!(with(10, &[2]), Some(SavedError::OtherEngine(2)));
        for flags in [1, 2, 4, 0xff] {
            assert_eq!(with(11, &[flags]), Some(SavedError::Malformed));
        }
        for count in [0u16, 1, 3, 0x7fff, u16::MAX] {
            assert_eq!(with(34, &count.to_be_bytes()), Some(SavedError::Malformed), "{count}");
        }
        for length_at in [40, 48] {
            for length in [0u32, 1, 0xffff, 0x7fff_ffff, u32::MAX] {
                assert_eq!(with(length_at, &length.to_be_bytes()), Some(SavedError::Malformed), "{length_at} {length}");
            }
        }
        assert_eq!(Saved::decode(&[good, vec![0]].concat(), 1).err(), Some(SavedError::Malformed));
    }
}
