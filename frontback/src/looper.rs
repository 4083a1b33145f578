//! One turn of an image's loop, and time for its service.

use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use xen_abi::Instant;

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
    timer: &Timer,
    service: Pin<&mut F>,
) -> Turn<F::Output> {
    for driver in drivers {
        driver.borrow_mut().step(xen, now);
    }
    timer.now.set(now);
    timer.nearest.set(None);
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(output) = service.poll(&mut context) {
        return Turn::Done(output);
    }
    let wishes = drivers.iter().filter_map(|driver| driver.borrow().deadline());
    Turn::Wait(wishes.chain(timer.nearest.get()).min())
}

/// Time for the service. [`turn`] tells it the time and forgets the wishes of the last turn; whoever still waits is polled
/// again and repeats its own.
#[derive(Debug)]
pub struct Timer {
    now: Cell<Instant>,
    nearest: Cell<Option<Instant>>,
}

impl Timer {
    /// A timer that stands at `now`.
    pub const fn new(now: Instant) -> Self {
        Self { now: Cell::new(now), nearest: Cell::new(None) }
    }

    /// The time of the current turn.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Asks for another turn at `at`, or at once if that has passed.
    pub fn wake_at(&self, at: Instant) {
        self.nearest.set(Some(self.nearest.get().map_or(at, |nearest| nearest.min(at))));
    }

    /// Ready once `duration` has passed since this call.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + '_ {
        self.sleep_until(self.now() + duration)
    }

    /// Ready once `until` has come.
    pub fn sleep_until(&self, until: Instant) -> impl Future<Output = ()> + '_ {
        poll_fn(move |_| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.wake_at(until);
            Poll::Pending
        })
    }

    /// Comes back at the next turn: what a long computation awaits between two steps, so that the drivers are served.
    pub fn next_turn(&self) -> impl Future<Output = ()> + '_ {
        let mut asked = false;
        poll_fn(move |_| {
            if asked {
                return Poll::Ready(());
            }
            asked = true;
            self.wake_at(self.now());
            Poll::Pending
        })
    }

    /// The outcome of `work`, or `None` if it is not there at `deadline`; `work` is dropped then.
    pub async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(outcome) = work.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            if self.now() >= deadline {
                return Poll::Ready(None);
            }
            self.wake_at(deadline);
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    struct Recorder(Vec<u64>, Option<Instant>);

    impl Driver<()> for Recorder {
        fn step(&mut self, _xen: &mut (), now: Instant) {
            self.0.push(now.as_millis());
        }
        fn deadline(&self) -> Option<Instant> {
            self.1
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_nearest_wish_of_drivers_and_service_ends_the_wait() {
        let driver = RefCell::new(Recorder(Vec::new(), Some(at(50))));
        let timer = Timer::new(at(0));
        let mut service = pin!(async {
            timer.next_turn().await;
            timer.within(at(20), timer.sleep(Duration::from_millis(30))).await
        });
        let mut step = |now| turn(&mut (), at(now), &[&driver], &timer, service.as_mut());
        assert_eq!(step(5), Turn::Wait(Some(at(5))));
        assert_eq!(step(6), Turn::Wait(Some(at(20))));
        assert_eq!(step(19), Turn::Wait(Some(at(20))));
        assert_eq!(step(20), Turn::Done(None));
        assert_eq!(driver.borrow().0, [5, 6, 19, 20]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_does_not_wake() {
        let driver = RefCell::new(Recorder(Vec::new(), Some(at(50))));
        let timer = Timer::new(at(0));
        let mut service = pin!(async {
            timer.sleep(Duration::from_millis(10)).await;
            core::future::pending::<()>().await
        });
        let mut step = |now| turn(&mut (), at(now), &[&driver], &timer, service.as_mut());
        assert_eq!(step(0), Turn::Wait(Some(at(10))));
        assert_eq!(step(10), Turn::Wait(Some(at(50))));
    }
}
