mod devices;
mod rings;

use super::*;
use crate::fake::{FakeDomain, LinuxTpmFront, Machine, Recv};
use crate::test_log;

const BACK: DomId = DomId(3);
const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const UUID_BYTES: [u8; 16] =
    [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const OTHER_UUID: &str = "10112233-4455-6677-8899-aabbccddeeff";
const ERROR: &[u8] = &[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 3];
const COMMAND: &[u8] = b"command of 22 bytes...";
const RESPONSE: &[u8] = b"response of some bytes";

struct Rig {
    machine: Machine,
    domain: FakeDomain,
    back: TpmBack<FakeDomain>,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        test_log::start();
        let machine = Machine::new();
        let domain = machine.domain(BACK);
        Self { machine, domain, back: TpmBack::new(ERROR), now: Instant::from_millis(1000) }
    }

    fn step(&mut self) {
        self.back.step(&mut self.domain, self.now);
    }

    /// Steps until there is nothing to do, which must come soon.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.step();
            if !self.machine.has_work(BACK) && self.back.deadline().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("the back end does not come to rest");
    }

    /// Until the directory of a device that was taken away is removed.
    fn settle_later(&mut self) {
        self.settle();
        self.now = self.back.deadline().expect("something to do later");
        self.settle();
        assert_eq!(self.back.deadline(), None);
    }

    /// Until nothing is left to do, however long it takes. While xenstored is not well, events stay where they are.
    fn settle_for_good(&mut self) {
        for _ in 0..200 {
            self.step();
            match self.back.deadline() {
                None if !self.machine.has_work(BACK) => return,
                later => self.now = self.now.max(later.unwrap_or(self.now)),
            }
        }
        panic!("there is always something to do later");
    }

    /// A new device, which state 2 is shown of.
    fn announce(&mut self, guest: DomId, uuid: &str) {
        self.machine.xl_vtpm_attach(guest, BACK, 0, uuid);
        self.settle();
    }

    /// A new device that may be connected at once.
    fn attach(&mut self, guest: u16, uuid: &str) -> LinuxTpmFront {
        let guest = DomId(guest);
        self.announce(guest, uuid);
        self.now = self.now + ANNOUNCEMENT;
        LinuxTpmFront::new(&self.machine.domain(guest), 0)
    }

    /// A guest that is connected and known to the service.
    fn connected(&mut self, guest: u16, uuid: &str) -> (LinuxTpmFront, FrontId) {
        let mut front = self.attach(guest, uuid);
        front.probe();
        self.settle();
        front.follow();
        self.settle();
        let front_id = self.attached();
        (front, front_id)
    }

    fn attached(&mut self) -> FrontId {
        match self.back.next_event() {
            Some(Event::Attached { front, .. }) => front,
            other => panic!("Attached is due, not {other:?}"),
        }
    }

    fn state(&self, guest: u16) -> Option<u32> {
        self.machine.vtpm_back_state(DomId(guest), BACK, 0)
    }

    /// A whole command and response, to show that a front end is served.
    fn serve(&mut self, front: &mut LinuxTpmFront) {
        front.send(COMMAND);
        self.settle();
        let request = self.back.next_request().expect("the request");
        assert_eq!(request.command, COMMAND);
        self.back.respond(request.front, RESPONSE);
        self.settle();
        assert_eq!(front.recv(), Recv::Response(RESPONSE.to_vec()));
    }

    fn complaints(&self) -> usize {
        test_log::take().iter().filter(|line| line.starts_with("ERROR")).count()
    }
}
