//! The command line: swtpm's, so that whoever starts swtpm can start this.

mod ends;
pub mod keys;
mod pairs;
mod serve;

use crate::home::Place;
use crate::sandbox::Action;
use crate::tpm::Start;
use crate::{ioctl, setup};
use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use ends::{Control, Server};
use pairs::Pairs;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tpm12::StartupType;

/// A software TPM: behind a socket, behind QEMU, or behind the host's own /dev/tpm0.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Serve a TPM on a TCP or Unix socket, with swtpm's control channel
    Socket(SocketOptions),
    /// Serve a TPM on a character device, as the kernel's vTPM proxy makes them
    Chardev(ChardevOptions),
    /// Make a TPM as a factory does: with certificates, with an owner
    Setup(Box<setup::Options>),
    /// Ask something of the control channel of a TPM that is served
    Ioctl(ioctl::Options),
}

#[derive(Args)]
struct SocketOptions {
    #[command(flatten)]
    common: Common,
    /// Where commands come in: type=tcp,port=N with bindaddr=ADDRESS, ifname=NAME and disconnect if wanted; or
    /// type=unixio,path=PATH with mode=0…, uid=N and gid=N if wanted; or fd=N. port=0 takes a free one and prints it
    #[arg(long, value_name = "type=…")]
    server: Option<Server>,
    /// As --server port=N
    #[arg(short, long, env = "TPM_PORT", conflicts_with = "server")]
    port: Option<u16>,
    /// As --server fd=N and --terminate
    #[arg(short, long, value_name = "N", conflicts_with_all = ["server", "port"])]
    fd: Option<i32>,
    /// End when the command channel ends
    #[arg(short, long)]
    terminate: bool,
}

#[derive(Args)]
struct ChardevOptions {
    #[command(flatten)]
    common: Common,
    /// The device that commands come from
    #[arg(short, long, value_name = "PATH")]
    chardev: Option<PathBuf>,
    /// The device as an open descriptor
    #[arg(short, long, value_name = "N", conflicts_with = "chardev")]
    fd: Option<i32>,
    /// Have the kernel make a /dev/tpmN of the host that this program is behind (needs root, the module tpm_vtpm_proxy and perl)
    #[arg(long, conflicts_with = "chardev")]
    vtpm_proxy: bool,
}

/// Options take swtpm's form: key=value pairs behind commas.
#[derive(Args)]
struct Common {
    /// Where the state lies: dir=PATH (with mode=0… if wanted) or backend-uri=dir://PATH or file://PATH (a file or block
    /// device); without it the environment variable TPM_PATH names the folder
    #[arg(long, value_name = "dir=PATH")]
    tpmstate: Option<StateOption>,
    /// The control channel: type=unixio,path=PATH or type=tcp,port=N with what --server takes beside them; or type=…,fd=N, or
    /// type=unixio,clientfd=N
    #[arg(long, value_name = "type=…")]
    ctrl: Option<Control>,
    /// A TPM 2.0 (not built yet)
    #[arg(long)]
    tpm2: bool,
    /// Protect the state at rest with this key: file=PATH or fd=N, with format=hex or format=binary; or pwdfile=PATH or pwdfd=N,
    /// with kdf=pbkdf2 or kdf=sha512; mode=aes-cbc for 16 bytes, mode=aes-256-cbc for 32; remove takes the file away
    #[arg(long, value_name = "file=PATH")]
    key: Option<String>,
    /// Seal the state blobs that go to another host with this key (in the forms of --key)
    #[arg(long, value_name = "file=PATH")]
    migration_key: Option<String>,
    /// incoming: leave the state alone and unlocked until state comes in; release-lock-outgoing: unlock it when all went out
    #[arg(long, value_name = "incoming,release-lock-outgoing")]
    migration: Option<Migration>,
    /// reject-locality-4: nobody gets locality 4; allow-set-locality: the command channel may set the locality
    #[arg(long, value_name = "…")]
    locality: Option<Locality>,
    /// not-need-init: the TPM is on from the start; startup-clear, startup-state, startup-deactivated: and started; startup-none
    #[arg(long, value_name = "FLAG,…")]
    flags: Option<Flags>,
    /// file=PATH (- for none) or fd=N; level=N (0 errors, 1 also what happens, 5 and more everything), prefix=TEXT, truncate
    #[arg(long, value_name = "file=PATH,level=N")]
    log: Option<String>,
    /// Write the process number: file=PATH or fd=N
    #[arg(long, value_name = "file=PATH")]
    pid: Option<String>,
    /// Go to the background when everything is ready
    #[arg(short, long)]
    daemon: bool,
    /// Go on as this user, when the sockets are open
    #[arg(short, long, value_name = "USER")]
    runas: Option<String>,
    /// Make this the root folder, when the sockets are open
    #[arg(short = 'R', long, value_name = "PATH")]
    chroot: Option<PathBuf>,
    /// What becomes of a system call that is not on the list: action=kill (the default), log, or none for no list
    #[arg(long, value_name = "action=…")]
    seccomp: Option<Seccomp>,
    /// The optional maintenance commands exist (TPM Main 1.2, part 3, section 12; `maintcmds=1` of the stub domain): with them
    /// the owner can carry the whole TPM over to another one
    #[arg(long)]
    maintcmds: bool,
    /// Say in JSON what this program can do, and end
    #[arg(long)]
    print_capabilities: bool,
    /// Say in JSON what state there is, and end
    #[arg(long)]
    print_states: bool,
}

#[derive(Clone)]
struct StateOption {
    place: Place,
    mode: u32,
}

/// The mode of new state files where none is given.
const STATE_MODE: u32 = 0o600;

impl FromStr for StateOption {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = Pairs::parse(text, &["dir", "backend-uri", "mode"], &[])?;
        let place = match (pairs.get("dir"), pairs.get("backend-uri")) {
            (Some(dir), None) => Place::Folder(dir.into()),
            (None, Some(uri)) => match uri.split_once("://") {
                Some(("dir", path)) => Place::Folder(path.into()),
                Some(("file", path)) => Place::File(path.into()),
                _ => bail!("backend-uri={uri}: possible are dir://PATH and file://PATH"),
            },
            _ => bail!("exactly one of dir= and backend-uri= is needed"),
        };
        let (Place::Folder(path) | Place::File(path)) = &place;
        ensure!(!path.as_os_str().is_empty(), "the path is empty");
        Ok(Self { place, mode: pairs.mode()?.unwrap_or(STATE_MODE) })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Migration {
    incoming: bool,
    release: bool,
}

impl FromStr for Migration {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = Pairs::parse(text, &[], &["incoming", "release-lock-outgoing"])?;
        Ok(Self { incoming: pairs.is_on("incoming")?, release: pairs.is_on("release-lock-outgoing")? })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Locality {
    reject_4: bool,
    allow_set: bool,
}

impl FromStr for Locality {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = Pairs::parse(text, &[], &["reject-locality-4", "allow-set-locality"])?;
        Ok(Self { reject_4: pairs.is_on("reject-locality-4")?, allow_set: pairs.is_on("allow-set-locality")? })
    }
}

#[derive(Clone, Copy)]
struct Seccomp(Action);

impl FromStr for Seccomp {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(match Pairs::parse(text, &["action"], &[])?.get("action") {
            Some("none") => Action::None,
            Some("log") => Action::Log,
            Some("kill") => Action::Kill,
            _ => bail!("possible are action=kill, action=log and action=none"),
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flags {
    start: Start,
}

impl FromStr for Flags {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mut start, mut initialized) = (None, false);
        for flag in text.split(',') {
            let this = match flag {
                "not-need-init" => {
                    initialized = true;
                    continue;
                }
                "startup-clear" => Some(StartupType::Clear),
                "startup-state" => Some(StartupType::State),
                "startup-deactivated" => Some(StartupType::Deactivated),
                "startup-none" => None,
                other => bail!(
                    "unknown flag `{other}`; known are not-need-init, startup-clear, startup-state, startup-deactivated and startup-none"
                ),
            };
            ensure!(start.is_none_or(|earlier| earlier == this), "two different startup-… flags");
            start = Some(this);
        }
        // As in swtpm, a startup-… flag implies not-need-init, except startup-none.
        let start = match start {
            Some(Some(kind)) => Start::Now(kind),
            _ if initialized => Start::ByClient,
            _ => Start::ByControl,
        };
        Ok(Self { start })
    }
}

impl Cli {
    /// Reads the command line. Under swtpm's names the program is what swtpm has them for.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        let name = arguments.first().and_then(|name| Path::new(name).file_name()).and_then(OsStr::to_str);
        let mode = match name {
            Some("swtpm_setup") => Some("setup"),
            Some("swtpm_ioctl") => Some("ioctl"),
            _ => None,
        };
        if let Some(mode) = mode {
            arguments.insert(1, mode.into());
        }
        Self::parse_from(arguments)
    }

    /// Does what the command line says.
    pub fn run(self) -> Result<()> {
        match self.mode {
            Mode::Socket(options) => options.run(),
            Mode::Chardev(options) => options.run(),
            Mode::Setup(options) => options.run(),
            Mode::Ioctl(options) => options.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_who_starts_the_tpm() {
        let start = |text: &str| text.parse::<Flags>().map(|flags| flags.start);
        assert_eq!(start("not-need-init,startup-clear").unwrap(), Start::Now(StartupType::Clear));
        assert_eq!(start("startup-state").unwrap(), Start::Now(StartupType::State));
        assert_eq!(start("startup-deactivated").unwrap(), Start::Now(StartupType::Deactivated));
        assert_eq!(start("not-need-init").unwrap(), Start::ByClient);
        assert_eq!(start("not-need-init,startup-none").unwrap(), Start::ByClient);
        assert_eq!(start("startup-none").unwrap(), Start::ByControl);
        for bad in ["", "startup", "startup-clear,startup-state", "not-need-init,", "need-init"] {
            assert!(start(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_options_are_understood_or_refused() {
        let place = |text: &str| text.parse::<StateOption>().map(|option| (option.place, option.mode));
        assert_eq!(place("dir=/a").unwrap(), (Place::Folder("/a".into()), 0o600));
        assert_eq!(place("dir=/a,mode=0640").unwrap(), (Place::Folder("/a".into()), 0o640));
        assert_eq!(place("backend-uri=dir:///a").unwrap().0, Place::Folder("/a".into()));
        assert_eq!(place("backend-uri=file://a/b").unwrap().0, Place::File("a/b".into()));
        for bad in
            ["", "/a", "dir=", "dir=/a,backend-uri=dir:///a", "backend-uri=/a", "backend-uri=http://a", "mode=0600"]
        {
            assert!(place(bad).is_err(), "{bad}");
        }
        let both: Migration = "incoming,release-lock-outgoing".parse().unwrap();
        assert_eq!(both, Migration { incoming: true, release: true });
        assert!("outgoing".parse::<Migration>().is_err());
        let locality: Locality = "reject-locality-4".parse().unwrap();
        assert_eq!(locality, Locality { reject_4: true, allow_set: false });
        assert!("5".parse::<Locality>().is_err() && "action=ignore".parse::<Seccomp>().is_err());
    }

    #[test]
    fn swtpms_own_command_lines_are_taken() {
        for line in [
            // libvirt's call, virtual machine manager's, swtpm's manual.
            "swtpm socket --ctrl type=unixio,path=/run/a,mode=0600 --tpmstate dir=/var/a,mode=0600 --log file=/var/log/a --terminate",
            "swtpm socket --daemon --ctrl type=unixio,path=/run/a,mode=0600 --tpmstate dir=/var/a --log file=/a,level=5 --pid file=/run/p --key pwdfd=9,mode=aes-256-cbc --migration-key pwdfd=10,mode=aes-256-cbc --runas tss",
            "swtpm socket --tpmstate backend-uri=file:///a --ctrl type=tcp,port=2322 --server type=tcp,port=2321,disconnect --flags not-need-init,startup-clear --seccomp action=none",
            "swtpm chardev --vtpm-proxy --tpmstate dir=/a --locality allow-set-locality",
            "swtpm socket -p 2321 -t -d --tpmstate dir=/a -r tss",
            "swtpm socket --print-capabilities",
            "swtpm socket --tpmstate dir=/a --print-states",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["swtpm", "cuse", "-n", "vtpm"]).is_err());
        let setup = Cli::from_arguments(
            ["/usr/bin/swtpm_setup", "--tpm-state", "/a", "--vmid", "x", "--createek"].map(Into::into),
        );
        assert!(matches!(setup.mode, Mode::Setup(_)));
        let ioctl = Cli::from_arguments(["swtpm_ioctl", "--unix", "/a", "-h", "data"].map(Into::into));
        assert!(matches!(ioctl.mode, Mode::Ioctl(_)));
    }
}
