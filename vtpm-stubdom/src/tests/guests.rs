//! Guests that come, go, reboot, and ask for what they must not have.

use super::fakes::{DEEP_QUOTE, EXTEND, FLAGS, SELECTION, Trick, WRITE, command, error, ok};
use super::*;

fn refused(vtpm: &Running, front: FrontId) -> Option<String> {
    vtpm.guests.refused.borrow().iter().find(|(who, _)| *who == front).map(|(_, reason)| reason.clone())
}

fn refused_in_the_end(vtpm: &mut Running, front: FrontId) -> String {
    vtpm.turn_until(|guests| guests.refused.borrow().iter().any(|(who, _)| *who == front));
    refused(vtpm, front).expect("it was admitted")
}

#[test]
fn pcrs_are_reset_for_a_new_domain_and_kept_for_the_same() {
    let world = World::new();
    let mut vtpm = world.start();
    let first = vtpm.attach(7);
    vtpm.extend(first, b"a");
    vtpm.detach(first);
    let again = vtpm.attach(7);
    assert_eq!(vtpm.pcr(again), b"a");
    vtpm.extend(again, b"b");
    vtpm.detach(again);
    let rebooted = vtpm.attach(8);
    assert_eq!(vtpm.pcr(rebooted), b"");
}

#[test]
fn the_mark_is_durable_before_the_first_command_is_answered_and_extends_write_nothing() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    vtpm.extend(front, b"a");
    let saves = world.manager.0.saves.get();
    assert_eq!(saves, 3, "creation under way, created, mark");
    vtpm.extend(front, b"b");
    assert_eq!(world.manager.0.saves.get(), saves);
}

#[test]
fn a_clean_stop_saves_pcrs_once() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    vtpm.extend(front, b"a");
    assert!(vtpm.stop());

    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    assert_eq!(vtpm.pcr(front), b"a");
    vtpm.extend(front, b"b");
    // A crash this time: what was saved before must not come back.
    drop(vtpm);
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    let reason = refused_in_the_end(&mut vtpm, front);
    assert!(reason.contains("reboot the guest"), "{reason}");
    assert_eq!(vtpm.try_ask(front, &command(EXTEND, b"x")), Some(error(9)), "and it is not served either");
    // Rebooted, it is served.
    let front = vtpm.attach(8);
    assert_eq!(vtpm.pcr(front), b"");
}

#[test]
fn a_saved_state_is_not_for_another_guest() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    vtpm.extend(front, b"a");
    assert!(vtpm.stop());
    let mut vtpm = world.start();
    let front = vtpm.attach(8);
    assert_eq!(vtpm.pcr(front), b"");
    drop(vtpm);
    // Nor for the first, once another was served: it may live on, and its PCRs are gone.
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    let reason = refused_in_the_end(&mut vtpm, front);
    assert!(reason.contains("another guest was served since"), "{reason}");
}

#[test]
fn a_domain_number_means_another_guest_after_the_machine_restarted() {
    let mut world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    vtpm.extend(front, b"a");
    assert!(vtpm.stop());
    world.restart_machine(Fate::Lost);
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    assert_eq!(vtpm.pcr(front), b"");
}

#[test]
fn save_is_the_operators_word_that_the_next_domain_is_the_same_guest() {
    let mut world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(7);
    vtpm.extend(front, b"a");
    assert!(vtpm.stop());
    world.arguments = "save";
    let mut vtpm = world.start();
    let front = vtpm.attach(9);
    assert_eq!(vtpm.pcr(front), b"a");
    vtpm.detach(front);
    // The word holds for one guest only.
    let front = vtpm.attach(10);
    assert_eq!(vtpm.pcr(front), b"");
}

#[test]
fn hardware_pcrs_and_deactivated() {
    let mut world = World::new();
    world.arguments = "hwinitpcr=0,2-3 deactivated";
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    assert_eq!(vtpm.pcr(front), b"deactivated\x00\x40\x02\x42\x03\x43");
    vtpm.extend(front, b"a");
    vtpm.detach(front);
    let front = vtpm.attach(2);
    assert_eq!(vtpm.pcr(front), b"deactivated\x00\x40\x02\x42\x03\x43");
    vtpm.detach(front);

    // A chip that refuses: this guest is not served, and is as new as before when it asks again.
    world.manager.play(0x15, [Trick::Answer(error(7))]);
    let front = vtpm.attach(3);
    let reason = refused_in_the_end(&mut vtpm, front);
    assert!(reason.contains("hwinitpcr: cannot read PCR 0"), "{reason}");
    let front = vtpm.attach(3);
    assert_eq!(vtpm.pcr(front), b"deactivated\x00\x40\x02\x42\x03\x43");
}

#[test]
fn one_guest_at_a_time() {
    let world = World::new();
    let mut vtpm = world.start();
    let first = vtpm.attach(1);
    vtpm.extend(first, b"a");
    let second = vtpm.attach(2);
    let reason = refused_in_the_end(&mut vtpm, second);
    assert!(reason.contains("domain 1 is attached"), "{reason}");
    assert_eq!(vtpm.ask(second, &command(WRITE, b"x")), error(9));
    assert_eq!(vtpm.pcr(first), b"a", "the first does not notice");
    assert_eq!(vtpm.nv(first), b"");
    vtpm.detach(first);
    vtpm.detach(second);
    let second = vtpm.attach(2);
    assert_eq!(vtpm.pcr(second), b"");
}

#[test]
fn two_devices_of_one_guest_are_the_same_tpm() {
    let world = World::new();
    let mut vtpm = world.start();
    let first = vtpm.attach(1);
    vtpm.extend(first, b"a");
    let second = FrontId { domid: DomId(1), devid: 1, attach: 9 };
    vtpm.guests.events.borrow_mut().push_back(Event::Attached { front: second, uuid: [1; 16] });
    vtpm.extend(second, b"b");
    assert_eq!(vtpm.pcr(first), b"ab");
    vtpm.detach(first);
    assert_eq!(vtpm.pcr(second), b"ab");
}

#[test]
fn a_mark_that_cannot_be_written_is_no_admission() {
    let world = World::new();
    let mut vtpm = world.start();
    let first = vtpm.attach(1);
    vtpm.extend(first, b"a");
    vtpm.detach(first);
    world.disk.fail_at(world.disk.operations(), DiskError::Io);
    let second = vtpm.attach(2);
    let reason = refused_in_the_end(&mut vtpm, second);
    assert!(reason.contains("I/O error"), "{reason}");
    // Nothing happened to the first guest's PCRs.
    let first = vtpm.attach(1);
    assert_eq!(vtpm.pcr(first), b"a");
}

#[test]
fn a_start_that_cannot_be_made_durable_leaves_nobody_with_anothers_pcrs() {
    let world = World::with_vtpm(b"count");
    let mut vtpm = world.start();
    let first = vtpm.attach(2);
    vtpm.extend(first, b"a");
    vtpm.detach(first);
    let before = world.disk.operations();
    let second = vtpm.attach(3);
    assert_eq!(vtpm.nv(second), b"countii");
    let both_writes = world.disk.operations() - before;
    vtpm.detach(second);
    world.disk.fail_at(world.disk.operations() + both_writes - 1, DiskError::Io);
    let third = vtpm.attach(4);
    let reason = refused_in_the_end(&mut vtpm, third);
    assert!(reason.contains("cannot start the TPM for domain 4"), "{reason}");
    let second = vtpm.attach(3);
    let reason = refused_in_the_end(&mut vtpm, second);
    assert!(reason.contains("another guest was served since"), "{reason}");
    let fourth = vtpm.attach(5);
    assert_eq!(vtpm.pcr(fourth), b"");
    assert_eq!(vtpm.nv(fourth), b"countiii");
}

#[test]
fn guests_have_locality_0() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    for locality in 1..=255 {
        vtpm.send_at(front, locality, &command(EXTEND, b"a"));
    }
    vtpm.turn_until(|guests| guests.responses.borrow().len() == 255);
    assert!(vtpm.guests.responses.borrow().iter().all(|(_, response)| *response == error(61)));
    assert_eq!(vtpm.pcr(front), b"");
    let said = console().iter().filter(|line| line.contains("domain 1 asks for locality 1;")).count();
    assert_eq!(said, 1, "a guest cannot fill the console");
}

#[test]
fn the_hardware_tpm_through_the_manager() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    let mut ask = |tag: u16, ordinal: u32, body: &[u8]| {
        let asked = world.manager.0.asked.borrow().len();
        let response = vtpm.ask(front, &crate::manager::packet(tag, ordinal, body));
        (response, world.manager.0.asked.borrow().len() - asked)
    };
    ask(0xc1, 0xffff, b"");
    let start_id = tpm_crypto::sha1(&[&[world.manager.0.boot.get(); 20], &super::fakes::UUID]);
    let boot = [&[1, 0xc4, 0, 0, 0, 30, 0, 0, 0, 0][..], &start_id].concat();
    assert_eq!(ask(0x1c1, 0x80, &[]), (boot, 0), "answered by the vTPM itself");
    assert_eq!(ask(0x1c1, 0x80, &[0]), (error(10), 0));
    assert_eq!(ask(0x1c1, 0x15, &[0, 0, 0, 5]), (ok(&[0x45; 20]), 1));
    assert_eq!(ask(0x1c1, 0x46, &[0, 0, 0, 2]), (ok(&[0, 0, 0, 2, 0, 1]), 1));
    assert_eq!(ask(0x1c1, 0x14, &[7; 24]), (error(8), 1), "passed on, and the manager knows no administrator");
    let management = tpm_wire::ResponseHeader::bare(0x1c5, 1).to_vec();
    assert_eq!(ask(0x1c2, 0x0200_0101, b""), (management.clone(), 1));
    assert_eq!(ask(0x1c2, 0x0200_0102, &[0; 276]), (management, 1));
    // Everything else stops here: the record, odd lengths, management under the other tag.
    for ordinal in [1, 2, 3, 4, 0x80, 0x17, 0x0200_0101, u32::MAX] {
        assert_eq!(ask(0x1c1, ordinal, &[0; 4]), (error(10), 0));
    }
    for body in [&[][..], &[0; 3], &[0; 5], &[0; 64]] {
        assert_eq!(ask(0x1c1, 0x15, body), (error(0x19), 0));
        assert_eq!(ask(0x1c1, 0x14, body), (error(0x19), 0));
    }
    world.manager.play(0x0200_0101, [Trick::GoneBefore]);
    let lost = tpm_wire::ResponseHeader::bare(0x1c5, 9).to_vec();
    assert_eq!(ask(0x1c2, 0x0200_0101, b""), (lost, 1));
    // One that does not answer, until the guest has enough.
    world.manager.play(0x15, [Trick::Silence]);
    vtpm.send_at(front, 0, &crate::manager::packet(0x1c1, 0x15, &[0; 4]));
    vtpm.turn_until(|_| world.manager.0.asked.borrow().last() == Some(&0x15));
    vtpm.guests.cancelled.set(true);
    assert!(vtpm.turn_until(|guests| guests.abandoned.borrow()[..] == [front]));
    vtpm.guests.cancelled.set(false);
    let mut ask = |tag: u16, ordinal: u32, body: &[u8]| {
        let asked = world.manager.0.asked.borrow().len();
        let response = vtpm.ask(front, &crate::manager::packet(tag, ordinal, body));
        (response, world.manager.0.asked.borrow().len() - asked)
    };
    // A manager that is gone or babbles fails the command, and nothing else.
    for trick in [Trick::GoneBefore, Trick::Answer(b"babble".to_vec()), Trick::Answer(std::vec![])] {
        world.manager.play(0x15, [trick]);
        assert_eq!(ask(0x1c1, 0x15, &[0; 4]), (error(9), 1));
    }
}

#[test]
fn a_quote_of_the_hardware_tpm_for_a_command_that_waits() {
    use tpm_wire::mgr::ORD_GET_QUOTE;
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    let deep = command(DEEP_QUOTE, &[7]);
    let quote = [b"quote of ", &[7; 20][..], &SELECTION, &FLAGS.to_be_bytes()].concat();
    assert_eq!(vtpm.ask(front, &deep), ok(&quote));
    assert_eq!(vtpm.nv(front), [7], "a change that comes with the quote is durable like any other");
    // A manager that is gone, refuses or babbles fails the command. It is asked once.
    let wrong_tag = ok(b"quote").to_vec();
    let refusals = [error(9), error(0x800), tpm_wire::ResponseHeader::bare(0x1c4, 5).to_vec()];
    let babble = [Vec::new(), b"babble".to_vec(), wrong_tag];
    for trick in refusals.into_iter().chain(babble).map(Trick::Answer).chain([Trick::GoneBefore, Trick::GoneAfter]) {
        world.manager.play(ORD_GET_QUOTE, [trick.clone()]);
        let asked = world.manager.0.asked.borrow().len();
        assert_eq!(vtpm.ask(front, &deep), error(9), "{trick:?}");
        assert_eq!(world.manager.0.asked.borrow()[asked..], [ORD_GET_QUOTE]);
        assert_eq!(vtpm.nv(front), [7]);
    }
    let lines = console().iter().filter(|line| line.starts_with("WARN A quote of the hardware TPM failed: ")).count();
    assert_eq!(lines, 5, "one for each new cause");
    // One that does not answer, until the guest has enough: as if the command had never come.
    world.manager.play(ORD_GET_QUOTE, [Trick::Silence]);
    world.manager.0.asked.borrow_mut().clear();
    vtpm.send_at(front, 0, &deep);
    assert!(vtpm.turn_until(|_| world.manager.0.asked.borrow()[..] == [ORD_GET_QUOTE]));
    vtpm.guests.cancelled.set(true);
    assert!(vtpm.turn_until(|guests| guests.abandoned.borrow()[..] == [front]));
    vtpm.guests.cancelled.set(false);
    assert_eq!(vtpm.nv(front), [7]);
    assert_eq!(vtpm.ask(front, &deep), ok(&quote));
    // Or until the domain is to stop.
    world.manager.play(ORD_GET_QUOTE, [Trick::Silence]);
    world.manager.0.asked.borrow_mut().clear();
    vtpm.send_at(front, 0, &deep);
    assert!(vtpm.turn_until(|_| world.manager.0.asked.borrow()[..] == [ORD_GET_QUOTE]));
    assert!(vtpm.stop());
}
