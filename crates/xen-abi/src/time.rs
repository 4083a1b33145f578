//! Time as a value. Drivers take `now` as an argument; only the image's loop asks a [`Clock`].

use core::ops::Add;
use core::time::Duration;

/// Monotonic time since an arbitrary start, in whole milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant {
    millis: u64,
}

impl Instant {
    /// The instant `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// Milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.millis.saturating_sub(earlier.millis))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        let millis = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        Instant { millis: self.millis.saturating_add(millis) }
    }
}

/// The machine's clocks.
pub trait Clock {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Seconds since 1970-01-01 00:00 UTC, as the host tells it.
    fn unix_seconds(&self) -> u64;
}
