//! The manager with hostile vTPMs, an admin who sends anything, and a chip that now and then answers anything. What holds whatever comes:
//! every request gets one answer; a record comes back as it was saved, to its own vTPM and in no answer to anybody else; who is not the
//! admin changes nothing but the own record; and all of it is there after a restart.

mod requests;

use crate::input::Input;
use core::cell::{Cell, RefCell};
use frontback::looper::{Timer, Turn, turn};
use frontback::tpmback::{Event, FrontId, Request};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use tpm_wire::mgr::{Management, TAG_REQ2, code, vtpm_flags};
use tpm_wire::{ResponseHeader, Transport, TransportError};
use vault::fake::RamDisk;
use vtpmmgr::fake::FakeChip;
use vtpmmgr::life::{Ports, live};
use vtpmmgr::policy::PeerLabels;
use vtpmmgr::{Fronts, args};
use xen_abi::{DomId, EntropySource, Instant, LabelError, NoEntropy};

/// The vTPMs' UUIDs are 16 times their number; this is the admin's.
const ADMIN: u8 = 2;

/// Front ends, and what the manager did with them.
#[derive(Default)]
struct Desk {
    events: RefCell<VecDeque<Event>>,
    requests: RefCell<VecDeque<Request>>,
    answers: RefCell<Vec<(FrontId, Vec<u8>)>>,
    gone: RefCell<Vec<FrontId>>,
    closed: Cell<bool>,
    /// This Xen has FLASK.
    labelled: bool,
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

impl PeerLabels for Desk {
    fn label(&self, front: FrontId) -> Result<Option<Vec<u8>>, LabelError> {
        match front.domid.0 {
            _ if !self.labelled => Ok(None),
            3 => Err(LabelError(22)),
            domain => Ok(Some(requests::label(domain as u8))),
        }
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
fn manage(line: &str, disk: &RamDisk, chip: Mangled<'_>, desk: &Desk, mut script: impl FnMut() -> bool) {
    let line = format!("{line} admin_uuid={}", "02020202-0202-0202-0202-020202020202");
    let Ok(options) = args::parse(&line) else { panic!("{line} is not taken") };
    let (timer, stop) = (Timer::new(Instant::from_millis(0)), Cell::new(false));
    let disk = async { Ok(disk.clone()) };
    let ports = Ports { fronts: desk, labels: desk, disk, way: chip, cpu: Cpu, timer: &timer };
    let mut service = pin!(live(&options, ports, |_| (), || stop.get()));
    let (mut now, mut turns) = (Instant::from_millis(0), 0);
    while let Turn::Wait(at) = turn(&mut (), now, &[], &timer, service.as_mut()) {
        // A minute away is the counter's next step, and no answer waits for that.
        let idle = at.is_none_or(|at| at.since(now).as_secs() > 30);
        now = now.max(at.unwrap_or(now));
        turns += 1;
        let answered = !desk.answers.borrow().is_empty();
        if idle && (turns >= 5000 || turns >= 40 && (answered || desk.closed.get() || stop.get())) {
            assert!(!stop.get() || turns < 100_000, "the manager does not end");
            if !stop.get() {
                stop.set(!script());
                turns = 0;
            }
        }
    }
}

fn honest(chip: &FakeChip) -> Mangled<'static> {
    Mangled(chip.clone(), RefCell::new(Input::new(&[])))
}

thread_local! {
    /// A manager's disk and its chip.
    static MADE: (Vec<u8>, FakeChip) = {
        let (disk, chip) = (RamDisk::new(1200), FakeChip::new(1, 0));
        manage("rollback=off", &disk, honest(&chip), &Desk::default(), || false);
        (disk.image(), chip)
    };
}

/// What the vTPMs and the admin may count on.
#[derive(Default)]
struct Model {
    saved: BTreeMap<u8, Vec<u8>>,
    locked: BTreeMap<u8, bool>,
    /// UUIDs of groups that were made.
    groups: Vec<[u8; 16]>,
}

impl Model {
    /// Checks an answer to `command` from vTPM `who`, and takes in what it means.
    fn answered(&mut self, who: u8, command: &[u8], answer: &[u8]) {
        let (header, body) = ResponseHeader::parse(answer).expect("a sound response");
        assert!(answer.len() <= tpm_wire::MAX_PACKET);
        let result = header.code.get();
        assert!(result == 0 || body.is_empty());
        let owners = requests::owners(answer);
        let own = owners.contains(&who) && command[..2] == [1, 0xc1];
        assert!(owners.is_empty() || own, "a record in an answer to somebody else");
        match command {
            [1, 0xc1, _, _, _, _, 0, 0, 0, 1, record @ ..] if result == 0 => {
                assert!((52..=64).contains(&record.len()));
                self.saved.insert(who, record.to_vec());
            }
            [1, 0xc1, 0, 0, 0, 10, 0, 0, 0, 2] => self.loaded(who, result, body),
            [1, 0xc2, _, _, _, _, ordinal @ ..] if result == 0 => {
                assert_eq!(who, ADMIN, "management without rights");
                let (ordinal, parameters) = ordinal.split_first_chunk().expect("a header");
                match Management::parse(u32::from_be_bytes(*ordinal), parameters) {
                    Ok(Management::GroupCreate { .. }) => self.groups.extend(body.first_chunk()),
                    Ok(Management::VtpmDelete { uuid }) => {
                        self.saved.remove(&uuid[0]);
                        self.locked.remove(&uuid[0]);
                    }
                    Ok(Management::VtpmEdit { uuid, flags, .. }) => {
                        self.locked.insert(uuid[0], flags & vtpm_flags::LOCKED != 0);
                    }
                    Ok(_) => {}
                    Err(_) => panic!("a malformed command was carried out"),
                }
            }
            [0, 0xc1, _, _, _, _, 0, 0, 0, 0x14, ..] => assert!(result != 0 || who == ADMIN),
            _ => {}
        }
    }

    fn loaded(&self, who: u8, result: u32, body: &[u8]) {
        match result {
            0 => {
                assert_eq!(self.saved.get(&who).map(Vec::as_slice), Some(body));
                assert!(!self.locked.get(&who).is_some_and(|locked| *locked), "a locked vTPM was served");
            }
            // What makes a vTPM begin anew is said only if there is nothing.
            code::BAD_PARAMETER => assert!(!self.saved.contains_key(&who), "a record is gone"),
            code::DISABLED | code::FAIL | code::WRONG_PCR => {}
            other => panic!("code {other}"),
        }
    }
}

/// Starts the manager, whose chip is mangled by the first part of the input, and serves it requests from the second.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mangling = Input::new(input.bytes(false));
    let (image, chip) = MADE.with(Clone::clone);
    chip.power_cycle();
    let disk = RamDisk::from_image(image.clone());
    let desk = Desk { labelled: input.rarely(4), ..Desk::default() };
    let line = ["rollback=off", "rollback=periodic", "rollback=strict"][usize::from(input.u8()) % 3];
    let (mut open, mut attaches) = (BTreeMap::new(), 0);
    let mut model = Model::default();
    let mut asked: Option<(FrontId, Vec<u8>, u8)> = None;
    let mut before = Vec::new();
    manage(line, &disk, Mangled(chip.clone(), RefCell::new(mangling)), &desk, || {
        if let Some((front, command, uuid)) = asked.take() {
            let answers = std::mem::take(&mut *desk.answers.borrow_mut());
            assert!(desk.closed.get() || answers.len() == 1 && answers[0].0 == front, "one request, one answer");
            if let Some((_, answer)) = answers.first().filter(|(_, answer)| !answer.is_empty()) {
                model.answered(uuid, &command, answer);
                if uuid != ADMIN && command[..2] == TAG_REQ2.to_be_bytes() {
                    let sound = tpm_wire::CommandHeader::parse(&command).is_ok();
                    let expected = if sound { code::AUTHFAIL } else { code::BAD_PARAM_SIZE };
                    assert_eq!(answer[6..10], expected.to_be_bytes());
                    assert!(disk.image() == before, "somebody without rights changed the disk");
                }
            }
        }
        if input.is_empty() || desk.closed.get() {
            return false;
        }
        let (domid, uuid) = (input.u8() % 4, input.u8() % 4);
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
        let command = requests::any(&mut input, uuid, uuid == ADMIN, &model.groups);
        before = disk.image();
        desk.requests.borrow_mut().push_back(Request { front, locality: input.u8(), command: command.clone() });
        asked = Some((front, command, uuid));
        true
    });
    if desk.closed.get() {
        return;
    }
    again(line, &disk, &chip, model);
}

/// After a restart, with a chip in order: what was acknowledged is there.
fn again(line: &str, disk: &RamDisk, chip: &FakeChip, mut model: Model) {
    chip.power_cycle();
    let desk = Desk::default();
    let mut who = 0..4u8;
    let mut asked = None;
    manage(line, disk, honest(chip), &desk, || {
        if let Some(uuid) = asked.take() {
            let answers = std::mem::take(&mut *desk.answers.borrow_mut());
            let [(_, answer)] = &answers[..] else { panic!("one answer was expected") };
            model.answered(uuid, &requests::load(), answer);
            let locked = model.locked.get(&uuid).is_some_and(|locked| *locked);
            let there = model.saved.contains_key(&uuid) && !locked;
            assert!(!there || answer[6..10] == [0; 4], "a record is not given back");
        }
        let Some(uuid) = who.next() else { return false };
        let front = FrontId { domid: DomId(uuid.into()), devid: 0, attach: 1 };
        desk.events.borrow_mut().push_back(Event::Attached { front, uuid: [uuid; 16] });
        desk.requests.borrow_mut().push_back(Request { front, locality: 0, command: requests::load() });
        asked = Some(uuid);
        true
    });
    assert!(!desk.closed.get(), "a manager that served does not start again");
}
