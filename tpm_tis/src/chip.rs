//! The driver that fits the chip.

use crate::crb::Crb;
use crate::desk::Ticket;
use crate::driver::Tis;
use crate::error::{BadLocality, SubmitError, TisError};
use crate::identity::{Identity, Interface};
use crate::regs::{BASE, INTERFACE_ID, TisBus};
use crate::timeouts::Timeouts;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::Instant;

/// [`Tis`] or [`Crb`], chosen by the chip's interface id when a command comes and again with every command until the chip
/// was identified, so that one that is away at the start is no harm. The face is that of [`Tis`].
pub struct Chip {
    base: u64,
    driver: Driver,
}

enum Driver {
    Fifo(Tis),
    Crb(Crb),
}

/// The same call at either driver.
macro_rules! either {
    ($chip:expr, $driver:ident => $call:expr) => {
        match $chip {
            Driver::Fifo($driver) => $call,
            Driver::Crb($driver) => $call,
        }
    };
}

impl Chip {
    /// A driver that uses `locality` (0 to 4). It touches the chip only once a command comes.
    pub fn new(locality: u8, timeouts: Timeouts) -> Result<Self, BadLocality> {
        Ok(Self { base: BASE, driver: Driver::Fifo(Tis::new(locality, timeouts)?) })
    }

    /// The same driver, where the window of the registers is at the physical address `base` instead of [`BASE`]. To be called
    /// before the first command.
    #[must_use]
    pub fn at(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// The locality that commands are sent at.
    pub fn locality(&self) -> u8 {
        either!(&self.driver, driver => driver.locality())
    }

    /// The timeouts in use.
    pub fn timeouts(&self) -> Timeouts {
        either!(&self.driver, driver => driver.timeouts())
    }

    /// Replaces the timeouts, usually by [`Timeouts::raised_to`]; waits already begun keep theirs.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        either!(&mut self.driver, driver => driver.set_timeouts(timeouts));
    }

    /// Which chip it is; known once a first command came as far as the chip.
    pub fn identity(&self) -> Option<Identity> {
        either!(&self.driver, driver => driver.identity())
    }

    /// As [`Tis::submit`] and [`Crb::submit`].
    pub fn submit(&mut self, command: &[u8], duration: Duration) -> Result<Ticket, SubmitError> {
        either!(&mut self.driver, driver => driver.submit(command, duration))
    }

    /// As [`Tis::is_busy`].
    pub fn is_busy(&self) -> bool {
        either!(&self.driver, driver => driver.is_busy())
    }

    /// As [`Tis::take`].
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, TisError>> {
        either!(&mut self.driver, driver => driver.take(ticket))
    }

    /// As [`Tis::cancel`] and [`Crb::cancel`].
    pub fn cancel(&mut self, ticket: Ticket) {
        either!(&mut self.driver, driver => driver.cancel(ticket));
    }

    /// As [`Tis::abandon`].
    pub fn abandon(&mut self, ticket: Ticket) {
        either!(&mut self.driver, driver => driver.abandon(ticket));
    }

    /// As [`Tis::leave`].
    pub fn leave(&mut self) {
        either!(&mut self.driver, driver => driver.leave());
    }

    /// As [`Tis::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        either!(&self.driver, driver => driver.deadline())
    }

    /// As [`Tis::step`].
    pub fn step<B: TisBus>(&mut self, bus: &mut B, now: Instant) {
        let begins = either!(&self.driver, driver => driver.is_at_start() && driver.identity().is_none());
        if begins {
            self.choose(bus);
        }
        either!(&mut self.driver, driver => driver.step(bus, now));
    }

    /// Puts the driver in place that the chip's interface asks for; the command goes with it.
    fn choose<B: TisBus>(&mut self, bus: &mut B) {
        let (locality, timeouts) = (self.locality(), self.timeouts());
        // Locality 0 is there on every chip.
        let interface = Interface::of(bus.read32(INTERFACE_ID));
        let new = match (&mut self.driver, interface) {
            (Driver::Fifo(tis), Interface::Crb) => {
                Driver::Crb(Crb::with_desk(locality, timeouts, self.base, core::mem::take(tis.desk())))
            }
            (Driver::Crb(crb), Interface::Fifo) => {
                Driver::Fifo(Tis::with_desk(locality, timeouts, core::mem::take(crb.desk())))
            }
            _ => return,
        };
        self.driver = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Answering, CrbFaults, FakeCrb, FakeTis, NoiseBus};
    use crate::{DEFAULT_DURATION, Family, LOCALITY_SIZE};

    const COMMAND: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 1, 2];
    const ANSWER: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 7];

    type Fixed = Answering<fn(u8, &[u8]) -> Vec<u8>>;

    fn answering() -> Fixed {
        Answering(|_, _| ANSWER.to_vec())
    }

    fn run<B: TisBus>(chip: &mut Chip, bus: &mut B) -> Result<Vec<u8>, TisError> {
        let ticket = chip.submit(&COMMAND, DEFAULT_DURATION).unwrap();
        assert!(chip.is_busy());
        let mut now = Instant::from_millis(1_000_000);
        for _ in 0..100_000 {
            chip.step(bus, now);
            if let Some(result) = chip.take(ticket) {
                return result;
            }
            now = now.max(chip.deadline().expect("a command under way has a deadline"));
        }
        panic!("no end");
    }

    fn chip(locality: u8) -> Chip {
        Chip::new(locality, Timeouts::DEFAULT).unwrap()
    }

    #[test]
    fn the_interface_decides_which_driver_works() {
        let mut chip12 = chip(0);
        let mut bus = FakeTis::new(answering());
        assert_eq!(run(&mut chip12, &mut bus), Ok(ANSWER.to_vec()));
        let id = chip12.identity().unwrap();
        assert_eq!((id.family(), id.interface(), bus.violations.len()), (Family::Tpm12, Interface::Fifo, 0));

        let mut fifo20 = chip(3);
        let mut bus = FakeTis::new20(answering());
        assert_eq!(run(&mut fifo20, &mut bus), Ok(ANSWER.to_vec()));
        let id = fifo20.identity().unwrap();
        assert_eq!((id.family(), id.interface(), bus.active_locality()), (Family::Tpm20, Interface::Fifo, Some(3)));
        fifo20.leave();
        fifo20.step(&mut bus, Instant::from_millis(2_000_000));
        assert_eq!((bus.active_locality(), bus.violations), (None, Vec::new()));

        for locality in 0..5 {
            let mut crb = chip(locality);
            let mut bus = FakeCrb::new(answering());
            for _ in 0..2 {
                assert_eq!(run(&mut crb, &mut bus), Ok(ANSWER.to_vec()));
            }
            let id = crb.identity().unwrap();
            assert_eq!((id.family(), id.interface(), bus.started), (Family::Tpm20, Interface::Crb, 2));
            assert_eq!((crb.locality(), bus.violations), (locality, Vec::new()));
        }
        assert_eq!(Chip::new(5, Timeouts::DEFAULT).err(), Some(BadLocality(5)));
    }

    #[test]
    fn settings_tickets_and_the_window_s_place_go_with_the_command_to_the_other_driver() {
        let base = BASE + LOCALITY_SIZE as u64;
        let named = Some((BASE + 0x1080, 0xf80));
        let faults = CrbFaults { command_buffer: named, response_buffer: named, ..CrbFaults::default() };
        let raised = Timeouts::DEFAULT.raised_to([2_000_000; 4]);
        let mut crb = chip(0).at(base);
        crb.set_timeouts(raised);
        let mut bus = FakeCrb::new(answering()).with_faults(faults);
        // As the driver sees it the buffer is at 0x80, where the fake chip has none.
        assert!(run(&mut crb, &mut bus).is_err());
        assert!(bus.violations.contains(&"a command written outside its buffer"), "{:?}", bus.violations);
        assert_eq!(crb.timeouts(), raised);

        let mut crb = chip(0);
        let cancelled = crb.submit(&COMMAND, DEFAULT_DURATION).unwrap();
        crb.cancel(cancelled);
        let mut bus = FakeCrb::new(answering());
        crb.step(&mut bus, Instant::from_millis(5));
        assert_eq!((crb.take(cancelled), bus.started), (Some(Err(TisError::Cancelled)), 0));
        let abandoned = crb.submit(&COMMAND, DEFAULT_DURATION).unwrap();
        assert_ne!(abandoned, cancelled);
        crb.abandon(abandoned);
        crb.step(&mut bus, Instant::from_millis(10));
        assert!(!crb.is_busy());
        assert_eq!(run(&mut crb, &mut bus), Ok(ANSWER.to_vec()));
    }

    #[test]
    fn a_chip_that_comes_late_is_found_whichever_it_is() {
        let away = || CrbFaults { ones: Some((0, u64::MAX)), ..CrbFaults::default() };
        let mut chip = chip(0);
        let mut crb = FakeCrb::new(answering()).with_faults(away());
        assert_eq!(run(&mut chip, &mut crb), Err(TisError::NoChip));
        crb.faults = CrbFaults::default();
        // A CRB that is there and does not let itself be used: the choice is made anew until a chip was identified.
        let mut broken = FakeCrb::new(answering())
            .with_faults(CrbFaults { stuck: alloc::vec![(0x34, u32::MAX)], ..CrbFaults::default() });
        assert_eq!(run(&mut chip, &mut broken), Err(TisError::NoChip));
        assert_eq!(run(&mut chip, &mut FakeTis::new(answering())), Ok(ANSWER.to_vec()));
        // From now on it is a FIFO.
        assert!(run(&mut chip, &mut crb).is_err());
        assert_eq!((crb.started, chip.identity().map(|id| id.interface())), (0, Some(Interface::Fifo)));
    }

    #[test]
    fn without_a_command_nothing_is_touched() {
        let (mut chip, mut bus) = (chip(0), FakeCrb::new(answering()));
        chip.step(&mut bus, Instant::from_millis(5));
        chip.leave();
        chip.step(&mut bus, Instant::from_millis(10));
        assert_eq!((bus.accesses, chip.deadline(), bus.violations), (0, None, Vec::new()));
    }

    #[test]
    fn noise_always_ends() {
        for seed in 0..500 {
            let mut chip = chip(0);
            for _ in 0..3 {
                let _ = run(&mut chip, &mut NoiseBus::new_crb(seed));
                let _ = run(&mut chip, &mut NoiseBus::new(seed));
            }
        }
    }
}
