//! How long the chip may take.

use core::time::Duration;

/// What a command may take when nothing better is known: longer than any command of any chip (key generation included).
pub const DEFAULT_DURATION: Duration = Duration::from_secs(120);

/// What a chip reports is believed up to here; a wait must end whatever the chip says.
const CEILING: Duration = Duration::from_secs(30);

/// The interface timeouts (TIS 1.3, "Timeouts").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// `TIMEOUT_A`: a locality is granted, `TPM_ACCESS` becomes valid.
    pub a: Duration,
    /// `TIMEOUT_B`: the chip becomes ready for a command, or gives up a running one.
    pub b: Duration,
    /// `TIMEOUT_C`: `TPM_STS` becomes valid; a CRB becomes ready or idle.
    pub c: Duration,
    /// `TIMEOUT_D`: the burst count becomes more than zero. (TIS names D, PTP names A; the driver takes the longer.)
    pub d: Duration,
    /// Ours, not the specification's: one whole command or response through the FIFO, so that a chip which lets a byte pass
    /// just within every `TIMEOUT_D` does not hold the driver for an hour.
    pub transfer: Duration,
}

impl Timeouts {
    /// The specification's values.
    pub const DEFAULT: Self = Self {
        a: Duration::from_millis(750),
        b: Duration::from_millis(2000),
        c: Duration::from_millis(750),
        d: Duration::from_millis(750),
        transfer: Duration::from_secs(10),
    };

    /// These timeouts, raised (never lowered) to what the chip says in `TPM_CAP_PROP_TIS_TIMEOUT`: A, B, C, D in
    /// microseconds. Values below 1000 are taken as milliseconds, as chips exist that answer so. Raised to 30 s at most.
    #[must_use]
    pub fn raised_to(self, reported: [u32; 4]) -> Self {
        let raise = |ours: Duration, reported: u32| {
            let theirs = match reported {
                0..1000 => Duration::from_millis(reported.into()),
                _ => Duration::from_micros(reported.into()),
            };
            ours.max(theirs.min(CEILING))
        };
        let [a, b, c, d] = reported;
        Self { a: raise(self.a, a), b: raise(self.b, b), c: raise(self.c, c), d: raise(self.d, d), ..self }
    }

    pub(crate) fn burst(&self) -> Duration {
        self.a.max(self.d)
    }

    /// The longest that a command allowed `duration` to run can take from its first step to its result, if the driver is
    /// stepped whenever its deadline says: twice the way in, the run, twice the way out, and giving up.
    /// Enough for a CRB too, whose way in and out is shorter: no transfer takes time there.
    pub fn longest(&self, duration: Duration) -> Duration {
        let glitch = self.c;
        let give_up = self.b + glitch;
        let way_in = self.a + self.b + self.transfer + self.c + 4 * glitch + give_up;
        let way_out = self.transfer + self.c + 2 * glitch;
        2 * way_in + duration + self.b + glitch + 2 * way_out + give_up
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chip_can_only_raise_and_not_without_end() {
        let base = Timeouts::DEFAULT;
        assert_eq!(base.raised_to([0; 4]), base);
        assert_eq!(base.raised_to([1, 1000, 749_000, 750_000]), base);
        let raised = base.raised_to([800, 3_000_000, u32::MAX, 751_000]);
        assert_eq!(raised.a, Duration::from_millis(800), "small numbers are milliseconds");
        assert_eq!(raised.b, Duration::from_secs(3));
        assert_eq!(raised.c, CEILING);
        assert_eq!(raised.d, Duration::from_millis(751));
    }
}
