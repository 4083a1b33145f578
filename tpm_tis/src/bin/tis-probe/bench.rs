//! The chip on the bench: registers, clock, driver, and the tally.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use tpm_tis::{
    BASE, Chip, ChipLink, DEFAULT_DURATION, Family, Interface, LOCALITIES, LOCALITY_SIZE, Timeouts, TisBus, TisError,
};
use tpm_wire::{ResponseHeader, Transport, Writer};
use xen_abi::Clock;
use xen_guest::{MachineClock, Mmio, MmioError};

/// The registers at [`BASE`].
pub struct Registers {
    mmio: Mmio,
    /// So many reads of FIFO bytes or buffer words are to be garbled, so that the response is asked for again.
    pub garble: u32,
    /// The register at this offset is to read as this.
    pub lie: Option<(usize, u32)>,
}

impl TisBus for Registers {
    fn read8(&mut self, offset: usize) -> u8 {
        let value = self.mmio.read_u8(offset).unwrap_or(u8::MAX);
        if self.garble > 0 && offset % LOCALITY_SIZE == 0x24 {
            self.garble -= 1;
            return !value;
        }
        value
    }

    fn read32(&mut self, offset: usize) -> u32 {
        let value = self.mmio.read_u32(offset).unwrap_or(u32::MAX);
        match self.lie {
            Some((of, lie)) if of == offset => lie,
            _ if self.garble > 0 && (0x80..0x100).contains(&offset) => {
                self.garble -= 1;
                !value
            }
            _ => value,
        }
    }

    // A write outside the registers goes nowhere, as on an empty bus.
    fn write8(&mut self, offset: usize, value: u8) {
        let _ = self.mmio.write_u8(offset, value);
    }

    fn write32(&mut self, offset: usize, value: u32) {
        let _ = self.mmio.write_u32(offset, value);
    }
}

/// A check that failed says why.
pub type Check = Result<(), String>;

/// Fails a check unless `holds`.
pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(why()) }
}

/// A command with `tag` and `ordinal` and the parameters that `fill` writes.
pub fn command(tag: u16, ordinal: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.u16(tag).u32(0).u32(ordinal);
    fill(&mut writer);
    let size = (out.len() as u32).to_be_bytes();
    if let Some(field) = out.get_mut(2..6) {
        field.copy_from_slice(&size);
    }
    out
}

/// What a check works with.
pub struct Bench {
    pub registers: Registers,
    pub chip: RefCell<Chip>,
    pub family: Family,
    pub interface: Interface,
    pub passed: u32,
    pub failed: u32,
    clock: MachineClock,
}

impl Bench {
    pub fn new(clock: MachineClock, family: Family, interface: Interface) -> Result<Self, MmioError> {
        let mmio = Mmio::map(BASE, u64::from(LOCALITIES) * LOCALITY_SIZE as u64)?;
        let registers = Registers { mmio, garble: 0, lie: None };
        let chip = RefCell::new(Self::driver(0));
        Ok(Self { registers, chip, family, interface, passed: 0, failed: 0, clock })
    }

    /// A driver for `locality`, which is one of 0 to 4.
    pub fn driver(locality: u8) -> Chip {
        Chip::new(locality, Timeouts::DEFAULT).expect("localities 0 to 4 exist")
    }

    /// Runs one check and writes its line.
    pub fn check(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Check) {
        match check(self) {
            Ok(()) => {
                self.passed += 1;
                log::info!(target: "probe", "ok {name}");
            }
            Err(why) => {
                self.failed += 1;
                log::info!(target: "probe", "FAILED {name}: {why}");
            }
        }
    }

    /// Steps the driver as an image's loop does until `future` is ready.
    fn drive<T>(
        registers: &mut Registers,
        chip: &RefCell<Chip>,
        clock: &MachineClock,
        future: impl Future<Output = T>,
    ) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            chip.borrow_mut().step(registers, clock.now());
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            let deadline = chip.borrow().deadline();
            clock.sleep_until(deadline.unwrap_or(clock.now()));
        }
    }

    /// Sends a command through the `async` link and checks that what comes back is a response.
    pub fn transmit(&mut self, command: &[u8]) -> Result<(u32, Vec<u8>), String> {
        let link = ChipLink::new(&self.chip);
        let response = Self::drive(&mut self.registers, &self.chip, &self.clock, link.transmit(command))
            .map_err(|error| format!("{error}"))?;
        let (header, body) = ResponseHeader::parse(&response).map_err(|error| format!("{error}"))?;
        Ok((header.code.get(), body.to_vec()))
    }

    /// The same; a return code other than 0 fails the check.
    pub fn succeed(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        match self.transmit(command)? {
            (0, body) => Ok(body),
            (code, _) => Err(format!("the TPM answered error {code:#x}")),
        }
    }

    /// The same, tried again for `limit` while the chip is still busy with what was aborted.
    pub fn succeed_within(&mut self, command: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
        let end = self.clock.now() + limit;
        loop {
            let outcome = self.succeed(command);
            if outcome.is_ok() || self.clock.now() >= end {
                return outcome;
            }
        }
    }

    /// The command must be answered with `code`.
    pub fn refuse(&mut self, command: &[u8], code: u32) -> Check {
        let (got, _) = self.transmit(command)?;
        ensure(got == code, || format!("the TPM answered {got:#x} instead of {code:#x}"))
    }

    /// Runs `command` at the driver itself, cancelling it `cancel_after` from now; the result and how long it took.
    pub fn raw(&mut self, command: &[u8], cancel_after: Option<Duration>) -> (Result<Vec<u8>, TisError>, Duration) {
        let start = self.clock.now();
        let chip = self.chip.get_mut();
        let ticket = match chip.submit(command, DEFAULT_DURATION) {
            Ok(ticket) => ticket,
            Err(error) => panic!("{error}"),
        };
        loop {
            let now = self.clock.now();
            if cancel_after.is_some_and(|after| now >= start + after) {
                chip.cancel(ticket);
            }
            chip.step(&mut self.registers, now);
            if let Some(result) = chip.take(ticket) {
                return (result, self.clock.now().since(start));
            }
            self.clock.sleep_until(chip.deadline().unwrap_or(now));
        }
    }

    /// Lets the driver give its locality back.
    pub fn leave(&mut self) {
        let now = self.clock.now();
        let chip = self.chip.get_mut();
        chip.leave();
        chip.step(&mut self.registers, now);
    }
}
