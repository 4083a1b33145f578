//! The clock that images use.

use super::{pvclock, tsc};
use crate::cpu;
use crate::xen::{self, hypercall, shared_info};
use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::{Clock, Instant};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The latest time that was given out.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Xen's system time and wall clock. Without Xen, time since the image started by the time-stamp counter; the seconds since 1970
/// are seconds since then too, as nobody tells the date.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Xen,
    Counter { start: u64, hertz: u64 },
}

impl MachineClock {
    /// The clock of this machine; without Xen this measures the counter's rate.
    pub(crate) fn start() -> Self {
        let source =
            if xen::is_present() { Source::Xen } else { Source::Counter { hertz: tsc::hertz(), start: cpu::rdtsc() } };
        Self { source }
    }

    /// Nanoseconds since Xen booted, or since the image started. Never less than before, though Xen's own figures may step back a
    /// little when the domain moves to another processor.
    fn nanos(&self) -> u64 {
        let now = match self.source {
            Source::Xen => {
                let time = shared_info::vcpu_time();
                time.nanos(cpu::rdtsc())
            }
            Source::Counter { start, hertz } => pvclock::ticks_to_nanos(cpu::rdtsc().saturating_sub(start), hertz),
        };
        LATEST.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Waits, without regard to events. On Xen the processor goes to others; without it, it spins.
    pub fn sleep_until(&self, until: Instant) {
        while self.now() < until {
            match self.source {
                Source::Xen => hypercall::poll(&[], poll_timeout(until)),
                Source::Counter { .. } => hint::spin_loop(),
            }
        }
    }
}

/// `until` as SCHEDOP_poll wants it. Zero would mean for ever.
pub(crate) fn poll_timeout(until: Instant) -> u64 {
    until.as_millis().saturating_mul(NANOS_PER_MILLI).max(1)
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        Instant::from_millis(self.nanos() / NANOS_PER_MILLI)
    }

    fn unix_seconds(&self) -> u64 {
        match self.source {
            Source::Xen => shared_info::wall().seconds(self.nanos()),
            Source::Counter { .. } => self.now().as_millis() / 1000,
        }
    }
}
