//! Time: Xen's clocks, or the time-stamp counter where there is no Xen.

#[cfg(target_os = "none")]
pub mod clock;
pub mod pvclock;
#[cfg(target_os = "none")]
mod tsc;
