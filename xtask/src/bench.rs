//! `cargo xtask bench`: sizes and speeds, printed and never judged.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::rig::{Boot, Interface, Rig};
use crate::swtpm::{Chip, Software};
use crate::ui::say;

/// Prints the sizes of the images, then the one-process system test's speed, then the figures from real Xen.
pub fn run(paths: &Paths) -> Result<()> {
    build::run(paths)?;
    let example = paths.root.join("vtpm-stubdom").join("examples").join("speed.rs");
    if example.exists() {
        say("==> Commands through the ring, whole system in one process");
        process::show(
            Command::new("cargo").current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args([
                "run",
                "--quiet",
                "--release",
                "--package",
                "vtpm-stubdom",
                "--example",
                "speed",
            ]),
            "the one-process measurement",
            Duration::from_secs(1200),
        )?;
    }
    say("==> On real Xen, emulated without KVM");
    let rig = Rig::prepare(paths)?;
    let path = paths.scripts().join("bench.sh");
    let boot = Boot {
        name: "bench".to_owned(),
        script: std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?,
        guest_script: None,
        add: Vec::new(),
        chip: Chip::V12,
        software: Software::default(),
        interface: Interface::Tis,
        other_machine: false,
        keep: None,
        limit: Duration::from_secs(1500),
    };
    let outcome = rig.boot(&boot, &mut |line| println!("{line}"))?;
    if outcome.status != 0 {
        bail!("the measurement ended with status {}", outcome.status);
    }
    Ok(())
}
