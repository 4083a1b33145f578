//! What a guest can do with its page and its event channel.

use super::*;
use crate::tpmif::{STATE_CANCEL, STATE_FINISH, STATE_IDLE, STATE_SUBMIT, state};
use xen_abi::SharedPage;

#[test]
fn a_request_from_before_the_connection_is_seen() {
    let mut rig = Rig::new();
    let mut front = rig.attach(5, UUID);
    front.probe();
    front.send(COMMAND);
    rig.settle();
    assert_eq!(rig.back.next_request(), None, "not before the service knows of the connection");
    let id = rig.attached();
    let request = rig.back.next_request().unwrap();
    assert_eq!((request.front, request.locality, request.command.as_slice()), (id, 0, COMMAND));
    rig.back.respond(id, RESPONSE);
    rig.settle();
    assert_eq!(front.recv(), Recv::Response(RESPONSE.to_vec()));
}

#[test]
fn every_length_gets_an_answer_and_the_next_request_is_served() {
    for (length, good) in
        [(0u32, false), (9, false), (10, true), (4088, true), (4089, false), (4096, false), (u32::MAX, false)]
    {
        let mut rig = Rig::new();
        let (mut front, id) = rig.connected(5, UUID);
        front.submit_header(length, 0, 0);
        rig.settle();
        if good {
            let request = rig.back.next_request().unwrap();
            assert_eq!(request.command.len(), length as usize);
            rig.back.respond(id, RESPONSE);
            rig.settle();
        } else {
            assert_eq!(rig.back.next_request(), None);
            assert_eq!(front.recv(), Recv::Response(ERROR.to_vec()), "length {length}");
        }
        rig.serve(&mut front);
    }
}

#[test]
fn extra_pages_are_answered_with_the_error() {
    for n in [1, 2, 255] {
        let mut rig = Rig::new();
        let (mut front, _) = rig.connected(5, UUID);
        front.submit_header(20, 0, n);
        rig.settle();
        assert_eq!(rig.back.next_request(), None);
        assert_eq!(front.recv(), Recv::Response(ERROR.to_vec()), "{n} extra pages");
        rig.serve(&mut front);
    }
}

#[test]
fn what_was_copied_out_is_what_counts() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    // Each byte can be read once; whatever is read again is 0xff: a length, a count of extra pages, a locality out of range.
    front.page().page().readable_once();
    front.send(COMMAND);
    rig.settle();
    let request = rig.back.next_request().unwrap();
    assert_eq!((request.locality, request.command.as_slice()), (0, COMMAND));
}

#[test]
fn a_page_that_changes_after_submit_changes_nothing() {
    let mut rig = Rig::new();
    let (mut front, id) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    front.submit_header(u32::MAX, 255, 255);
    rig.settle();
    front.page().write(8, b"something else").unwrap();
    rig.settle();
    assert_eq!(rig.back.next_request().map(|request| (request.locality, request.command)), Some((0, COMMAND.to_vec())));
    front.submit_header(u32::MAX, 255, 255);
    rig.settle();
    assert_eq!(rig.back.next_request(), None, "one request at a time");
    rig.back.respond(id, RESPONSE);
    rig.settle();
    assert_eq!(front.recv(), Recv::Response(RESPONSE.to_vec()), "the answer puts the header right");
    rig.serve(&mut front);
}

#[test]
fn the_locality_byte_reaches_the_service_as_it_is() {
    for locality in [0, 1, 4, 5, 255] {
        let mut rig = Rig::new();
        let (mut front, _) = rig.connected(5, UUID);
        front.submit_header(12, locality, 0);
        rig.settle();
        assert_eq!(rig.back.next_request().map(|request| request.locality), Some(locality));
    }
}

#[test]
fn states_that_make_no_sense_are_ignored() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    for odd in (0..=255).filter(|state| ![STATE_SUBMIT, STATE_CANCEL].contains(state)) {
        front.signal(odd);
        rig.settle();
        assert_eq!(rig.back.next_request(), None);
        assert_eq!(state(front.page()), odd);
    }
    rig.serve(&mut front);
}

#[test]
fn a_second_submit_is_the_same_request() {
    let mut rig = Rig::new();
    let (mut front, id) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    front.signal(STATE_SUBMIT);
    rig.settle();
    assert!(rig.back.next_request().is_some());
    front.signal(STATE_SUBMIT);
    rig.settle();
    assert_eq!(rig.back.next_request(), None);
    rig.back.respond(id, RESPONSE);
    rig.back.respond(id, b"a second response to one request");
    rig.settle();
    assert_eq!(front.recv(), Recv::Response(RESPONSE.to_vec()));
    assert_eq!(rig.back.next_request(), None);
}

#[test]
fn cancel_before_the_service_took_it_goes_idle() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    let signals = rig.machine.domain(DomId(5)).signals(front.port());
    front.cancel();
    rig.settle();
    assert_eq!(front.recv(), Recv::Cancelled);
    assert_eq!(rig.machine.domain(DomId(5)).signals(front.port()), signals + 1);
    assert_eq!(rig.back.next_request(), None);
    rig.serve(&mut front);
}

#[test]
fn cancel_under_way_is_the_services_choice() {
    for gives_up in [true, false] {
        let mut rig = Rig::new();
        let (mut front, id) = rig.connected(5, UUID);
        front.send(COMMAND);
        rig.settle();
        rig.back.next_request().unwrap();
        assert!(!rig.back.is_cancelled(id));
        front.cancel();
        rig.settle();
        assert!(rig.back.is_cancelled(id));
        assert_eq!(state(front.page()), STATE_CANCEL);
        if gives_up {
            rig.back.abandon(id);
            rig.back.respond(id, RESPONSE);
            rig.settle();
            assert_eq!(front.recv(), Recv::Cancelled);
        } else {
            rig.back.respond(id, RESPONSE);
            rig.settle();
            assert_eq!(front.recv(), Recv::Response(RESPONSE.to_vec()));
        }
        assert!(!rig.back.is_cancelled(id), "that was the last request's business");
        rig.serve(&mut front);
    }
}

#[test]
fn cancel_when_nothing_is_open_goes_idle() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    front.cancel();
    rig.settle();
    assert_eq!(front.recv(), Recv::Cancelled);
    // CANCEL crosses FINISH.
    front.send(COMMAND);
    rig.settle();
    let request = rig.back.next_request().unwrap();
    rig.back.respond(request.front, RESPONSE);
    assert_eq!(state(front.page()), STATE_FINISH);
    front.cancel();
    rig.settle();
    assert_eq!(state(front.page()), STATE_IDLE);
    rig.serve(&mut front);
}

#[test]
fn a_storm_of_events_costs_one_look_each_step() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    let looks = alloc::rc::Rc::new(core::cell::Cell::new(0));
    let count = looks.clone();
    front.page().page().after_peer_read(move |_, _, _| count.set(count.get() + 1));
    for _ in 0..10_000 {
        front.notify();
    }
    rig.step();
    assert_eq!(looks.get(), 1);
    rig.step();
    assert_eq!(looks.get(), 1, "no event, no look");
}

#[test]
fn a_storm_of_watch_events_is_bounded_in_each_step() {
    let mut rig = Rig::new();
    let (_front, _) = rig.connected(5, UUID);
    for _ in 0..1000 {
        rig.machine.domain(DomId(5)).put("device/vtpm/0/state", "4");
    }
    rig.step();
    assert!(rig.machine.has_work(BACK) && rig.back.deadline() == Some(Instant::from_millis(0)));
    rig.settle();
    assert_eq!(rig.state(5), Some(4));
}

#[test]
fn a_response_that_does_not_fit_is_replaced_and_nothing_repeats() {
    for length in [0, 9, 4089, 8192] {
        let mut rig = Rig::new();
        let (mut front, id) = rig.connected(5, UUID);
        front.send(COMMAND);
        rig.settle();
        rig.back.next_request().unwrap();
        rig.back.respond(id, &alloc::vec![7; length]);
        rig.settle();
        assert_eq!(front.recv(), Recv::Response(ERROR.to_vec()), "{length} bytes");
        assert_eq!(rig.back.next_request(), None);
        rig.serve(&mut front);
    }
}

#[test]
fn front_ends_take_turns() {
    let mut rig = Rig::new();
    let uuid = |n: u16| alloc::format!("{n:08x}-4455-6677-8899-aabbccddeeff");
    let mut fronts: Vec<_> = (5..9).map(|n| rig.connected(n, &uuid(n)).0).collect();
    let mut order = Vec::new();
    for _ in 0..3 {
        for front in &mut fronts {
            front.send(COMMAND);
        }
        rig.settle();
        // The first front end always has its next request ready at once.
        for _ in 0..4 {
            let request = rig.back.next_request().unwrap();
            order.push(request.front.domid.0);
            rig.back.respond(request.front, RESPONSE);
            rig.settle();
            if request.front.domid == DomId(5) {
                fronts[0].send(COMMAND);
                rig.settle();
            }
        }
    }
    assert_eq!(order, [5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7, 8]);
}

#[test]
fn each_front_end_gets_its_own_answer() {
    let mut rig = Rig::new();
    let ((mut a, a_id), (mut b, b_id)) = (rig.connected(5, UUID), rig.connected(6, OTHER_UUID));
    a.send(b"the command of a");
    b.send(b"the command of b");
    rig.settle();
    let requests = [rig.back.next_request().unwrap(), rig.back.next_request().unwrap()];
    assert_eq!(requests.map(|request| request.front), [a_id, b_id]);
    rig.back.respond(b_id, b"the answer to b");
    rig.back.respond(a_id, b"the answer to a");
    rig.settle();
    assert_eq!(a.recv(), Recv::Response(b"the answer to a".to_vec()));
    assert_eq!(b.recv(), Recv::Response(b"the answer to b".to_vec()));
}

#[test]
fn a_response_is_signalled_once_at_the_next_step() {
    let mut rig = Rig::new();
    let (mut front, id) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    rig.back.next_request().unwrap();
    let before = rig.machine.domain(DomId(5)).signals(front.port());
    rig.back.respond(id, RESPONSE);
    assert_eq!(rig.back.deadline(), Some(Instant::from_millis(0)), "asks to be stepped");
    rig.settle();
    assert_eq!(rig.machine.domain(DomId(5)).signals(front.port()), before + 1);
}

#[test]
fn a_grant_ended_in_mid_command_harms_nobody() {
    let mut rig = Rig::new();
    let (mut good, _) = rig.connected(6, OTHER_UUID);
    let (mut front, id) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    rig.back.next_request().unwrap();
    front.drop_ring();
    rig.back.respond(id, RESPONSE);
    rig.settle();
    rig.serve(&mut good);
    rig.back.close(&mut rig.domain);
    rig.machine.assert_nothing_held(BACK);
}
