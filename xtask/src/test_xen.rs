//! `cargo xtask test xen`: scenarios on real Xen, many to a boot.
//!
//! Each file of `xtask/rig/scenarios` is the script of one machine. A line `#: key=value ...` at its top says which:
//!
//! | key | meaning |
//! |---|---|
//! | `tpm=1.2`, `tpm=2.0` | the chip; 1.2 if not given |
//! | `interface=tis`, `interface=crb` | its interface; tis if not given |
//! | `state=NAME` | chip and disks are those that the last file with this name left; `main` if not given |
//! | `boots=N` | the machine is started N times with this script, which finds the number of the start in `$BOOT`; 1 if not given |
//! | `moved=N` | the start from which on the disks are in another machine, with another chip |
//!
//! What a later start finds has survived a restart of the whole machine; a script may also end with a power cut
//! (`cut_power` in `lib.sh`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::emulator;
use crate::paths::{Paths, fresh_dir, make_dir};
use crate::process;
use crate::rig::{Boot, Interface, Rig};
use crate::swtpm::{Chip, Software};
use crate::test_boot;
use crate::test_tis::Tally;
use crate::ui::say;

/// One boot with all its scenarios; a busy host is much slower than an idle one.
const LIMIT: Duration = Duration::from_secs(2400);

/// What a scenario file asks for.
#[derive(PartialEq, Eq, Debug)]
struct Machine {
    chip: Chip,
    interface: Interface,
    state: String,
    boots: u32,
    moved: Option<u32>,
}

impl Machine {
    fn of(script: &str) -> Result<Self> {
        let mut machine =
            Self { chip: Chip::V12, interface: Interface::Tis, state: "main".to_owned(), boots: 1, moved: None };
        for word in script.lines().filter_map(|line| line.strip_prefix("#:")).flat_map(str::split_whitespace) {
            match word.split_once('=') {
                Some(("tpm", "1.2")) => machine.chip = Chip::V12,
                Some(("tpm", "2.0")) => machine.chip = Chip::V20,
                Some(("interface", "tis")) => machine.interface = Interface::Tis,
                Some(("interface", "crb")) => machine.interface = Interface::Crb,
                Some(("state", name)) => machine.state = name.to_owned(),
                Some(("boots", number)) => machine.boots = number.parse().context("boots= is no number")?,
                Some(("moved", number)) => machine.moved = Some(number.parse().context("moved= is no number")?),
                _ => bail!("{word} means nothing to the machine"),
            }
        }
        Ok(machine)
    }
}

/// Runs all scenarios, or those of the files whose names contain `only`, and counts their `ok` and `FAILED` lines.
pub fn run(paths: &Paths, only: Option<&str>) -> Result<Tally> {
    build::run(paths)?;
    let add = vec![
        build::image(paths, test_boot::PACKAGE, test_boot::BIN)?,
        build::image(paths, "tpm_tis", "tis-probe")?,
        build::image(paths, "vtpmmgr", "crowd")?,
        build::program(paths, "vtpmctl")?,
    ];
    let rig = Rig::prepare(paths)?;
    let keep = paths.rig().join("xen-test");
    fresh_dir(&keep)?;
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(paths.scripts().join("scenarios"))? {
        scripts.push(entry?.path());
    }
    scripts.sort();
    let mut tally = Tally::default();
    for path in scripts {
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a scenario's name is not UTF-8")?;
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let script = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let machine = Machine::of(&script).with_context(|| path.display().to_string())?;
        for number in 1..=machine.boots {
            let name = if machine.boots == 1 { name.to_owned() } else { format!("{name}.{number}") };
            let boot = Boot {
                name: format!("xen-{name}"),
                script: format!("BOOT={number}\n{script}"),
                guest_script: None,
                add: add.clone(),
                chip: machine.chip,
                software: Software::default(),
                interface: machine.interface,
                other_machine: machine.moved.is_some_and(|first| number >= first),
                keep: Some(keep.join(&machine.state)),
                limit: LIMIT,
            };
            let part = once_or_twice(paths, &rig, &boot, &name)?;
            tally.passed += part.passed;
            tally.failed += part.failed;
        }
    }
    Ok(tally)
}

/// One start of a machine, done again from the same state if the emulator spoilt it ([`crate::emulator`]).
fn once_or_twice(paths: &Paths, rig: &Rig, boot: &Boot, name: &str) -> Result<Tally> {
    let before = paths.rig().join("xen-test-before");
    if let Some(state) = &boot.keep {
        make_dir(state)?;
        copy(state, &before)?;
    }
    let part = one(paths, rig, boot, name);
    let logs = paths.logs().join(&boot.name);
    let serial = std::fs::read(logs.join("serial.log")).unwrap_or_default();
    let serial = String::from_utf8_lossy(&serial);
    let Some(line) = emulator::spoilt(&serial).filter(|_| part.failed > 0) else { return Ok(part) };
    say(format!("{name}: this boot is void, the emulated processor left a guest with the hypervisor's registers:"));
    say(format!("{name}:     {line}"));
    say(format!("{name}: the machine is started a second time from the same state, and what follows counts"));
    if let Some(state) = &boot.keep {
        copy(&before, state)?;
    }
    let void = logs.with_extension("void");
    fresh_dir(&void)?;
    std::fs::rename(&logs, &void).context("cannot put the void boot's logs aside")?;
    Ok(one(paths, rig, boot, name))
}

/// Makes `to` a copy of the folder `from`; the holes of disk images stay holes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fresh_dir(to)?;
    let mut command = Command::new("cp");
    command.args(["--archive", "--sparse=always"]).arg(from.join(".")).arg(to);
    process::check(&mut command, "cp of a machine's state", Duration::from_secs(300))?;
    Ok(())
}

/// One start of a machine.
fn one(paths: &Paths, rig: &Rig, boot: &Boot, name: &str) -> Tally {
    let mut part = Tally::default();
    let mut ended = false;
    let outcome = rig.boot(boot, &mut |line| {
        println!("{name}: {line}");
        if line.starts_with("ok ") {
            part.passed += 1;
        } else if line.starts_with("FAILED ") {
            part.failed += 1;
        }
        ended |= line == "all scenarios have run";
    });
    let complaint = match outcome {
        Err(error) => Some(format!("{error:#}")),
        Ok(outcome) if !ended || outcome.status != 0 => {
            Some(format!("the script did not run to its end (status {})", outcome.status))
        }
        Ok(_) => None,
    };
    if let Some(complaint) = complaint {
        say(format!("{name}: FAILED {complaint}"));
        part.failed += 1;
    }
    say(format!("{name}: logs in {}", paths.show(&paths.logs().join(&boot.name))));
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_file_says_what_machine_it_wants() {
        let plain = Machine::of("# First boot\n. lib.sh\n").unwrap();
        assert_eq!((plain.chip, plain.interface, plain.boots, plain.moved), (Chip::V12, Interface::Tis, 1, None));
        assert_eq!(plain.state, "main");
        let full = Machine::of("# A\n#: tpm=2.0 interface=crb\n#: state=x boots=3 moved=2\n").unwrap();
        assert_eq!((full.chip, full.interface, full.boots, full.moved), (Chip::V20, Interface::Crb, 3, Some(2)));
        assert_eq!(full.state, "x");
        for wrong in ["#: tpm=3", "#: boots=many", "#: crb", "#: colour=blue"] {
            assert!(Machine::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_scenario_files_of_this_checkout_are_understood() {
        let paths = Paths::find().unwrap();
        for entry in std::fs::read_dir(paths.scripts().join("scenarios")).unwrap() {
            let path = entry.unwrap().path();
            let machine = Machine::of(&std::fs::read_to_string(&path).unwrap());
            assert!(machine.is_ok(), "{}: {machine:?}", path.display());
        }
    }
}
