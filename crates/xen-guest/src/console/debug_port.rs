//! Port 0xE9: Xen prints it on its own console (rate limited), QEMU where `-debugcon` says. Without either it is nothing.

use core::fmt;
use x86_64::instructions::port::Port;

/// The port as a text output.
pub struct DebugPort;

impl fmt::Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut port = Port::new(0xe9);
        for byte in text.bytes() {
            // SAFETY: the port prints a byte or does nothing.
            unsafe { port.write(byte) };
        }
        Ok(())
    }
}
