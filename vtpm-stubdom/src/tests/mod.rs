//! The story, told against peers that misbehave.

mod durability;
mod fakes;
mod guests;
mod manager;
mod opening;

use crate::args::Options;
use crate::{Ports, Waits, run};
use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::time::Duration;
use fakes::{FakeCpu, FakeGuests, FakeManager, FakeTpm};
use frontback::looper::{Timer, Turn, turn};
use frontback::tpmback::{Event, FrontId, Request};
use std::boxed::Box;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;
use vault::fake::{Fate, FlakyDisk};
use xen_abi::{DiskError, DomId, Instant};

/// Sectors of the disk: 128 KiB.
const SECTORS: usize = 256;

std::thread_local!(static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

struct Console;

impl log::Log for Console {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(std::format!("{} {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

/// What stands on the console of this test, and clears it.
fn console() -> Vec<String> {
    LINES.take()
}

/// Everything outside the vTPM.
struct World {
    manager: FakeManager,
    disk: FlakyDisk,
    arguments: &'static str,
    cpu: bool,
}

impl World {
    fn new() -> Self {
        let _ = log::set_logger(&Console);
        console();
        Self { manager: FakeManager::new(), disk: FlakyDisk::new(SECTORS), arguments: "", cpu: true }
    }

    /// Starts the vTPM's domain.
    fn start(&self) -> Running {
        let timer: &'static Timer = Box::leak(Box::new(Timer::new(Instant::from_millis(0))));
        let guests: &'static FakeGuests = Box::leak(Box::default());
        let stop = Rc::new(Cell::new(false));
        let asked: &'static dyn Fn() -> bool = Box::leak(Box::new({
            let stop = stop.clone();
            move || stop.get()
        }));
        let waits: &'static Waits<'static> = Box::leak(Box::new(Waits::new(timer, asked)));
        let disk = self.disk.clone();
        let disk = async move { Ok::<_, DiskError>(disk) };
        let ports = Ports { link: self.manager.clone(), disk, entropy: FakeCpu { works: self.cpu }, guests, waits };
        let life = run::<FakeTpm, _, _, _, _, _>(Options::parse(self.arguments), ports);
        Running { life: Box::pin(life), timer, now: Instant::from_millis(0), guests, stop, attaches: 0, ended: false }
    }

    /// The machine lost power and comes back: what was not flushed met `fate`.
    fn restart_machine(&mut self, fate: Fate) {
        self.disk = self.disk.restarted(fate);
        self.manager.0.cut.set(false);
        self.manager.0.cut_at_save.set(None);
        self.manager.0.boot.set(self.manager.0.boot.get() + 1);
    }

    /// A world with a vTPM in whose NV area stands `nv`, stopped after serving domain 1.
    fn with_vtpm(nv: &[u8]) -> Self {
        let world = Self::new();
        let mut vtpm = world.start();
        let front = vtpm.attach(1);
        assert_eq!(vtpm.ask(front, &fakes::command(fakes::WRITE, nv)), fakes::ok(b""));
        drop(vtpm);
        console();
        world
    }
}

/// A vTPM that runs.
struct Running {
    life: Pin<Box<dyn Future<Output = ()>>>,
    timer: &'static Timer,
    now: Instant,
    guests: &'static FakeGuests,
    stop: Rc<Cell<bool>>,
    attaches: u64,
    ended: bool,
}

impl Running {
    /// Turns the loop until `done`; false if nothing happens for minutes of its time.
    fn turn_until(&mut self, mut done: impl FnMut(&FakeGuests) -> bool) -> bool {
        let (mut last, mut since) = (None, 0);
        for _ in 0..100_000 {
            if done(self.guests) {
                return true;
            }
            if self.ended {
                return false;
            }
            match turn(&mut (), self.now, &[], self.timer, Pin::new(&mut self.life)) {
                Turn::Done(()) => self.ended = true,
                Turn::Wait(wish) => {
                    since = if wish == last { since + 1 } else { 0 };
                    last = wish;
                    // Time passes slowly while something may happen, and in leaps when nothing does.
                    match wish {
                        Some(wish) if since > 20 => self.now = self.now.max(wish),
                        None if since > 20 => return false,
                        _ => self.now = self.now + Duration::from_millis(1),
                    }
                    if self.now > Instant::from_millis(3_600_000) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// A front end of domain `domid` attaches, and is admitted or refused.
    fn attach(&mut self, domid: u16) -> FrontId {
        self.attaches += 1;
        let front = FrontId { domid: DomId(domid), devid: 0, attach: self.attaches };
        self.guests.events.borrow_mut().push_back(Event::Attached { front, uuid: [0; 16] });
        front
    }

    fn detach(&mut self, front: FrontId) {
        self.guests.events.borrow_mut().push_back(Event::Detached { front });
    }

    fn send_at(&mut self, front: FrontId, locality: u8, command: &[u8]) {
        let command = command.to_vec();
        self.guests.requests.borrow_mut().push_back(Request { front, locality, command });
    }

    /// Sends a command; its answer, or `None` if none comes.
    fn try_ask(&mut self, front: FrontId, command: &[u8]) -> Option<Vec<u8>> {
        let before = self.guests.responses.borrow().len();
        self.send_at(front, 0, command);
        self.turn_until(|guests| guests.responses.borrow().len() > before);
        self.guests.responses.borrow().get(before).map(|(to, response)| {
            assert_eq!(*to, front);
            response.clone()
        })
    }

    fn ask(&mut self, front: FrontId, command: &[u8]) -> Vec<u8> {
        self.try_ask(front, command).unwrap_or_else(|| panic!("no answer; console: {:#?}", console()))
    }

    /// The PCR as the guest reads it.
    fn pcr(&mut self, front: FrontId) -> Vec<u8> {
        self.ask(front, &fakes::command(fakes::READ, b""))[10..].to_vec()
    }

    fn nv(&mut self, front: FrontId) -> Vec<u8> {
        self.ask(front, &fakes::command(fakes::GET, b""))[10..].to_vec()
    }

    fn extend(&mut self, front: FrontId, value: &[u8]) {
        assert_eq!(self.ask(front, &fakes::command(fakes::EXTEND, value)), fakes::ok(b""));
    }

    /// `xl shutdown`.
    fn stop(mut self) -> bool {
        self.stop.set(true);
        self.turn_until(|_| false);
        self.ended
    }

    /// Runs until the vTPM says that it does not serve, and gives its line.
    fn refusal(mut self) -> String {
        assert!(self.turn_until(|guests| guests.refused_all.get()), "it serves; console: {:#?}", console());
        let lines = console();
        let errors: Vec<_> = lines.iter().filter(|line| line.starts_with("ERROR")).collect();
        assert_eq!(errors.len(), 1, "one line says why: {lines:#?}");
        let error = errors[0].to_string();
        assert!(self.stop(), "it still stops when told to");
        error
    }
}
