//! Debian's Xen, Linux and TPM tools, downloaded and unpacked beside the checkout; nothing of it is installed on the host.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::paths::{Paths, fresh_dir, make_dir};
use crate::process;
use crate::ui::Step;

/// What the machine is made of. apt adds what these depend on.
const PACKAGES: &[(&str, &str)] = &[
    ("xen-hypervisor-4.17-amd64", "the hypervisor"),
    ("xen-utils-4.17", "xl, xenstored, xenconsoled"),
    ("xenstore-utils", "xenstore-read and its like, for hotplug scripts"),
    ("linux-image-amd64", "Linux for dom0 and guest, with xen-tpmfront"),
    ("busybox-static", "dom0's and the guest's commands"),
    ("bash", "runs the scripts"),
    ("tpm-tools", "tpm_version in the guest"),
    ("trousers", "tcsd, the TPM 1.2 daemon under tpm_version"),
    ("mount", "losetup for libxl's block script"),
    ("util-linux", "flock for libxl's block script"),
];

/// Packages whose files are unpacked whole; all others that apt brings along are for systems that are really installed.
const UNPACK: &[&str] =
    &["xen", "busybox-static", "bash", "tpm-tools", "trousers", "mount", "util-linux", "zlib1g", "lib"];
const LEAVE: &[&str] = &["libperl", "libpython", "libfile", "libnumber", "libtext"];

/// Parts of the kernel package that hold all modules the machine loads, with those they depend on.
const KERNEL_PARTS: &[&str] = &[
    "./boot/vmlinuz-*",
    "./lib/modules/*/kernel/arch/x86/crypto/crc32*",
    "./lib/modules/*/kernel/crypto/crc32*",
    "./lib/modules/*/kernel/drivers/block/*",
    "./lib/modules/*/kernel/drivers/char/*",
    "./lib/modules/*/kernel/drivers/virtio/*",
    "./lib/modules/*/kernel/drivers/xen/*",
    "./lib/modules/*/kernel/fs/9p/*",
    "./lib/modules/*/kernel/fs/ext4/*",
    "./lib/modules/*/kernel/fs/fscache/*",
    "./lib/modules/*/kernel/fs/jbd2/*",
    "./lib/modules/*/kernel/fs/mbcache.ko",
    "./lib/modules/*/kernel/fs/netfs/*",
    "./lib/modules/*/kernel/lib/*",
    "./lib/modules/*/kernel/net/9p/*",
];

/// The unpacked packages.
pub struct Pool {
    /// A root file system tree (only the parts the machine needs).
    pub tree: PathBuf,
}

/// Downloads and unpacks the packages unless that has been done already.
pub fn pool(paths: &Paths) -> Result<Pool> {
    let dir = paths.rig().join("debian");
    let tree = dir.join("tree");
    let stamp = dir.join("complete");
    let recipe = format!("{PACKAGES:?}{UNPACK:?}{LEAVE:?}{KERNEL_PARTS:?}");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) {
        return Ok(Pool { tree });
    }
    let _ = std::fs::remove_file(&stamp);
    let archives = dir.join("archives");
    make_dir(&archives.join("partial"))?;
    let step = Step::begin("Downloading Debian's Xen, Linux and TPM tools for the machine (nothing is installed here)");
    if let Err(error) = download(&dir, &archives) {
        packages::update_lists().with_context(|| format!("{error:#}"))?;
        download(&dir, &archives)?;
    }
    step.done();
    let step = Step::begin("Unpacking them");
    fresh_dir(&tree)?;
    for entry in std::fs::read_dir(&archives)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let package = name.split('_').next().unwrap_or_default();
        if !name.ends_with(".deb") {
            continue;
        }
        let wanted = UNPACK.iter().any(|start| package.starts_with(start));
        let left = LEAVE.iter().any(|start| package.starts_with(start));
        if package.starts_with("linux-image-6") {
            unpack_kernel(&path, &tree)?;
        } else if wanted && !left {
            process::check(
                Command::new("dpkg-deb").arg("-x").arg(&path).arg(&tree),
                &format!("dpkg-deb -x {name}"),
                Duration::from_secs(300),
            )?;
        }
    }
    step.done();
    std::fs::remove_dir_all(&archives).context("cannot delete the downloaded packages")?;
    std::fs::write(&stamp, recipe)?;
    Ok(Pool { tree })
}

/// Lets apt work out the packages as if nothing were installed, so that the host's own packages do not matter.
fn download(dir: &Path, archives: &Path) -> Result<()> {
    let status = dir.join("status");
    std::fs::write(&status, "")?;
    let option = |key: &str, path: &Path| format!("{key}={}", path.display());
    process::check(
        Command::new("apt-get")
            .args(["-q", "-y", "--download-only", "--no-install-recommends"])
            .args(["-o", &option("Dir::State::status", &status)])
            .args(["-o", &option("Dir::Cache::archives", archives)])
            .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"])
            .arg("install")
            .args(PACKAGES.iter().map(|(name, _)| name)),
        "apt-get install --download-only",
        Duration::from_secs(1800),
    )?;
    Ok(())
}

fn unpack_kernel(package: &Path, tree: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stdout = unpack.stdout.take().context("no output of dpkg-deb")?;
    let done = Command::new("tar")
        .arg("-x")
        .arg("-C")
        .arg(tree)
        .arg("--wildcards")
        .args(KERNEL_PARTS)
        .stdin(stdout)
        .output()
        .context("cannot start tar")?;
    unpack.wait()?;
    if !done.status.success() {
        bail!("unpacking {} failed:\n{}", package.display(), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

impl Pool {
    /// The only file in `boot` whose name starts and ends so.
    fn boot_file(&self, start: &str, end: &str) -> Result<PathBuf> {
        let boot = self.tree.join("boot");
        for entry in std::fs::read_dir(&boot)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(start) && name.ends_with(end) {
                return Ok(path);
            }
        }
        bail!("the Debian packages hold no /boot/{start}*{end}");
    }

    /// Debian's compressed hypervisor.
    pub fn xen(&self) -> Result<PathBuf> {
        self.boot_file("xen-", ".gz")
    }

    /// Debian's Linux kernel.
    pub fn linux(&self) -> Result<PathBuf> {
        self.boot_file("vmlinuz-", "")
    }

    /// The folder of the kernel's modules and the kernel's version.
    pub fn modules(&self) -> Result<(PathBuf, String)> {
        let dir = self.tree.join("lib/modules");
        let entry = std::fs::read_dir(&dir)?.next().context("the Debian packages hold no kernel modules")??;
        let version = entry.file_name().to_string_lossy().into_owned();
        Ok((entry.path(), version))
    }

    /// A program or library by its bare name.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        // Xen's own folder first: those of the same name in sbin are wrappers that look for the running Xen's version.
        const PLACES: &[&str] = &[
            "usr/lib/xen-4.17/bin",
            "bin",
            "sbin",
            "usr/bin",
            "usr/sbin",
            "lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/xen-4.17/lib/x86_64-linux-gnu",
            "usr/lib/xen-4.17/lib",
            "lib64",
        ];
        PLACES
            .iter()
            .map(|place| self.tree.join(place).join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("the Debian packages hold no {name}; delete the rig's cache and try again"))
    }
}
