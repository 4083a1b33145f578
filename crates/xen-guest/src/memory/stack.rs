//! How deep the main stack has been.

use super::layout::{self, PAGE};
use core::ptr;

/// How much of the main stack is in use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackUse {
    /// All of it.
    pub size: usize,
    /// The most that was used at any time.
    pub peak: usize,
}

/// Looks where the stack has been written to; the loader zeroed all of it. For measurements: it reads the whole unused part.
pub fn usage() -> StackUse {
    let bottom = layout::stack_guard() + PAGE;
    let top = layout::stack_top();
    // SAFETY: mapped and aligned; the stack pointer lies above what has never been written to, which is where this ends.
    let untouched = |at: u64| unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() == 0 };
    let deepest = (bottom..top).step_by(size_of::<u64>()).find(|&at| !untouched(at)).unwrap_or(top);
    StackUse { size: (top - bottom) as usize, peak: (top - deepest) as usize }
}
