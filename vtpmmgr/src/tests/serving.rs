//! What vTPMs ask, and how they get on side by side.

use super::*;
use crate::fake::Fault;
use tpm_wire::TransportError;
use vault::fake::RamDisk;

const BOOT_ID: u32 = 0x80;

#[test]
fn first_start_takes_ownership_and_serves() {
    let (chip, disk) = (FakeChip::new(1, 2), RamDisk::new(4096));
    manage("tpmlocality=2 srk_auth=text:abc", disk, &chip, |mut m| {
        m.attach(front(5, 1), uuid(1));
        assert_eq!(m.ask(front(5, 1), &load()), (3, Vec::new()), "no record yet");
        assert!(is_ready());
        let (owner, srk) = chip.owner_and_srk().expect("an owner");
        assert_eq!((owner, srk[..4].to_vec()), ([0xff; 20], [0xa9, 0x99, 0x3e, 0x36].to_vec()));
        assert_eq!(m.ask(front(5, 1), &save(&[7; 64])), (0, Vec::new()));
        assert_eq!(m.ask(front(5, 1), &load()), (0, [7; 64].to_vec()));
        assert_eq!(m.ask(front(5, 1), &save(&[8; 52])), (0, Vec::new()));
        assert_eq!(m.ask(front(5, 1), &load()), (0, [8; 52].to_vec()));
        m.stop();
    });
    assert_eq!(chip.open_slots(), (0, 0));
}

#[test]
fn after_a_restart_of_everything_every_vtpm_comes_back() {
    for line in ["", "srk_auth=random owner_auth=random"] {
        let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
        manage(line, disk.clone(), &chip, |mut m| {
            for n in 1..=40 {
                m.attach(front(n.into(), 1), uuid(n));
                assert_eq!(m.ask(front(n.into(), 1), &save(&[n; 60])).0, 0);
            }
            m.stop();
        });
        for again in 0..3 {
            chip.power_cycle();
            // The secret that was drawn at random is on the disk; the option may stay or go.
            manage(if again == 2 { "" } else { line }, disk.clone(), &chip, |mut m| {
                for n in 1..=40 {
                    m.attach(front(n.into(), 2), uuid(n));
                    assert_eq!(m.ask(front(n.into(), 2), &load()), (0, [n; 60].to_vec()));
                }
                m.stop();
            });
        }
        let (owner, srk) = chip.owner_and_srk().unwrap();
        assert_eq!(owner == [0xff; 20] && srk == [0; 20], line.is_empty());
    }
}

#[test]
fn the_boot_id_names_a_start_of_the_machine_not_of_the_manager() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    let boot_id = || {
        manage("", disk.clone(), &chip, |mut m| {
            m.attach(front(5, 1), uuid(1));
            let (code, id) = m.ask(front(5, 1), &packet(0x01c1, BOOT_ID, &[]));
            assert_eq!((code, id.len()), (0, 20));
            m.stop();
            id
        })
    };
    let (first, same) = (boot_id(), boot_id());
    chip.power_cycle();
    let next = boot_id();
    assert!(first == same && first != next);
}

#[test]
fn requests_of_others_never_reach_a_record() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        m.attach(front(2, 1), uuid(2));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        assert_eq!(m.ask(front(2, 1), &load()).0, 3);
        assert_eq!(m.ask(front(2, 1), &save(&[2; 64])).0, 0);
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));

        // The same UUID from another domain: closed, and what it sends is not looked at.
        m.attach(front(3, 1), uuid(1));
        assert_eq!(m.try_ask(front(3, 1), &load()), None);
        assert_eq!(m.try_ask(front(3, 1), &save(&[3; 64])), None);
        assert_eq!(*m.fronts.refused.borrow(), [front(3, 1)]);
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));

        // A connection that nobody announced.
        assert_eq!(m.try_ask(front(9, 1), &load()), None);

        // Once the first is gone, the UUID is free; a front end may also connect anew without having left.
        m.detach(front(1, 1));
        m.attach(front(3, 2), uuid(1));
        assert_eq!(m.ask(front(3, 2), &load()), (0, [1; 64].to_vec()));
        m.attach(front(3, 3), uuid(1));
        assert_eq!(m.ask(front(3, 3), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn malformed_and_unknown_requests_are_answered_and_change_nothing() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage("rollback=off", disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        let before = disk.image();
        let seen = chip.seen().len();
        for (command, code) in [
            (save(&[0; 51]), 25),
            (save(&[0; 65]), 25),
            (save(&[]), 25),
            (packet(0x01c1, 2, &[0]), 25),
            (packet(0x01c1, 3, &[]), 9),
            (packet(0x01c1, 4, &[0; 30]), 3),
            (packet(0x01c2, 0x0200_0101, &[]), 1),
            (packet(0x00c1, 0x14, &[0; 24]), 8),
            (packet(0x00c2, 0x0d, &[0; 600]), 8),
            (packet(0x00c1, 0x46, &[0; 3]), 25),
            (packet(0x8001, 0x144, &[0, 0]), 30),
            (b"\0\xc1\0\0\0\x0b\0\0\0\x46".to_vec(), 25),
        ] {
            assert_eq!(m.ask(front(1, 1), &command), (code, Vec::new()), "{command:x?}");
        }
        assert!(disk.image() == before && chip.seen().len() == seen);
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn the_chips_random_bytes_and_pcrs_are_passed_through() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        let (code, random) = m.ask(front(1, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 16]));
        assert_eq!((code, &random[..4], random.len()), (0, &[0, 0, 0, 16][..], 20));
        assert_eq!(m.ask(front(1, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 9])), (0, [9; 20].to_vec()));
        assert_eq!(m.ask(front(1, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 24])), (2, Vec::new()));
        m.stop();
    });
}

#[test]
fn a_slow_or_broken_chip_holds_up_only_those_who_need_it() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage("", disk, &chip, |mut m| {
        for n in 1..=3 {
            m.attach(front(n, 1), uuid(n as u8));
        }
        m.settle();
        chip.fault(0x46, Fault::Late(500));
        m.send(front(1, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8]));
        assert_eq!(m.ask(front(2, 1), &save(&[2; 64])).0, 0, "the disk is served while the chip is busy");
        assert_eq!(m.ask(front(2, 1), &load()), (0, [2; 64].to_vec()));
        m.settle();
        assert_eq!(m.answers().len(), 1);

        // Longer than the manager asks again; a chip that is down is only asked whether it is back.
        for ordinal in [0x46, 0x65, 0x99] {
            (0..8).for_each(|_| chip.fault(ordinal, Fault::Lost(TransportError::TimedOut)));
        }
        for n in 1..=3 {
            m.send(front(n, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8]));
        }
        m.settle();
        let answers = m.answers();
        assert!(answers.len() == 3 && answers.iter().all(|(_, answer)| opened(answer) == (9, Vec::new())));
        assert_eq!(console().matches("get TPM_FAIL until it answers").count(), 1, "said once");
        while !chip.is_faultless() {
            m.ask(front(3, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8]));
        }
        assert_eq!(m.ask(front(3, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8])).0, 0);
        assert!(console().contains("the TPM chip works again"));
        m.stop();
    });
}

#[test]
fn a_vtpm_that_comes_during_the_start_waits_and_is_served() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    chip.fault(0x0d, Fault::Late(1000));
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        m.send(front(1, 1), &load());
        for _ in 0..900 {
            m.turn();
        }
        assert!(m.answers().is_empty() && !is_ready());
        m.settle();
        assert_eq!(m.answers().len(), 1);
        m.stop();
    });
}

#[test]
fn a_vtpm_restarted_in_the_middle_of_a_save_is_given_what_was_saved() {
    let (chip, disk) = (FakeChip::new(1, 0), vault::fake::FlakyDisk::new(4096));
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        m.send(front(1, 1), &save(&[2; 64]));
        m.turn();
        m.detach(front(1, 1));
        m.attach(front(2, 1), uuid(1));
        m.send(front(2, 1), &load());
        m.settle();
        let answers = m.answers();
        let (_, answer) = answers.iter().find(|(to, _)| *to == front(2, 1)).expect("an answer");
        assert_eq!(opened(answer), (0, [2; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn a_cancelled_request_is_given_up_before_it_starts() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        m.attach(front(2, 1), uuid(2));
        m.settle();
        chip.fault(0x46, Fault::Late(100));
        m.send(front(1, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8]));
        m.send(front(2, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 8]));
        m.turn();
        m.fronts.cancelled.borrow_mut().push(front(2, 1));
        m.settle();
        assert_eq!(*m.fronts.abandoned.borrow(), [front(2, 1)]);
        assert!(m.answers().iter().all(|(to, _)| *to == front(1, 1)));
        m.stop();
    });
}

#[test]
fn a_shutdown_finishes_what_was_taken_in() {
    let (chip, disk) = (FakeChip::new(1, 0), vault::fake::FlakyDisk::new(4096));
    let answers = manage("", disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        m.settle();
        m.send(front(1, 1), &save(&[4; 64]));
        m.turn();
        let fronts = m.fronts.clone();
        m.stop();
        core::mem::take(&mut *fronts.answers.borrow_mut())
    });
    assert!(answers.len() == 1 && opened(&answers[0].1).0 == 0);
    manage("", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &load()), (0, [4; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn a_processor_without_randomness_is_said_and_the_chip_is_used() {
    let (chip, disk) = (FakeChip::new(1, 0), RamDisk::new(4096));
    manage_with("", async { Ok(disk) }, &chip, Cpu(false), |mut m| {
        m.settle();
        assert!(is_ready() && console().contains("randomness comes from the TPM chip alone"));
        m.stop();
    });
}
