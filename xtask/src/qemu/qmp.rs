//! QEMU's monitor: one command, one answer; what happens in between (events) is left out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// A snapshot writes the whole memory; everything else is quick.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest time for a migration.
const MIGRATION: Duration = Duration::from_secs(90);

/// A connection to the monitor.
pub struct Qmp {
    lines: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("no monitor at {}", socket.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut this = Self { lines: BufReader::new(stream) };
        this.line()?;
        this.run("qmp_capabilities", &json!({}))?;
        Ok(this)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).context("QEMU's monitor does not answer")?;
        ensure!(count > 0, "QEMU closed its monitor");
        serde_json::from_str(&line).context("QEMU's monitor does not speak JSON")
    }

    /// Runs one command; its result.
    pub fn run(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let text = json!({ "execute": name, "arguments": arguments }).to_string() + "\n";
        self.lines
            .get_mut()
            .write_all(text.as_bytes())
            .with_context(|| format!("QEMU's monitor is closed ({name})"))?;
        loop {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {name}: {error}");
            }
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
        }
    }

    /// Runs a command of the human monitor, which says nothing when it succeeds.
    fn human(&mut self, line: &str) -> Result<()> {
        let said = self.run("human-monitor-command", &json!({ "command-line": line }))?;
        let said = said.as_str().unwrap_or_default().trim();
        ensure!(said.is_empty(), "`{line}`: {said}");
        Ok(())
    }

    /// Lets the guest run.
    pub fn cont(&mut self) -> Result<()> {
        self.run("cont", &json!({})).map(drop)
    }

    /// Takes a snapshot into the machine's disks.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.human(&format!("savevm {name}"))
    }

    /// Goes back to a snapshot.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.human(&format!("loadvm {name}"))
    }

    /// Sends the machine to `uri`; an error if it does not arrive.
    pub fn migrate(&mut self, uri: &str) -> Result<()> {
        self.run("migrate", &json!({ "uri": uri }))?;
        let end = Instant::now() + MIGRATION;
        loop {
            let info = self.run("query-migrate", &json!({}))?;
            match info.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("the migration failed: {info}"),
                _ => ensure!(Instant::now() < end, "the migration took longer than {} s", MIGRATION.as_secs()),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The machine's state: "running", "inmigrate", "postmigrate" and so on.
    pub fn status(&mut self) -> Result<String> {
        let info = self.run("query-status", &json!({}))?;
        Ok(info.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Waits until the machine runs: an incoming one has everything then.
    pub fn running(&mut self) -> Result<()> {
        let end = Instant::now() + MIGRATION;
        loop {
            let status = self.status()?;
            if status == "running" {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the machine does not run but is in state {status}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
