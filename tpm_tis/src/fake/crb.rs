//! A chip with the CRB interface.

use crate::crb::regs::{
    CMD_ADDRESS, CMD_SIZE, CTRL_CANCEL, CTRL_REQ, CTRL_START, CTRL_STS, DATA_BUFFER, INTF_ID_HIGH, INVOKE, LOC_CTRL,
    LOC_STATE, LOC_STS, RSP_ADDRESS, RSP_SIZE, ctrl_req, ctrl_sts, loc_ctrl, loc_state, loc_sts,
};
use crate::regs::{BASE, INTERFACE_ID, LOCALITIES, LOCALITY_SIZE, TisBus};
use alloc::vec;
use alloc::vec::Vec;
use tpm_wire::{Engine, HEADER_SIZE, Progress, ResponseHeader};

use super::{RC_CANCELED, TAG_20};

/// Type CRB, version 1, five localities, CRB supported and selected, revision 3.
const ID: u32 = 0x0302_4111;
/// Bytes of a page's data buffer.
const PAGE_BUFFER: u32 = 0xf80;
/// `TPM_RC_COMMAND_SIZE` (TPM 2.0, part 2).
const RC_COMMAND_SIZE: u32 = 0x142;
const WINDOW: usize = LOCALITIES as usize * LOCALITY_SIZE;

/// The ways to misbehave. All off is an honest chip.
#[derive(Clone, Default, Debug)]
pub struct CrbFaults {
    /// Every register reads as ones from this access on (counted from 0), for so many accesses; writes are lost.
    pub ones: Option<(u64, u64)>,
    /// These registers (offsets in a page) read as this.
    pub stuck: Vec<(usize, u32)>,
    /// No locality is ever granted.
    pub refuse_locality: bool,
    /// The locality is taken away at this access.
    pub take_locality_at: Option<u64>,
    /// The locality is taken away while a command runs.
    pub take_locality_in_execution: bool,
    /// The chip is reset at this access: it is idle, its locality free, its memory full of ones.
    pub reset_at: Option<u64>,
    /// The locality is still granted after the reset.
    pub reset_keeps_locality: bool,
    /// `cmdReady` is obeyed after so many looks at `TPM_CRB_CTRL_STS`.
    pub slow_ready: u32,
    /// `cmdReady` is never obeyed.
    pub never_ready: bool,
    /// There is no idle state: `goIdle` leads to Ready.
    pub never_idle: bool,
    /// `tpmSts` shows a fatal error after each command.
    pub fails: bool,
    /// A command never ends, and cannot be cancelled.
    pub never_finishes: bool,
    /// A running command cannot be cancelled but ends.
    pub deaf: bool,
    /// The first so many commands are dropped at `Start`, and the chip is idle (it was reset).
    pub drop_commands: u32,
    /// Commands end, but no response is put in the buffer.
    pub mute: bool,
    /// The size field of every response reads as this.
    pub response_size: Option<u32>,
    /// Only the first reading of a response's size is wrong.
    pub wrong_once: bool,
    /// The address and size that are named for commands.
    pub command_buffer: Option<(u64, u32)>,
    /// The address and size that are named for responses.
    pub response_buffer: Option<(u64, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Ready,
    Reception,
    Execution,
    Completion,
}

/// A TPM 2.0 chip around an engine. What the engine stages is committed at once. Each locality's buffer is its page's data
/// buffer, for commands and responses, unless [`CrbFaults`] name others.
pub struct FakeCrb<E> {
    /// The engine that answers.
    pub engine: E,
    /// How it misbehaves; may be changed at any time.
    pub faults: CrbFaults,
    /// What the driver did against the specification.
    pub violations: Vec<&'static str>,
    /// Commands that were started.
    pub started: u32,
    /// Register accesses so far.
    pub accesses: u64,
    interface_id: u32,
    state: State,
    failed: bool,
    request: u32,
    looks: u32,
    cancel: bool,
    active: Option<u8>,
    requests: [bool; LOCALITIES as usize],
    seized: [bool; LOCALITIES as usize],
    memory: Vec<u8>,
    response: Vec<u8>,
    /// Where the present response lies.
    response_at: usize,
    right_size: Option<[u8; 4]>,
    running: Option<Progress>,
}

impl<E: Engine> FakeCrb<E> {
    /// An honest chip.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            faults: CrbFaults::default(),
            violations: Vec::new(),
            started: 0,
            accesses: 0,
            interface_id: ID,
            state: State::Idle,
            failed: false,
            request: 0,
            looks: 0,
            cancel: false,
            active: None,
            requests: [false; LOCALITIES as usize],
            seized: [false; LOCALITIES as usize],
            memory: vec![0; WINDOW],
            response: Vec::new(),
            response_at: 0,
            right_size: None,
            running: None,
        }
    }

    /// The same chip, misbehaving.
    #[must_use]
    pub fn with_faults(self, faults: CrbFaults) -> Self {
        Self { faults, ..self }
    }

    /// A chip whose `TPM_CRB_INTF_ID` reads as `id`.
    #[must_use]
    pub fn with_interface_id(self, id: u32) -> Self {
        Self { interface_id: id, ..self }
    }

    /// Software at `locality` (0 to 4) asks for the chip; it gets it once it is free.
    pub fn request_from(&mut self, locality: u8) {
        self.loc_ctrl(locality, loc_ctrl::REQUEST_ACCESS);
    }

    /// Software at `locality` (0 to 4) gives the chip up.
    pub fn release_from(&mut self, locality: u8) {
        self.loc_ctrl(locality, loc_ctrl::RELINQUISH);
    }

    /// The locality that holds the chip.
    pub fn active_locality(&self) -> Option<u8> {
        self.active
    }

    /// Whether `beenSeized` is set for `locality`.
    pub fn is_seized(&self, locality: u8) -> bool {
        self.seized.get(usize::from(locality)) == Some(&true)
    }

    /// Whether the chip was left in its idle state.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    fn violation(&mut self, what: &'static str) {
        self.violations.push(what);
    }

    fn abort(&mut self) {
        if self.running.take() == Some(Progress::Working) {
            self.engine.cancel();
        }
    }

    fn take_away(&mut self) {
        if let Some(from) = self.active.take() {
            if let Some(mark) = self.seized.get_mut(usize::from(from)) {
                *mark = true;
            }
            self.active = Some(4).filter(|_| from != 4);
            self.abort();
            self.state = State::Idle;
        }
    }

    fn reset(&mut self) {
        self.abort();
        self.state = State::Idle;
        self.active = self.active.filter(|_| self.faults.reset_keeps_locality);
        (self.failed, self.cancel, self.request) = (false, false, 0);
        self.memory.fill(0xff);
    }

    fn loc_ctrl(&mut self, locality: u8, bits: u32) {
        let at = usize::from(locality);
        let mine = self.active == Some(locality);
        match bits {
            loc_ctrl::REQUEST_ACCESS => {
                if self.active.is_none() && !self.faults.refuse_locality {
                    self.active = Some(locality);
                }
                let granted = self.active == Some(locality);
                if let (Some(request), Some(mark)) = (self.requests.get_mut(at), self.seized.get_mut(at)) {
                    *request = !granted;
                    *mark &= !granted;
                }
            }
            loc_ctrl::RELINQUISH if mine => {
                let next = self.requests.iter().rposition(|&wants| wants).filter(|_| !self.faults.refuse_locality);
                if let Some(request) = next.and_then(|next| self.requests.get_mut(next)) {
                    *request = false;
                }
                self.active = next.and_then(|next| u8::try_from(next).ok());
            }
            loc_ctrl::RELINQUISH => {
                if let Some(request) = self.requests.get_mut(at) {
                    *request = false;
                }
            }
            _ => self.violation("TPM_LOC_CTRL written with anything but one of its bits"),
        }
    }

    fn buffer(&self, locality: u8, named: Option<(u64, u32)>) -> (u64, u32) {
        let own = BASE + (usize::from(locality) * LOCALITY_SIZE + DATA_BUFFER) as u64;
        named.unwrap_or((own, PAGE_BUFFER))
    }

    /// The same as a place in `memory`, if there is one.
    fn place(&self, (start, size): (u64, u32)) -> Option<(usize, usize)> {
        let at = usize::try_from(start.checked_sub(BASE)?).ok()?;
        let size = size as usize;
        (at.checked_add(size)? <= WINDOW).then_some((at, size))
    }

    fn ctrl_req(&mut self, bits: u32) {
        match bits {
            ctrl_req::CMD_READY | ctrl_req::GO_IDLE => {
                if self.request != bits {
                    self.looks = 0;
                }
                self.request = bits;
                self.obey();
            }
            _ => self.violation("TPM_CRB_CTRL_REQ written with anything but one of its bits"),
        }
    }

    fn obey(&mut self) {
        match self.request {
            _ if self.state == State::Execution => self.violation("TPM_CRB_CTRL_REQ written while a command runs"),
            ctrl_req::CMD_READY if self.faults.never_ready || self.looks < self.faults.slow_ready => return,
            ctrl_req::CMD_READY if self.state == State::Reception => {
                self.violation("cmdReady in the middle of a command");
            }
            ctrl_req::GO_IDLE if !self.faults.never_idle => self.state = State::Idle,
            _ => self.state = State::Ready,
        }
        self.request = 0;
    }

    fn start(&mut self, locality: u8) {
        if self.state != State::Reception {
            return self.violation("Start without a command");
        }
        if self.faults.drop_commands > 0 {
            self.faults.drop_commands -= 1;
            self.state = State::Idle;
            return;
        }
        let named = self.buffer(locality, self.faults.command_buffer);
        let Some((at, size)) = self.place(named) else { return self.violation("Start with a buffer of nowhere") };
        let command = self.memory.get(at..at + size).unwrap_or_default();
        let length = match command.get(2..6) {
            Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]) as usize,
            _ => 0,
        };
        let Some(command) = command.get(..length).map(<[u8]>::to_vec) else {
            return self.violation("Start of a command longer than its buffer");
        };
        self.started += 1;
        self.state = State::Execution;
        self.response.clear();
        self.running = Some(if command.len() < HEADER_SIZE {
            self.response = ResponseHeader::bare(TAG_20, RC_COMMAND_SIZE).to_vec();
            Progress::Done
        } else {
            self.engine.execute(locality, &command, &mut self.response)
        });
        if self.cancel {
            self.violation("Start while Cancel is set");
            self.cancel_command();
        }
        if self.faults.take_locality_in_execution {
            self.take_away();
        }
    }

    fn cancel_command(&mut self) {
        let deaf = self.faults.deaf || self.faults.never_finishes;
        if self.state == State::Execution && self.running == Some(Progress::Working) && !deaf {
            self.engine.cancel();
            self.response = ResponseHeader::bare(TAG_20, RC_CANCELED).to_vec();
            self.running = Some(Progress::Done);
        }
    }

    /// Lets a running command come to its end.
    fn run(&mut self) {
        if self.state != State::Execution || self.faults.never_finishes {
            return;
        }
        match self.running {
            Some(Progress::Working) => self.running = Some(self.engine.resume(&mut self.response)),
            Some(Progress::Done) => {
                if self.engine.staged().is_some() {
                    self.engine.committed();
                }
                self.running = None;
                self.state = State::Completion;
                self.failed |= self.faults.fails;
                if !self.faults.mute {
                    self.put_response();
                }
            }
            None => {}
        }
    }

    fn put_response(&mut self) {
        let named = self.buffer(self.active.unwrap_or(0), self.faults.response_buffer);
        let Some((at, size)) = self.place(named) else { return };
        let mut bytes = self.response.clone();
        self.right_size = bytes.get(2..6).and_then(|field| field.try_into().ok());
        if let (Some(wrong), Some(field)) = (self.faults.response_size, bytes.get_mut(2..6)) {
            field.copy_from_slice(&wrong.to_be_bytes());
        }
        bytes.resize(size, 0xa5);
        if let Some(place) = self.memory.get_mut(at..at + size) {
            place.copy_from_slice(&bytes);
        }
        self.response_at = at;
    }

    fn read_memory(&mut self, offset: usize) -> u32 {
        if self.state != State::Completion {
            self.violation("buffer read while there is no response");
        }
        if self.failed {
            self.violation("buffer read after a fatal error");
        }
        let word = self.memory.get(offset..offset + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
        // After the first look at the word that ends the size field, the field is right.
        if self.faults.wrong_once && offset == self.response_at + 4 {
            let at = self.response_at;
            if let (Some(right), Some(field)) = (self.right_size, self.memory.get_mut(at + 2..at + 6)) {
                field.copy_from_slice(&right);
            }
        }
        word.unwrap_or(u32::MAX)
    }

    fn write_memory(&mut self, offset: usize, value: u32) {
        match self.state {
            State::Ready => self.state = State::Reception,
            State::Reception => {}
            _ => return self.violation("buffer written while the chip is not ready"),
        }
        let named = self.buffer(self.active.unwrap_or(0), self.faults.command_buffer);
        let inside = self.place(named).is_some_and(|(at, size)| offset >= at && offset + 4 <= at + size);
        match self.memory.get_mut(offset..offset + 4) {
            Some(word) if inside => word.copy_from_slice(&value.to_le_bytes()),
            _ => self.violation("a command written outside its buffer"),
        }
    }

    /// Whether this access meets a bus that reads as ones.
    fn dead(&mut self) -> bool {
        let at = self.accesses;
        self.accesses += 1;
        if self.faults.take_locality_at == Some(at) {
            self.take_away();
        }
        if self.faults.reset_at == Some(at) {
            self.reset();
        }
        self.faults.ones.is_some_and(|(from, count)| at >= from && at - from < count)
    }

    fn split(offset: usize) -> Option<(u8, usize)> {
        let locality = u8::try_from(offset / LOCALITY_SIZE).ok().filter(|&l| l < LOCALITIES)?;
        offset.is_multiple_of(4).then_some((locality, offset % LOCALITY_SIZE))
    }

    fn register(&mut self, locality: u8, register: usize) -> u32 {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let mine = self.active == Some(locality);
        let (command, response) =
            (self.buffer(locality, self.faults.command_buffer), self.buffer(locality, self.faults.response_buffer));
        match register {
            LOC_STATE => {
                let active = self.active.map_or(0, |active| loc_state::ASSIGNED | u32::from(active) << 2);
                loc_state::REG_VALID | active
            }
            LOC_STS => bit(mine, loc_sts::GRANTED) | bit(self.is_seized(locality), loc_sts::BEEN_SEIZED),
            INTERFACE_ID => self.interface_id,
            INTF_ID_HIGH => 0x0002_f4ce,
            CTRL_REQ => self.request,
            CTRL_STS => {
                self.looks = self.looks.saturating_add(1);
                if self.request != 0 {
                    self.obey();
                }
                bit(self.failed, ctrl_sts::ERROR) | bit(self.state == State::Idle, ctrl_sts::IDLE)
            }
            CTRL_CANCEL => bit(self.cancel, INVOKE),
            CTRL_START => {
                self.run();
                bit(self.state == State::Execution, INVOKE)
            }
            CMD_SIZE => command.1,
            RSP_SIZE => response.1,
            low if low == CMD_ADDRESS[0] => command.0 as u32,
            high if high == CMD_ADDRESS[1] => (command.0 >> 32) as u32,
            low if low == RSP_ADDRESS[0] => response.0 as u32,
            high if high == RSP_ADDRESS[1] => (response.0 >> 32) as u32,
            _ => {
                self.violation("read of a register that the driver has no business with");
                u32::MAX
            }
        }
    }
}

impl<E: Engine> TisBus for FakeCrb<E> {
    fn read8(&mut self, _offset: usize) -> u8 {
        self.violation("8-bit read");
        0xff
    }

    fn read32(&mut self, offset: usize) -> u32 {
        if self.dead() {
            return u32::MAX;
        }
        match Self::split(offset) {
            Some((_, register)) if let Some(&(_, value)) = self.faults.stuck.iter().find(|(of, _)| *of == register) => {
                value
            }
            Some((_, register)) if register >= DATA_BUFFER => self.read_memory(offset),
            Some((locality, register)) => self.register(locality, register),
            None => {
                self.violation("read outside the registers");
                u32::MAX
            }
        }
    }

    fn write8(&mut self, _offset: usize, _value: u8) {
        self.violation("8-bit write");
    }

    fn write32(&mut self, offset: usize, value: u32) {
        if self.dead() {
            return;
        }
        match Self::split(offset) {
            Some((locality, LOC_CTRL)) => self.loc_ctrl(locality, value),
            // Buffers that are named may lie in any page.
            Some((_, DATA_BUFFER..)) if self.faults.command_buffer.is_some() => self.write_memory(offset, value),
            // An inactive locality's registers ignore writes; a driver that lost its own cannot know at once.
            Some((locality, _)) if self.active != Some(locality) => {}
            Some((_, register)) if register >= DATA_BUFFER => self.write_memory(offset, value),
            Some((_, CTRL_REQ)) => self.ctrl_req(value),
            Some((locality, CTRL_START)) if value == INVOKE => self.start(locality),
            Some((_, CTRL_CANCEL)) if value <= INVOKE => {
                self.cancel = value == INVOKE;
                if self.cancel {
                    self.cancel_command();
                }
            }
            Some(_) => self.violation("write to a register that the driver has no business with"),
            None => self.violation("write outside the registers"),
        }
    }
}
