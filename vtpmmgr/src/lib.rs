//! The manager: owns the hardware TPM and keeps the vTPMs' keys.
//!
//! [`life::live`] is the whole story of one manager domain. It reaches the machine through handles (front ends, disk, chip, time)
//! whose drivers the image's loop steps between two polls, so that front ends find their back end ready while the chip is
//! still busy making a key.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod anchor;
pub mod args;
pub mod attest;
mod chip12;
mod chip20;
pub mod desk;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
pub mod hardware;
pub mod label;
pub mod life;
pub mod management;
pub mod opening;
pub mod policy;
pub mod requests;
pub mod sealing;
pub mod start;
pub mod state;
pub mod store;
pub mod way;

pub use frontback::tpmback::Fronts;

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

/// What ends the manager's waiting: `xl shutdown`, for example. Asked at every turn of the loop.
pub trait Stop: Fn() -> bool {}
impl<S: Fn() -> bool> Stop for S {}

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
