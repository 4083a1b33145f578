//! The label of the manager's disk: what the chip needs to give the disk's key back.
//!
//! Readable by whoever has the disk (layout in `docs/formats/manager.md`). It is authenticated when the journal opens; until
//! then it is only bytes to try on the chip.

use crate::hardware::{PcrCondition, PcrSelection, RootKey, Sealed};
use crate::state::MAX_CONFIGURATIONS;
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::{Reader, Truncated, Writer};

/// The format that this software writes.
const FORMAT: u16 = 1;
/// The most copies of the root secret: one for each configuration of the manager's own and of its group's, one for the
/// recovery code, and one without conditions.
pub const MAX_ROOTS: usize = 2 * MAX_CONFIGURATIONS + 2;

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

/// When the chip gives a copy of the root secret back.
#[derive(Clone, PartialEq, Eq)]
pub enum When {
    /// Always: `seal_pcrs=` is not given.
    Always,
    /// When the PCRs are so.
    Pcrs(PcrCondition),
    /// To whoever has the recovery code.
    Code,
}

/// A copy of the root secret, sealed by the chip.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedRoot {
    /// When the chip gives it back.
    pub when: When,
    /// The chip's own form.
    pub sealed: Sealed,
}

/// The chip's storage key and, sealed under it, copies of the root secret: the journal's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Label {
    /// The storage key.
    pub key: RootKey,
    /// The copies, at most [`MAX_ROOTS`].
    pub roots: Vec<SealedRoot>,
}

impl Label {
    /// The stored form.
    ///
    /// The journal takes at most [`vault::MAX_JOURNAL_LABEL`] bytes, which is room for more copies than are of use: a copy that a
    /// TPM 2.0 chip seals to eight PCRs takes some 600.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.u16(FORMAT).sized32(&self.key.to_bytes()).u8(self.roots.len() as u8);
        for root in &self.roots {
            match &root.when {
                When::Always => {
                    w.u8(0);
                }
                When::Pcrs(condition) => {
                    w.u8(1);
                    condition.put(&mut w);
                }
                When::Code => {
                    w.u8(2);
                }
            }
            w.sized32(&root.sealed.to_bytes());
        }
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
        match Self::body(&mut r) {
            Ok(label) if r.is_empty() => Ok(label),
            _ => Err(LabelError::Malformed),
        }
    }

    fn body(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let key = RootKey::parse(r.sized32()?).ok_or(Truncated)?;
        let count = r.u8()?;
        if !(1..=MAX_ROOTS).contains(&usize::from(count)) {
            return Err(Truncated);
        }
        let mut roots = Vec::new();
        for _ in 0..count {
            let when = match r.u8()? {
                0 => When::Always,
                1 => When::Pcrs(PcrCondition::get(r)?),
                2 => When::Code,
                _ => return Err(Truncated),
            };
            roots.push(SealedRoot { when, sealed: Sealed::parse(r.sized32()?).ok_or(Truncated)? });
        }
        Ok(Self { key, roots })
    }

    /// The selections of PCRs that there are conditions on, each once: what has to be read to know which copy to use.
    pub fn selections(&self) -> Vec<PcrSelection> {
        let mut selections: Vec<_> = self.conditions().map(|condition| condition.selection).collect();
        selections.sort();
        selections.dedup();
        selections
    }

    /// The conditions under which copies can be opened.
    pub fn conditions(&self) -> impl Iterator<Item = &PcrCondition> {
        self.roots.iter().filter_map(|root| match &root.when {
            When::Pcrs(condition) => Some(condition),
            When::Always | When::Code => None,
        })
    }

    /// The copies that the chip can be expected to open, the PCRs being as `now` says, one condition for each of
    /// [`Self::selections`]; the recovery copy comes last, if the operator gave a code.
    pub fn candidates<'a>(&'a self, now: &'a [PcrCondition], code: bool) -> impl Iterator<Item = &'a SealedRoot> {
        let open = self.roots.iter().filter(|root| match &root.when {
            When::Always => true,
            When::Pcrs(condition) => now.iter().any(|now| condition.is_met_by(now)),
            When::Code => false,
        });
        open.chain(self.roots.iter().filter(move |root| code && matches!(root.when, When::Code)))
    }

    /// Which PCRs keep the disk closed: those that differ from the condition that comes nearest to `now`.
    pub fn differing(&self, now: &[PcrCondition]) -> PcrSelection {
        let differing = self.conditions().map(|condition| {
            let same = now.iter().find(|now| (now.bank, now.selection) == (condition.bank, condition.selection));
            same.map_or(condition.selection, |now| condition.differing(now))
        });
        differing.min_by_key(|selection| selection.len()).unwrap_or(PcrSelection::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{Bank, Digest};
    use alloc::vec;

    fn key() -> RootKey {
        RootKey::parse(&[0x20, 1, 2, 3]).unwrap()
    }

    fn sealed(n: u8) -> Sealed {
        Sealed::parse(&[0x20, n, n]).unwrap()
    }

    /// PCRs with these values (SHA-256), as a made-up chip would have it.
    fn condition(pcrs: &[(u8, u8)]) -> PcrCondition {
        let selection = pcrs.iter().fold(PcrSelection::NONE, |all, (pcr, _)| all.with(*pcr));
        let values: Vec<_> = pcrs.iter().map(|(_, value)| Digest::from_slice(&[*value; 32]).unwrap()).collect();
        let digest = tpm_crypto::sha256(&values.iter().map(|value| &value[..]).collect::<Vec<_>>());
        PcrCondition { bank: Bank::Sha256, selection, digest: Digest::from_slice(&digest).unwrap(), values }
    }

    fn label() -> Label {
        let roots = vec![
            SealedRoot { when: When::Pcrs(condition(&[(0, 1), (7, 2), (14, 3)])), sealed: sealed(1) },
            SealedRoot { when: When::Pcrs(condition(&[(0, 1), (7, 9), (14, 9)])), sealed: sealed(2) },
            SealedRoot { when: When::Pcrs(condition(&[(4, 4)])), sealed: sealed(3) },
            SealedRoot { when: When::Code, sealed: sealed(4) },
        ];
        Label { key: key(), roots }
    }

    #[test]
    fn what_is_written_reads_back() {
        for roots in [label().roots, vec![SealedRoot { when: When::Always, sealed: sealed(5) }]] {
            let label = Label { key: key(), roots };
            assert!(Label::parse(&label.to_bytes()) == Ok(label));
        }
    }

    #[test]
    fn format_1_reads_for_ever() {
        let condition: &[u8] = &[0, 0x0b, 0, 0, 0, 0x10, 32];
        let parts: [&[u8]; 9] = [
            &[0, 1, 0, 0, 0, 4, 0x20, 1, 2, 3, 3],
            &[0, 0, 0, 0, 3, 0x20, 5, 5],
            &[1],
            condition,
            &tpm_crypto::sha256(&[&[4; 32]]),
            &[1],
            &[4; 32],
            &[0, 0, 0, 3, 0x20, 3, 3],
            &[2, 0, 0, 0, 3, 0x20, 4, 4],
        ];
        let mut expected = label();
        expected.roots.splice(..2, [SealedRoot { when: When::Always, sealed: sealed(5) }]);
        assert!(Label::parse(&parts.concat()) == Ok(expected));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = label().to_bytes();
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
        // Format 0, length and version of the key, count, kind, bank, PCR 24.
        for (at, value) in
            [(1, 0), (5, 0), (5, 0xff), (6, 0x13), (10, 0), (10, 3), (10, 0xff), (11, 3), (13, 1), (14, 1)]
        {
            assert_eq!(with(at, value), Some(LabelError::Malformed), "byte {at} = {value}");
        }
        let many = vec![SealedRoot { when: When::Always, sealed: sealed(5) }; MAX_ROOTS + 1];
        assert_eq!(parse(&Label { key: key(), roots: many }.to_bytes()), Some(LabelError::Malformed));
        assert_eq!(parse(&Label { key: key(), roots: vec![] }.to_bytes()), Some(LabelError::Malformed));
    }

    #[test]
    fn the_copies_whose_pcrs_are_as_they_are_now() {
        let label = label();
        let open = |now: &[&[(u8, u8)]], code| {
            let now: Vec<_> = now.iter().map(|now| condition(now)).collect();
            label.candidates(&now, code).map(|root| root.sealed.to_bytes()[1]).collect::<Vec<_>>()
        };
        assert_eq!(label.selections().iter().map(|s| s.mask()).collect::<Vec<_>>(), [0x10, 0x4081]);
        assert_eq!(open(&[&[(0, 1), (7, 2), (14, 3)], &[(4, 0)]], false), [1]);
        assert_eq!(open(&[&[(0, 1), (7, 9), (14, 9)], &[(4, 4)]], true), [2, 3, 4]);
        assert!(open(&[&[(0, 1), (7, 2), (14, 9)], &[(4, 0)]], false).is_empty());
        assert_eq!(open(&[], true), [4]);
    }

    #[test]
    fn the_pcrs_that_differ_from_the_nearest_condition() {
        let label = Label { key: key(), roots: label().roots[..2].to_vec() };
        for (now, differing) in [
            ([(0, 1), (7, 2), (14, 4)], 1 << 14),
            ([(0, 0), (7, 9), (14, 9)], 1),
            ([(0, 0), (7, 2), (14, 0)], 1 | 1 << 14),
            ([(0, 1), (7, 2), (14, 3)], 0),
        ] {
            assert_eq!(label.differing(&[condition(&now)]).mask(), differing);
        }
        assert_eq!(label.differing(&[]).mask(), 0x4081, "nothing to compare with");
    }
}
