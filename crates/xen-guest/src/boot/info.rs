//! What the loader hands over, copied out of its pages before they become heap.

use crate::memory::carve::Region;
use core::ptr;
use pvh::start_info::{MemmapTableEntry, StartInfo};

/// Most memory map entries that are looked at; libxl and QEMU make fewer than ten.
const MAX_REGIONS: usize = 32;
/// The longest command line, in bytes. Xen's own limit for a domain's is 1024.
pub const MAX_COMMAND_LINE: usize = 4096;
/// What the boot page tables reach.
const REACH: u64 = 1 << 30;

/// The loader's information, by value.
pub struct BootInfo {
    regions: [Region; MAX_REGIONS],
    region_count: usize,
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_len: usize,
}

impl BootInfo {
    /// Copies what `hvm_start_info` at physical address `start_info` tells.
    ///
    /// # Panics
    /// If there is no such structure, no memory map, or a command line that is too long: nothing can run then.
    ///
    /// # Safety
    /// The boot page tables must be in use, and `start_info` must be what the loader gave in EBX.
    pub unsafe fn read(start_info: u32) -> Self {
        assert!(u64::from(start_info) + size_of::<StartInfo>() as u64 <= REACH, "start info lies above 1 GiB");
        // SAFETY: below 1 GiB, so mapped; the loader promises a valid structure, and the magic is checked.
        let info = unsafe { StartInfo::from_ptr(ptr::with_exposed_provenance(start_info as usize)) };
        let info = *info.expect("not booted by PVH: no start info in EBX");
        assert!(
            info.version >= 1 && info.memmap_entries > 0,
            "the loader gives no memory map: Xen 4.11 or newer is needed"
        );

        let mut read = Self {
            regions: [Region::EMPTY; MAX_REGIONS],
            region_count: 0,
            command_line: [0; MAX_COMMAND_LINE],
            command_line_len: 0,
        };
        for (index, slot) in read.regions.iter_mut().enumerate().take(info.memmap_entries as usize) {
            let at = info.memmap_paddr.saturating_add((index * size_of::<MemmapTableEntry>()) as u64);
            // SAFETY: the entry count and address come from the loader; `peek` checks the reach.
            let entry: MemmapTableEntry = unsafe { peek(at) };
            *slot = Region { start: entry.addr, end: entry.addr.saturating_add(entry.size), kind: entry.ty };
            read.region_count = index + 1;
        }
        if info.cmdline_paddr != 0 {
            read.copy_command_line(info.cmdline_paddr);
        }
        read
    }

    fn copy_command_line(&mut self, at: u64) {
        for (at, slot) in (at..).zip(self.command_line.iter_mut()) {
            // SAFETY: the loader promises a terminated string here; `peek` checks the reach.
            match unsafe { peek::<u8>(at) } {
                0 => return,
                byte => *slot = byte,
            }
            self.command_line_len += 1;
        }
        panic!("the command line is longer than {MAX_COMMAND_LINE} bytes: shorten extra=");
    }

    /// The memory map.
    pub fn regions(&self) -> &[Region] {
        &self.regions[..self.region_count]
    }

    /// The command line as given.
    pub fn command_line(&self) -> &[u8] {
        &self.command_line[..self.command_line_len]
    }
}

/// Reads a value at a physical address.
///
/// # Safety
/// The boot page tables must be in use, and `T` must be valid for any bytes.
unsafe fn peek<T>(at: u64) -> T {
    assert!(at < REACH - size_of::<T>() as u64, "boot information at {at:#x} lies above 1 GiB");
    // SAFETY: in reach, so mapped; `T` is plain data by the caller's promise.
    unsafe { ptr::with_exposed_provenance::<T>(at as usize).read_unaligned() }
}
