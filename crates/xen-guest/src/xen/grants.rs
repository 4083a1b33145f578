//! The grant table, version 1 (`public/grant_table.h`), and pages of other domains mapped into the window.

use super::hypercall::{self, Space, grant};
use super::page::RawPage;
use crate::memory::layout::{PAGE, WINDOW};
use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use xen_abi::{Access, DomId, GrantError, GrantRef, Grants, OutOfPage, PAGE_SIZE, SharedPage};

/// The table itself: one page behind shared info, 512 entries of 8 bytes.
const TABLE: u64 = WINDOW.start + PAGE;
const ENTRIES: u16 = 512;
/// Entries that Xen's tools keep for themselves.
const RESERVED: u16 = 8;
/// Pages for mappings: the rest of the window.
const MAPPINGS: u64 = WINDOW.start + 2 * PAGE;
const MAPPING_COUNT: u16 = ((WINDOW.end - MAPPINGS) / PAGE) as u16;

const PERMIT_ACCESS: u16 = 1;
const READ_ONLY: u16 = 1 << 2;
/// `GTF_reading` and `GTF_writing`: the other domain has it mapped.
const IN_USE: u16 = 3 << 3;

const PAGE_LAYOUT: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page has a layout"),
};

/// The entries of our table and the slots of the window.
#[derive(Debug)]
pub struct GrantTable {
    free_entries: Vec<u16>,
    free_slots: Vec<u16>,
    aside: Vec<GrantedPage>,
}

/// A page of ours that another domain may map. Dropping it without [`Grants::revoke`] keeps page and entry for good.
#[derive(Debug)]
pub struct GrantedPage {
    page: RawPage,
    entry: u16,
}

/// A page of another domain. Dropping it without [`Grants::unmap`] keeps it mapped.
#[derive(Debug)]
pub struct MappedPage {
    page: RawPage,
    slot: u16,
    handle: u32,
}

impl GrantTable {
    /// Puts the table into the window.
    ///
    /// # Panics
    /// If Xen refuses; no driver works then.
    ///
    /// # Safety
    /// To be called once, on Xen.
    pub unsafe fn init() -> Self {
        // SAFETY: the second page of the window is kept for this.
        let added = unsafe { hypercall::add_to_physmap(Space::GrantTable, 0, TABLE) };
        added.unwrap_or_else(|errno| panic!("Xen does not give the grant table (errno {errno})"));
        Self {
            free_entries: (RESERVED..ENTRIES).rev().collect(),
            free_slots: (0..MAPPING_COUNT).rev().collect(),
            aside: Vec::new(),
        }
    }

    /// Frees what other domains have let go of since it was revoked.
    fn reclaim(&mut self) {
        for page in core::mem::take(&mut self.aside) {
            self.retire(page);
        }
    }

    /// Ends a grant and frees entry and page, or keeps both aside while the page is still mapped.
    fn retire(&mut self, granted: GrantedPage) {
        let flags = entry_flags(granted.entry);
        let mut seen = flags.load(Ordering::Relaxed);
        while seen & IN_USE == 0 {
            match flags.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => {
                    self.free_entries.push(granted.entry);
                    // SAFETY: from `alloc_zeroed` with this layout; nobody else can reach the page any more.
                    unsafe { dealloc(granted.page.as_ptr().as_ptr(), PAGE_LAYOUT) };
                    return;
                }
                Err(now) => seen = now,
            }
        }
        self.aside.push(granted);
    }
}

/// The flags of an entry: the first of `flags: u16, domid: u16, frame: u32`.
fn entry_flags(entry: u16) -> &'static AtomicU16 {
    // SAFETY: inside the table for every entry number that is given out, aligned, and used by atomics alone.
    unsafe { AtomicU16::from_ptr(entry_address(entry).cast()) }
}

fn entry_address(entry: u16) -> *mut u8 {
    assert!(entry < ENTRIES);
    ptr::with_exposed_provenance_mut(TABLE as usize + usize::from(entry) * 8)
}

/// Fills an entry whose flags are zero; they are set last, which makes it valid.
fn fill_entry(entry: u16, to: DomId, frame: u32, flags: u16) {
    // SAFETY: as for `entry_flags`: inside the table and aligned.
    let (domain, page) = unsafe {
        (
            AtomicU16::from_ptr(entry_address(entry).add(2).cast()),
            AtomicU32::from_ptr(entry_address(entry).add(4).cast()),
        )
    };
    domain.store(to.0, Ordering::Relaxed);
    page.store(frame, Ordering::Relaxed);
    entry_flags(entry).store(flags, Ordering::Release);
}

fn slot_address(slot: u16) -> u64 {
    MAPPINGS + u64::from(slot) * PAGE
}

impl Grants for GrantTable {
    type Granted = GrantedPage;
    type Mapped = MappedPage;

    fn grant(&mut self, to: DomId, access: Access) -> Result<GrantedPage, GrantError> {
        self.reclaim();
        let entry = self.free_entries.pop().ok_or(GrantError::Exhausted)?;
        // SAFETY: the layout is not of size zero.
        let Some(at) = NonNull::new(unsafe { alloc_zeroed(PAGE_LAYOUT) }) else {
            self.free_entries.push(entry);
            return Err(GrantError::Exhausted);
        };
        // SAFETY: a whole page, ours until `retire`; no reference to it is ever made.
        let page = unsafe { RawPage::new(at) };
        let flags = match access {
            Access::Read => PERMIT_ACCESS | READ_ONLY,
            Access::ReadWrite => PERMIT_ACCESS,
        };
        at.expose_provenance();
        fill_entry(entry, to, (page.address() / PAGE) as u32, flags);
        Ok(GrantedPage { page, entry })
    }

    fn grant_ref(page: &GrantedPage) -> GrantRef {
        GrantRef(u32::from(page.entry))
    }

    fn revoke(&mut self, page: GrantedPage) {
        self.retire(page);
    }

    fn map(&mut self, from: DomId, reference: GrantRef) -> Result<MappedPage, GrantError> {
        let slot = self.free_slots.pop().ok_or(GrantError::Exhausted)?;
        let address = slot_address(slot);
        let mut map = grant::Map {
            address,
            flags: grant::HOST_MAP,
            reference: reference.0,
            domain: from.0,
            status: 0,
            handle: 0,
            bus_address: 0,
        };
        // SAFETY: a free slot of the window.
        let outcome = unsafe { grant::map(&mut map) };
        let status = if outcome.is_err() { GENERAL_ERROR } else { map.status };
        if status != 0 {
            self.free_slots.push(slot);
            return Err(GrantError::Refused(status));
        }
        let at = NonNull::new(ptr::with_exposed_provenance_mut(address as usize)).ok_or(GrantError::Exhausted)?;
        // SAFETY: the page is there now, mapped writable by our tables, until `unmap`; nothing else uses the slot.
        let page = unsafe { RawPage::new(at) };
        Ok(MappedPage { page, slot, handle: map.handle })
    }

    fn unmap(&mut self, page: MappedPage) {
        let mut unmap =
            grant::Unmap { address: page.page.address(), bus_address: 0, handle: page.handle, status: 0, pad: 0 };
        // SAFETY: `page` is consumed, and it was the only way to the mapping.
        let outcome = unsafe { grant::unmap(&mut unmap) };
        if outcome.is_ok() && unmap.status == 0 {
            self.free_slots.push(page.slot);
        } else {
            log::warn!(target: "grants", "Xen refuses to unmap a page (GNTST {}); its slot is not used again", unmap.status);
        }
    }
}

/// `GNTST_general_error`.
const GENERAL_ERROR: i16 = -1;

macro_rules! shared_page_by_field {
    ($($type:ty),*) => {
        $(impl SharedPage for $type {
            fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfPage> {
                self.page.read(offset, out)
            }
            fn write(&self, offset: usize, data: &[u8]) -> Result<(), OutOfPage> {
                self.page.write(offset, data)
            }
            fn load_u8(&self, offset: usize) -> Result<u8, OutOfPage> {
                self.page.load_u8(offset)
            }
            fn store_u8(&self, offset: usize, value: u8) -> Result<(), OutOfPage> {
                self.page.store_u8(offset, value)
            }
            fn load_u32(&self, offset: usize) -> Result<u32, OutOfPage> {
                self.page.load_u32(offset)
            }
            fn store_u32(&self, offset: usize, value: u32) -> Result<(), OutOfPage> {
                self.page.store_u32(offset, value)
            }
            fn fence(&self) {
                self.page.fence();
            }
        })*
    };
}

shared_page_by_field!(GrantedPage, MappedPage);
