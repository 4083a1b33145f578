//! Transport sessions (part 3, section 24).

use crate::codes::{self, Code};
use crate::structs::{AuthData, Digest, Nonce};
use crate::tpm::Tpm;
use crate::wire::wire_struct;

wire_struct! {
    /// `TPM_TRANSPORT_INTERNAL` (part 2, section 13.2).
    #[derive(Clone)]
    pub(crate) struct TransportSession {
        handle: u32,
        auth: AuthData,
        attributes: u32,
        algorithm: u32,
        scheme: u16,
        nonce_even: Nonce,
        log: Digest,
    }
}

impl Tpm {
    /// The session with this handle.
    pub(crate) fn transport(&self, handle: u32) -> Result<&TransportSession, Code> {
        self.volatile.transports.iter().find(|session| session.handle == handle).ok_or(codes::INVALID_AUTHHANDLE)
    }

    /// Ends a session if it is there.
    pub(crate) fn end_transport(&mut self, handle: u32) {
        self.volatile.transports.retain(|session| session.handle != handle);
        if self.volatile.exclusive == handle {
            self.volatile.exclusive = 0;
        }
    }
}
