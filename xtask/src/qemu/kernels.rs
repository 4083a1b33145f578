//! Kernels and first programs of the guests: Debian's, one set for each architecture.
//!
//! Those of other architectures are downloaded with lists of their own, so that the host's dpkg knows nothing of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cpio::Tree;
use crate::paths::{Paths, fresh_dir, make_dir};
use crate::ui::Step;
use crate::{debian, initrd, process};

/// What a guest boots.
pub struct Kernel {
    /// Linux in the form that QEMU or the firmware starts.
    pub image: PathBuf,
    /// The guest's root.
    pub initrd: PathBuf,
}

/// Another architecture than the host's.
pub struct Foreign {
    /// Debian's name.
    pub architecture: &'static str,
    /// The kernel's package.
    pub package: &'static str,
    /// The script with the function that reaches the TPM.
    pub tpm: &'static str,
}

/// For the machine "virt". No kernel of Debian's has the driver for QEMU's device (CONFIG_TCG_TIS is not set for this
/// architecture in 6.1 and 6.12), so the guest uses the registers itself.
pub const ARM64: Foreign = Foreign { architecture: "arm64", package: "linux-image-arm64", tpm: "tpm-registers.sh" };
/// For the machine "pseries".
pub const PPC64EL: Foreign =
    Foreign { architecture: "ppc64el", package: "linux-image-powerpc64le", tpm: "tpm-device.sh" };

/// The host's architecture, from the packages of the Xen machine. (Linux unpacked, which boots faster, is no choice: QEMU's PVH
/// loader puts the initrd over SeaBIOS's ACPI tables, which lie lower when there is a TPM.)
pub fn x86(paths: &Paths) -> Result<Kernel> {
    let pool = debian::pool(paths)?;
    let initrd = folder(paths)?.join("amd64.cpio");
    make_initrd(paths, &pool.find("busybox")?, "tpm-device.sh", &initrd)?;
    Ok(Kernel { image: std::path::absolute(pool.linux()?)?, initrd })
}

/// Another architecture's kernel, from the cache or downloaded now.
pub fn foreign(paths: &Paths, what: &Foreign) -> Result<Kernel> {
    let dir = folder(paths)?;
    let (image, busybox) =
        (dir.join(format!("linux-{}", what.architecture)), dir.join(format!("busybox-{}", what.architecture)));
    if !(image.exists() && busybox.exists()) {
        let step = Step::begin(format!("Downloading Debian's Linux for {} (nothing is installed)", what.architecture));
        let work = dir.join(what.architecture);
        let archives = download(&work, what)?;
        let tree = work.join("tree");
        fresh_dir(&tree)?;
        for (start, part) in [("linux-image-6", "./boot/vmlinu*"), ("busybox-static_", "./bin/busybox")] {
            unpack(&find(&archives, start)?, &tree, part)?;
        }
        std::fs::rename(tree.join("bin/busybox"), &busybox)?;
        std::fs::rename(find(&tree.join("boot"), "vmlinu")?, &image)?;
        std::fs::remove_dir_all(&work)?;
        step.done();
    }
    let initrd = dir.join(format!("{}.cpio", what.architecture));
    make_initrd(paths, &busybox, what.tpm, &initrd)?;
    Ok(Kernel { image, initrd })
}

fn folder(paths: &Paths) -> Result<PathBuf> {
    let dir = std::path::absolute(paths.rig().join("qemu"))?;
    make_dir(&dir)?;
    Ok(dir)
}

fn make_initrd(paths: &Paths, busybox: &Path, tpm: &str, to: &Path) -> Result<()> {
    write_initrd(paths, busybox, tpm, Tree::default(), to)
}

/// Adds what every guest has to `tree`, and writes it.
pub fn write_initrd(paths: &Paths, busybox: &Path, tpm: &str, mut tree: Tree, to: &Path) -> Result<()> {
    let scripts = paths.root.join("xtask").join("qemu");
    tree.device("dev/console", 5, 1);
    tree.device("dev/null", 1, 3);
    tree.file("bin/busybox", 0o755, std::fs::read(busybox)?);
    tree.link("bin/sh", "busybox");
    tree.file("init", 0o755, std::fs::read(scripts.join("init"))?);
    tree.file("tpm.sh", 0o644, std::fs::read(scripts.join(tpm))?);
    initrd::write(&tree, to)
}

/// Downloads kernel and busybox with lists and a dpkg state of their own; the folder of the packages.
fn download(work: &Path, what: &Foreign) -> Result<PathBuf> {
    fresh_dir(work)?;
    let archives = work.join("cache/archives");
    make_dir(&archives.join("partial"))?;
    make_dir(&work.join("state/lists/partial"))?;
    let status = work.join("state/status");
    std::fs::write(&status, "")?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .args(["-q", "-y", "-o", &format!("APT::Architecture={}", what.architecture)])
            .args(["-o", &format!("APT::Architectures::={}", what.architecture)])
            .args(["-o", &format!("Dir::State={}", work.join("state").display())])
            .args(["-o", &format!("Dir::State::status={}", status.display())])
            .args(["-o", &format!("Dir::Cache={}", work.join("cache").display())])
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "Debug::NoLocking=1"]);
        command
    };
    // One source that fails does not matter as long as another has the packages.
    let updated = process::check(apt().arg("update"), "apt-get update", Duration::from_secs(600));
    process::check(
        apt().args(["--download-only", "--no-install-recommends", "install", what.package, "busybox-static"]),
        "apt-get install --download-only",
        Duration::from_secs(1200),
    )
    .with_context(|| match updated {
        Ok(_) => format!("Debian's Linux for {} cannot be downloaded", what.architecture),
        Err(error) => format!("Debian's lists for {} cannot be downloaded: {error:#}", what.architecture),
    })?;
    Ok(archives)
}

fn unpack(package: &Path, tree: &Path, part: &str) -> Result<()> {
    let tar = tree.join("package.tar");
    let out = std::fs::File::create(&tar)?;
    let made = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(out).status()?;
    if !made.success() {
        bail!("{} cannot be unpacked", package.display());
    }
    process::check(
        Command::new("tar").arg("-x").arg("-C").arg(tree).arg("-f").arg(&tar).args(["--wildcards", part]),
        "tar",
        Duration::from_secs(120),
    )?;
    std::fs::remove_file(&tar)?;
    Ok(())
}

/// The only file in `dir` whose name starts so.
fn find(dir: &Path, start: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(start)) {
            return Ok(path);
        }
    }
    bail!("{} holds no {start}*", dir.display())
}
