//! The life of one virtual machine with a TPM 1.2, step by step.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::eventlog::{self, Digest, extended, hex};
use super::guest::{Guest, extend_command, nv, nv_read_command, unhex};
use super::machine::{Bench, Machine, Model, Origin};
use super::menu;
use crate::test_tis::Tally;

/// How the guest reaches the TPM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Linux's driver of this name.
    Named(&'static str),
    /// No driver: the guest uses the registers.
    Registers,
}

/// What the firmware measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// PCRs 0 to 7, and its log says how.
    Replays,
    /// Nothing: this firmware does not know a TPM 1.2.
    None,
}

/// How physical presence is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In SeaBIOS's menu.
    Menu,
    /// This firmware has no way for a TPM 1.2.
    None,
}

/// One cell of the matrix.
pub struct Cell {
    /// Machine, device, firmware, family.
    pub name: &'static str,
    /// The machine.
    pub model: Model,
    /// How the guest reaches the TPM.
    pub driver: Driver,
    /// What the firmware measures.
    pub log: Log,
    /// How physical presence is given.
    pub presence: Presence,
}

/// The PCR that is extended: no firmware and no kernel uses it, and only a start of the TPM resets it.
pub const PCR: u32 = 12;
/// What it is extended by.
pub const BY: Digest = [0x5a; 20];
/// An NV area that a clearing of the TPM leaves, and one that it deletes.
pub const KEPT: u32 = 0x0001_1001;
/// The second one.
pub const OWNERS: u32 = 0x0001_1002;
/// The areas' size.
pub const SIZE: u32 = 16;
/// Time to end a loop of commands in the guest.
const IDLE: Duration = Duration::from_secs(60);
/// The longest time for the emulator to answer without a machine.
const ANSWER: Duration = Duration::from_secs(60);

/// Counts and prints the steps of a cell.
pub struct Report<'a> {
    /// The cell's name.
    pub cell: &'a str,
    /// Passed and failed.
    pub tally: &'a mut Tally,
}

impl Report<'_> {
    /// Prints and counts one step.
    pub fn step(&mut self, title: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("ok {}: {title}", self.cell);
                self.tally.passed += 1;
            }
            Err(error) => {
                println!("FAILED {}: {title}: {error:#}", self.cell);
                self.tally.failed += 1;
            }
        }
    }
}

/// Leads a guest through everything; an error is something that makes the following steps impossible.
pub fn life(cell: &Cell, bench: &Bench<'_>, report: &mut Report<'_>) -> Result<()> {
    bench.make_disks()?;
    let machine = bench.start("a", &Origin::PowerOn, &[])?;
    let (machine, reached) = first_start(cell, machine, report)?;
    // The last machine, its TPM's folder, and the version of the NV value there.
    let (mut machine, folder, version) = if cell.model.goes_on {
        let (machine, reached) = snapshots(bench, machine, reached, report)?;
        let (machine, reached) = saved(bench, machine, reached, report)?;
        (migrated(bench, machine, reached, report)?, "c", 3)
    } else {
        (machine, "a", 1)
    };
    let guest = &mut machine.guest;
    reboot(cell, guest)?;
    report.step("a reboot starts the PCRs anew and keeps the NV value", after_a_start(guest, version));
    if cell.log == Log::Replays {
        report.step("the event log after the reboot replays to the PCRs", log_replays(guest));
    }
    if cell.presence == Presence::Menu {
        menu::make_owners_area(guest)?;
    }
    machine.quit()?;
    report.step("the emulator alone, in the last folder, has the NV value", alone(bench, folder, version));
    if cell.presence == Presence::Menu {
        menu::person(cell, bench, folder, report)?;
    }
    Ok(())
}

fn first_start(cell: &Cell, mut machine: Machine, report: &mut Report<'_>) -> Result<(Machine, Digest)> {
    let guest = &mut machine.guest;
    guest.ready()?;
    match cell.driver {
        Driver::Named(name) => {
            report.step(&format!("Linux binds its driver {name}"), driver_is(guest, name));
        }
        Driver::Registers => report.step("the registers take commands", guest.startup()),
    }
    match cell.log {
        Log::Replays => report.step("the firmware's event log replays to the PCRs", log_replays(guest)),
        Log::None => report.step("PCRs 0 to 7 are fresh: this firmware measures nothing", unmeasured(guest)),
    }
    let before = guest.pcr(PCR)?;
    let after = guest.extend(PCR, &BY)?;
    let read = guest.pcr(PCR)?;
    let right = before == [0; 20] && after == extended(&before, &BY) && read == after;
    report.step("extending a PCR", if right { Ok(()) } else { wrong(&extended(&before, &BY), &read) });
    guest.nv_define(KEPT, SIZE, nv::PP_WRITE).context("the NV area cannot be made")?;
    guest.nv_write(KEPT, &value(1))?;
    report.step("an NV area keeps its value", nv_is(guest, 1));
    Ok((machine, after))
}

/// Snapshots under load: taken, gone back to, and started from in another QEMU.
fn snapshots(
    bench: &Bench<'_>,
    mut machine: Machine,
    reached: Digest,
    report: &mut Report<'_>,
) -> Result<(Machine, Digest)> {
    const NAME: &str = "one";
    busy(&mut machine.guest)?;
    machine.qmp.save(NAME).context("no snapshot")?;
    report.step("a snapshot does no harm", progress(&mut machine.guest, reached).map(drop));
    machine.guest.nv_write(KEPT, &value(2))?;
    machine.qmp.load(NAME).context("cannot go back to the snapshot")?;
    let back = progress(&mut machine.guest, reached).and_then(|_| nv_is(&mut machine.guest, 1));
    report.step("going back to it brings PCR and NV value back", back);
    machine.guest.nv_write(KEPT, &value(3))?;
    machine.quit()?;
    let mut machine = bench.start("a", &Origin::Snapshot(NAME), &[])?;
    let reached = progress(&mut machine.guest, reached);
    let right = reached.and_then(|reached| nv_is(&mut machine.guest, 1).map(|()| reached));
    let reached = told("another QEMU goes on from it", right, report)?;
    Ok((machine, reached))
}

/// Saved to a file while the TPM works, and restored with a TPM that has no state of its own.
fn saved(
    bench: &Bench<'_>,
    mut machine: Machine,
    reached: Digest,
    report: &mut Report<'_>,
) -> Result<(Machine, Digest)> {
    let file = bench.dir.join("machine");
    machine.guest.nv_write(KEPT, &value(2))?;
    busy(&mut machine.guest)?;
    machine.qmp.migrate(&format!("exec:cat >'{}'", file.display())).context("cannot be saved to a file")?;
    machine.quit()?;
    let mut machine = bench.start("b", &Origin::Incoming(&format!("exec:cat '{}'", file.display())), &[])?;
    machine.qmp.running()?;
    let reached = progress(&mut machine.guest, reached);
    let right = reached.and_then(|reached| nv_is(&mut machine.guest, 2).map(|()| reached));
    let reached = told("saved to a file and restored: PCR and NV value are there", right, report)?;
    std::fs::remove_file(&file)?;
    Ok((machine, reached))
}

/// Migrated to a second QEMU while the TPM works.
fn migrated(bench: &Bench<'_>, mut machine: Machine, reached: Digest, report: &mut Report<'_>) -> Result<Machine> {
    let uri = format!("unix:{}", machine.sockets().join("migration").display());
    machine.guest.nv_write(KEPT, &value(3))?;
    let mut target = bench.start("c", &Origin::Incoming(&uri), &[])?;
    busy(&mut machine.guest)?;
    machine.qmp.migrate(&uri).context("cannot migrate")?;
    target.qmp.running()?;
    machine.quit()?;
    let right = progress(&mut target.guest, reached).and_then(|_| nv_is(&mut target.guest, 3));
    told("migrated live: PCR and NV value are there, no command is lost", right, report)?;
    Ok(target)
}

/// Reports a step that the following ones need.
pub fn told<T>(title: &str, result: Result<T>, report: &mut Report<'_>) -> Result<T> {
    match result {
        Ok(value) => {
            report.step(title, Ok(()));
            Ok(value)
        }
        Err(error) => {
            report.step(title, Err(error));
            bail!("the steps after that are not possible")
        }
    }
}

/// The guest extends the PCR again and again.
fn busy(guest: &mut Guest) -> Result<()> {
    guest.run(&format!("busy {}", hex(&extend_command(PCR, &BY)))).map(drop)
}

/// Ends that; the PCR must be as often extended as the guest counted, since it was `reached`.
fn progress(guest: &mut Guest, reached: Digest) -> Result<Digest> {
    guest.begin("idle")?;
    let count = guest.finish(IDLE).context("a command in flight did not end well")?;
    let count: u32 = count.trim().parse().with_context(|| format!("no count: {count}"))?;
    let want = (0..count).fold(reached, |value, _| extended(&value, &BY));
    let read = guest.pcr(PCR)?;
    ensure!(read == want, "the PCR should be {} after {count} extends and is {}", hex(&want), hex(&read));
    Ok(read)
}

fn driver_is(guest: &mut Guest, name: &str) -> Result<()> {
    let bound = guest.run("basename $(readlink -f /sys/class/tpm/tpm0/device/driver)")?;
    ensure!(bound == name, "the driver is {bound}");
    Ok(())
}

fn wrong(want: &Digest, read: &Digest) -> Result<()> {
    bail!("the PCR should be {} and is {}", hex(want), hex(read))
}

/// An area's value in one of its versions.
pub fn value(version: u8) -> [u8; SIZE as usize] {
    [version; SIZE as usize]
}

/// The area [`KEPT`] must have this version of its value.
pub fn nv_is(guest: &mut Guest, version: u8) -> Result<()> {
    let read = guest.nv_read(KEPT, SIZE)?;
    ensure!(read == value(version), "the NV value should be {} and is {}", hex(&value(version)), hex(&read));
    Ok(())
}

/// The firmware's log and the PCRs must agree, and there must be events of all PCRs from 0 to 7.
pub fn log_replays(guest: &mut Guest) -> Result<()> {
    let log = guest.run("xxd -p /sys/kernel/security/tpm0/binary_bios_measurements | tr -d '\\n'")?;
    let log = unhex(&log).context("the event log is not hexadecimal")?;
    let (pcrs, events) = eventlog::replay(&log)?;
    ensure!((0..8).all(|pcr| pcrs.contains_key(&pcr)), "{events} events, none for some of the PCRs 0 to 7");
    for (pcr, want) in &pcrs {
        let read = guest.pcr(*pcr)?;
        ensure!(read == *want, "PCR {pcr}: the log's {events} events give {}, the TPM has {}", hex(want), hex(&read));
    }
    Ok(())
}

fn unmeasured(guest: &mut Guest) -> Result<()> {
    for pcr in 0..8 {
        let read = guest.pcr(pcr)?;
        ensure!(read == [0; 20], "PCR {pcr} is {}", hex(&read));
    }
    Ok(())
}

fn reboot(cell: &Cell, guest: &mut Guest) -> Result<()> {
    guest.begin("reboot -f")?;
    guest.ready().context("no reboot")?;
    if cell.driver == Driver::Registers {
        guest.startup()?;
    }
    Ok(())
}

fn after_a_start(guest: &mut Guest, version: u8) -> Result<()> {
    let read = guest.pcr(PCR)?;
    if read != [0; 20] {
        return wrong(&[0; 20], &read);
    }
    nv_is(guest, version)
}

/// What the last machine's emulator left in its folder.
fn alone(bench: &Bench<'_>, folder: &str, version: u8) -> Result<()> {
    let server = bench.alone(folder)?;
    let mut stream = UnixStream::connect(server.path()).context("the emulator does not listen")?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(&nv_read_command(KEPT, SIZE))?;
    let mut response = [0; 14 + SIZE as usize];
    stream.read_exact(&mut response).context("the response is too short")?;
    let read = response.get(14..).unwrap_or_default();
    ensure!(read == value(version), "the NV value should be {} and is {}", hex(&value(version)), hex(read));
    Ok(())
}
