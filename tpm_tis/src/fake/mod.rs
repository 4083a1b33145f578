//! Chips at register level for tests: [`FakeTis`] behaves as TIS 1.3 says, except where a [`Faults`] knob is turned, and
//! notes what the driver does against the specification; [`FakeCrb`] with [`CrbFaults`] likewise after PTP; [`NoiseBus`] answers
//! at random.

mod crb;
mod engines;
mod faults;
mod noise;

pub use crb::{CrbFaults, FakeCrb};
pub use engines::{Answering, Slow};
pub use faults::Faults;
pub use noise::NoiseBus;

use crate::regs::{
    ACCESS, DATA_FIFO, DID_VID, INTERFACE_ID, INTF_CAPABILITY, LOCALITIES, LOCALITY_SIZE, RID, STS, STS_HIGH, TisBus,
    access, sts,
};
use alloc::vec::Vec;
use tpm_wire::{Engine, Progress, ResponseHeader};

/// The FIFO's size, and the burst count of an honest chip at most.
const FIFO_SIZE: usize = 4096;
/// Interface versions in `TPM_INTF_CAPABILITY`: TIS 1.3, and PTP for TPM 2.0.
const CAPABILITY_TIS13: u32 = 2 << 28;
const CAPABILITY_PTP: u32 = 3 << 28;
/// `tpmFamily` = TPM 2.0 in `TPM_STS` (PTP).
const STS_FAMILY_20: u32 = 1 << 26;
/// `TPM_ST_NO_SESSIONS`, `TPM_RC_CANCELED` (TPM 2.0, part 2).
const TAG_20: u16 = 0x8001;
const RC_CANCELED: u32 = 0x909;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chip {
    Idle,
    Ready,
    Reception,
    Execution,
    Completion,
}

/// A chip around an engine. What the engine stages is committed at once.
pub struct FakeTis<E> {
    /// The engine that answers.
    pub engine: E,
    /// How it misbehaves; may be changed at any time.
    pub faults: Faults,
    /// What the driver did against the specification.
    pub violations: Vec<&'static str>,
    /// Commands that were started.
    pub started: u32,
    /// Register accesses so far.
    pub accesses: u64,
    tpm20: bool,
    interface_id: u32,
    chip: Chip,
    active: Option<u8>,
    requests: [bool; LOCALITIES as usize],
    seized: [bool; LOCALITIES as usize],
    input: Vec<u8>,
    output: Vec<u8>,
    response: Vec<u8>,
    /// Bytes of `output` read so far.
    given: usize,
    /// Readings of the present response.
    readings: u32,
    running: Option<Progress>,
    fifo_bytes: usize,
    offered: usize,
    pauses: u32,
    late: u32,
}

impl<E: Engine> FakeTis<E> {
    /// An honest TPM 1.2 chip.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            faults: Faults::default(),
            violations: Vec::new(),
            started: 0,
            accesses: 0,
            tpm20: false,
            interface_id: u32::MAX,
            chip: Chip::Idle,
            active: None,
            requests: [false; LOCALITIES as usize],
            seized: [false; LOCALITIES as usize],
            input: Vec::new(),
            output: Vec::new(),
            response: Vec::new(),
            given: 0,
            readings: 0,
            running: None,
            fifo_bytes: 0,
            offered: 0,
            pauses: 0,
            late: 0,
        }
    }

    /// An honest TPM 2.0 chip.
    pub fn new20(engine: E) -> Self {
        Self { tpm20: true, interface_id: 0, ..Self::new(engine) }
    }

    /// A chip whose `TPM_INTERFACE_ID` reads as `id`.
    #[must_use]
    pub fn with_interface_id(self, id: u32) -> Self {
        Self { interface_id: id, ..self }
    }

    /// The same chip, misbehaving.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Software at `locality` (0 to 4) asks for the chip; it gets it once it is free.
    pub fn request_from(&mut self, locality: u8) {
        self.set_access(locality, access::REQUEST_USE);
    }

    /// Software at `locality` (0 to 4) gives the chip up.
    pub fn release_from(&mut self, locality: u8) {
        self.set_access(locality, access::ACTIVE);
    }

    /// The locality that holds the chip.
    pub fn active_locality(&self) -> Option<u8> {
        self.active
    }

    /// Whether `beenSeized` is set for `locality`.
    pub fn is_seized(&self, locality: u8) -> bool {
        self.seized.get(usize::from(locality)) == Some(&true)
    }

    fn violation(&mut self, what: &'static str) {
        self.violations.push(what);
    }

    fn take_away(&mut self) {
        if let Some(from) = self.active.take() {
            if let Some(mark) = self.seized.get_mut(usize::from(from)) {
                *mark = true;
            }
            self.active = Some(4).filter(|_| from != 4);
            self.reset_to(Chip::Idle);
        }
    }

    fn reset_to(&mut self, chip: Chip) {
        if self.running == Some(Progress::Working) {
            self.engine.cancel();
        }
        self.running = None;
        self.input.clear();
        self.output.clear();
        self.given = 0;
        self.chip = chip;
        self.pauses = self.faults.burst_pauses;
    }

    fn access(&mut self, locality: u8) -> u8 {
        let at = usize::from(locality);
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let others = self.requests.iter().enumerate().any(|(of, &wants)| wants && of != at);
        bit(!self.faults.access_invalid, access::VALID)
            | bit(self.active == Some(locality), access::ACTIVE)
            | bit(self.is_seized(locality), access::BEEN_SEIZED)
            | bit(others, access::PENDING)
            | bit(self.requests.get(at) == Some(&true), access::REQUEST_USE)
            | 1
    }

    fn set_access(&mut self, locality: u8, bits: u8) {
        let at = usize::from(locality);
        match bits {
            access::REQUEST_USE if self.active.is_none() && !self.faults.refuse_locality => {
                self.active = Some(locality);
            }
            access::REQUEST_USE if self.active != Some(locality) => {
                if let Some(request) = self.requests.get_mut(at) {
                    *request = true;
                }
            }
            access::REQUEST_USE => {}
            access::ACTIVE if self.active == Some(locality) => {
                self.reset_to(Chip::Idle);
                let next = self.requests.iter().rposition(|&wants| wants).filter(|_| !self.faults.refuse_locality);
                if let Some(request) = next.and_then(|next| self.requests.get_mut(next)) {
                    *request = false;
                }
                self.active = next.and_then(|next| u8::try_from(next).ok());
            }
            access::ACTIVE => {
                if let Some(request) = self.requests.get_mut(at) {
                    *request = false;
                }
            }
            access::BEEN_SEIZED => {
                if let Some(mark) = self.seized.get_mut(at) {
                    *mark = false;
                }
            }
            _ => self.violation("TPM_ACCESS written with anything but one of its bits"),
        }
    }

    /// Bytes that the command still lacks, as far as its header tells.
    fn lacks(&self) -> usize {
        let size = match self.input.get(2..6) {
            Some(&[a, b, c, d]) => usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX).max(6),
            _ => 6.max(self.input.len() + 1),
        };
        size.saturating_sub(self.input.len())
    }

    fn status(&mut self) -> u32 {
        if let Some(stuck) = self.faults.stuck_status {
            return stuck;
        }
        self.run();
        let expects = match self.faults {
            Faults { expect_stays: true, .. } => true,
            Faults { expect_ends_at: Some(end), .. } if self.input.len() >= end => false,
            _ => self.lacks() > 0,
        };
        let (flags, room) = match self.chip {
            Chip::Idle => (0, 0),
            Chip::Ready => (sts::COMMAND_READY, FIFO_SIZE),
            Chip::Reception => (if expects { sts::EXPECT } else { 0 }, FIFO_SIZE.saturating_sub(self.input.len())),
            Chip::Execution => (0, 0),
            Chip::Completion if self.late > 0 => {
                self.late -= 1;
                (0, 0)
            }
            Chip::Completion => {
                let rest = self.output.len() - self.given;
                (if rest > 0 { sts::DATA_AVAIL } else { 0 }, rest)
            }
        };
        let early = if self.faults.early_data && self.chip != Chip::Idle { sts::DATA_AVAIL } else { 0 };
        let mut burst = room.min(self.faults.burst.map_or(FIFO_SIZE, usize::from));
        if self.pauses > 0 {
            self.pauses -= 1;
            burst = 0;
        } else if burst > 0 {
            self.pauses = self.faults.burst_pauses;
        }
        self.offered = burst;
        let family = if self.tpm20 { STS_FAMILY_20 } else { 0 };
        let first = (sts::VALID | flags | early) & !self.faults.status_clear;
        family | (burst as u32) << 8 | u32::from(first)
    }

    fn set_status(&mut self, bits: u8) {
        if !bits.is_power_of_two() {
            self.violation("TPM_STS written with more than one bit");
        }
        match (bits, self.chip) {
            (sts::COMMAND_READY, Chip::Idle | Chip::Ready) => self.reset_to(Chip::Ready),
            (sts::COMMAND_READY, Chip::Execution) if self.faults.never_finishes || self.faults.deaf => {}
            (sts::COMMAND_READY, Chip::Completion) if self.faults.eager_ready => self.reset_to(Chip::Ready),
            (sts::COMMAND_READY, _) => self.reset_to(Chip::Idle),
            (sts::GO, Chip::Reception) => self.go(),
            (sts::RESPONSE_RETRY, Chip::Completion) => {
                self.readings += 1;
                self.load_output();
            }
            _ => self.violation("TPM_STS bit written in the wrong state"),
        }
    }

    fn go(&mut self) {
        if self.lacks() > 0 {
            self.violation("tpmGo before the command's end");
            return;
        }
        if self.faults.drop_commands > 0 {
            self.faults.drop_commands -= 1;
            return self.reset_to(Chip::Ready);
        }
        self.started += 1;
        self.chip = Chip::Execution;
        self.readings = 0;
        self.late = self.faults.late_data;
        self.response.clear();
        let locality = self.active.unwrap_or(0);
        let command = core::mem::take(&mut self.input);
        self.running = Some(self.engine.execute(locality, &command, &mut self.response));
        if self.faults.take_locality_in_execution {
            self.take_away();
        }
    }

    /// Lets a running command come to its end.
    fn run(&mut self) {
        if self.chip != Chip::Execution || self.faults.never_finishes {
            return;
        }
        match self.running {
            Some(Progress::Working) => self.running = Some(self.engine.resume(&mut self.response)),
            Some(Progress::Done) => {
                if self.engine.staged().is_some() {
                    self.engine.committed();
                }
                self.running = None;
                self.chip = Chip::Completion;
                self.load_output();
            }
            None => {}
        }
    }

    fn load_output(&mut self) {
        self.output.clone_from(&self.response);
        self.given = 0;
        if self.faults.wrong_once && self.readings > 0 {
            return;
        }
        if let (Some(size), Some(field)) = (self.faults.response_size, self.output.get_mut(2..6)) {
            field.copy_from_slice(&size.to_be_bytes());
        }
        let kept = self.output.len().saturating_sub(self.faults.missing);
        self.output.truncate(kept);
        self.output.resize(kept + self.faults.surplus, 0xa5);
    }

    fn cancel_command(&mut self) {
        if !self.tpm20 {
            self.violation("commandCancel on a TPM 1.2");
        } else if self.chip == Chip::Execution && self.running == Some(Progress::Working) {
            self.engine.cancel();
            self.response = ResponseHeader::bare(TAG_20, RC_CANCELED).to_vec();
            self.running = Some(Progress::Done);
        }
    }

    fn count_fifo_byte(&mut self) {
        self.fifo_bytes += 1;
        if self.offered == 0 {
            self.violation("FIFO accessed beyond the burst count");
        }
        self.offered = self.offered.saturating_sub(1);
        if self.faults.take_locality_after.is_some_and(|after| self.fifo_bytes > after) {
            self.faults.take_locality_after = None;
            self.take_away();
        }
    }

    fn fifo_read(&mut self) -> u8 {
        if self.chip != Chip::Completion {
            self.violation("FIFO read while there is no response");
            return 0xff;
        }
        let byte = self.output.get(self.given).copied();
        self.count_fifo_byte();
        self.given = self.given.saturating_add(1).min(self.output.len());
        byte.unwrap_or(0xff)
    }

    fn fifo_write(&mut self, byte: u8) {
        match self.chip {
            Chip::Ready => self.chip = Chip::Reception,
            Chip::Reception => {}
            _ => return self.violation("FIFO written while the chip is not ready"),
        }
        if self.lacks() == 0 || self.input.len() >= FIFO_SIZE {
            self.violation("FIFO written after the command's end");
        } else {
            self.input.push(byte);
        }
        self.count_fifo_byte();
    }

    /// Whether this access meets a bus that reads as ones.
    fn dead(&mut self) -> bool {
        let at = self.accesses;
        self.accesses += 1;
        self.faults.ones.is_some_and(|(from, count)| at >= from && at - from < count)
    }

    fn split(offset: usize) -> Option<(u8, usize)> {
        let locality = u8::try_from(offset / LOCALITY_SIZE).ok().filter(|&l| l < LOCALITIES)?;
        Some((locality, offset % LOCALITY_SIZE))
    }
}

impl<E: Engine> TisBus for FakeTis<E> {
    fn read8(&mut self, offset: usize) -> u8 {
        let dead = self.dead();
        match Self::split(offset) {
            _ if dead => 0xff,
            Some((locality, ACCESS)) => self.access(locality),
            Some((locality, DATA_FIFO)) if self.active == Some(locality) => self.fifo_read(),
            Some((locality, STS)) if self.active == Some(locality) => self.status().to_le_bytes()[0],
            Some((_, RID)) => 1,
            Some(_) => 0xff,
            None => {
                self.violation("read outside the registers");
                0xff
            }
        }
    }

    fn read32(&mut self, offset: usize) -> u32 {
        let dead = self.dead();
        match Self::split(offset) {
            _ if dead => u32::MAX,
            Some((locality, STS)) if self.active == Some(locality) => self.status(),
            Some((_, INTF_CAPABILITY)) if self.tpm20 => CAPABILITY_PTP,
            Some((_, INTF_CAPABILITY)) => CAPABILITY_TIS13,
            Some((_, INTERFACE_ID)) => self.interface_id,
            Some((_, DID_VID)) => 0x0001_f4ce,
            Some(_) => u32::MAX,
            None => {
                self.violation("read outside the registers");
                u32::MAX
            }
        }
    }

    fn write8(&mut self, offset: usize, value: u8) {
        let dead = self.dead();
        match Self::split(offset) {
            _ if dead => {}
            Some((locality, ACCESS)) => self.set_access(locality, value),
            // An inactive locality's registers ignore writes; a driver that lost its own cannot know at once.
            Some((locality, _)) if self.active != Some(locality) => {}
            Some((_, STS)) => self.set_status(value),
            Some((_, STS_HIGH)) => self.cancel_command(),
            Some((_, DATA_FIFO)) => self.fifo_write(value),
            Some(_) => self.violation("write to a register that the driver has no business with"),
            None => self.violation("write outside the registers"),
        }
    }

    fn write32(&mut self, _offset: usize, _value: u32) {
        self.violation("32-bit write");
    }
}
