//! The machines of the matrix, and one started: QEMU, its console, its monitor, and the emulator behind its TPM.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::Guest;
use super::kernels::Kernel;
use super::qmp::Qmp;
use crate::packages::{self, Tool};
use crate::paths::{fresh_dir, make_dir};
use crate::process::{self, Guarded};
use crate::swtpm::{Chip, Software, Swtpm};

/// Programs and firmware of the matrix.
pub const TOOLS: &[Tool] = &[
    packages::tool("qemu-system-x86_64", "qemu-system-x86", "the machines pc and q35"),
    packages::tool("qemu-system-aarch64", "qemu-system-arm", "the machine virt"),
    packages::tool("qemu-system-ppc64", "qemu-system-ppc", "the machine pseries, with the firmware SLOF"),
    packages::tool("qemu-img", "qemu-utils", "makes the disks for snapshots"),
    packages::tool("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf", "UEFI firmware for pc and q35"),
    packages::tool("/usr/share/AAVMF/AAVMF_CODE.fd", "qemu-efi-aarch64", "UEFI firmware for virt"),
    packages::tool("setpriv", "util-linux", "ends the machine when this program is ended"),
];

/// The time for QEMU to open its sockets.
const START: Duration = Duration::from_secs(30);

/// What firmware starts the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// SeaBIOS, QEMU's default on x86.
    SeaBios,
    /// OVMF (x86) or AAVMF (Arm): code and variables are two flash chips.
    Uefi {
        /// The code's file.
        code: &'static str,
        /// The variables' file.
        variables: &'static str,
    },
    /// SLOF, QEMU's default on pseries.
    Slof,
}

/// OVMF.
pub const OVMF: Firmware =
    Firmware::Uefi { code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/usr/share/OVMF/OVMF_VARS_4M.fd" };
/// AAVMF.
pub const AAVMF: Firmware =
    Firmware::Uefi { code: "/usr/share/AAVMF/AAVMF_CODE.fd", variables: "/usr/share/AAVMF/AAVMF_VARS.fd" };

/// A machine of QEMU's with its TPM device.
pub struct Model {
    /// QEMU's program.
    pub program: &'static str,
    /// Machine, CPU and memory.
    pub arguments: &'static [&'static str],
    /// The TPM's device.
    pub device: &'static str,
    /// The kernel's name of the first serial port.
    pub console: &'static str,
    /// Who starts it.
    pub firmware: Firmware,
    /// A guest goes on after a snapshot, a save to a file or a migration.
    pub goes_on: bool,
}

/// Where a machine comes from.
pub enum Origin<'a> {
    /// Power-on.
    PowerOn,
    /// Power-on, with SeaBIOS's menu on the console; it waits a minute for a key.
    Menu,
    /// A snapshot in its disks.
    Snapshot(&'a str),
    /// Another machine, through this URI.
    Incoming(&'a str),
}

/// The parts of a cell that all its machines share.
pub struct Bench<'a> {
    /// The machine.
    pub model: &'a Model,
    /// What it boots.
    pub kernel: &'a Kernel,
    /// The program behind the TPM.
    pub software: &'a Software,
    /// The TPM's family.
    pub chip: Chip,
    /// Disks, logs and the TPMs' states.
    pub dir: &'a Path,
}

/// A running machine. QEMU ends before the emulator does.
pub struct Machine {
    qemu: Guarded,
    _chip: Swtpm,
    /// The guest's console.
    pub guest: Guest,
    /// QEMU's monitor.
    pub qmp: Qmp,
    sockets: Sockets,
}

impl Bench<'_> {
    /// Makes the disks anew.
    pub fn make_disks(&self) -> Result<()> {
        let image = |arguments: &[&str], path: &Path| {
            let mut command = Command::new("qemu-img");
            command.args(arguments).arg(path);
            command
        };
        let run = |mut command: Command| process::check(&mut command, "qemu-img", Duration::from_secs(60));
        let mut disk = image(&["create", "-q", "-f", "qcow2"], &self.disk());
        disk.arg("16M");
        run(disk)?;
        if let Firmware::Uefi { variables, .. } = self.model.firmware {
            run(image(&["convert", "-O", "qcow2", variables], &self.variables()))?;
        }
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    fn variables(&self) -> PathBuf {
        self.dir.join("variables.qcow2")
    }

    /// The folder of the TPM called `name`.
    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.join(format!("tpm-{name}"))
    }

    /// Starts the emulator without a machine, on the folder `name`; its server waits for clients.
    pub fn alone(&self, name: &str) -> Result<Alone> {
        let sockets = Sockets::new()?;
        let socket = sockets.0.join("tpm");
        let arguments =
            ["--server", &format!("type=unixio,path={}", socket.display()), "--flags", "not-need-init,startup-clear"]
                .map(str::to_owned);
        let log = self.dir.join("emulator-alone.log");
        let mut chip = self.software.start(self.chip, &self.state(name), &log, &arguments)?;
        let end = Instant::now() + START;
        while !socket.exists() {
            if !chip.alive() || Instant::now() >= end {
                bail!("the emulator does not listen at {}", socket.display());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Alone { _chip: chip, socket, _sockets: sockets })
    }

    /// Starts a machine whose TPM's state lies in the folder `name`. `emulator` is added to the emulator's arguments.
    pub fn start(&self, name: &str, origin: &Origin<'_>, emulator: &[String]) -> Result<Machine> {
        let chip = self.software.start(
            self.chip,
            &self.state(name),
            &self.dir.join(format!("emulator-{name}.log")),
            emulator,
        )?;
        let sockets = Sockets::new()?;
        let (console, monitor) = (sockets.0.join("console"), sockets.0.join("monitor"));
        let mut command = Command::new(self.model.program);
        command
            .args(self.model.arguments)
            .args(["-accel", "tcg", "-nodefaults", "-display", "none"])
            .args(["-chardev", &format!("socket,id=console,path={},server=on,wait=off", console.display())])
            .args(["-serial", "chardev:console"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", monitor.display())])
            .args(["-drive", &format!("if=none,id=disk,format=qcow2,file={}", self.disk().display())])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.kernel.initrd)
            .args(["-append", &format!("console={} loglevel=3 panic=-1 nokaslr", self.model.console)])
            .args(chip.qemu_args_for(self.model.device));
        if let Firmware::Uefi { code, .. } = self.model.firmware {
            command
                .args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")])
                .args(["-drive", &format!("if=pflash,unit=1,format=qcow2,file={}", self.variables().display())]);
        }
        // The guest says nothing before somebody listens. An incoming machine waits by itself, and must not get its disks
        // before the other one has let them go.
        match origin {
            Origin::PowerOn => command.arg("-S"),
            Origin::Menu => command.args(["-S", "-machine", "graphics=off", "-boot", "menu=on,splash-time=60000"]),
            Origin::Snapshot(name) => command.args(["-S", "-loadvm", name]),
            Origin::Incoming(uri) => command.args(["-incoming", uri]),
        };
        let mut qemu = Guarded::spawn(&mut command, "QEMU")?;
        let end = Instant::now() + START;
        while !(console.exists() && monitor.exists()) {
            if qemu.poll()?.is_some() || Instant::now() >= end {
                bail!("QEMU did not start:\n{}", qemu.end());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let connected = Guest::connect(&console, &self.dir.join("console.log"))
            .and_then(|guest| Ok((guest, Qmp::connect(&monitor)?)));
        let (guest, mut qmp) = match connected {
            Ok(both) => both,
            Err(error) => bail!("{error:#}; QEMU said:\n{}", qemu.end()),
        };
        if !matches!(origin, Origin::Incoming(_))
            && let Err(error) = qmp.cont()
        {
            bail!("{error:#}; QEMU said:\n{}", qemu.end());
        }
        Ok(Machine { qemu, _chip: chip, guest, qmp, sockets })
    }
}

/// An emulator without a machine.
pub struct Alone {
    _chip: Swtpm,
    socket: PathBuf,
    _sockets: Sockets,
}

impl Alone {
    /// Where clients connect.
    pub fn path(&self) -> &Path {
        &self.socket
    }
}

impl Machine {
    /// The folder of the machine's sockets, for more of them.
    pub fn sockets(&self) -> &Path {
        &self.sockets.0
    }

    /// Quits QEMU as its monitor's `quit` does, so that the TPM is shut down and not cut off.
    pub fn quit(mut self) -> Result<()> {
        self.qmp.run("quit", &serde_json::json!({}))?;
        if self.qemu.wait(START)?.is_none() {
            bail!("QEMU does not end");
        }
        Ok(())
    }
}

/// A machine without a TPM that sees the host's files read-only (9p, mount tag "host"), and its console.
pub fn plain(kernel: &Path, initrd: &Path, dir: &Path) -> Result<(Plain, Guest)> {
    let sockets = Sockets::new()?;
    let console = sockets.0.join("console");
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1024", "-accel", "tcg,thread=multi"])
        .args(["-nodefaults", "-display", "none", "-serial", "chardev:console"])
        .args(["-chardev", &format!("socket,id=console,path={},server=on,wait=on", console.display())])
        .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 loglevel=3 panic=-1 nokaslr"]);
    let mut qemu = Guarded::spawn(&mut command, "QEMU")?;
    let end = Instant::now() + START;
    while !console.exists() {
        if qemu.poll()?.is_some() || Instant::now() >= end {
            bail!("QEMU did not start:\n{}", qemu.end());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let guest = Guest::connect(&console, &dir.join("console.log"))?;
    Ok((Plain { _qemu: qemu, _sockets: sockets }, guest))
}

/// A running machine without a TPM.
pub struct Plain {
    _qemu: Guarded,
    _sockets: Sockets,
}

/// A folder for sockets, whose names must be short.
struct Sockets(PathBuf);

impl Sockets {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xtask-qemu-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fresh_dir(&dir).context("no folder for QEMU's sockets")?;
        make_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
