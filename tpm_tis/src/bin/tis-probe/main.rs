//! A test image: drives the TPM of the machine it is booted on, without Xen, through this crate's driver. The first word of
//! its command line is the chip's family, `1.2` or `2.0`; a `crb` after it says which interface is expected. `extend FAMILY PCR`
//! does that and nothing else (`extend`). Each check gives one line; QEMU's exit status is 33 if all passed and 35 if not (see
//! `xen_guest::shutdown`).
#![no_std]
#![no_main]

extern crate alloc;

mod bench;
mod crb;
mod extend;
mod interface;
mod tpm12;
mod tpm20;

use alloc::vec::Vec;
use bench::Bench;
use tpm_tis::{Family, Interface};
use xen_guest::{Guest, Shutdown, shutdown};

xen_guest::entry!(main);

fn main(guest: Guest) {
    let words: Vec<&str> = guest.command_line.split_whitespace().collect();
    let (family, interface, pcr) = match (words.as_slice(), words.last().and_then(|word| word.parse().ok())) {
        (["1.2"], _) => (Family::Tpm12, Interface::Fifo, None),
        (["2.0"], _) => (Family::Tpm20, Interface::Fifo, None),
        (["2.0", "crb"], _) => (Family::Tpm20, Interface::Crb, None),
        (["extend", "1.2", _], Some(index)) => (Family::Tpm12, Interface::Fifo, Some(index)),
        (["extend", "2.0", _], Some(index)) => (Family::Tpm20, Interface::Fifo, Some(index)),
        _ => {
            log::error!(target: "probe", "the command line must be 1.2, 2.0, 2.0 crb, or extend FAMILY PCR, not {words:?}");
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
    if let Some(index) = pcr {
        extend::run(&mut bench, index);
    } else {
        check_all(&mut bench);
    }
    log::info!(target: "probe", "{} passed, {} failed", bench.passed, bench.failed);
    shutdown(if bench.failed == 0 { Shutdown::Poweroff } else { Shutdown::Crash })
}

fn check_all(bench: &mut Bench) {
    if !interface::present(bench) {
        shutdown(Shutdown::Crash);
    }
    match bench.family {
        Family::Tpm12 => tpm12::run(bench),
        Family::Tpm20 => tpm20::run(bench),
    }
    match bench.interface {
        Interface::Fifo => interface::run(bench),
        Interface::Crb => crb::run(bench),
    }
}
