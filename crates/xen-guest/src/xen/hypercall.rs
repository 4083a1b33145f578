//! Hypercalls (`public/xen.h`): the stubs that Xen writes into a page of ours, and the calls this project needs.

use core::arch::{asm, global_asm};

const MEMORY_OP: u64 = 12;
const GRANT_TABLE_OP: u64 = 20;
const XSM_OP: u64 = 27;
const SCHED_OP: u64 = 29;
const EVENT_CHANNEL_OP: u64 = 32;
const HVM_OP: u64 = 34;

/// `DOMID_SELF`.
pub const DOMID_SELF: u16 = 0x7ff0;

/// `XEN_ENOSYS`: this Xen does not have the hypercall or the operation.
pub const NO_SUCH_CALL: u32 = 38;

/// `SHUTDOWN_poweroff`.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// `SHUTDOWN_reboot`.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// `SHUTDOWN_crash`.
pub const SHUTDOWN_CRASH: u32 = 3;

/// `HVM_PARAM_STORE_PFN`.
pub const PARAM_STORE_PAGE: u32 = 1;
/// `HVM_PARAM_STORE_EVTCHN`.
pub const PARAM_STORE_PORT: u32 = 2;
/// `HVM_PARAM_CONSOLE_PFN`.
pub const PARAM_CONSOLE_PAGE: u32 = 17;
/// `HVM_PARAM_CONSOLE_EVTCHN`.
pub const PARAM_CONSOLE_PORT: u32 = 18;

// Xen fills the page through a mapping of its own, so that it can be read-only here. Before that it traps.
global_asm!(
    r#"
    .pushsection .text.hypercall_page, "ax", @progbits
    .balign 4096
    .global hypercall_page
hypercall_page:
    .fill 4096, 1, 0xcc
    .popsection
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    safe static hypercall_page: u8;
}

/// The (physical) address of the hypercall page.
pub fn page_address() -> u64 {
    (&raw const hypercall_page).addr() as u64
}

/// Makes a hypercall of three arguments; fewer are padded with zeroes, which Xen ignores.
///
/// # Safety
/// Pointers among the arguments must be valid for what the call reads and writes, and what it does to this domain's memory
/// must be sound.
unsafe fn call(number: u64, first: u64, second: u64, third: u64) -> i64 {
    let result: i64;
    // SAFETY: the stub at `number` keeps to Xen's convention: result in RAX, arguments may be clobbered, all else kept; the
    // arguments are the caller's promise.
    unsafe {
        asm!(
            "call {stub}",
            stub = in(reg) page_address() + number * 32,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            inlateout("rdx") third => _,
            lateout("rax") result,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// A hypercall that takes an operation number and one structure, in and out.
///
/// # Safety
/// `T` must be the structure of that operation, and what it does must be sound.
unsafe fn operation<T>(number: u64, operation: u64, argument: &mut T) -> i64 {
    // SAFETY: the structure is valid for reads and writes; the rest is the caller's promise.
    unsafe { call(number, operation, shown(argument), 0) }
}

/// The address of a structure that a hypercall reads and writes. Exposed, as Xen makes a pointer of it again.
fn shown<T>(argument: &mut T) -> u64 {
    (&raw mut *argument).expose_provenance() as u64
}

/// A positive error number (`public/errno.h`) from a negative result.
fn checked(result: i64) -> Result<(), u32> {
    if result < 0 { Err(result.unsigned_abs() as u32) } else { Ok(()) }
}

/// `HVMOP_get_param` for this domain.
pub fn param(index: u32) -> Result<u64, u32> {
    #[repr(C)]
    struct Param {
        domain: u16,
        pad: u16,
        index: u32,
        value: u64,
    }
    let mut param = Param { domain: DOMID_SELF, pad: 0, index, value: 0 };
    // SAFETY: `xen_hvm_param`; reading a parameter changes nothing.
    checked(unsafe { operation(HVM_OP, 1, &mut param) })?;
    Ok(param.value)
}

/// What `XENMEM_add_to_physmap` can put into the address space.
#[derive(Clone, Copy)]
pub enum Space {
    /// The page of `shared_info`.
    SharedInfo = 0,
    /// A frame of the grant table.
    GrantTable = 1,
}

/// `XENMEM_add_to_physmap`: puts page `index` of `space` at physical address `address`.
///
/// # Safety
/// `address` must be a page that nothing uses as memory of its own.
pub unsafe fn add_to_physmap(space: Space, index: u64, address: u64) -> Result<(), u32> {
    #[repr(C)]
    struct AddToPhysmap {
        domain: u16,
        size: u16,
        space: u32,
        index: u64,
        frame: u64,
    }
    let mut add = AddToPhysmap { domain: DOMID_SELF, size: 0, space: space as u32, index, frame: address >> 12 };
    // SAFETY: `xen_add_to_physmap`; the place is free by the caller's promise.
    checked(unsafe { operation(MEMORY_OP, 7, &mut add) })
}

/// `SCHEDOP_poll`: sleeps until one of `ports` is pending or Xen's system time reaches `timeout` nanoseconds; 0 means for ever.
/// Xen takes at most 128 ports.
pub fn poll(ports: &[u32], timeout: u64) {
    #[repr(C)]
    struct Poll {
        ports: *const u32,
        count: u32,
        pad: u32,
        timeout: u64,
    }
    let mut poll = Poll { ports: ports.as_ptr(), count: ports.len() as u32, pad: 0, timeout };
    // SAFETY: `sched_poll`; Xen only reads `count` ports. A refusal shows as coming back at once, which callers allow for.
    let _ = unsafe { operation(SCHED_OP, 3, &mut poll) };
}

/// `SCHEDOP_shutdown`. Comes back only if Xen refuses.
pub fn shutdown(mut reason: u32) {
    // SAFETY: `sched_shutdown` is one 32-bit reason; the domain ends.
    let _ = unsafe { operation(SCHED_OP, 2, &mut reason) };
}

/// Operations on event channels and their structures (`public/event_channel.h`).
pub mod event {
    use super::{EVENT_CHANNEL_OP, checked, operation};

    /// `evtchn_bind_interdomain`.
    #[repr(C)]
    pub struct BindInterdomain {
        /// In: the other domain.
        pub remote: u16,
        pub pad: u16,
        /// In: its port.
        pub remote_port: u32,
        /// Out: our port.
        pub local_port: u32,
    }

    /// `evtchn_alloc_unbound`.
    #[repr(C)]
    pub struct AllocUnbound {
        /// In: `DOMID_SELF`.
        pub domain: u16,
        /// In: who may bind.
        pub remote: u16,
        /// Out: our port.
        pub port: u32,
    }

    pub fn bind_interdomain(argument: &mut BindInterdomain) -> Result<(), u32> {
        // SAFETY: the operation's structure; a new port changes no memory but its pending bit.
        checked(unsafe { operation(EVENT_CHANNEL_OP, 0, argument) })
    }

    pub fn close(mut port: u32) -> Result<(), u32> {
        // SAFETY: `evtchn_close` is one 32-bit port.
        checked(unsafe { operation(EVENT_CHANNEL_OP, 3, &mut port) })
    }

    pub fn send(mut port: u32) -> Result<(), u32> {
        // SAFETY: `evtchn_send` is one 32-bit port.
        checked(unsafe { operation(EVENT_CHANNEL_OP, 4, &mut port) })
    }

    pub fn alloc_unbound(argument: &mut AllocUnbound) -> Result<(), u32> {
        // SAFETY: the operation's structure; a new port changes no memory but its pending bit.
        checked(unsafe { operation(EVENT_CHANNEL_OP, 6, argument) })
    }
}

/// Operations on the grant table and their structures (`public/grant_table.h`).
pub mod grant {
    use super::{GRANT_TABLE_OP, call, checked, shown};

    /// `GNTMAP_host_map`: map it for the processor, writable.
    pub const HOST_MAP: u32 = 1 << 1;

    /// `gnttab_map_grant_ref`.
    #[repr(C)]
    pub struct Map {
        /// In: physical address to map at.
        pub address: u64,
        /// In: `GNTMAP_*`.
        pub flags: u32,
        /// In: the grant.
        pub reference: u32,
        /// In: who granted.
        pub domain: u16,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Out: names the mapping.
        pub handle: u32,
        /// Out: for devices, unused.
        pub bus_address: u64,
    }

    /// `gnttab_unmap_grant_ref`.
    #[repr(C)]
    pub struct Unmap {
        /// In: physical address it is mapped at.
        pub address: u64,
        /// In: zero.
        pub bus_address: u64,
        /// In: the mapping.
        pub handle: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        pub pad: u16,
    }

    const _: () = assert!(size_of::<Map>() == 32 && size_of::<Unmap>() == 24);

    /// # Safety
    /// The address must be a page of the window that nothing else uses.
    pub unsafe fn map(argument: &mut Map) -> Result<(), u32> {
        // SAFETY: one structure of this operation; the place is free by the caller's promise.
        checked(unsafe { call(GRANT_TABLE_OP, 0, shown(argument), 1) })
    }

    /// # Safety
    /// Nothing may use the page any more.
    pub unsafe fn unmap(argument: &mut Unmap) -> Result<(), u32> {
        // SAFETY: one structure of this operation; the page is unused by the caller's promise.
        checked(unsafe { call(GRANT_TABLE_OP, 1, shown(argument), 1) })
    }
}

/// Operations of FLASK and their structures (`public/xsm/flask_op.h`).
pub mod flask {
    use super::{XSM_OP, call, checked, shown};
    use crate::xen::label::SPACE;

    /// `XEN_FLASK_INTERFACE_VERSION`.
    const VERSION: u32 = 1;

    /// `xen_flask_op`, of which Xen copies all 40 bytes in and out; `T` is the operation's part of its union of 32 bytes.
    #[repr(C, align(8))]
    struct Operation<T> {
        command: u32,
        version: u32,
        argument: T,
    }

    /// `xen_flask_peersid`.
    #[repr(C)]
    struct PeerSid {
        port: u32,
        sid: u32,
        rest: [u32; 6],
    }

    /// `xen_flask_sid_context`.
    #[repr(C)]
    struct SidContext {
        sid: u32,
        size: u32,
        context: u64,
        rest: [u64; 2],
    }

    const _: () = assert!(size_of::<Operation<PeerSid>>() == 40 && size_of::<Operation<SidContext>>() == 40);

    /// `FLASK_GET_PEER_SID`: the security identifier of the domain at the other end of `port`.
    pub fn peer_sid(port: u32) -> Result<u32, u32> {
        let argument = PeerSid { port, sid: 0, rest: [0; 6] };
        let mut operation = Operation { command: 23, version: VERSION, argument };
        // SAFETY: `xen_flask_op`, whole; asking for an identifier changes nothing.
        checked(unsafe { call(XSM_OP, shown(&mut operation), 0, 0) })?;
        Ok(operation.argument.sid)
    }

    /// `FLASK_SID_TO_CONTEXT`: writes the label into `space` and returns its size, as Xen gives it. Refused if it does not fit.
    pub fn context(sid: u32, space: &mut [u8; SPACE]) -> Result<usize, u32> {
        let argument = SidContext { sid, size: SPACE as u32, context: shown(space), rest: [0; 2] };
        let mut operation = Operation { command: 5, version: VERSION, argument };
        // SAFETY: `xen_flask_op`, whole; Xen writes at most `size` bytes to `context`, which is that long.
        checked(unsafe { call(XSM_OP, shown(&mut operation), 0, 0) })?;
        Ok(operation.argument.size as usize)
    }
}
