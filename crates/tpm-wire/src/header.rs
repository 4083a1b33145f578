//! The 10-byte header of every TPM command and response (TPM Main 1.2, part 2, section 5 and part 3; TPM 2.0, part 1,
//! section 18): 16-bit tag, 32-bit size of the whole packet, 32-bit ordinal or return code.

use core::fmt;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a header.
pub const HEADER_SIZE: usize = 10;

/// The header of a command.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CommandHeader {
    /// `TPM_TAG_RQU_*` or `TPM_ST_*`.
    pub tag: U16,
    /// Size of the whole packet in bytes, header included.
    pub size: U32,
    /// Ordinal or command code.
    pub ordinal: U32,
}

/// The header of a response.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ResponseHeader {
    /// `TPM_TAG_RSP_*` or `TPM_ST_*`.
    pub tag: U16,
    /// Size of the whole packet in bytes, header included.
    pub size: U32,
    /// Return code; zero is success.
    pub code: U32,
}

const _: () = assert!(size_of::<CommandHeader>() == HEADER_SIZE && size_of::<ResponseHeader>() == HEADER_SIZE);

/// A packet that is shorter than a header, or whose size field does not equal its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedHeader;

impl fmt::Display for MalformedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TPM packet with a header that does not match its length")
    }
}

impl core::error::Error for MalformedHeader {}

impl CommandHeader {
    /// Splits a command into header and parameters; the size field must equal the packet's length.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), MalformedHeader> {
        let (header, body) = Self::read_from_prefix(packet).map_err(|_| MalformedHeader)?;
        if header.size.get() as usize == packet.len() { Ok((header, body)) } else { Err(MalformedHeader) }
    }
}

impl ResponseHeader {
    /// Splits a response into header and parameters; the size field must equal the packet's length.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), MalformedHeader> {
        let (header, body) = Self::read_from_prefix(packet).map_err(|_| MalformedHeader)?;
        if header.size.get() as usize == packet.len() { Ok((header, body)) } else { Err(MalformedHeader) }
    }

    /// A response of nothing but this header.
    pub fn bare(tag: u16, code: u32) -> [u8; HEADER_SIZE] {
        let header = Self { tag: tag.into(), size: (HEADER_SIZE as u32).into(), code: code.into() };
        zerocopy::transmute!(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_field_must_match() {
        let good = [0x00, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1];
        let (header, body) = CommandHeader::parse(&good).unwrap();
        assert_eq!((header.tag.get(), header.ordinal.get(), body), (0xc1, 0x99, &[0u8, 1][..]));
        for cut in 0..good.len() {
            assert_eq!(CommandHeader::parse(&good[..cut]), Err(MalformedHeader));
        }
        let mut long = good;
        long[5] = 13;
        assert_eq!(CommandHeader::parse(&long), Err(MalformedHeader));
    }

    #[test]
    fn bare_response_parses_back() {
        let bytes = ResponseHeader::bare(0xc4, 10);
        let (header, body) = ResponseHeader::parse(&bytes).unwrap();
        assert_eq!((header.tag.get(), header.code.get(), body.len()), (0xc4, 10, 0));
    }
}
