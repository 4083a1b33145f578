//! vtpm-host, TrouSerS's daemon on it, and the programs of tpm-tools: all from unpacked Debian packages, nothing installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::debian::Pool;
use crate::process::{self, Guarded};

/// The longest time for a program to listen: a new TPM makes its endorsement key first.
const START: Duration = Duration::from_secs(120);
/// The longest time for one tool, in seconds: TPM_TakeOwnership makes a key.
const TOOL: &str = "120";
/// tcsd wants its configuration to be root's and the group tss's, and changes to the user tss. Both exist in a namespace of
/// its own, so that it needs neither root nor accounts on the host.
const TCSD: &str = "mount --bind passwd /etc/passwd && mount --bind group /etc/group \
    && exec setpriv --pdeathsig KILL -- \"$@\"";

/// Where the programs are and where they work.
pub struct Place<'a> {
    /// Debian's programs.
    pub pool: &'a Pool,
    /// Our server.
    pub host: &'a Path,
    /// Working folder: the TPM's state, logs, and files of the tools.
    pub dir: &'a Path,
}

/// A running TPM with its daemon; both end with this value, as by a power cut.
pub struct Stack<'a> {
    place: &'a Place<'a>,
    port: u16,
    _tcsd: Guarded,
    _host: Guarded,
}

/// What a tool did: its exit status and all it wrote.
pub struct Said {
    /// Exit status.
    pub status: Option<i32>,
    /// Standard output, then error output.
    pub text: String,
}

impl<'a> Stack<'a> {
    /// Starts the TPM, sends it some commands as firmware would, and starts the daemon.
    pub fn start(place: &'a Place<'a>, firmware: &[Vec<u8>]) -> Result<Self> {
        let (tpm_port, port) = (free_port()?, free_port()?);
        let host = Guarded::spawn(
            Command::new(place.host)
                .arg("socket")
                .args(["--tpmstate", &format!("dir={}", place.dir.join("state").display())])
                .args(["--server", &format!("type=tcp,port={tpm_port}")])
                .args(["--flags", "not-need-init,startup-clear"])
                .args(["--log", &format!("level=5,file={}", place.dir.join("vtpm-host.log").display())]),
            "vtpm-host",
        )?;
        let (host, mut line) = connect(tpm_port, host, "vtpm-host")?;
        for command in firmware {
            let code = transact(&mut line, command)?;
            ensure!(code == 0, "the TPM answers firmware's command {command:02x?} with {code:#x}");
        }
        drop(line);
        let (tcsd, _) = connect(port, start_tcsd(place, tpm_port, port)?, "tcsd")?;
        Ok(Self { place, port, _tcsd: tcsd, _host: host })
    }

    /// Runs one of the tools, without a terminal, with `input` as what is typed.
    pub fn tool(&self, command: &str, input: &str) -> Result<Said> {
        let mut words = command.split_whitespace();
        let tool = words.next().context("no tool")?;
        // Without setsid a tool would ask for passwords on the terminal of whoever runs the tests.
        let mut child = Command::new("setsid")
            .args(["--wait", "timeout", "--kill-after=5", TOOL])
            .args(program(self.place.pool, tool)?)
            .args(words)
            .current_dir(self.place.dir)
            .env("TSS_TCSD_HOSTNAME", "localhost")
            .env("TSS_TCSD_PORT", self.port.to_string())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {tool}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that ends without reading is no error of ours.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
        Ok(Said { status: output.status.code(), text })
    }
}

/// The words that run a program with the libraries it was built with.
fn program(pool: &Pool, name: &str) -> Result<Vec<PathBuf>> {
    let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
        .map(|dir| pool.tree.join(dir).display().to_string())
        .join(":");
    let loader = pool.find("ld-linux-x86-64.so.2")?;
    Ok(vec![loader, "--library-path".into(), libraries.into(), pool.find(name)?])
}

fn start_tcsd(place: &Place<'_>, tpm_port: u16, port: u16) -> Result<Guarded> {
    let write = |name: &str, text: String| {
        std::fs::write(place.dir.join(name), text).with_context(|| format!("cannot write tcsd's {name}"))
    };
    write("passwd", "root:x:0:0::/:/bin/sh\ntss:x:0:0::/:/bin/false\n".to_owned())?;
    write("group", "root:x:0:\ntss:x:0:\n".to_owned())?;
    let keys = place.dir.join("system.data");
    write("tcsd.conf", format!("port = {port}\nsystem_ps_file = {}\n", keys.display()))?;
    for (mode, name) in [("640", "tcsd.conf"), ("600", "system.data")] {
        let path = place.dir.join(name);
        if !path.exists() {
            std::fs::write(&path, "")?;
        }
        process::check(Command::new("chmod").arg(mode).arg(&path), "chmod", Duration::from_secs(10))?;
    }
    Guarded::spawn(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", TCSD, "sh"])
            .args(program(place.pool, "tcsd")?)
            .args(["-e", "-f", "-c"])
            .arg(place.dir.join("tcsd.conf"))
            .current_dir(place.dir)
            .env("TCSD_USE_TCP_DEVICE", "1")
            .env("TCSD_TCP_DEVICE_HOSTNAME", "127.0.0.1")
            .env("TCSD_TCP_DEVICE_PORT", tpm_port.to_string()),
        "tcsd (it needs user namespaces: `unshare --user --map-root-user --mount true` must work)",
    )
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A connection to a server that is about to listen.
fn connect(port: u16, mut server: Guarded, name: &str) -> Result<(Guarded, TcpStream)> {
    let end = Instant::now() + START;
    loop {
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            return Ok((server, stream));
        }
        if let Some(status) = server.poll()? {
            bail!("{name} ended ({status}):\n{}", server.end());
        }
        ensure!(Instant::now() < end, "{name} does not listen on port {port} after {} s", START.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a raw command; the response's code.
fn transact(line: &mut TcpStream, command: &[u8]) -> Result<u32> {
    line.set_read_timeout(Some(START))?;
    line.write_all(command)?;
    let mut header = [0; 10];
    line.read_exact(&mut header).context("no response")?;
    let [_, _, s0, s1, s2, s3, code @ ..] = header;
    let rest = u64::from(u32::from_be_bytes([s0, s1, s2, s3])).saturating_sub(10);
    std::io::copy(&mut line.take(rest), &mut std::io::sink())?;
    Ok(u32::from_be_bytes(code))
}
