//! A disk as seen by whoever keeps state on it.

use core::fmt;

/// Bytes in a sector: the unit of blkif and of a torn write.
pub const SECTOR_SIZE: usize = 512;

/// Why the disk did not do as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The range does not lie on the disk, or the length is not a multiple of [`SECTOR_SIZE`].
    OutOfRange,
    /// The disk can be read only.
    ReadOnly,
    /// The device reported an I/O error.
    Io,
    /// The device cannot make writes durable (no flush and no barrier).
    NoFlush,
    /// The device is gone or never came.
    Gone,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "access outside the disk",
            Self::ReadOnly => "the disk is read-only (give it mode w in the disk= line)",
            Self::Io => "the disk reported an I/O error",
            Self::NoFlush => "the disk offers neither flush nor barrier, so a write cannot be made durable",
            Self::Gone => "the disk is gone",
        })
    }
}

impl core::error::Error for DiskError {}

/// A block device. Operations wait without blocking the loop; dropping a future before it is ready abandons the wait, and
/// the operation may or may not have happened. Writes become durable, in no promised order, at the next [`Self::flush`].
#[allow(async_fn_in_trait)] // one thread, no Send bound wanted
pub trait BlockDevice {
    /// The size in sectors of [`SECTOR_SIZE`] bytes.
    fn sectors(&self) -> u64;

    /// Fills `out` (a multiple of the sector size) from `sector` on.
    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `data` (a multiple of the sector size) from `sector` on.
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError>;

    /// Returns once every write that completed before is durable.
    async fn flush(&self) -> Result<(), DiskError>;
}

impl<T: BlockDevice> BlockDevice for &T {
    fn sectors(&self) -> u64 {
        T::sectors(self)
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        T::read(self, sector, out).await
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        T::write(self, sector, data).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        T::flush(self).await
    }
}
