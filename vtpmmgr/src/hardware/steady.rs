//! The one place that makes up for a chip that does not answer, was started anew, or answers garbage.
//!
//! An operation is repeated as a whole, since sessions and loaded keys do not outlive a restart of the chip. A chip that stays
//! away costs every later operation one short question only, until it answers again.

use super::{ChipError, Outlook};
use core::cell::Cell;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use frontback::looper::Timer;

/// The waits between attempts; one more attempt than there are waits.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

/// Turns at the chip, and what is known of its health.
pub struct Steady<'a> {
    timer: &'a Timer,
    busy: Cell<bool>,
    down: Cell<bool>,
}

/// The right to use the chip; given back when dropped.
struct Held<'s, 'a>(&'s Steady<'a>);

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        // Whoever waits was perhaps polled before this in the same turn.
        self.0.timer.wake_at(self.0.timer.now());
    }
}

impl<'a> Steady<'a> {
    pub const fn new(timer: &'a Timer) -> Self {
        Self { timer, busy: Cell::new(false), down: Cell::new(false) }
    }

    async fn turn(&self) -> Held<'_, 'a> {
        poll_fn(|_| match self.busy.replace(true) {
            true => Poll::Pending,
            false => Poll::Ready(Held(self)),
        })
        .await
    }

    /// Does `work`, one at a time, again if the chip was lost or reset. `restart` makes the chip ready: it starts a chip that
    /// was reset (and says whether it was) and frees what is left in it.
    pub async fn run<O>(
        &self,
        restart: impl AsyncFn() -> Result<bool, ChipError>,
        mut work: impl AsyncFnMut() -> Result<O, ChipError>,
    ) -> Result<O, ChipError> {
        let _held = self.turn().await;
        if self.down.get() {
            restart().await.map(started_anew)?;
        }
        let (mut pauses, mut doubted) = (PAUSES.iter(), false);
        loop {
            let error = match work().await {
                Err(error) if error.outlook() == Outlook::Doubtful && !doubted => {
                    doubted = true;
                    continue;
                }
                Err(error) if matches!(error.outlook(), Outlook::Lost | Outlook::Reset) => error,
                settled => {
                    if self.down.replace(false) {
                        log::info!(target: "vtpmmgr", "the TPM chip answers again");
                    }
                    return settled;
                }
            };
            let Some(pause) = pauses.next() else {
                self.down.set(true);
                return Err(error);
            };
            log::debug!(target: "vtpmmgr", "{error}; trying again");
            self.timer.sleep(*pause).await;
            // A chip that does not take this either is tried once more after the next pause.
            let _ = restart().await.map(started_anew);
        }
    }
}

fn started_anew(was_reset: bool) {
    if was_reset {
        log::warn!(
            target: "vtpmmgr",
            "the TPM chip was reset while the machine ran, and has been started again; its PCRs do not say any more what was started"
        );
    }
}
