//! `cargo xtask test boot`: an image's start and its ways to end, without Xen.
//!
//! The image `xen-guest-smoke` does what the first word of its command line says: what works must work, and each mistake
//! must end in a report and QEMU's exit status for a crash.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::packages;
use crate::paths::{Paths, fresh_dir};
use crate::process::Guarded;
use crate::test_tis::Tally;
use crate::ui::say;

/// The image of this crate's demonstrations.
pub const PACKAGE: &str = "xen-guest";
/// Its bin.
pub const BIN: &str = "xen-guest-smoke";

/// A boot takes about a second; a busy host may take longer.
const LIMIT: Duration = Duration::from_secs(120);
/// QEMU's exit status when the image ends well, and when it does not (`xen_guest::shutdown`).
const EXIT_GOOD: i32 = 33;
const EXIT_BAD: i32 = 35;

/// One boot.
struct Case {
    /// What is shown.
    name: &'static str,
    /// The command line.
    word: &'static str,
    /// MiB of memory.
    memory: &'static str,
    cpu: &'static str,
    status: i32,
    /// What the console must say.
    says: &'static str,
}

const CASES: &[Case] = &[
    good("the image starts with 4 MiB", "works", "4", "qemu64,+rdrand", "randomness works"),
    good("the image starts with 512 MiB", "works", "512", "qemu64,+rdrand", "all works"),
    good("the image starts on a processor with everything", "works", "16", "max", "randomness works"),
    good("a processor without randomness is reported", "works", "16", "qemu64", "no working source of randomness"),
    bad("a panic is reported", "panic", "panicked at"),
    bad("code cannot be written to", "write-text", "a page against its rights"),
    bad("constants cannot be written to", "write-rodata", "a page against its rights"),
    bad("data cannot be executed", "run-data", "execution of"),
    bad("page zero is not mapped", "null", "a page not mapped"),
    bad("a stack overflow is reported", "stack", ": stack overflow"),
    bad("exhausted memory is reported", "memory", "memory allocation of"),
];

const fn good(
    name: &'static str,
    word: &'static str,
    memory: &'static str,
    cpu: &'static str,
    says: &'static str,
) -> Case {
    Case { name, word, memory, cpu, status: EXIT_GOOD, says }
}

const fn bad(name: &'static str, word: &'static str, says: &'static str) -> Case {
    Case { name, word, memory: "16", cpu: "qemu64,+rdrand", status: EXIT_BAD, says }
}

/// Builds the image and runs all boots; prints one line per boot.
pub fn run(paths: &Paths) -> Result<Tally> {
    packages::need(&[packages::CHIP])?;
    let image = build::image(paths, PACKAGE, BIN)?;
    let logs = paths.logs().join("boot");
    fresh_dir(&logs)?;
    let mut tally = Tally::default();
    for (index, case) in CASES.iter().enumerate() {
        let (status, console) = boot(&image, case, &logs.join(format!("{index:02}-{}.log", case.word)))?;
        if status == case.status && console.contains(case.says) {
            say(format!("ok {}", case.name));
            tally.passed += 1;
        } else {
            say(format!("FAILED {} (exit status {status}):\n{console}", case.name));
            tally.failed += 1;
        }
    }
    Ok(tally)
}

/// Boots the image once; QEMU's exit status and what the image printed, which is also kept in `log`.
fn boot(image: &Path, case: &Case, log: &Path) -> Result<(i32, String)> {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", case.cpu, "-m", case.memory])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-debugcon")
        .arg(format!("file:{}", std::path::absolute(log)?.display()))
        .arg("-kernel")
        .arg(image)
        .args(["-append", case.word]);
    let mut machine = Guarded::spawn(&mut command, "QEMU")?;
    let Some(status) = machine.wait(LIMIT)? else {
        bail!("{}: no end within {} s\n{}", case.name, LIMIT.as_secs(), machine.end());
    };
    let said = machine.end();
    let text = std::fs::read(log).with_context(|| format!("QEMU did not start: {said}"))?;
    let status = status.code().with_context(|| format!("QEMU was ended by a signal: {said}"))?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}
