//! The manager's policy, management and quotes, whole: against our TPM 1.2, and swtpm's TPM 2.0, as the chip and the real store on a disk in memory.

mod agent;
#[path = "../chip12/bus.rs"]
#[allow(dead_code, reason = "the chip's own tests use the rest")]
mod bus;
#[path = "../swtpm20/bus.rs"]
#[allow(dead_code, reason = "the chip's own tests use the rest")]
mod bus20;
mod chip20;
mod commands;
mod lists;
mod quotes;
mod rig;
mod serving;
