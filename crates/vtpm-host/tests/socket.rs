//! The program as its clients meet it: over a socket, through restarts, with folders that are not as they should be.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of its own for a test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vtpm-host-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn program(state: &Path, socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtpm-host"));
    command
        .arg("socket")
        .arg("--tpmstate")
        .arg(format!("dir={}", state.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .args(["--flags", "not-need-init,startup-clear"])
        .stdout(Stdio::null());
    command
}

/// A running program; killed, as by a power cut, when dropped.
struct Running {
    child: Child,
    socket: PathBuf,
}

impl Running {
    fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Folder, options: &[&str]) -> Self {
        let socket = folder.0.join("socket");
        let child = program(&folder.state(), &socket).args(options).stderr(Stdio::null()).spawn().unwrap();
        Self { child, socket }
    }

    fn connect(&self) -> UnixStream {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(error) if Instant::now() > deadline => panic!("the program never listened: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn transact(stream: &mut UnixStream, ordinal: u32, parameters: &[u8]) -> (u32, Vec<u8>) {
    let mut command = vec![0, 0xc1];
    command.extend_from_slice(&(10 + parameters.len() as u32).to_be_bytes());
    command.extend_from_slice(&ordinal.to_be_bytes());
    command.extend_from_slice(parameters);
    stream.write_all(&command).unwrap();
    let mut header = [0; 10];
    stream.read_exact(&mut header).unwrap();
    let size = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
    let mut body = vec![0; size - 10];
    stream.read_exact(&mut body).unwrap();
    (u32::from_be_bytes(header[6..10].try_into().unwrap()), body)
}

const NV_DEFINE_SPACE: u32 = 0xcc;
const NV_WRITE_VALUE: u32 = 0xcd;
const NV_READ_VALUE: u32 = 0xcf;
const READ_PUBEK: u32 = 0x7c;
const INDEX: u32 = 0x0001_0001;

/// `TPM_NV_DATA_PUBLIC` of 4 bytes at [`INDEX`] that anybody may write and read, and the encrypted authorization.
fn define_space() -> Vec<u8> {
    let any_pcr = [[0u8, 3].as_slice(), &[0; 3], &[0x1f], &[0; 20]].concat();
    let public = [
        [0, 0x18].as_slice(),
        &INDEX.to_be_bytes(),
        &any_pcr,
        &any_pcr,
        &[0, 0x17],
        &0x0000_0001u32.to_be_bytes(), // TPM_NV_PER_PPWRITE
        &[0, 0, 0],
        &4u32.to_be_bytes(),
    ]
    .concat();
    [public, vec![0; 20]].concat()
}

#[test]
fn what_was_acknowledged_is_there_after_the_program_was_killed() {
    let folder = Folder::new("killed");
    let nonce = [7; 20];
    let pubek = {
        let running = Running::start(&folder);
        let mut tpm = running.connect();
        let (code, _) = transact(&mut tpm, NV_DEFINE_SPACE, &define_space());
        assert_eq!(code, 0, "define");
        let write = [INDEX.to_be_bytes().as_slice(), &[0; 4], &4u32.to_be_bytes(), b"keep"].concat();
        assert_eq!(transact(&mut tpm, NV_WRITE_VALUE, &write).0, 0, "write");
        let (code, answer) = transact(&mut tpm, READ_PUBEK, &nonce);
        assert_eq!(code, 0, "pubek");
        answer
    };
    let running = Running::start(&folder);
    let mut tpm = running.connect();
    let read = [INDEX.to_be_bytes().as_slice(), &[0; 4], &4u32.to_be_bytes()].concat();
    let (code, answer) = transact(&mut tpm, NV_READ_VALUE, &read);
    assert_eq!((code, answer.as_slice()), (0, &b"\0\0\0\x04keep"[..]));
    assert_eq!(transact(&mut tpm, READ_PUBEK, &nonce), (0, pubek), "the endorsement key is the same");
}

/// What a program says that is to end by itself; one that serves instead is ended, and fails the test.
fn refused(folder: &Folder) -> Output {
    let mut child = program(&folder.state(), &folder.0.join("other")).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program serves: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_second_program_and_a_lost_key_are_refused_and_nothing_changes() {
    let folder = Folder::new("refused");
    let first = Running::start(&folder);
    assert_eq!(transact(&mut first.connect(), READ_PUBEK, &[0; 20]).0, 0, "it has the folder");
    let output = refused(&folder);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another vtpm-host uses the state folder"), "{output:?}");
    drop(first);

    let vault = folder.state().join("tpm.vault");
    let before = std::fs::read(&vault).unwrap();
    for (damage, message) in
        [(None, "vault.key is missing"), (Some(&[1; 31][..]), "has 31 bytes, not 32"), (Some(&[1; 32][..]), "key")]
    {
        let key = folder.state().join("vault.key");
        match damage {
            None => std::fs::remove_file(&key).unwrap(),
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
        }
        let output = refused(&folder);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{message}: {output:?}");
        assert_eq!(std::fs::read(&vault).unwrap(), before, "{message}");
    }
}

#[test]
fn a_client_that_breaks_off_harms_nobody() {
    let folder = Folder::new("breaks-off");
    let running = Running::start(&folder);
    for garbage in [&[0u8, 0xc1, 0, 0][..], &[0xff; 64], &[0, 0xc1, 0, 0, 0, 9, 0, 0, 0, 0x50]] {
        running.connect().write_all(garbage).unwrap();
    }
    let mut tpm = running.connect();
    assert_eq!(transact(&mut tpm, READ_PUBEK, &[0; 20]).0, 0);
}

#[test]
fn maintenance_commands_exist_where_they_are_asked_for() {
    const READ_MANU_MAINT_PUB: u32 = 0x30;
    let folder = Folder::new("maintenance");
    // TPM_BAD_ORDINAL; TPM_KEYNOTFOUND, as no maker's key is loaded.
    for (options, code) in [(&[][..], 10), (&["--maintcmds"], 13)] {
        let running = Running::start_with(&folder, options);
        assert_eq!(transact(&mut running.connect(), READ_MANU_MAINT_PUB, &[7; 20]).0, code, "{options:?}");
    }
}
