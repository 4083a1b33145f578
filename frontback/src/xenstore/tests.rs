use super::*;
use crate::fake::{DOM0, FakeDomain, FakePage, Machine};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use xen_abi::io::xs_wire::*;
use xen_abi::{DomId, SharedPage};

/// What xenstored does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    Silent,
    /// One byte each time it runs.
    Slow,
    /// A reply to another request before each reply.
    StrayReplies,
    /// Replies of another type than the request.
    WrongKind,
    /// A message that says it is longer than messages are.
    LongMessage,
    /// Takes no bytes.
    Deaf,
    /// Takes no bytes before it has got rid of its own.
    Stubborn,
    /// A response index this far from the other.
    WildProducer(u32),
    /// A request index this far from the other.
    WildConsumer(u32),
}

/// xenstored at the other end of a page; it runs while the client waits, and once at each signal.
struct Xenstored {
    page: FakePage,
    domain: FakeDomain,
    now: Instant,
    fault: Fault,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    /// Paths and tokens, as they came.
    watched: Vec<Vec<u8>>,
}

fn index(page: &FakePage, offset: usize) -> u32 {
    page.load_u32(offset).unwrap()
}

impl Xenstored {
    fn run(&mut self) {
        let (producer, mut consumer) = (index(&self.page, OFFSET_REQ_PROD), index(&self.page, OFFSET_REQ_CONS));
        let pace = if self.fault == Fault::Slow { 1 } else { RING_SIZE };
        match self.fault {
            Fault::Deaf => return,
            Fault::Stubborn if !self.outgoing.is_empty() => return self.say_on(RING_SIZE),
            Fault::WildConsumer(distance) => {
                return self.page.store_u32(OFFSET_REQ_CONS, producer.wrapping_sub(distance)).unwrap();
            }
            _ => {}
        }
        for _ in 0..pace {
            if consumer != producer {
                self.incoming.push(self.page.load_u8(consumer as usize % RING_SIZE).unwrap());
                consumer = consumer.wrapping_add(1);
            }
        }
        self.page.store_u32(OFFSET_REQ_CONS, consumer).unwrap();
        self.serve();
        self.say_on(pace);
    }

    /// Puts what is to be said into the ring, as far as it fits.
    fn say_on(&mut self, pace: usize) {
        let mut producer = index(&self.page, OFFSET_RSP_PROD);
        for _ in 0..pace {
            let used = producer.wrapping_sub(index(&self.page, OFFSET_RSP_CONS)) as usize;
            if used < RING_SIZE
                && let Some(byte) = self.outgoing.pop_front()
            {
                self.page.store_u8(OFFSET_RESPONSES + producer as usize % RING_SIZE, byte).unwrap();
                producer = producer.wrapping_add(1);
            }
        }
        self.page.store_u32(OFFSET_RSP_PROD, producer).unwrap();
        if let Fault::WildProducer(distance) = self.fault {
            let consumer = index(&self.page, OFFSET_RSP_CONS);
            self.page.store_u32(OFFSET_RSP_PROD, consumer.wrapping_add(distance)).unwrap();
        }
    }

    fn say(&mut self, kind: u32, request: u32, payload: &[u8]) {
        let length = if self.fault == Fault::LongMessage { PAYLOAD_MAX as u32 + 1 } else { payload.len() as u32 };
        self.outgoing.extend(Header { kind, request, transaction: 0, length }.as_bytes());
        self.outgoing.extend(payload);
    }

    fn serve(&mut self) {
        while let Some(header) = self.incoming.first_chunk::<HEADER_SIZE>() {
            let header: Header = zerocopy::transmute!(*header);
            let end = HEADER_SIZE + header.length as usize;
            if self.incoming.len() < end {
                break;
            }
            let message: Vec<u8> = self.incoming.drain(..end).collect();
            let outcome = self.perform(header, &message[HEADER_SIZE..]);
            if self.fault == Fault::Silent {
                continue;
            }
            if self.fault == Fault::StrayReplies {
                self.say(header.kind, header.request.wrapping_add(1000), b"not for you");
                self.say(kind::WATCH_EVENT, 0, b"not\0watched\0");
                self.say(kind::WATCH_EVENT, 0, b"no token");
            }
            match outcome {
                Ok(payload) => {
                    let kind = if self.fault == Fault::WrongKind { header.kind + 1 } else { header.kind };
                    self.say(kind, header.request, &payload);
                }
                Err(name) => self.say(kind::ERROR, header.request, name.as_bytes()),
            }
        }
        while let Some(event) = self.domain.next_watch_event("") {
            self.say(kind::WATCH_EVENT, 0, format!("{}\0{}\0", event.path, event.token).as_bytes());
        }
    }

    fn perform(&mut self, header: Header, payload: &[u8]) -> Result<Vec<u8>, &'static str> {
        let named = |error| match error {
            StoreError::NoEntry => "ENOENT\0",
            StoreError::Access => "EACCES\0",
            StoreError::Again => "EAGAIN\0",
            StoreError::Malformed => "EINVAL\0",
            _ => "E2BIG\0",
        };
        let tx = (header.transaction != 0).then_some(TransactionId(header.transaction));
        let mut parts = payload.splitn(2, |byte| *byte == 0);
        let path = core::str::from_utf8(parts.next().unwrap()).unwrap();
        let rest = parts.next().expect("the first string ends in NUL");
        let token = || core::str::from_utf8(rest.strip_suffix(b"\0").unwrap()).unwrap();
        let ok = |()| b"OK\0".to_vec();
        match header.kind {
            kind::READ => self.domain.read(tx, path),
            kind::WRITE => self.domain.write(tx, path, rest).map(ok),
            kind::RM => self.domain.remove(tx, path).map(ok),
            kind::DIRECTORY => self
                .domain
                .list(tx, path)
                .map(|names| names.iter().flat_map(|name| format!("{name}\0").into_bytes()).collect()),
            kind::WATCH if self.watched.iter().any(|known| known == payload) => return Err("EEXIST\0"),
            kind::WATCH => {
                self.watched.push(payload.to_vec());
                self.domain.watch(path, token()).map(ok)
            }
            kind::UNWATCH => {
                self.watched.retain(|known| known != payload);
                self.domain.unwatch(path, token()).map(ok)
            }
            kind::TRANSACTION_START => self.domain.begin().map(|TransactionId(id)| format!("{id}\0").into_bytes()),
            kind::TRANSACTION_END => self.domain.end(tx.unwrap(), path == "T").map(ok),
            other => panic!("request of type {other}"),
        }
        .map_err(named)
    }
}

impl StoreRing for Xenstored {
    type Page = FakePage;

    fn page(&self) -> &FakePage {
        &self.page
    }

    fn notify(&mut self) {
        self.run();
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn wait(&mut self, until: Instant) {
        self.now = self.now + Duration::from_millis(1);
        assert!(self.now <= until);
        self.run();
    }
}

const ME: DomId = DomId(4);

fn client(fault: Fault) -> (Machine, Client<Xenstored>) {
    let machine = Machine::new();
    let domain = machine.domain(ME);
    machine.domain(DOM0).put("/local/domain/4/data/motto", "");
    let page = FakePage::new();
    // Indices that wrap, at an odd place.
    for offset in [OFFSET_REQ_CONS, OFFSET_REQ_PROD, OFFSET_RSP_CONS, OFFSET_RSP_PROD] {
        page.store_u32(offset, u32::MAX - 700).unwrap();
    }
    let now = Instant::from_millis(0);
    let xenstored =
        Xenstored { page, domain, now, fault, incoming: vec![], outgoing: VecDeque::new(), watched: vec![] };
    (machine, Client::new(xenstored))
}

/// A directory of our own, made by dom0.
fn own_directory(machine: &Machine) {
    machine.xl_vtpm_attach(ME, DOM0, 0, "u");
}

#[test]
fn everything_the_store_can_do_goes_through_the_ring() {
    for fault in [Fault::None, Fault::Slow, Fault::StrayReplies] {
        let (machine, mut client) = client(fault);
        own_directory(&machine);
        let dir = "device/vtpm/0";
        assert_eq!(client.read(None, &format!("{dir}/backend-id")), Ok(b"0".to_vec()));
        assert_eq!(client.read(None, "device/none"), Err(StoreError::NoEntry));
        assert_eq!(client.read(None, "/local/domain/0/x"), Err(StoreError::Access));
        assert_eq!(client.read(None, "a//b"), Err(StoreError::Malformed));
        let tx = client.begin().unwrap();
        assert_eq!(client.write(Some(tx), &format!("{dir}/ring-ref"), b"1"), Ok(()));
        assert_eq!(machine.read(&format!("/local/domain/4/{dir}/ring-ref")), None);
        assert_eq!(client.end(tx, true), Ok(()));
        assert_eq!(machine.read(&format!("/local/domain/4/{dir}/ring-ref")), Some("1".to_string()));
        let tx = client.begin().unwrap();
        assert_eq!(client.remove(Some(tx), &format!("{dir}/ring-ref")), Ok(()));
        assert_eq!(client.end(tx, false), Ok(()));
        let names = client.list(None, dir).unwrap();
        assert_eq!(names, ["backend", "backend-id", "handle", "ring-ref", "state"]);
        assert_eq!(client.remove(None, &format!("{dir}/ring-ref")), Ok(()));
        machine.refuse_commits(1);
        let tx = client.begin().unwrap();
        assert_eq!(client.end(tx, true), Err(StoreError::Again));
        // A value with any bytes, and as long as xenstored takes.
        let value: Vec<u8> = (0..2048u32).map(|i| i as u8).collect();
        assert_eq!(client.write(None, &format!("{dir}/value"), &value), Ok(()));
        assert_eq!(client.read(None, &format!("{dir}/value")), Ok(value), "{fault:?}");
    }
}

#[test]
fn watches_fire_once_at_registration_and_at_each_change() {
    let (machine, mut client) = client(Fault::None);
    own_directory(&machine);
    client.watch("device/vtpm/0", "a/1").unwrap();
    client.watch("device/vtpm", "b/1").unwrap();
    let event = |path: &str, token: &str| Some(WatchEvent { path: path.into(), token: token.into() });
    assert_eq!(client.next_watch_event("b/"), event("device/vtpm", "b/1"));
    assert_eq!(client.next_watch_event("b/"), None);
    assert_eq!(client.watch("device/vtpm", "b/1"), Ok(()), "once more is no error");
    assert_eq!(client.next_watch_event("b/"), event("device/vtpm", "b/1"), "and fires");
    assert_eq!(client.next_watch_event("b/"), None);
    assert_eq!(client.next_watch_event("a/"), event("device/vtpm/0", "a/1"));
    machine.domain(DOM0).put("/local/domain/4/device/vtpm/0/state", "2");
    client.ring_mut().run();
    assert_eq!(client.next_watch_event("a/"), event("device/vtpm/0/state", "a/1"));
    client.unwatch("device/vtpm", "b/1").unwrap();
    assert_eq!(client.next_watch_event("b/"), None, "an ended watch is quiet");
}

#[test]
fn a_flood_of_events_is_bounded_and_nothing_is_forgotten() {
    let (machine, mut client) = client(Fault::None);
    own_directory(&machine);
    client.watch("device", "flood/").unwrap();
    client.watch("device/vtpm/0/state", "calm/").unwrap();
    while client.next_watch_event("").is_some() {}
    for round in 0..1000 {
        machine.domain(ME).put(&format!("device/vtpm/0/x{round}"), "");
    }
    machine.domain(ME).put("device/vtpm/0/state", "3");
    for _ in 0..2000 {
        client.ring_mut().run();
        let _ = client.pump(None);
    }
    assert!(client.next_watch_event("calm/").is_some(), "the change behind the flood");
    let mut flood = Vec::new();
    while let Some(event) = client.next_watch_event("flood/") {
        flood.push(event.path);
    }
    assert!(flood.len() <= watches::MAX_QUEUED + 1);
    assert_eq!(flood.last().map(String::as_str), Some("device"), "the rest is told as one change of the whole");
    // The same event twice is one event.
    for _ in 0..500 {
        machine.domain(ME).put("device/vtpm/0/state", "4");
    }
    for _ in 0..500 {
        client.ring_mut().run();
        let _ = client.pump(None);
    }
    let calm = core::iter::from_fn(|| client.next_watch_event("calm/")).count();
    assert_eq!(calm, 1);
}

#[test]
fn a_silent_xenstored_costs_ten_seconds_and_its_late_reply_nothing() {
    let (machine, mut client) = client(Fault::Silent);
    own_directory(&machine);
    assert_eq!(client.read(None, "device/vtpm/0/handle"), Err(StoreError::TimedOut));
    assert_eq!(client.ring().now().as_millis(), 10_000);
    let late = client.last_request;
    client.ring_mut().fault = Fault::None;
    client.ring_mut().say(kind::READ, late, b"late");
    assert_eq!(client.read(None, "device/vtpm/0/handle"), Ok(b"0".to_vec()));
}

#[test]
fn a_watch_whose_reply_was_lost_is_asked_for_again_and_fires() {
    let (machine, mut client) = client(Fault::Silent);
    own_directory(&machine);
    assert_eq!(client.watch("device/vtpm/0", "a/1"), Err(StoreError::TimedOut));
    client.ring_mut().fault = Fault::None;
    assert_eq!(client.next_watch_event("a/"), None);
    assert_eq!(client.watch("device/vtpm/0", "a/1"), Ok(()));
    assert!(client.next_watch_event("a/").is_some());
    machine.domain(DOM0).put("/local/domain/4/device/vtpm/0/state", "2");
    client.ring_mut().run();
    assert!(client.next_watch_event("a/").is_some());
}

#[test]
fn a_request_that_xenstored_does_not_take_in_time_gives_the_connection_up() {
    let (machine, mut client) = client(Fault::None);
    own_directory(&machine);
    // xenstored never takes anything: its consumer stands still.
    let stuck = index(&client.ring().page, OFFSET_REQ_PROD).wrapping_sub(RING_SIZE as u32);
    client.ring_mut().fault = Fault::Deaf;
    client.ring_mut().page.store_u32(OFFSET_REQ_CONS, stuck).unwrap();
    assert_eq!(client.write(None, "device/vtpm/0/x", b"1"), Err(StoreError::TimedOut));
    client.ring_mut().fault = Fault::None;
    assert_eq!(client.read(None, "device/vtpm/0/handle"), Err(StoreError::Malformed));
}

#[test]
fn events_are_taken_while_a_request_waits_for_room() {
    let (machine, mut client) = client(Fault::None);
    own_directory(&machine);
    client.watch("device", "flood/").unwrap();
    for round in 0..100 {
        machine.domain(ME).put(&format!("device/vtpm/0/x{round}"), "");
    }
    client.ring_mut().run();
    client.ring_mut().fault = Fault::Stubborn;
    assert!(!client.ring().outgoing.is_empty());
    assert_eq!(client.write(None, "device/vtpm/0/value", &[1; 2048]), Ok(()));
}

#[test]
fn indices_further_apart_than_the_ring_is_long_are_not_followed() {
    for distance in [1025, 0x8000_0000, u32::MAX] {
        let page = FakePage::new();
        page.store_u32(OFFSET_RSP_PROD, distance).unwrap();
        assert!(Incoming::default().pump(&page, &mut false).is_err(), "{distance}");
        assert_eq!(index(&page, OFFSET_RSP_CONS), 0);
        page.store_u32(OFFSET_REQ_PROD, distance).unwrap();
        assert_eq!(link::send(&page, b"x"), Err(Broken));
    }
}

#[test]
fn a_xenstored_that_breaks_the_protocol_is_an_error_for_good() {
    let wild = [1025, 0x8000_0000, u32::MAX];
    let faults = wild.into_iter().flat_map(|distance| [Fault::WildProducer(distance), Fault::WildConsumer(distance)]);
    for fault in faults.chain([Fault::LongMessage]) {
        let (machine, mut client) = client(fault);
        own_directory(&machine);
        let _ = client.read(None, "device/vtpm/0/handle");
        assert_eq!(client.read(None, "device/vtpm/0/handle"), Err(StoreError::Malformed), "{fault:?}");
        client.ring_mut().fault = Fault::None;
        assert_eq!(client.begin(), Err(StoreError::Malformed), "{fault:?}: not trusted again");
        assert_eq!(client.next_watch_event(""), None);
    }
}

#[test]
fn replies_are_of_the_kind_that_was_asked() {
    let (machine, mut client) = client(Fault::WrongKind);
    own_directory(&machine);
    assert_eq!(client.read(None, "device/vtpm/0/handle"), Err(StoreError::Malformed));
}

#[test]
fn what_the_protocol_cannot_carry_is_not_sent() {
    let (_machine, mut client) = client(Fault::None);
    assert_eq!(client.read(None, ""), Err(StoreError::Malformed));
    assert_eq!(client.read(None, "a\0b"), Err(StoreError::Malformed));
    assert_eq!(client.watch("a", "b\0c"), Err(StoreError::Malformed));
    assert_eq!(client.write(None, "a", &[0; PAYLOAD_MAX]), Err(StoreError::Malformed));
    assert!(client.ring().incoming.is_empty() && client.last_request == 0);
}
