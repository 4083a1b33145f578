//! Commands per second through the ring, with guest, vTPM, manager, chip and disks in one process (disks and chip in memory,
//! so what is measured is our own code). Printed, never judged: `cargo xtask bench`.

#[allow(dead_code)] // the system test uses the rest
#[path = "../tests/system/stack.rs"]
mod stack;

use stack::{Stack, Things, tpm};
use std::time::Instant;
use xen_abi::DomId;

fn main() {
    let things = Things::new();
    let begin = Instant::now();
    let mut stack = Stack::boot(&things);
    let vtpm = stack.start_vtpm(&things, DomId(1), 0);
    let guest = stack.start_guest(vtpm);
    tpm::good(&stack.ask(guest, &tpm::pcr_read(0)));
    println!("blank disks to the first answer, keys made on the way: {:.2} s", begin.elapsed().as_secs_f64());

    tpm::good(&stack.ask(guest, &tpm::nv_define(0x1001, 20)));
    let rows = [
        ("TPM_PCRRead", (|_| tpm::pcr_read(10)) as fn(u8) -> Vec<u8>, 5000),
        ("TPM_Extend", |_| tpm::extend(10, [7; 20]), 5000),
        ("TPM_GetRandom, 16 bytes", |_| tpm::random(16), 5000),
        // The specification allows 64 such writes before there is an owner. Equal bytes would not be written again.
        ("TPM_NV_WriteValue, 20 bytes, durable", |n| tpm::nv_write(0x1001, 0, &[n; 20]), 60),
    ];
    for (name, command, count) in rows {
        let (begin, turns) = (Instant::now(), stack.now.as_millis());
        for n in 0..count {
            tpm::good(&stack.ask(guest, &command((n % 251) as u8 + 1)));
        }
        let (seconds, turns) = (begin.elapsed().as_secs_f64(), stack.now.as_millis() - turns);
        println!(
            "{name:40} {:9.0} commands/s, {:4.1} turns of the loop each",
            f64::from(count) / seconds,
            turns as f64 / f64::from(count)
        );
    }
}
