//! From the command line to the loop.

use super::ends::{End, Open, Server as ServerOption};
use super::pairs::Pairs;
use super::{ChardevOptions, Common, SocketOptions, keys};
use crate::blob::MigrationKey;
use crate::home::Place;
use crate::process::{self, PidFile, adopt};
use crate::server::{Ends, Rules, Server};
use crate::storage::Storage;
use crate::tpm::{Keeping, Start, Tpm};
use crate::{logger, sandbox};
use anyhow::{Context, Result, bail, ensure};
use log::LevelFilter;
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use tpm12::StartupType;

/// What `--print-capabilities` says: swtpm's names of what is here, too.
const CAPABILITIES: &str = concat!(
    r#"{ "type": "swtpm", "features": [ "tpm-1.2", "flags-opt-startup", "cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "#,
    r#""cmdarg-print-states", "cmdarg-chroot", "cmdarg-migration", "nvram-backend-dir", "nvram-backend-file" ], "version": ""#,
    env!("CARGO_PKG_VERSION"),
    r#"" }"#
);

impl SocketOptions {
    pub(super) fn run(self) -> Result<()> {
        if self.common.print()? {
            return Ok(());
        }
        let local = |port| End::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let server = match (self.server, self.port, self.fd) {
            (Some(server), ..) => Some(server),
            (None, Some(port), _) => Some(ServerOption { end: local(port), disconnect: false }),
            (None, None, Some(fd)) => Some(ServerOption { end: End::Descriptor(fd), disconnect: false }),
            (None, None, None) => None,
        };
        ensure!(
            server.is_some() || self.common.ctrl.is_some(),
            "nobody could connect: give --server, or --ctrl and a client that passes the command channel"
        );
        let rules = Rules {
            terminate: self.terminate || self.fd.is_some(),
            disconnect: server.as_ref().is_some_and(|server| server.disconnect),
            ..Rules::default()
        };
        let mut ends = Ends::default();
        let mut sockets = Vec::new();
        match server.map(|server| server.end.open("listening on")).transpose()? {
            Some(Open::Listener(fd, path)) => {
                ends.data = Some(fd);
                sockets.extend(path);
            }
            Some(Open::Client(fd)) => ends.data_client = Some(fd),
            None => {}
        }
        self.common.serve(rules, ends, sockets)
    }
}

impl ChardevOptions {
    pub(super) fn run(mut self) -> Result<()> {
        if self.common.print()? {
            return Ok(());
        }
        if self.vtpm_proxy && self.fd.is_none() {
            return Err(make_proxy(self.common.tpm2));
        }
        let fd = match (&self.chardev, self.fd) {
            (Some(path), _) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .with_context(|| format!("cannot open the device {}", path.display()))?
                .into(),
            (None, Some(fd)) => adopt(fd)?,
            (None, None) => bail!("no device: give --chardev, --fd or --vtpm-proxy"),
        };
        if self.vtpm_proxy {
            self.common.flags.get_or_insert(super::Flags { start: Start::Now(StartupType::Clear) });
        }
        let rules = Rules { terminate: true, allow_set_locality: self.vtpm_proxy, ..Rules::default() };
        self.common.serve(rules, Ends { data_client: Some(fd), ..Ends::default() }, Vec::new())
    }
}

/// Has the kernel make a TPM device, and starts this program again behind it. The request is an `ioctl`, which this program
/// can't make without unsafe code: perl, which every Debian has, makes it (Linux `uapi/linux/vtpm_proxy.h`). Returns only
/// if that fails.
fn make_proxy(tpm2: bool) -> anyhow::Error {
    const SCRIPT: &str = r#"
        my $flags = shift @ARGV;
        open(my $control, "+<", "/dev/vtpmx") or die "vtpm-host: cannot open /dev/vtpmx: $! (load the module tpm_vtpm_proxy; only root may)\n";
        my $device = pack("L5", $flags, 0, 0, 0, 0);
        ioctl($control, 0xC014A100, $device) or die "vtpm-host: the kernel makes no TPM device: $!\n";
        my ($same, $number, $fd, $major, $minor) = unpack("L5", $device);
        $| = 1;
        print "New TPM device: /dev/tpm$number (major/minor = $major/$minor)\n";
        close($control);
        exec { $ARGV[0] } @ARGV, "--fd", $fd or die "vtpm-host: cannot go on: $!\n";
    "#;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return anyhow::Error::new(error).context("cannot find this program's own file"),
    };
    let flags = if tpm2 { "1" } else { "0" };
    let error = Command::new("perl").args(["-e", SCRIPT, flags]).arg(program).args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(error).context("--vtpm-proxy needs perl")
}

impl Common {
    /// The options that only print; true if there was one.
    fn print(&self) -> Result<bool> {
        if self.print_capabilities {
            println!("{CAPABILITIES}");
            return Ok(true);
        }
        if self.print_states {
            let (place, mode) = self.place()?;
            let mut states = Vec::new();
            if place.has_vault() {
                let key = self.key.as_deref().map(keys::read).transpose().context("--key")?;
                let key = key.map(|key| keys::vault_key(&key));
                let storage = Storage::open(&place, key.as_ref(), mode)?;
                if let Some(kept) = storage.kept() {
                    states.push(("permall", kept.engine.len()));
                    states.extend(kept.volatile.as_ref().map(|volatile| ("volatile", volatile.len())));
                }
            }
            let states: Vec<String> =
                states.iter().map(|(name, size)| format!(r#"{{ "name": "{name}", "size": {size} }}"#)).collect();
            println!(r#"{{ "type": "swtpm", "states": [ {} ] }}"#, states.join(", "));
            return Ok(true);
        }
        Ok(false)
    }

    fn place(&self) -> Result<(Place, u32)> {
        match (&self.tpmstate, std::env::var_os("TPM_PATH")) {
            (Some(state), _) => Ok((state.place.clone(), state.mode)),
            (None, Some(path)) => Ok((Place::Folder(path.into()), super::STATE_MODE)),
            (None, None) => bail!("--tpmstate is missing: --tpmstate dir=PATH, or TPM_PATH in the environment"),
        }
    }

    /// Opens everything in the order that rights allow, serves, and tidies up.
    fn serve(self, mut rules: Rules, mut ends: Ends, mut leftovers: Vec<PathBuf>) -> Result<()> {
        let outcome = self.open_and_serve(&mut rules, &mut ends, &mut leftovers);
        for path in leftovers {
            // Somebody else may have tidied up, or this program may no longer be allowed to.
            let _ = std::fs::remove_file(path);
        }
        outcome
    }

    fn open_and_serve(&self, rules: &mut Rules, ends: &mut Ends, leftovers: &mut Vec<PathBuf>) -> Result<()> {
        ensure!(!self.tpm2, "--tpm2: the TPM 2.0 engine is not part of this version; without --tpm2 this is a TPM 1.2");
        let (place, mode) = self.place()?;
        self.start_log()?;
        let key = self.key.as_deref().map(keys::read).transpose().context("--key")?;
        let key = key.map(|key| keys::vault_key(&key));
        let migration_key = self.migration_key.as_deref().map(keys::read).transpose().context("--migration-key")?;
        let migration_key = migration_key.map(|key| MigrationKey::derive(&key));
        let start = self.flags.map_or(Start::ByControl, |flags| flags.start);
        ensure!(
            start != Start::ByControl || self.ctrl.is_some(),
            "nobody could switch the TPM on: give --flags not-need-init, or --ctrl"
        );
        let locality = self.locality.unwrap_or_default();
        rules.reject_locality_4 = locality.reject_4;
        rules.allow_set_locality |= locality.allow_set;
        match self.ctrl.as_ref().map(|control| control.0.open("control channel on")).transpose()? {
            Some(Open::Listener(fd, path)) => {
                ends.control = Some(fd);
                leftovers.extend(path);
            }
            Some(Open::Client(fd)) => {
                ends.control_client = Some(fd);
                rules.terminate_with_control = true;
            }
            None => {}
        }
        let mut pid = self.pid_file()?;
        leftovers.extend(pid.as_ref().and_then(PidFile::path).map(PathBuf::from));
        // Users are looked up where the list of them is.
        let user = self.runas.as_deref().map(process::find_user).transpose()?;
        if let Some(folder) = &self.chroot {
            process::enter(folder)?;
        }
        if let Some(user) = &user {
            process::become_user(user)?;
        }
        let signals = process::signals()?;
        let migration = self.migration.unwrap_or_default();
        let keeping =
            Keeping { place, mode, key, migration_key, incoming: migration.incoming, release: migration.release };
        let options = tpm12::Options { maintenance_commands: self.maintcmds, ..tpm12::Options::default() };
        let mut tpm = Tpm::open(keeping, options)?;
        tpm.start(start)?;
        if self.daemon {
            nix::unistd::daemon(true, false).context("cannot go to the background")?;
        }
        if let Some(pid) = &mut pid {
            pid.write()?;
        }
        sandbox::enter(self.seccomp.map(|seccomp| seccomp.0).unwrap_or_default())?;
        Server::new(tpm, std::mem::take(rules), std::mem::take(ends), signals).serve()
    }

    fn start_log(&self) -> Result<()> {
        let text = self.log.as_deref().unwrap_or("level=1");
        let pairs = Pairs::parse(text, &["file", "fd", "level", "prefix"], &["truncate"]).context("--log")?;
        let level = match pairs.number("level").context("--log")?.unwrap_or(1u32) {
            0 => LevelFilter::Error,
            1..5 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        };
        let target = match (pairs.get("file"), pairs.number("fd").context("--log")?) {
            (Some(_), Some(_)) => bail!("--log: file= and fd= exclude each other"),
            (Some("-"), None) => logger::Target::Nowhere,
            (Some(path), None) => logger::Target::File { path: path.into(), truncate: pairs.is_on("truncate")? },
            (None, Some(fd)) => logger::Target::Descriptor(adopt(fd)?),
            (None, None) => logger::Target::StandardError,
        };
        logger::start(level, target, pairs.get("prefix").unwrap_or_default())
    }

    fn pid_file(&self) -> Result<Option<PidFile>> {
        let Some(text) = &self.pid else { return Ok(None) };
        let pairs = Pairs::parse(text, &["file", "fd"], &[]).context("--pid")?;
        Ok(Some(match (pairs.get("file"), pairs.number("fd").context("--pid")?) {
            (Some(path), None) => {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o644)
                    .custom_flags(OFlags::NOFOLLOW.bits() as i32)
                    .open(path)
                    .with_context(|| format!("cannot open the pid file {path}"))?;
                PidFile::new(file, Some(path.into()))
            }
            (None, Some(fd)) => PidFile::new(adopt(fd)?.into(), None),
            _ => bail!("--pid: exactly one of file= and fd= is needed"),
        }))
    }
}
