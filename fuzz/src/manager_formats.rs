//! What the manager reads from its disk, and its arguments: refused, or stored again byte for byte.

use crate::input::Input;
use vtpmmgr::{args, fake};

/// Appends a byte string behind its 32-bit length.
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// A condition on one PCR of a TPM 1.2.
fn condition(input: &mut Input<'_>, out: &mut Vec<u8>) {
    out.extend([0, 4, 0, 0, 0, 1 << (input.u8() % 8), 20]);
    out.extend([input.u8(); 20]);
    out.push(input.u8() / 128);
    if out.last() == Some(&1) {
        out.extend([input.u8(); 20]);
    }
}

/// A label: a storage key, and copies of the root secret.
fn label(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = vec![0, 1];
    sized(&mut out, &[&[0x12], input.bytes(false)].concat());
    let count = input.u8() % 4;
    out.push(count);
    for _ in 0..count {
        let kind = input.u8() % 4;
        out.push(kind);
        if kind == 1 {
            condition(input, &mut out);
        }
        sized(&mut out, &[&[0x12], input.bytes(false)].concat());
    }
    out
}

/// A group's item, with a key of either form.
fn group(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = vec![input.u8() % 4; 16];
    out.extend(input.array::<4>());
    out.extend(input.array::<20>());
    sized(&mut out, if input.flag() { &[] } else { &[0x81; 256] });
    sized(&mut out, &[]);
    let seals = input.u8() % 3;
    out.push(seals);
    if seals == 0 {
        out.extend([input.u8(); 32]);
    }
    for _ in 0..seals {
        condition(input, &mut out);
        sized(&mut out, &[0x12, 1]);
    }
    out.extend(input.array::<8>());
    out.push(input.u8() / 250);
    out.push(input.u8() % 2);
    out.extend(input.array::<20>().iter().take(20 * usize::from(out.last() == Some(&1))));
    sized(&mut out, input.bytes(false));
    out
}

/// A part of a checkpoint, or an entry: a format and items.
fn state(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = vec![0, 1];
    for _ in 0..input.u8() % 8 {
        let kind = input.u8() % 9;
        let item = match input.u8() % 4 {
            0 => input.bytes(false).to_vec(),
            1 => group(input),
            2 => [&[input.u8() % 4; 32][..], &[0; 4], &[1], &[input.u8(); 52]].concat(),
            _ => vec![input.u8() % 4; 16],
        };
        out.push(kind);
        sized(&mut out, &item);
    }
    out
}

/// Offers the input as label, as state and as arguments.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let mut bytes = Vec::new();
    match kind % 5 {
        0 | 1 => bytes.extend(input.bytes(true)),
        2 => bytes = label(&mut input),
        3 => bytes = state(&mut input),
        _ => {
            let line = String::from_utf8_lossy(input.bytes(true)).into_owned();
            return assert!(args::parse(&line).err().is_none_or(|error| !error.to_string().is_empty()));
        }
    }
    if input.rarely(4) {
        bytes.extend(input.bytes(false));
    }
    if let Some(again) = fake::stored_label(&bytes) {
        assert!(again == bytes, "another form of the same label");
    }
    // An entry may change what came before it; what is left is stored in one form only.
    if let Some(stored) = fake::stored_state(&bytes) {
        let again = fake::stored_state(&stored);
        assert!(again.is_some_and(|again| again == stored), "another form of the same state");
    }
}
