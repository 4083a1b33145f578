//! A test image: drives the TPM of the machine it is booted on, without Xen, through this crate's driver. The first word of
//! its command line is the chip's family, `1.2` or `2.0`; a `crb` after it says which interface is expected. Each check gives one line; QEMU's exit status is 33 if all passed
//! and 35 if not (see `xen_guest::shutdown`).
#![no_std]
#![no_main]

extern crate alloc;

mod bench;
mod crb;
mod interface;
mod tpm12;
mod tpm20;

use bench::Bench;
use tpm_tis::{Family, Interface};
use xen_guest::{Guest, Shutdown, shutdown};

xen_guest::entry!(main);

fn main(guest: Guest) {
    let mut words = guest.command_line.split_whitespace();
    let (family, interface) = match (words.next(), words.next()) {
        (Some("1.2"), None) => (Family::Tpm12, Interface::Fifo),
        (Some("2.0"), None) => (Family::Tpm20, Interface::Fifo),
        (Some("2.0"), Some("crb")) => (Family::Tpm20, Interface::Crb),
        other => {
            log::error!(target: "probe", "the command line must be 1.2, 2.0, or 2.0 crb, not {other:?}");
            shutdown(Shutdown::Crash)
        }
    };
    let mut bench = match Bench::new(guest.clock, family, interface) {
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
    match interface {
        Interface::Fifo => interface::run(&mut bench),
        Interface::Crb => crb::run(&mut bench),
    }
    log::info!(target: "probe", "{} passed, {} failed", bench.passed, bench.failed);
    shutdown(if bench.failed == 0 { Shutdown::Poweroff } else { Shutdown::Crash })
}
