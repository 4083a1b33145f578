//! Managers that come late, die, or talk nonsense.

use super::fakes::{Trick, UUID, error};
use super::*;
use std::vec;
use tpm_wire::ResponseHeader;
use tpm_wire::mgr::{ORD_GET_BOOT_ID, ORD_LOADHASHKEY, TAG_RSP};

#[test]
fn a_manager_that_comes_late_is_waited_for_aloud() {
    let world = World::new();
    world.manager.0.uuid.set(None);
    let mut vtpm = world.start();
    vtpm.turn_until(|_| LINES.with_borrow(|lines| lines.len() >= 3));
    let lines = console();
    assert!(lines.iter().all(|line| line.starts_with("INFO Still waiting for the manager (vtpm= line")), "{lines:?}");
    world.manager.0.uuid.set(Some(UUID));
    let front = vtpm.attach(1);
    assert_eq!(vtpm.nv(front), b"");
}

#[test]
fn whatever_dies_on_the_way_is_asked_again() {
    for ordinal in [0x46, ORD_GET_BOOT_ID, ORD_LOADHASHKEY] {
        let world = World::new();
        let busy = [error(9), error(0x800), error(0x802)].map(Trick::Answer);
        world.manager.play(ordinal, [Trick::GoneBefore, Trick::GoneAfter].into_iter().chain(busy));
        let mut vtpm = world.start();
        let front = vtpm.attach(1);
        assert_eq!(vtpm.nv(front), b"");
    }
}

#[test]
fn a_chip_without_random_bytes_holds_up_only_a_vtpm_whose_cpu_has_none_either() {
    let tricks = [vec![Trick::Silence], vec![Trick::Answer(error(9)); 200]];
    for (tricks, cpu) in tricks.into_iter().flat_map(|tricks| [(tricks.clone(), true), (tricks, false)]) {
        let mut world = World::new();
        world.cpu = cpu;
        world.manager.play(0x46, tricks);
        let mut vtpm = world.start();
        let mut waited = 0;
        vtpm.turn_until(|_| {
            waited = LINES.with_borrow(|lines| lines.iter().filter(|line| line.contains("to GetRandom")).count());
            waited > 3 || world.manager.0.asked.borrow().contains(&ORD_LOADHASHKEY)
        });
        assert_eq!(waited > 3, !cpu);
        let alone =
            console().iter().any(|line| line.starts_with("WARN") && line.contains("seeding from the CPU alone"));
        assert_eq!(alone, cpu);
    }
}

#[test]
fn a_stop_ends_every_wait_of_the_start() {
    for ordinal in [0x46, ORD_GET_BOOT_ID, ORD_LOADHASHKEY, 1] {
        let world = World::new();
        world.manager.play(ordinal, [Trick::Silence]);
        let mut vtpm = world.start();
        vtpm.turn_until(|_| world.manager.0.asked.borrow().last() == Some(&ordinal));
        assert!(vtpm.stop());
    }
    let world = World::new();
    world.manager.0.uuid.set(None);
    assert!(world.start().stop());
}

#[test]
fn answers_that_are_none() {
    let of = |tag: u16, size: u32, rest: &[u8]| {
        let mut bytes = ResponseHeader::bare(tag, 0).to_vec();
        bytes[2..6].copy_from_slice(&size.to_be_bytes());
        bytes.extend(rest);
        bytes
    };
    let nonsense =
        [vec![], vec![0; 9], of(TAG_RSP, 11, b""), of(TAG_RSP, 9, b""), of(0xc4, 29, &[0; 19]), of(0xc4, 31, &[0; 21])];
    for answer in nonsense {
        for (ordinal, what) in [(ORD_GET_BOOT_ID, "GET_BOOT_ID"), (ORD_LOADHASHKEY, "LOADHASHKEY")] {
            let world = World::new();
            world.manager.play(ordinal, [Trick::Answer(answer.clone())]);
            let line = world.start().refusal();
            assert!(line.contains("malformed") && line.contains(what), "{line}");
        }
    }
    // Lengths of the random bytes: none, more than asked for, more than there are, and something behind them.
    for (count, bytes) in [(0, 0), (97, 97), (20, 19), (20, 21), (u32::MAX, 4)] {
        let mut world = World::new();
        world.cpu = false;
        let body = [&count.to_be_bytes()[..], &vec![1; bytes]].concat();
        world.manager.play(0x46, [Trick::Answer(of(0xc4, 10 + body.len() as u32, &body))]);
        let line = world.start().refusal();
        assert!(line.contains("GetRandom"), "{count} {bytes}: {line}");
    }
}

#[test]
fn a_manager_that_knows_no_boot_id_or_refuses() {
    let world = World::new();
    world.manager.play(ORD_GET_BOOT_ID, [Trick::Answer(ResponseHeader::bare(TAG_RSP, 10).to_vec())]);
    let line = world.start().refusal();
    assert!(line.contains("GET_BOOT_ID") && line.contains("0xa"), "{line}");
    let world = World::new();
    world.manager.play(ORD_LOADHASHKEY, [Trick::Answer(ResponseHeader::bare(TAG_RSP, 7).to_vec())]);
    let line = world.start().refusal();
    assert!(line.contains("LOADHASHKEY") && line.contains("0x7"), "{line}");
}
