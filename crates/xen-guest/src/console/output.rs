//! Where text goes.

use super::debug_port::DebugPort;
use super::ring::ConsoleRing;
use crate::time::clock::MachineClock;
use core::fmt::{self, Write};
use spin::Mutex;

/// The ring, once it is up.
static RING: Mutex<Option<ConsoleRing>> = Mutex::new(None);

/// Brings the PV console up, if the domain has one.
///
/// # Safety
/// To be called once, on Xen.
pub unsafe fn open_ring(clock: MachineClock) {
    // SAFETY: as the caller promises.
    *RING.lock() = unsafe { ConsoleRing::open(clock) };
}

/// Prints.
pub fn write(text: fmt::Arguments<'_>) {
    if let Some(ring) = &mut *RING.lock() {
        ring.print(text);
    } else {
        // The port reports no errors.
        let _ = DebugPort.write_fmt(text);
    }
}

/// Prints on every output there is, even if printing is what failed.
///
/// # Safety
/// Nothing that ran before the call may go on after it.
pub unsafe fn write_crash(text: fmt::Arguments<'_>) {
    let _ = DebugPort.write_fmt(text);
    // SAFETY: there is one processor, and whoever holds the lock never goes on, by the caller's promise.
    unsafe { RING.force_unlock() };
    if let Some(mut ring) = RING.try_lock()
        && let Some(ring) = &mut *ring
    {
        ring.print(text);
    }
}

/// Gives the reader of the ring time to read what was printed, as it cannot when the domain is gone.
pub fn drain() {
    if let Some(mut ring) = RING.try_lock()
        && let Some(ring) = &mut *ring
    {
        ring.drain();
    }
}
