//! The first instructions: from the PVH entry state to Rust in long mode.
//!
//! Xen (`docs/misc/pvh.pandoc`) and QEMU's `-kernel` enter in 32-bit protected mode with flat segments, paging off,
//! interrupts off, and the physical address of `hvm_start_info` in EBX. The boot page tables built here map the first
//! GiB without distinction of rights; [`crate::memory::paging`] replaces them before anything else is done.

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .text.entry, "ax", @progbits
    .code32
    .global pvh_entry
pvh_entry:
    cld
    mov $__stack_top, %esp

    # One PML4 and one PDPT entry, 512 entries of 2 MiB: present, writable (3), large (0x80).
    mov $({pdpt} + 3), %eax
    mov %eax, {pml4}
    mov $({pd} + 3), %eax
    mov %eax, {pdpt}
    xor %ecx, %ecx
    mov $0x83, %eax
2:  mov %eax, {pd}(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $512, %ecx
    jne 2b

    mov %cr4, %eax
    or $0x20, %eax              # PAE
    mov %eax, %cr4
    mov ${pml4}, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx       # EFER
    rdmsr
    or $0x900, %eax             # LME, NXE
    wrmsr
    mov %cr0, %eax
    or $0x80010001, %eax        # PG, WP, PE
    mov %eax, %cr0

    lgdt 3f
    ljmp $8, $4f

    .balign 8
5:  .quad 0
    .quad 0x00af9b000000ffff    # 8: 64-bit code
    .quad 0x00cf93000000ffff    # 16: data
3:  .word . - 5b - 1
    .long 5b

    .code64
4:  mov $16, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $__stack_top, %rsp
    xor %ebp, %ebp
    mov %ebx, %edi
    call {start}
    ud2
    .popsection
    "#,
    pml4 = sym BOOT_PML4,
    pdpt = sym BOOT_PDPT,
    pd = sym BOOT_PD,
    start = sym super::start,
    options(att_syntax)
);

/// A page of zeroes that only the code above writes, before Rust runs.
#[repr(C, align(4096))]
struct BootTable([u64; 512]);

static mut BOOT_PML4: BootTable = BootTable([0; 512]);
static mut BOOT_PDPT: BootTable = BootTable([0; 512]);
static mut BOOT_PD: BootTable = BootTable([0; 512]);

unsafe extern "C" {
    /// Where a PVH loader jumps to. Only for the ELF note that `entry!` makes.
    pub fn pvh_entry() -> !;
}
