//! Is this Xen? (`public/arch-x86/cpuid.h`)

use super::{hypercall, shared_info};
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, Ordering};
use x86_64::registers::model_specific::Msr;

static PRESENT: AtomicBool = AtomicBool::new(false);

/// Whether the domain runs on Xen, known after [`init`].
pub fn is_present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Looks for Xen and makes hypercalls and the shared info page usable if it is there.
///
/// # Safety
/// To be called once, when the final page tables are in use.
pub unsafe fn init() {
    let Some(base) = leaves() else { return };
    let msr = __cpuid(base + 2).ebx;
    // SAFETY: the MSR that CPUID names takes the address of a page of ours to put the hypercall stubs in. Written in long mode,
    // it also tells Xen that shared info is to be laid out for 64 bits.
    unsafe { Msr::new(msr).write(hypercall::page_address()) };
    PRESENT.store(true, Ordering::Relaxed);
    // SAFETY: hypercalls work now, and this is the only call.
    unsafe { shared_info::init() };
}

/// The first of Xen's CPUID leaves.
fn leaves() -> Option<u32> {
    let signature = |leaf: &u32| {
        let answer = __cpuid(*leaf);
        let name = [answer.ebx, answer.ecx, answer.edx].map(u32::to_le_bytes);
        name.as_flattened() == b"XenVMMXenVMM" && answer.eax >= leaf + 2
    };
    (0x4000_0000..0x4001_0000).step_by(0x100).find(signature)
}
