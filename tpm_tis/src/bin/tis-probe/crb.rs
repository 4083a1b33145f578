//! The CRB interface itself.

use crate::bench::{Bench, ensure};
use crate::interface::{common, get_random, works};
use crate::tpm20::{LONGEST_CRB, create_primary, unknown};
use alloc::format;
use core::time::Duration;
use tpm_tis::{BASE, TisBus, TisError};

/// Registers and bits that only a test touches by itself (PTP 1.05, CRB interface).
const LOC_STATE: usize = 0x00;
const LOC_CTRL: usize = 0x08;
const LOC_STS: usize = 0x0c;
const CTRL_REQ: usize = 0x40;
const CTRL_STS: usize = 0x44;
const CTRL_START: usize = 0x4c;
const RSP_SIZE: usize = 0x64;
const CMD_LADDR: usize = 0x5c;
const DATA_BUFFER: usize = 0x80;
const REQUEST_ACCESS: u32 = 1;
const CMD_READY: u32 = 1;
const START: u32 = 1;
const TPM_IDLE: u32 = 2;
const LOC_ASSIGNED: u32 = 2;

/// Puts a command into the buffer as other software would, and goes no further.
fn put(bench: &mut Bench, command: &[u8]) {
    bench.registers.write32(LOC_CTRL, REQUEST_ACCESS);
    bench.registers.write32(CTRL_REQ, CMD_READY);
    for (at, chunk) in command.chunks(4).enumerate() {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        bench.registers.write32(DATA_BUFFER + 4 * at, u32::from_le_bytes(word));
    }
}

pub fn run(bench: &mut Bench) {
    // Three words.
    common(bench, 3);
    bench.check("the chip is left idle and its locality free", |b| {
        works(b)?;
        let [state, granted, status] = [LOC_STATE, LOC_STS, CTRL_STS].map(|register| b.registers.read32(register));
        let free = state & LOC_ASSIGNED == 0 && granted & 1 == 0 && status & TPM_IDLE != 0;
        ensure(free, || format!("{state:#x} {granted:#x} {status:#x}"))
    });
    bench.check("a command longer than the buffer is refused, and the next one works", |b| {
        let (result, _) = b.raw(&unknown(LONGEST_CRB + 1), None);
        ensure(result == Err(TisError::CommandTooLong(LONGEST_CRB)), || format!("{result:02x?}"))?;
        works(b)
    });
    bench.check("half a command left behind by others does no harm", |b| {
        let command = get_random(b.family);
        put(b, command.get(..7).unwrap_or_default());
        works(b)
    });
    bench.check("a command left running by others is ended, and ours works", |b| {
        put(b, &create_primary());
        b.registers.write32(CTRL_START, START);
        let running = b.registers.read32(CTRL_START) & START != 0;
        b.succeed_within(&get_random(b.family), Duration::from_secs(60))?;
        ensure(running, || "it did not run".into())
    });
    bench.check("a buffer that is said to lie outside the registers is refused", |b| {
        b.registers.lie = Some((CMD_LADDR, 0x1000));
        let (result, _) = b.raw(&get_random(b.family), None);
        b.registers.lie = None;
        let want = TisError::BadBuffer { start: 0x1000, size: LONGEST_CRB as u32 };
        ensure(result == Err(want), || format!("{result:02x?}"))?;
        works(b)
    });
    bench.check("a buffer that is said to be longer than the page is refused", |b| {
        b.registers.lie = Some((RSP_SIZE, LONGEST_CRB as u32 + 4));
        let (result, _) = b.raw(&get_random(b.family), None);
        b.registers.lie = None;
        let want = TisError::BadBuffer { start: BASE + DATA_BUFFER as u64, size: LONGEST_CRB as u32 + 4 };
        ensure(result == Err(want), || format!("{result:02x?}"))?;
        works(b)
    });
    bench.check("localities that the chip does not have are named", |b| {
        for locality in 1..=4 {
            let own = b.chip.replace(Bench::driver(locality));
            let (result, _) = b.raw(&get_random(b.family), None);
            b.chip.replace(own);
            ensure(result == Err(TisError::NoLocality(locality)), || format!("{locality}: {result:02x?}"))?;
        }
        works(b)
    });
}
