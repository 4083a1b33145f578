//! tpmback against two hostile guests: anything in xenstore and in the pages, at any time, while libxl attaches, detaches and
//! destroys. It comes to rest, tells of a connection before its requests, and holds nothing when it is closed.

use crate::input::Input;
use core::time::Duration;
use frontback::fake::{DOM0, FakeDomain, GrantedPage, Machine};
use frontback::looper::Driver;
use frontback::tpmback::{Event, FrontId, TpmBack};
use xen_abi::{Access, DomId, EventChannels, EventPort, Grants, Instant, SharedPage, Store};

const BACK: DomId = DomId(3);
const ERROR: &[u8] = &[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 25];
const UUIDS: [&str; 3] = ["00112233-4455-6677-8899-aabbccddeeff", "10112233-4455-6677-8899-aabbccddeeff", "no uuid"];
const KEYS: [&str; 8] =
    ["ring-ref", "event-channel", "feature-protocol-v2", "state", "uuid", "frontend", "frontend-id", "online"];
const VALUES: [&str; 12] =
    ["1", "0", "2", "3", "4", "5", "6", "8", "4294967296", "-1", "/local/domain/8/device/vtpm/0", " 7"];

struct Guest(FakeDomain, Vec<(GrantedPage, EventPort)>);

impl Guest {
    fn write(&mut self, dir: &str, key: &str, value: &[u8]) {
        // Refused where there is no such device.
        let _ = self.0.write(None, &format!("{dir}/{key}"), value);
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let dir = "device/vtpm/0";
        match input.u8() % 8 {
            0 | 1 => {
                let (page, port) =
                    (self.0.grant(BACK, Access::ReadWrite).unwrap(), self.0.alloc_unbound(BACK).unwrap());
                self.write(dir, "ring-ref", page.reference().to_string().as_bytes());
                self.write(dir, "event-channel", port.to_string().as_bytes());
                self.write(dir, "feature-protocol-v2", b"1");
                self.write(dir, "state", b"3");
                self.1.push((page, port));
            }
            2 => self.write(dir, input.choose(&KEYS), input.choose(&VALUES).as_bytes()),
            3 => self.write(dir, input.choose(&KEYS), input.bytes(false)),
            kind => {
                let Some((page, port)) = self.1.last() else { return };
                let length = if kind < 6 { input.near(4088) } else { u32::from(input.u8()) };
                let [state, locality, extra] = [input.u8() % 5, input.u8(), input.u8().saturating_sub(250)];
                page.write(0, &length.to_ne_bytes()).unwrap();
                page.write(5, &[locality, 0, extra]).unwrap();
                page.store_u8(4, state).unwrap();
                if kind == 7 {
                    page.page().readable_once();
                }
                self.0.notify(*port);
            }
        }
    }
}

/// Lets guests, toolstack and service act as the input says.
pub fn run(data: &[u8]) {
    let (mut input, machine) = (Input::new(data), Machine::new());
    let (mut domain, mut back, mut now) = (machine.domain(BACK), TpmBack::new(ERROR), Instant::from_millis(1));
    let mut guests = [7, 8].map(|id| Guest(machine.domain(DomId(id)), Vec::new()));
    let mut open: Vec<FrontId> = Vec::new();
    while !input.is_empty() {
        let guest = &mut guests[input.below(2)];
        let (id, action) = (guest.0.id(), input.u8() % 24);
        let front = open.get(input.below(4)).copied();
        match action {
            0 | 1 => machine.xl_vtpm_attach(id, BACK, 0, input.choose(&UUIDS)),
            2 => machine.xl_vtpm_detach(id, BACK, 0),
            3 => drop(machine.domain(DOM0).remove(None, &machine.vtpm_front_dir(id, 0))),
            4 => {
                machine.destroy(id);
                *guest = Guest(machine.domain(id), Vec::new());
            }
            5 => {
                let path = format!("{}/{}", machine.vtpm_back_dir(id, BACK, 0), input.choose(&KEYS));
                let _ = machine.domain(DOM0).write(None, &path, input.choose(&VALUES).as_bytes());
            }
            6 => now = now + Duration::from_millis(input.u16().into()),
            7 => machine.refuse_commits(1),
            8 => front.into_iter().for_each(|front| back.respond(front, &vec![1; input.below(5000)])),
            9 => front.into_iter().for_each(|front| back.abandon(front)),
            10 => front.into_iter().for_each(|front| back.refuse(front, "a reason")),
            11 if input.rarely(64) => back.refuse_all("a reason"),
            _ => guest.act(&mut input),
        }
        let mut steps = 0;
        // While it waits for xenstored to be well again it leaves events where they are.
        let busy = |back: &TpmBack<_>| back.deadline().map_or_else(|| machine.has_work(BACK), |at| at <= now);
        while steps < 2 || busy(&back) {
            assert!(steps < 50, "the back end does not come to rest");
            back.step(&mut domain, now);
            steps += 1;
        }
        machine.refuse_commits(0);
        if action & 1 == 0 {
            while let Some(event) = back.next_event() {
                match event {
                    Event::Attached { front, .. } => open.push(front),
                    Event::Detached { front } => {
                        let position = open.iter().position(|known| *known == front);
                        open.remove(position.expect("a connection that was told of"));
                    }
                }
            }
        }
        while let Some(request) = back.next_request() {
            assert!(open.contains(&request.front) && (10..=4088).contains(&request.command.len()));
        }
    }
    back.close(&mut domain);
    machine.assert_nothing_held(BACK);
}
