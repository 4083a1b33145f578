//! The control channel as good and bad clients use it.

mod common;

use common::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

const FAIL: u32 = 9;
const BAD_ORDINAL: u32 = 10;
const BAD_LOCALITY: u32 = 61;
const INVALID_POSTINIT: u32 = 38;
const SHA_THREAD: u32 = 26;

/// Every command with a body that it takes, the words of its answer, and its return code on a TPM that is off.
const COMMANDS: [(u32, &[u32], usize, u32); 19] = [
    (CMD_GET_CAPABILITY, &[], 2, 0),
    (CMD_GET_TPMESTABLISHED, &[], 2, 0),
    (CMD_HASH_START, &[], 1, FAIL),
    (CMD_HASH_DATA, &[4, 0x6162_6364], 1, FAIL),
    (CMD_HASH_END, &[], 1, FAIL),
    (CMD_CANCEL, &[], 1, 0),
    (CMD_STORE_VOLATILE, &[], 1, FAIL),
    (CMD_RESET_TPMESTABLISHED, &[0x0300_0000], 1, FAIL),
    (CMD_GET_STATEBLOB, &[1, SAVESTATE, 0], 4, 0),
    (CMD_SET_STATEBLOB, &[0, SAVESTATE, 0], 1, 0),
    (CMD_GET_CONFIG, &[], 2, 0),
    (CMD_SET_DATAFD, &[], 1, 3),
    (CMD_SET_BUFFERSIZE, &[4096], 4, 0),
    (CMD_GET_INFO, &[0, 0, 0, 0], 3, 0),
    (CMD_LOCK_STORAGE, &[0], 1, 0),
    (CMD_SET_LOCALITY, &[0x0200_0000], 1, 0),
    (CMD_STOP, &[], 1, 0),
    (CMD_INIT, &[0], 1, 0),
    (CMD_SHUTDOWN, &[], 1, 0),
];

fn message(command: u32, body: &[u32]) -> Vec<u8> {
    [&command.to_be_bytes()[..], &words(body)].concat()
}

/// The rest of an answer: `GET_INFO`'s text.
fn rest(control: &mut Control, command: u32, answer: &[u32]) {
    let text = if command == CMD_GET_INFO { answer[2] } else { 0 };
    control.0.read_exact(&mut vec![0; text as usize]).unwrap();
}

fn all(running: &Running, mut send: impl FnMut(&mut Control, &[u8])) {
    let mut control = running.control();
    for (command, body, length, code) in COMMANDS {
        send(&mut control, &message(command, body));
        let answer: Vec<u32> = (0..length).map(|_| control.words::<1>()[0]).collect();
        assert_eq!(answer[0], code, "command {command}");
        rest(&mut control, command, &answer);
    }
}

#[test]
fn every_command_is_answered_whole_and_the_last_one_ends_the_program() {
    let folder = Folder::new("every");
    let mut running = Running::start(&folder, "a", &[]);
    all(&running, |control, message| control.send(message));
    assert!(running.ended().success());
    assert!(!running.control.exists() && !running.data.exists(), "the sockets are gone");
}

#[test]
fn messages_may_come_byte_by_byte() {
    let folder = Folder::new("bytes");
    let mut running = Running::start(&folder, "a", &[]);
    all(&running, |control, message| {
        for byte in message {
            control.send(&[*byte]);
            std::thread::yield_now();
        }
    });
    assert!(running.ended().success());
}

#[test]
fn half_messages_and_garbage_harm_nobody() {
    let folder = Folder::new("half");
    let running = Running::start(&folder, "a", &[]);
    let mut good = running.control();
    good.init();
    let mut open = Vec::new();
    for (command, body, ..) in COMMANDS {
        let message = message(command, body);
        for cut in 1..message.len() {
            // Not those that are whole already: one byte is enough of a locality, and SHUTDOWN would end it.
            if cut < 4 || cut < message.len() && ![CMD_SET_LOCALITY, CMD_RESET_TPMESTABLISHED].contains(&command) {
                running.control().send(&message[..cut]);
            }
        }
        if open.len() < 6 {
            let mut control = running.control();
            control.send(&message[..3]);
            open.push(control);
        }
    }
    assert_eq!(
        good.ask::<2>(CMD_GET_CAPABILITY, &[]),
        [0, 0x1_7fff],
        "beside six clients that stopped inside a message"
    );
    for number in [0, 20, 0xff, 0x1234_5678, u32::MAX] {
        assert_eq!(good.code(number, &[7; 100]), BAD_ORDINAL, "{number}");
    }
    let mut garbage = running.control();
    garbage.send(&[0xa5; 100_000]);
    drop(garbage);
    drop(open);
    startup(&mut running.data());
}

#[test]
fn random_messages_never_end_it() {
    let folder = Folder::new("random");
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    let mut random = tpm_crypto::Drbg::new(&[5; 48], b"messages").unwrap();
    for _ in 0..300 {
        let mut control = running.control();
        for _ in 0..8 {
            let [command, length] = random.bytes();
            let mut body = vec![0; usize::from(length % 24)];
            random.fill(&mut body);
            // Often a type or a length that is nearly right; never SHUTDOWN.
            if let [first, .., last] = &mut body[..] {
                (*first, *last) = (0, *last & 7);
            }
            let command = match u32::from(command % 22) {
                CMD_SHUTDOWN => CMD_STOP,
                // It may wait for a minute, as it is asked to.
                CMD_LOCK_STORAGE => CMD_INIT,
                command => command,
            };
            let _ = control.0.write_all(&[&command.to_be_bytes()[..], &body].concat());
        }
        let mut tpm = running.data();
        let mut garbage = [0; 40];
        random.fill(&mut garbage);
        garbage[2..6].copy_from_slice(&40u32.to_be_bytes());
        let _ = tpm.write_all(&garbage);
    }
    let mut control = running.control();
    assert_eq!(control.code(CMD_STOP, &[]), 0);
    control.init();
    let mut tpm = running.data();
    startup(&mut tpm);
    assert_eq!(transact(&mut tpm, READ_PUBEK, &[0; 20]).0, 0);
}

#[test]
fn a_locality_comes_as_one_byte_or_as_four() {
    let folder = Folder::new("locality");
    let running = Running::start(&folder, "a", &["--locality", "reject-locality-4"]);
    let mut control = running.control();
    control.init();
    let mut tpm = running.data();
    startup(&mut tpm);
    // PCR 21 is extended from locality 2 only.
    let mut extends = |control: &mut Control, bytes: &[&[u8]], expected: u32| {
        for piece in bytes {
            control.send(piece);
        }
        assert_eq!(control.words(), [0], "{bytes:?}");
        let parameters = [&21u32.to_be_bytes()[..], &[1; 20]].concat();
        assert_eq!(transact(&mut tpm, EXTEND, &parameters).0, expected, "{bytes:?}");
    };
    extends(&mut control, &[&[0, 0, 0, 5, 2]], 0);
    extends(&mut control, &[&[0, 0, 0, 5, 1]], BAD_LOCALITY);
    extends(&mut control, &[&[0, 0, 0, 5, 2, 0, 0, 0]], 0);
    extends(&mut control, &[&[0, 0, 0, 5, 3, 0xaa, 0xbb, 0xcc]], BAD_LOCALITY);
    extends(&mut control, &[&[0, 0, 0], &[5], &[2]], 0);
    assert_eq!(control.ask::<2>(CMD_GET_CAPABILITY, &[])[0], 0, "no padding is waited for");
    // Padding that comes after the answer, and then the next command.
    control.send(&[0, 0, 0, 5, 0]);
    assert_eq!(control.words(), [0]);
    control.send(&[0, 0, 0]);
    assert_eq!(control.ask::<2>(CMD_GET_CAPABILITY, &[])[0], 0);
    for locality in [4, 5, 0xff] {
        assert_eq!(control.code(CMD_SET_LOCALITY, &[locality]), BAD_LOCALITY, "{locality}");
    }
}

#[test]
fn a_hash_sequence_of_locality_4() {
    let folder = Folder::new("hash");
    let running = Running::start(&folder, "a", &[]);
    let mut control = running.control();
    control.init();
    assert_eq!(control.code(CMD_HASH_START, &[]), INVALID_POSTINIT);
    let mut tpm = running.data();
    startup(&mut tpm);
    assert_eq!(control.code(CMD_HASH_END, &[]), SHA_THREAD);
    assert_eq!(control.code(CMD_HASH_DATA, &[0; 4]), 0, "nothing is nothing");
    assert_eq!(control.code(CMD_HASH_DATA, &[0, 0, 0, 1, 7]), SHA_THREAD);
    assert_eq!(control.ask::<2>(CMD_GET_TPMESTABLISHED, &[]), [0, 0]);

    // Far more than one read brings.
    let data: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    assert_eq!(control.code(CMD_HASH_START, &[]), 0);
    assert_eq!(control.code(CMD_HASH_DATA, &[&1_000_000u32.to_be_bytes()[..], &data].concat()), 0);
    assert_eq!(control.code(CMD_HASH_DATA, &[0; 4]), 0);
    assert_eq!(control.code(CMD_HASH_END, &[]), 0);
    let sha1 = |parts: &[&[u8]]| tpm_crypto::sha1(parts).to_vec();
    assert_eq!(pcr(&mut tpm, 17), sha1(&[&[0; 20], &sha1(&[&data])]));
    assert_eq!(pcr(&mut tpm, 22), [0; 20]);
    assert_eq!(control.ask::<2>(CMD_GET_TPMESTABLISHED, &[]), [0, 0x0100_0000]);
    assert_eq!(control.code(CMD_RESET_TPMESTABLISHED, &[2]), BAD_LOCALITY);
    assert_eq!(control.code(CMD_RESET_TPMESTABLISHED, &[3]), 0);
    assert_eq!(control.ask::<2>(CMD_GET_TPMESTABLISHED, &[]), [0, 0]);

    // A command's own sequence ends the platform's; data that was announced and never came is nobody's loss.
    assert_eq!(control.code(CMD_HASH_START, &[]), 0);
    assert_eq!(transact(&mut tpm, 0xa0, &[]).0, 0, "TPM_SHA1Start");
    assert_eq!(control.code(CMD_HASH_DATA, &[0, 0, 0, 1, 7]), SHA_THREAD);
    let mut other = running.control();
    other.send(&[0, 0, 0, CMD_HASH_DATA as u8, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    drop(other);
    assert_eq!(control.ask::<2>(CMD_GET_CAPABILITY, &[])[0], 0);
}

#[test]
fn the_command_channel_as_qemu_passes_it() {
    let folder = Folder::new("datafd");
    let mut running = Running::start(&folder, "a", &["--terminate"]);
    let mut control = running.control();
    let pass = |control: &mut Control| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let command = CMD_SET_DATAFD.to_be_bytes();
        sendmsg(&control.0, &[IoSlice::new(&command)], &mut ancillary, SendFlags::empty()).unwrap();
        (ours, control.words::<1>()[0])
    };
    assert_eq!(control.code(CMD_SET_DATAFD, &[]), 3, "without a descriptor");
    let (mut tpm, code) = pass(&mut control);
    assert_eq!(code, 0);
    // QEMU asks before INIT what TPM this is: the tag tells it.
    assert_eq!(transact(&mut tpm, 0xf1, &[]), (FAIL, vec![]));
    let (_, code) = pass(&mut control);
    assert_eq!(code, 31, "there is one already");
    control.init();
    startup(&mut tpm);
    let value = extend(&mut tpm, 5, 1);
    assert_eq!(pcr(&mut tpm, 5), value);
    assert_eq!(
        control.ask::<4>(CMD_SET_BUFFERSIZE, &[0, 0, 0x10, 0]),
        [BAD_ORDINAL, 4096, 4096, 4096],
        "while it runs"
    );
    assert_eq!(control.ask::<4>(CMD_SET_BUFFERSIZE, &[0; 4]), [0, 4096, 4096, 4096]);

    // A reset of the machine.
    assert_eq!(control.code(CMD_STOP, &[]), 0);
    assert_eq!(transact(&mut tpm, PCR_READ, &[0, 0, 0, 5]), (FAIL, vec![]));
    assert_eq!(control.ask::<4>(CMD_SET_BUFFERSIZE, &[0, 0, 0x0c, 0]), [0, 4096, 4096, 4096]);
    control.init();
    startup(&mut tpm);
    assert_eq!(pcr(&mut tpm, 5), [0; 20]);
    drop(tpm);
    assert!(running.ended().success(), "--terminate");
}

#[test]
fn bad_state_blobs_change_nothing() {
    let folder = Folder::new("blobs");
    let running = Running::start(&folder, "a", &[]);
    let mut control = running.control();
    control.init();
    let mut tpm = running.data();
    startup(&mut tpm);
    define(&mut tpm);
    write(&mut tpm, 1);
    let (_, permanent) = control.blob(PERMANENT);
    let (_, volatile) = control.blob(VOLATILE);
    assert_eq!(control.blob(SAVESTATE).1, []);
    assert_eq!(control.put_blob(PERMANENT, &permanent), BAD_ORDINAL, "while it runs");
    write(&mut tpm, 2);
    assert_eq!(control.code(CMD_STOP, &[]), 0);

    for kind in [0, 4, 0xffff, u32::MAX] {
        assert_eq!(control.put_blob(kind, &permanent), 3, "kind {kind}");
        assert_eq!(control.ask::<4>(CMD_GET_STATEBLOB, &words(&[0, kind, 0])), [3, 0, 0, 0]);
    }
    for length in 0..16 {
        assert_eq!(control.put_blob(PERMANENT, &permanent[..length]), 3, "{length} bytes");
    }
    for cut in (16..permanent.len()).step_by(7) {
        assert_eq!(control.put_blob(PERMANENT, &permanent[..cut]), 3, "cut at {cut}");
    }
    for at in 0..40 {
        let mut bad = permanent.clone();
        bad[at] ^= 0x80;
        let code = control.put_blob(PERMANENT, &bad);
        assert_ne!(code, 0, "byte {at}");
    }
    let mut newer = permanent.clone();
    newer[9] = 2;
    assert_eq!(control.put_blob(PERMANENT, &newer), 46, "TPM_BAD_VERSION");
    // The engine's own state inside it: magic, version, level.
    for at in [16 + 9, 16 + 11] {
        let mut newer = permanent.clone();
        newer[at] = 0x7f;
        assert_eq!(control.put_blob(PERMANENT, &newer), 46, "byte {at}");
    }
    assert_eq!(control.put_blob(VOLATILE, &permanent), 3, "of another type");
    assert_eq!(control.put_blob(SAVESTATE, &permanent), 3);
    // swtpm's form.
    assert_eq!(control.put_blob(PERMANENT, &[2, 1, 0, 10, 0, 4, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 3);
    // More than any state has: all of it is read, none of it is kept.
    let huge = vec![7; 600 * 1024];
    assert_eq!(control.put_blob(PERMANENT, &huge), 25);
    // Less than was announced, and the client is gone.
    let mut liar = running.control();
    liar.send(&[&message(CMD_SET_STATEBLOB, &[0, PERMANENT, permanent.len() as u32])[..], &permanent[..99]].concat());
    drop(liar);
    let mut liar = running.control();
    liar.send(&[&message(CMD_SET_STATEBLOB, &[0, PERMANENT, u32::MAX])[..], &permanent].concat());
    drop(liar);
    for offset in [permanent.len() as u32 + 1000, u32::MAX] {
        assert_eq!(control.ask::<4>(CMD_GET_STATEBLOB, &words(&[0, PERMANENT, offset])), [3, 0, 0, 0], "{offset}");
    }
    control.init();
    startup(&mut tpm);
    assert_eq!(read(&mut tpm), 2);

    // In pieces, as a client with a small buffer reads it; and then back to the first state.
    assert_eq!(control.code(CMD_STOP, &[]), 0);
    let [_, _, total, length] = control.ask::<4>(CMD_GET_STATEBLOB, &words(&[0, PERMANENT, 0]));
    let mut whole = vec![0; length as usize];
    control.0.read_exact(&mut whole).unwrap();
    let [_, _, same, part] = control.ask::<4>(CMD_GET_STATEBLOB, &words(&[0, PERMANENT, 100]));
    let mut tail = vec![0; part as usize];
    control.0.read_exact(&mut tail).unwrap();
    assert_eq!((total, same, &whole[100..]), (length, length, &tail[..]));
    assert_eq!(control.put_blob(PERMANENT, &permanent), 0);
    assert_eq!(control.put_blob(VOLATILE, &volatile), 0);
    control.init();
    assert_eq!(read(&mut tpm), 1, "started already, by its volatile state");
}

#[test]
fn a_second_command_client_waits_and_a_dead_one_is_noticed() {
    let folder = Folder::new("two");
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    let mut first = running.data();
    assert_eq!(transact(&mut first, READ_PUBEK, &[0; 20]).0, 0);
    let mut second = running.data();
    second.write_all(&packet(READ_PUBEK, &[0; 20])).unwrap();
    assert_eq!(transact(&mut first, READ_PUBEK, &[0; 20]).0, 0, "the first is still served");
    first.write_all(&packet(READ_PUBEK, &[0; 20])[..11]).unwrap();
    drop(first);
    assert_eq!(answer(&mut second).0, 0);
}

/// A client's program with `--unix`; its output.
fn ioctl(program: &Path, running: &Running, arguments: &[&str]) -> String {
    let output = Command::new(program).arg("--unix").arg(&running.control).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{} (Debian package swtpm-tools): {error}", program.display()));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `swtpm_ioctl` can do, with whichever program of that name.
fn client_program(folder: &Folder, program: &Path) {
    let mut running = Running::start(folder, "a", &[]);
    drop(running.control());
    let ask = |arguments: &[&str]| ioctl(program, &running, arguments);
    let path = |name: &str| folder.join(name).display().to_string();
    assert_eq!(ask(&["-c"]), "ptm capability is 0x17fff\n");
    assert_eq!(ask(&["-g"]), "ptm configuration flags: 0x0\n");
    assert!(ask(&["--info", "1"]).contains(r#""family":"1.2""#));
    assert_eq!(ask(&["-b", "4096"]), "TPM buffersize: 4096\nminimum size  : 4096\nmaximum size  : 4096\n");
    ask(&["-i"]);
    let mut tpm = running.data();
    startup(&mut tpm);
    let value = extend(&mut tpm, 3, 9);
    ask(&["-l", "0"]);
    ask(&["-h", "abcd"]);
    assert_eq!(ask(&["-e"]), "tpmEstablished is 1\n");
    ask(&["-r", "4"]);
    assert_eq!(ask(&["-e"]), "tpmEstablished is 0\n");
    let launched = pcr(&mut tpm, 17);
    assert_eq!(launched, tpm_crypto::sha1(&[&[0; 20], &tpm_crypto::sha1(&[b"abcd"])]));
    ask(&["-C"]);
    ask(&["-v"]);
    for kind in ["permanent", "volatile", "savestate"] {
        ask(&["--save", kind, &path(kind)]);
    }
    ask(&["--stop"]);
    for kind in ["permanent", "volatile"] {
        ask(&["--load", kind, &path(kind)]);
    }
    ask(&["-i"]);
    assert_eq!((pcr(&mut tpm, 3), pcr(&mut tpm, 17)), (value, launched));
    ask(&["-s"]);
    assert!(running.ended().success());
}

#[test]
fn swtpms_own_client() {
    client_program(&Folder::new("ioctl"), Path::new("swtpm_ioctl"));
}

#[test]
fn our_client_under_its_name() {
    let folder = Folder::new("our-ioctl");
    let link = folder.join("swtpm_ioctl");
    symlink(env!("CARGO_BIN_EXE_vtpm-host"), &link).unwrap();
    client_program(&folder, &link);
    for arguments in [&["-c"][..], &["--unix", "/nonexistent", "-c"], &["--unix", "/a"], &["--unix", "/a", "-c", "-i"]]
    {
        let output = Command::new(&link).args(arguments).output().unwrap();
        assert!(!output.status.success() && !output.stderr.is_empty(), "{arguments:?}");
    }
}
