//! A file or a block device of the host, as the vault's disk.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use xen_abi::{BlockDevice, DiskError, SECTOR_SIZE};

/// A file of a fixed number of whole sectors.
#[derive(Clone)]
pub struct FileDisk {
    file: Rc<File>,
    sectors: u64,
}

impl FileDisk {
    /// The file as it is long now; a rest that is less than a sector is not used.
    pub fn new(mut file: File) -> std::io::Result<Self> {
        // A block device has no length among its metadata.
        let sectors = file.seek(SeekFrom::End(0))? / SECTOR_SIZE as u64;
        Ok(Self { file: Rc::new(file), sectors })
    }

    fn offset(&self, sector: u64, len: usize) -> Result<u64, DiskError> {
        if !len.is_multiple_of(SECTOR_SIZE) {
            return Err(DiskError::OutOfRange);
        }
        match sector.checked_add((len / SECTOR_SIZE) as u64) {
            Some(end) if end <= self.sectors => Ok(sector * SECTOR_SIZE as u64),
            _ => Err(DiskError::OutOfRange),
        }
    }
}

fn failed(error: std::io::Error) -> DiskError {
    log::error!("state file: {error}");
    DiskError::Io
}

impl BlockDevice for FileDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let offset = self.offset(sector, out.len())?;
        self.file.read_exact_at(out, offset).map_err(failed)
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let offset = self.offset(sector, data.len())?;
        self.file.write_all_at(data, offset).map_err(failed)
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(failed)
    }
}
