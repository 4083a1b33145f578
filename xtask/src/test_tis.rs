//! `cargo xtask test tis`: the chip's drivers against QEMU's own chip devices, without Xen.
//!
//! The image `tis-probe` boots under QEMU's PVH loader, a software TPM behind `tpm-tis`, once for each family of TPM, and
//! behind `tpm-crb`; and where there is no chip it must say so.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::packages;
use crate::paths::{Paths, fresh_dir};
use crate::process::Guarded;
use crate::swtpm::{Chip, Swtpm};
use crate::ui::{Step, say};

/// How many tests passed and failed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Passed.
    pub passed: u32,
    /// Failed.
    pub failed: u32,
}

/// A boot takes about three seconds; a busy host may take longer.
const LIMIT: Duration = Duration::from_secs(180);
/// QEMU's exit status when the image ends well, and when it does not (`xen_guest::shutdown`).
const EXIT_GOOD: i32 = 33;
const EXIT_BAD: i32 = 35;
/// Fewer checks than this from one boot means that the image left some out.
const FEWEST: u32 = 18;

/// What is plugged into the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Tis(Chip),
    /// A TPM 2.0 behind `tpm-crb`.
    Crb,
    Nothing,
}

/// Builds the image and runs all boots; prints one line per check.
pub fn run(paths: &Paths) -> Result<Tally> {
    packages::need(&[packages::CHIP])?;
    let image = build::image(paths, "tpm_tis", "tis-probe")?;
    let logs = paths.logs().join("tis");
    fresh_dir(&logs)?;
    let mut tally = Tally::default();
    for (name, device) in
        [("tpm-1.2", Device::Tis(Chip::V12)), ("tpm-2.0", Device::Tis(Chip::V20)), ("tpm-2.0-crb", Device::Crb)]
    {
        let step = Step::begin(format!("Booting the driver's test image: {name}"));
        let (status, console) = boot(paths, &image, device, &logs.join(name))?;
        let boot = count(&console);
        for line in console.lines().filter_map(result) {
            step.line(&format!("{name}: {line}"));
        }
        step.done();
        tally.passed += boot.passed;
        tally.failed += boot.failed;
        let closing = format!("{} passed, {} failed", boot.passed, boot.failed);
        let whole = console.lines().any(|line| line.ends_with(&closing));
        let agrees = (status == EXIT_GOOD) == (boot.failed == 0);
        if !whole || !agrees || boot.passed + boot.failed < FEWEST {
            say(format!("{name}: FAILED the image did not run to its end (exit status {status}):\n{console}"));
            tally.failed += 1;
        }
    }
    let (status, console) = boot(paths, &image, Device::Nothing, &logs.join("no-chip"))?;
    if status == EXIT_BAD && console.contains("no TPM at 0xfed40000") && count(&console) == Tally::default() {
        say("ok no chip is reported");
        tally.passed += 1;
    } else {
        say(format!("FAILED no chip is not reported (exit status {status}):\n{console}"));
        tally.failed += 1;
    }
    Ok(tally)
}

/// The part of a console line that is a check's result.
fn result(line: &str) -> Option<&str> {
    let text = line.strip_prefix("Info: ")?;
    (text.starts_with("ok ") || text.starts_with("FAILED ")).then_some(text)
}

fn count(console: &str) -> Tally {
    let mut tally = Tally::default();
    for line in console.lines().filter_map(result) {
        if line.starts_with("ok ") {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    tally
}

/// Boots the image once; QEMU's exit status and what the image printed. Both are also kept in `logs`.
fn boot(paths: &Paths, image: &Path, device: Device, logs: &Path) -> Result<(i32, String)> {
    fresh_dir(logs)?;
    let console = logs.join("console.log");
    let (chip, words) = match device {
        Device::Tis(Chip::V12) => (Some(Chip::V12), "1.2"),
        Device::Tis(Chip::V20) => (Some(Chip::V20), "2.0"),
        Device::Crb => (Some(Chip::V20), "2.0 crb"),
        Device::Nothing => (None, "1.2"),
    };
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg", "-cpu", "qemu64,+rdrand", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-debugcon")
        .arg(format!("file:{}", std::path::absolute(&console)?.display()))
        .arg("-kernel")
        .arg(image)
        .args(["-append", words]);
    let software = chip.map(|chip| Swtpm::start(chip, &logs.join("state"), &logs.join("swtpm.log"))).transpose()?;
    for arg in software.iter().flat_map(Swtpm::qemu_args) {
        command.arg(if device == Device::Crb { arg.replace("tpm-tis", "tpm-crb") } else { arg });
    }
    let mut machine = Guarded::spawn(&mut command, "QEMU")?;
    let Some(status) = machine.wait(LIMIT)? else {
        let said = machine.end();
        bail!("the test image did not end within {} s; see {}\n{said}", LIMIT.as_secs(), paths.show(&console));
    };
    let said = machine.end();
    std::fs::write(logs.join("qemu.log"), &said)?;
    let text = std::fs::read(&console).with_context(|| format!("QEMU did not start: {said}"))?;
    let status = status.code().with_context(|| format!("QEMU was ended by a signal: {said}"))?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_are_counted() {
        let console =
            "Info: TPM 1.2\nInfo: ok one\nWarn: ok\nInfo: FAILED two: why\nInfo: ok three\nInfo: 2 passed, 1 failed\n";
        assert_eq!(count(console), Tally { passed: 2, failed: 1 });
        assert_eq!(count(""), Tally::default());
    }
}
