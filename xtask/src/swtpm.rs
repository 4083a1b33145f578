//! The software TPM behind QEMU's devices: swtpm, or any program with its command line and control channel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::paths::make_dir;
use crate::process::Guarded;

/// Which chip the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chip {
    /// A TPM 1.2.
    V12,
    /// A TPM 2.0.
    V20,
}

/// A program with swtpm's command line.
#[derive(Clone)]
pub struct Software {
    /// Its name in $PATH, or its file.
    pub program: PathBuf,
}

impl Default for Software {
    /// swtpm itself.
    fn default() -> Self {
        Self { program: "swtpm".into() }
    }
}

/// A running software TPM; it ends with this value.
pub struct Swtpm {
    child: Guarded,
    socket: PathBuf,
}

impl Swtpm {
    /// Starts swtpm as a chip whose permanent state lies in `state` (created when missing).
    pub fn start(chip: Chip, state: &Path, log: &Path) -> Result<Self> {
        Software::default().start(chip, state, log, &[])
    }

    /// QEMU's arguments for this chip behind its `tpm-tis` device at 0xfed40000.
    pub fn qemu_args(&self) -> Vec<String> {
        self.qemu_args_for("tpm-tis")
    }

    /// QEMU's arguments for this chip behind one of its devices.
    pub fn qemu_args_for(&self, device: &str) -> Vec<String> {
        [
            "-chardev",
            &format!("socket,id=chip,path={}", self.socket.display()),
            "-tpmdev",
            "emulator,id=tpm0,chardev=chip",
            "-device",
            &format!("{device},tpmdev=tpm0"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// True while the chip runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.poll(), Ok(None))
    }
}

impl Software {
    /// Starts a chip whose permanent state lies in `state` (created when missing), with `more` arguments.
    pub fn start(&self, chip: Chip, state: &Path, log: &Path, more: &[String]) -> Result<Swtpm> {
        make_dir(state)?;
        // swtpm changes its folder, so that relative names would fail; a socket's name must be short.
        let state = std::path::absolute(state)?;
        let socket = std::env::temp_dir().join(format!("xtask-swtpm-{}-{}", std::process::id(), unique()));
        let mut command = Command::new(&self.program);
        command.arg("socket");
        if chip == Chip::V20 {
            command.arg("--tpm2");
        }
        command.arg("--tpmstate").arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        command.arg("--log").arg(format!("file={},level=1", std::path::absolute(log)?.display()));
        command.args(more);
        let what = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = Guarded::spawn(&mut command, &what)?;
        let end = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if child.poll()?.is_some() || Instant::now() >= end {
                bail!("{what} did not start:\n{}", child.end());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Swtpm { child, socket })
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
