//! Every way of connecting: TCP, and descriptors that the parent left open.

mod common;

use common::*;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

const SERVE: [&str; 2] = ["--flags", "not-need-init,startup-clear"];

/// The program with `theirs` as descriptor 0, or, through a shell, as descriptor 7.
fn with_descriptor(folder: &Folder, theirs: OwnedFd, number: u8, arguments: &[&str]) -> Child {
    let mut command = match number {
        0 => vtpm_host(),
        _ => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec 7<&0 0</dev/null; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_vtpm-host")]);
            shell
        }
    };
    let state = format!("dir={}", folder.state().display());
    command.args(arguments).args(["--tpmstate", &state]).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, theirs.into())
}

/// Waits for the end that comes by itself.
fn ends(mut child: Child) {
    assert!(until("the end", || child.try_wait().unwrap()).success());
}

#[test]
fn a_command_channel_that_the_parent_opened() {
    for (number, options) in [
        (0, &["socket", "--fd", "0"][..]),
        (7, &["socket", "--fd", "7"]),
        (7, &["socket", "--terminate", "--server", "type=unixio,fd=7"]),
        (7, &["chardev", "--fd", "7"]),
    ] {
        let folder = Folder::new(&format!("fd-{number}-{}", options.len()));
        let (mut ours, theirs) = pair();
        let child = with_descriptor(&folder, theirs, number, &[options, &SERVE].concat());
        assert_eq!(transact(&mut ours, READ_PUBEK, &[0; 20]).0, 0, "{options:?}");
        drop(ours);
        ends(child);
    }
}

#[test]
fn a_control_channel_that_the_parent_opened() {
    let folder = Folder::new("clientfd");
    let (ours, theirs) = pair();
    let child = with_descriptor(&folder, theirs, 7, &["socket", "--ctrl", "type=unixio,clientfd=7"]);
    let mut control = Control(ours);
    control.init();
    drop(control);
    ends(child);

    let path = folder.join("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let child = with_descriptor(&folder, listener.into(), 7, &["socket", "--ctrl", "type=unixio,fd=7"]);
    let mut control = Control(connect(&path));
    control.init();
    assert_eq!(control.code(CMD_SHUTDOWN, &[]), 0);
    ends(child);
}

#[test]
fn a_descriptor_that_is_not_there() {
    let folder = Folder::new("no-fd");
    for option in ["fd=99", "fd=-1"] {
        let text = refusal(program(&folder, "a", &["--log", option]));
        assert!(text.contains("descriptor"), "{text}");
    }
}

#[test]
fn over_tcp() {
    let folder = Folder::new("tcp");
    let state = format!("dir={}", folder.state().display());
    let mut child = vtpm_host()
        .args(["socket", "--tpmstate", &state, "--server", "port=0,disconnect", "--ctrl", "type=tcp,port=0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut address = |what: &str| lines.next().unwrap().unwrap().strip_prefix(what).unwrap().to_owned();
    let (data, control) = (address("listening on "), address("control channel on "));
    let link = format!("--tcp={control}");
    let ask = |arguments: &[&str]| vtpm_host().args(["ioctl", &link]).args(arguments).output().unwrap();
    assert!(ask(&["-i"]).status.success());
    let round = |ordinal: u32, parameters: &[u8]| {
        use std::io::Write;
        let mut stream = TcpStream::connect(&data).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream.write_all(&packet(ordinal, parameters)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        u32::from_be_bytes(answer[6..10].try_into().unwrap())
    };
    assert_eq!(round(STARTUP, &[0, 1]), 0);
    assert_eq!(round(STARTUP, &[0, 1]), 38, "the same TPM, on a new connection");
    assert!(ask(&["-s"]).status.success());
    ends(child);
}
