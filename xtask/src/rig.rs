//! One boot of real Xen with dom0 under QEMU: a script runs in dom0, its output and status come back.
//!
//! Host and dom0 share one folder (9p): the script, images and configs go in; output, status, guest consoles and logs
//! come out. The state of the vTPMs lies on a disk image of its own, so that it can be kept.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cpio::Tree;
use crate::initrd::{self, Kit};
use crate::packages;
use crate::paths::{Paths, fresh_dir, make_dir};
use crate::process::{self, Guarded};
use crate::swtpm::{Chip, Software, Swtpm};
use crate::ui::{Step, say};

/// How the chip's registers are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// The FIFO of TIS and PTP (`tpm-tis`).
    Tis,
    /// The command response buffer (`tpm-crb`), which TPM 2.0 chips have.
    Crb,
}

impl Interface {
    fn device(self) -> &'static str {
        match self {
            Self::Tis => "tpm-tis",
            Self::Crb => "tpm-crb",
        }
    }
}

/// What is asked of one boot.
pub struct Boot {
    /// Names the log folder.
    pub name: String,
    /// The script that dom0 runs.
    pub script: String,
    /// A script for the Linux guest, found there as /guest-script.
    pub guest_script: Option<PathBuf>,
    /// Files and folders copied into dom0 and the guest, under /add.
    pub add: Vec<PathBuf>,
    /// The hardware chip.
    pub chip: Chip,
    /// The program that plays it.
    pub software: Software,
    /// Its interface.
    pub interface: Interface,
    /// The kept disks are in another machine: one with a chip of its own.
    pub other_machine: bool,
    /// Where the chip's and the disks' state lie when they are to be kept.
    pub keep: Option<PathBuf>,
    /// The script must have ended by then, counted from power-on.
    pub limit: Duration,
}

/// What a boot gave.
pub struct Outcome {
    /// The script's exit status; 0 as well if the script asked for a power cut. Its output is in output.log.
    pub status: i32,
}

/// Power-on to the first line of the script, at the longest.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// Script's end to power-off, at the longest.
const OFF_LIMIT: Duration = Duration::from_secs(60);
/// Size of the disk that holds the vTPMs' disks.
const STATE_SIZE: u64 = 256 << 20;

/// A key that approves lists of PCRs in the scenarios, made once for a target folder.
fn approval_key(paths: &Paths) -> Result<PathBuf> {
    let key = paths.rig().join("approval-key.pem");
    if !key.exists() {
        let new = key.with_extension("new");
        let mut command = Command::new("openssl");
        command
            .args(["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&new);
        process::check(&mut command, "openssl genpkey", Duration::from_secs(60))?;
        std::fs::rename(&new, &key).context("cannot name the approval key")?;
    }
    Ok(key)
}

/// The rig, ready to boot.
pub struct Rig {
    paths: Paths,
    kit: Kit,
    _lock: File,
}

impl Rig {
    /// Gets everything a boot needs: packages, boot files, and the rig for ourselves alone.
    pub fn prepare(paths: &Paths) -> Result<Self> {
        packages::need(&[packages::CHIP, packages::XEN])?;
        make_dir(&paths.rig())?;
        let lock = File::create(paths.rig().join("lock")).context("cannot create the rig's lock")?;
        if lock.try_lock().is_err() {
            let step = Step::begin("Waiting for another run that uses the same target folder");
            lock.lock().context("cannot lock the rig")?;
            step.done();
        }
        let kit = initrd::kit(paths)?;
        Ok(Self { paths: paths.clone(), kit, _lock: lock })
    }

    /// Boots, runs the script, hands each line of its output to `line`, and switches off.
    ///
    /// A machine that does not come as far as the script is started a second time, and that is said.
    pub fn boot(&self, boot: &Boot, line: &mut dyn FnMut(&str)) -> Result<Outcome> {
        let logs = self.paths.logs().join(&boot.name);
        fresh_dir(&logs)?;
        make_dir(&logs.join("console"))?;
        match self.once(boot, &logs, line)? {
            Some(outcome) => Ok(outcome),
            None => {
                let _ = std::fs::rename(logs.join("serial.log"), logs.join("serial-first.log"));
                say("The machine did not come up; starting it a second time (first log: serial-first.log)");
                self.once(boot, &logs, line)?.with_context(|| {
                    format!("Xen and dom0 did not come up; see {}", self.paths.show(&logs.join("serial.log")))
                })
            }
        }
    }

    /// One start of the machine; `None` when the script was never reached.
    fn once(&self, boot: &Boot, logs: &Path, line: &mut dyn FnMut(&str)) -> Result<Option<Outcome>> {
        let share = self.paths.rig().join("share");
        self.fill(&share, boot)?;
        let state = match &boot.keep {
            Some(dir) => dir.clone(),
            None => {
                let dir = self.paths.rig().join("state");
                fresh_dir(&dir)?;
                dir
            }
        };
        make_dir(&state)?;
        let disk = state.join("state.img");
        if !disk.exists() {
            make_disk(&disk)?;
        }
        let tpm_state = match (boot.chip, boot.other_machine) {
            (Chip::V12, false) => "tpm12",
            (Chip::V20, false) => "tpm20",
            (Chip::V12, true) => "tpm12-other",
            (Chip::V20, true) => "tpm20-other",
        };
        // Each program has a form of its own for its state.
        let player = boot.software.program.file_name().unwrap_or_default().to_string_lossy().replace("swtpm", "");
        let tpm_state = state.join(format!("{tpm_state}{player}"));
        let mut chip = boot.software.start(boot.chip, &tpm_state, &logs.join("swtpm.log"), &[])?;
        let mut machine = self.machine(boot, &chip, &share, &disk, logs)?;

        let step = Step::begin("Booting Xen and dom0");
        let since = Instant::now();
        let ready = share.join("ready");
        while !ready.exists() {
            if let Some(status) = machine.poll()? {
                say(format!("QEMU ended early ({status})\n{}", machine.end()));
                return Ok(None);
            }
            if !chip.alive() {
                bail!("the software TPM ended; see {}", self.paths.show(&logs.join("swtpm.log")));
            }
            if since.elapsed() > BOOT_LIMIT {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(50));
        }
        step.done();

        let mut output = Output::new(share.join("output"));
        let (status_file, cut_file) = (share.join("status"), share.join("cut-power"));
        let mut last = None;
        loop {
            output.follow(line);
            if cut_file.exists() {
                say("Cutting the machine's power");
                let _ = machine.end();
                std::fs::write(&status_file, "0")?;
                break;
            }
            let ended = machine.poll()?.is_some();
            if last.is_none() && status_file.exists() {
                last = Some(Instant::now());
            }
            if ended {
                break;
            }
            if last.is_some_and(|at| at.elapsed() > OFF_LIMIT) {
                say("The machine did not switch itself off; ending it");
                break;
            }
            if last.is_none() && since.elapsed() > boot.limit {
                output.follow(line);
                bail!("the script did not end within {} s; see {}", boot.limit.as_secs(), self.paths.show(logs));
            }
            thread::sleep(Duration::from_millis(50));
        }
        output.follow(line);
        output.rest(line);
        std::fs::write(logs.join("output.log"), &output.all)?;
        copy_tree(&share.join("logs"), logs)?;
        let status = std::fs::read_to_string(&status_file)
            .with_context(|| format!("the machine ended in the middle of the script; see {}", self.paths.show(logs)))?;
        let status = status.trim().parse().context("dom0 reported no readable status")?;
        Ok(Some(Outcome { status }))
    }

    /// Lays out the shared folder.
    fn fill(&self, share: &Path, boot: &Boot) -> Result<()> {
        fresh_dir(share)?;
        let vtpm = share.join("vtpm");
        make_dir(&vtpm)?;
        std::fs::write(share.join("script"), &boot.script)?;
        let scripts = self.paths.scripts();
        for name in ["lib.sh", "chip-lib.sh", "guest-lib.sh"] {
            std::fs::copy(scripts.join(name), vtpm.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        copy_tree(&scripts.join("scenarios"), &vtpm.join("scenarios"))?;
        copy_tree(&self.paths.root.join("docs").join("xl"), &vtpm)?;
        if self.paths.images().is_dir() {
            copy_tree(&self.paths.images(), &vtpm)?;
        }
        link_or_copy(&self.kit.linux, &vtpm.join("guest-kernel"))?;

        let mut extra = Tree::default();
        extra.copy(&scripts.join("guest-lib.sh"), "rig/guest-lib.sh")?;
        extra.copy(&approval_key(&self.paths)?, "rig/approval-key.pem")?;
        if let Some(script) = &boot.guest_script {
            extra.copy(script, "guest-script")?;
        }
        let add = share.join("add");
        make_dir(&add)?;
        for path in &boot.add {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("--add {}: has no usable name", path.display()))?;
            extra.copy(path, &format!("add/{name}"))?;
            if path.is_dir() {
                copy_tree(path, &add.join(name))?;
            } else {
                std::fs::copy(path, add.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
            }
        }
        // Linux unpacks archives that stand one behind the other, so the cached root needs no change.
        let guest = vtpm.join("guest-initrd");
        std::fs::copy(&self.kit.guest, &guest)?;
        let mut file = File::options().append(true).open(&guest)?;
        extra.write(&mut file)?;
        make_dir(&share.join("logs").join("console"))
    }

    fn machine(&self, asked: &Boot, chip: &Swtpm, share: &Path, disk: &Path, logs: &Path) -> Result<Guarded> {
        const XEN_ARGS: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot \
             dom0_mem=768M,max:768M dom0_max_vcpus=2 bootscrub=0";
        // dom0's own TPM drivers must leave the chip to the manager domain. QEMU ends a module's arguments at a single comma.
        const DOM0_ARGS: &str = "console=hvc0 loglevel=5 panic=1 initcall_blacklist=init_tis,,crb_acpi_driver_init";
        // It ends a module's name at the first space, so that the modules are named relative to their folder.
        let boot = self.kit.linux.parent().context("the boot files are in no folder")?;
        let modules = format!("{} {DOM0_ARGS},{}", file_name(&self.kit.linux)?, file_name(&self.kit.dom0)?);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .current_dir(boot)
            .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64,+svm,+npt,+rdrand"])
            .args(["-smp", "2", "-m", "2048", "-display", "none", "-no-reboot", "-nodefaults", "-monitor", "none"])
            .args(["-serial", &format!("file:{}", option(&logs.join("serial.log")))])
            .args(["-kernel", file_name(&self.kit.xen)?, "-append", XEN_ARGS, "-initrd", &modules])
            .args(["-drive", &format!("if=virtio,format=raw,cache=unsafe,file={}", option(disk))])
            .args([
                "-virtfs",
                &format!("local,path={},mount_tag=host,security_model=none,multidevs=remap", option(share)),
            ])
            .args(chip.qemu_args_for(asked.interface.device()));
        Guarded::spawn(&mut command, "QEMU")
    }
}

/// `path` as a value in one of QEMU's comma-separated options.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{}: no usable name", path.display()))
}

fn make_disk(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.set_len(STATE_SIZE)?;
    let mke2fs = ["/usr/sbin/mke2fs", "/sbin/mke2fs"].into_iter().find(|path| Path::new(path).exists());
    process::check(
        Command::new(mke2fs.unwrap_or("mke2fs")).args(["-q", "-F", "-t", "ext4", "-O", "^metadata_csum"]).arg(path),
        "mke2fs",
        Duration::from_secs(60),
    )?;
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Copies a folder with everything in it.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Follows a file that grows.
struct Output {
    path: PathBuf,
    all: Vec<u8>,
    told: usize,
}

impl Output {
    fn new(path: PathBuf) -> Self {
        Self { path, all: Vec::new(), told: 0 }
    }

    fn follow(&mut self, line: &mut dyn FnMut(&str)) {
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.all.len() as u64)).is_ok()
        {
            let _ = file.read_to_end(&mut self.all);
        }
        while let Some(rest) = self.all.get(self.told..)
            && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
        {
            line(&String::from_utf8_lossy(rest.get(..end).unwrap_or_default()));
            self.told += end + 1;
        }
    }

    fn rest(&mut self, line: &mut dyn FnMut(&str)) {
        if let Some(rest) = self.all.get(self.told..)
            && !rest.is_empty()
        {
            line(&String::from_utf8_lossy(rest));
            self.told = self.all.len();
        }
    }
}
