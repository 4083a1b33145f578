//! The whole system in one process: Linux guest, vTPM, manager, chip.

mod quotes;
mod stack;

use core::cell::RefCell;
use stack::{Stack, Things, tpm};
use vault::fake::Fate;
use xen_abi::DomId;

const ZERO: [u8; 20] = [0; 20];
const ONE: [u8; 20] = [0x11; 20];

thread_local!(static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

struct Console;

impl log::Log for Console {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            lines.push(format!("{} {}: {}", record.level(), record.target(), record.args()));
        });
    }

    fn flush(&self) {}
}

fn said(text: &str) -> bool {
    LINES.with_borrow(|lines| lines.iter().any(|line| line.contains(text)))
}

/// A chip, blank disks, a manager, and vTPM 0 with its guest.
fn first_start() -> (Things, Stack, DomId, DomId, DomId) {
    let _ = log::set_logger(&Console);
    log::set_max_level(log::LevelFilter::Info);
    LINES.take();
    let things = Things::new();
    let mut stack = Stack::boot(&things);
    let manager = DomId(1);
    let vtpm = stack.start_vtpm(&things, manager, 0);
    let guest = stack.start_guest(vtpm);
    (things, stack, manager, vtpm, guest)
}

fn pcr(stack: &mut Stack, guest: DomId, index: u32) -> [u8; 20] {
    tpm::good(&stack.ask(guest, &tpm::pcr_read(index))).try_into().unwrap()
}

fn extend(stack: &mut Stack, guest: DomId, index: u32) -> [u8; 20] {
    tpm::good(&stack.ask(guest, &tpm::extend(index, ONE))).try_into().unwrap()
}

/// Defines area 0x1001 and writes `data` to it.
fn nv_put(stack: &mut Stack, guest: DomId, data: &[u8]) {
    tpm::good(&stack.ask(guest, &tpm::nv_define(0x1001, data.len() as u32)));
    tpm::good(&stack.ask(guest, &tpm::nv_write(0x1001, 0, data)));
}

fn nv_get(stack: &mut Stack, guest: DomId, size: u32) -> Vec<u8> {
    let response = stack.ask(guest, &tpm::nv_read(0x1001, 0, size));
    tpm::good(&response)[4..].to_vec()
}

#[test]
fn a_guests_life() {
    let (things, mut stack, manager, vtpm, guest) = first_start();
    // Linux submits before anything is connected, and while the endorsement key is being made.
    assert_eq!(pcr(&mut stack, guest, 10), ZERO);
    assert!(said("INFO vtpmmgr: Waiting for commands from vTPM's:"));
    assert!(said("INFO tpmback: Waiting for frontend domain to connect.."));
    assert!(said(&format!("INFO tpmback: VTPM attached to Frontend {guest}/0")));
    let extended = extend(&mut stack, guest, 10);
    assert_eq!(extended, tpm_crypto::sha1(&[&ZERO, &ONE]));
    nv_put(&mut stack, guest, b"for years");
    assert_eq!(tpm::good(&stack.ask(guest, &tpm::random(16))).len(), 20);

    // Driver reload: the same guest.
    stack.reload_driver(guest, vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), extended);

    // Reboot: a new domain.
    stack.destroy(guest);
    let guest = stack.start_guest(vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), ZERO);
    assert_eq!(nv_get(&mut stack, guest, 9), b"for years");
    extend(&mut stack, guest, 10);

    assert!(!said("ERROR") && !said("WARN"));

    // The vTPM is shut down and made anew under the living guest.
    stack.shut_down(vtpm);
    stack.front(guest).drop_ring();
    let vtpm = stack.start_vtpm(&things, manager, 0);
    stack.attach_again(guest, vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), extended);

    // Destroyed, it has lost the guest's PCRs, and says so.
    stack.destroy(vtpm);
    stack.front(guest).drop_ring();
    let vtpm = stack.start_vtpm(&things, manager, 0);
    stack.attach_again(guest, vtpm);
    assert!(stack.turn_until(60, |_| said("reboot the guest")));
    assert!(stack.turn_until(10, |stack| stack.machine.vtpm_back_state(guest, vtpm, 0) == Some(6)));
    stack.destroy(guest);
    let guest = stack.start_guest(vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), ZERO);
    assert_eq!(nv_get(&mut stack, guest, 9), b"for years");
}

/// The chip of the second manager is a vTPM of the first. That domain's TPM starts anew whenever the second manager's domain does, and
/// guests that live on must not be taken for new ones by that.
#[test]
fn a_manager_behind_another_domain() {
    let (things, mut stack, manager, vtpm, guest) = first_start();
    stack.destroy(guest);
    stack.shut_down(vtpm);
    let disk = vault::fake::FlakyDisk::new(1024);
    let tower = |stack: &mut Stack, disk: &_| {
        let chip = stack.start_vtpm(&things, manager, 1);
        (chip, stack.start_manager_behind(disk, chip))
    };
    let (chip, inner) = tower(&mut stack, &disk);
    // The disk of vTPM 0 belongs to the first manager; here its number stands for the UUID only.
    let own = vault::fake::FlakyDisk::new(1024);
    let vtpm = stack.start_vtpm_on(&own, inner, 0);
    let guest = stack.start_guest(vtpm);
    let extended = extend(&mut stack, guest, 10);
    nv_put(&mut stack, guest, b"far away");

    stack.shut_down(inner);
    stack.shut_down(chip);
    let (_, inner) = tower(&mut stack, &disk);
    stack.attach_manager(vtpm, inner, 0);
    assert_eq!(nv_get(&mut stack, guest, 8), b"far away");
    tpm::good(&stack.ask(guest, &tpm::nv_write(0x1001, 0, b"moved on")));

    // Its vTPM too: with the PCRs that it saved, and without.
    stack.shut_down(vtpm);
    stack.front(guest).drop_ring();
    let vtpm = stack.start_vtpm_on(&own, inner, 0);
    stack.attach_again(guest, vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), extended);
    stack.destroy(vtpm);
    stack.front(guest).drop_ring();
    let vtpm = stack.start_vtpm_on(&own, inner, 0);
    stack.attach_again(guest, vtpm);
    assert!(stack.turn_until(60, |_| said("reboot the guest")), "it is shown fresh PCRs");
    let guest = stack.start_guest_of(&[guest], vtpm);
    assert_eq!(pcr(&mut stack, guest, 10), ZERO);
    assert_eq!(nv_get(&mut stack, guest, 8), b"moved on");
}

#[test]
fn our_own_engine_as_the_hardware_tpm() {
    let mut things = Things::with_engine();
    for round in 0..2u8 {
        LINES.take();
        let mut stack = Stack::boot(&things);
        let vtpm = stack.start_vtpm_with(&things, DomId(1), 0, "hwinitpcr=16,23");
        let guest = stack.start_guest(vtpm);
        if round == 0 {
            nv_put(&mut stack, guest, b"sealed");
        }
        assert_eq!(nv_get(&mut stack, guest, 6), b"sealed");
        // PCR 23 of the hardware was extended before the second round's guest, 16 was not.
        assert_eq!(pcr(&mut stack, guest, 16), ZERO);
        assert_eq!(pcr(&mut stack, guest, 23), ZERO);
        if let stack::HardwareTpm::Engine(chip) = &things.chip {
            let mut response = Vec::new();
            let _ = tpm_wire::Engine::execute(&mut *chip.borrow_mut(), 0, &tpm::extend(23, ONE), &mut response);
        }
        stack.destroy(guest);
        let guest = stack.start_guest(vtpm);
        assert_eq!(pcr(&mut stack, guest, 23), tpm_crypto::sha1(&[&ZERO, &ONE]));
        // And from the hardware directly.
        let mut through = tpm::pcr_read(23);
        through[..2].copy_from_slice(&[0x01, 0xc1]);
        assert_eq!(tpm::good(&stack.ask(guest, &through)), tpm_crypto::sha1(&[&ZERO, &ONE]));
        things.power_cycle(Fate::Lost);
    }
}

#[test]
fn on_a_block_device_and_through_a_stop() {
    let things = Things::new();
    let disk = frontback::fake::RamDisk::new(1024);
    let mut stack = Stack::boot(&things);
    let vtpm = stack.start_vtpm_on_blkfront(&disk, DomId(1));
    let guest = stack.start_guest(vtpm);
    nv_put(&mut stack, guest, b"on xvda");
    assert!(disk.borrow().flushes > 0 && disk.borrow().unflushed.is_empty());
    let extended = extend(&mut stack, guest, 5);
    stack.shut_down(vtpm);
    let vtpm = stack.start_vtpm_on_blkfront(&disk, DomId(1));
    stack.attach_again(guest, vtpm);
    assert_eq!(nv_get(&mut stack, guest, 7), b"on xvda");
    assert_eq!(pcr(&mut stack, guest, 5), extended);
}

#[test]
fn everything_restarts() {
    let (mut things, mut stack, _, vtpm, guest) = first_start();
    nv_put(&mut stack, guest, b"first");
    extend(&mut stack, guest, 5);
    stack.destroy(guest);
    stack.shut_down(vtpm);
    stack.shut_down(DomId(1));
    for round in 0..3u8 {
        // Twice the power is cut, once the machine was shut down cleanly.
        things.power_cycle(Fate::Lost);
        let mut stack = Stack::boot(&things);
        let vtpm = stack.start_vtpm(&things, DomId(1), 0);
        let guest = stack.start_guest(vtpm);
        assert_eq!(pcr(&mut stack, guest, 5), ZERO);
        let want = if round == 0 { b"first".to_vec() } else { vec![b'0' + round - 1; 5] };
        assert_eq!(nv_get(&mut stack, guest, 5), want);
        tpm::good(&stack.ask(guest, &tpm::nv_write(0x1001, 0, &[b'0' + round; 5])));
        extend(&mut stack, guest, 5);
    }
}

#[test]
fn a_manager_that_restarts_under_its_vtpms() {
    let (things, mut stack, manager, vtpm, guest) = first_start();
    nv_put(&mut stack, guest, b"first");
    let extended = extend(&mut stack, guest, 5);
    stack.destroy(manager);
    // Reads go on; a write waits for the new manager.
    assert_eq!(pcr(&mut stack, guest, 5), extended);
    stack.front(guest).send(&tpm::nv_write(0x1001, 0, b"later"));
    for _ in 0..5000 {
        stack.turn();
    }
    assert_eq!(stack.front(guest).recv(), frontback::fake::Recv::Running);
    let manager = stack.start_manager(&things);
    stack.attach_manager(vtpm, manager, 0);
    assert!(stack.turn_until(300, |stack| stack.front(guest).recv() != frontback::fake::Recv::Running));
    assert_eq!(nv_get(&mut stack, guest, 5), b"later");
    assert_eq!(pcr(&mut stack, guest, 5), extended);

    // The vTPM made anew under a manager that was made anew: still the same start of the machine, and the same guest.
    stack.shut_down(vtpm);
    stack.front(guest).drop_ring();
    let vtpm = stack.start_vtpm(&things, manager, 0);
    stack.attach_again(guest, vtpm);
    assert_eq!(pcr(&mut stack, guest, 5), extended);
}

#[test]
fn two_guests_and_one_destroyed_in_mid_command() {
    let (things, mut stack, manager, vtpm, guest) = first_start();
    let other_vtpm = stack.start_vtpm(&things, manager, 1);
    let other = stack.start_guest(other_vtpm);
    nv_put(&mut stack, guest, b"one");
    nv_put(&mut stack, other, b"two");
    let mut values = [ZERO; 2];
    for _ in 0..20 {
        for (value, (guest, index)) in values.iter_mut().zip([(guest, 1), (other, 2)]) {
            stack.front(guest).send(&tpm::extend(index, ONE));
            *value = tpm_crypto::sha1(&[&*value, &ONE]);
        }
        let running = |stack: &mut Stack, guest| stack.front(guest).recv() == frontback::fake::Recv::Running;
        assert!(stack.turn_until(10, |stack| !running(stack, guest) && !running(stack, other)));
    }
    assert_eq!([pcr(&mut stack, guest, 1), pcr(&mut stack, other, 2)], values);
    assert_eq!([pcr(&mut stack, guest, 2), pcr(&mut stack, other, 1)], [ZERO; 2]);

    // Killed at every moment of a command that changes the state.
    for turns in 0..12 {
        let victim = stack.start_guest_of(&[guest], vtpm);
        stack.front(victim).send(&tpm::nv_write(0x1001, 0, b"two"));
        for _ in 0..turns {
            stack.turn();
        }
        stack.destroy(victim);
        stack.turn();
    }
    let guest = stack.start_guest(vtpm);
    assert_eq!(pcr(&mut stack, guest, 1), ZERO);
    let found = nv_get(&mut stack, guest, 3);
    assert!(found == b"one" || found == b"two");
    assert_eq!(pcr(&mut stack, other, 2), values[1]);
    assert_eq!(nv_get(&mut stack, other, 3), b"two");
}

#[test]
fn swapped_disks_and_unknown_managers_are_refused() {
    let (mut things, mut stack, _, _, guest) = first_start();
    nv_put(&mut stack, guest, b"mine");
    things.power_cycle(Fate::Lost);
    let image = things.disks[0].image_after(Fate::Lost);

    // Under another UUID.
    things.disks.swap(0, 1);
    let mut stack = Stack::boot(&things);
    let vtpm = stack.start_vtpm(&things, DomId(1), 1);
    let guest = stack.start_guest(vtpm);
    assert!(
        stack.turn_until(60, |_| said("No service: the vault belongs to vTPM ac0a5b9e-cbe2-4c07-b43b-000000000000"))
    );
    assert!(stack.turn_until(10, |stack| stack.machine.vtpm_back_state(guest, vtpm, 0) == Some(6)));
    assert_eq!(things.disks[1].operations(), 0, "the disk was written to");
    // Its own UUID, and the other disk.
    let vtpm = stack.start_vtpm(&things, DomId(1), 0);
    assert!(stack.turn_until(60, |_| said("No service: the manager knows this vTPM, but the disk is blank")));
    stack.shut_down(vtpm);
    // Another manager.
    things.disks.swap(0, 1);
    things.manager_disk = vault::fake::FlakyDisk::new(1024);
    let mut stack = Stack::boot(&things);
    stack.start_vtpm(&things, DomId(1), 0);
    assert!(
        stack.turn_until(60, |_| said("No service: the disk holds this vTPM, but the manager does not know the key"))
    );
    assert!(things.disks[0].image_after(Fate::Kept) == image);
}

/// The power is cut at every write and flush of either disk, while a guest changes its NV data.
#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged() {
    let (mut things, mut stack, _, _, guest) = first_start();
    nv_put(&mut stack, guest, b"0");
    drop(stack);
    things.power_cycle(Fate::Lost);
    // An undisturbed life, to count. The disks go on from life to life, as the chip does: an older copy of them would be refused.
    let mut value = one_life(&things, b'0');
    assert_eq!(value, b'3');
    let operations = [things.manager_disk.operations(), things.disks[0].operations()];
    assert!(operations.iter().all(|count| *count >= 6), "{operations:?}");
    let fates = [Fate::Lost, Fate::Kept, Fate::Seeded(1), Fate::Torn(2), Fate::Torn(3)];
    for (which, count) in operations.into_iter().enumerate() {
        for cut in 0..count {
            let fate = fates[cut as usize % fates.len()];
            things.power_cycle(Fate::Kept);
            let disk = if which == 0 { &things.manager_disk } else { &things.disks[0] };
            disk.cut_at(cut);
            let acknowledged = one_life(&things, value);
            assert!(things.manager_disk.is_cut() || things.disks[0].is_cut(), "disk {which} has no operation {cut}");
            things.power_cycle(fate);
            LINES.take();
            let mut stack = Stack::boot(&things);
            let vtpm = stack.start_vtpm(&things, DomId(1), 0);
            let guest = stack.start_guest(vtpm);
            let response = stack.try_ask(guest, &tpm::nv_read(0x1001, 0, 1));
            let response = response.unwrap_or_else(|| panic!("disk {which}, cut {cut}: {:#?}", LINES.take()));
            let found = tpm::good(&response)[4];
            assert!(
                found == acknowledged || found == acknowledged.wrapping_add(1),
                "disk {which}, cut {cut}: {acknowledged} {found}"
            );
            value = found;
        }
    }
}

/// A guest that counts its NV byte up from `value`, three times or until the power is cut; gives what was acknowledged.
fn one_life(things: &Things, value: u8) -> u8 {
    let mut stack = Stack::boot(things);
    let vtpm = stack.start_vtpm(things, DomId(1), 0);
    let guest = stack.start_guest(vtpm);
    let mut acknowledged = value;
    for step in 1..=3 {
        let value = value.wrapping_add(step);
        stack.front(guest).send(&tpm::nv_write(0x1001, 0, &[value]));
        let is_cut = || things.manager_disk.is_cut() || things.disks[0].is_cut();
        let mut response = None;
        stack.turn_until(600, |stack| {
            if let frontback::fake::Recv::Response(bytes) = stack.front(guest).recv() {
                response = Some(bytes);
            }
            response.is_some() || is_cut()
        });
        match response {
            Some(bytes) if bytes[6..10] == [0; 4] => acknowledged = value,
            _ => break,
        }
    }
    acknowledged
}
