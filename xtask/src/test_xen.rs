//! `cargo xtask test xen`: scenarios on real Xen, many to a boot.
//!
//! Each file of `xtask/rig/scenarios` is the script of one boot. They share the state of chip and disks, in the order
//! of their names: what a later one finds has survived a restart of the whole machine.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::build;
use crate::paths::{Paths, fresh_dir};
use crate::rig::{Boot, Rig};
use crate::swtpm::Chip;
use crate::test_boot;
use crate::test_tis::Tally;
use crate::ui::say;

/// One boot with all its scenarios; a busy host is much slower than an idle one.
const LIMIT: Duration = Duration::from_secs(2400);

/// Runs all scenarios and counts their `ok` and `FAILED` lines.
pub fn run(paths: &Paths) -> Result<Tally> {
    build::run(paths)?;
    let smoke = build::image(paths, test_boot::PACKAGE, test_boot::BIN)?;
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
        let script = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let boot = Boot {
            name: format!("xen-{name}"),
            script,
            guest_script: None,
            add: vec![smoke.clone()],
            chip: Chip::V12,
            keep: Some(keep.clone()),
            limit: LIMIT,
        };
        let mut part = Tally::default();
        let mut ended = false;
        let outcome = rig.boot(&boot, &mut |line| {
            println!("{name}: {line}");
            if line.starts_with("ok ") {
                part.passed += 1;
            } else if line.starts_with("FAILED ") {
                part.failed += 1;
            }
            ended = line == "all scenarios have run";
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
        tally.passed += part.passed;
        tally.failed += part.failed;
    }
    Ok(tally)
}
