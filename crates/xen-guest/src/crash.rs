//! The end of a domain that cannot go on: a report on the console, then a crash that the toolstack sees.

use crate::console;
use crate::power::{self, Shutdown};
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

static REPORTING: AtomicBool = AtomicBool::new(false);

/// Prints `what` and ends the domain as crashed. A failure while reporting ends it at once.
pub fn report(what: fmt::Arguments<'_>) -> ! {
    if !REPORTING.swap(true, Ordering::Relaxed) {
        // SAFETY: this function never returns.
        unsafe { console::write_crash(format_args!("\nFATAL: {what}\n")) };
    }
    power::shutdown(Shutdown::Crash)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => report(format_args!("panicked at {}:{}: {}", at.file(), at.line(), info.message())),
        None => report(format_args!("panicked: {}", info.message())),
    }
}
