//! Exceptions: each ends the domain with a report. Interrupts are never enabled, so there is nothing else to handle.

use super::segments::REPORT_IST;
use crate::{crash, memory::layout};
use core::arch::global_asm;
use core::fmt;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;

/// Vectors that the processor itself raises.
const VECTORS: usize = 32;
/// Distance between two stubs in the code below.
const STUB_SIZE: u64 = 16;
const PAGE_FAULT: u64 = 14;

global_asm!(
    r#"
    .pushsection .text.exceptions, "ax", @progbits
    .balign 16
    .global exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    # These push an error code by themselves; the others get a zero in its place.
    .if (vector != 8) & (vector != 10) & (vector != 11) & (vector != 12) & (vector != 13) & (vector != 14) & (vector != 17) & (vector != 21) & (vector != 29) & (vector != 30)
    pushq $0
    .endif
    pushq $vector
    jmp 2f
    .set vector, vector + 1
    .endr
    .balign 16
2:  push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    cld
    and $-16, %rsp
    call {report}
    ud2
    .popsection
    "#,
    report = sym report,
    options(att_syntax)
);

unsafe extern "C" {
    safe static exception_stubs: u8;
}

/// What the stubs push, lowest address first, then what the processor pushes.
#[repr(C)]
struct Frame {
    /// The general registers, for a debugger: they may hold parts of keys, so that no report shows them.
    _general: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An interrupt gate (AMD64 manual, volume 2, section 4.8.4).
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

static GATES: Once<[Gate; VECTORS]> = Once::new();

/// Loads the table.
///
/// # Safety
/// To be called once, after [`super::segments::init`], with the code selector that it gave.
pub unsafe fn init(code: SegmentSelector) {
    let gates = GATES.call_once(|| {
        core::array::from_fn(|vector| {
            let handler = (&raw const exception_stubs).addr() as u64 + vector as u64 * STUB_SIZE;
            Gate {
                offset_low: handler as u16,
                selector: code.0,
                ist: REPORT_IST,
                kind: 0x8e, // present, privilege 0, 64-bit interrupt gate
                offset_middle: (handler >> 16) as u16,
                offset_high: (handler >> 32) as u32,
                reserved: 0,
            }
        })
    });
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(gates) - 1) as u16,
        base: VirtAddr::new(gates.as_ptr().expose_provenance() as u64),
    };
    // SAFETY: the gates live for ever and lead to the stubs above.
    unsafe { lidt(&pointer) };
}

extern "C" fn report(frame: &Frame) -> ! {
    crash::report(format_args!("{frame}"))
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name(self.vector);
        write!(f, "exception {} ({name}), error code {:#x}, at RIP {:#018x}", self.vector, self.error, self.rip)?;
        if self.vector == PAGE_FAULT {
            let address = Cr2::read_raw();
            let [present, write, execute] = [1, 2, 16].map(|bit| self.error & bit != 0);
            let access = if execute {
                "execution of"
            } else if write {
                "write to"
            } else {
                "read of"
            };
            let state = if present { "against its rights" } else { "not mapped" };
            write!(f, "\n  {access} {address:#018x}, a page {state}")?;
            if layout::in_guard(layout::stack_guard(), address) {
                f.write_str(": stack overflow")?;
            }
            if layout::in_guard(layout::report_stack_guard(), address) {
                f.write_str(": overflow of the report stack")?;
            }
        }
        write!(f, "\n  rsp {:#018x}  rflags {:#x}  cs {:#x}  ss {:#x}", self.rsp, self.rflags, self.cs, self.ss)
    }
}

/// The processor's name for a vector.
fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        PAGE_FAULT => "page fault",
        16 => "x87 floating point",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating point",
        21 => "control protection",
        _ => "reserved",
    }
}
