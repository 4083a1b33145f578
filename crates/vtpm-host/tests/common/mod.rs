//! What the tests share: folders, running programs, clients.
#![allow(dead_code)] // each test binary uses its own part

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of its own for a test, gone afterwards.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vtpm-host-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.join("state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `vtpm-host` itself.
pub fn vtpm_host() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vtpm-host"))
}

/// A program with a control channel at `folder/name.ctrl` and a command channel at `folder/name.data`.
pub fn program(folder: &Folder, name: &str, options: &[&str]) -> Command {
    let mut command = vtpm_host();
    command
        .arg("socket")
        .arg("--server")
        .arg(format!("type=unixio,path={}", folder.join(&format!("{name}.data")).display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", folder.join(&format!("{name}.ctrl")).display()))
        .args(options)
        .stdout(Stdio::null());
    if !options.contains(&"--tpmstate") {
        command.arg("--tpmstate").arg(format!("dir={}", folder.state().display()));
    }
    command
}

/// A running program; killed, as by a power cut, when dropped.
pub struct Running {
    pub child: Child,
    pub control: PathBuf,
    pub data: PathBuf,
}

impl Running {
    pub fn start(folder: &Folder, name: &str, options: &[&str]) -> Self {
        Self::spawn(folder, name, program(folder, name, options))
    }

    pub fn spawn(folder: &Folder, name: &str, mut command: Command) -> Self {
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        Self { child, control: folder.join(&format!("{name}.ctrl")), data: folder.join(&format!("{name}.data")) }
    }

    pub fn control(&self) -> Control {
        Control(connect(&self.control))
    }

    pub fn data(&self) -> UnixStream {
        connect(&self.data)
    }

    /// Power cut.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        until("the program to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for something, a long time if need be.
pub fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = there() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn connect(path: &Path) -> UnixStream {
    let stream = until("a socket", || UnixStream::connect(path).ok());
    // A test that waits for an answer that never comes is to fail, not to hang.
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

/// What a program says that is to end by itself; one that serves instead is ended, and fails the test.
pub fn refused(mut command: Command) -> Output {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program serves: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    output
}

/// The same for its words.
pub fn refusal(command: Command) -> String {
    String::from_utf8_lossy(&refused(command).stderr).into_owned()
}

pub const CMD_GET_CAPABILITY: u32 = 1;
pub const CMD_INIT: u32 = 2;
pub const CMD_SHUTDOWN: u32 = 3;
pub const CMD_GET_TPMESTABLISHED: u32 = 4;
pub const CMD_SET_LOCALITY: u32 = 5;
pub const CMD_HASH_START: u32 = 6;
pub const CMD_HASH_DATA: u32 = 7;
pub const CMD_HASH_END: u32 = 8;
pub const CMD_CANCEL: u32 = 9;
pub const CMD_STORE_VOLATILE: u32 = 10;
pub const CMD_RESET_TPMESTABLISHED: u32 = 11;
pub const CMD_GET_STATEBLOB: u32 = 12;
pub const CMD_SET_STATEBLOB: u32 = 13;
pub const CMD_STOP: u32 = 14;
pub const CMD_GET_CONFIG: u32 = 15;
pub const CMD_SET_DATAFD: u32 = 16;
pub const CMD_SET_BUFFERSIZE: u32 = 17;
pub const CMD_GET_INFO: u32 = 18;
pub const CMD_LOCK_STORAGE: u32 = 19;

pub const PERMANENT: u32 = 1;
pub const VOLATILE: u32 = 2;
pub const SAVESTATE: u32 = 3;

/// A control client.
pub struct Control(pub UnixStream);

impl Control {
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn words<const N: usize>(&mut self) -> [u32; N] {
        core::array::from_fn(|_| {
            let mut word = [0; 4];
            self.0.read_exact(&mut word).unwrap();
            u32::from_be_bytes(word)
        })
    }

    /// A command, and the first `N` words of its answer.
    pub fn ask<const N: usize>(&mut self, command: u32, body: &[u8]) -> [u32; N] {
        self.send(&[&command.to_be_bytes(), body].concat());
        self.words()
    }

    /// A command whose answer is a return code.
    pub fn code(&mut self, command: u32, body: &[u8]) -> u32 {
        self.ask::<1>(command, body)[0]
    }

    pub fn init(&mut self) {
        assert_eq!(self.code(CMD_INIT, &[0; 4]), 0, "INIT");
    }

    /// A blob, with its flags.
    pub fn blob(&mut self, kind: u32) -> (u32, Vec<u8>) {
        let [code, flags, total, length] = self.ask(CMD_GET_STATEBLOB, &words(&[1, kind, 0]));
        assert_eq!((code, total), (0, length));
        let mut blob = vec![0; length as usize];
        self.0.read_exact(&mut blob).unwrap();
        (flags, blob)
    }

    pub fn put_blob(&mut self, kind: u32, blob: &[u8]) -> u32 {
        self.code(CMD_SET_STATEBLOB, &[&words(&[0, kind, blob.len() as u32])[..], blob].concat())
    }
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A TPM command with `TPM_TAG_RQU_COMMAND`, and the answer's code and parameters.
pub fn transact(stream: &mut UnixStream, ordinal: u32, parameters: &[u8]) -> (u32, Vec<u8>) {
    stream.write_all(&packet(ordinal, parameters)).unwrap();
    answer(stream)
}

pub fn packet(ordinal: u32, parameters: &[u8]) -> Vec<u8> {
    let size = 10 + parameters.len() as u32;
    [&[0, 0xc1][..], &size.to_be_bytes(), &ordinal.to_be_bytes(), parameters].concat()
}

pub fn answer(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let mut header = [0; 10];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[..2], [0, 0xc4]);
    let size = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
    let mut body = vec![0; size - 10];
    stream.read_exact(&mut body).unwrap();
    (u32::from_be_bytes(header[6..10].try_into().unwrap()), body)
}

pub const STARTUP: u32 = 0x99;
pub const EXTEND: u32 = 0x14;
pub const PCR_READ: u32 = 0x15;
pub const READ_PUBEK: u32 = 0x7c;
const NV_DEFINE_SPACE: u32 = 0xcc;
const NV_WRITE_VALUE: u32 = 0xcd;
const NV_READ_VALUE: u32 = 0xcf;
const INDEX: u32 = 0x0001_0001;

pub fn startup(tpm: &mut UnixStream) {
    assert_eq!(transact(tpm, STARTUP, &[0, 1]).0, 0, "TPM_Startup");
}

pub fn pcr(tpm: &mut UnixStream, index: u32) -> Vec<u8> {
    let (code, value) = transact(tpm, PCR_READ, &index.to_be_bytes());
    assert_eq!(code, 0, "TPM_PCRRead");
    value
}

pub fn extend(tpm: &mut UnixStream, index: u32, value: u8) -> Vec<u8> {
    let (code, value) = transact(tpm, EXTEND, &[&index.to_be_bytes()[..], &[value; 20]].concat());
    assert_eq!(code, 0, "TPM_Extend");
    value
}

/// Defines an area of 4 bytes that anybody may write and read.
pub fn define(tpm: &mut UnixStream) {
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
    assert_eq!(transact(tpm, NV_DEFINE_SPACE, &[public, vec![0; 20]].concat()).0, 0, "TPM_NV_DefineSpace");
}

pub fn try_write(tpm: &mut UnixStream, value: u32) -> u32 {
    let write = [INDEX.to_be_bytes().as_slice(), &[0; 4], &4u32.to_be_bytes(), &value.to_be_bytes()].concat();
    transact(tpm, NV_WRITE_VALUE, &write).0
}

pub fn write(tpm: &mut UnixStream, value: u32) {
    assert_eq!(try_write(tpm, value), 0, "TPM_NV_WriteValue");
}

pub fn read(tpm: &mut UnixStream) -> u32 {
    let read = [INDEX.to_be_bytes().as_slice(), &[0; 4], &4u32.to_be_bytes()].concat();
    let (code, answer) = transact(tpm, NV_READ_VALUE, &read);
    assert_eq!((code, answer.len()), (0, 8), "TPM_NV_ReadValue");
    u32::from_be_bytes(answer[4..].try_into().unwrap())
}
