//! An image that shows `xen-guest` at work. What it does is the first word of its command line; without one it shows what works, with
//! one it does something wrong that must end in a report.
#![no_std]
#![no_main]

extern crate alloc;

mod on_xen;

use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::time::Duration;
use xen_abi::{Clock, EntropySource};
use xen_guest::{Guest, Mmio, Shutdown, heap_usage, shutdown, stack_usage};

xen_guest::entry!(main);

fn main(guest: Guest) {
    log::info!(target: "vtpm", "smoke: {}", guest.command_line);
    let words: Vec<&str> = guest.command_line.split_whitespace().collect();
    match words.first().copied().unwrap_or("works") {
        "works" => works(guest),
        "lend" => on_xen::lend(guest.xen.expect("Xen")),
        "borrow" => on_xen::borrow(guest.xen.expect("Xen"), &words[1..]),
        "panic" => panic!("on purpose"),
        "write-text" => write_to(xen_guest::private::pvh_entry as *const u8),
        "write-rodata" => write_to(b"constant".as_ptr()),
        "run-data" => run_data(),
        "null" => write_to(core::ptr::without_provenance(8)),
        "stack" => {
            black_box(dig(1));
        }
        "memory" => drop(black_box(Vec::<u8>::with_capacity(1 << 40))),
        other => {
            log::error!(target: "vtpm", "no such demonstration: {other}");
            shutdown(Shutdown::Crash)
        }
    }
}

/// Heap, time, randomness, a page of device registers, and Xen if it is there.
fn works(mut guest: Guest) {
    let mut kept: Vec<String> = Vec::new();
    for index in 0..1000 {
        kept.push(alloc::format!("{index}"));
        if index % 3 == 0 {
            kept.swap_remove(0);
        }
    }
    assert_eq!(kept.len(), 666);
    drop(kept);
    let heap = heap_usage();
    assert!(heap.peak > heap.used);
    log::info!(target: "smoke", "heap {} KiB, used {} KiB, peak {} KiB", heap.size >> 10, heap.used >> 10, heap.peak >> 10);

    let stack = stack_usage();
    assert!(stack.peak > 1024 && stack.peak < stack.size, "the stack's use is measured wrong");
    let before = stack.peak;
    use_stack();
    let stack = stack_usage();
    assert!(stack.peak >= before + 32 * 1024, "the stack's use is not seen");
    log::info!(target: "smoke", "stack {} KiB, peak {} KiB", stack.size >> 10, stack.peak >> 10);

    let start = guest.clock.now();
    guest.clock.sleep_until(start + Duration::from_millis(50));
    let slept = guest.clock.now().since(start);
    assert!(slept >= Duration::from_millis(50));
    log::info!(target: "smoke", "time goes on, {} s", guest.clock.unix_seconds());

    let mut random = [[0; 16]; 2];
    match random.iter_mut().try_for_each(|bytes| guest.entropy.fill(bytes)) {
        Ok(()) => {
            assert_ne!(random[0], random[1]);
            log::info!(target: "smoke", "randomness works");
        }
        Err(error) => log::warn!(target: "smoke", "{error}"),
    }

    let registers = Mmio::map(0xfed4_0000, 0x5000).expect("device registers");
    assert_eq!(registers.read_u8(0x5000), Err(xen_guest::OutOfRange));
    assert_eq!(registers.read_u32(0xf01), Err(xen_guest::OutOfRange));
    assert!(Mmio::map(0xfed4_0000, 0x1000).is_err());
    log::info!(target: "smoke", "id at fed40f00: {:08x}", registers.read_u32(0xf00).expect("in range"));

    match guest.xen {
        Some(xen) => on_xen::works(xen, guest.clock),
        None => log::info!(target: "smoke", "there is no Xen here"),
    }
    log::info!(target: "smoke", "all works");
}

#[inline(never)]
fn use_stack() {
    black_box([1u8; 64 << 10]);
}

fn write_to(at: *const u8) {
    // SAFETY: none; the page is not writable, and this is to show that it is not.
    unsafe { at.cast_mut().write_volatile(1) };
    log::error!(target: "smoke", "the write went through");
}

fn run_data() {
    // `ret`
    let code = black_box(alloc::vec![0xc3u8]);
    // SAFETY: none; the page is not executable, and this is to show that it is not.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code.as_ptr()) };
    function();
    log::error!(target: "smoke", "data was executed");
}

/// Recursion without end.
fn dig(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    if depth == 0 { here[0] } else { dig(black_box(depth + 1)) + here[63] }
}
