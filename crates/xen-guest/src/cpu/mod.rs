//! The processor: descriptor tables, exceptions, random numbers, and small instructions.

pub mod exceptions;
pub mod random;
pub mod segments;

use core::arch::asm;

/// The time-stamp counter, read after everything before it is done.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter; Xen lets guests do so or does it for them.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Stops for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off, so this only saves power.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
