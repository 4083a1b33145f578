//! The front door of the project: build, run, test, tidy, bench.

mod bench;
mod bench_counts;
mod bench_engine;
mod build;
mod cpio;
mod debian;
mod elf;
mod emulator;
mod fuzz;
mod initrd;
mod packages;
mod paths;
mod process;
mod qemu;
mod rig;
mod rules;
mod run;
mod suites;
mod swtpm;
mod test;
mod test_boot;
mod test_tis;
mod test_unit;
mod test_xen;
mod tidy;
mod ui;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::paths::Paths;
use crate::rig::Interface;
use crate::swtpm::Chip;

/// Builds, runs and tests the virtual TPM stack.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Build the release images into target/images and print their sizes
    Build,
    /// Boot real Xen under QEMU and show a Linux guest using its vTPM (installs what is missing)
    ///
    /// Without --dom0 and --guest it gives the tour: manager, vTPM and a Linux guest are started, and the guest shows
    /// tpm_version, PCR values before and after an extend, and random bytes. Exit status 0 means that all of it worked.
    /// Logs and guest consoles are kept in target/rig/logs/run.
    Run {
        /// Run this shell script in dom0 instead of the tour; $VTPM_DIR names the folder with images and example configs
        #[arg(long, value_name = "SCRIPT")]
        dom0: Option<PathBuf>,
        /// Run this shell script in the Linux guest after the stack is up
        #[arg(long, value_name = "SCRIPT", conflicts_with = "dom0")]
        guest: Option<PathBuf>,
        /// Copy a file or folder into dom0 and the guest, under /add (repeatable)
        #[arg(long, value_name = "PATH")]
        add: Vec<PathBuf>,
        /// The hardware chip of the machine
        #[arg(long, value_enum, default_value = "1.2")]
        tpm: ChipName,
        /// Our own vtpm-host plays the hardware chip instead of swtpm: the whole stack runs on our engine
        #[arg(long)]
        own_chip: bool,
        /// The chip's interface; a TPM 1.2 has tis only
        #[arg(long, value_enum, default_value = "tis")]
        interface: InterfaceName,
        /// Keep the state of chip and disks in DIR and use it again next time
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Do not build the images first; use those in target/images, if there are any
        #[arg(long)]
        no_build: bool,
        /// The longest time for the whole boot
        #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
        limit: u64,
    },
    /// Run everything that must pass: tidy, host tests, the driver against a bare chip, the stack on Xen
    Test {
        /// Only this part
        #[arg(value_enum)]
        part: Option<test::Part>,
        /// With `qemu`: another program with swtpm's command line and control channel instead of vtpm-host
        #[arg(long, value_name = "PROGRAM")]
        emulator: Option<PathBuf>,
        /// With `qemu` and `xen`: only cells or scenario files whose names contain this
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Check format, clippy, and the design's rules on dependencies, unsafe code and links
    Tidy,
    /// Search for inputs that a fuzz target fails on (all targets one after another, or one)
    Fuzz {
        /// The target's name: a program of fuzz/Cargo.toml
        target: Option<String>,
        /// How long to search, for each target
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seconds: u64,
    },
    /// Measure sizes and speeds and print them
    Bench {
        /// Only this part
        #[arg(value_enum)]
        part: Option<BenchPart>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum BenchPart {
    /// Commands of our TPM 1.2 engine and of swtpm's, side by side
    Engine,
    /// Instructions that our TPM 1.2 engine executes for a command
    Counts,
}

#[derive(Clone, Copy, ValueEnum)]
enum InterfaceName {
    Tis,
    Crb,
}

#[derive(Clone, Copy, ValueEnum)]
enum ChipName {
    #[value(name = "1.2")]
    V12,
    #[value(name = "2.0")]
    V20,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match work(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(command: Sub) -> Result<ExitCode> {
    let paths = Paths::find()?;
    match command {
        Sub::Build => {
            build::run(&paths)?;
            Ok(ExitCode::SUCCESS)
        }
        Sub::Run { dom0, guest, add, tpm, own_chip, interface, keep, no_build, limit } => {
            let chip = match tpm {
                ChipName::V12 => Chip::V12,
                ChipName::V20 => Chip::V20,
            };
            let interface = match interface {
                InterfaceName::Tis => Interface::Tis,
                InterfaceName::Crb => Interface::Crb,
            };
            let limit = Duration::from_secs(limit);
            let status =
                run::run(&paths, run::Options { dom0, guest, add, chip, own_chip, interface, keep, no_build, limit })?;
            Ok(u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Sub::Test { part, emulator, only } => Ok(code(test::run(&paths, part, &qemu::Options { emulator, only })?)),
        Sub::Tidy => {
            let tally = tidy::run(&paths)?;
            println!("tidy: {} passed, {} failed", tally.passed, tally.failed);
            Ok(code(tally.failed == 0))
        }
        Sub::Fuzz { target, seconds } => {
            fuzz::run(&paths, target.as_deref(), seconds)?;
            Ok(ExitCode::SUCCESS)
        }
        Sub::Bench { part } => {
            match part {
                Some(BenchPart::Engine) => bench_engine::run(&paths)?,
                Some(BenchPart::Counts) => bench_counts::run(&paths)?,
                None => bench::run(&paths)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
