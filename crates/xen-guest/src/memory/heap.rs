//! The heap: one list of free blocks in the RAM behind the image.
//!
//! When it is used up, `alloc` gives null; `Vec::try_reserve` and its kind see an error, everything else ends in the panic report.
//! What is given back is wiped: keys pass through numbers and buffers of other crates that do not wipe them.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{Ordering, compiler_fence};
use linked_list_allocator::Heap;
use spin::Mutex;

/// How much of the heap is in use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapUse {
    /// All of it.
    pub size: usize,
    /// Given out now.
    pub used: usize,
    /// The most that was given out at any time.
    pub peak: usize,
}

struct State {
    heap: Heap,
    peak: usize,
}

struct Allocator(Mutex<State>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Mutex::new(State { heap: Heap::empty(), peak: 0 }));

// SAFETY: blocks come from `Heap`, which gives out disjoint blocks of its own memory that fit the layout.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut state = self.0.lock();
        let block = state.heap.allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr);
        state.peak = state.peak.max(state.heap.used());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the block has the layout's size, and nobody uses it any more.
            unsafe { block.write_bytes(0, layout.size()) };
            // The writes come before what the list does with the block, so that no compiler finds them useless.
            compiler_fence(Ordering::SeqCst);
            // SAFETY: the caller gives back what `alloc` gave, with the same layout.
            unsafe { self.0.lock().heap.deallocate(block, layout) };
        }
    }
}

/// Makes `range` the heap.
///
/// # Safety
/// To be called once; `range` is mapped, writable, not empty, and nothing else uses it.
pub unsafe fn init(range: Range<u64>) {
    let size = (range.end - range.start) as usize;
    let bottom = ptr::with_exposed_provenance_mut(range.start as usize);
    // SAFETY: as the caller promises.
    unsafe { ALLOCATOR.0.lock().heap.init(bottom, size) };
}

/// How much of the heap is in use.
pub fn usage() -> HeapUse {
    let state = ALLOCATOR.0.lock();
    HeapUse { size: state.heap.size(), used: state.heap.used(), peak: state.peak }
}
