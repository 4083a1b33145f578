//! The forms on disk, for tests that offer hostile bytes.

use crate::label::Label;
use crate::records::Table;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// The label in `bytes` as it would be stored again, if it is taken.
pub fn stored_label(bytes: &[u8]) -> Option<Vec<u8>> {
    Label::parse(bytes).ok().map(|label| label.to_bytes())
}

/// The records in `bytes` as they would be stored again, if they are taken; each was looked up and saved once more.
pub fn stored_records(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut table = Table::parse(Zeroizing::new(bytes.to_vec())).ok()?;
    for uuid in (0..=u8::MAX).map(|n| [n; 16]) {
        let record = table.get(&uuid).map(<[u8]>::to_vec);
        if let Some(again) = record.and_then(|record| table.with(&uuid, &record).ok()) {
            table = again;
        }
    }
    Some(table.bytes().to_vec())
}
