//! What needs no manager: keys, lists, files, completions, and a manager that is not there or talks nonsense.

mod common;

use common::{Folder, key, vtpmctl};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use tpm_crypto::ecc::P256Public;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{sha1, sha256};
use tpm_wire::mgr::{ConfigList, LegacyList, PcrValues, SaaKey};

const GROUP: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn field(path: &std::path::Path, name: &str) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = value[name].as_str().unwrap().to_owned();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn pcrs_file(folder: &Folder, name: &str, bank: &str, size: usize) {
    let pcrs = format!(
        "{{\"0\": \"{}\", \"10\": \"{}\", \"7\": \"{}\"}}",
        "00".repeat(size),
        "10".repeat(size),
        "07".repeat(size)
    );
    let text = format!("{{\"format\": \"vtpm-pcrs\", \"version\": 1, \"bank\": \"{bank}\", \"pcrs\": {pcrs}}}");
    std::fs::write(folder.path(name), text).unwrap();
}

/// The public half of a key of the test data, through a manager's eyes: as `group create` sends it.
fn public_of(name: &str) -> SaaKey {
    let folder = Folder::new();
    let socket = folder.path("manager");
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(&[&[1, 0xc4, 0, 0, 0, 30, 0, 0, 0, 0][..], &[5; 16], &[0, 0, 0, 1]].concat()).unwrap();
        request[..length].to_vec()
    });
    vtpmctl(&["--socket", &folder.arg("manager"), "group", "create", "--key", &key(name)]).done();
    let request = peer.join().unwrap();
    SaaKey::read(&mut tpm_wire::Reader::new(&request[10..])).unwrap().unwrap()
}

#[test]
fn lists_are_signed_with_keys_in_every_form() {
    let folder = Folder::new();
    pcrs_file(&folder, "pcrs", "sha256", 32);
    for name in ["p256.pem", "p256-sec1.pem", "rsa2048.pem", "rsa2048-pkcs1.pem", "rsa3072.pem"] {
        let out = folder.path("update");
        let arguments = [
            "sign",
            "--key",
            &key(name),
            "--group",
            GROUP,
            "--sequence",
            "77",
            "--pcrs",
            &folder.arg("pcrs"),
            "--label",
            "system_u:system_r:domU_t",
            "--kernel",
            "0102030405060708090a0b0c0d0e0f1011121314",
            "--out",
            &folder.arg("update"),
        ];
        vtpmctl(&arguments).done();
        let (list, signature) = (field(&out, "list"), field(&out, "signature"));
        let digest = sha256(&[&list]);
        match public_of(name) {
            SaaKey::Rsa(modulus) => {
                RsaPublic::new(&modulus, 65537).unwrap().verify_pkcs1_sha256(&digest, &signature).unwrap()
            }
            SaaKey::EcdsaP256(point) => {
                let (x, y) = point.split_at(32);
                P256Public::new(x, y).unwrap().verify(&digest, &signature[..32], &signature[32..]).unwrap();
            }
        }
        let list = ConfigList::parse(&list).ok().unwrap();
        assert_eq!((list.sequence, list.group[..2].to_vec()), (77, vec![0, 0x11]));
        let values = vec![vec![0; 32], vec![7; 32], vec![0x10; 32]];
        assert_eq!(list.conditions, [PcrValues { bank: 0xb, mask: 0x481, values }]);
        assert_eq!(list.kernels[0], sha1(&[b"system_u:system_r:domU_t"]));
        assert_eq!((list.kernels[1][0], list.kernels[1][19]), (1, 0x14));
    }
    assert_eq!(public_of("p256.pem"), public_of("p256-public.pem"));
    assert_eq!(public_of("rsa2048.pem"), public_of("rsa2048-public.pem"));
    assert_eq!(public_of("rsa2048.pem"), public_of("rsa2048-pkcs1-public.pem"));
}

#[test]
fn a_list_of_the_c_stacks_form() {
    let folder = Folder::new();
    pcrs_file(&folder, "pcrs", "sha1", 20);
    pcrs_file(&folder, "other", "sha256", 32);
    let sign = |key_file: &str, pcrs: &str| {
        let arguments = [
            "sign",
            "--key",
            &key(key_file),
            "--legacy",
            "--sequence",
            "5",
            "--pcrs",
            &folder.arg(pcrs),
            "--out",
            &folder.arg("update"),
        ];
        vtpmctl(&arguments)
    };
    sign("rsa2048.pem", "pcrs").done();
    let out = folder.path("update");
    let list = LegacyList::parse(&field(&out, "list")).ok().unwrap();
    // A TPM_PCR_COMPOSITE, worked out by hand.
    let composite = sha1(&[&[0, 3, 0x81, 4, 0, 0, 0, 0, 60], &[0; 20], &[7; 20], &[0x10; 20]]);
    assert_eq!((list.sequence, &list.conditions), (5, &vec![(0x481, composite)]));
    let SaaKey::Rsa(modulus) = public_of("rsa2048.pem") else { panic!("an RSA key") };
    let digest = sha1(&[&list.signed_part()]);
    RsaPublic::new(&modulus, 65537).unwrap().verify_pkcs1_sha1(&digest, &field(&out, "signature")).unwrap();
    sign("rsa2048.pem", "other").fails(5, "SHA-1");
    sign("p256.pem", "pcrs").fails(5, "RSA key of 2048 bits");
    sign("rsa3072.pem", "pcrs").fails(5, "RSA key of 2048 bits");
}

#[test]
fn keys_that_cannot_sign_lists() {
    let folder = Folder::new();
    let sign = |path: &str| vtpmctl(&["sign", "--key", path, "--group", GROUP, "--out", &folder.arg("update")]);
    sign(&key("encrypted.pem")).fails(5, "encrypted");
    sign(&key("p256-public.pem")).fails(5, "signing needs the private one");
    for name in ["p384.pem", "ed25519.pem", "rsa-exponent3.pem", "README.md"] {
        sign(&key(name)).fails(5, "NIST P-256");
    }
    sign(&key("nothing.pem")).fails(5, "cannot read");
    let create = |name: &str| vtpmctl(&["--socket", &folder.arg("nobody"), "group", "create", "--key", &key(name)]);
    create("p256.pem").fails(3, "cannot connect");
    // A key in which a number was changed.
    let good = std::fs::read_to_string(key("rsa2048.pem")).unwrap();
    for (at, _) in good.char_indices().filter(|(at, _)| at % 97 == 60) {
        let mut bad = good.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(folder.path("bad"), bad).unwrap();
        let ran = sign(&folder.arg("bad"));
        assert!([0, 5].contains(&ran.code), "byte {at}: {}", ran.err);
    }
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    let sign = |text: &str| {
        std::fs::write(folder.path("pcrs"), text).unwrap();
        let pcrs = folder.arg("pcrs");
        vtpmctl(&["sign", "--key", &key("p256.pem"), "--group", GROUP, "--pcrs", &pcrs, "--out", &folder.arg("update")])
    };
    let with = |format: &str, version: &str, bank: &str, pcrs: &str| {
        format!("{{\"format\": \"{format}\", \"version\": {version}, \"bank\": \"{bank}\", \"pcrs\": {pcrs}}}")
    };
    let value = "00".repeat(32);
    sign(&with("vtpm-pcrs", "1", "sha256", &format!("{{\"0\": \"{value}\"}}"))).done();
    for (text, says) in [
        (String::new(), "not a JSON object"),
        ("[]".into(), "not a JSON object"),
        ("{}".into(), "\"format\""),
        (with("vtpm-quote", "1", "sha256", "{}"), "vtpm-pcrs is wanted"),
        (with("vtpm-pcrs", "2", "sha256", "{}"), "\"version\""),
        (with("vtpm-pcrs", "1", "md5", "{}"), "\"bank\""),
        (with("vtpm-pcrs", "1", "sha1", &format!("{{\"0\": \"{value}\"}}")), "as long as"),
        (with("vtpm-pcrs", "1", "sha256", "{\"24\": \"00\"}"), "\"pcrs\""),
        (with("vtpm-pcrs", "1", "sha256", "{\"0\": 5}"), "strings"),
        (with("vtpm-pcrs", "1", "sha256", "[]"), "\"pcrs\""),
        ("x".repeat((1 << 20) + 1), "too long"),
    ] {
        sign(&text).fails(5, says);
    }
    let many = vec![folder.arg("pcrs"); 9];
    std::fs::write(folder.path("pcrs"), with("vtpm-pcrs", "1", "sha256", "{}")).unwrap();
    let mut arguments = vec![
        "sign".to_owned(),
        "--key".into(),
        key("p256.pem"),
        "--group".into(),
        GROUP.into(),
        "--out".into(),
        folder.arg("u"),
    ];
    many.iter().for_each(|path| arguments.extend(["--pcrs".to_owned(), path.clone()]));
    vtpmctl(&arguments).fails(5, "at most 8 sets of PCRs");
}

/// What the program says to a manager (or TPM) that answers with these bytes, one after another, and what it asked.
fn conversation(answers: &[Vec<u8>], arguments: &[&str]) -> (common::Ran, Vec<Vec<u8>>) {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path("manager")).unwrap();
    let answers = answers.to_vec();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = Vec::new();
        for answer in answers {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            request.truncate(length);
            requests.push(request);
            let _ = stream.write_all(&answer);
        }
        requests
    });
    let ran = vtpmctl(&[&["--socket", &folder.arg("manager")], arguments].concat());
    (ran, peer.join().unwrap())
}

fn told(answer: &[u8], arguments: &[&str]) -> common::Ran {
    conversation(&[answer.to_vec()], arguments).0
}

/// A response of success.
fn success(tag: u16, body: &[u8]) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &(10 + body.len() as u32).to_be_bytes(), &[0; 4], body].concat()
}

#[test]
fn a_list_longer_than_a_packet() {
    let entry = |number: u8| [&[number; 16][..], &[0, 0, 0, 0, 0, 0, 0, 2]].concat();
    let page = |numbers: &[u8]| {
        let entries: Vec<u8> = numbers.iter().flat_map(|number| entry(*number)).collect();
        success(0x1c4, &[&[0, 0, 0, 3][..], &entries].concat())
    };
    let (ran, requests) = conversation(&[page(&[1, 2]), page(&[3])], &["list", "--json"]);
    let list = ran.json();
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(list[2]["uuid"], "03030303-0303-0303-0303-030303030303");
    assert_eq!((&requests[0][14..], &requests[1][14..]), (&[0, 0, 0, 0][..], &[0, 0, 0, 2][..]), "offsets");
    // One that was deleted meanwhile.
    assert_eq!(conversation(&[page(&[1, 2]), page(&[])], &["list", "--json"]).0.json().as_array().unwrap().len(), 2);
}

#[test]
fn a_tpm_whose_answer_is_not_authentic() {
    let session = success(0xc4, &[&[2, 0, 0, 1][..], &[9; 20]].concat());
    let pcr = |value: u8| success(0xc4, &[value; 20]);
    let quote = |trailer: &[u8]| success(0xc5, &[b"a quote", trailer].concat());
    let ask = ["guest", "deep-quote", "--own", "3"];
    let forged = [&[1; 20][..], &[0], &[2; 20]].concat();
    for trailer in [&forged[..], &forged[..40], &[]] {
        let (ran, requests) = conversation(&[pcr(5), session.clone(), quote(trailer)], &ask);
        ran.fails(1, "TPM_DeepQuote: the answer is malformed");
        // Ordinal, nonce, own selection, the chip's, flags, and the session's 45 bytes.
        assert_eq!((requests[2].len(), &requests[2][6..10]), (10 + 20 + 5 + 5 + 4 + 45, &[0x20, 0, 0, 0x16][..]));
        assert_eq!(requests[2][30..44], [0, 3, 8, 0, 0, 0, 3, 0xff, 0, 0, 0, 0, 0, 1]);
    }
}

#[test]
fn answers_that_are_refusals_or_nonsense() {
    let code = |tag: u16, code: u32| [&tag.to_be_bytes()[..], &[0, 0, 0, 10], &code.to_be_bytes()].concat();
    let ok = |body: &[u8]| success(0x1c4, body);
    for (refusal, says) in [
        (code(0x1c5, 1), "admin_uuid="),
        (code(0x1c4, 1), "not authorized"),
        (code(0x1c4, 2), "no group with this number"),
        (code(0x1c4, 9), "console says why"),
        (code(0xc4, 30), "this TPM is no manager"),
        (code(0x1c4, 0x800), "try again"),
        (code(0x1c4, 4711), "refused (code 4711)"),
        (code(0x1c6, 1), "malformed"),
    ] {
        told(&refusal, &["group", "show", "0"]).fails(1, says);
    }
    told(b"", &["status"]).fails(3, "no answer");
    told(&[1, 0xc4, 0, 0, 0, 9, 0, 0, 0, 0], &["status"]).fails(3, "9 bytes");
    told(&[1, 0xc4, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], &["status"]).fails(3, "bytes");
    for arguments in [
        &["status"][..],
        &["list"],
        &["show", GROUP],
        &["add"],
        &["group", "list"],
        &["group", "show", "0"],
        &["group", "create"],
        &["group", "keys", "0"],
        &["group", "delete", "0"],
        &["pcrs"],
        &["recovery-code"],
    ] {
        told(&ok(b"\x01"), arguments).fails(1, "malformed");
    }
    // PCRs that were not asked for.
    let pcr = [&[0, 4, 0, 0, 0, 2][..], &[9; 20]].concat();
    told(&ok(&pcr), &["pcrs", "--pcrs", "0"]).fails(1, "malformed");
    assert!(told(&ok(&pcr), &["pcrs", "--pcrs", "1"]).done().contains(&"09".repeat(20)));
}

#[test]
fn completions_for_every_shell_and_a_wrong_command_line() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = vtpmctl(&["completions", shell]).done();
        assert!(script.contains("recovery-code") && script.contains("deep-quote"), "{shell}");
    }
    for wrong in [&[][..], &["nothing"], &["show", "x"], &["quote", "--pcrs", "24"], &["verify", "quote", "f"]] {
        assert_eq!(vtpmctl(wrong).code, 2, "{wrong:?}");
    }
    vtpmctl(&["--device", "/nonexistent/tpm0", "status"]).fails(3, "xl vtpm-attach");
    assert!(vtpmctl(&["--help"]).done().contains("Exit codes"));
}
