//! State over restarts, power cuts, full disks, wrong keys, and from one host to another.

mod common;

use common::*;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const SERVE: [&str; 2] = ["--flags", "not-need-init,startup-clear"];

#[test]
fn a_power_cut_at_any_moment_keeps_what_was_acknowledged() {
    let folder = Folder::new("cuts");
    {
        let running = Running::start(&folder, "a", &SERVE);
        let mut tpm = running.data();
        define(&mut tpm);
        write(&mut tpm, 0);
    }
    let mut last = 0;
    // Moments that differ from round to round, and are the same in each run.
    let mut random = tpm_crypto::Drbg::new(&[3; 48], b"moments").unwrap();
    for round in 0..12 {
        let running = Running::start(&folder, "a", &SERVE);
        let mut tpm = running.data();
        let found = read(&mut tpm);
        assert!((last..=last + 1).contains(&found), "round {round}: {found} after {last} was acknowledged");
        last = found;
        let [count, pause] = random.bytes();
        // A TPM without an owner takes 64 writes in all.
        for _ in 0..count % 5 {
            write(&mut tpm, last + 1);
            last += 1;
        }
        // One more is under way when the power goes.
        use std::io::Write;
        let next = [&0x0001_0001u32.to_be_bytes()[..], &[0; 4], &[0, 0, 0, 4], &(last + 1).to_be_bytes()].concat();
        tpm.write_all(&packet(0xcd, &next)).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(pause) * 4));
        running.kill();
    }
}

#[test]
fn stored_volatile_state_comes_back_once_and_never_stale() {
    let folder = Folder::new("volatile");
    let running = Running::start(&folder, "a", &[]);
    let (mut control, mut tpm) = (running.control(), running.data());
    control.init();
    startup(&mut tpm);
    let value = extend(&mut tpm, 4, 1);
    assert_eq!(control.code(CMD_STORE_VOLATILE, &[]), 0);
    running.kill();

    let running = Running::start(&folder, "a", &[]);
    let (mut control, mut tpm) = (running.control(), running.data());
    control.init();
    assert_eq!(transact(&mut tpm, STARTUP, &[0, 1]).0, 38, "it goes on where it was");
    assert_eq!(pcr(&mut tpm, 4), value);
    extend(&mut tpm, 4, 2);
    running.kill();

    // A state from before the second extend must not come back after it.
    let running = Running::start(&folder, "a", &[]);
    let (mut control, mut tpm) = (running.control(), running.data());
    control.init();
    startup(&mut tpm);
    assert_eq!(pcr(&mut tpm, 4), [0; 20]);
    extend(&mut tpm, 4, 1);
    assert_eq!(control.code(CMD_STORE_VOLATILE, &[]), 0);
    assert_eq!(control.code(CMD_STOP, &[]), 0);
    assert_eq!(control.code(CMD_INIT, &[0, 0, 0, 1]), 0, "with PTM_INIT_FLAG_DELETE_VOLATILE");
    assert_eq!(pcr(&mut tpm, 4), value);
    assert_eq!(control.code(CMD_STOP, &[]), 0);
    control.init();
    startup(&mut tpm);
    assert_eq!(pcr(&mut tpm, 4), [0; 20]);
}

#[test]
fn stored_volatile_state_is_used_up_when_it_is_asked_for() {
    let folder = Folder::new("used-up");
    let running = Running::start(&folder, "a", &[]);
    let (mut control, mut tpm) = (running.control(), running.data());
    control.init();
    startup(&mut tpm);
    assert_eq!(control.code(CMD_STORE_VOLATILE, &[]), 0);
    running.kill();
    // Two starts after which no command comes: the first leaves it, the second, with the flag, does not.
    for (flags, left) in [(0, true), (1, false)] {
        let running = Running::start(&folder, "a", &[]);
        assert_eq!(running.control().code(CMD_INIT, &words(&[flags])), 0);
        running.kill();
        let option = format!("dir={}", folder.state().display());
        let states = vtpm_host().args(["socket", "--print-states", "--tpmstate", &option]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&states.stdout).contains("volatile"), left, "flags {flags}");
    }
}

#[test]
fn sigterm_ends_it_cleanly_and_the_machine_starts_anew() {
    let folder = Folder::new("sigterm");
    let pid = folder.join("pid");
    let option = format!("file={}", pid.display());
    let mut running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear", "--pid", &option]);
    let mut tpm = running.data();
    define(&mut tpm);
    write(&mut tpm, 77);
    extend(&mut tpm, 1, 1);
    assert_eq!(std::fs::read_to_string(&pid).unwrap().trim(), running.child.id().to_string());
    let status = Command::new("kill").args(["-TERM", &running.child.id().to_string()]).status().unwrap();
    assert!(status.success() && running.ended().success());
    assert!(!pid.exists() && !running.control.exists() && !running.data.exists());
    let running = Running::start(&folder, "a", &SERVE);
    let mut tpm = running.data();
    assert_eq!((read(&mut tpm), pcr(&mut tpm, 1)), (77, vec![0; 20]));
}

#[test]
fn in_the_background() {
    let folder = Folder::new("daemon");
    let pid = folder.join("pid");
    let option = format!("file={}", pid.display());
    let mut options = vec!["--daemon", "--pid", &option];
    options.extend(SERVE);
    let mut command = program(&folder, "a", &options);
    assert!(command.stderr(Stdio::null()).status().unwrap().success());
    let number = until("the pid file", || std::fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n')));
    let mut tpm = connect(&folder.join("a.data"));
    define(&mut tpm);
    assert!(Command::new("kill").args(["-TERM", number.trim()]).status().unwrap().success());
    until("its end", || (!pid.exists()).then_some(()));
    drop(tpm);
    let running = Running::start(&folder, "a", &SERVE);
    write(&mut running.data(), 1);
}

/// A program that may make no file larger than `blocks` times 512 bytes, as on a disk that is full.
fn on_a_full_disk(folder: &Folder, blocks: u32) -> Command {
    let inner = program(folder, "a", &SERVE);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh").arg(inner.get_program());
    command.args(inner.get_args()).stdout(Stdio::null());
    command
}

#[test]
fn a_full_disk() {
    let folder = Folder::new("full");
    assert!(refusal(on_a_full_disk(&folder, 100)).contains("no room"));
    {
        let running = Running::start(&folder, "a", &SERVE);
        let mut tpm = running.data();
        define(&mut tpm);
        write(&mut tpm, 5);
    }
    {
        let running = Running::spawn(&folder, "a", on_a_full_disk(&folder, 20));
        let mut tpm = running.data();
        assert_eq!(read(&mut tpm), 5);
        let mut codes: Vec<u32> = (6..10).map(|value| try_write(&mut tpm, value)).collect();
        codes.dedup();
        // The slots take turns, so some may still fit.
        assert!(codes.contains(&9), "TPM_FAIL: {codes:?}");
        let value = extend(&mut tpm, 1, 1);
        assert_eq!(pcr(&mut tpm, 1), value, "what needs no room goes on");
    }
    let running = Running::start(&folder, "a", &SERVE);
    let mut tpm = running.data();
    assert!(read(&mut tpm) >= 5);
    write(&mut tpm, 11);
    assert_eq!(read(&mut tpm), 11);
}

#[test]
fn one_folder_has_one_server_and_no_symbolic_links() {
    let folder = Folder::new("locked");
    let running = Running::start(&folder, "a", &SERVE);
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
    assert!(refusal(program(&folder, "b", &SERVE)).contains("another vtpm-host uses the state folder"));
    assert!(!folder.join("b.ctrl").exists() && !folder.join("b.data").exists(), "it leaves nothing behind");
    drop(running);

    for name in ["tpm.vault", "vault.key", "lock"] {
        let other = folder.join(&format!("other-{name}"));
        std::fs::create_dir(&other).unwrap();
        let (real, link) = (folder.state().join(name), other.join(name));
        symlink(real, &link).unwrap();
        let option = format!("dir={}", other.display());
        let text = refusal(program(&folder, "c", &["--tpmstate", &option, "--flags", "not-need-init"]));
        assert!(text.contains("cannot open") && text.contains(name), "{text}");
    }
    let log = folder.join("log");
    symlink(folder.join("elsewhere"), &log).unwrap();
    let option = format!("file={}", log.display());
    assert!(refusal(program(&folder, "d", &["--log", &option])).contains("cannot open the log file"));
}

#[test]
fn state_in_one_file() {
    let folder = Folder::new("file");
    let option = format!("backend-uri=file://{}", folder.join("tpm").display());
    let options = ["--tpmstate", &option, "--flags", "not-need-init,startup-clear"];
    {
        let running = Running::start(&folder, "a", &options);
        let mut tpm = running.data();
        define(&mut tpm);
        write(&mut tpm, 3);
        assert!(refusal(program(&folder, "b", &options)).contains("another vtpm-host uses the state file"));
    }
    assert_eq!(read(&mut Running::start(&folder, "a", &options).data()), 3);
    let states = vtpm_host().args(["socket", "--print-states", "--tpmstate", &option]).output().unwrap();
    assert!(String::from_utf8_lossy(&states.stdout).contains(r#""name": "permall""#), "{states:?}");
}

#[test]
fn state_under_a_key() {
    let folder = Folder::new("key");
    let key = folder.join("key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff").unwrap();
    let right = format!("file={}", key.display());
    let other = folder.join("passphrase");
    std::fs::write(&other, "wrong").unwrap();
    let wrong = format!("pwdfile={}", other.display());
    let with = |key| ["--flags", "not-need-init,startup-clear", "--key", key];
    {
        let running = Running::start(&folder, "a", &with(&right));
        let mut tpm = running.data();
        define(&mut tpm);
        write(&mut tpm, 8);
        assert_eq!(running.control().ask::<2>(CMD_GET_CONFIG, &[]), [0, 1]);
    }
    assert!(!folder.state().join("vault.key").exists());
    let before = std::fs::read(folder.state().join("tpm.vault")).unwrap();
    assert!(refusal(program(&folder, "a", &with(&wrong))).contains("key"));
    assert!(refusal(program(&folder, "a", &SERVE)).contains("give the --key"));
    assert_eq!(std::fs::read(folder.state().join("tpm.vault")).unwrap(), before);
    assert_eq!(read(&mut Running::start(&folder, "a", &with(&right)).data()), 8);
    // The other way round: a state that was made without.
    let folder = Folder::new("no-key");
    assert_eq!(transact(&mut Running::start(&folder, "a", &SERVE).data(), READ_PUBEK, &[0; 20]).0, 0);
    assert!(refusal(program(&folder, "b", &with(&right))).contains("start it without --key"));
}

/// Moves everything from one control client to another; the first return code that is not 0.
fn migrate(source: &mut Control, destination: &mut Control) -> u32 {
    let blobs = [PERMANENT, VOLATILE, SAVESTATE].map(|kind| (kind, source.blob(kind).1));
    assert_eq!(destination.code(CMD_STOP, &[]), 0);
    for (kind, blob) in blobs.iter().filter(|(_, blob)| !blob.is_empty()) {
        let code = destination.put_blob(*kind, blob);
        if code != 0 {
            return code;
        }
    }
    destination.code(CMD_INIT, &[0, 0, 0, 1])
}

#[test]
fn from_one_host_to_another() {
    let folder = Folder::new("migration");
    let files = ["ours", "theirs"].map(|name| {
        let path = folder.join(name);
        std::fs::write(&path, name).unwrap();
        format!("pwdfile={}", path.display())
    });
    let state = |name: &str| format!("dir={}", folder.join(name).display());
    let places = ["source", "good", "wrong", "plain"].map(state);
    let start = |at: usize, name: &str, key: Option<&str>| {
        let mut options = vec!["--tpmstate", &places[at]];
        options.extend(key.map(|key| ["--migration-key", key]).into_iter().flatten());
        Running::start(&folder, name, &options)
    };
    let source = start(0, "source", Some(&files[0]));
    let (mut control, mut tpm) = (source.control(), source.data());
    control.init();
    startup(&mut tpm);
    define(&mut tpm);
    write(&mut tpm, 0x5ec4_e700);
    let value = extend(&mut tpm, 7, 7);
    let (flags, blob) = control.blob(PERMANENT);
    assert_eq!(flags, 2, "PTM_STATE_FLAG_ENCRYPTED");
    assert!(!blob.windows(4).any(|bytes| bytes == [0x5e, 0xc4, 0xe7, 0]), "sealed");

    for (at, name, key, code) in [(2, "wrong", Some(&files[1]), 33), (3, "plain", None, 13)] {
        let destination = start(at, name, key.map(String::as_str));
        assert_eq!(migrate(&mut control, &mut destination.control()), code, "{name}");
        assert_eq!(pcr(&mut tpm, 7), value, "the source goes on");
    }
    let destination = start(1, "good", Some(&files[0]));
    assert_eq!(migrate(&mut control, &mut destination.control()), 0);
    let mut there = destination.data();
    assert_eq!((pcr(&mut there, 7), read(&mut there)), (value, 0x5ec4_e700));
    write(&mut there, 2);
    drop(source);
    // What came in is durable, and its volatile part was used up.
    destination.kill();
    let destination = start(1, "good", Some(&files[0]));
    destination.control().init();
    let mut there = destination.data();
    startup(&mut there);
    assert_eq!((pcr(&mut there, 7), read(&mut there)), (vec![0; 20], 2));
}

#[test]
fn shared_storage_changes_hands() {
    let folder = Folder::new("shared");
    let source = Running::start(&folder, "a", &["--migration", "release-lock-outgoing"]);
    let (mut control, mut tpm) = (source.control(), source.data());
    control.init();
    startup(&mut tpm);
    define(&mut tpm);
    write(&mut tpm, 1);
    let value = extend(&mut tpm, 2, 2);
    let destination = Running::start(&folder, "b", &["--migration", "incoming,release-lock-outgoing"]);
    let mut there = destination.control();
    let permanent = control.blob(PERMANENT).1;
    assert_eq!(there.put_blob(PERMANENT, &permanent), 9, "the source has the lock");
    assert_eq!(there.code(CMD_LOCK_STORAGE, &words(&[3])), 9);
    write(&mut tpm, 2);

    // The migration fails after all state went out: the source takes the lock back and goes on.
    control.blob(SAVESTATE);
    assert_eq!(try_write(&mut tpm, 3), 9, "nothing is executed without the lock");
    assert_eq!(control.code(CMD_LOCK_STORAGE, &words(&[300])), 0);
    write(&mut tpm, 3);
    assert_eq!(pcr(&mut tpm, 2), value);

    assert_eq!(migrate(&mut control, &mut there), 0);
    let mut moved = destination.data();
    assert_eq!((read(&mut moved), pcr(&mut moved, 2)), (3, value));
    write(&mut moved, 4);
    assert_eq!(control.code(CMD_LOCK_STORAGE, &words(&[1])), 9, "it is the other one's now");

    // And back, as a state that has changed: what the first one has in memory is older.
    there.blob(SAVESTATE);
    assert_eq!(control.code(CMD_LOCK_STORAGE, &words(&[300])), 0);
    assert_eq!(transact(&mut tpm, PCR_READ, &[0, 0, 0, 2]).0, 9, "stopped");
    control.init();
    startup(&mut tpm);
    assert_eq!(read(&mut tpm), 4);
}

#[test]
fn what_it_can_do() {
    let output = vtpm_host().args(["socket", "--print-capabilities"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(r#""type": "swtpm""#) && text.contains("tpm-1.2"), "{text}");
    let folder = Folder::new("nothing");
    let option = format!("dir={}", folder.state().display());
    let output = vtpm_host().args(["socket", "--print-states", "--tpmstate", &option]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""states": [  ]"#), "{output:?}");
    assert!(!Path::new(&folder.state()).exists(), "asking makes nothing");
    assert!(refusal(program(&folder, "a", &["--tpm2"])).contains("TPM 2.0"));
}

#[test]
fn only_listed_system_calls_are_made() {
    let folder = Folder::new("seccomp");
    let mode = |options: &[&str]| {
        let running = Running::start(&folder, "a", &[&SERVE[..], options].concat());
        write_area_once(&running);
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("Seccomp:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(mode(&[]), "2");
    assert_eq!(mode(&["--seccomp", "action=log"]), "2");
    assert_eq!(mode(&["--seccomp", "action=none"]), "0");
}

/// Something that only a program that serves can do.
fn write_area_once(running: &Running) {
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
}
