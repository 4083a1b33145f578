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
    // Neither output reports errors; the only lock is this one, and nothing below it logs.
    let _ = match &mut *RING.lock() {
        Some(ring) => ring.write_fmt(text),
        None => DebugPort.write_fmt(text),
    };
}

/// Prints on every output there is, even if printing is what failed.
pub fn write_crash(text: fmt::Arguments<'_>) {
    let _ = DebugPort.write_fmt(text);
    if let Some(mut ring) = RING.try_lock()
        && let Some(ring) = &mut *ring
    {
        let _ = ring.write_fmt(text);
    }
}
