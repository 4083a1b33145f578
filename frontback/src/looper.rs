//! One turn of an image's loop.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use xen_abi::{Alarm, Instant};

/// A state machine that the loop drives.
pub trait Driver<X> {
    /// Looks at what changed and moves on; never blocks, except for bounded waits for xenstored.
    fn step(&mut self, xen: &mut X, now: Instant);

    /// When it wants to be stepped again if no event comes. An instant in the past means at once: there is work that
    /// came from the service after the last step.
    fn deadline(&self) -> Option<Instant>;
}

/// What a turn came to.
#[derive(PartialEq, Eq, Debug)]
pub enum Turn<T> {
    /// The service ended.
    Done(T),
    /// Nothing to do until an event comes or this instant is reached; do not wait at all if it is in the past.
    Wait(Option<Instant>),
}

/// Steps every driver, then polls the service once. The image repeats this, waiting in between.
pub fn turn<X, F: Future>(
    xen: &mut X,
    now: Instant,
    drivers: &[&RefCell<dyn Driver<X> + '_>],
    alarm: &Alarm,
    service: Pin<&mut F>,
) -> Turn<F::Output> {
    for driver in drivers {
        driver.borrow_mut().step(xen, now);
    }
    alarm.set(now);
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(output) = service.poll(&mut context) {
        return Turn::Done(output);
    }
    let wishes = drivers.iter().filter_map(|driver| driver.borrow().deadline());
    Turn::Wait(wishes.chain(alarm.next()).min())
}
