//! Memory: which of it is free, who may do what with it, and the heap.

pub mod carve;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod layout;
#[cfg(target_os = "none")]
pub mod paging;
#[cfg(target_os = "none")]
pub mod stack;
