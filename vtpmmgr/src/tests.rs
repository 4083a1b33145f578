//! The whole manager against a fake chip, fake front ends and disks that fail.

extern crate std;

mod refusals;
mod serving;
mod survival;

use crate::Fronts;
use crate::args::parse;
use crate::fake::FakeChip;
use crate::life::{Ports, live};
use crate::policy::NoLabels;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use frontback::looper::{Timer, Turn, turn};
use frontback::tpmback::{Event, FrontId, Request};
use xen_abi::{BlockDevice, DiskError, DomId, EntropySource, Instant, NoEntropy};

/// Front ends that do as the test says.
#[derive(Default)]
pub struct FakeFronts {
    events: RefCell<VecDeque<Event>>,
    requests: RefCell<VecDeque<Request>>,
    answers: RefCell<Vec<(FrontId, Vec<u8>)>>,
    cancelled: RefCell<Vec<FrontId>>,
    abandoned: RefCell<Vec<FrontId>>,
    refused: RefCell<Vec<FrontId>>,
    refused_all: Cell<bool>,
}

impl Fronts for FakeFronts {
    fn next_event(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }
    fn next_request(&self) -> Option<Request> {
        self.requests.borrow_mut().pop_front()
    }
    fn respond(&self, front: FrontId, response: &[u8]) {
        self.answers.borrow_mut().push((front, response.to_vec()));
    }
    fn is_cancelled(&self, front: FrontId) -> bool {
        self.cancelled.borrow().contains(&front)
    }
    fn abandon(&self, front: FrontId) {
        self.abandoned.borrow_mut().push(front);
    }
    fn refuse(&self, front: FrontId, _reason: &str) {
        self.refused.borrow_mut().push(front);
    }
    fn refuse_all(&self, _reason: &str) {
        self.refused_all.set(true);
    }
}

pub fn front(domid: u16, attach: u64) -> FrontId {
    FrontId { domid: DomId(domid), devid: 0, attach }
}

pub fn uuid(n: u8) -> [u8; 16] {
    [n; 16]
}

pub fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    tpm_wire::Writer::new(&mut packet).u16(tag).u32(10 + body.len() as u32).u32(ordinal).bytes(body);
    packet
}

pub fn save(record: &[u8]) -> Vec<u8> {
    packet(0x01c1, 1, record)
}

pub fn load() -> Vec<u8> {
    packet(0x01c1, 2, &[])
}

/// Return code and parameters of a response.
pub fn opened(response: &[u8]) -> (u32, Vec<u8>) {
    let (header, body) = tpm_wire::ResponseHeader::parse(response).expect("a sound response");
    (header.code.get(), body.to_vec())
}

/// A processor's randomness for tests.
pub struct Cpu(pub bool);

impl EntropySource for Cpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        out.fill(0x3c);
        if self.0 { Ok(()) } else { Err(NoEntropy) }
    }
}

/// A manager that is running, and what it is connected to.
pub struct Running<'a> {
    turn: Box<dyn FnMut() -> bool + 'a>,
    pub fronts: Rc<FakeFronts>,
    stop: Rc<Cell<bool>>,
}

impl Running<'_> {
    /// Another turn of the loop; false once the manager has ended.
    pub fn turn(&mut self) -> bool {
        (self.turn)()
    }

    /// Turns the loop until nothing changes any more (or the manager has ended).
    pub fn settle(&mut self) {
        for _ in 0..3000 {
            self.turn();
        }
    }

    pub fn attach(&mut self, front: FrontId, uuid: [u8; 16]) {
        self.fronts.events.borrow_mut().push_back(Event::Attached { front, uuid });
    }

    pub fn detach(&mut self, front: FrontId) {
        self.fronts.events.borrow_mut().push_back(Event::Detached { front });
        self.fronts.cancelled.borrow_mut().push(front);
    }

    pub fn send(&mut self, front: FrontId, command: &[u8]) {
        let request = Request { front, locality: 0, command: command.to_vec() };
        self.fronts.requests.borrow_mut().push_back(request);
    }

    /// The answers given since the last call.
    pub fn answers(&mut self) -> Vec<(FrontId, Vec<u8>)> {
        core::mem::take(&mut self.fronts.answers.borrow_mut())
    }

    /// Sends a command and waits for its answer, if there is one.
    pub fn try_ask(&mut self, front: FrontId, command: &[u8]) -> Option<(u32, Vec<u8>)> {
        self.send(front, command);
        for _ in 0..3000 {
            self.turn();
            if let Some((to, answer)) = self.answers().pop() {
                assert_eq!(to, front);
                return Some(opened(&answer));
            }
        }
        None
    }

    pub fn ask(&mut self, front: FrontId, command: &[u8]) -> (u32, Vec<u8>) {
        self.try_ask(front, command).expect("the manager answers")
    }

    /// `xl shutdown`, and on until the manager has ended.
    pub fn stop(mut self) {
        self.stop.set(true);
        for _ in 0..3000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the manager does not end");
    }
}

/// Starts a manager with this command line and hands it to `script`.
pub fn manage<B: BlockDevice, O>(line: &str, disk: B, chip: &FakeChip, script: impl FnOnce(Running<'_>) -> O) -> O {
    manage_with(line, async { Ok(disk) }, chip, Cpu(true), script)
}

pub fn manage_with<B: BlockDevice, O>(
    line: &str,
    disk: impl Future<Output = Result<B, DiskError>>,
    chip: &FakeChip,
    cpu: Cpu,
    script: impl FnOnce(Running<'_>) -> O,
) -> O {
    install_log();
    LINES.with(|lines| lines.borrow_mut().clear());
    let options = parse(line).unwrap_or_else(|e| panic!("{e}"));
    let timer = Timer::new(Instant::from_millis(0));
    let fronts = Rc::new(FakeFronts::default());
    let stop = Rc::new(Cell::new(false));
    let asked = stop.clone();
    let ports = Ports { fronts: &fronts, labels: &NoLabels, disk, way: chip.clone(), cpu, timer: &timer };
    let mut service = Box::pin(live(&options, ports, |_| (), move || asked.get()));
    let mut now = Instant::from_millis(0);
    let mut ended = false;
    let turn = Box::new(|| {
        if !ended {
            match turn(&mut (), now, &[], &timer, service.as_mut()) {
                Turn::Done(()) => ended = true,
                Turn::Wait(at) => now = now.max(at.unwrap_or(now)),
            }
        }
        !ended
    });
    script(Running { turn, fronts: fronts.clone(), stop })
}

std::thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Console;

impl log::Log for Console {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}[{}]: {}", record.level(), record.target(), record.args());
        LINES.with(|lines| lines.borrow_mut().push(line));
    }
    fn flush(&self) {}
}

fn install_log() {
    // Only the first test of the process installs it; lines are kept per thread, that is per test.
    if log::set_logger(&Console).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// The console lines of the last manager that was started.
pub fn console() -> String {
    LINES.with(|lines| lines.borrow().join("\n"))
}

pub const READY: &str = "INFO[vtpmmgr]: Waiting for commands from vTPM's:";

/// Whether the manager came up and said so.
pub fn is_ready() -> bool {
    console().contains(READY)
}
