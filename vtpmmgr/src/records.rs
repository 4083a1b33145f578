//! The manager's state: one record per vTPM, kept in the very form in which it is stored.
//!
//! Layout in `docs/formats/manager.md`. The table is one byte string, so that its secrets lie in one place that is wiped, and
//! a change is a new byte string that replaces the old one once it is durable.

use crate::args::AuthData;
use alloc::vec::Vec;
use core::fmt;
use tpm_wire::mgr::{RECORD_MAX, RECORD_MIN};
use tpm_wire::{Reader, Truncated, Writer};
use zeroize::Zeroizing;

/// The format that this software writes.
pub const FORMAT: u16 = 1;
/// The most vTPMs that one manager keeps records of.
pub const MAX_VTPMS: usize = 4096;

/// Format, whether the owner secret is kept, the owner secret, number of entries.
const HEADER: usize = 2 + 1 + 20 + 4;
/// UUID, length of the record, record filled up with zeroes.
const ENTRY: usize = 16 + 1 + RECORD_MAX;

/// Why a stored state was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateError {
    /// Written by a later version.
    NewerFormat(u16),
    /// Authentic and yet not what this software writes.
    Malformed,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat(found) => {
                write!(
                    f,
                    "the manager's records have format {found}, newer than this software ({FORMAT}): use the newer one"
                )
            }
            Self::Malformed => f.write_str("the manager's records are malformed: put a backup of the disk back"),
        }
    }
}

impl core::error::Error for StateError {}

/// A table with this many vTPMs takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull;

/// The records of all vTPMs, sorted by UUID.
pub struct Table {
    bytes: Zeroizing<Vec<u8>>,
}

impl Table {
    /// No vTPM yet. `owner` is the chip's owner secret if the manager drew it itself.
    pub fn new(owner: Option<&AuthData>) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER));
        let mut w = Writer::new(&mut bytes);
        w.u16(FORMAT).u8(owner.is_some().into()).bytes(owner.map_or(&[0; 20], |auth| &auth.0)).u32(0);
        Self { bytes }
    }

    /// Takes a stored state, once every byte of it has been found to be as [`Self::bytes`] gives it.
    pub fn parse(bytes: Zeroizing<Vec<u8>>) -> Result<Self, StateError> {
        let table = Self { bytes };
        let format = Reader::new(&table.bytes).u16().map_err(|_| StateError::Malformed)?;
        if format > FORMAT {
            return Err(StateError::NewerFormat(format));
        }
        if table.is_sound().unwrap_or(false) { Ok(table) } else { Err(StateError::Malformed) }
    }

    fn is_sound(&self) -> Result<bool, Truncated> {
        let mut r = Reader::new(&self.bytes);
        let (format, keeps_owner, owner) = (r.u16()?, r.u8()?, r.array::<20>()?);
        let count = r.u32()? as usize;
        let mut sound = format == FORMAT && (keeps_owner == 1 || (keeps_owner == 0 && owner == [0; 20]));
        let (entries, rest) = r.rest().as_chunks::<ENTRY>();
        sound &= count == entries.len() && count <= MAX_VTPMS && rest.is_empty();
        let mut last = None;
        for entry in entries {
            let mut r = Reader::new(entry);
            let (uuid, length) = (r.array::<16>()?, usize::from(r.u8()?));
            let padding = r.rest().get(length..).ok_or(Truncated)?;
            sound &= last.is_none_or(|last| last < uuid) && length >= RECORD_MIN && padding.iter().all(|b| *b == 0);
            last = Some(uuid);
        }
        Ok(sound)
    }

    /// The stored form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many vTPMs have a record.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// The record of a vTPM, 52 to 64 bytes, exactly as it was saved.
    pub fn get(&self, uuid: &[u8; 16]) -> Option<&[u8]> {
        let entry = self.entries().get(self.find(uuid).ok()?)?;
        let (length, record) = entry.get(16..)?.split_first()?;
        record.get(..usize::from(*length))
    }

    /// This table with `record` (52 to 64 bytes) for `uuid`, in place of an earlier one or as a new one.
    ///
    /// # Panics
    /// If the record has another length; the caller has checked the message it came in.
    pub fn with(&self, uuid: &[u8; 16], record: &[u8]) -> Result<Self, TableFull> {
        assert!((RECORD_MIN..=RECORD_MAX).contains(&record.len()), "a record of {} bytes", record.len());
        let place = self.find(uuid);
        let (index, replaced) = match place {
            Ok(index) => (index, 1),
            Err(index) => (index, 0),
        };
        let count = self.count() + 1 - replaced;
        if count > MAX_VTPMS {
            return Err(TableFull);
        }
        let (header, _) = self.bytes.split_at(HEADER - 4);
        let (before, rest) = self.entries().split_at(index);
        let (_, after) = rest.split_at(replaced);

        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + count * ENTRY));
        let mut w = Writer::new(&mut bytes);
        // Both fit: at most 4096 entries, at most 64 bytes.
        w.bytes(header).u32(count as u32).bytes(before.as_flattened());
        w.bytes(uuid).u8(record.len() as u8).bytes(record).bytes(&[0; RECORD_MAX][record.len()..]);
        w.bytes(after.as_flattened());
        Ok(Self { bytes })
    }

    fn entries(&self) -> &[[u8; ENTRY]] {
        self.bytes.get(HEADER..).unwrap_or_default().as_chunks().0
    }

    fn find(&self, uuid: &[u8; 16]) -> Result<usize, usize> {
        self.entries().binary_search_by(|entry| entry.first_chunk::<16>().cmp(&Some(uuid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(n: u8) -> [u8; 16] {
        [n; 16]
    }

    fn reparsed(table: &Table) -> Table {
        Table::parse(Zeroizing::new(table.bytes().to_vec())).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn records_come_back_with_their_length_in_any_order_of_saving() {
        let mut table = Table::new(Some(&AuthData([9; 20])));
        assert!(table.count() == 0 && table.get(&uuid(1)).is_none());
        for (n, length) in [(5, 64), (1, 52), (9, 60), (3, 53), (5, 52)] {
            table = table.with(&uuid(n), &[n + 100; 64][..length]).ok().unwrap();
            table = reparsed(&table);
        }
        assert_eq!(table.count(), 4);
        assert_eq!(table.get(&uuid(5)), Some(&[105; 52][..]));
        assert_eq!(table.get(&uuid(1)), Some(&[101; 52][..]));
        assert_eq!(table.get(&uuid(9)), Some(&[109; 60][..]));
        assert_eq!(table.get(&uuid(3)), Some(&[103; 53][..]));
        assert_eq!(table.get(&uuid(2)), None);
    }

    #[test]
    fn format_1_reads_for_ever() {
        let parts: [&[u8]; 6] = [&[0, 1, 1], &[9; 20], &[0, 0, 0, 1], &[5; 16], &[60; 61], &[0; 4]];
        let bytes = parts.concat();
        let table = Table::new(Some(&AuthData([9; 20]))).with(&uuid(5), &[60; 60]).ok().unwrap();
        assert_eq!(table.bytes(), bytes);
        let kept = Table::parse(Zeroizing::new(bytes)).ok().unwrap();
        assert_eq!(kept.get(&uuid(5)), Some(&[60; 60][..]));
    }

    #[test]
    fn zero_bytes_at_a_records_end_are_part_of_it() {
        let table = Table::new(None).with(&uuid(1), &[0; 64]).ok().unwrap();
        assert_eq!(reparsed(&table).get(&uuid(1)), Some(&[0; 64][..]));
    }

    #[test]
    fn a_full_table_takes_changes_but_no_newcomer() {
        let mut table = Table::new(None);
        let mut bytes = Zeroizing::new(table.bytes[..HEADER - 4].to_vec());
        let mut w = Writer::new(&mut bytes);
        w.u32(MAX_VTPMS as u32);
        for n in 0..MAX_VTPMS as u128 {
            w.bytes(&(2 * n).to_be_bytes()).u8(52).bytes(&[7; 52]).bytes(&[0; 12]);
        }
        table = Table::parse(bytes).ok().unwrap();
        assert!(table.with(&uuid(0), &[1; 52]).is_ok());
        assert!(table.with(&1u128.to_be_bytes(), &[1; 52]).is_err());
    }

    #[test]
    fn stored_bytes_that_are_not_ours_are_refused() {
        let mut table = Table::new(None);
        for n in 1..4 {
            table = table.with(&uuid(n), &[n; 60]).ok().unwrap();
        }
        let good = table.bytes().to_vec();
        let parse = |bytes: &[u8]| Table::parse(Zeroizing::new(bytes.to_vec())).err();
        assert_eq!(parse(&good), None);
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut]), Some(StateError::Malformed), "cut at {cut}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!(parse(&[&good[..], &[0]].concat()), Some(StateError::Malformed));
        assert_eq!(with(1, 2), Some(StateError::NewerFormat(2)));
        assert_eq!(with(1, 0), Some(StateError::Malformed));
        for (at, value) in [
            (2, 2),                      // keeps_owner
            (3, 1),                      // an owner secret that is not kept
            (HEADER - 1, 2),             // count
            (HEADER - 4, 0xff),          // count, huge
            (HEADER + 16, 51),           // record length
            (HEADER + 16, 65),           //
            (HEADER + 16, 0xff),         //
            (HEADER + ENTRY - 1, 1),     // padding
            (HEADER, 9),                 // order
            (HEADER + ENTRY + 15, 0xff), // order against the next stays, so change its first byte too
        ] {
            let refused = with(at, value);
            if at == HEADER + ENTRY + 15 {
                assert_eq!(refused, None, "still sorted");
            } else {
                assert_eq!(refused, Some(StateError::Malformed), "byte {at} = {value}");
            }
        }
        let mut twice = good.clone();
        twice[HEADER..HEADER + 16].fill(2);
        assert_eq!(parse(&twice), Some(StateError::Malformed), "the same vTPM twice");
    }
}
