//! Runs the vault's futures, which are ready at once because the disk here is a file.

use core::pin::pin;
use core::task::{Context, Poll, Waker};

/// The value of a future that never waits.
///
/// # Panics
/// If it does wait: that is a mistake in this program.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a file operation does not wait"),
    }
}
