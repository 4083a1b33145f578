//! The program as a process: descriptors of its parent, its user, its log of itself, signals.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A descriptor that the parent left open, by its number.
///
/// The number alone proves nothing to the compiler, so a duplicate is had from the kernel; the original stays open.
pub fn adopt(number: i32) -> Result<OwnedFd> {
    let missing = || format!("there is no open descriptor {number}");
    let own = match number {
        0 => Some(std::io::stdin().as_fd().try_clone_to_owned()),
        1 => Some(std::io::stdout().as_fd().try_clone_to_owned()),
        2 => Some(std::io::stderr().as_fd().try_clone_to_owned()),
        _ => None,
    };
    if let Some(outcome) = own {
        return outcome.with_context(missing);
    }
    if number < 0 {
        bail!("a descriptor's number is not negative: {number}");
    }
    let process = pidfd_open(getpid(), PidfdFlags::empty()).context("the kernel does not open the process itself")?;
    pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).with_context(missing)
}

/// Blocks the signals that end the program, and opens the way to be told of them.
pub fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("cannot wait for signals")
}

/// A user by name or number.
pub fn find_user(name: &str) -> Result<User> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    found.ok().flatten().with_context(|| format!("--runas: there is no user {name}"))
}

/// Goes on as another user.
pub fn become_user(user: &User) -> Result<()> {
    if Uid::effective() == user.uid && Gid::effective() == user.gid {
        return Ok(());
    }
    let login = CString::new(user.name.clone()).context("a user name with a zero byte")?;
    let changed = initgroups(&login, user.gid).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid));
    changed.with_context(|| format!("--runas: cannot become {} (only root can)", user.name))
}

/// Makes `folder` the root folder.
pub fn enter(folder: &Path) -> Result<()> {
    rustix::process::chroot(folder)
        .and_then(|()| rustix::process::chdir("/"))
        .with_context(|| format!("--chroot: cannot make {} the root folder (only root can)", folder.display()))
}

/// Where the process's number is to stand.
pub struct PidFile {
    file: File,
    path: Option<PathBuf>,
}

impl PidFile {
    /// Opened for writing already; `path` is removed at the end.
    pub fn new(file: File, path: Option<PathBuf>) -> Self {
        Self { file, path }
    }

    /// Writes the number that the process has now.
    pub fn write(&mut self) -> Result<()> {
        writeln!(self.file, "{}", std::process::id()).context("cannot write the process number")
    }

    /// The file to remove.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
