//! What the host must have: Debian packages, the Rust target and components.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::ui::{Step, say};

/// A program the rig calls, the package it comes in, and what it is for.
pub struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// A tool; `program` may be a file's whole path.
pub const fn tool(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, why }
}

/// Needed to boot an image against a chip.
pub const CHIP: &[Tool] = &[
    tool("qemu-system-x86_64", "qemu-system-x86", "the machine that everything boots in"),
    tool("swtpm", "swtpm", "the software TPM that plays the hardware chip"),
    tool("setpriv", "util-linux", "ends the machine when this program is ended"),
];

/// Needed in addition to build and boot the Xen machine.
pub const XEN: &[Tool] = &[
    tool("dpkg-deb", "dpkg", "unpacks Debian's Xen and Linux for the machine"),
    tool("tar", "tar", "unpacks Debian's Xen and Linux for the machine"),
    tool("gzip", "gzip", "unpacks the Xen kernel"),
    tool("strip", "binutils", "shortens the programs that go into the machine"),
    tool("xz", "xz-utils", "unpacks the Linux kernel"),
    tool("mke2fs", "e2fsprogs", "makes the machine's state disk"),
    tool("openssl", "openssl", "makes the key that approves lists of PCRs"),
];

/// Needed to run other people's TPM programs on the host.
pub const SUITES: &[Tool] = &[
    tool("dpkg-deb", "dpkg", "unpacks Debian's TPM programs"),
    tool("setpriv", "util-linux", "ends the servers when this program is ended"),
    tool("unshare", "util-linux", "gives TrouSerS's daemon the user it wants"),
    tool("setsid", "util-linux", "keeps the programs from asking for passwords on the terminal"),
];

/// Needed by the host tests: other people's programs that ours are tried on.
pub const UNIT: &[Tool] = &[
    tool("swtpm", "swtpm", "a TPM of either version that the manager's clients are tested on"),
    tool("swtpm_ioctl", "swtpm-tools", "a client of the control channel that vtpm-host is tested with"),
    tool("openssl", "openssl", "checks the certificates that vtpm-host makes"),
];

/// Needed to measure our engine beside swtpm's.
pub const ENGINES: &[Tool] = &[
    tool("swtpm", "swtpm", "the software TPM that ours is compared with"),
    tool("taskset", "util-linux", "binds servers and client to one CPU"),
    tool("setpriv", "util-linux", "ends the servers when this program is ended"),
];

/// What counting instructions needs.
pub const VALGRIND: &[Tool] = &[tool("valgrind", "valgrind", "counts the instructions of a command")];

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Joining a whole path gives that path.
    std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)).any(|dir| dir.join(program).is_file())
}

/// True for the user who may install packages.
pub fn is_root() -> bool {
    process::check(Command::new("id").arg("-u"), "id", Duration::from_secs(10)).is_ok_and(|id| id.trim() == "0")
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
    command
}

/// Brings apt's package lists up to date; without root it says which command to run.
pub fn update_lists() -> Result<()> {
    if !is_root() {
        bail!("apt's package lists are missing or too old; run:\n    sudo apt-get update\nand start again");
    }
    let step = Step::begin("Updating apt's package lists");
    process::check(apt().arg("update"), "apt-get update", Duration::from_secs(300))?;
    step.done();
    Ok(())
}

/// Installs what is missing of `tools`; without root it says what to install and why.
pub fn need(tools: &[&[Tool]]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().flat_map(|list| list.iter()).filter(|tool| !in_path(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    names.sort_unstable();
    names.dedup();
    for tool in &missing {
        say(format!("missing: {} (package {}): {}", tool.program, tool.package, tool.why));
    }
    let list = names.join(" ");
    if !is_root() {
        bail!(
            "please install what is missing and start again:\n    sudo apt-get install --no-install-recommends {list}"
        );
    }
    let install = || {
        process::check(
            apt().args(["install", "--no-install-recommends"]).args(&names),
            "apt-get install",
            Duration::from_secs(900),
        )
    };
    let step = Step::begin(format!("Installing Debian packages: {list}"));
    if install().is_err() {
        update_lists()?;
        install().with_context(|| format!("could not install {list}"))?;
    }
    step.done();
    Ok(())
}

/// Adds the bare-metal Rust target when the tool chain does not have it.
pub fn need_target() -> Result<()> {
    const TARGET: &str = "x86_64-unknown-none";
    let sysroot = process::check(Command::new("rustc").args(["--print", "sysroot"]), "rustc", Duration::from_secs(60))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    let step = Step::begin(format!("Adding the Rust target {TARGET} (the images run without an operating system)"));
    process::check(
        Command::new("rustup").args(["target", "add", TARGET]),
        "rustup target add",
        Duration::from_secs(600),
    )
    .with_context(|| format!("the Rust target {TARGET} is missing; install it with: rustup target add {TARGET}"))?;
    step.done();
    Ok(())
}

/// Adds rustfmt and clippy when the tool chain does not have them.
pub fn need_components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        let probe = process::output(Command::new(program).arg("--version"), program, Duration::from_secs(120));
        if probe.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let step = Step::begin(format!("Adding the Rust component {component}"));
        process::check(
            Command::new("rustup").args(["component", "add", component]),
            "rustup component add",
            Duration::from_secs(600),
        )
        .with_context(|| format!("{component} is missing; install it with: rustup component add {component}"))?;
        step.done();
    }
    Ok(())
}
