//! `cargo xtask test`: everything that must pass, or one part of it.

use anyhow::Result;

use crate::paths::Paths;
use crate::test_tis::Tally;
use crate::ui::say;
use crate::{qemu, suites, test_boot, test_tis, test_unit, test_xen, tidy};

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The host tests of all packages (cargo test)
    Unit,
    /// The start of an image and its ways to end, without Xen
    Boot,
    /// The TIS driver in its test image against QEMU's chip, without Xen
    Tis,
    /// Other people's TPM 1.2 programs against our engine (tpm-tools, TrouSerS)
    Suites,
    /// QEMU's machines, firmware and TPM devices with vtpm-host as the emulator behind them
    Qemu,
    /// The whole stack on real Xen
    Xen,
}

/// Runs `part`, or `tidy` and all parts; true when nothing failed.
pub fn run(paths: &Paths, part: Option<Part>, qemu: &qemu::Options) -> Result<bool> {
    let mut tally = Tally::default();
    if part.is_none() {
        add(&mut tally, "tidy", tidy::run(paths));
    }
    let wanted = |which: Part| part.is_none_or(|part| part == which);
    if wanted(Part::Unit) {
        add(&mut tally, "unit", test_unit::run(paths));
    }
    if wanted(Part::Boot) {
        add(&mut tally, "boot", test_boot::run(paths));
    }
    if wanted(Part::Tis) {
        add(&mut tally, "tis", test_tis::run(paths));
    }
    if wanted(Part::Suites) {
        add(&mut tally, "suites", suites::run(paths));
    }
    if wanted(Part::Qemu) {
        add(&mut tally, "qemu", qemu::run(paths, qemu));
    }
    if wanted(Part::Xen) {
        add(&mut tally, "xen", test_xen::run(paths, qemu.only.as_deref()));
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// Adds one part's result; a part that could not run to its end counts as one failure.
fn add(tally: &mut Tally, name: &str, result: Result<Tally>) {
    let part = result.unwrap_or_else(|error| {
        say(format!("{name}: FAILED {error:#}"));
        Tally { passed: 0, failed: 1 }
    });
    say(format!("{name}: {} passed, {} failed", part.passed, part.failed));
    tally.passed += part.passed;
    tally.failed += part.failed;
}
