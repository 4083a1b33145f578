//! Every reason not to serve: its own line on the console, front ends refused, the disk as it was.

use super::*;
use crate::fake::Fault;
use alloc::vec;
use tpm_wire::TransportError;
use vault::fake::{RamDisk, block_on};
use vault::{Kind, Over, Owner, Vault, VaultKey};

/// A chip and a disk that belong together, with one record.
fn made(line: &str, locality: u8) -> (FakeChip, RamDisk) {
    let (chip, disk) = (FakeChip::new(1, locality), RamDisk::new(4096));
    manage(line, disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        m.stop();
    });
    (chip, disk)
}

/// Starts a manager that must not serve; returns its error line.
fn refused(line: &str, disk: &RamDisk, chip: &FakeChip) -> String {
    let before = disk.image();
    manage(line, disk.clone(), chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        m.send(front(1, 1), &save(&[9; 64]));
        m.settle();
        assert!(!is_ready() && m.answers().is_empty(), "{}", console());
        assert!(m.fronts.refused_all.get(), "{}", console());
        m.stop();
    });
    assert!(disk.image() == before, "the disk was written to: {}", console());
    let console = console();
    let mut errors = console.lines().filter(|line| line.starts_with("ERROR[vtpmmgr]: "));
    let error = errors.next().expect("an error line");
    assert_eq!(errors.next(), None, "one line says it");
    String::from(error)
}

/// As [`refused`], with a line that must hold these words.
fn refused_for(words: &str, line: &str, disk: &RamDisk, chip: &FakeChip) {
    let error = refused(line, disk, chip);
    assert!(error.contains(words), "{words:?} is not in {error:?}");
}

#[test]
fn disks_that_are_not_this_managers() {
    let chip = FakeChip::new(1, 0);
    let foreign = RamDisk::new(4096);
    foreign.edit(|image| image[510] = 0x55);
    refused_for("not a vault", "", &foreign, &chip);
    refused_for("the vault needs 65536", "", &RamDisk::new(16), &chip);

    let vtpms = RamDisk::new(4096);
    let mut rng = tpm_crypto::Drbg::new(&[1; 48], b"").unwrap();
    let owner = Owner { kind: Kind::Vtpm, uuid: uuid(7) };
    let key = VaultKey::from_bytes(&[1; 32]);
    assert!(block_on(Vault::create(vtpms.clone(), owner, &key, b"", b"state", Over::Blank, &mut rng)).is_ok());
    refused_for("belongs to vTPM 07070707-0707", "", &vtpms, &chip);
    assert!(chip.seen().is_empty(), "the chip is not touched before the disk is known to be usable");

    manage_with("", async { Err::<RamDisk, _>(DiskError::NoFlush) }, &chip, Cpu(true), |mut m| {
        m.settle();
        assert!(console().contains("neither flush nor barrier") && m.fronts.refused_all.get());
        m.stop();
    });
}

#[test]
fn a_disk_of_a_newer_format() {
    let (chip, disk) = made("", 0);
    for copy in [0, 4096] {
        disk.edit(|image| image[copy + 19] = 2);
    }
    refused_for("format 2, which is newer", "", &disk, &chip);
}

#[test]
fn a_damaged_disk() {
    let (chip, disk) = made("", 0);
    // Everything behind the superblocks.
    disk.edit(|image| image[8192..].iter_mut().for_each(|byte| *byte ^= 1));
    refused_for("damaged", "", &disk, &chip);
}

#[test]
fn another_machines_chip_and_a_cleared_one() {
    let (chip, disk) = made("", 0);
    let other = FakeChip::new(2, 0);
    refused_for("the chip was cleared, or the disk is from another machine", "", &disk, &other);
    assert_eq!(other.owner_and_srk(), None, "no ownership is taken for a disk that is sealed elsewhere");
    manage("", RamDisk::new(4096), &other, |mut m| {
        m.settle();
        m.stop();
    });
    refused_for("this TPM chip cannot open the manager's disk", "", &disk, &other);
    chip.clear();
    refused_for("has no owner, but", "", &disk, &chip);
    manage("", RamDisk::new(4096), &chip, |mut m| {
        m.settle();
        m.stop();
    });
    refused_for("cleared and has a new owner", "", &disk, &chip);
}

#[test]
fn wrong_secrets_and_localities() {
    let (chip, disk) = made("srk_auth=text:right tpmlocality=2", 2);
    refused_for("give the right one with srk_auth=", "tpmlocality=2", &disk, &chip);
    refused_for("give the right one with srk_auth=", "srk_auth=text:wrong tpmlocality=2", &disk, &chip);
    refused_for("cannot be drawn at random", "srk_auth=random tpmlocality=2", &disk, &chip);
    chip.set_locality(0);
    refused_for("sealed for locality 2: set tpmlocality=2", "srk_auth=text:right", &disk, &chip);
    // The chip has an owner by now, and a blank disk meets it.
    refused_for("give the right one with srk_auth=", "", &RamDisk::new(4096), &chip);
    refused_for("cannot be drawn at random", "srk_auth=random", &RamDisk::new(4096), &chip);
    chip.set_locality(2);
    manage("srk_auth=text:right tpmlocality=2", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn chips_that_do_not_work() {
    // More often than the manager asks again.
    let always = |chip: &FakeChip, ordinal, fault| (0..40).for_each(|_| chip.fault(ordinal, fault));
    for (ordinal, fault, words) in [
        (0x65, Fault::Lost(TransportError::Gone), "the TPM or manager is not there"),
        (0x41, Fault::Code(7), "switched off"),
        (0x18, Fault::Flip(0), "not authentic"),
        // Passing states are not taken for another machine's chip.
        (0x41, Fault::Code(21), "TPM_RESOURCES"),
        (0x41, Fault::Code(28), "TPM_FAILEDSELFTEST"),
        (0x41, Fault::Code(0x803), "TPM_DEFEND_LOCK_RUNNING"),
    ] {
        let (chip, disk) = made("", 0);
        always(&chip, ordinal, fault);
        let error = refused("", &disk, &chip);
        assert!(error.contains(words) && !error.contains("another machine"), "{words:?}: {error:?}");
    }
    // At a first start nothing is written before the chip has shown that it gives the key back.
    for fault in [Fault::Code(9), Fault::Flip(0), Fault::Code(61)] {
        let chip = FakeChip::new(1, 0);
        always(&chip, 0x18, fault);
        refused("", &RamDisk::new(4096), &chip);
    }
    let chip = FakeChip::new(1, 0);
    chip.fault(0x17, Fault::Defect);
    refused_for("does not give back what it sealed", "", &RamDisk::new(4096), &chip);
}

#[test]
fn older_copies_of_the_disk() {
    for line in ["", "rollback=strict"] {
        let (chip, disk) = made(line, 0);
        let mut copies = vec![disk.image()];
        for n in 2..5 {
            chip.power_cycle();
            manage(line, disk.clone(), &chip, |mut m| {
                m.attach(front(1, 1), uuid(1));
                assert_eq!(m.ask(front(1, 1), &save(&[n; 64])).0, 0);
                copies.push(disk.image());
                m.stop();
            });
            for copy in &copies {
                let copy = RamDisk::from_image(copy.clone());
                refused_for("the manager's disk is an older copy", line, &copy, &chip);
            }
            copies.push(disk.image());
        }
        manage(line, disk, &chip, |mut m| {
            m.attach(front(1, 1), uuid(1));
            assert_eq!(m.ask(front(1, 1), &load()), (0, [4; 64].to_vec()));
            m.stop();
        });
    }
    // Said, and not refused.
    let (chip, disk) = made("rollback=off", 0);
    let copy = RamDisk::from_image(disk.image());
    manage("rollback=off", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[2; 64])).0, 0);
        m.stop();
    });
    assert_eq!(console().matches("rollback=off: nothing tells an older copy").count(), 1);
    manage("rollback=off", copy, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
}

#[test]
fn a_counter_that_cannot_be_made_or_is_gone() {
    // The owner's secret is needed to make one: this chip has an owner whom the manager does not know.
    let (chip, disk) = made("owner_auth=text:mine", 0);
    refused_for("with rollback=off the manager does without", "", &RamDisk::new(4096), &chip);
    manage("rollback=off", RamDisk::new(4096), &chip, |mut m| {
        m.settle();
        assert!(is_ready());
        m.stop();
    });
    chip.delete_counters();
    refused_for("no such counter: it was cleared, or the counter was deleted", "", &disk, &chip);
}

#[test]
fn a_machine_that_was_started_with_something_else() {
    let line = "seal_pcrs=0-7,14";
    let (chip, disk) = made(line, 0);
    chip.power_cycle();
    chip.extend_behind(14);
    chip.extend_behind(3);
    refused_for("PCRs 3,14 differ; start what was approved, or give the recovery code", line, &disk, &chip);
    let wrong = "seal_pcrs=0-7,14 recover=0123456789012345678901234567890123456789";
    refused_for("the code in recover= is not the right one", wrong, &disk, &chip);
    // What is given on the command line does not matter: the disk says what it is sealed to.
    refused_for("PCRs 3,14 differ", "", &disk, &chip);
    chip.power_cycle();
    manage(line, disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
    // Opened once with other PCRs in the list, or none, it is sealed to those from then on.
    manage("seal_pcrs=8", disk.clone(), &chip, |mut m| {
        m.settle();
        assert!(console().contains("sealed to PCRs 8 as they are now"), "{}", console());
        m.stop();
    });
    chip.extend_behind(14);
    manage("seal_pcrs=8", disk.clone(), &chip, |mut m| {
        m.settle();
        assert!(is_ready());
        m.stop();
    });
    chip.extend_behind(8);
    refused_for("PCRs 8 differ", "seal_pcrs=8", &disk, &chip);
    chip.power_cycle();
    manage("", disk.clone(), &chip, |mut m| {
        m.settle();
        assert!(console().contains("no longer sealed to PCRs"));
        m.stop();
    });
    chip.extend_behind(8);
    manage("", disk, &chip, |mut m| {
        m.settle();
        assert!(is_ready());
        m.stop();
    });
}

#[test]
fn the_recovery_code_opens_once_and_seals_to_what_the_machine_is_now() {
    let line = "seal_pcrs=0-7,14 admin_uuid=01010101-0101-0101-0101-010101010101";
    let (chip, disk) = made(line, 0);
    let code = manage(line, disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        let (answer, code) = m.ask(front(1, 1), &packet(0x01c2, 0x0200_0184, &[]));
        assert_eq!((answer, code.len()), (0, 20));
        m.stop();
        code
    });
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    for (start, pcr) in [(0, 14), (1, 3)] {
        chip.power_cycle();
        chip.extend_behind(14);
        if start == 1 {
            chip.extend_behind(pcr);
        }
        refused_for("differ; start what was approved, or give the recovery code", line, &disk, &chip);
        manage(&format!("{line} recover={hex}"), disk.clone(), &chip, |mut m| {
            m.attach(front(1, 1), uuid(1));
            assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
            assert!(console().contains("opened with the recovery code"));
            m.stop();
        });
        assert!(!console().contains(&hex), "the code on the console");
        // Without it from then on, the machine being as it was then.
        manage(line, disk.clone(), &chip, |mut m| {
            m.settle();
            assert!(is_ready(), "{}", console());
            m.stop();
        });
    }
    chip.power_cycle();
    refused_for("PCRs 3,14 differ", line, &disk, &chip);
}

#[test]
fn a_shutdown_ends_a_manager_that_waits_for_its_disk() {
    let disk = core::future::pending::<Result<RamDisk, DiskError>>();
    manage_with("", disk, &FakeChip::new(1, 0), Cpu(true), |mut m| {
        m.settle();
        m.stop();
    });
}
