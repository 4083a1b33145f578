//! The first (and only) root file systems of dom0 and of the Linux guest, made from unpacked Debian packages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cpio::Tree;
use crate::debian::{self, Pool};
use crate::elf;
use crate::packages;
use crate::paths::{Paths, make_dir};
use crate::process;
use crate::ui::Step;

/// The files a machine boots from.
pub struct Kit {
    /// The hypervisor, unpacked (a multiboot kernel).
    pub xen: PathBuf,
    /// Linux as a plain ELF file: unpacking it inside the emulated machine would take many seconds, twice.
    pub linux: PathBuf,
    /// dom0's root.
    pub dom0: PathBuf,
    /// The Linux guest's root.
    pub guest: PathBuf,
}

const DOM0_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "9pnet_virtio",
    "9p",
    "ext4",
    "crc32c_generic",
    "loop",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "xen-blkback",
];
const GUEST_MODULES: &[&str] = &["xen-tpmfront", "xen-evtchn", "xenfs", "xen-blkfront"];

const DOM0_PROGRAMS: &[&str] = &[
    "bash",
    "busybox",
    "losetup",
    "flock",
    "xl",
    "xenstored",
    "xenconsoled",
    "xen-init-dom0",
    "xenconsole",
    "xenctx",
    "libxl-save-helper",
    "lsevtchn",
    "xenstore-read",
    "xenstore-write",
    "xenstore-rm",
    "xenstore-ls",
    "xenstore-list",
    "xenstore-exists",
    "xenstore-chmod",
    "xenstore-watch",
];
const GUEST_PROGRAMS: &[&str] =
    &["bash", "busybox", "tcsd", "tpm_version", "xenstore-read", "xenstore-write", "xenstore-ls"];

/// Programs of tpm-tools, which run with a tcsd of their own where there is none (`xtask/rig/with-tcsd`).
const TPM_TOOLS: &[&str] = &[
    "tpm_version",
    "tpm_selftest",
    "tpm_getpubek",
    "tpm_takeownership",
    "tpm_clear",
    "tpm_changeownerauth",
    "tpm_nvinfo",
    "tpm_nvdefine",
    "tpm_nvread",
    "tpm_nvwrite",
    "tpm_nvrelease",
    "tpm_sealdata",
    "tpm_unsealdata",
    "tpm_restrictpubek",
    "tpm_resetdalock",
];

/// The boot files, from the cache or made now.
pub fn kit(paths: &Paths) -> Result<Kit> {
    let dir = paths.rig().join("boot");
    let kit = Kit {
        xen: dir.join("xen"),
        linux: dir.join("linux"),
        dom0: dir.join("dom0.cpio"),
        guest: dir.join("guest.cpio"),
    };
    let scripts = paths.scripts();
    let read = |name: &str| {
        std::fs::read_to_string(scripts.join(name))
            .with_context(|| format!("cannot read {}", scripts.join(name).display()))
    };
    let (dom0_init, guest_init, with_tcsd) = (read("dom0-init")?, read("guest-init")?, read("with-tcsd")?);
    let recipe = format!(
        "5 {DOM0_MODULES:?}{GUEST_MODULES:?}{DOM0_PROGRAMS:?}{GUEST_PROGRAMS:?}{TPM_TOOLS:?}{dom0_init}{guest_init}{with_tcsd}"
    );
    let stamp = dir.join("complete");
    let pool_stamp = paths.rig().join("debian").join("complete");
    if pool_stamp.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) {
        return Ok(kit);
    }
    packages::need(&[packages::XEN])?;
    let pool = debian::pool(paths)?;
    let step = Step::begin("Making the boot files of dom0 and the Linux guest");
    make_dir(&dir)?;
    let _ = std::fs::remove_file(&stamp);
    unpack(Command::new("gzip").arg("-dc").arg(pool.xen()?), &kit.xen)?;
    let image = std::fs::read(pool.linux()?)?;
    let packed = dir.join("linux.xz");
    std::fs::write(&packed, elf::bzimage_payload(&image)?)?;
    unpack(Command::new("xz").args(["-dc", "--single-stream"]).arg(&packed), &kit.linux)?;
    std::fs::remove_file(&packed)?;

    let mut tree = base(&pool, DOM0_PROGRAMS, DOM0_MODULES)?;
    tree.file("init", 0o755, dom0_init);
    tree.copy(&pool.tree.join("etc/xen/scripts"), "etc/xen/scripts")?;
    tree.file("etc/xen/xl.conf", 0o644, "autoballoon=\"off\"\n");
    write(&tree, &kit.dom0)?;

    let mut tree = base(&pool, GUEST_PROGRAMS, GUEST_MODULES)?;
    tree.file("init", 0o755, guest_init);
    tree.copy(&pool.tree.join("etc/tcsd.conf"), "etc/tcsd.conf")?;
    tree.file("usr/lib/tpm-tools/with-tcsd", 0o755, with_tcsd);
    for program in TPM_TOOLS {
        let from = pool.find(program)?;
        tree.copy(&from, &format!("usr/lib/tpm-tools/{program}"))?;
        libraries(&pool, &from, &mut tree)?;
        tree.link(&format!("usr/bin/{program}"), "/usr/lib/tpm-tools/with-tcsd");
    }
    tree.dir("var/lib/tpm");
    write(&tree, &kit.guest)?;
    std::fs::write(&stamp, recipe)?;
    step.done();
    Ok(kit)
}

fn unpack(command: &mut Command, to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let status = command.stdin(Stdio::null()).stdout(file).status().context("cannot unpack a kernel")?;
    if !status.success() {
        bail!("unpacking {} failed ({status})", to.display());
    }
    Ok(())
}

/// Writes a tree as an archive.
pub fn write(tree: &Tree, to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut out = BufWriter::new(file);
    tree.write(&mut out).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

/// A root with the programs, every library they ask for, and the modules.
fn base(pool: &Pool, programs: &[&str], modules: &[&str]) -> Result<Tree> {
    let mut tree = Tree::default();
    for dir in ["dev", "proc", "sys", "run", "tmp", "var/log", "etc", "root", "mnt", "usr/bin", "usr/lib64"] {
        tree.dir(dir);
    }
    for (link, to) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("usr/sbin", "bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "/run"),
    ] {
        tree.link(link, to);
    }
    tree.device("dev/console", 5, 1);
    tree.device("dev/null", 1, 3);
    tree.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ntss:x:100:100::/:/bin/false\n");
    tree.file("etc/group", 0o644, "root:x:0:\ntss:x:100:\n");
    tree.file("etc/hosts", 0o644, "127.0.0.1 localhost\n");
    tree.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n");

    for program in programs {
        let from = pool.find(program)?;
        tree.copy(&from, &format!("usr/bin/{program}"))?;
        libraries(pool, &from, &mut tree)?;
    }
    // glibc opens this one by name when a thread is cancelled, so no program asks for it.
    tree.copy(&pool.find("libgcc_s.so.1")?, "usr/lib/x86_64-linux-gnu/libgcc_s.so.1")?;
    let loader = pool.find("ld-linux-x86-64.so.2")?;
    tree.copy(&loader, "usr/lib64/ld-linux-x86-64.so.2")?;

    let busybox = pool.find("busybox")?;
    let applets = process::check(Command::new(busybox).arg("--list"), "busybox --list", Duration::from_secs(30))?;
    for applet in applets.lines() {
        let path = format!("usr/bin/{applet}");
        if !tree.has(&path) {
            tree.link(&path, "busybox");
        }
    }
    add_modules(pool, modules, &mut tree)?;
    Ok(tree)
}

fn libraries(pool: &Pool, program: &Path, tree: &mut Tree) -> Result<()> {
    let mut open = vec![program.to_path_buf()];
    while let Some(file) = open.pop() {
        let bytes = std::fs::read(&file)?;
        for name in elf::libraries(&bytes).with_context(|| file.display().to_string())? {
            let path = format!("usr/lib/x86_64-linux-gnu/{name}");
            if tree.has(&path) {
                continue;
            }
            let from = pool.find(&name)?;
            tree.copy(&from, &path)?;
            open.push(from);
        }
    }
    Ok(())
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Adds modules with what they depend on, `modules.dep` for modprobe, and `etc/modules`: all of them in loading order.
pub fn add_modules(pool: &Pool, wanted: &[&str], tree: &mut Tree) -> Result<()> {
    let (dir, version) = pool.modules()?;
    let mut found = BTreeMap::new();
    walk(&dir, &mut found)?;
    let mut order: Vec<String> = Vec::new();
    let mut depends = String::new();
    for name in wanted {
        visit(&plain(name), &found, &mut order)?;
    }
    for name in &order {
        let path = found.get(name).context("module vanished")?;
        let bytes = std::fs::read(path)?;
        let mut chain = Vec::new();
        visit(name, &found, &mut chain)?;
        chain.pop();
        let needs: Vec<String> = chain.iter().rev().map(|name| format!("{name}.ko")).collect();
        depends.push_str(&format!("{name}.ko: {}\n", needs.join(" ")));
        tree.file(&format!("usr/lib/modules/{version}/{name}.ko"), 0o644, bytes);
    }
    tree.file(&format!("usr/lib/modules/{version}/modules.dep"), 0o644, depends);
    tree.file("etc/modules", 0o644, order.join("\n") + "\n");
    Ok(())
}

fn walk(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "ko")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            found.insert(plain(stem), path);
        }
    }
    Ok(())
}

/// Appends `name` to `order` after everything it depends on.
fn visit(name: &str, found: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    let path = found
        .get(name)
        .with_context(|| format!("Debian's kernel package has no module {name} in the parts that were unpacked"))?;
    for needed in elf::module_depends(&std::fs::read(path)?) {
        visit(&plain(&needed), found, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}
