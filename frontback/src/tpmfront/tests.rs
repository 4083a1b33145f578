use super::*;
use crate::fake::{DOM0, FakeDomain, Machine, MappedPage};
use crate::test_log;
use crate::tpmback::{ANNOUNCEMENT, FrontId, TpmBack};
use crate::tpmif;
use alloc::format;
use alloc::vec;
use core::pin::pin;
use core::task::{Context, Waker};
use xen_abi::{DomId, EventChannels, GrantRef, Grants, SharedPage, Store};

const FRONT: DomId = DomId(7);
const BACK: DomId = DomId(3);
const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const COMMAND: &[u8] = b"a command of the vTPM";
const RESPONSE: &[u8] = b"a response of the manager";
const MINUTE: Duration = Duration::from_secs(60);

/// A front end with a back end of ours.
struct Rig {
    machine: Machine,
    domain: FakeDomain,
    front: TpmFront<FakeDomain>,
    back_domain: FakeDomain,
    back: TpmBack<FakeDomain>,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        test_log::start();
        let machine = Machine::new();
        let (domain, back_domain) = (machine.domain(FRONT), machine.domain(BACK));
        let back = TpmBack::new(b"error 10 b");
        Self { machine, domain, front: TpmFront::new(0), back_domain, back, now: Instant::from_millis(5000) }
    }

    fn attached() -> Self {
        let mut rig = Self::new();
        rig.attach();
        assert!(rig.front.is_connected());
        rig
    }

    /// A new device, until the back end may connect it.
    fn attach(&mut self) {
        self.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
        self.settle();
        self.pass(ANNOUNCEMENT);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.front.step(&mut self.domain, self.now);
            self.back.step(&mut self.back_domain, self.now);
            let due = [self.front.deadline(), self.back.deadline()].into_iter().flatten().any(|at| at <= self.now);
            if !due && !self.machine.has_work(FRONT) && !self.machine.has_work(BACK) {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.front.deadline(), self.back.deadline());
    }

    fn request(&mut self) -> FrontId {
        while self.back.next_event().is_some() {}
        let request = self.back.next_request().expect("a request");
        assert_eq!((request.locality, request.command.as_slice()), (2, COMMAND));
        request.front
    }

    fn submit(&mut self) {
        self.front.submit(2, COMMAND, MINUTE).unwrap();
        self.settle();
    }

    fn exchange(&mut self) {
        self.submit();
        let id = self.request();
        self.back.respond(id, RESPONSE);
        self.settle();
        assert_eq!(self.front.take_response(), Some(Ok(RESPONSE.to_vec())));
        assert_eq!(self.front.take_response(), None);
    }
}

#[test]
fn connects_whichever_side_comes_first() {
    for front_first in [true, false] {
        let mut rig = Rig::new();
        if front_first {
            rig.settle();
            assert!(!rig.front.is_connected());
        }
        rig.attach();
        assert!(rig.front.is_connected());
        assert_eq!(rig.front.uuid().unwrap()[..3], [0, 0x11, 0x22]);
        assert_eq!(rig.machine.vtpm_front_state(FRONT, 0), Some(4));
        rig.exchange();
        rig.exchange();
        rig.front.close(&mut rig.domain);
        rig.back.step(&mut rig.back_domain, rig.now);
        rig.machine.assert_nothing_held(BACK);
        rig.machine.assert_nothing_held(FRONT);
    }
}

#[test]
fn a_transaction_that_meets_others_is_repeated() {
    let mut rig = Rig::new();
    rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
    rig.machine.refuse_commits(4);
    rig.settle();
    rig.pass(ANNOUNCEMENT);
    assert!(rig.front.is_connected());
}

#[test]
fn a_request_waits_for_the_connection() {
    let mut rig = Rig::new();
    rig.submit();
    assert_eq!(rig.front.take_response(), None);
    rig.attach();
    let id = rig.request();
    rig.back.respond(id, RESPONSE);
    rig.settle();
    assert_eq!(rig.front.take_response(), Some(Ok(RESPONSE.to_vec())));
}

#[test]
fn a_request_without_a_back_end_ends_in_time() {
    let mut rig = Rig::new();
    rig.submit();
    assert_eq!(rig.front.deadline(), Some(rig.now + MINUTE));
    rig.pass(MINUTE);
    assert_eq!(rig.front.take_response(), Some(Err(FrontError::TimedOut)));
}

#[test]
fn an_answer_too_late_is_not_taken_for_the_next_one() {
    let mut rig = Rig::attached();
    rig.submit();
    let id = rig.request();
    rig.pass(MINUTE);
    assert_eq!(rig.front.take_response(), Some(Err(FrontError::TimedOut)));
    assert!(rig.back.is_cancelled(id));
    rig.submit();
    assert_eq!(rig.back.next_request(), None, "the page is still taken");
    rig.back.respond(id, b"the answer to the old request");
    rig.settle();
    assert_eq!(rig.front.take_response(), None);
    let id = rig.request();
    rig.back.respond(id, RESPONSE);
    rig.settle();
    assert_eq!(rig.front.take_response(), Some(Ok(RESPONSE.to_vec())));
}

#[test]
fn idle_means_cancelled() {
    let mut rig = Rig::attached();
    rig.submit();
    let id = rig.request();
    rig.back.abandon(id);
    rig.settle();
    assert_eq!(rig.front.take_response(), Some(Err(FrontError::Cancelled)));
    rig.exchange();
}

#[test]
fn a_back_end_that_dies_takes_the_request_along_and_the_next_one_serves() {
    let mut rig = Rig::attached();
    rig.submit();
    rig.request();
    rig.machine.destroy(BACK);
    rig.machine.domain(DOM0).remove(None, &rig.machine.vtpm_back_dir(FRONT, BACK, 0)).unwrap_or(());
    for _ in 0..3 {
        rig.front.step(&mut rig.domain, rig.now);
    }
    assert_eq!(rig.front.take_response(), Some(Err(FrontError::Gone)));
    assert!(!rig.front.is_connected());
    rig.machine.assert_nothing_held(FRONT);

    // The manager comes back as another domain; the operator attaches again.
    rig.machine.xl_vtpm_detach_finish(FRONT, 0);
    let other = DomId(9);
    rig.back_domain = rig.machine.domain(other);
    rig.back = TpmBack::new(b"error 10 b");
    rig.machine.xl_vtpm_attach(FRONT, other, 0, UUID);
    for _ in 0..20 {
        rig.now = rig.now + Duration::from_millis(200);
        rig.front.step(&mut rig.domain, rig.now);
        rig.back.step(&mut rig.back_domain, rig.now);
    }
    assert!(rig.front.is_connected());
    rig.exchange();
}

#[test]
fn a_back_end_that_closes_and_waits_again_gets_a_new_ring() {
    for skipped in [false, true] {
        let (mut rig, Hostile { mut domain, page, port }) = hostile();
        let dir = rig.machine.vtpm_back_dir(FRONT, BACK, 0);
        rig.front.submit(2, COMMAND, MINUTE).unwrap();
        rig.front.step(&mut rig.domain, rig.now);
        domain.unmap(page);
        domain.close(port);
        for state in ["5", "6", "2"] {
            domain.put(&format!("{dir}/state"), state);
            if !skipped {
                rig.front.step(&mut rig.domain, rig.now);
            }
        }
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(rig.front.take_response(), Some(Err(FrontError::Gone)));
        assert_eq!(rig.machine.vtpm_front_state(FRONT, 0), Some(6));
        rig.machine.assert_nothing_held(FRONT);
        rig.pass(Duration::from_secs(2));
        rig.pass(ANNOUNCEMENT);
        assert!(rig.front.is_connected(), "to the back end of ours that runs there by now");
        rig.exchange();
    }
}

#[test]
fn a_device_made_anew_in_one_go_is_a_new_connection() {
    let mut rig = Rig::attached();
    rig.submit();
    rig.request();
    rig.machine.xl_vtpm_detach_finish(FRONT, 0);
    rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.front.take_response(), Some(Err(FrontError::Gone)));
    rig.pass(Duration::from_secs(2));
    assert!(rig.front.is_connected());
    rig.exchange();
}

#[test]
fn a_back_end_that_flaps_gets_one_ring_a_second() {
    let mut rig = Rig::attached();
    let dir = rig.machine.vtpm_back_dir(FRONT, BACK, 0);
    let mut refs = alloc::collections::BTreeSet::new();
    for _ in 0..100 {
        for state in ["6", "2"] {
            rig.back_domain.put(&format!("{dir}/state"), state);
            rig.front.step(&mut rig.domain, rig.now);
            refs.insert(rig.machine.read("/local/domain/7/device/vtpm/0/ring-ref"));
        }
    }
    assert!(refs.len() <= 2, "{} rings", refs.len());
}

#[test]
fn bad_keys_are_one_line_and_no_connection() {
    let huge = "/x".repeat(900);
    for (key, value) in
        [("backend", ""), ("backend", "relative"), ("backend", &huge), ("backend-id", "x"), ("backend-id", "65536")]
    {
        let mut rig = Rig::new();
        rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
        rig.machine.domain(DOM0).put(&format!("/local/domain/{FRONT}/device/vtpm/0/{key}"), value);
        rig.settle();
        rig.settle();
        assert!(!rig.front.is_connected(), "{key}={value}");
        let lines: Vec<_> = test_log::take().into_iter().filter(|line| line.starts_with("ERROR tpmfront")).collect();
        assert!(lines.len() == 1 && lines[0].len() < 200, "{lines:?}");
    }
}

#[test]
fn a_back_end_of_protocol_one_is_refused() {
    let mut rig = Rig::new();
    rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
    let dir = rig.machine.vtpm_back_dir(FRONT, BACK, 0);
    for state in ["2", "4"] {
        rig.back_domain.put(&format!("{dir}/state"), state);
        rig.front.step(&mut rig.domain, rig.now);
        rig.front.step(&mut rig.domain, rig.now);
    }
    assert!(!rig.front.is_connected());
    assert_eq!(rig.machine.vtpm_front_state(FRONT, 0), Some(6));
    rig.machine.assert_nothing_held(FRONT);
}

#[test]
fn lengths_that_do_not_fit_are_refused_at_once() {
    let mut rig = Rig::attached();
    for length in [0, 9, 4089, 5000] {
        assert_eq!(rig.front.submit(0, &vec![1; length], MINUTE), Err(FrontError::BadLength));
    }
    assert_eq!(rig.front.submit(0, &[1; 4088], MINUTE), Ok(()));
    assert_eq!(rig.front.submit(0, &[1; 10], MINUTE), Err(FrontError::Busy));
}

#[test]
fn transmit_is_one_exchange_and_dropping_it_cancels() {
    let rig = &mut Rig::attached();
    let front = RefCell::new(core::mem::replace(&mut rig.front, TpmFront::new(1)));
    let mut context = Context::from_waker(Waker::noop());
    let turn = |rig: &mut Rig| {
        for _ in 0..4 {
            front.borrow_mut().step(&mut rig.domain, rig.now);
            rig.back.step(&mut rig.back_domain, rig.now);
        }
    };
    {
        let mut first = pin!(transmit(&front, 2, COMMAND, MINUTE));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut second = pin!(transmit(&front, 2, COMMAND, MINUTE));
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Err(FrontError::Busy)));
        turn(rig);
        let id = rig.request();
        assert!(first.as_mut().poll(&mut context).is_pending());
        rig.back.respond(id, RESPONSE);
        turn(rig);
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Ok(RESPONSE.to_vec())));
    }
    {
        let mut dropped = pin!(transmit(&front, 2, COMMAND, MINUTE));
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        turn(rig);
    }
    let id = rig.request();
    turn(rig);
    assert!(rig.back.is_cancelled(id), "dropping the future cancels");
    assert_eq!(front.borrow_mut().submit(0, COMMAND, MINUTE), Ok(()), "and makes room");
}

/// A back end that can do anything with the page.
struct Hostile {
    domain: FakeDomain,
    page: MappedPage,
    port: EventPort,
}

fn hostile() -> (Rig, Hostile) {
    let mut rig = Rig::new();
    rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
    let dir = rig.machine.vtpm_back_dir(FRONT, BACK, 0);
    rig.back_domain.put(&format!("{dir}/feature-protocol-v2"), "1");
    rig.back_domain.put(&format!("{dir}/state"), "2");
    rig.front.step(&mut rig.domain, rig.now);
    rig.front.step(&mut rig.domain, rig.now);
    let number = |key: &str| -> u32 {
        rig.machine.read(&format!("/local/domain/{FRONT}/device/vtpm/0/{key}")).unwrap().parse().unwrap()
    };
    let mut domain = rig.back_domain.clone();
    let page = domain.map(FRONT, GrantRef(number("ring-ref"))).unwrap();
    let port = domain.bind_interdomain(FRONT, EventPort(number("event-channel"))).unwrap();
    domain.put(&format!("{dir}/state"), "4");
    rig.front.step(&mut rig.domain, rig.now);
    assert!(rig.front.is_connected());
    (rig, Hostile { domain, page, port })
}

#[test]
fn a_garbled_answer_is_an_error_and_no_more() {
    for (length, extra) in [(0u32, 0u8), (9, 0), (4089, 0), (4096, 0), (u32::MAX, 0), (20, 1), (20, 255)] {
        let (mut rig, peer) = hostile();
        rig.front.submit(0, COMMAND, MINUTE).unwrap();
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(tpmif::state(&peer.page), tpmif::STATE_SUBMIT);
        peer.page.write(0, &length.to_ne_bytes()).unwrap();
        peer.page.store_u8(7, extra).unwrap();
        tpmif::set_state(&peer.page, tpmif::STATE_FINISH);
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(rig.front.take_response(), Some(Err(FrontError::Garbled)), "{length} {extra}");
        // The next exchange on the same ring is sound.
        rig.front.submit(0, COMMAND, MINUTE).unwrap();
        rig.front.step(&mut rig.domain, rig.now);
        tpmif::put_response(&peer.page, RESPONSE).unwrap();
        tpmif::set_state(&peer.page, tpmif::STATE_FINISH);
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(rig.front.take_response(), Some(Ok(RESPONSE.to_vec())));
        let Hostile { mut domain, page, .. } = peer;
        domain.unmap(page);
    }
}

#[test]
fn states_that_make_no_sense_end_by_the_time_out() {
    for state in [tpmif::STATE_CANCEL, 4, 77, 255] {
        let (mut rig, peer) = hostile();
        rig.front.submit(0, COMMAND, MINUTE).unwrap();
        rig.front.step(&mut rig.domain, rig.now);
        tpmif::set_state(&peer.page, state);
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(rig.front.take_response(), None);
        rig.now = rig.now + MINUTE;
        rig.front.step(&mut rig.domain, rig.now);
        assert_eq!(rig.front.take_response(), Some(Err(FrontError::TimedOut)));
        assert_eq!(tpmif::state(&peer.page), tpmif::STATE_CANCEL);
    }
}

#[test]
fn a_request_that_xenstored_loses_is_made_again_whichever_it_was() {
    for executed in [false, true] {
        for number in 0.. {
            let mut rig = Rig::new();
            let seconds = |rig: &mut Rig| {
                for _ in 0..200 {
                    rig.now = rig.now + Duration::from_millis(50);
                    rig.front.step(&mut rig.domain, rig.now);
                    rig.back.step(&mut rig.back_domain, rig.now);
                }
            };
            rig.machine.lose_request(FRONT, number, executed);
            for _ in 0..2 {
                rig.machine.xl_vtpm_attach(FRONT, BACK, 0, UUID);
                seconds(&mut rig);
                assert!(rig.front.is_connected(), "{number}, executed: {executed}");
                rig.exchange();
                rig.machine.xl_vtpm_detach(FRONT, BACK, 0);
                seconds(&mut rig);
                rig.machine.xl_vtpm_detach_finish(FRONT, 0);
                seconds(&mut rig);
            }
            rig.machine.assert_nothing_held(FRONT);
            rig.machine.assert_nothing_held(BACK);
            if rig.machine.request_to_be_lost(FRONT) {
                assert!(number > 20, "{number} requests are too few for all this");
                break;
            }
        }
    }
}
