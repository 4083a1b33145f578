//! What the manager reads from its disk once it is authentic, and its arguments: refused, or stored again byte for byte.

use crate::input::Input;
use vtpmmgr::{args, fake};

/// Offers the input as label, as records and as arguments.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let mut bytes = Vec::new();
    match kind % 4 {
        0 => bytes.extend(input.bytes(true)),
        1 => {
            bytes.extend([0, 1, 0x12, input.u8() % 5, input.u8() & 1]);
            bytes.extend(if bytes[4] == 1 { input.array() } else { [0; 20] });
            for _ in 0..2 {
                let (auth, blob) = (input.array::<20>(), input.bytes(true));
                bytes.extend(auth);
                bytes.extend((blob.len() as u32).to_be_bytes());
                bytes.extend(blob);
            }
            bytes.extend(input.bytes(false));
        }
        2 => {
            let count = input.u8() % 8;
            bytes.extend([0, 1, 0]);
            bytes.extend([0; 20]);
            bytes.extend([0, 0, 0, count]);
            for number in 0..count {
                let length = 52 + input.u8() % 14;
                bytes.extend([number.wrapping_add(input.u8() / 250); 16]);
                bytes.push(length);
                let mut record = [input.u8(); 64];
                record[usize::from(length).min(64)..].fill(input.u8() / 250);
                bytes.extend(record);
            }
            bytes.extend(input.bytes(false));
        }
        _ => {
            let line = String::from_utf8_lossy(input.bytes(true)).into_owned();
            return assert!(args::parse(&line).err().is_none_or(|error| !error.to_string().is_empty()));
        }
    }
    for again in [fake::stored_label(&bytes), fake::stored_records(&bytes)].into_iter().flatten() {
        assert!(again == bytes, "another form of the same content");
    }
}
