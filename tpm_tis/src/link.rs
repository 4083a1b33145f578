//! A driver as a transport for `async` code.

use crate::chip::Chip;
use crate::crb::Crb;
use crate::desk::Ticket;
use crate::driver::Tis;
use crate::error::{SubmitError, TisError};
use crate::timeouts::DEFAULT_DURATION;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use tpm_wire::{Transport, TransportError};

/// A way to the chip through a driver that the loop steps. Copies may be used at the same time: one command is under way at
/// a time, the others wait. Dropping the future of a command cancels it ([`Submit::abandon`]).
///
/// The driver is borrowed only while a future is polled, so the loop must not poll it from inside a borrow of its own.
pub struct Link<'a, D> {
    driver: &'a RefCell<D>,
    duration: Duration,
}

/// A link through [`Tis`].
pub type TisLink<'a> = Link<'a, Tis>;
/// A link through [`Crb`].
pub type CrbLink<'a> = Link<'a, Crb>;
/// A link through [`Chip`].
pub type ChipLink<'a> = Link<'a, Chip>;

/// A driver that a [`Link`] can use: each one of this crate.
pub trait Submit {
    /// As [`Tis::submit`].
    fn submit(&mut self, command: &[u8], duration: Duration) -> Result<Ticket, SubmitError>;
    /// As [`Tis::take`].
    fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>>;
    /// As [`Tis::abandon`].
    fn abandon(&mut self, ticket: Ticket);
}

macro_rules! submit {
    ($($driver:ty),*) => {$(
        impl Submit for $driver {
            fn submit(&mut self, command: &[u8], duration: Duration) -> Result<Ticket, SubmitError> {
                <$driver>::submit(self, command, duration)
            }

            fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>> {
                <$driver>::take(self, ticket)
            }

            fn abandon(&mut self, ticket: Ticket) {
                <$driver>::abandon(self, ticket);
            }
        }
    )*};
}

submit!(Tis, Crb, Chip);

impl<D> Clone for Link<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Link<'_, D> {}

/// Abandons the command when dropped; that is without effect once the result was fetched.
struct Pending<'a, D: Submit> {
    driver: &'a RefCell<D>,
    ticket: Option<Ticket>,
}

impl<D: Submit> Drop for Pending<'_, D> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.driver.borrow_mut().abandon(ticket);
        }
    }
}

impl<'a, D: Submit> Link<'a, D> {
    /// A link whose commands may take [`DEFAULT_DURATION`].
    pub fn new(driver: &'a RefCell<D>) -> Self {
        Self { driver, duration: DEFAULT_DURATION }
    }

    /// The same link, whose commands may take `duration`.
    #[must_use]
    pub fn with_duration(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }
}

impl<D: Submit> Transport for Link<'_, D> {
    /// [`TransportError::TooLong`] also stands for a command whose header does not give its length. What the chip did wrong is
    /// logged in full here, since the caller gets no more than [`TransportError`].
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut pending = Pending { driver: self.driver, ticket: None };
        poll_fn(|_| {
            let mut driver = self.driver.borrow_mut();
            let Some(ticket) = pending.ticket else {
                return match driver.submit(command, self.duration) {
                    Ok(ticket) => {
                        pending.ticket = Some(ticket);
                        Poll::Pending
                    }
                    Err(SubmitError::Busy) => Poll::Pending,
                    Err(SubmitError::Malformed) => Poll::Ready(Err(TransportError::TooLong)),
                };
            };
            let Some(result) = driver.take(ticket) else { return Poll::Pending };
            if let Err(error) = result {
                log::error!(target: "tpm_tis", "{error}");
            }
            Poll::Ready(result.map_err(TransportError::from))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeouts;
    use crate::fake::{Answering, FakeCrb, FakeTis, Faults, Slow};
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};
    use xen_abi::Instant;

    fn echo(_: u8, command: &[u8]) -> Vec<u8> {
        command.to_vec()
    }

    const COMMAND: [u8; 12] = [0, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x46, 1, 2];
    const OTHER: [u8; 12] = [0, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x46, 3, 4];

    const ANSWER: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 7];

    fn driver() -> RefCell<Tis> {
        RefCell::new(Tis::new(0, Timeouts::DEFAULT).unwrap())
    }

    #[test]
    fn two_users_take_turns_and_each_gets_its_own_response() {
        let tis = driver();
        let mut chip = FakeTis::new(Answering(echo));
        let (one, two) = (TisLink::new(&tis), TisLink::new(&tis));
        let mut first = pin!(one.transmit(&COMMAND));
        let mut second = pin!(two.transmit(&OTHER));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut got_first, mut got_second) = (None, None);
        for ms in 1..100 {
            tis.borrow_mut().step(&mut chip, Instant::from_millis(ms));
            if got_first.is_none()
                && let Poll::Ready(result) = first.as_mut().poll(&mut cx)
            {
                got_first = Some(result);
            }
            if got_second.is_none()
                && let Poll::Ready(result) = second.as_mut().poll(&mut cx)
            {
                got_second = Some(result);
            }
        }
        assert_eq!(got_first, Some(Ok(COMMAND.to_vec())));
        assert_eq!(got_second, Some(Ok(OTHER.to_vec())));
        assert_eq!(chip.started, 2);
    }

    #[test]
    fn the_link_of_whatever_chip_carries_a_command() {
        let chip = RefCell::new(Chip::new(0, Timeouts::DEFAULT).unwrap());
        let mut bus = FakeCrb::new(Answering(|_, _: &[u8]| ANSWER.to_vec()));
        let link = ChipLink::new(&chip);
        let mut future = pin!(link.transmit(&COMMAND));
        for ms in 1..100 {
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return assert_eq!((result, bus.started), (Ok(ANSWER.to_vec()), 1));
            }
            chip.borrow_mut().step(&mut bus, Instant::from_millis(ms));
        }
        panic!("no end");
    }

    #[test]
    fn a_dropped_future_cancels_and_frees_the_driver() {
        let tis = driver();
        let mut chip = FakeTis::new(Slow::new(Answering(echo), u32::MAX));
        let link = TisLink::new(&tis);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut future = pin!(link.transmit(&COMMAND));
            for ms in 1..50 {
                assert!(future.as_mut().poll(&mut cx).is_pending());
                tis.borrow_mut().step(&mut chip, Instant::from_millis(ms));
            }
            assert_eq!(chip.started, 1);
        }
        for ms in 50..1000 {
            tis.borrow_mut().step(&mut chip, Instant::from_millis(ms));
        }
        assert_eq!((chip.engine.cancelled, tis.borrow().is_busy()), (1, false));
        // Never polled, or still waiting for its turn: nothing to cancel.
        drop(link.transmit(&COMMAND));
        assert!(!tis.borrow().is_busy());
    }

    #[test]
    fn errors_are_named_and_the_duration_is_the_link_s() {
        let tis = driver();
        let mut chip = FakeTis::new(Answering(echo)).with_faults(Faults { never_finishes: true, ..Faults::default() });
        let link = TisLink::new(&tis).with_duration(Duration::from_secs(3));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(link.transmit(&COMMAND[..9])).poll(&mut cx), Poll::Ready(Err(TransportError::TooLong)));
        let mut future = pin!(link.transmit(&COMMAND));
        for ms in 1..10_000 {
            if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
                assert_eq!(result, Err(TransportError::TimedOut));
                assert!((3000..6000).contains(&ms), "after {ms} ms");
                return;
            }
            tis.borrow_mut().step(&mut chip, Instant::from_millis(ms));
        }
        panic!("no end");
    }
}
