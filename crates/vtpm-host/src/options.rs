//! The command line: swtpm's `socket` mode, as far as it is built.

use crate::{home::Home, logger, server, tpm::Tpm};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use log::LevelFilter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A software TPM behind a socket.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Serve a TPM 1.2 on a TCP or Unix socket: raw TPM commands in, responses out, one client after the other
    Socket(SocketOptions),
}

/// Options take swtpm's form: key=value pairs behind commas.
#[derive(Args)]
struct SocketOptions {
    /// Folder of the TPM's state: dir=PATH (made if it does not exist)
    #[arg(long, value_name = "dir=PATH")]
    tpmstate: String,
    /// Where clients connect: type=unixio,path=PATH or type=tcp,port=N[,bindaddr=ADDRESS] (default 127.0.0.1; port=0 takes a
    /// free one and prints it)
    #[arg(long, value_name = "type=…")]
    server: Server,
    /// not-need-init (needed: there is no control channel yet) and one of startup-clear, startup-state,
    /// startup-deactivated, startup-none
    #[arg(long, value_name = "FLAG,…")]
    flags: Flags,
    /// level=N (0 errors, 1 also what happens, 5 and more everything) and file=PATH
    #[arg(long, value_name = "level=N,file=PATH")]
    log: Option<String>,
    /// The optional maintenance commands exist (TPM Main 1.2, part 3, section 12; `maintcmds=1` of the stub domain): with
    /// them the owner can carry the whole TPM over to another one
    #[arg(long)]
    maintcmds: bool,
    /// End after the first client has gone
    #[arg(long)]
    terminate: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// Who starts the TPM, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The program, as `TPM_Startup(ST_CLEAR)` would.
    Clear,
    /// The program, from the state that `TPM_SaveState` kept.
    State,
    /// The program, deactivated until the next start.
    Deactivated,
    /// A client sends `TPM_Startup`.
    ByClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags {
    start: Start,
}

/// `key=value` pairs behind commas; every key one of `known`, none twice.
fn pairs<'a>(text: &'a str, known: &[&str]) -> Result<Vec<(&'a str, &'a str)>> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for item in text.split(',') {
        let (key, value) = item.split_once('=').with_context(|| format!("`{item}` is not key=value"))?;
        ensure!(known.contains(&key), "unknown key `{key}`; known are {}", known.join(", "));
        ensure!(seen.iter().all(|(k, _)| *k != key), "`{key}` is given twice");
        seen.push((key, value));
    }
    Ok(seen)
}

fn value<'a>(pairs: &[(&str, &'a str)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = pairs(text, &["type", "path", "port", "bindaddr"])?;
        let given = |key| value(&pairs, key);
        match given("type") {
            Some("unixio") => {
                ensure!(given("port").is_none() && given("bindaddr").is_none(), "type=unixio takes path= only");
                Ok(Self::Unix(given("path").context("type=unixio needs path=")?.into()))
            }
            Some("tcp") => {
                ensure!(given("path").is_none(), "type=tcp takes port= and bindaddr= only");
                let port = given("port").context("type=tcp needs port=")?;
                let port = port.parse().with_context(|| format!("`{port}` is not a port (0 to 65535)"))?;
                let address = match given("bindaddr") {
                    None => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    Some(text) => text.parse().with_context(|| format!("`{text}` is not an IP address"))?,
                };
                Ok(Self::Tcp(SocketAddr::new(address, port)))
            }
            Some(other) => bail!("unknown type `{other}`; known are unixio and tcp"),
            None => bail!("type= is missing: type=unixio,path=… or type=tcp,port=…"),
        }
    }
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
                "startup-clear" => Start::Clear,
                "startup-state" => Start::State,
                "startup-deactivated" => Start::Deactivated,
                "startup-none" => Start::ByClient,
                other => bail!(
                    "unknown flag `{other}`; known are not-need-init, startup-clear, startup-state, startup-deactivated and startup-none"
                ),
            };
            ensure!(start.is_none_or(|earlier| earlier == this), "two different startup-… flags");
            start = Some(this);
        }
        // As in swtpm, a startup-… flag implies not-need-init.
        ensure!(initialized || start.is_some(), "not-need-init is needed: the control channel is not built yet");
        Ok(Self { start: start.unwrap_or(Start::ByClient) })
    }
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> Result<()> {
        let Mode::Socket(options) = self.mode;
        options.run()
    }
}

impl SocketOptions {
    fn run(self) -> Result<()> {
        let state = pairs(&self.tpmstate, &["dir"]).context("--tpmstate")?;
        let folder = PathBuf::from(value(&state, "dir").context("--tpmstate needs dir=")?);
        let log =
            self.log.as_deref().map_or(Ok(Vec::new()), |text| pairs(text, &["level", "file"])).context("--log")?;
        let level = value(&log, "level").unwrap_or("1");
        let level = match level.parse::<u32>().with_context(|| format!("--log: level `{level}` is not a number"))? {
            0 => LevelFilter::Error,
            1..5 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        };
        logger::start(level, value(&log, "file").map(PathBuf::from).as_deref())?;
        let home = Home::open(&folder)?;
        let options = tpm12::Options { maintenance_commands: self.maintcmds, ..tpm12::Options::default() };
        let tpm = Tpm::open(home, options, self.flags.start)?;
        server::serve(tpm, &self.server, self.terminate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_understood_or_refused() {
        let tcp = |address: &str| Server::Tcp(address.parse().unwrap());
        assert_eq!("type=tcp,port=2321".parse::<Server>().unwrap(), tcp("127.0.0.1:2321"));
        assert_eq!("port=0,type=tcp,bindaddr=::1".parse::<Server>().unwrap(), tcp("[::1]:0"));
        assert_eq!("type=unixio,path=/a".parse::<Server>().unwrap(), Server::Unix("/a".into()));
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
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_say_who_starts_the_tpm() {
        let start = |text: &str| text.parse::<Flags>().map(|flags| flags.start);
        assert_eq!(start("not-need-init,startup-clear").unwrap(), Start::Clear);
        assert_eq!(start("startup-state").unwrap(), Start::State);
        assert_eq!(start("not-need-init").unwrap(), Start::ByClient);
        for bad in ["", "startup", "startup-clear,startup-state", "not-need-init,", "need-init"] {
            assert!(start(bad).is_err(), "{bad}");
        }
    }
}
