//! The manager with hostile vTPMs and a chip that now and then answers anything: every request gets one answer, a record comes
//! back as it was saved, and a manager that does not start leaves its disk as it was.

use crate::input::Input;
use core::cell::{Cell, RefCell};
use frontback::looper::{Timer, Turn, turn};
use frontback::tpmback::{Event, FrontId, Request};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use tpm_wire::{ResponseHeader, Transport, TransportError};
use vault::fake::RamDisk;
use vtpmmgr::chip12::Chip;
use vtpmmgr::fake::FakeChip;
use vtpmmgr::{Fronts, args};
use xen_abi::{DomId, EntropySource, Instant, NoEntropy};

/// Front ends, and what the manager did with them.
#[derive(Default)]
struct Desk {
    events: RefCell<VecDeque<Event>>,
    requests: RefCell<VecDeque<Request>>,
    answers: RefCell<Vec<(FrontId, Vec<u8>)>>,
    gone: RefCell<Vec<FrontId>>,
    closed: Cell<bool>,
}

impl Fronts for Desk {
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
        self.gone.borrow().contains(&front)
    }
    fn abandon(&self, front: FrontId) {
        self.answers.borrow_mut().push((front, Vec::new()));
    }
    fn refuse(&self, front: FrontId, _: &str) {
        self.gone.borrow_mut().push(front);
    }
    fn refuse_all(&self, _: &str) {
        self.closed.set(true);
    }
}

struct Mangled<'a>(FakeChip, RefCell<Input<'a>>);

impl Transport for Mangled<'_> {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut answer = self.0.transmit(command).await?;
        let mut input = self.1.borrow_mut();
        match input.u8() {
            0..240 => return Ok(answer),
            240..246 => answer.truncate(usize::from(input.u8())),
            246..250 => answer.extend(input.bytes(false)),
            250 => return Err(TransportError::TimedOut),
            _ => answer.iter_mut().skip(input.u8().into()).take(4).for_each(|byte| *byte = input.u8()),
        }
        if input.flag() && answer.len() >= 6 {
            let size = answer.len() as u32;
            answer[2..6].copy_from_slice(&size.to_be_bytes());
        }
        Ok(answer)
    }
}

struct Cpu;

impl EntropySource for Cpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        out.fill(0x3c);
        Ok(())
    }
}

/// Runs a manager on `disk` with `script`, one call of which comes when nothing is left to do; until it says no.
fn manage(disk: &RamDisk, chip: Mangled<'_>, desk: &Desk, mut script: impl FnMut() -> bool) {
    let (options, timer, stop) = (args::parse("").ok().unwrap(), Timer::new(Instant::from_millis(0)), Cell::new(false));
    let chip = Chip::new(chip, &timer);
    let (disk, mut cpu) = (async { Ok(disk.clone()) }, Cpu);
    let mut service = pin!(vtpmmgr::run(&options, desk, disk, &chip, &mut cpu, |_| (), || stop.get()));
    let (mut now, mut turns) = (Instant::from_millis(0), 0);
    while let Turn::Wait(at) = turn(&mut (), now, &[], &timer, service.as_mut()) {
        now = now.max(at.unwrap_or(now));
        turns += 1;
        if turns >= 40 && at.is_none() {
            assert!(!stop.get() || turns < 5000, "the manager does not end");
            if !stop.get() {
                stop.set(!script());
                turns = 0;
            }
        }
    }
}

thread_local! {
    /// A manager's disk and its chip.
    static MADE: (Vec<u8>, FakeChip) = {
        let (disk, chip) = (RamDisk::new(160), FakeChip::new(1, 0));
        manage(&disk, Mangled(chip.clone(), RefCell::new(Input::new(&[]))), &Desk::default(), || false);
        (disk.image(), chip)
    };
}

fn request(input: &mut Input<'_>) -> Vec<u8> {
    let (tag, ordinal) = match input.u8() % 8 {
        0..3 => (0x01c1, 1),
        3 | 4 => (0x01c1, 2),
        5 => (0x01c1, 0x80),
        6 => (0x00c1, input.choose(&[0x46, 0x15, 0x14])),
        _ => (input.u16(), input.u32()),
    };
    let body = match (ordinal, input.u8()) {
        (1, fill @ 0..200) => vec![fill; 52 + usize::from(fill) % 13],
        (2 | 0x80, 0..240) => vec![],
        (0x46 | 0x15, 0..200) => input.u32().to_be_bytes().to_vec(),
        _ => input.bytes(false).to_vec(),
    };
    let size = if input.rarely(16) { input.near(10) } else { 10 + body.len() as u32 };
    [&u16::to_be_bytes(tag)[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), &body].concat()
}

/// Starts the manager, whose chip is mangled by the first part of the input, and serves it requests from the second.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mangling = Input::new(input.bytes(false));
    let (image, chip) = MADE.with(Clone::clone);
    chip.power_cycle();
    let (disk, desk) = (RamDisk::from_image(image.clone()), Desk::default());
    let (mut open, mut attaches) = (BTreeMap::new(), 0);
    let mut saved: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut asked: Option<(FrontId, Vec<u8>, u8)> = None;
    manage(&disk, Mangled(chip, RefCell::new(mangling)), &desk, || {
        if let Some((front, command, uuid)) = asked.take() {
            let answers = std::mem::take(&mut *desk.answers.borrow_mut());
            assert!(desk.closed.get() || answers.len() == 1 && answers[0].0 == front, "one request, one answer");
            if let Some((_, answer)) = answers.first().filter(|(_, answer)| !answer.is_empty()) {
                let (header, body) = ResponseHeader::parse(answer).unwrap();
                let good = header.code.get() == 0;
                assert!(good || body.is_empty());
                match &command[..] {
                    [1, 0xc1, _, _, _, _, 0, 0, 0, 1, record @ ..] if good => drop(saved.insert(uuid, record.to_vec())),
                    [1, 0xc1, 0, 0, 0, 10, 0, 0, 0, 2] => {
                        assert_eq!(saved.get(&uuid).map(Vec::as_slice), good.then_some(body))
                    }
                    _ => {}
                }
            }
        }
        if input.is_empty() {
            return false;
        }
        let (domid, uuid) = (input.u8() % 4, input.u8() % 3);
        let front = *open.entry((domid, uuid)).or_insert_with(|| {
            attaches += 1;
            let front = FrontId { domid: DomId(domid.into()), devid: uuid.into(), attach: attaches };
            desk.events.borrow_mut().push_back(Event::Attached { front, uuid: [uuid; 16] });
            front
        });
        if input.rarely(8) {
            desk.events.borrow_mut().push_back(Event::Detached { front });
            open.remove(&(domid, uuid));
        }
        let command = request(&mut input);
        desk.requests.borrow_mut().push_back(Request { front, locality: input.u8(), command: command.clone() });
        asked = Some((front, command, uuid));
        true
    });
    assert!(!desk.closed.get() || disk.image() == image, "a disk that was refused is left as it was");
}
