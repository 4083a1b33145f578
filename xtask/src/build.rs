//! `cargo xtask build`: the release images.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::packages;
use crate::paths::{Paths, make_dir};
use crate::process;
use crate::swtpm::Software;
use crate::ui::{Step, say};

/// The packages that are images.
pub const IMAGES: &[&str] = &["vtpm-stubdom", "vtpmmgr"];
/// The target the images are built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// Builds the image of `package` and returns the ELF file's place.
pub fn image(paths: &Paths, package: &str, bin: &str) -> Result<PathBuf> {
    packages::need_target()?;
    let step = Step::begin(format!("Building the image {bin}"));
    process::check(
        Command::new("cargo")
            .current_dir(&paths.root)
            .env("CARGO_TARGET_DIR", &paths.target)
            .args(["build", "--quiet", "--release", "--target", TARGET, "--features", "image"])
            .args(["--package", package, "--bin", bin]),
        &format!("cargo build of {bin}"),
        Duration::from_secs(1800),
    )?;
    step.done();
    Ok(paths.target.join(TARGET).join("release").join(bin))
}

/// Builds the host program of `package`, as the host tests are built, and returns its place.
pub fn program(paths: &Paths, package: &str) -> Result<PathBuf> {
    let step = Step::begin(format!("Building {package}"));
    process::check(
        Command::new("cargo").current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args([
            "build",
            "--quiet",
            "--package",
            package,
            "--bin",
            package,
        ]),
        &format!("cargo build of {package}"),
        Duration::from_secs(1800),
    )?;
    // Without what is for a debugger it is a tenth as long, and the machine that it goes into has little memory.
    let stripped = paths.target.join("programs").join(package);
    make_dir(&paths.target.join("programs"))?;
    process::check(
        Command::new("strip").arg("-o").arg(&stripped).arg(paths.target.join("debug").join(package)),
        "strip",
        Duration::from_secs(60),
    )?;
    step.done();
    Ok(stripped)
}

/// Builds vtpm-host: a program with swtpm's command line.
pub fn vtpm_host(paths: &Paths) -> Result<Software> {
    let step = Step::begin("Building vtpm-host");
    process::check(
        Command::new("cargo").current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args([
            "build",
            "--quiet",
            "--package",
            "vtpm-host",
        ]),
        "cargo build of vtpm-host",
        Duration::from_secs(1800),
    )?;
    step.done();
    Ok(Software { program: std::path::absolute(paths.target.join("debug").join("vtpm-host"))? })
}

/// Builds all images into `target/images` and prints their sizes.
pub fn run(paths: &Paths) -> Result<()> {
    make_dir(&paths.images())?;
    for name in IMAGES {
        let built = image(paths, name, name)?;
        let to = paths.images().join(name);
        std::fs::copy(&built, &to).with_context(|| format!("cannot copy {} to {}", built.display(), to.display()))?;
        let size = std::fs::metadata(&to)?.len();
        say(format!("    {}: {} KiB", paths.show(&to), size.div_ceil(1024)));
    }
    Ok(())
}
