//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, on the stable toolchain.
//!
//! The compiler's coverage pass is reached through LLVM's own options, so that neither nightly nor cargo-fuzz is needed. Memory errors are not
//! looked for (the code is safe Rust); panics, overflows and the targets' own oracles are.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::paths::{Paths, make_dir};
use crate::process;
use crate::ui::say;

/// What `cargo fuzz` asks of the compiler, without sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// The host, named so that these flags stay away from build scripts.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// The longest that a build or one input may take.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Runs `target`, or all of them one after another, for `seconds` each. New inputs are kept in `target/fuzz/corpus`; one that fails
/// is in `target/fuzz/failures` and ends the run with an error.
pub fn run(paths: &Paths, target: Option<&str>, seconds: u64) -> Result<()> {
    let targets = names(paths)?;
    let chosen: Vec<&String> = targets.iter().filter(|name| target.is_none_or(|target| target == *name)).collect();
    if chosen.is_empty() {
        bail!("no such target; there are {}", targets.join(", "));
    }
    let home = paths.target.join("fuzz");
    for name in chosen {
        say(format!("==> Building {name}"));
        process::show(
            Command::new("cargo")
                .current_dir(paths.root.join("fuzz"))
                .env("CARGO_TARGET_DIR", home.join("build"))
                .env("RUSTFLAGS", COVERAGE)
                .args(["build", "--quiet", "--release", "--features", "libfuzzer", "--target", HOST, "--bin", name]),
            "the build of the fuzz target (it needs a C++ compiler: apt-get install g++)",
            BUILD_LIMIT,
        )?;
        let (corpus, failures) = (home.join("corpus").join(name), home.join("failures").join(name));
        make_dir(&corpus)?;
        make_dir(&failures)?;
        say(format!("==> {name} for {seconds} s"));
        let mut fuzzer = Command::new(home.join("build").join(HOST).join("release").join(name));
        fuzzer.args([
            "-max_len=2048",
            "-len_control=0",
            "-timeout=60",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-verbosity=1",
        ]);
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", failures.display()));
        fuzzer.arg(&corpus);
        let seeds = paths.root.join("fuzz").join("corpus").join(name);
        if seeds.exists() {
            fuzzer.arg(seeds);
        }
        let what = format!(
            "{name} (if an input failed, it is in {}: give its path to the program again, then keep it in fuzz/corpus/{name})",
            paths.show(&failures)
        );
        process::show(&mut fuzzer, &what, Duration::from_secs(seconds.saturating_add(600)))?;
    }
    Ok(())
}

/// The names of the targets: the programs of the fuzz package.
fn names(paths: &Paths) -> Result<Vec<String>> {
    let manifest = paths.root.join("fuzz").join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    Ok(programs(&text))
}

fn programs(manifest: &str) -> Vec<String> {
    let bins = manifest.split("[[bin]]").skip(1);
    bins.filter_map(|bin| bin.split("name = \"").nth(1)?.split('"').next()).map(str::to_owned).collect()
}

/// `cargo test` of the fuzz package: every target with the inputs that are kept.
pub fn seeds(paths: &Paths) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "1200", "cargo", "test", "--quiet", "--no-fail-fast", "--manifest-path"]);
    command.arg(Path::new("fuzz").join("Cargo.toml")).current_dir(&paths.root);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs_of_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[[bin]]\nname = \"a\"\npath = \"p\"\n\n[[bin]]\nname = \"b-c\"\n";
        assert_eq!(programs(manifest), ["a", "b-c"]);
    }
}
