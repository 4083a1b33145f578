//! Handshakes, detach, destroy, and what stands in xenstore.

use super::*;
use alloc::string::ToString;
use xen_abi::Store;

#[test]
fn console_lines_are_those_of_the_documentation() {
    let mut rig = Rig::new();
    rig.settle();
    assert_eq!(test_log::take(), ["INFO tpmback: Waiting for frontend domain to connect.."]);
    let _front = rig.connected(5, UUID);
    assert_eq!(test_log::take(), ["INFO tpmback: VTPM attached to Frontend 5/0"]);
}

#[test]
fn a_new_device_is_answered_in_the_step_that_sees_it() {
    let mut rig = Rig::new();
    rig.machine.xl_vtpm_attach(DomId(5), BACK, 0, UUID);
    rig.step();
    let dir = rig.machine.vtpm_back_dir(DomId(5), BACK, 0);
    assert_eq!(rig.state(5), Some(2));
    assert_eq!(rig.machine.read(&alloc::format!("{dir}/feature-protocol-v2")), Some("1".into()));
    rig.machine.xl_vtpm_attach(DomId(6), BACK, 0, OTHER_UUID);
    rig.step();
    assert_eq!(rig.state(6), Some(2));
}

#[test]
fn state_3_and_state_4_both_connect() {
    for state in [3, 4] {
        let mut rig = Rig::new();
        let mut front = rig.attach(5, UUID);
        front.probe();
        front.set_state(state);
        rig.settle();
        assert_eq!(rig.state(5), Some(4), "front end in state {state}");
        let event = rig.back.next_event();
        let front_id = FrontId { domid: DomId(5), devid: 0, attach: 1 };
        assert!(rig.back.port(front_id).is_some_and(|port| rig.back.ports().eq([port])));
        assert_eq!(rig.back.port(FrontId { attach: 2, ..front_id }), None);
        assert_eq!(event, Some(Event::Attached { front: front_id, uuid: UUID_BYTES }));
        assert_eq!(rig.back.next_event(), None);
        front.set_state(4);
        rig.settle();
        assert_eq!(rig.back.next_event(), None, "the same ring is no new connection");
        rig.serve(&mut front);
    }
}

#[test]
fn a_new_device_shows_state_2_as_long_as_libxl_needs_and_a_reload_does_not_wait() {
    let mut rig = Rig::new();
    rig.announce(DomId(5), UUID);
    let mut front = LinuxTpmFront::new(&rig.machine.domain(DomId(5)), 0);
    front.probe();
    rig.settle();
    assert_eq!(rig.state(5), Some(2), "however quick the front end is");
    assert_eq!(rig.back.deadline(), Some(rig.now + ANNOUNCEMENT));
    rig.now = rig.now + ANNOUNCEMENT;
    rig.settle();
    assert_eq!((rig.state(5), rig.back.deadline()), (Some(4), None));
    rig.attached();
    front.follow();
    rig.settle();
    rig.serve(&mut front);

    front.remove();
    rig.settle();
    front.probe();
    rig.settle();
    assert_eq!(rig.state(5), Some(4), "the toolstack waits for nothing now");
}

#[test]
fn a_ring_withdrawn_while_state_2_is_shown_is_not_connected() {
    let mut rig = Rig::new();
    rig.announce(DomId(5), UUID);
    let mut front = LinuxTpmFront::new(&rig.machine.domain(DomId(5)), 0);
    front.probe();
    rig.settle();
    front.set_state(6);
    rig.settle();
    assert_eq!(rig.back.deadline(), None);
    rig.now = rig.now + ANNOUNCEMENT;
    rig.settle();
    assert_eq!((rig.state(5), rig.back.next_event()), (Some(2), None));
}

#[test]
fn a_driver_reload_gets_a_new_connection() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    front.remove();
    rig.settle();
    assert_eq!(rig.state(5), Some(2));
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    rig.machine.assert_nothing_held(BACK);
    front.probe();
    rig.settle();
    front.follow();
    let second = rig.attached();
    assert_eq!((second.domid, second.devid), (first.domid, first.devid));
    assert_ne!(second.attach, first.attach);
    rig.serve(&mut front);
}

#[test]
fn closing_is_answered_with_closing_and_closed_with_waiting() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    front.set_state(5);
    rig.settle();
    assert_eq!(rig.state(5), Some(5));
    rig.machine.assert_nothing_held(BACK);
    front.set_state(6);
    rig.settle();
    assert_eq!(rig.state(5), Some(2));
}

#[test]
fn a_ring_that_appears_without_a_close_replaces_the_old_one() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    let request = rig.back.next_request().unwrap();
    front.lose_ring();
    front.probe();
    rig.settle();
    front.follow();
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    let second = rig.attached();
    assert!(rig.back.is_cancelled(request.front), "whose connection is gone");
    rig.back.respond(request.front, RESPONSE);
    rig.settle();
    assert_eq!(front.recv(), Recv::Cancelled, "the new page is untouched by the late answer");
    assert!(!rig.back.is_cancelled(second));
    rig.serve(&mut front);
    rig.back.close(&mut rig.domain);
    rig.machine.assert_nothing_held(BACK);
}

#[test]
fn back_to_state_3_with_the_same_numbers_is_a_new_connection() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    // A crashed kernel's successor whose ring got the same grant and the same port.
    let (page, port) = front.lose_ring().unwrap();
    let guest = &mut rig.machine.domain(DomId(5));
    xen_abi::EventChannels::close(guest, port);
    let again = xen_abi::EventChannels::alloc_unbound(guest, BACK).unwrap();
    assert_eq!(again, port);
    front.publish(&page.reference().to_string(), &again.to_string(), "1");
    rig.settle();
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    rig.attached();
    rig.back.close(&mut rig.domain);
    rig.machine.assert_nothing_held(BACK);
}

#[test]
fn detach_reaches_state_6_at_once_and_the_directory_goes() {
    for connected in [false, true] {
        let mut rig = Rig::new();
        let mut front = rig.attach(5, UUID);
        if connected {
            front.probe();
            rig.settle();
            front.follow();
            rig.settle();
            rig.attached();
        }
        rig.machine.xl_vtpm_detach(DomId(5), BACK, 0);
        rig.step();
        assert_eq!(rig.state(5), Some(6));
        rig.machine.assert_nothing_held(BACK);
        front.follow();
        rig.settle();
        assert_eq!(rig.state(5), Some(6), "the front end's own close changes nothing");
        // libxl removes the front end's directory when the back end's is gone.
        rig.settle_later();
        assert_eq!(rig.state(5), None);
        rig.machine.xl_vtpm_detach_finish(DomId(5), 0);
        rig.settle();
        // And the same device again.
        let mut front = rig.attach(5, UUID);
        assert_eq!(rig.state(5), Some(2));
        front.probe();
        rig.settle();
        while rig.back.next_event().is_some() {}
        rig.serve(&mut front);
    }
}

#[test]
fn state_5_alone_is_a_detach() {
    let mut rig = Rig::new();
    let (_front, id) = rig.connected(5, UUID);
    let dir = rig.machine.vtpm_back_dir(DomId(5), BACK, 0);
    rig.machine.domain(DomId(0)).put(&alloc::format!("{dir}/state"), "5");
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: id }));
    rig.settle_later();
    assert_eq!(rig.state(5), None);
}

#[test]
fn detach_of_a_closed_device_is_acknowledged_too() {
    let mut rig = Rig::new();
    let (_front, id) = rig.connected(5, UUID);
    rig.back.refuse(id, "no reason");
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
    rig.machine.xl_vtpm_detach(DomId(5), BACK, 0);
    assert_eq!(rig.state(5), Some(5));
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
}

#[test]
fn a_device_made_anew_before_we_looked_starts_over() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    rig.machine.xl_vtpm_detach(DomId(5), BACK, 0);
    rig.settle();
    front.drop_ring();
    rig.machine.xl_vtpm_detach_finish(DomId(5), 0);
    let mut front = rig.attach(5, OTHER_UUID);
    assert_eq!(rig.state(5), Some(2));
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    front.probe();
    rig.settle();
    match rig.back.next_event() {
        Some(Event::Attached { uuid, .. }) => assert_eq!(uuid[0], 0x10, "the new uuid"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn destroy_in_mid_command_leaves_the_next_guest_served() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    front.send(COMMAND);
    rig.settle();
    let request = rig.back.next_request().unwrap();
    rig.machine.destroy(DomId(5));
    rig.settle();
    assert_eq!(rig.state(5), Some(6), "for libxl to see");
    rig.settle_later();
    assert_eq!(rig.state(5), None, "outside dom0 the back end removes its own directory");
    rig.machine.assert_nothing_held(BACK);
    rig.back.respond(request.front, RESPONSE);
    rig.settle();
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    let (mut front, _) = rig.connected(6, UUID);
    rig.serve(&mut front);
}

#[test]
fn a_connection_nobody_heard_of_is_not_taken_leave_of() {
    let mut rig = Rig::new();
    let mut front = rig.attach(5, UUID);
    for _ in 0..10 {
        front.probe();
        rig.settle();
        front.remove();
        rig.settle();
    }
    assert_eq!(rig.back.next_event(), None);
    rig.machine.assert_nothing_held(BACK);
}

#[test]
fn unusable_keys_close_the_device_with_one_line_and_harm_no_other() {
    let huge = "x".repeat(2048);
    let cases: [(&str, Option<&str>); 11] = [
        ("uuid", None),
        ("uuid", Some("")),
        ("uuid", Some("00112233445566778899aabbccddeeff")),
        ("uuid", Some("00112233-4455-6677-8899-aabbccddeefg")),
        ("uuid", Some(&huge)),
        ("frontend", None),
        ("frontend", Some("")),
        ("frontend", Some(&huge)),
        ("frontend", Some("/local/domain/0/device/vtpm/0")),
        ("frontend-id", Some("99999999999")),
        ("frontend-id", Some("6")),
    ];
    for (key, value) in cases {
        let mut rig = Rig::new();
        let (mut good, _) = rig.connected(4, OTHER_UUID);
        test_log::take();
        rig.machine.xl_vtpm_attach(DomId(5), BACK, 0, UUID);
        let dir = rig.machine.vtpm_back_dir(DomId(5), BACK, 0);
        let path = alloc::format!("{dir}/{key}");
        match value {
            Some(value) => rig.machine.domain(DomId(0)).put(&path, value),
            None => rig.machine.domain(DomId(0)).remove(None, &path).unwrap(),
        }
        rig.settle();
        assert_eq!(rig.state(5), Some(6), "{key} = {value:?}");
        let lines = test_log::take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("ERROR tpmback: Frontend 5/0: ") && lines[0].contains(key), "{lines:?}");
        assert!(lines[0].len() < 200, "{lines:?}");
        rig.serve(&mut good);
        // Put right, it comes to life.
        let right = match key {
            "uuid" => UUID,
            "frontend" => "/local/domain/5/device/vtpm/0",
            _ => "5",
        };
        rig.machine.domain(DomId(0)).put(&path, right);
        rig.settle();
        assert_eq!(rig.state(5), Some(2), "{key} put right");
    }
}

#[test]
fn a_ring_that_cannot_be_had_closes_the_device_until_the_driver_starts_over() {
    let huge = "9".repeat(2000);
    let cases = [
        ("", "1", "1", "ring-ref"),
        ("0x10", "1", "1", "ring-ref"),
        (&huge, "1", "1", "ring-ref"),
        ("4294967295", "1", "1", "GNTST -3"),
        ("GOOD", "", "1", "event-channel"),
        ("GOOD", "-4", "1", "event-channel"),
        ("GOOD", "77777", "1", "errno 22"),
        ("GOOD", "GOOD", "0", "feature-protocol-v2"),
        ("GOOD", "GOOD", "2", "feature-protocol-v2"),
        ("GOOD", "GOOD", "", "feature-protocol-v2"),
    ];
    for (ring_ref, channel, protocol, word) in cases {
        let mut rig = Rig::new();
        let (mut good, _) = rig.connected(4, OTHER_UUID);
        let mut front = rig.attach(5, UUID);
        test_log::take();
        front.probe();
        let own = (front.page().reference().to_string(), front.port().to_string());
        let pick = |value: &str, own: &str| if value == "GOOD" { own.to_string() } else { value.to_string() };
        front.publish(&pick(ring_ref, &own.0), &pick(channel, &own.1), protocol);
        rig.settle();
        assert_eq!(rig.state(5), Some(6), "{word}");
        let lines = test_log::take();
        assert!(lines.len() == 1 && lines[0].contains(word) && lines[0].len() < 200, "{word}: {lines:?}");
        rig.serve(&mut good);
        front.remove();
        rig.settle();
        assert_eq!(rig.state(5), Some(2), "{word}: the driver starts over");
        front.probe();
        rig.settle();
        assert_eq!(rig.state(5), Some(4), "{word}: and is served");
        rig.back.close(&mut rig.domain);
        rig.machine.assert_nothing_held(BACK);
    }
}

#[test]
fn another_domains_grant_does_not_connect() {
    let mut rig = Rig::new();
    let (victim, _) = rig.connected(4, OTHER_UUID);
    let mut thief = rig.attach(5, UUID);
    thief.publish(&victim.page().reference().to_string(), &victim.port().to_string(), "1");
    rig.settle();
    assert_eq!((rig.state(5), rig.state(4)), (Some(6), Some(4)));
}

#[test]
fn keys_changed_under_a_connection_are_followed() {
    let mut rig = Rig::new();
    let (mut front, first) = rig.connected(5, UUID);
    front.publish("garbage", "garbage", "garbage");
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
    rig.machine.assert_nothing_held(BACK);
}

#[test]
fn a_state_that_is_no_state_closes_the_device() {
    for state in ["", "9", "0", "4294967296", "abc"] {
        let mut rig = Rig::new();
        let (mut front, first) = rig.connected(5, UUID);
        test_log::take();
        rig.machine.domain(DomId(5)).put("device/vtpm/0/state", state);
        rig.settle();
        assert_eq!(rig.state(5), Some(6), "{state}");
        assert_eq!(rig.complaints(), 1);
        assert_eq!(rig.back.next_event(), Some(Event::Detached { front: first }));
        front.remove();
        front.probe();
        rig.settle();
        front.remove();
        rig.settle();
        assert_eq!(rig.state(5), Some(2), "{state}");
    }
}

#[test]
fn a_uuid_is_served_once_at_a_time() {
    let mut rig = Rig::new();
    let (mut first, _) = rig.connected(5, UUID);
    test_log::take();
    rig.attach(6, UUID);
    assert_eq!(rig.state(6), Some(6));
    assert_eq!(rig.complaints(), 1);
    rig.serve(&mut first);
    rig.machine.destroy(DomId(5));
    rig.settle();
    assert_eq!(rig.state(6), Some(2), "its turn now");
}

#[test]
fn a_uuid_is_free_when_its_directory_is_taken_away() {
    let mut rig = Rig::new();
    rig.connected(5, UUID);
    rig.attach(6, UUID);
    assert_eq!(rig.state(6), Some(6));
    rig.machine.domain(DomId(0)).remove(None, &rig.machine.vtpm_back_dir(DomId(5), BACK, 0)).unwrap();
    rig.settle();
    assert_eq!(rig.state(6), Some(2));
    rig.machine.assert_nothing_held(BACK);
}

#[test]
fn a_successor_with_the_same_uuid_finds_it_free() {
    let mut rig = Rig::new();
    rig.connected(5, UUID);
    test_log::take();
    // Both changes are there when the back end looks.
    rig.machine.destroy(DomId(5));
    rig.machine.xl_vtpm_attach(DomId(4), BACK, 0, UUID);
    rig.step();
    assert_eq!((rig.state(5), rig.state(4)), (Some(6), Some(2)));
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn a_front_end_whose_end_went_unnoticed_does_not_stand_in_the_way() {
    let mut rig = Rig::new();
    rig.connected(5, UUID);
    rig.machine.destroy(DomId(5));
    while rig.domain.next_watch_event("").is_some() {}
    rig.announce(DomId(6), UUID);
    assert_eq!((rig.state(5), rig.state(6)), (Some(6), Some(2)));
    rig.settle_later();
    assert_eq!((rig.state(5), rig.state(6)), (None, Some(2)));
}

#[test]
fn refusal_is_for_good_until_the_device_is_new() {
    let mut rig = Rig::new();
    let (mut front, id) = rig.connected(5, UUID);
    test_log::take();
    rig.back.refuse(id, "no reason");
    assert!(rig.back.deadline().is_some());
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
    assert_eq!(test_log::take(), ["ERROR tpmback: Frontend 5/0: refused: no reason"]);
    front.remove();
    rig.settle();
    front.probe();
    rig.settle();
    assert_eq!(rig.state(5), Some(6));
    rig.machine.destroy(DomId(5));
    rig.settle();
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: id }));
    rig.connected(6, UUID);
}

#[test]
fn refusing_all_includes_those_to_come() {
    let mut rig = Rig::new();
    let (_front, id) = rig.connected(5, UUID);
    rig.back.refuse_all("there is no TPM here");
    rig.machine.xl_vtpm_attach(DomId(6), BACK, 0, OTHER_UUID);
    rig.settle();
    assert_eq!((rig.state(5), rig.state(6)), (Some(6), Some(6)));
    assert_eq!(rig.back.next_event(), Some(Event::Detached { front: id }));
    assert_eq!(rig.complaints(), 2);
    rig.machine.destroy(DomId(6));
    rig.settle_later();
    assert_eq!(rig.state(6), None);
}

#[test]
fn close_tells_every_front_end() {
    let mut rig = Rig::new();
    let (mut front, _) = rig.connected(5, UUID);
    rig.attach(6, OTHER_UUID);
    rig.back.close(&mut rig.domain);
    assert_eq!((rig.state(5), rig.state(6)), (Some(6), Some(6)));
    rig.machine.assert_nothing_held(BACK);
    front.follow();
    assert_eq!(front.state(), 6);
}

#[test]
fn names_that_are_no_numbers_are_passed_over() {
    let mut rig = Rig::new();
    for path in
        ["backend/vtpm/x/0/state", "backend/vtpm/99999999/0/state", "backend/vtpm/7/y/state", "backend/vtpm/8/state"]
    {
        rig.machine.domain(DomId(0)).put(&alloc::format!("/local/domain/{BACK}/{path}"), "1");
    }
    let (mut front, _) = rig.connected(5, UUID);
    rig.serve(&mut front);
}

#[test]
fn a_hostile_guest_cannot_fill_the_console() {
    let mut rig = Rig::new();
    let mut front = rig.attach(5, UUID);
    test_log::take();
    for _ in 0..200 {
        front.publish("bad", "bad", "bad");
        rig.settle();
        front.set_state(6);
        rig.settle();
    }
    assert!(rig.complaints() <= 20);
    // Nor by connecting again and again.
    for _ in 0..200 {
        front.probe();
        rig.settle();
        front.follow();
        front.remove();
        rig.settle();
    }
    assert_eq!(rig.back.shared.attaches, 200);
    assert_eq!(test_log::take().len(), 101);
}

#[test]
fn a_request_that_xenstored_loses_is_made_again_whichever_it_was() {
    for executed in [false, true] {
        for number in 0.. {
            let (mut rig, guest) = (Rig::new(), DomId(5));
            rig.machine.lose_request(BACK, number, executed);
            rig.machine.xl_vtpm_attach(guest, BACK, 0, UUID);
            rig.settle_for_good();
            assert_eq!(rig.state(5), Some(2), "{number}, executed: {executed}");
            let mut front = LinuxTpmFront::new(&rig.machine.domain(guest), 0);
            for _ in 0..2 {
                front.probe();
                rig.settle_for_good();
                front.follow();
                rig.settle_for_good();
                assert_eq!(rig.state(5), Some(4), "{number}, executed: {executed}");
                while rig.back.next_event().is_some() {}
                rig.serve(&mut front);
                front.remove();
                rig.settle_for_good();
                assert_eq!(rig.state(5), Some(2), "{number}, executed: {executed}");
            }
            rig.machine.xl_vtpm_detach(guest, BACK, 0);
            rig.settle_for_good();
            assert_eq!(rig.state(5), None, "{number}, executed: {executed}");
            rig.machine.assert_nothing_held(BACK);
            if rig.machine.request_to_be_lost(BACK) {
                assert!(number > 30, "{number} requests are too few for all this");
                break;
            }
        }
    }
}
