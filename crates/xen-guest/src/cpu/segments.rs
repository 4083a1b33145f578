//! Segments and the task state that gives exceptions a stack of their own.

use crate::memory::layout;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// The entry of the interrupt stack table that all exceptions use, counted from 1 as in a gate.
pub const REPORT_IST: u8 = 1;

static TASK: Once<TaskStateSegment> = Once::new();
static TABLE: Once<GlobalDescriptorTable> = Once::new();

/// Loads them. Returns the code selector.
///
/// # Safety
/// To be called once, in long mode with interrupts off.
pub unsafe fn init() -> SegmentSelector {
    let task = TASK.call_once(|| {
        let mut task = TaskStateSegment::new();
        task.interrupt_stack_table[usize::from(REPORT_IST) - 1] = VirtAddr::new(layout::report_stack_top());
        task
    });
    let mut table = GlobalDescriptorTable::new();
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(task));
    TABLE.call_once(|| table).load();
    // SAFETY: the selectors name descriptors of the table just loaded: flat 64-bit code, flat data, and a task state that
    // lives for ever.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
    code
}
