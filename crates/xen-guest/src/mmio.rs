//! Device registers.

use crate::memory::layout::{PAGE, RAM_LIMIT, WINDOW};
use crate::memory::paging;
use core::fmt;
use core::ptr;

/// Why a range of device registers cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmioError {
    /// It is empty, wraps, is not aligned to pages, or lies where memory or Xen's own pages are.
    BadRange,
    /// It is mapped already, or there is no page table left.
    Unavailable,
}

impl fmt::Display for MmioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRange => "no possible range of device registers",
            Self::Unavailable => "the range of device registers is in use already",
        })
    }
}

impl core::error::Error for MmioError {}

/// An access outside the range, or a 32-bit one that is not aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// A range of device registers, mapped uncached. Where no device answers, what is read has no meaning: Xen
/// gives all ones, QEMU zeroes.
#[derive(Debug)]
pub struct Mmio {
    start: u64,
    len: u64,
}

impl Mmio {
    /// Maps `len` bytes at physical address `start`, both multiples of 4096, between 1 and 4 GiB. A range can be mapped once.
    pub fn map(start: u64, len: u64) -> Result<Self, MmioError> {
        let end = start.checked_add(len).ok_or(MmioError::BadRange)?;
        let aligned = start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        let apart = end <= WINDOW.start || start >= WINDOW.end;
        if len == 0 || !aligned || !apart || start < RAM_LIMIT || end > 1 << 32 {
            return Err(MmioError::BadRange);
        }
        for page in (start..end).step_by(PAGE as usize) {
            paging::map_device(page).map_err(|_| MmioError::Unavailable)?;
        }
        Ok(Self { start, len })
    }

    /// The address of the register of `T` at `offset`.
    fn register<T>(&self, offset: usize) -> Result<*mut T, OutOfRange> {
        let end = offset.checked_add(size_of::<T>()).ok_or(OutOfRange)?;
        if end as u64 > self.len || !offset.is_multiple_of(size_of::<T>()) {
            return Err(OutOfRange);
        }
        Ok(ptr::with_exposed_provenance_mut(self.start as usize + offset))
    }

    /// Reads 8 bits.
    pub fn read_u8(&self, offset: usize) -> Result<u8, OutOfRange> {
        // SAFETY: a mapped, aligned device register inside the range, which holds nothing that Rust knows of.
        self.register::<u8>(offset).map(|at| unsafe { at.read_volatile() })
    }

    /// Writes 8 bits.
    pub fn write_u8(&self, offset: usize, value: u8) -> Result<(), OutOfRange> {
        // SAFETY: as for `read_u8`.
        self.register::<u8>(offset).map(|at| unsafe { at.write_volatile(value) })
    }

    /// Reads 32 bits.
    pub fn read_u32(&self, offset: usize) -> Result<u32, OutOfRange> {
        // SAFETY: as for `read_u8`.
        self.register::<u32>(offset).map(|at| unsafe { at.read_volatile() })
    }

    /// Writes 32 bits.
    pub fn write_u32(&self, offset: usize, value: u32) -> Result<(), OutOfRange> {
        // SAFETY: as for `read_u8`.
        self.register::<u32>(offset).map(|at| unsafe { at.write_volatile(value) })
    }
}
