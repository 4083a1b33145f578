//! `cargo xtask tidy`: format, clippy with warnings denied, the design's rules, links.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::TARGET;
use crate::packages;
use crate::paths::Paths;
use crate::process;
use crate::rules;
use crate::test_tis::Tally;
use crate::ui::{Step, say};

/// Packages with code for the bare machine, and the feature that brings it in.
const BARE: &[(&str, &str)] =
    &[("xen-guest", "image"), ("tpm_tis", "image"), ("vtpmmgr", "image"), ("vtpm-stubdom", "image")];

const LIMIT: Duration = Duration::from_secs(1800);

/// Checks everything and says what is wrong; each check counts as one test.
pub fn run(paths: &Paths) -> Result<Tally> {
    packages::need_components()?;
    packages::need_target()?;
    let mut tally = Tally::default();
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args(args);
        command
    };
    let mut check = |what: &str, command: &mut Command| {
        let step = Step::begin(what);
        match process::check(command, what, LIMIT) {
            Ok(_) => tally.passed += 1,
            Err(error) => {
                say(format!("tidy: FAILED {error:#}"));
                tally.failed += 1;
            }
        }
        step.done();
    };
    check("Format", &mut cargo(&["fmt", "--all", "--check"]));
    check(
        "Clippy: everything on the host",
        &mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
    check("Format: fuzz targets", cargo(&["fmt", "--check"]).args(fuzz));
    check(
        "Clippy: fuzz targets",
        cargo(&["clippy", "--quiet", "--all-targets"]).args(fuzz).args(["--", "-D", "warnings"]),
    );
    for (package, feature) in BARE {
        check(
            &format!("Clippy: {package} for the bare machine"),
            &mut cargo(&[
                "clippy",
                "--quiet",
                "--target",
                TARGET,
                "--package",
                package,
                "--features",
                feature,
                "--",
                "-D",
                "warnings",
            ]),
        );
    }
    check(
        "Documentation and its links",
        cargo(&["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    );

    let step = Step::begin("Rules of the design");
    let mut findings = rules::check(paths)?;
    let mut texts = vec![paths.root.join("README.md")];
    markdown(&paths.root.join("docs"), &mut texts)?;
    for file in texts.iter().filter(|file| file.exists()) {
        links(paths, file, &mut findings.broken)?;
    }
    step.done();
    for remark in &findings.remarks {
        say(format!("tidy: long file: {remark}"));
    }
    for broken in &findings.broken {
        say(format!("tidy: FAILED {broken}"));
    }
    if findings.broken.is_empty() {
        tally.passed += 1;
    } else {
        tally.failed += u32::try_from(findings.broken.len()).unwrap_or(u32::MAX);
    }
    Ok(tally)
}

fn markdown(dir: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            markdown(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// Every relative link of a document must lead to a file.
fn links(paths: &Paths, file: &Path, broken: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for part in text.split("](").skip(1) {
        let Some((link, _)) = part.split_once(')') else { continue };
        let target = link.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
            continue;
        }
        if !file.parent().is_some_and(|dir| dir.join(target).exists()) {
            broken.push(format!("{}: the link to {target} leads nowhere", paths.show(file)));
        }
    }
    Ok(())
}
