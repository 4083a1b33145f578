//! TIS (FIFO) driver for the hardware TPM, after the TCG PC Client Specific TPM Interface Specification 1.3 (here "TIS")
//! and the FIFO part of the PC Client Platform TPM Profile 1.05 (here "PTP").
//!
//! [`Tis`] is a state machine over the register trait [`TisBus`]: [`Tis::submit`] takes one command, [`Tis::step`] moves it
//! on as far as the chip lets it go without waiting, [`Tis::deadline`] says when to call again. It never blocks, and every
//! wait has an end, whatever the chip does. [`TisLink`] is the same driver as a [`tpm_wire::Transport`] for `async` code.
//!
//! `fake` (feature `test-util`) is a chip at register level with a knob for each way to misbehave.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod driver;
mod error;
#[cfg(feature = "test-util")]
pub mod fake;
mod identity;
mod link;
mod regs;
mod timeouts;

pub use driver::{MAX_COMMAND, Ticket, Tis};
pub use error::{BadLocality, SubmitError, TisError, Wait};
pub use identity::{Family, Identity};
pub use link::TisLink;
pub use regs::{BASE, LOCALITIES, LOCALITY_SIZE, TisBus};
pub use timeouts::{DEFAULT_DURATION, Timeouts};
