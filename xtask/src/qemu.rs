//! `cargo xtask test qemu`: QEMU's TPM devices and the firmware of its machines on our engine.
//!
//! Each cell is one machine with one firmware and one TPM device, behind which an emulator with swtpm's control channel
//! serves the TPM: vtpm-host, or another one for comparison. A small Linux guest is led through the life of a virtual
//! machine: start, measured boot, snapshots, saving to a file, live migration, reboots, physical presence requests.

mod cell;
mod eventlog;
mod guest;
mod kernels;
mod machine;
mod menu;
mod passthrough;
mod qmp;

use std::path::PathBuf;

use anyhow::Result;

use self::cell::{Cell, Driver, Log, Presence, Report};
use self::machine::{AAVMF, Bench, Firmware, Model, OVMF, TOOLS};
use crate::build;
use crate::packages;
use crate::paths::{Paths, fresh_dir};
use crate::swtpm::{Chip, Software};
use crate::test_tis::Tally;
use crate::ui::{Step, say};

/// What may be chosen.
#[derive(Default)]
pub struct Options {
    /// Another emulator than vtpm-host.
    pub emulator: Option<PathBuf>,
    /// Only cells whose names contain this.
    pub only: Option<String>,
}

/// Which of the kernels a cell boots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Boots {
    X86,
    Arm64,
    Ppc64El,
}

const CELLS: &[(Cell, Boots)] = &[
    (
        Cell {
            name: "pc, tpm-tis, SeaBIOS, TPM 1.2",
            model: Model {
                program: "qemu-system-x86_64",
                arguments: &["-machine", "pc", "-cpu", "max", "-m", "256"],
                device: "tpm-tis",
                console: "ttyS0",
                firmware: Firmware::SeaBios,
                goes_on: true,
            },
            driver: Driver::Named("tpm_tis"),
            log: Log::Replays,
            presence: Presence::Menu,
        },
        Boots::X86,
    ),
    (
        Cell {
            name: "q35, tpm-tis, SeaBIOS, TPM 1.2",
            model: Model {
                program: "qemu-system-x86_64",
                arguments: &["-machine", "q35", "-cpu", "max", "-m", "256"],
                device: "tpm-tis",
                console: "ttyS0",
                firmware: Firmware::SeaBios,
                goes_on: true,
            },
            driver: Driver::Named("tpm_tis"),
            log: Log::Replays,
            presence: Presence::Menu,
        },
        Boots::X86,
    ),
    (
        Cell {
            name: "pc, tpm-tis, OVMF, TPM 1.2",
            model: Model {
                program: "qemu-system-x86_64",
                arguments: &["-machine", "pc", "-cpu", "max", "-m", "256"],
                device: "tpm-tis",
                console: "ttyS0",
                firmware: OVMF,
                goes_on: true,
            },
            driver: Driver::Named("tpm_tis"),
            log: Log::Replays,
            presence: Presence::None,
        },
        Boots::X86,
    ),
    (
        Cell {
            name: "q35, tpm-tis, OVMF, TPM 1.2",
            model: Model {
                program: "qemu-system-x86_64",
                arguments: &["-machine", "q35", "-cpu", "max", "-m", "256"],
                device: "tpm-tis",
                console: "ttyS0",
                firmware: OVMF,
                goes_on: true,
            },
            driver: Driver::Named("tpm_tis"),
            log: Log::Replays,
            presence: Presence::None,
        },
        Boots::X86,
    ),
    (
        Cell {
            name: "virt, tpm-tis-device, AAVMF, TPM 1.2",
            model: Model {
                program: "qemu-system-aarch64",
                arguments: &["-machine", "virt,gic-version=2", "-cpu", "cortex-a57", "-m", "256"],
                device: "tpm-tis-device",
                console: "ttyAMA0",
                firmware: AAVMF,
                goes_on: true,
            },
            driver: Driver::Registers,
            log: Log::None,
            presence: Presence::None,
        },
        Boots::Arm64,
    ),
    (
        Cell {
            name: "pseries, tpm-spapr, SLOF, TPM 1.2",
            model: Model {
                program: "qemu-system-ppc64",
                arguments: &[
                    "-machine",
                    "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
                    "-m",
                    "512",
                ],
                device: "tpm-spapr",
                console: "hvc0",
                firmware: Firmware::Slof,
                goes_on: false,
            },
            driver: Driver::Named("tpm_ibmvtpm"),
            log: Log::None,
            presence: Presence::None,
        },
        Boots::Ppc64El,
    ),
];

/// What QEMU or the firmware does not have, or waits for an engine. Printed, not counted.
const ABSENT: &[(&str, &str)] = &[
    ("q35, tpm-crb, TPM 1.2", "the interface exists for TPM 2.0 only: Linux finds no TPM then"),
    ("virt, tpm-tis-device, TPM 1.2: driver", "Debian's arm64 kernels (6.1, 6.12) are built without CONFIG_TCG_TIS"),
    (
        "virt, tpm-tis-device, TPM 1.2: event log",
        "AAVMF has code for TPM 2.0 only; QEMU describes no TPM 1.2 in ACPI there",
    ),
    ("pseries, tpm-spapr, TPM 1.2: event log", "SLOF drives a TPM 2.0 only; Linux sends TPM_Startup"),
    (
        "TPM 1.2: physical presence requests from sysfs",
        "SeaBIOS and OVMF offer none for it (QEMU's table of them stays empty)",
    ),
    (
        "pseries, tpm-spapr: snapshots, saving, migration",
        "after them QEMU 7.2's guest often waits forever for an answer that the emulator has given; the cause is not known",
    ),
    ("OVMF, TPM 1.2: physical presence in a menu", "OVMF's set-up pages know a TPM 2.0 only"),
    ("all machines, TPM 2.0", "vtpm-host has a TPM 1.2 only"),
];

/// Runs the cells one after another; prints one line per step.
pub fn run(paths: &Paths, options: &Options) -> Result<Tally> {
    packages::need(&[TOOLS, packages::XEN])?;
    let software = match &options.emulator {
        Some(program) => Software { program: program.clone() },
        None => build::vtpm_host(paths)?,
    };
    let logs = std::path::absolute(paths.logs().join("qemu"))?;
    fresh_dir(&logs)?;
    let mut tally = Tally::default();
    let wanted = |name: &str| options.only.as_ref().is_none_or(|part| name.contains(part));
    for (cell, boots) in CELLS.iter().filter(|(cell, _)| wanted(cell.name)) {
        let kernel = match boots {
            Boots::X86 => kernels::x86(paths)?,
            Boots::Arm64 => kernels::foreign(paths, &kernels::ARM64)?,
            Boots::Ppc64El => kernels::foreign(paths, &kernels::PPC64EL)?,
        };
        let dir = logs.join(cell.name.replace(", ", "-").replace(' ', "-"));
        fresh_dir(&dir)?;
        let bench = Bench { model: &cell.model, kernel: &kernel, software: &software, chip: Chip::V12, dir: &dir };
        let step = Step::begin(cell.name);
        let mut report = Report { cell: cell.name, tally: &mut tally };
        let ended = cell::life(cell, &bench, &mut report);
        step.done();
        if let Err(error) = ended {
            println!("FAILED {}: {error:#}; logs in {}", cell.name, paths.show(&dir));
            tally.failed += 1;
        }
    }
    const PASSTHROUGH: &str = "q35, passthrough of a /dev/tpm0 that vtpm-host serves, TPM 1.2";
    if wanted(PASSTHROUGH) {
        let dir = logs.join("passthrough");
        fresh_dir(&dir)?;
        let step = Step::begin(PASSTHROUGH);
        let mut report = Report { cell: PASSTHROUGH, tally: &mut tally };
        let ended = passthrough::smoke(paths, &software, &dir, &mut report);
        step.done();
        if let Err(error) = ended {
            println!("FAILED {PASSTHROUGH}: {error:#}; logs in {}", paths.show(&dir));
            tally.failed += 1;
        }
    }
    for (what, why) in ABSENT.iter().filter(|(name, _)| wanted(name)) {
        println!("not there: {what}: {why}");
    }
    say(format!("qemu: logs in {}", paths.show(&logs)));
    Ok(tally)
}
