//! `cargo xtask bench counts`: instructions that the TPM 1.2 engine executes for a command, in process, counted by callgrind.
//!
//! The rows are the tests of `crates/tpm12/src/rows.rs`. Each runs twice, with [`FEW`] and with [`MANY`] executions of its command;
//! the difference leaves the preparation out. The generators start from fixed seeds, so the counts repeat from run to run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::packages;
use crate::paths::Paths;
use crate::process;
use crate::ui::Step;

/// Test and how it is shown.
const ROWS: &[(&str, &str)] = &[
    ("get_random", "GetRandom, 16 bytes"),
    ("pcr_read", "PCRRead"),
    ("extend", "Extend"),
    ("oiap_session", "OIAP, and the session ended"),
    ("osap_session", "OSAP, and the session ended"),
    ("create_wrap_key_1024", "CreateWrapKey, RSA-1024, with OSAP"),
    ("create_wrap_key_2048", "CreateWrapKey, RSA-2048, with OSAP"),
    ("load_key2", "LoadKey2, RSA-2048, with OIAP, and the key evicted"),
    ("sign", "Sign, RSA-2048"),
    ("quote", "Quote, RSA-2048, 8 PCRs"),
    ("seal", "Seal, 32 bytes, with OSAP"),
    ("unseal", "Unseal, 32 bytes"),
    ("nv_write", "NV_WriteValueAuth, 32 bytes, and its state staged"),
    ("nv_read", "NV_ReadValueAuth, 32 bytes"),
];
const FEW: u64 = 1;
const MANY: u64 = 5;

/// Counts all rows and prints them.
pub fn run(paths: &Paths) -> Result<()> {
    packages::need(&[packages::VALGRIND])?;
    let step = Step::begin("Building the engine's tests (release)");
    let tests = tests(paths)?;
    step.done();
    println!("{:52} instructions", "command (the client's share of sessions included)");
    for (row, name) in ROWS {
        let per_command = (count(&tests, row, MANY)?.saturating_sub(count(&tests, row, FEW)?)) / (MANY - FEW);
        println!("{name:52} {per_command:>12}");
    }
    Ok(())
}

/// The program with the engine's tests.
fn tests(paths: &Paths) -> Result<PathBuf> {
    let messages = process::check(
        Command::new("cargo").current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args([
            "test",
            "--quiet",
            "--release",
            "--package",
            "tpm12",
            "--lib",
            "--no-run",
            "--message-format=json",
        ]),
        "cargo test --no-run of tpm12",
        Duration::from_secs(1800),
    )?;
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.context("cargo named no test program")
}

/// Instructions of a whole run of one row.
fn count(tests: &Path, row: &str, runs: u64) -> Result<u64> {
    let said = process::check(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"])
            .arg(tests)
            .args(["--exact", &format!("rows::{row}"), "--test-threads=1"])
            .env("TPM12_ROW_RUNS", runs.to_string()),
        "valgrind",
        Duration::from_secs(900),
    )?;
    collected(&said).with_context(|| format!("callgrind said:\n{said}"))
}

/// The number in callgrind's line `==7== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_found() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234567\n"), Some(1_234_567));
        assert_eq!(collected("test result: ok"), None);
    }
}
