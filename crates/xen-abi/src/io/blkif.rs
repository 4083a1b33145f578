//! `public/io/blkif.h`, for `protocol` = `x86_64-abi` and a ring of one page.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Segments in a request, each at most a page (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 11;

/// `BLKIF_OP_READ`.
pub const OP_READ: u8 = 0;
/// `BLKIF_OP_WRITE`.
pub const OP_WRITE: u8 = 1;
/// `BLKIF_OP_WRITE_BARRIER`: needs `feature-barrier`.
pub const OP_WRITE_BARRIER: u8 = 2;
/// `BLKIF_OP_FLUSH_DISKCACHE`: needs `feature-flush-cache`.
pub const OP_FLUSH_DISKCACHE: u8 = 3;

/// `BLKIF_RSP_OKAY`.
pub const RSP_OKAY: i16 = 0;
/// `BLKIF_RSP_ERROR`.
pub const RSP_ERROR: i16 = -1;
/// `BLKIF_RSP_EOPNOTSUPP`.
pub const RSP_EOPNOTSUPP: i16 = -2;

/// `VDISK_READONLY`, a bit of the back end's `info`.
pub const VDISK_READONLY: u32 = 4;

/// `struct blkif_request_segment`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Segment {
    /// Grant reference of the page.
    pub gref: u32,
    /// First sector of 512 bytes in the page, 0 to 7.
    pub first_sect: u8,
    /// Last sector in the page, inclusive.
    pub last_sect: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// `struct blkif_request`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Request {
    /// One of the `OP_` values.
    pub operation: u8,
    /// How many of `seg` count.
    pub nr_segments: u8,
    /// The device's number; unused by today's back ends.
    pub handle: u16,
    /// Zero.
    pub pad: u32,
    /// Given back in the response.
    pub id: u64,
    /// First sector on the disk, in units of 512 bytes.
    pub sector_number: u64,
    /// Where the data is.
    pub seg: [Segment; MAX_SEGMENTS],
}

/// `struct blkif_response`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Zero.
    pub pad: u8,
    /// One of the `RSP_` values.
    pub status: i16,
    /// Zero.
    pub pad2: u32,
}

/// Bytes in an entry of the ring: the larger of the two.
pub const ENTRY_SIZE: usize = size_of::<Request>();

const _: () = assert!(size_of::<Segment>() == 8 && size_of::<Request>() == 112 && size_of::<Response>() == 16);
