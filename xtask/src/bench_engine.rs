//! `cargo xtask bench engine`: our engine and swtpm, over the same kind of socket, with the same client, in one run.
//!
//! Every command is executed by one and then by the other, so that both meet the same state of the host. Servers and client
//! share one CPU: a wake-up on another one costs many times what a small command does and would hide the engine.

mod client;
mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::client::Client;
use self::machine::{Machine, NV_WRITE, ROWS};
use crate::packages;
use crate::paths::{Paths, fresh_dir, make_dir};
use crate::process::{self, Guarded};
use crate::ui::Step;

/// What a change of the persistent state is when the answer comes.
const OURS: &str = "written to the vault and flushed to the disk (fdatasync)";
const THEIRS: &str = "in a new file that replaced the old one, without waiting for the disk (swtpm 0.7)";

/// A folder of its own, gone afterwards.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two prepared TPMs with their servers.
struct Pair {
    ours: Machine,
    theirs: Machine,
    _servers: [Guarded; 2],
    _folder: Folder,
}

/// Makes the TPM that is served at `socket` owned.
pub fn own(socket: &Path) -> Result<()> {
    machine::take_ownership(&mut Client::new(socket)?)
}

/// Measures all rows and prints them.
pub fn run(paths: &Paths) -> Result<()> {
    packages::need(&[packages::ENGINES])?;
    let step = Step::begin("Building vtpm-host (release)");
    process::check(
        Command::new("cargo").current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target).args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "vtpm-host",
        ]),
        "cargo build of vtpm-host",
        Duration::from_secs(1800),
    )?;
    step.done();
    let host = paths.target.join("release").join("vtpm-host");
    let cpu = pin()?;
    let version = process::check(Command::new("swtpm").arg("--version"), "swtpm", Duration::from_secs(10))?;
    let step = Step::begin("Preparing the TPMs");
    let mut on_disk = pair(&host, &paths.rig().join("bench-engine"))?;
    let memory = Path::new("/dev/shm").join(format!("xtask-bench-{}", std::process::id()));
    let mut in_memory = pair(&host, &memory)?;
    step.done();
    println!("vtpm-host and {}, client and servers on CPU {cpu}; medians", version.lines().next().unwrap_or("swtpm"));
    let columns = ["ours", "swtpm", "ours, best", "swtpm, best"];
    println!("{:44} {:>5} {}    speed    best", "command", "runs", columns.map(|name| format!("{name:>12}")).concat());
    for row in ROWS {
        measure(&mut on_disk, row, "")?;
    }
    measure(&mut in_memory, &NV_WRITE, ", state in RAM")?;
    println!("speed: how many times as fast as swtpm we are, by the medians and by the best times");
    println!("a change of persistent state, when the answer comes: ours {OURS}; swtpm's {THEIRS}");
    Ok(())
}

fn measure(pair: &mut Pair, (name, runs, command): &(&str, usize, machine::Command), note: &str) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::with_capacity(*runs), Vec::with_capacity(*runs));
    // The first ones warm caches up and are left out.
    for run in 0..runs + runs / 20 {
        let times = [command(&mut pair.ours).context("vtpm-host")?, command(&mut pair.theirs).context("swtpm")?];
        if run >= runs / 20 {
            ours.push(times[0]);
            theirs.push(times[1]);
        }
    }
    let ([ours, our_best], [theirs, their_best]) = (summary(ours), summary(theirs));
    let ratio = |theirs: Duration, ours: Duration| theirs.as_secs_f64() / ours.as_secs_f64();
    let cells = [ours, theirs, our_best, their_best].map(|time| format!("{:>12}", show(time))).concat();
    let label = format!("{name}{note}");
    println!("{label:44} {runs:5} {cells} {:7.2}x {:6.2}x", ratio(theirs, ours), ratio(their_best, our_best));
    Ok(())
}

/// Median and best. On a busy host only the best says much about a command of some milliseconds.
fn summary(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times.len() / 2, 0].map(|at| times.get(at).copied().unwrap_or_default())
}

fn show(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1000.0) }
}

/// Binds this thread, and with it all programs it starts, to one CPU.
fn pin() -> Result<u32> {
    let id = std::process::id().to_string();
    let limit = Duration::from_secs(10);
    let text = process::check(Command::new("taskset").args(["-cp", &id]), "taskset", limit)?;
    // "pid 7's current affinity list: 0-3,8"
    let last = text.trim().rsplit([' ', ',', '-']).next().unwrap_or_default();
    let cpu = last.parse().with_context(|| format!("taskset said: {text}"))?;
    process::check(Command::new("taskset").args(["-cp", last, &id]), "taskset", limit)?;
    Ok(cpu)
}

fn pair(host: &Path, dir: &Path) -> Result<Pair> {
    fresh_dir(dir)?;
    let dir = std::path::absolute(dir)?;
    let folder = Folder(dir.clone());
    let (our_server, ours) = serve(Command::new(host), &dir.join("ours"), "vtpm-host")?;
    let (their_server, theirs) = serve(Command::new("swtpm"), &dir.join("swtpm"), "swtpm")?;
    Ok(Pair { ours, theirs, _servers: [our_server, their_server], _folder: folder })
}

/// Starts a server with a new TPM and prepares that; both programs take the same arguments.
fn serve(mut command: Command, dir: &Path, name: &str) -> Result<(Guarded, Machine)> {
    make_dir(dir)?;
    // A socket's name must be short.
    let socket =
        std::env::temp_dir().join(format!("xtask-bench-{}-{name}-{}", std::process::id(), dir.starts_with("/dev/shm")));
    let mut server = Guarded::spawn(
        command
            .args(["socket", "--tpmstate", &format!("dir={}", dir.display())])
            .args(["--server", &format!("type=unixio,path={}", socket.display())])
            .args(["--flags", "not-need-init,startup-clear"]),
        name,
    )?;
    let end = Instant::now() + Duration::from_secs(60);
    while !socket.exists() {
        if server.poll()?.is_some() || Instant::now() >= end {
            bail!("{name} did not start:\n{}", server.end());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let machine = Machine::prepare(&socket).with_context(|| format!("preparing the TPM of {name}"));
    let _ = std::fs::remove_file(&socket);
    Ok((server, machine?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_counts() {
        let times = [9, 1, 5, 7, 3].map(Duration::from_millis);
        assert_eq!(summary(times.to_vec()), [5, 1].map(Duration::from_millis));
        assert_eq!(show(Duration::from_micros(12)), "12.0 us");
        assert_eq!(show(Duration::from_micros(2340)), "2.34 ms");
    }
}
