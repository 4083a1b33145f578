//! Ending the domain.

use crate::console;
use crate::cpu;
use crate::memory::{heap, stack};
use crate::xen::{self, hypercall};
use x86_64::instructions::port::Port;

/// How the domain ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// All is well.
    Poweroff,
    /// All is well, and the toolstack is to start the domain again. Without Xen the same as a power-off.
    Reboot,
    /// Something is wrong; `on_crash=` in the domain's configuration says what happens then.
    Crash,
}

/// QEMU's isa-debug-exit device; the process exits with twice the value written, plus one.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// Ends the domain. Without Xen, QEMU with `-device isa-debug-exit` exits with status 33 for a power-off and 35 for a crash.
///
/// A clean end says how much memory was needed, for whoever chooses `memory=`.
pub fn shutdown(how: Shutdown) -> ! {
    if how != Shutdown::Crash {
        let (heap, stack) = (heap::usage(), stack::usage());
        let [used, size, deep, depth] = [heap.peak, heap.size, stack.peak, stack.size].map(|bytes| bytes / 1024);
        log::info!("Memory used at most: heap {used} of {size} KiB, stack {deep} of {depth} KiB");
    }
    console::drain();
    if xen::is_present() {
        let reason = match how {
            Shutdown::Poweroff => hypercall::SHUTDOWN_POWEROFF,
            Shutdown::Reboot => hypercall::SHUTDOWN_REBOOT,
            Shutdown::Crash => hypercall::SHUTDOWN_CRASH,
        };
        hypercall::shutdown(reason);
    }
    let status: u32 = match how {
        Shutdown::Poweroff | Shutdown::Reboot => 0x10,
        Shutdown::Crash => 0x11,
    };
    // SAFETY: the port is QEMU's debug-exit device or nothing at all.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(status) };
    cpu::halt()
}
