//! Page tables: the identity, with no page both writable and executable.
//!
//! Tables come from a fixed pool and are never given back. What is not mapped faults: page zero, the guard pages, RAM that is
//! neither image nor heap.

use super::layout::{self, PAGE, WINDOW};
use core::cell::UnsafeCell;
use core::ops::Range;
use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags, PhysFrame};

/// PML4, PDPT, two page directories; page tables for the image (up to 4), the heap's end, the window, the store's and
/// console's pages, and six for device registers.
const POOL: usize = 16;
const LARGE: u64 = 2 << 20;

const READ: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const WRITE: PageTableFlags = READ.union(PageTableFlags::WRITABLE);
const EXECUTE: PageTableFlags = PageTableFlags::PRESENT;
const DEVICE: PageTableFlags = WRITE.union(PageTableFlags::NO_CACHE).union(PageTableFlags::WRITE_THROUGH);

/// Memory for page tables.
struct Pool(UnsafeCell<[PageTable; POOL]>);

// SAFETY: reached only through `TABLES`, under its lock.
unsafe impl Sync for Pool {}

static POOL_MEMORY: Pool = Pool(UnsafeCell::new([const { PageTable::new() }; POOL]));
static TABLES: Mutex<Tables> = Mutex::new(Tables { used: 0 });

/// How many tables of the pool are in use; the first is the PML4.
struct Tables {
    used: usize,
}

/// No page table left in the pool, or the page is mapped already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotMapped;

impl Tables {
    /// The table at index `index` of the pool.
    fn table(&mut self, index: usize) -> &mut PageTable {
        assert!(index < POOL);
        // SAFETY: in bounds; `&mut self` is the only access to the pool, and the CPU only reads entries (and sets their
        // accessed and dirty bits, which nothing here looks at).
        unsafe { &mut *POOL_MEMORY.0.get().cast::<PageTable>().add(index) }
    }

    fn fresh(&mut self) -> Option<usize> {
        let index = self.used;
        (index < POOL).then(|| self.used += 1)?;
        Some(index)
    }

    /// The index of the table that entry `at` of table `parent` points to, made if it is absent.
    fn child(&mut self, parent: usize, at: usize) -> Result<usize, NotMapped> {
        let base = POOL_MEMORY.0.get().expose_provenance() as u64;
        let entry = &self.table(parent)[at];
        if entry.is_unused() {
            let index = self.fresh().ok_or(NotMapped)?;
            let address = PhysAddr::new(base + index as u64 * PAGE);
            // Rights are decided in the last level only.
            self.table(parent)[at].set_addr(address, PageTableFlags::PRESENT | PageTableFlags::WRITABLE);
            return Ok(index);
        }
        if entry.flags().contains(PageTableFlags::HUGE_PAGE) {
            return Err(NotMapped);
        }
        Ok(((entry.addr().as_u64() - base) / PAGE) as usize)
    }

    fn directory(&mut self, address: u64) -> Result<usize, NotMapped> {
        let pdpt = self.child(0, slot(address, 39))?;
        self.child(pdpt, slot(address, 30))
    }

    fn map_page(&mut self, address: u64, flags: PageTableFlags) -> Result<(), NotMapped> {
        let directory = self.directory(address)?;
        let table = self.child(directory, slot(address, 21))?;
        set(&mut self.table(table)[slot(address, 12)], address, flags)
    }

    fn map_large(&mut self, address: u64, flags: PageTableFlags) -> Result<(), NotMapped> {
        let directory = self.directory(address)?;
        set(&mut self.table(directory)[slot(address, 21)], address, flags | PageTableFlags::HUGE_PAGE)
    }

    fn map(&mut self, range: Range<u64>, flags: PageTableFlags) -> Result<(), NotMapped> {
        let mut at = range.start / PAGE * PAGE;
        while at < range.end {
            if at.is_multiple_of(LARGE) && range.end - at >= LARGE {
                self.map_large(at, flags)?;
                at += LARGE;
            } else {
                self.map_page(at, flags)?;
                at += PAGE;
            }
        }
        Ok(())
    }
}

/// The nine bits of `address` that index a table, `shift` being the lowest of them.
fn slot(address: u64, shift: u32) -> usize {
    ((address >> shift) & 0x1ff) as usize
}

fn set(entry: &mut PageTableEntry, address: u64, flags: PageTableFlags) -> Result<(), NotMapped> {
    if !entry.is_unused() {
        return Err(NotMapped);
    }
    entry.set_addr(PhysAddr::new(address), flags);
    Ok(())
}

/// Leaves the boot page tables for the real ones, with the heap at `heap`.
///
/// # Panics
/// If the pool is too small, which only an image of more than 8 MiB can bring about.
///
/// # Safety
/// To be called once, with EFER.NXE set, with `heap` a range of RAM outside the image, and with no use of other memory left.
pub unsafe fn switch(heap: Range<u64>) {
    let mut tables = TABLES.lock();
    tables.used = 1;
    let parts = [
        (layout::text_start()..layout::text_end(), EXECUTE),
        (layout::rodata_start()..layout::rodata_end(), READ),
        (layout::data_start()..layout::report_stack_guard(), WRITE),
        (layout::report_stack_guard() + PAGE..layout::stack_guard(), WRITE),
        (layout::stack_guard() + PAGE..layout::image_end(), WRITE),
        (heap, WRITE),
    ];
    for (range, flags) in parts {
        tables.map(range, flags).expect("too few page tables for this image");
    }
    // Page by page: large pages would hold memory of several kinds together.
    for page in WINDOW.step_by(PAGE as usize) {
        tables.map_page(page, WRITE).expect("too few page tables for this image");
    }
    let root = PhysFrame::containing_address(PhysAddr::new(POOL_MEMORY.0.get().expose_provenance() as u64));
    // SAFETY: the new tables map all that is in use: code, constants, variables, both stacks, the heap.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// Maps the page at `address` for device registers: uncached, writable, never executable.
pub fn map_device(address: u64) -> Result<(), NotMapped> {
    TABLES.lock().map_page(address, DEVICE)
}

/// Maps a page that Xen or the toolstack put at `address`: cached, writable, never executable.
pub fn map_shared(address: u64) -> Result<(), NotMapped> {
    TABLES.lock().map_page(address, WRITE)
}
