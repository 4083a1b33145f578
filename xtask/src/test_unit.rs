//! `cargo xtask test unit`: the host tests of all packages, and the kept inputs of the fuzz targets.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::fuzz;
use crate::packages;
use crate::paths::Paths;
use crate::test_tis::Tally;
use crate::ui::say;

/// Runs `cargo test` for the workspace and for the fuzz targets, shows failures as they come, and counts.
pub fn run(paths: &Paths) -> Result<Tally> {
    packages::need(&[packages::UNIT])?;
    say("==> Building and running the host tests");
    let mut workspace = Command::new("timeout");
    workspace.args(["--kill-after=10", "2400", "cargo", "test", "--workspace", "--no-fail-fast", "--quiet"]);
    let mut tally = count(paths, workspace.current_dir(&paths.root))?;
    say("==> Building and running the fuzz targets' kept inputs");
    let seeds = count(paths, &mut fuzz::seeds(paths))?;
    tally.passed += seeds.passed;
    tally.failed += seeds.failed;
    Ok(tally)
}

fn count(paths: &Paths, tests: &mut Command) -> Result<Tally> {
    let mut child = tests
        .env("CARGO_TARGET_DIR", &paths.target)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let mut tally = Tally::default();
    let mut failing = false;
    for line in BufReader::new(child.stdout.take().context("no output of cargo test")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(result) = parse(&line) {
            tally.passed += result.passed;
            tally.failed += result.failed;
            failing = false;
        } else if line.starts_with("failures:") {
            failing = true;
        }
        if failing {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test did not run to its end ({status})");
    }
    Ok(tally)
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
fn parse(line: &str) -> Option<Tally> {
    let rest = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut tally = Tally::default();
    for part in rest.split("; ") {
        match part.split_once(' ') {
            Some((count, "passed")) => tally.passed = count.parse().ok()?,
            Some((count, "failed")) => tally.failed = count.parse().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(parse(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(parse("running 3 tests"), None);
    }
}
