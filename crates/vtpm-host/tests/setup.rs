//! The factory.

mod common;

use common::*;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const NV_READ_VALUE: u32 = 0xcf;
const GET_CAPABILITY: u32 = 0x65;
const EK_CERTIFICATE: u32 = 0x1000_f000;
const PLATFORM_CERTIFICATE: u32 = 0x1000_f002;

fn setup(folder: &Folder, options: &[&str]) -> Output {
    vtpm_host()
        .args(["setup", "--tpm-state"])
        .arg(folder.state())
        .arg("--localca")
        .arg(folder.join("ca"))
        .args(options)
        .output()
        .unwrap()
}

fn made(folder: &Folder, options: &[&str]) {
    let output = setup(folder, options);
    assert!(output.status.success(), "{output:?}");
}

/// The certificate in an NV area, without what the PC Client specification puts before it.
fn stored(tpm: &mut std::os::unix::net::UnixStream, index: u32) -> Vec<u8> {
    let part = |tpm: &mut _, offset: u32, size: u32| {
        let (code, body) = transact(tpm, NV_READ_VALUE, &words(&[index, offset, size]));
        assert_eq!(code, 0, "TPM_NV_ReadValue");
        body[4..].to_vec()
    };
    let header = part(tpm, 0, 7);
    assert_eq!((&header[..3], &header[5..]), (&[0x10, 1, 0][..], &[0x10, 2][..]));
    let size = u32::from(u16::from_be_bytes([header[3], header[4]])) - 2;
    part(tpm, 7, size)
}

/// OpenSSL's words about a certificate, and that the authority's signature under it is right.
fn verified(folder: &Folder, certificate: &[u8]) -> String {
    let der = folder.join("certificate.der");
    std::fs::write(&der, certificate).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().expect("openssl (Debian package openssl)");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (der, pem) = (der.to_str().unwrap(), folder.join("certificate.pem"));
    let pem = pem.to_str().unwrap();
    openssl(&["x509", "-inform", "der", "-in", der, "-out", pem]);
    let authority = folder.join("ca").join("issuercert.pem");
    openssl(&["verify", "-ignore_critical", "-CAfile", authority.to_str().unwrap(), pem]);
    openssl(&["x509", "-in", pem, "-noout", "-text"])
}

#[test]
fn certificates_are_in_the_tpm_and_hold() {
    let folder = Folder::new("certificates");
    let files = folder.0.to_str().unwrap();
    made(&folder, &["--create-ek-cert", "--create-platform-cert", "--vmid", "guest:7", "--write-ek-cert-files", files]);
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    let mut tpm = running.data();
    let endorsement = stored(&mut tpm, EK_CERTIFICATE);
    assert_eq!(std::fs::read(folder.join("ek-rsa2048.crt")).unwrap(), endorsement);
    let text = verified(&folder, &endorsement);
    for part in ["CN = guest:7", "2.23.133.8.1", "2.23.133.2.2=vtpm-host", "CA:FALSE", "Key Encipherment"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, pubek) = transact(&mut tpm, READ_PUBEK, &[0; 20]);
    assert_eq!(code, 0);
    let modulus = &pubek[pubek.len() - 276..pubek.len() - 20];
    assert!(endorsement.windows(256).any(|bytes| bytes == modulus), "it is about this TPM's key");
    let platform = verified(&folder, &stored(&mut tpm, PLATFORM_CERTIFICATE));
    assert!(platform.contains("2.23.133.8.2"), "{platform}");

    // The authority is the same for the next TPM, and no two certificates are.
    let key = std::fs::read(folder.join("ca").join("signkey.pem")).unwrap();
    drop(running);
    made(&folder, &["--overwrite", "--create-ek-cert"]);
    assert_eq!(std::fs::read(folder.join("ca").join("signkey.pem")).unwrap(), key);
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    let other = stored(&mut running.data(), EK_CERTIFICATE);
    assert_ne!(other, endorsement);
    verified(&folder, &other);
}

#[test]
fn an_owner_and_a_lock() {
    let folder = Folder::new("owner");
    made(&folder, &["--take-ownership", "--owner-well-known", "--srkpass", "s", "--create-ek-cert", "--lock-nvram"]);
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    let mut tpm = running.data();
    // TPM_CAP_PROPERTY, TPM_CAP_PROP_OWNER.
    assert_eq!(transact(&mut tpm, GET_CAPABILITY, &words(&[5, 4, 0x111])), (0, vec![0, 0, 0, 1, 1]));
    assert_eq!(transact(&mut tpm, NV_READ_VALUE, &words(&[EK_CERTIFICATE, 0, 4])).0, 59, "the owner's alone");
}

#[test]
fn a_tpm_that_is_there_stays_unless_it_is_to_go() {
    let folder = Folder::new("again");
    made(&folder, &[]);
    let vault = || std::fs::read(folder.state().join("tpm.vault")).unwrap();
    let before = vault();
    let output = setup(&folder, &[]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--overwrite"), "{output:?}");
    made(&folder, &["--not-overwrite", "--take-ownership"]);
    assert_eq!(vault(), before);
    made(&folder, &["--overwrite"]);
    assert_ne!(vault(), before);
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear"]);
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
    assert!(!setup(&folder, &["--overwrite"]).status.success(), "it is in use");
}

#[test]
fn what_was_not_finished_is_not_left() {
    let folder = Folder::new("unfinished");
    std::fs::write(folder.join("ca"), "a file, and no folder").unwrap();
    let output = setup(&folder, &["--create-ek-cert"]);
    assert!(!output.status.success(), "{output:?}");
    assert!(!folder.state().join("tpm.vault").exists() && !folder.state().join("vault.key").exists());
    std::fs::remove_file(folder.join("ca")).unwrap();
    std::fs::create_dir(folder.join("ca")).unwrap();
    std::fs::write(folder.join("ca").join("signkey.pem"), "garbage").unwrap();
    let output = setup(&folder, &["--create-ek-cert"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no P-256 key"), "{output:?}");
    assert!(!setup(&folder, &["--tpm2"]).status.success());
}

#[test]
fn as_libvirt_calls_it() {
    let folder = Folder::new("libvirt");
    let (link, log, password) = (folder.join("swtpm_setup"), folder.join("log"), folder.join("password"));
    symlink(env!("CARGO_BIN_EXE_vtpm-host"), &link).unwrap();
    std::fs::write(&password, "secret").unwrap();
    let call = |link: &Path| {
        Command::new(link)
            .arg("--tpm-state")
            .arg(folder.state())
            .args(["--vmid", "guest:00000000-0000-0000-0000-000000000001", "--cipher", "aes-256-cbc", "--pwdfile"])
            .arg(&password)
            .arg("--logfile")
            .arg(&log)
            .args(["--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite"])
            .env("VTPM_HOST_LOCALCA", folder.join("ca"))
            .status()
            .unwrap()
    };
    assert!(call(&link).success() && call(&link).success());
    assert!(std::fs::read_to_string(&log).unwrap().contains("made a TPM 1.2"));
    let key = format!("pwdfile={},mode=aes-256-cbc", password.display());
    let running = Running::start(&folder, "a", &["--flags", "not-need-init,startup-clear", "--key", &key]);
    assert_eq!(transact(&mut running.data(), READ_PUBEK, &[0; 20]).0, 0);
    let output = Command::new(&link).arg("--print-capabilities").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("swtpm_setup"));
}
