//! The forms on disk, for tests that offer hostile bytes.

use crate::label::Label;
use crate::state::State;
use alloc::vec::Vec;

/// The label in `bytes` as it would be stored again, if it is taken.
pub fn stored_label(bytes: &[u8]) -> Option<Vec<u8>> {
    Label::parse(bytes).ok().map(|label| label.to_bytes())
}

/// The state in `bytes`, one part or entry, as a checkpoint would store it, if it is taken.
pub fn stored_state(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut state = State::default();
    state.replay(bytes).ok()?;
    let mut stored = Vec::new();
    for part in state.parts() {
        // Every part begins with the format.
        stored.extend_from_slice(if stored.is_empty() { &part } else { part.get(2..)? });
    }
    Some(stored)
}
