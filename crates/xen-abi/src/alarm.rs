//! Time for a service that is an `async fn`.

use crate::Instant;
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

/// The service's side of the clock. Before each poll the loop calls [`Self::set`]; after it, [`Self::next`] says by when
/// the service wants to be polled again if nothing else happens.
pub struct Alarm {
    now: Cell<Instant>,
    next: Cell<Option<Instant>>,
}

impl Alarm {
    /// An alarm that nobody has asked anything of.
    pub const fn new(now: Instant) -> Self {
        Self { now: Cell::new(now), next: Cell::new(None) }
    }

    /// Tells the time and forgets the wishes of the last poll; whoever still waits repeats its own.
    pub fn set(&self, now: Instant) {
        self.now.set(now);
        self.next.set(None);
    }

    /// The time as told last.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The earliest instant that anyone waits for.
    pub fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// Asks for a poll at `at`, or at once if that has passed.
    pub fn wake_at(&self, at: Instant) {
        self.next.set(Some(self.next.get().map_or(at, |next| next.min(at))));
    }

    /// Asks for a poll at once: for work that is not finished.
    pub fn wake_now(&self) {
        self.wake_at(self.now.get());
    }

    /// Waits until `at`.
    pub async fn until(&self, at: Instant) {
        poll_fn(|_| {
            if self.now.get() >= at {
                return Poll::Ready(());
            }
            self.wake_at(at);
            Poll::Pending
        })
        .await
    }

    /// Waits for `duration` from now.
    pub async fn sleep(&self, duration: Duration) {
        self.until(self.now.get() + duration).await
    }

    /// Lets the drivers step once, and goes on.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|_| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.wake_now();
            Poll::Pending
        })
        .await
    }

    /// The outcome of `work`, or `None` if it is not there at `deadline`; `work` is dropped then.
    pub async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(outcome) = work.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            if self.now.get() >= deadline {
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
    use core::task::{Context, Waker};

    fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_earliest_wish_counts_and_is_forgotten_at_the_next_round() {
        let alarm = Alarm::new(Instant::from_millis(5));
        let (mut a, mut b) = (pin!(alarm.sleep(Duration::from_millis(10))), pin!(alarm.until(Instant::from_millis(9))));
        assert!(poll(a.as_mut()).is_pending() && poll(b.as_mut()).is_pending());
        assert_eq!(alarm.next(), Some(Instant::from_millis(9)));
        alarm.set(Instant::from_millis(9));
        assert_eq!(alarm.next(), None);
        assert!(poll(a.as_mut()).is_pending() && poll(b.as_mut()).is_ready());
        assert_eq!(alarm.next(), Some(Instant::from_millis(15)));
    }

    #[test]
    fn yield_comes_back_once_and_a_deadline_ends_the_wait() {
        let alarm = Alarm::new(Instant::from_millis(0));
        let mut once = pin!(alarm.yield_now());
        assert!(poll(once.as_mut()).is_pending());
        assert_eq!(alarm.next(), Some(alarm.now()));
        assert!(poll(once.as_mut()).is_ready());

        let mut late = pin!(alarm.within(Instant::from_millis(3), core::future::pending::<()>()));
        assert!(poll(late.as_mut()).is_pending());
        alarm.set(Instant::from_millis(3));
        assert_eq!(poll(late.as_mut()), Poll::Ready(None));
    }
}
