//! `cargo xtask run`: the stack on real Xen, as a tour or with scripts of one's own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::paths::Paths;
use crate::rig::{Boot, Interface, Rig};
use crate::swtpm::{Chip, Software};
use crate::ui::say;

/// What to run.
pub struct Options {
    /// A script for dom0 instead of the tour.
    pub dom0: Option<PathBuf>,
    /// A script for the Linux guest, after the stack is up.
    pub guest: Option<PathBuf>,
    /// Files and folders for dom0 and the guest.
    pub add: Vec<PathBuf>,
    /// The hardware chip.
    pub chip: Chip,
    /// vtpm-host plays it, not swtpm.
    pub own_chip: bool,
    /// Its interface.
    pub interface: Interface,
    /// Where state is kept.
    pub keep: Option<PathBuf>,
    /// Skip building the images (a dom0 script that needs none).
    pub no_build: bool,
    /// Longest time for the whole boot.
    pub limit: Duration,
}

/// Runs it; an error when the script's status is not 0.
pub fn run(paths: &Paths, options: Options) -> Result<i32> {
    for path in options.dom0.iter().chain(&options.guest).chain(&options.add) {
        if !path.exists() {
            bail!("{}: there is no such file", path.display());
        }
    }
    if (options.chip, options.interface) == (Chip::V12, Interface::Crb) {
        bail!("a TPM 1.2 chip has no CRB: use --tpm 2.0 with --interface crb");
    }
    if !options.no_build {
        build::run(paths)?;
    }
    let rig = Rig::prepare(paths)?;
    let script = match (&options.dom0, &options.guest) {
        (Some(path), _) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        (None, guest) => {
            let name = if guest.is_some() { "guest-script.sh" } else { "tour.sh" };
            let path = paths.scripts().join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        }
    };
    let boot = Boot {
        name: "run".to_owned(),
        script,
        guest_script: options.guest,
        add: options.add,
        chip: options.chip,
        software: if options.own_chip { build::vtpm_host(paths)? } else { Software::default() },
        interface: options.interface,
        other_machine: false,
        keep: options.keep.map(std::path::absolute).transpose()?,
        limit: options.limit,
    };
    let outcome = rig.boot(&boot, &mut |line| println!("{line}"))?;
    say(format!("Logs: {}", paths.show(&paths.logs().join(&boot.name))));
    if outcome.status != 0 {
        say(format!("The script ended with status {}", outcome.status));
    }
    Ok(outcome.status)
}
