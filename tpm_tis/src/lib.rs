//! Drivers for the hardware TPM, after the TCG PC Client Specific TPM Interface Specification 1.3 (here "TIS") and the PC Client
//! Platform TPM Profile 1.05 (here "PTP"): [`Tis`] for the FIFO interface of both, [`Crb`] for the command response buffer of the
//! latter, and [`Chip`], which is one or the other as the chip's interface id says.
//!
//! [`Tis`] is a state machine over the register trait [`TisBus`]: [`Tis::submit`] takes one command, [`Tis::step`] moves it
//! on as far as the chip lets it go without waiting, [`Tis::deadline`] says when to call again. It never blocks, and every
//! wait has an end, whatever the chip does. The others have the same face. [`Link`] is a driver as a [`tpm_wire::Transport`] for `async` code.
//!
//! `fake` (feature `test-util`) is a chip at register level with a knob for each way to misbehave.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod chip;
mod crb;
mod desk;
mod driver;
mod error;
#[cfg(feature = "test-util")]
pub mod fake;
mod identity;
mod link;
mod regs;
mod timeouts;

pub use chip::Chip;
pub use crb::Crb;
pub use desk::{MAX_COMMAND, Ticket};
pub use driver::Tis;
pub use error::{BadLocality, SubmitError, TisError, Wait};
pub use identity::{Family, Identity, Interface};
pub use link::{ChipLink, CrbLink, Link, Submit, TisLink};
pub use regs::{BASE, LOCALITIES, LOCALITY_SIZE, TisBus};
pub use timeouts::{DEFAULT_DURATION, Timeouts};
