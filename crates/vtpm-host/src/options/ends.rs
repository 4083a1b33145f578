//! `--server` and `--ctrl`: where clients connect.

use super::pairs::Pairs;
use crate::process::adopt;
use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::socket_acceptconn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A Unix socket, and what its file is to be like.
    Unix {
        /// Its path.
        path: PathBuf,
        /// File mode bits.
        mode: u32,
        /// Its owner.
        uid: Option<u32>,
        /// Its group.
        gid: Option<u32>,
    },
    /// A TCP port.
    Tcp(SocketAddr),
    /// A descriptor that the parent left open: a listening socket or a connection.
    Descriptor(i32),
    /// A descriptor that is a connection.
    Client(i32),
}

/// An [`End`] that is open.
pub enum Open {
    /// Clients connect here. The path, if there is one, is to be removed at the end.
    Listener(OwnedFd, Option<PathBuf>),
    /// This is the one client.
    Client(OwnedFd),
}

/// `--server`: an end, and whether it is closed after each response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The end.
    pub end: End,
    /// `disconnect`.
    pub disconnect: bool,
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const KNOWN: &[&str] = &["type", "path", "port", "bindaddr", "ifname", "fd", "mode", "uid", "gid"];
        let pairs = Pairs::parse(text, KNOWN, &["disconnect"])?;
        ensure!(pairs.get("type") != Some("unixio") || !pairs.has("disconnect"), "disconnect is for type=tcp only");
        Ok(Self { end: end(&pairs, Some("tcp"))?, disconnect: pairs.is_on("disconnect")? })
    }
}

/// `--ctrl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control(pub End);

impl FromStr for Control {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const KNOWN: &[&str] =
            &["type", "path", "port", "bindaddr", "ifname", "fd", "clientfd", "mode", "uid", "gid", "terminate"];
        let pairs = Pairs::parse(text, KNOWN, &[])?;
        if let Some(fd) = pairs.number("clientfd")? {
            ensure!(pairs.get("type") == Some("unixio"), "clientfd= is for type=unixio only");
            ensure!(!pairs.has("fd") && !pairs.has("path"), "clientfd=, fd= and path= exclude each other");
            return Ok(Self(End::Client(fd)));
        }
        Ok(Self(end(&pairs, None)?))
    }
}

fn end(pairs: &Pairs<'_>, default: Option<&str>) -> Result<End> {
    let kind = pairs.get("type").or(default).context("type= is missing: type=unixio,path=… or type=tcp,port=…")?;
    let others = |keys: &[&'static str]| keys.iter().find(|key| pairs.has(key)).copied();
    let refused = match kind {
        "unixio" => others(&["port", "bindaddr", "ifname"]),
        "tcp" => others(&["path", "mode", "uid", "gid"]),
        other => bail!("unknown type `{other}`; known are unixio and tcp"),
    };
    if let Some(key) = refused {
        bail!("{key}= has no meaning with type={kind}");
    }
    if let Some(fd) = pairs.number("fd")? {
        ensure!(!pairs.has("path") && !pairs.has("port"), "fd= excludes path= and port=");
        return Ok(End::Descriptor(fd));
    }
    if kind == "unixio" {
        let path = pairs.get("path").context("type=unixio needs path= (or fd=)")?.into();
        let mode = pairs.mode()?.unwrap_or(0o770);
        return Ok(End::Unix { path, mode, uid: pairs.number("uid")?, gid: pairs.number("gid")? });
    }
    let port = pairs.number("port")?.context("type=tcp needs port= (or fd=)")?;
    let address = match pairs.get("bindaddr") {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text.parse().with_context(|| format!("bindaddr={text} is not an IP address"))?,
    };
    Ok(End::Tcp(match (address, pairs.get("ifname")) {
        (address, None) => SocketAddr::new(address, port),
        (IpAddr::V6(address), Some(name)) => SocketAddr::V6(SocketAddrV6::new(address, port, 0, interface(name)?)),
        (IpAddr::V4(_), Some(_)) => bail!("ifname= is for link-local IPv6 addresses"),
    }))
}

/// The number of a network interface.
fn interface(name: &str) -> Result<u32> {
    ensure!(!name.contains('/') && !name.starts_with('.'), "ifname={name} is not a network interface");
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex"))
        .with_context(|| format!("ifname={name}: there is no such network interface"))?;
    text.trim().parse().with_context(|| format!("ifname={name}: no interface number"))
}

impl End {
    /// Opens it, and says on standard output `what` is there: whoever asked for port 0 learns the port.
    pub fn open(&self, what: &str) -> Result<Open> {
        match self {
            Self::Unix { path, mode, uid, gid } => {
                let listener = listen_unix(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))
                    .with_context(|| format!("cannot set the mode of {}", path.display()))?;
                if uid.is_some() || gid.is_some() {
                    chown(path, *uid, *gid).with_context(|| format!("cannot set the owner of {}", path.display()))?;
                }
                println!("{what} {}", path.display());
                Ok(Open::Listener(listener.into(), Some(path.clone())))
            }
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
                println!("{what} {}", listener.local_addr()?);
                Ok(Open::Listener(listener.into(), None))
            }
            Self::Descriptor(number) => {
                let fd = adopt(*number)?;
                let listens = socket_acceptconn(&fd).unwrap_or(false);
                Ok(if listens { Open::Listener(fd, None) } else { Open::Client(fd) })
            }
            Self::Client(number) => Ok(Open::Client(adopt(*number)?)),
        }
    }
}

/// Takes over the path of a socket that nobody listens on any more, and only of such a one.
fn listen_unix(path: &Path) -> Result<UnixListener> {
    let stale = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path).with_context(|| format!("cannot remove the old socket {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_understood_or_refused() {
        let server = |text: &str| text.parse::<Server>().map(|server| server.end);
        let control = |text: &str| text.parse::<Control>().map(|control| control.0);
        let tcp = |address: &str| End::Tcp(address.parse().unwrap());
        let unix = |mode, uid| End::Unix { path: "/a".into(), mode, uid, gid: None };
        assert_eq!(server("type=tcp,port=2321").unwrap(), tcp("127.0.0.1:2321"));
        assert_eq!(server("port=2321,disconnect").unwrap(), tcp("127.0.0.1:2321"));
        assert_eq!(server("port=0,type=tcp,bindaddr=::1").unwrap(), tcp("[::1]:0"));
        assert_eq!(control("type=unixio,path=/a").unwrap(), unix(0o770, None));
        assert_eq!(control("type=unixio,path=/a,mode=0600,uid=5").unwrap(), unix(0o600, Some(5)));
        assert_eq!(control("type=unixio,fd=9").unwrap(), End::Descriptor(9));
        assert_eq!(control("type=unixio,clientfd=9").unwrap(), End::Client(9));
        for bad in [
            "",
            "type=tcp",
            "type=tcp,port=65536",
            "type=tcp,port=-1",
            "type=tcp,port=18446744073709551617",
            "type=unixio",
            "type=unixio,path=/a,port=1",
            "type=tcp,port=1,port=2",
            "type=udp,port=1",
            "path=/a",
            "type=tcp,port=1,fd=3",
            "type=tcp,port=1,mode=0600",
            "type=tcp,port=1,bindaddr=127.0.0.1,ifname=lo",
            "type=tcp,port=1,bindaddr=::1,ifname=../lo",
            "type=tcp,port=1,bindaddr=localhost",
        ] {
            assert!(server(bad).is_err(), "{bad}");
            assert!(control(bad).is_err(), "{bad}");
        }
        for bad in ["type=tcp,clientfd=3", "type=unixio,clientfd=3,fd=4", "port=5"] {
            assert!(control(bad).is_err(), "{bad}");
        }
    }
}
