//! Where everything is. Virtual and physical addresses are the same throughout.

use core::ops::Range;

/// RAM at or above this address is not used.
pub const RAM_LIMIT: u64 = 1 << 30;
/// Physical address space that holds no RAM, for pages that Xen puts there at our request: shared info, the grant table,
/// mapped grants. The RAM of a PVH domain of less than 3 GiB ends below it.
pub const WINDOW: Range<u64> = 0xc000_0000..0xc020_0000;
/// Bytes in a page.
pub const PAGE: u64 = 4096;

macro_rules! linker_symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            $(safe static $symbol: u8;)*
        }
        $($(#[$doc])* pub fn $name() -> u64 {
            (&raw const $symbol).addr() as u64
        })*
    };
}

linker_symbols! {
    /// Start of the code.
    text_start = __text_start;
    /// End of the code.
    text_end = __text_end;
    /// Start of constants.
    rodata_start = __rodata_start;
    /// End of constants.
    rodata_end = __rodata_end;
    /// Start of variables; both stacks and their guard pages lie at the end of them.
    data_start = __data_start;
    /// The page below the stack for reports, never mapped.
    report_stack_guard = __report_stack_guard;
    /// The stack that exceptions are reported on.
    report_stack_top = __report_stack_top;
    /// The page below the main stack, never mapped.
    stack_guard = __stack_guard;
    /// End of the main stack, where it starts.
    stack_top = __stack_top;
    /// End of the image.
    image_end = __image_end;
}

/// Whether `address` lies in the guard page at `guard`.
pub fn in_guard(guard: u64, address: u64) -> bool {
    (guard..guard + PAGE).contains(&address)
}
