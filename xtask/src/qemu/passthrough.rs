//! QEMU's passthrough backend on a /dev/tpm0 that vtpm-host serves through the kernel's vTPM proxy.
//!
//! The proxy wants root and a kernel module, so all of it happens inside a virtual machine: Linux there sees the host's files
//! read-only over 9p, runs the host's vtpm-host and the host's QEMU, and that QEMU boots the TIS driver's test image, which
//! extends a PCR: it must then be extended in the outer Linux, too.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::cell::{BY, PCR, Report};
use super::eventlog::{extended, hex};
use super::guest::Guest;
use super::machine::plain;
use crate::cpio::Tree;
use crate::paths::Paths;
use crate::swtpm::Software;
use crate::{build, debian, initrd};

const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "tpm_vtpm_proxy"];
/// The emulated machine emulates another one.
const NESTED: Duration = Duration::from_secs(240);

/// Runs it; an error is something that makes the following steps impossible.
pub fn smoke(paths: &Paths, software: &Software, dir: &Path, report: &mut Report<'_>) -> Result<()> {
    let pool = debian::pool(paths)?;
    let image = std::path::absolute(build::image(paths, "tpm_tis", "tis-probe")?)?;
    let mut tree = Tree::default();
    initrd::add_modules(&pool, MODULES, &mut tree)?;
    let root = dir.join("root.cpio");
    super::kernels::write_initrd(paths, &pool.find("busybox")?, "tpm-device.sh", tree, &root)?;
    let (_machine, mut guest) = plain(&pool.linux()?, &root, dir)?;
    guest.ready()?;
    for line in [
        "mkdir /host && mount -t 9p -o ro,trans=virtio,version=9p2000.L host /host",
        "for d in dev proc sys; do mount --bind /$d /host/$d || return; done; mount -t tmpfs tmp /host/tmp",
    ] {
        guest.run(line)?;
    }
    report.step("vtpm-host makes a /dev/tpm0 through the kernel's proxy", proxy(&mut guest, software));
    report.step("a QEMU with the passthrough backend extends a PCR of it", nested(&mut guest, &image));
    Ok(())
}

fn proxy(guest: &mut Guest, software: &Software) -> Result<()> {
    let program = std::path::absolute(&software.program)?;
    guest.run(&format!(
        "chroot /host {} chardev --vtpm-proxy --tpmstate dir=/tmp/tpm --log file=/tmp/log,level=1 </dev/null >/tmp/host.out 2>&1 &",
        program.display()
    ))?;
    guest.begin("for i in $(seq 600); do [ -c /dev/tpm0 ] && break; sleep 0.1; done; cat /tmp/host.out /host/tmp/log; ls /dev/tpm0")?;
    guest.finish(NESTED)?;
    let value = guest.pcr(PCR)?;
    ensure!(value == [0; 20], "PCR {PCR} of a new TPM is {}", hex(&value));
    Ok(())
}

fn nested(guest: &mut Guest, image: &Path) -> Result<()> {
    guest.begin(&format!(
        "chroot /host qemu-system-x86_64 -accel tcg -cpu qemu64,+rdrand -m 16 -nodefaults -display none -no-reboot \
         -device isa-debug-exit,iobase=0xf4,iosize=0x04 -debugcon file:/tmp/console -kernel {} -append 'extend 1.2 {PCR}' \
         -tpmdev passthrough,id=tpm0,path=/dev/tpm0,cancel-path=/dev/null -device tpm-tis,tpmdev=tpm0; \
         echo status $?; cat /host/tmp/console",
        image.display()
    ))?;
    let said = guest.finish(NESTED)?;
    // The image ends with this status when all was good.
    ensure!(said.contains("status 33"), "{said}");
    let (want, read) = (extended(&[0; 20], &BY), guest.pcr(PCR)?);
    ensure!(read == want, "PCR {PCR} should be {} and is {}", hex(&want), hex(&read));
    Ok(())
}
