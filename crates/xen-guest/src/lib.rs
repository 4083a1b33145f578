//! A PVH domain on Xen, or a bare QEMU machine, as safe code sees it.
//!
//! An image is a package with a bin that is built for `x86_64-unknown-none` and linked by this crate's `image.ld`. Its `main.rs`
//! names a function to `entry!` and gets a `Guest`: command line, clocks, randomness, and on Xen grants, event channels and
//! the xenstore ring. There is one processor and there are no interrupts: an image polls, and sleeps in `XenPorts::wait`.
//! `README.md` lists the invariants that the unsafe code here relies on.
#![no_std]
// On a host only the pure parts are built, for their tests; what uses them is not.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod guest;
mod memory;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod power;
mod time;
mod xen;

#[cfg(target_os = "none")]
mod public {
    pub use crate::console::set_level as set_log_level;
    pub use crate::cpu::random::CpuEntropy;
    pub use crate::guest::Guest;
    pub use crate::memory::heap::{HeapUse, usage as heap_usage};
    pub use crate::memory::stack::{StackUse, usage as stack_usage};
    pub use crate::mmio::{Mmio, MmioError, OutOfRange};
    pub use crate::power::{Shutdown, shutdown};
    pub use crate::time::clock::MachineClock;
    pub use crate::xen::flask::Flask;
    pub use crate::xen::grants::{GrantedPage, MappedPage};
    pub use crate::xen::page::RawPage;
    pub use crate::xen::ports::{Machine, XenPorts, XenSide};
    pub use crate::xen::store_ring::XenStoreRing;
}

#[cfg(target_os = "none")]
pub use public::*;

/// For [`entry!`] alone.
#[cfg(target_os = "none")]
#[doc(hidden)]
pub mod private {
    pub use crate::boot::pvh_entry;
    pub use pvh;
}

/// Makes `$main`, a `fn(Guest)`, the start of the image. The domain powers off when it returns.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::private::pvh::xen_elfnote_phys32_entry!($crate::private::pvh_entry);

        // SAFETY: the one definition of the symbol that `xen-guest` declares, with the same signature.
        #[unsafe(no_mangle)]
        fn xen_guest_main(guest: $crate::Guest) {
            let main: fn($crate::Guest) = $main;
            main(guest)
        }
    };
}
