//! Every row of the table in `open`.

use super::fakes::{GET, UUID, WRITE, command, ok};
use super::*;
use vault::fake::block_on;
use vault::{Kind, Owner, Vault};

#[test]
fn a_new_vtpm_is_created_and_found_again() {
    let world = World::new();
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    assert_eq!(vtpm.ask(front, &command(WRITE, b"mine")), ok(b""));
    assert!(vtpm.stop());
    assert!(console().iter().any(|line| line == "INFO Created the vTPM"));

    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.ask(front, &command(GET, b"")), ok(b"mine"));
    assert!(console().iter().any(|line| line.starts_with("INFO Opened the vTPM at state ")));
}

/// The vTPM does not serve, says `line`, and leaves disk and record alone.
fn refused(world: &World, line: &str) {
    let (disk, record) = (world.disk.image_after(Fate::Kept), world.manager.record());
    let error = world.start().refusal();
    assert!(error.contains(line), "{error}");
    assert!(disk == world.disk.image_after(Fate::Kept), "the disk changed");
    assert_eq!(record, world.manager.record());
}

#[test]
fn a_disk_whose_key_the_manager_does_not_know() {
    let world = World::with_vtpm(b"mine");
    world.manager.set_record(None);
    refused(&world, "does not know the key");
}

#[test]
fn a_blank_disk_for_a_vtpm_that_the_manager_knows() {
    let mut world = World::with_vtpm(b"mine");
    world.disk = FlakyDisk::new(SECTORS);
    refused(&world, "the disk is blank");
}

#[test]
fn a_foreign_disk_whatever_the_record() {
    let mut world = World::new();
    world.disk = FlakyDisk::from_image(b"ext4".repeat(SECTORS * 128));
    refused(&world, "not a vault");
    let mut world = World::with_vtpm(b"mine");
    world.disk = FlakyDisk::from_image(b"ext4".repeat(SECTORS * 128));
    refused(&world, "not a vault");
}

#[test]
fn the_disk_of_another_uuid_or_of_the_manager() {
    let world = World::with_vtpm(b"mine");
    world.manager.0.uuid.set(Some([0xcd; 16]));
    refused(&world, "belongs to vTPM abababab-abab-abab-abab-abababababab");
    // Known under both UUIDs: the disks were swapped.
    let record = world.manager.0.records.borrow()[&UUID].clone();
    world.manager.0.records.borrow_mut().insert([0xcd; 16], record);
    refused(&world, "belongs to vTPM abababab-abab-abab-abab-abababababab");

    let world = World::new();
    let owner = Owner { kind: Kind::Manager, uuid: UUID };
    let mut rng = tpm_crypto::Drbg::new(&[1; 48], b"").unwrap();
    let key = vault::VaultKey::from_bytes(&[2; 32]);
    block_on(Vault::create(world.disk.clone(), owner, &key, b"", b"state", vault::Over::Blank, &mut rng)).ok().unwrap();
    refused(&world, "belongs to manager");
}

#[test]
fn a_vault_of_another_key() {
    let world = World::with_vtpm(b"mine");
    let mut record = world.manager.record().unwrap();
    record[3] ^= 1;
    world.manager.set_record(Some(record));
    refused(&world, "made with another key");
}

#[test]
fn an_older_copy_put_back() {
    let mut world = World::with_vtpm(b"mine");
    let old = world.disk.image_after(Fate::Lost);
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    vtpm.ask(front, &command(WRITE, b"more"));
    drop(vtpm);
    console();
    world.disk = FlakyDisk::from_image(old);
    refused(&world, "older or other copy");
}

/// Byte offsets in docs/formats/vault.md: the superblock's copies, and the two slots on a disk of this size.
const SUPERBLOCKS: [usize; 2] = [0, 8 * 512];
const SLOTS: [usize; 2] = [16 * 512, 136 * 512];

#[test]
fn a_damaged_vault() {
    for at in [90, 100, 130] {
        let mut world = World::with_vtpm(b"mine");
        let mut image = world.disk.image_after(Fate::Kept);
        SLOTS.iter().for_each(|slot| image[slot + at] ^= 1);
        world.disk = FlakyDisk::from_image(image);
        refused(&world, "the vault is damaged");
    }
}

#[test]
fn a_vault_of_a_newer_format() {
    let mut world = World::with_vtpm(b"mine");
    let mut image = world.disk.image_after(Fate::Kept);
    for at in SUPERBLOCKS {
        assert_eq!(image[at + 16..at + 20], 1u32.to_be_bytes());
        image[at + 16..at + 20].copy_from_slice(&2u32.to_be_bytes());
    }
    world.disk = FlakyDisk::from_image(image);
    refused(&world, "format 2, which is newer");
    world.manager.set_record(None);
    refused(&world, "format 2, which is newer");
}

#[test]
fn a_disk_that_fails_or_does_not_come() {
    let world = World::new();
    world.disk.cut_at(0);
    let error = world.start().refusal();
    assert!(error.contains("the disk is gone"), "{error}");
}

#[test]
fn a_record_of_the_c_vtpm() {
    let world = World::new();
    world.manager.set_record(Some(std::vec![0x77; 52]));
    refused(&world, "C vtpm-stubdom");
}

#[test]
fn a_record_that_is_none() {
    for bad in [std::vec![], std::vec![1; 51], std::vec![1; 65], [&[1; 32][..], &[0; 8], &[1; 24]].concat()] {
        let world = World::new();
        world.manager.set_record(Some(bad));
        refused(&world, "malformed");
    }
}

#[test]
fn save_without_anything_saved_does_not_start() {
    let mut world = World::new();
    world.arguments = "save";
    let error = world.start().refusal();
    assert!(error.contains("no clean stop saved"), "{error}");
    let mut world = World::with_vtpm(b"mine");
    world.arguments = "save";
    refused(&world, "no clean stop saved");
}

#[test]
fn an_argument_that_is_not_understood() {
    let mut world = World::with_vtpm(b"mine");
    world.arguments = "clear hwinitpcr=99";
    refused(&world, "hwinitpcr=99");
    assert!(
        world.manager.0.asked.borrow().iter().filter(|ordinal| **ordinal == 2).count() == 1,
        "it went on regardless"
    );
}

#[test]
fn a_creation_that_was_cut_off_is_started_over_wherever_it_was_cut() {
    // Count the operations of an undisturbed creation.
    let world = World::new();
    let mut vtpm = world.start();
    vtpm.turn_until(|_| world.manager.0.saves.get() == 2);
    let operations = world.disk.operations();
    assert!(operations >= 3);
    let fates = [Fate::Lost, Fate::Kept, Fate::Seeded(1), Fate::Seeded(2), Fate::Torn(3), Fate::Torn(4)];
    for fate in fates {
        for cut in 0..operations {
            let mut world = World::new();
            world.disk.cut_at(cut);
            let mut vtpm = world.start();
            vtpm.turn_until(|_| false);
            assert!(world.disk.is_cut());
            created_in_the_end(&mut world, fate);
        }
        for save in 0..2 {
            for recorded in [false, true] {
                let mut world = World::new();
                world.manager.0.cut_at_save.set(Some((save, recorded)));
                world.start().turn_until(|_| false);
                created_in_the_end(&mut world, fate);
            }
        }
    }
}

fn created_in_the_end(world: &mut World, fate: Fate) {
    console();
    world.restart_machine(fate);
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    assert_eq!(vtpm.ask(front, &command(WRITE, b"mine")), ok(b""));
    drop(vtpm);
    let mut vtpm = world.start();
    let front = vtpm.attach(2);
    assert_eq!(vtpm.nv(front), b"mine");
}

#[test]
fn an_older_manager_does_not_make_a_vtpm_in_use_a_creation() {
    let world = World::with_vtpm(b"mine");
    let mut record = world.manager.record().unwrap();
    record[32..].fill(0);
    world.manager.set_record(Some(record));
    refused(&world, "in use");
    let mut record = world.manager.record().unwrap();
    record[..32].fill(9);
    world.manager.set_record(Some(record));
    let (disk, error) = (world.disk.image_after(Fate::Kept), world.start().refusal());
    assert!(error.contains("key"), "{error}");
    assert!(disk == world.disk.image_after(Fate::Kept));
}

#[test]
fn no_source_of_randomness_no_service() {
    let mut world = World::new();
    world.cpu = false;
    world.manager.play(0x46, [fakes::Trick::Answer(fakes::error(10))]);
    refused(&world, "no source of randomness");

    let mut world = World::new();
    world.cpu = false;
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    assert_eq!(vtpm.nv(front), b"");
    assert!(console().iter().any(|line| line.starts_with("WARN the CPU has no random generator")));

    let world = World::new();
    world.manager.play(0x46, [fakes::Trick::Answer(fakes::error(10))]);
    let mut vtpm = world.start();
    let front = vtpm.attach(1);
    assert_eq!(vtpm.nv(front), b"");
    assert!(console().iter().any(|line| line.contains("seeding from the CPU alone")));
}
