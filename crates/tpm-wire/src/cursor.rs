//! Reading and writing big-endian fields without a chance to run off the end.

use alloc::vec::Vec;
use core::fmt;

/// Fewer bytes than the field needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fewer bytes than the structure needs")
    }
}

impl core::error::Error for Truncated {}

/// Takes fields off the front of a byte string.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Truncated> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[b]| b)
    }

    /// The next 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// A byte string behind a 16-bit length (TPM 2.0 style, `TPM2B`).
    pub fn sized16(&mut self) -> Result<&'a [u8], Truncated> {
        let n = self.u16()?;
        self.bytes(n.into())
    }

    /// A byte string behind a 32-bit length (TPM 1.2 style).
    pub fn sized32(&mut self) -> Result<&'a [u8], Truncated> {
        let n = self.u32()?;
        self.bytes(usize::try_from(n).map_err(|_| Truncated)?)
    }
}

/// Appends fields to a vector.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends a 16-bit integer.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a 32-bit integer.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a 64-bit integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a byte string behind its 16-bit length.
    ///
    /// # Panics
    /// If `bytes` is 64 KiB or longer, which no packet of ours can be.
    pub fn sized16(&mut self, bytes: &[u8]) -> &mut Self {
        self.u16(u16::try_from(bytes.len()).expect("a packet field is shorter than 64 KiB")).bytes(bytes)
    }

    /// Appends a byte string behind its 32-bit length.
    ///
    /// # Panics
    /// If `bytes` is 4 GiB or longer, which no packet of ours can be.
    pub fn sized32(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("a packet field is shorter than 4 GiB")).bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = vec![];
        Writer::new(&mut out).u8(1).u16(2).u32(3).u64(4).sized32(b"five").sized16(b"seven").bytes(b"6");
        let mut r = Reader::new(&out);
        assert_eq!((r.u8(), r.u16(), r.u32(), r.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!(r.sized32(), Ok(&b"five"[..]));
        assert_eq!(r.sized16(), Ok(&b"seven"[..]));
        assert_eq!(r.rest(), b"6");
    }

    #[test]
    fn a_length_beyond_the_end_is_truncated_and_nothing_is_consumed_past_it() {
        for n in [5u32, 0xffff, u32::MAX] {
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.extend_from_slice(b"1234");
            assert_eq!(Reader::new(&bytes).sized32(), Err(Truncated));
        }
    }
}
