//! The system calls that the program makes while it serves; the kernel refuses all others.

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;

/// `--seccomp action=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// No filter.
    None,
    /// Another call is logged by the kernel and done.
    Log,
    /// Another call ends the program.
    #[default]
    Kill,
}

/// Calls that every machine has.
const CALLS: &[libc::c_long] = &[
    // Connections.
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    // The state, which migration closes and opens again.
    libc::SYS_openat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    // Memory, time, random numbers.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Ends, good and bad.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
];

/// Older forms of them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_open, libc::SYS_mkdir, libc::SYS_rename, libc::SYS_unlink, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// From now on only the calls above are made.
pub fn enter(action: Action) -> Result<()> {
    let otherwise = match action {
        Action::None => return Ok(()),
        Action::Log => SeccompAction::Log,
        Action::Kill => SeccompAction::KillProcess,
    };
    let rules: BTreeMap<_, _> = CALLS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().context("--seccomp: no filter for this machine; say action=none")?;
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).context("--seccomp: the kernel does not take the filter; say action=none")
}
