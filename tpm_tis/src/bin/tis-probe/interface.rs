//! The FIFO interface itself, whatever the family of the chip; and what both interfaces have in common.

use crate::bench::{Bench, Check, ensure};
use crate::{tpm12, tpm20};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;
use tpm_tis::{Family, LOCALITY_SIZE, TisBus, TisError};

/// Registers and bits that only a test writes by itself (TIS 1.3).
const ACCESS: usize = 0x00;
const STS: usize = 0x18;
const DATA_FIFO: usize = 0x24;
const REQUEST_USE: u8 = 0x02;
const ACTIVE_LOCALITY: u8 = 0x20;
const COMMAND_READY: u8 = 0x40;

/// QEMU's vendor number (IBM's).
const QEMU_VENDOR: u16 = 0x1014;

pub fn get_random(family: Family) -> Vec<u8> {
    match family {
        Family::Tpm12 => tpm12::get_random(16),
        Family::Tpm20 => tpm20::get_random(16),
    }
}

/// The chip answers a small command.
pub fn works(bench: &mut Bench) -> Check {
    bench.succeed(&get_random(bench.family)).map(drop)
}

/// Whether there is a chip for the checks at all; if not, the driver's own words for it are on the console.
pub fn present(bench: &mut Bench) -> bool {
    let (result, _) = bench.raw(&get_random(bench.family), None);
    if let Err(error) = result {
        log::error!(target: "probe", "{error}");
    }
    bench.chip.borrow().identity().is_some()
}

/// Checks for either interface. A response's header is so many reads long.
pub fn common(bench: &mut Bench, header: u32) {
    bench.check("the chip is identified", |b| {
        let identity = b.chip.borrow().identity().ok_or("no identity")?;
        let holds =
            identity.vendor == QEMU_VENDOR && identity.family() == b.family && identity.interface() == b.interface;
        ensure(holds, || format!("{identity}"))
    });
    bench.check("a response garbled on the bus is read again", |b| {
        b.registers.garble = header;
        works(b)?;
        ensure(b.registers.garble == 0, || "nothing was garbled".into())
    });
    bench.check("a response garbled twice is an error, and the next command works", |b| {
        b.registers.garble = 2 * header;
        let (result, _) = b.raw(&get_random(b.family), None);
        ensure(matches!(result, Err(TisError::BadSize(_))), || format!("{result:02x?}"))?;
        b.registers.garble = 0;
        works(b)
    });
}

pub fn run(bench: &mut Bench) {
    common(bench, 10);
    bench.check("half a command left behind by others does no harm", |b| {
        b.registers.write8(STS, COMMAND_READY);
        for byte in get_random(b.family).iter().take(7) {
            b.registers.write8(DATA_FIFO, *byte);
        }
        works(b)
    });
    bench.check("a locality that another one holds is refused", |b| {
        let own = b.chip.replace(Bench::driver(2));
        let (result, took) = b.raw(&get_random(b.family), None);
        b.chip.replace(own);
        ensure(result == Err(TisError::LocalityRefused), || format!("{result:02x?}"))?;
        ensure(took < Duration::from_secs(5), || format!("after {took:?}"))?;
        works(b)
    });
    for locality in 1..=3 {
        bench.check(&format!("locality {locality} works once locality 0 is given back"), |b| {
            b.leave();
            let own = b.chip.replace(Bench::driver(locality));
            let outcome = works(b);
            b.leave();
            b.chip.replace(own);
            outcome
        });
    }
    bench.check("the locality is given up for one that asks", |b| {
        works(b)?;
        let other = LOCALITY_SIZE + ACCESS;
        b.registers.write8(other, REQUEST_USE);
        works(b)?;
        let theirs = b.registers.read8(other) & ACTIVE_LOCALITY != 0;
        b.registers.write8(other, ACTIVE_LOCALITY);
        ensure(theirs, || "locality 1 did not get the chip".into())?;
        works(b)
    });
}
