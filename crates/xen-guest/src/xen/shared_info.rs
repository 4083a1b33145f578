//! The page that Xen shares with the domain (`public/xen.h`, `shared_info`): pending events and time.
//!
//! Xen itself is the only other writer, so its content is trusted; it still changes at any time.

use super::bits;
use super::hypercall::{self, Space};
use crate::memory::layout::WINDOW;
use crate::time::pvclock::{VcpuTime, Wall};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering, fence};

const ADDRESS: u64 = WINDOW.start;
const WORDS: usize = 64;
/// `vcpu_info[0].time`.
const VCPU_TIME: usize = 32;
/// `evtchn_pending`, behind 32 `vcpu_info` of 64 bytes.
const PENDING: usize = 32 * 64;
/// `evtchn_mask`.
const MASK: usize = PENDING + WORDS * 8;
/// `wc_version`, `wc_sec`, `wc_nsec`, `wc_sec_hi`.
const WALL: usize = MASK + WORDS * 8;

/// Puts the page into the window, and masks all events: nothing is ever delivered, only polled for.
///
/// # Safety
/// To be called once, on Xen.
pub unsafe fn init() {
    // SAFETY: the first page of the window is kept for this.
    let added = unsafe { hypercall::add_to_physmap(Space::SharedInfo, 0, ADDRESS) };
    added.unwrap_or_else(|errno| panic!("Xen does not give its shared info page (errno {errno})"));
    for index in 0..WORDS {
        word(MASK + index * 8).store(u64::MAX, Ordering::Relaxed);
    }
}

/// An aligned 64-bit word of the page.
fn word(offset: usize) -> &'static AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset < 4096);
    // SAFETY: inside the page, which is mapped from `init` on (callers run on Xen only, after it), aligned, and used by
    // atomic or volatile accesses alone.
    unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(ADDRESS as usize + offset)) }
}

/// Whether an event of `port` is pending.
pub fn is_pending(port: u32) -> bool {
    bits::position(port).is_some_and(|(index, mask)| word(PENDING + index * 8).load(Ordering::Acquire) & mask != 0)
}

/// Takes the pending mark of `port`; true if there was one.
pub fn take_pending(port: u32) -> bool {
    bits::position(port)
        .is_some_and(|(index, mask)| word(PENDING + index * 8).fetch_and(!mask, Ordering::AcqRel) & mask != 0)
}

/// A structure under a version that is odd while Xen writes, and different afterwards.
fn versioned<T>(offset: usize) -> T {
    assert!(offset + size_of::<T>() <= 4096);
    let at = ADDRESS as usize + offset;
    loop {
        // SAFETY: inside the mapped page and aligned; the version is the first 32 bits of either structure.
        let version = || unsafe { ptr::with_exposed_provenance::<u32>(at).read_volatile() };
        let before = version();
        fence(Ordering::Acquire);
        // SAFETY: as above; `T` is plain integers.
        let value = unsafe { ptr::with_exposed_provenance::<T>(at).read_volatile() };
        fence(Ordering::Acquire);
        if before.is_multiple_of(2) && before == version() {
            return value;
        }
        core::hint::spin_loop();
    }
}

/// How to get Xen's system time from the time-stamp counter.
pub fn vcpu_time() -> VcpuTime {
    versioned(VCPU_TIME)
}

/// The wall-clock time at which system time was zero.
pub fn wall() -> Wall {
    versioned(WALL)
}
