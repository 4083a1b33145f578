//! The page between a tpmfront and a tpmback (Xen `public/io/tpmif.h`, `tpmif_shared_page`, protocol version 2).
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the request or response in bytes, native order |
//! | 4 | 1 | state |
//! | 5 | 1 | locality of the request |
//! | 6 | 1 | zero |
//! | 7 | 1 | n, the number of extra pages |
//! | 8 | 4 n | grant references of the extra pages |
//! | 8 + 4 n | | the packet |
//!
//! The comment in the header file that puts the packet at 16 is wrong; every implementation uses 8 + 4 n. No implementation
//! uses extra pages, and neither do we: a request that names some is answered as malformed.

use alloc::vec;
use alloc::vec::Vec;
use xen_abi::io::tpmif::Header;
use xen_abi::{OutOfPage, PAGE_SIZE, SharedPage};

/// Bytes before the packet when there are no extra pages.
pub const HEADER_SIZE: usize = 8;
/// The longest packet, in bytes.
pub const MAX_PACKET: usize = PAGE_SIZE - HEADER_SIZE;
/// The shortest packet that can be a TPM command or response, in bytes.
pub const MIN_PACKET: usize = 10;

/// Nothing there, or a cancelled request; set by the back end.
pub const STATE_IDLE: u8 = 0;
/// A request; set by the front end.
pub const STATE_SUBMIT: u8 = 1;
/// A response; set by the back end.
pub const STATE_FINISH: u8 = 2;
/// The front end wants its request stopped.
pub const STATE_CANCEL: u8 = 3;

const OFFSET_STATE: usize = 4;
const OFFSET_LOCALITY: usize = 5;
const OFFSET_EXTRA_PAGES: usize = 7;

const _: () = assert!(size_of::<Header>() == HEADER_SIZE);

/// Why a page's content is no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadPacket {
    /// A length below [`MIN_PACKET`] or above [`MAX_PACKET`].
    Length(u32),
    /// Extra pages, which nobody implements.
    ExtraPages(u8),
}

impl core::fmt::Display for BadPacket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a packet of {length} bytes (allowed: {MIN_PACKET} to {MAX_PACKET})"),
            Self::ExtraPages(n) => write!(f, "{n} extra pages (none are supported)"),
        }
    }
}

/// The state byte; what the peer wrote before it is visible afterwards.
pub fn state(page: &impl SharedPage) -> u8 {
    page.load_u8(OFFSET_STATE).unwrap_or(STATE_IDLE)
}

/// Sets the state byte after everything written before.
pub fn set_state(page: &impl SharedPage, state: u8) {
    let stored = page.store_u8(OFFSET_STATE, state);
    debug_assert!(stored.is_ok(), "the state byte lies inside the page");
}

/// Copies the packet out: the header is read once, checked as a copy, and decides how much of the rest is read once.
/// Returns the locality byte and the packet.
pub fn take_packet(page: &impl SharedPage) -> Result<(u8, Vec<u8>), BadPacket> {
    let mut raw = [0; HEADER_SIZE];
    page.read(0, &mut raw).map_err(|OutOfPage| BadPacket::Length(0))?;
    let header: Header = zerocopy::transmute!(raw);
    if header.nr_extra_pages != 0 {
        return Err(BadPacket::ExtraPages(header.nr_extra_pages));
    }
    let bad_length = BadPacket::Length(header.length);
    let length = usize::try_from(header.length).map_err(|_| bad_length)?;
    if !(MIN_PACKET..=MAX_PACKET).contains(&length) {
        return Err(bad_length);
    }
    let mut packet = vec![0; length];
    page.read(HEADER_SIZE, &mut packet).map_err(|OutOfPage| bad_length)?;
    Ok((header.locality, packet))
}

/// Puts a request of at most [`MAX_PACKET`] bytes into the page; [`set_state`] sends it off.
pub fn put_request(page: &impl SharedPage, locality: u8, packet: &[u8]) -> Result<(), OutOfPage> {
    put_packet(page, packet)?;
    page.store_u8(OFFSET_LOCALITY, locality)
}

/// Puts a response of at most [`MAX_PACKET`] bytes into the page; [`set_state`] sends it off. The locality stays as it is.
pub fn put_response(page: &impl SharedPage, packet: &[u8]) -> Result<(), OutOfPage> {
    put_packet(page, packet)
}

fn put_packet(page: &impl SharedPage, packet: &[u8]) -> Result<(), OutOfPage> {
    let length = u32::try_from(packet.len()).map_err(|_| OutOfPage)?;
    page.write(HEADER_SIZE, packet)?;
    page.store_u8(OFFSET_EXTRA_PAGES, 0)?;
    page.write(0, &length.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakePage;

    #[test]
    fn layout_is_that_of_the_header_file() {
        let page = FakePage::new();
        put_request(&page, 3, b"0123456789").unwrap();
        set_state(&page, STATE_SUBMIT);
        let mut bytes = [0; 20];
        page.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\x0a\0\0\0\x01\x03\0\x000123456789\0\0");
        assert_eq!(take_packet(&page), Ok((3, b"0123456789".to_vec())));
    }

    #[test]
    fn only_lengths_that_fit_the_page_are_read() {
        let page = FakePage::new();
        for (length, good) in
            [(0u32, false), (9, false), (10, true), (4088, true), (4089, false), (4096, false), (u32::MAX, false)]
        {
            page.write(0, &length.to_ne_bytes()).unwrap();
            let taken = take_packet(&page);
            if good {
                assert_eq!(taken.map(|(_, packet)| packet.len()), Ok(length as usize));
            } else {
                assert_eq!(taken, Err(BadPacket::Length(length)));
            }
        }
    }

    #[test]
    fn extra_pages_are_refused_whatever_the_length() {
        let page = FakePage::new();
        for (n, length) in [(1u8, 10u32), (255, 4088), (255, u32::MAX)] {
            page.write(0, &length.to_ne_bytes()).unwrap();
            page.store_u8(OFFSET_EXTRA_PAGES, n).unwrap();
            assert_eq!(take_packet(&page), Err(BadPacket::ExtraPages(n)));
        }
    }

    #[test]
    fn a_packet_too_long_for_the_page_is_not_written() {
        let page = FakePage::new();
        assert_eq!(put_response(&page, &[1; MAX_PACKET]), Ok(()));
        assert_eq!(put_response(&page, &[2; MAX_PACKET + 1]), Err(OutOfPage));
        assert_eq!(take_packet(&page), Ok((0, alloc::vec![1; MAX_PACKET])));
    }
}
