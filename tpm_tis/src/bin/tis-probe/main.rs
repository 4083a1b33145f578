//! A test image: drives the TPM of the machine it is booted on, without Xen, through this crate's driver. The first word of
//! its command line is the chip's family, `1.2` or `2.0`. Each check gives one line; QEMU's exit status is 33 if all passed
//! and 35 if not (see `xen_guest::shutdown`).
#![no_std]
#![no_main]

extern crate alloc;

mod bench;
mod interface;
mod tpm12;
mod tpm20;

use bench::Bench;
use tpm_tis::Family;
use xen_guest::{Guest, Shutdown, shutdown};

xen_guest::entry!(main);

fn main(guest: Guest) {
    let family = match guest.command_line.split_whitespace().next() {
        Some("1.2") => Family::Tpm12,
        Some("2.0") => Family::Tpm20,
        other => {
            log::error!(target: "probe", "the command line must begin with 1.2 or 2.0, not {other:?}");
            shutdown(Shutdown::Crash)
        }
    };
    let mut bench = match Bench::new(guest.clock, family) {
        Ok(bench) => bench,
        Err(error) => {
            log::error!(target: "probe", "{error}");
            shutdown(Shutdown::Crash)
        }
    };
    if !interface::present(&mut bench) {
        shutdown(Shutdown::Crash);
    }
    match family {
        Family::Tpm12 => tpm12::run(&mut bench),
        Family::Tpm20 => tpm20::run(&mut bench),
    }
    interface::run(&mut bench);
    log::info!(target: "probe", "{} passed, {} failed", bench.passed, bench.failed);
    shutdown(if bench.failed == 0 { Shutdown::Poweroff } else { Shutdown::Crash })
}
