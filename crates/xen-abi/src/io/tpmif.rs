//! `public/io/tpmif.h`, version 2.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The fixed part of `tpmif_shared_page`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Header {
    /// Bytes in the packet.
    pub length: u32,
    /// `vtpm_shared_page_state`: 0 idle, 1 submit, 2 finish, 3 cancel.
    pub state: u8,
    /// TPM locality of the request.
    pub locality: u8,
    /// Zero.
    pub pad: u8,
    /// How many 32-bit grant references follow, before the packet.
    pub nr_extra_pages: u8,
}

const _: () = assert!(size_of::<Header>() == 8);
