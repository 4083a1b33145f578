//! The label of the manager's vault: what the chip needs to give the vault's key back.
//!
//! Readable by whoever has the disk (layout in `docs/formats/manager.md`). It is authenticated together with the state when
//! the vault opens; until then it is only bytes to try on the chip.

use crate::args::AuthData;
use crate::chip12::{MAX_BLOB, SealedBlob, StorageKey};
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::{Reader, Truncated, Writer};

/// The format that this software writes.
pub const FORMAT: u16 = 1;
/// The kind of chip: TPM 1.2.
const CHIP_12: u8 = 0x12;

/// Why a label was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LabelError {
    /// Written by a later version.
    NewerFormat(u16),
    /// Not what this software writes.
    Malformed,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat(found) => {
                write!(f, "the sealed key has format {found}, newer than this software ({FORMAT}): use the newer one")
            }
            Self::Malformed => f.write_str("the sealed key is malformed: put a backup of the disk back"),
        }
    }
}

impl core::error::Error for LabelError {}

/// The storage key and, sealed under it, the vault's key.
pub struct Label {
    /// The locality that the root secret is sealed for, 0 to 4.
    pub locality: u8,
    /// The storage root key's secret, if the manager drew it; else the operator gives it at every start.
    pub srk_auth: Option<AuthData>,
    /// The storage key.
    pub key: StorageKey,
    /// The root secret, sealed under it.
    pub root: SealedBlob,
}

impl Label {
    /// The stored form: at most 2161 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.u16(FORMAT).u8(CHIP_12).u8(self.locality);
        w.u8(self.srk_auth.is_some().into()).bytes(self.srk_auth.as_ref().map_or(&[0; 20], |auth| &auth.0));
        w.bytes(&self.key.auth.0).sized32(&self.key.blob);
        w.bytes(&self.root.auth.0).sized32(&self.root.blob);
        out
    }

    /// Reads the stored form back.
    pub fn parse(bytes: &[u8]) -> Result<Self, LabelError> {
        let mut r = Reader::new(bytes);
        let format = r.u16().map_err(|_| LabelError::Malformed)?;
        if format > FORMAT {
            return Err(LabelError::NewerFormat(format));
        }
        if format == 0 {
            return Err(LabelError::Malformed);
        }
        Self::body(&mut r).ok().flatten().ok_or(LabelError::Malformed)
    }

    fn body(r: &mut Reader<'_>) -> Result<Option<Self>, Truncated> {
        let (chip, locality) = (r.u8()?, r.u8()?);
        let (keeps_srk, srk) = (r.u8()?, r.array()?);
        let key = StorageKey { auth: AuthData(r.array()?), blob: r.sized32()?.to_vec() };
        let root = SealedBlob { auth: AuthData(r.array()?), blob: r.sized32()?.to_vec() };
        let sound = chip == CHIP_12
            && locality <= 4
            && (keeps_srk == 1 || (keeps_srk == 0 && srk == [0; 20]))
            && [&key.blob, &root.blob].iter().all(|blob| (1..=MAX_BLOB).contains(&blob.len()))
            && r.is_empty();
        let srk_auth = (keeps_srk == 1).then_some(AuthData(srk));
        Ok(sound.then_some(Self { locality, srk_auth, key, root }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn label(srk_auth: Option<AuthData>, size: usize) -> Label {
        Label {
            locality: 2,
            srk_auth,
            key: StorageKey { auth: AuthData([1; 20]), blob: vec![2; size] },
            root: SealedBlob { auth: AuthData([3; 20]), blob: vec![4; size] },
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (srk, size) in [(None, 1), (Some(AuthData([5; 20])), MAX_BLOB)] {
            let bytes = label(srk.clone(), size).to_bytes();
            assert!(bytes.len() <= 2161);
            let back = Label::parse(&bytes).ok().unwrap();
            assert!(back.srk_auth == srk && back.locality == 2);
            assert!(back.key.auth.0 == [1; 20] && back.key.blob == vec![2; size]);
            assert!(back.root.auth.0 == [3; 20] && back.root.blob == vec![4; size]);
        }
    }

    #[test]
    fn format_1_reads_for_ever() {
        let parts: [&[u8]; 7] =
            [&[0, 1, 0x12, 2, 1], &[5; 20], &[1; 20], b"\0\0\0\x03\x02\x02\x02", &[3; 20], &[0, 0, 0, 3], &[4; 3]];
        assert_eq!(label(Some(AuthData([5; 20])), 3).to_bytes(), parts.concat());
        let kept = Label::parse(&parts.concat()).ok().unwrap();
        assert!(kept.locality == 2 && kept.srk_auth == Some(AuthData([5; 20])) && kept.root.blob == [4; 3]);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = label(None, 30).to_bytes();
        let parse = |bytes: &[u8]| Label::parse(bytes).err();
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut]), Some(LabelError::Malformed));
        }
        assert_eq!(parse(&[&good[..], &[0]].concat()), Some(LabelError::Malformed));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!(with(1, 2), Some(LabelError::NewerFormat(2)));
        // Format 0, chip, locality, SRK flag, an SRK secret that is not kept, blob lengths.
        for (at, value) in [(1, 0), (2, 0x20), (3, 5), (4, 2), (5, 1), (45, 0xff), (48, 0), (48, 29), (48, 31)] {
            assert_eq!(with(at, value), Some(LabelError::Malformed), "byte {at} = {value}");
        }
        assert_eq!(parse(&label(None, MAX_BLOB + 1).to_bytes()), Some(LabelError::Malformed));
    }
}
