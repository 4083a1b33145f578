//! What an image's `main` is given.

use crate::cpu::random::CpuEntropy;
use crate::time::clock::MachineClock;
use crate::xen::ports::XenSide;
use alloc::string::String;

/// The machine. Each part may be moved out to whoever needs it.
#[derive(Debug)]
pub struct Guest {
    /// The command line (`extra=` in the domain's configuration, `-append` of QEMU). Bytes that are not UTF-8 show as U+FFFD.
    pub command_line: String,
    /// Time.
    pub clock: MachineClock,
    /// The processor's randomness.
    pub entropy: CpuEntropy,
    /// Xen; `None` if the image was started without it.
    pub xen: Option<XenSide>,
}
