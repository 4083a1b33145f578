//! The manager: owns the hardware TPM and keeps the vTPMs' keys.
//!
//! [`run`] is the whole story of one manager domain. It reaches the machine through handles (front ends, disk, chip, time)
//! whose drivers the image's loop steps between two polls, so that front ends find their back end ready while the chip is
//! still busy making a key.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod args;
pub mod attest;
pub mod chip12;
pub mod chip20;
pub mod desk;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
pub mod anchor;
pub mod hardware;
pub mod label;
pub mod life;
pub mod management;
mod messages;
pub mod opening;
pub mod policy;
pub mod requests;
mod records;
mod service;
pub mod sealing;
pub mod start;
pub mod state;
pub mod store;
mod table_label;
mod table_start;
mod table_store;
pub mod way;

pub use frontback::tpmback::Fronts;
pub use table_label::LabelError;
pub use messages::MALFORMED;
pub use records::{MAX_VTPMS, StateError};
pub use table_start::StartError;

use args::{Driver, Options};
use chip12::{Chip, ChipInfo};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use tpm_wire::Transport;
use xen_abi::{BlockDevice, DiskError, EntropySource};

/// What ends the manager's waiting: `xl shutdown`, for example. Asked at every turn of the loop.
pub trait Stop: Fn() -> bool {}
impl<S: Fn() -> bool> Stop for S {}

/// Starts, serves, and ends when `stop` says so and everything taken in is answered.
///
/// A manager that cannot start says why on the console, refuses its front ends, and waits for `stop`: the domain stays, so
/// that the reason can be read. `on_chip` is called once the chip has been asked what it is, before anything long is asked of it:
/// the place to tell its time-outs to the driver.
pub async fn run<F: Fronts, B: BlockDevice, T: Transport>(
    options: &Options,
    fronts: &F,
    disk: impl Future<Output = Result<B, DiskError>>,
    chip: &Chip<'_, T>,
    cpu: &mut impl EntropySource,
    on_chip: impl FnOnce(&ChipInfo),
    stop: impl Stop,
) {
    let disk = match unless(&stop, disk).await {
        None => return,
        Some(Ok(disk)) => disk,
        Some(Err(error)) => return refuse(fronts, &StartError::Vault(error.into()), &stop).await,
    };
    match table_start::open(options, disk, chip, cpu, on_chip).await {
        Ok(ready) => {
            let behind = match options.driver {
                Driver::Tis => Ok(None),
                Driver::Front => way::start_of_machine(chip.transport()).await,
            };
            let boot_id = match behind {
                Ok(id) => id.unwrap_or(ready.chip.boot_id),
                Err(error) => return refuse(fronts, &StartError::Chip(error.into()), &stop).await,
            };
            log::info!(target: "vtpmmgr", "{} vTPMs have a record on this disk", ready.store.count());
            log::info!(target: "vtpmmgr", "Waiting for commands from vTPM's:");
            service::serve(fronts, ready.store, chip, &boot_id, stop).await;
        }
        Err(error) => refuse(fronts, &error, &stop).await,
    }
}

/// Says why there is no service, closes every front end, now and later, and waits for `stop`.
pub async fn refuse<F: Fronts>(fronts: &F, reason: &dyn core::error::Error, stop: &impl Stop) {
    log::error!(target: "vtpmmgr", "{reason}");
    fronts.refuse_all("the manager does not serve, its console says why");
    unless(stop, core::future::pending::<()>()).await;
}

/// The outcome of `work`, or `None` if `stop` comes first.
async fn unless<O>(stop: &impl Stop, work: impl Future<Output = O>) -> Option<O> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if stop() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

#[cfg(test)]
mod tests;
