//! Loading of damaged TPM 1.2 states: refused, or a TPM that works, whose state loads again. A volatile state that is taken is
//! the same when it is saved again.

use crate::input::Input;
use crate::tpm12::client::{options, packet, rng};
use crate::tpm12::prepared;
use std::sync::OnceLock;
use tpm_wire::{Engine, Progress};
use tpm12::{StartupType, Tpm12};

/// Overwrites, cuts out and puts in, mostly where sections begin.
fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..1 + input.u8() % 3 {
        let at = usize::from(input.u16()) % (bytes.len() + 1);
        match input.u8() % 4 {
            0 => drop(bytes.drain(at..(at + input.below(64)).min(bytes.len()))),
            1 => drop(bytes.splice(at..at, input.bytes(false).iter().copied())),
            _ => bytes.iter_mut().skip(at).zip(input.bytes(false)).for_each(|(byte, new)| *byte = *new),
        }
    }
}

/// Makes the sections' lengths (16-bit number, 32-bit length) right again where they are near.
fn mend(bytes: &mut [u8], before: usize, after: usize) {
    let grown = (after as u32).wrapping_sub(before as u32);
    // Only the volatile state has a single section, whose length is that of all the rest.
    if let Some(length) = bytes.get_mut(12..16).and_then(|field| field.first_chunk_mut::<4>()) {
        *length = u32::from_be_bytes(*length).wrapping_add(grown).to_be_bytes();
    }
}

/// Damages both states of a prepared TPM and loads them.
pub fn run(data: &[u8]) {
    static GOOD: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (permanent, volatile) = GOOD.get_or_init(prepared::states);
    let (mut input, mut permanent, mut volatile) = (Input::new(data), permanent.clone(), volatile.clone());
    let which = input.u8();
    if which % 4 == 0 {
        permanent = input.bytes(true).to_vec();
    } else if which % 4 == 1 {
        damage(&mut permanent, &mut input);
    } else {
        let before = volatile.len();
        damage(&mut volatile, &mut input);
        let after = volatile.len();
        mend(&mut volatile, before, after);
    }
    let Ok(mut tpm) = Tpm12::load(&permanent, rng(1), options()) else { return };
    match tpm.restore_volatile(&volatile) {
        Ok(()) => {
            let saved = tpm.save_volatile();
            tpm.restore_volatile(&saved).expect("a volatile state that was saved");
            assert!(tpm.save_volatile() == saved);
        }
        Err(_) => drop(tpm.startup(StartupType::State)),
    }
    let mut response = Vec::new();
    // What guests do first: GetCapability of handles and properties, GetTicks, SaveState, a reading of all tables.
    for (ordinal, body) in
        [(0x65, &[0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 1][..]), (0xf1, &[]), (0xdb, &[]), (0x98, &[]), (0x0a, &[])]
    {
        if tpm.execute(0, &packet(0xc1, ordinal, body), &mut response) == Progress::Working {
            tpm.cancel();
        }
    }
    tpm.reset_for_new_guest();
    let _ = tpm.execute(3, &packet(0xc1, 0x4000_000b, &[]), &mut response);
    if let Some(staged) = tpm.staged() {
        Tpm12::load(&staged, rng(1), options()).expect("a state that was saved");
    }
}
