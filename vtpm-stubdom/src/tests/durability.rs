//! Nothing acknowledged is ever lost; what fails is not done.

use super::fakes::{GET, SLOW_WRITE, Trick, WRITE, command, error, ok};
use super::*;
use tpm_wire::mgr::ORD_SAVEHASHKEY;
use vault::fake::Dice;

#[test]
fn a_disk_that_fails_fails_the_command_and_only_it() {
    let world = World::with_vtpm(b"1");
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.nv(front), b"1");
    for operation in 0..3 {
        world.disk.fail_at(world.disk.operations() + operation, DiskError::Io);
        let response = vtpm.ask(front, &command(WRITE, b"x"));
        if response == ok(b"") {
            // The failure lies beyond this write's last operation.
            assert!(operation > 0);
            assert_eq!(vtpm.nv(front), b"1x");
            assert!(console().iter().any(|line| line.contains("durable again")));
            return;
        }
        assert_eq!(response, error(9));
        assert_eq!(vtpm.nv(front), b"1");
        let said = |line: &&String| line.contains("its change is not made") && line.contains("I/O error");
        assert_eq!(console().iter().filter(said).count(), usize::from(operation == 0), "once for each cause");
    }
}

#[test]
fn after_a_failed_write_the_state_is_the_acknowledged_one_also_after_a_restart() {
    let world = World::with_vtpm(b"1");
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.nv(front), b"1");
    world.disk.fail_at(world.disk.operations(), DiskError::Io);
    assert_eq!(vtpm.ask(front, &command(WRITE, b"x")), error(9));
    drop(vtpm);
    let mut vtpm = world.start();
    let front = vtpm.attach(3);
    assert_eq!(vtpm.nv(front), b"1");
    assert_eq!(vtpm.ask(front, &command(WRITE, b"2")), ok(b""));
    assert_eq!(vtpm.nv(front), b"12");
}

#[test]
fn failed_writes_before_one_that_was_not_recorded() {
    let mut world = World::with_vtpm(b"1");
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.nv(front), b"1");
    for _ in 0..3 {
        world.disk.fail_at(world.disk.operations(), DiskError::Io);
        assert_eq!(vtpm.ask(front, &command(WRITE, b"x")), error(9));
    }
    world.manager.0.cut_at_save.set(Some((world.manager.0.saves.get(), false)));
    vtpm.send_at(front, 0, &command(WRITE, b"2"));
    vtpm.turn_until(|_| world.manager.0.cut.get());
    drop(vtpm);
    world.restart_machine(Fate::Kept);
    let mut vtpm = world.start();
    let front = vtpm.attach(3);
    assert_eq!(vtpm.nv(front), b"1");
}

#[test]
fn no_answer_before_the_record_whatever_the_manager_does_with_it() {
    let tricks = [
        Trick::GoneBefore,
        Trick::GoneAfter,
        Trick::Answer(error(9)),
        Trick::Answer(error(0x800)),
        Trick::Answer(error(7)),
        Trick::DoAndAnswer(error(9)),
        Trick::DoAndAnswer(error(8)),
        Trick::Answer(b"babble".to_vec()),
        Trick::DoAndAnswer(std::vec![]),
        Trick::Answer(ok(b"")),
        Trick::Answer(tpm_wire::ResponseHeader::bare(0x1c5, 0).to_vec()),
    ];
    for trick in tricks {
        let world = World::with_vtpm(b"1");
        let mut vtpm = world.start();
        let front = vtpm.attach(2);
        assert_eq!(vtpm.nv(front), b"1");
        world.manager.play(ORD_SAVEHASHKEY, [trick.clone(), trick.clone()]);
        let saves = world.manager.0.asked.borrow().iter().filter(|ordinal| **ordinal == ORD_SAVEHASHKEY).count();
        assert_eq!(vtpm.ask(front, &command(WRITE, b"2")), ok(b""), "{trick:?}");
        let asked =
            world.manager.0.asked.borrow().iter().filter(|ordinal| **ordinal == ORD_SAVEHASHKEY).count() - saves;
        assert_eq!(asked, 3, "{trick:?}");
        drop(vtpm);
        let mut vtpm = world.start();
        let front = vtpm.attach(3);
        assert_eq!(vtpm.nv(front), b"12", "{trick:?}");
    }
}

#[test]
fn a_stop_while_the_manager_is_silent_ends_in_time_and_loses_nothing_acknowledged() {
    for recorded in [false, true] {
        let world = World::with_vtpm(b"1");
        let mut vtpm = world.start();
        let front = vtpm.attach(2);
        assert_eq!(vtpm.nv(front), b"1");
        world.manager.0.cut_at_save.set(Some((world.manager.0.saves.get(), recorded)));
        vtpm.send_at(front, 0, &command(WRITE, b"2"));
        vtpm.turn_until(|_| world.manager.0.cut.get());
        let responses = vtpm.guests.responses.borrow().len();
        let (guests, before) = (vtpm.guests, vtpm.now);
        vtpm.stop.set(true);
        vtpm.turn_until(|_| false);
        assert!(vtpm.ended && vtpm.now.since(before) < Duration::from_secs(30));
        assert_eq!(guests.responses.borrow().len(), responses, "an answer to a change that may be lost");
        assert_eq!(guests.abandoned.borrow()[..], [front]);
        world.manager.0.cut.set(false);
        let mut vtpm = world.start();
        let front = vtpm.attach(3);
        assert_eq!(vtpm.nv(front), if recorded { &b"12"[..] } else { b"1" });
    }
}

#[test]
fn a_cancel_between_two_steps_leaves_no_trace() {
    let world = World::with_vtpm(b"1");
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.ask(front, &command(SLOW_WRITE, b"\x05s")), ok(b""));
    let saves = world.manager.0.saves.get();
    vtpm.send_at(front, 0, &command(SLOW_WRITE, b"\xffx"));
    for _ in 0..5 {
        let _ = turn(&mut (), vtpm.now, &[], vtpm.timer, Pin::new(&mut vtpm.life));
    }
    vtpm.guests.cancelled.set(true);
    assert!(vtpm.turn_until(|guests| !guests.abandoned.borrow().is_empty()));
    vtpm.guests.cancelled.set(false);
    assert_eq!(vtpm.nv(front), b"1s");
    assert_eq!(world.manager.0.saves.get(), saves);
}

/// Lives of one vTPM: guests write bytes one at a time, and power fails at any moment. `acknowledged` is what guests were told.
#[test]
fn a_power_cut_at_every_write_flush_and_record() {
    let fates = [Fate::Lost, Fate::Kept, Fate::Seeded(11), Fate::Torn(12)];
    // How much one undisturbed life does.
    let world = World::with_vtpm(b"");
    let (operations, saves) = (world.disk.operations(), world.manager.0.saves.get());
    one_life(&world);
    let (operations, saves) = (world.disk.operations() - operations, world.manager.0.saves.get() - saves);
    assert!(operations > 10 && saves >= 5, "{operations} {saves}");
    for fate in fates {
        for cut in 0..operations {
            let mut world = World::with_vtpm(b"");
            world.disk.cut_at(world.disk.operations() + cut);
            after_a_cut(&mut world, fate);
        }
        for save in 0..saves {
            for recorded in [false, true] {
                let mut world = World::with_vtpm(b"");
                world.manager.0.cut_at_save.set(Some((world.manager.0.saves.get() + save, recorded)));
                after_a_cut(&mut world, fate);
            }
        }
    }
}

/// Two guests, four writes and a clean stop; gives what was acknowledged.
fn one_life(world: &World) -> Vec<u8> {
    let mut vtpm = world.start();
    let mut acknowledged = Vec::new();
    for domid in [2, 3] {
        let front = vtpm.attach(domid);
        for byte in [b'a', b'b'] {
            match vtpm.try_ask(front, &command(WRITE, &[byte])) {
                Some(response) if response == ok(b"") => acknowledged.push(byte),
                Some(response) => assert_eq!(response, error(9)),
                None => return acknowledged,
            }
        }
        vtpm.detach(front);
    }
    vtpm.stop();
    acknowledged
}

fn after_a_cut(world: &mut World, fate: Fate) {
    let acknowledged = one_life(world);
    world.restart_machine(fate);
    console();
    let mut vtpm = world.start();
    let front = vtpm.attach(9);
    let found = vtpm.nv(front);
    let one_more = found.len() == acknowledged.len() + 1 && found.starts_with(&acknowledged);
    assert!(found == acknowledged || one_more, "acknowledged {acknowledged:?}, found {found:?}");
    // And it goes on.
    assert_eq!(vtpm.ask(front, &command(WRITE, b"z")), ok(b""));
    drop(vtpm);
    let mut vtpm = world.start();
    let front = vtpm.attach(10);
    assert_eq!(vtpm.ask(front, &command(GET, b"")), ok(&[&found[..], b"z"].concat()));
}

#[test]
fn many_lives_with_cuts_at_random() {
    let mut dice = Dice(2026);
    let mut world = World::with_vtpm(b"");
    let mut known = Vec::new();
    for life in 0..120 {
        if dice.roll(2) == 0 {
            world.disk.cut_at(world.disk.operations() + dice.roll(14) as u64);
        } else {
            let save = world.manager.0.saves.get() + dice.roll(6) as u32;
            world.manager.0.cut_at_save.set(Some((save, dice.roll(2) == 0)));
        }
        let acknowledged = one_life(&world);
        known.extend(acknowledged);
        world.restart_machine(Fate::Torn(life));
        console();
        let mut vtpm = world.start();
        let front = vtpm.attach(4);
        let found = vtpm.nv(front);
        assert!(found.starts_with(&known) && found.len() <= known.len() + 1, "life {life}: {known:?} {found:?}");
        known = found;
    }
    assert!(known.len() > 100);
}
