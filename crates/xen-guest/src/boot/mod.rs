//! From the loader to an image's `main`.

mod entry;
mod info;

pub use entry::pvh_entry;

use crate::cpu::{exceptions, random::CpuEntropy, segments};
use crate::guest::Guest;
use crate::memory::{carve, heap, layout, paging};
use crate::time::clock::MachineClock;
use crate::xen::{self, ports::XenPorts, ports::XenSide, store_ring::XenStoreRing};
use crate::{console, power};
use alloc::string::String;
use info::BootInfo;

unsafe extern "Rust" {
    /// The image's own start, made by [`crate::entry!`].
    safe fn xen_guest_main(guest: Guest);
}

/// The first Rust code: runs on the main stack, under the boot page tables.
pub(crate) extern "C" fn start(start_info: u32) -> ! {
    // SAFETY: called once, first thing, in long mode with interrupts off.
    unsafe { exceptions::init(segments::init()) };
    // SAFETY: the entry code passes on what the loader gave; its page tables are still in use.
    let info = unsafe { BootInfo::read(start_info) };
    let heap = choose_heap(&info);
    // SAFETY: called once; the entry code has set NXE; the heap is free RAM outside the image, and from here on only image and heap
    // are used (`info` is a copy on the stack).
    unsafe { paging::switch(heap.0..heap.1) };
    // SAFETY: called once; the range was mapped just now and nothing uses it.
    unsafe { heap::init(heap.0..heap.1) };
    // SAFETY: called once, under the final page tables.
    unsafe { xen::detect::init() };

    let clock = MachineClock::start();
    console::init_logger();
    let xen = xen::is_present().then(|| {
        // SAFETY: on Xen, and each called once.
        unsafe {
            console::open_ring(clock);
            XenSide { ports: XenPorts::open(clock), store_ring: XenStoreRing::open(clock) }
        }
    });
    let command_line = String::from_utf8_lossy(info.command_line()).into_owned();
    xen_guest_main(Guest { command_line, clock, entropy: CpuEntropy::detect(), xen });
    power::shutdown(power::Shutdown::Poweroff)
}

/// The largest piece of RAM behind the first MiB and beside the image.
fn choose_heap(info: &BootInfo) -> (u64, u64) {
    let image = (layout::text_start(), layout::image_end());
    let window = layout::WINDOW;
    let clash =
        info.regions().iter().any(|region| region.kind == carve::RAM && region.overlaps(window.start, window.end));
    assert!(!clash, "this domain has RAM above 3 GiB, where the image keeps Xen's pages: give it less memory");
    let free = carve::largest_free(info.regions(), (layout::text_start(), layout::RAM_LIMIT), &[image]);
    free.expect("no RAM is left behind the image: give the domain more memory")
}
