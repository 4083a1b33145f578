//! Memory that another domain can change at any moment.

use core::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// An access that does not lie inside the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfPage;

impl fmt::Display for OutOfPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access outside the shared page")
    }
}

impl core::error::Error for OutOfPage {}

/// A page shared with another domain. Bytes are copied in and out; there is never a reference into it, and what was
/// copied out is validated as a copy and not read again.
pub trait SharedPage {
    /// Copies `out.len()` bytes at `offset` out of the page.
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfPage>;

    /// Copies `data` into the page at `offset`.
    fn write(&self, offset: usize, data: &[u8]) -> Result<(), OutOfPage>;

    /// Loads one byte; what the peer wrote before it stored that byte is visible afterwards (acquire).
    fn load_u8(&self, offset: usize) -> Result<u8, OutOfPage>;

    /// Stores one byte after everything written before (release).
    fn store_u8(&self, offset: usize, value: u8) -> Result<(), OutOfPage>;

    /// Loads an aligned native 32-bit integer (acquire); an unaligned offset is [`OutOfPage`].
    fn load_u32(&self, offset: usize) -> Result<u32, OutOfPage>;

    /// Stores an aligned native 32-bit integer (release).
    fn store_u32(&self, offset: usize, value: u32) -> Result<(), OutOfPage>;

    /// A full fence: ring protocols need store-then-load order ("final check for requests", `public/io/ring.h`).
    fn fence(&self);
}
