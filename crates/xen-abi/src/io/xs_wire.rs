//! `public/io/xs_wire.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes in a payload (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// Bytes in each ring of `struct xenstore_domain_interface`, a power of two (`XENSTORE_RING_SIZE`). Indices count up without
/// end and are taken modulo the size.
pub const RING_SIZE: usize = 1024;
/// Offset of the ring of requests.
pub const OFFSET_REQUESTS: usize = 0;
/// Offset of the ring of replies and watch events.
pub const OFFSET_RESPONSES: usize = 1024;
/// Offset of `req_cons`, 32 bits.
pub const OFFSET_REQ_CONS: usize = 2048;
/// Offset of `req_prod`, 32 bits.
pub const OFFSET_REQ_PROD: usize = 2052;
/// Offset of `rsp_cons`, 32 bits.
pub const OFFSET_RSP_CONS: usize = 2056;
/// Offset of `rsp_prod`, 32 bits.
pub const OFFSET_RSP_PROD: usize = 2060;

/// `struct xsd_sockmsg`: before each payload.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The request's number, given back in the reply.
    pub request: u32,
    /// The transaction; 0 is none.
    pub transaction: u32,
    /// Bytes of payload that follow.
    pub length: u32,
}

/// Bytes in a [`Header`].
pub const HEADER_SIZE: usize = size_of::<Header>();
const _: () = assert!(HEADER_SIZE == 16);

/// `enum xsd_sockmsg_type`, as far as it is used.
pub mod kind {
    /// `XS_DIRECTORY`.
    pub const DIRECTORY: u32 = 1;
    /// `XS_READ`.
    pub const READ: u32 = 2;
    /// `XS_WATCH`.
    pub const WATCH: u32 = 4;
    /// `XS_UNWATCH`.
    pub const UNWATCH: u32 = 5;
    /// `XS_TRANSACTION_START`.
    pub const TRANSACTION_START: u32 = 6;
    /// `XS_TRANSACTION_END`.
    pub const TRANSACTION_END: u32 = 7;
    /// `XS_WRITE`.
    pub const WRITE: u32 = 11;
    /// `XS_RM`.
    pub const RM: u32 = 13;
    /// `XS_WATCH_EVENT`.
    pub const WATCH_EVENT: u32 = 15;
    /// `XS_ERROR`.
    pub const ERROR: u32 = 16;
}
