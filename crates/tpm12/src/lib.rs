//! A TPM 1.2 engine: TPM Main specification level 2, revision 116, with the PC Client's PCRs and localities.
//!
//! [`Tpm12`] executes commands through [`tpm_wire::Engine`]. It does no I/O, has no clock and no other source of randomness
//! than the generator given to it. Its permanent state is one byte string (docs/formats/tpm12-state.md) that the owner keeps.
//!
//! Inside, `dispatch` holds the one table of commands and the one path every command takes; `auth` is the only place that
//! verifies an HMAC; `commands` has a file per chapter of the specification's part 3; `structs` has part 2's structures.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(test)]
mod attacks;
mod auth;
mod call;
mod codes;
mod commands;
mod dispatch;
mod engine;
#[cfg(test)]
mod rows;
mod state;
mod structs;
#[cfg(test)]
mod testing;
mod tpm;
mod wire;

pub use call::ParentQuote;
pub use engine::{Manufacture, NoSavedState, NoSuchPcr, PlatformError, StartupType, Tpm12};
pub use state::StateError;

/// What the owner decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The optional maintenance commands (part 3, section 12) exist. They can carry the whole TPM over to another one.
    pub maintenance_commands: bool,
    /// Xen's `TPM_DeepQuote` and `TPM_ParentSignEK` exist: the owner answers [`Tpm12::parent_request`].
    pub parent_quotes: bool,
}
