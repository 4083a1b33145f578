//! The messages (`public/io/xs_wire.h`): a 16-byte header in native order and at most 4096 bytes of payload.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes in a payload (`XENSTORE_PAYLOAD_MAX`).
pub(super) const PAYLOAD_MAX: usize = 4096;

/// `struct xsd_sockmsg`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Header {
    /// One of [`kind`].
    pub(super) kind: u32,
    /// The request's number, given back in the reply.
    pub(super) request: u32,
    /// The transaction; 0 is none.
    pub(super) transaction: u32,
    /// Bytes of payload that follow.
    pub(super) length: u32,
}

pub(super) const HEADER_SIZE: usize = 16;
const _: () = assert!(size_of::<Header>() == HEADER_SIZE);

/// `enum xsd_sockmsg_type`, as far as it is used.
pub(super) mod kind {
    pub(crate) const DIRECTORY: u32 = 1;
    pub(crate) const READ: u32 = 2;
    pub(crate) const WATCH: u32 = 4;
    pub(crate) const UNWATCH: u32 = 5;
    pub(crate) const TRANSACTION_START: u32 = 6;
    pub(crate) const TRANSACTION_END: u32 = 7;
    pub(crate) const WRITE: u32 = 11;
    pub(crate) const RM: u32 = 13;
    pub(crate) const WATCH_EVENT: u32 = 15;
    pub(crate) const ERROR: u32 = 16;
}
