//! Direct anonymous attestation (part 3, section 26).

use crate::codes::{self, Code};
use crate::tpm::Tpm;
use crate::wire::wire_struct;

wire_struct! {
    /// A DAA session.
    pub(crate) struct DaaSession {
        handle: u32,
    }
}

impl Tpm {
    /// Ends a session.
    pub(crate) fn end_daa(&mut self, handle: u32) -> Result<(), Code> {
        let before = self.volatile.daa.len();
        self.volatile.daa.retain(|session| session.handle != handle);
        if self.volatile.daa.len() == before { Err(codes::BAD_HANDLE) } else { Ok(()) }
    }
}
