//! The program as a plain server of commands: restarts, folders that are not as they should be, clients that break off.

mod common;

use common::*;
use std::io::Write;

const SERVE: [&str; 2] = ["--flags", "not-need-init,startup-clear"];

#[test]
fn what_was_acknowledged_is_there_after_the_program_was_killed() {
    let folder = Folder::new("killed");
    let pubek = {
        let running = Running::start(&folder, "a", &SERVE);
        let mut tpm = running.data();
        define(&mut tpm);
        write(&mut tpm, 0x6b65_6570);
        transact(&mut tpm, READ_PUBEK, &[7; 20])
    };
    assert_eq!(pubek.0, 0);
    let running = Running::start(&folder, "a", &SERVE);
    let mut tpm = running.data();
    assert_eq!(read(&mut tpm), 0x6b65_6570);
    assert_eq!(transact(&mut tpm, READ_PUBEK, &[7; 20]), pubek, "the endorsement key is the same");
}

#[test]
fn a_lost_key_is_refused_and_nothing_changes() {
    let folder = Folder::new("refused");
    let running = Running::start(&folder, "a", &SERVE);
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
    drop(running);
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
        let text = refusal(program(&folder, "a", &SERVE));
        assert!(text.contains(message), "{message}: {text}");
        assert_eq!(std::fs::read(&vault).unwrap(), before, "{message}");
    }
}

#[test]
fn a_client_that_breaks_off_harms_nobody() {
    let folder = Folder::new("breaks-off");
    let running = Running::start(&folder, "a", &SERVE);
    for garbage in [&[0u8, 0xc1, 0, 0][..], &[0xff; 64], &[0, 0xc1, 0, 0, 0, 9, 0, 0, 0, 0x50]] {
        running.data().write_all(garbage).unwrap();
    }
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
}

#[test]
fn maintenance_commands_exist_where_they_are_asked_for() {
    const READ_MANU_MAINT_PUB: u32 = 0x30;
    let folder = Folder::new("maintenance");
    // TPM_BAD_ORDINAL; TPM_KEYNOTFOUND, as no maker's key is loaded.
    for (option, code) in [(None, 10), (Some("--maintcmds"), 13)] {
        let options: Vec<&str> = SERVE.into_iter().chain(option).collect();
        let running = Running::start(&folder, "a", &options);
        assert_eq!(transact(&mut running.data(), READ_MANU_MAINT_PUB, &[7; 20]).0, code, "{option:?}");
    }
}
