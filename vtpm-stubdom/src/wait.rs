//! Waiting: with a word on the console, and not beyond the operator's request to stop.

use core::cell::Cell;
use core::fmt::Display;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use frontback::looper::Timer;
use xen_abi::Instant;

/// How long a wait goes on silently, and then from one line to the next.
const FIRST_LINE: Duration = Duration::from_secs(5);
const NEXT_LINE: Duration = Duration::from_secs(30);

/// How long work that was under way when the stop was requested may still take: for the manager to answer.
const GRACE: Duration = Duration::from_secs(10);

/// The service's view of time and of the request to stop.
pub struct Waits<'a> {
    timer: &'a Timer,
    stop: &'a dyn Fn() -> bool,
    stopping_since: Cell<Option<Instant>>,
}

/// The domain is to stop, and what was waited for did not come in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped;

impl<'a> Waits<'a> {
    /// `stop` says whether a stop was requested; once true it stays so.
    pub fn new(timer: &'a Timer, stop: &'a dyn Fn() -> bool) -> Self {
        Self { timer, stop, stopping_since: Cell::new(None) }
    }

    /// The time of the current turn.
    pub fn now(&self) -> Instant {
        self.timer.now()
    }

    /// Whether a stop was requested.
    pub fn stopping(&self) -> bool {
        if self.stopping_since.get().is_none() && (self.stop)() {
            self.stopping_since.set(Some(self.timer.now()));
        }
        self.stopping_since.get().is_some()
    }

    /// Whether work under way is to be given up.
    pub fn grace_is_over(&self) -> bool {
        self.stopping() && self.stopping_since.get().is_some_and(|since| self.timer.now() >= since + GRACE)
    }

    /// `work`, unless a stop is requested first.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.stopping() {
                return Poll::Ready(Err(Stopped));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// The outcome of `work`, or `None` if it is not there and `given_up` says so.
    pub async fn unless<T>(&self, given_up: impl Fn() -> bool, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if given_up() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// `work`, given up when the time that a stopping domain takes (10 seconds) is over.
    pub async fn with_grace<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = pin!(work);
        let mut over = pin!(async {
            self.stop_requested().await;
            self.timer.sleep_until(self.stopping_since.get().unwrap_or(self.timer.now()) + GRACE).await;
        });
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => over.as_mut().poll(context).map(|()| Err(Stopped)),
        })
        .await
    }

    /// `work`, with a line on the console now and then that says what is waited for.
    pub async fn saying<T>(&self, what: impl Display, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut lines = pin!(async {
            self.timer.sleep(FIRST_LINE).await;
            loop {
                log::info!(target: "vtpm", "Still waiting for {what}");
                self.timer.sleep(NEXT_LINE).await;
            }
        });
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => {
                let _: Poll<()> = lines.as_mut().poll(context);
                Poll::Pending
            }
        })
        .await
    }

    /// The outcome of `work`, or `None` if it takes longer than `duration`.
    pub async fn within<T>(&self, duration: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.timer.within(self.timer.now() + duration, work).await
    }

    /// Waits until a stop is requested.
    pub async fn stop_requested(&self) {
        poll_fn(|_| if self.stopping() { Poll::Ready(()) } else { Poll::Pending }).await
    }

    /// Waits until `ready` gives something; it is asked once in each turn of the loop.
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|_| ready().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.timer.sleep(duration).await
    }

    /// Lets the drivers step, between two steps of a long computation.
    pub async fn next_turn(&self) {
        self.timer.next_turn().await
    }
}
