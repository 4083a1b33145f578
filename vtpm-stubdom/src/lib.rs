//! One guest's virtual TPM, in a domain of its own.
//!
//! [`run`] is the whole life of a vTPM. It reads top-down:
//!
//! 1. [`args`]: the arguments, all of them understood or none obeyed;
//! 2. [`manager`]: wait for the manager, learn who we are (the UUID the toolstack gave us), learn the boot id, seed the
//!    random generator, fetch our record;
//! 3. [`open`]: look at the disk, compare it with the record, and open, create, or refuse, by one table;
//! 4. [`serve`]: admit the guest ([`instance`]: are its PCRs reset, kept or restored?), serve its commands, make every change
//!    durable before its answer goes out;
//! 5. at `xl shutdown`, save what a guest that lives on needs.
//!
//! All of it is one `async fn` over ports: [`Link`] (to the manager), `BlockDevice`, [`Guests`] (the front ends),
//! [`GuestTpm`] (the engine). The image's loop polls it; see `frontback::looper`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod args;
mod engine12;
mod guests;
pub mod instance;
pub mod manager;
pub mod open;
mod passthrough;
mod randomness;
mod refusal;
mod saved;
pub mod serve;
mod store;
mod story;
#[cfg(test)]
mod tests;
mod tpm;
mod wait;

pub use guests::Guests;
pub use manager::{FrontLink, Link};
pub use passthrough::MALFORMED;
pub use refusal::Refusal;
pub use story::{Ports, run};
pub use tpm::{EngineOptions, GuestTpm, LoadError, ParentRequest, Rejection};
pub use wait::Waits;
