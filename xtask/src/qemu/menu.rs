//! SeaBIOS's menu for a TPM 1.2, on the serial console: what a person at the machine does there.
//!
//! QEMU offers the guest physical presence requests too (sysfs), but SeaBIOS takes none; its menu is where it gives
//! physical presence: clearing, enabling, activating.

use anyhow::{Context, Result, ensure};

use super::cell::{Cell, KEPT, Log, OWNERS, Report, SIZE, log_replays, nv_is, told, value};
use super::guest::{BOOT, Guest, nv};
use super::machine::{Bench, Origin};
use crate::bench_engine;

/// What SeaBIOS says about a TPM that can be used.
const WORKING: &str = "Enabled and active";

/// Makes an area that only an owner may write, which a clearing must delete.
pub fn make_owners_area(guest: &mut Guest) -> Result<()> {
    guest.nv_define(OWNERS, SIZE, nv::OWNER_WRITE)?;
    guest.nv_write(OWNERS, &value(9))
}

/// Gives the TPM in the folder `name` an owner and lets a person at the machine clear, enable and activate it. The area
/// [`OWNERS`] must be there.
pub fn person(cell: &Cell, bench: &Bench<'_>, name: &str, report: &mut Report<'_>) -> Result<()> {
    let socket = bench.alone(name)?;
    bench_engine::own(socket.path()).context("the TPM takes no owner")?;
    drop(socket);
    let mut machine = bench.start(name, &Origin::Menu, &[])?;
    let guest = &mut machine.guest;
    told("SeaBIOS's menu clears an owned TPM", clear(guest), report)?;
    told("SeaBIOS's menu enables and activates it", enable(guest), report)?;
    report.step("Linux then finds a working TPM without owner and without the owner's area", check(guest));
    if cell.log == Log::Replays {
        report.step("the event log after the menu replays to the PCRs", log_replays(guest));
    }
    machine.quit()
}

/// Waits for the boot menu and opens the TPM's page; what it says.
fn page(guest: &mut Guest) -> Result<String> {
    guest.heard("Press ESC for boot menu", BOOT)?;
    guest.press("\x1b")?;
    guest.heard("t. TPM Configuration", BOOT)?;
    guest.press("t")?;
    state(guest)
}

/// What the page says, after it was opened or a key has changed something.
fn state(guest: &mut Guest) -> Result<String> {
    guest.heard("reboot the machine.", BOOT)
}

/// Presses a key that changes the TPM's state at once; the page must then contain `words`.
fn change(guest: &mut Guest, key: &str, words: &str) -> Result<String> {
    guest.press(key)?;
    let after = state(guest)?;
    ensure!(after.contains(words), "{words:?} is missing after the key {key:?}: {after}");
    Ok(after)
}

fn clear(guest: &mut Guest) -> Result<()> {
    let before = page(guest)?;
    ensure!(before.contains(WORKING) && before.contains("Ownership has been taken"), "before: {before}");
    let after = change(guest, "c", "Ownership has not been taken")?;
    // What a cleared TPM is, is its maker's choice: swtpm's is disabled and deactivated, ours works. So it is disabled here.
    if after.contains(WORKING) {
        change(guest, "d", "Disabled")?;
    }
    Ok(())
}

/// On the page that [`clear`] has opened.
fn enable(guest: &mut Guest) -> Result<()> {
    let enabled = change(guest, "e", "Enabled")?;
    // Activating takes a start, which SeaBIOS makes at once; the escape key starts anew, too.
    guest.press(if enabled.contains(WORKING) { "\x1b" } else { "a" })?;
    guest.heard("Press ESC for boot menu", BOOT)?;
    guest.press("\x1b")?;
    guest.heard("t. TPM Configuration", BOOT)?;
    guest.press("1")?;
    guest.ready()
}

fn check(guest: &mut Guest) -> Result<()> {
    let flags = guest.run("cd /sys/class/tpm/tpm0; echo $(cat enabled active owned)")?;
    ensure!(flags == "1 1 0", "enabled, active, owned: {flags}");
    nv_is(guest, 3).context("an area that is not the owner's")?;
    ensure!(guest.nv_read(OWNERS, SIZE).is_err(), "the owner's area {OWNERS:#x} (beside {KEPT:#x}) has outlived it");
    Ok(())
}
