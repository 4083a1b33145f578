//! What the tests of all command groups share.

pub(crate) mod client;

use crate::{Manufacture, Options, StartupType, Tpm12};
use alloc::vec::Vec;
use std::sync::OnceLock;
use tpm_crypto::Drbg;
use tpm_wire::{Engine, Progress, ResponseHeader};

extern crate std;

/// A generator whose output a test can repeat.
pub(crate) fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"tpm12 tests").unwrap()
}

/// Finishes a manufacture.
pub(crate) fn finish(mut manufacture: Manufacture) -> Tpm12 {
    core::iter::repeat_with(|| manufacture.step()).flatten().next().unwrap()
}

/// The state of a TPM that has just been made; one endorsement key serves all tests.
pub(crate) fn fresh_state() -> &'static [u8] {
    static STATE: OnceLock<Vec<u8>> = OnceLock::new();
    STATE.get_or_init(|| finish(Tpm12::manufacture(rng(1), Options::default())).staged().unwrap().to_vec())
}

/// A TPM that is not started.
pub(crate) fn unstarted() -> Tpm12 {
    Tpm12::load(fresh_state(), rng(2), Options { maintenance_commands: true, parent_quotes: true }).unwrap()
}

/// Another owned TPM: same endorsement key, other storage root key and proof.
pub(crate) fn stranger() -> Tpm12 {
    let mut tpm = Tpm12::load(fresh_state(), rng(200), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    client::take_ownership(&mut tpm).unwrap();
    tpm
}

/// A TPM after `TPM_Startup(ST_CLEAR)`.
pub(crate) fn tpm() -> Tpm12 {
    let mut tpm = unstarted();
    tpm.startup(StartupType::Clear).unwrap();
    tpm
}

/// Executes to the end and checks the form of the response.
pub(crate) fn execute(tpm: &mut Tpm12, locality: u8, command: &[u8]) -> Vec<u8> {
    let mut response = Vec::new();
    let mut progress = tpm.execute(locality, command, &mut response);
    while progress == Progress::Working {
        progress = tpm.resume(&mut response);
    }
    let (header, body) = ResponseHeader::parse(&response).unwrap();
    assert!(header.code.get() == 0 || body.is_empty() && header.tag.get() == 0xc4);
    response
}

/// A command without authorization.
pub(crate) fn command(ordinal: u32, parameters: &[&[u8]]) -> Vec<u8> {
    let parameters = parameters.concat();
    let size = 10 + parameters.len() as u32;
    [&0xc1u16.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), &parameters].concat()
}

/// Sends one at a locality: output parameters, or the return code.
pub(crate) fn send_at(tpm: &mut Tpm12, locality: u8, ordinal: u32, parameters: &[&[u8]]) -> Result<Vec<u8>, u32> {
    let response = execute(tpm, locality, &command(ordinal, parameters));
    let (header, body) = ResponseHeader::parse(&response).unwrap();
    if header.code.get() == 0 { Ok(body.to_vec()) } else { Err(header.code.get()) }
}

/// Sends one at locality 0.
pub(crate) fn send(tpm: &mut Tpm12, ordinal: u32, parameters: &[&[u8]]) -> Result<Vec<u8>, u32> {
    send_at(tpm, 0, ordinal, parameters)
}

/// Makes the staged state durable, as an owner does.
pub(crate) fn commit(tpm: &mut Tpm12) -> Option<Vec<u8>> {
    let staged = tpm.staged().map(|state| state.to_vec());
    tpm.committed();
    staged
}

/// A TPM with an owner (`client::OWNER`, `client::SRK_AUTH`), started; one storage root key serves all tests.
pub(crate) fn owned() -> Tpm12 {
    static STATE: OnceLock<Vec<u8>> = OnceLock::new();
    let state = STATE.get_or_init(|| {
        let mut tpm = tpm();
        client::take_ownership(&mut tpm).unwrap();
        commit(&mut tpm).unwrap()
    });
    let mut tpm = Tpm12::load(state, rng(4), Options { maintenance_commands: true, parent_quotes: true }).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    tpm
}

/// Whether the `openssl` program finds a PKCS #1 v1.5 signature over a SHA-1 digest good.
pub(crate) fn openssl_verifies(key: &tpm_crypto::rsa::RsaPublic, digest: &[u8; 20], signature: &[u8]) -> bool {
    use std::{env, fs, process};
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = env::temp_dir().join(alloc::format!("tpm12-openssl-{}-{number}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    // RSAPublicKey in DER inside of a SubjectPublicKeyInfo.
    let tlv = |tag: u8, content: &[u8]| {
        let length = content.len() as u16;
        [&[tag, 0x82][..], &length.to_be_bytes(), content].concat()
    };
    let integers = [tlv(2, &[&[0][..], &key.modulus()].concat()), tlv(2, &[1, 0, 1])].concat();
    let bits = tlv(3, &[&[0][..], &tlv(0x30, &integers)].concat());
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    fs::write(folder.join("key"), tlv(0x30, &[&algorithm[..], &bits].concat())).unwrap();
    fs::write(folder.join("digest"), digest).unwrap();
    fs::write(folder.join("signature"), signature).unwrap();
    let arguments = "pkeyutl -verify -pubin -keyform DER -inkey key -in digest -sigfile signature -pkeyopt digest:sha1";
    let run = process::Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output();
    fs::remove_dir_all(&folder).unwrap();
    run.expect("the openssl program is installed").status.success()
}
