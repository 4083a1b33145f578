//! The program against a real manager with a chip of either version, and a vTPM behind it.

mod common;

use common::chip::Version;
use common::world::{GUEST_UUID, World};
use common::{key, vtpmctl};
use serde_json::Value;

const ADMIN_UUID: &str = "adadadad-adad-adad-adad-adadadadadad";
const NONCE: &str = "000102030405060708090a0b0c0d0e0f10111213";
const OTHER_NONCE: &str = "ff0102030405060708090a0b0c0d0e0f10111213";

fn on_both(test: impl Fn(World)) {
    [Version::V12, Version::V20].into_iter().for_each(|version| test(World::new(version)));
}

#[test]
fn vtpms_come_move_and_go() {
    on_both(|world| {
        let status = world.admin(&["status", "--json"]).json();
        let tpm = if world.version == Version::V12 { "1.2" } else { "2.0" };
        assert_eq!((&status["chip"]["tpm"], &status["chip"]["answers"]), (&Value::from(tpm), &Value::from(true)));
        assert_eq!((&status["groups"], &status["rollback"]["mode"]), (&Value::from(1), &Value::from("periodic")));
        let text = world.admin(&["status"]).done();
        assert!(text.contains(&format!("TPM {tpm}")) && text.contains("labels checked  no"), "{text}");

        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(world.admin(&["add", "--uuid", uuid]).done(), format!("{uuid}\n"));
        let drawn = world.admin(&["--json", "add"]).json()["uuid"].as_str().unwrap().to_owned();
        let list = world.admin(&["list", "--json"]).json();
        let uuids: Vec<_> = list.as_array().unwrap().iter().map(|vtpm| vtpm["uuid"].as_str().unwrap()).collect();
        assert!(uuids.contains(&uuid) && uuids.contains(&drawn.as_str()), "{uuids:?}");
        assert!(world.admin(&["list"]).done().starts_with("UUID "));
        world.admin(&["add", "--uuid", uuid]).fails(1, "VTPM_NEW");

        assert!(world.admin(&["group", "create"]).done().starts_with("1 "));
        world.admin(&["edit", uuid, "--group", "1", "--lock"]).done();
        let shown = world.admin(&["show", uuid, "--json"]).json();
        assert_eq!((&shown["group"], &shown["flags"]), (&Value::from(1), &serde_json::json!(["locked"])));
        world.admin(&["edit", uuid, "--unlock"]).done();
        let shown = world.admin(&["show", uuid]).done();
        assert!(shown.contains("group         1 (") && shown.contains("none"), "{shown}");
        assert_eq!(world.admin(&["list", "--group", "1", "--json"]).json().as_array().unwrap().len(), 1);
        world.admin(&["group", "delete", "1"]).fails(1, "GROUP_DEL");
        world.admin(&["delete", uuid, "--forever"]).done();
        world.admin(&["show", uuid]).fails(1, "there is no such vTPM");
        world.admin(&["delete", uuid]).fails(2, "--forever");
        world.admin(&["group", "delete", "1"]).done();
        world.admin(&["group", "show", "1"]).fails(1, "there is no group");
    });
}

#[test]
fn whoever_is_no_admin_gets_nowhere() {
    let world = World::new(Version::V12);
    let commands: [&[&str]; 10] = [
        &["status"],
        &["list"],
        &["show", ADMIN_UUID],
        &["add"],
        &["delete", ADMIN_UUID, "--forever"],
        &["group", "list"],
        &["group", "create"],
        &["pcrs"],
        &["group", "quote", "0"],
        &["recovery-code"],
    ];
    for command in commands {
        world.plain(command).fails(1, "has to stand in the manager's admin_uuid=");
    }
    assert_eq!(world.admin(&["status", "--json"]).json()["groups"], 1);
}

#[test]
fn groups_and_their_signed_lists() {
    on_both(|world| {
        let file = |name: &str| world.folder.arg(name);
        for (at, (name, kind)) in
            [("p256.pem", "P-256"), ("rsa2048-public.pem", "RSA-2048"), ("rsa3072.pem", "RSA-3072")].iter().enumerate()
        {
            let group = world.admin(&["group", "create", "--key", &key(name), "--json"]).json();
            assert_eq!(group["index"], at + 1);
            let shown = world.admin(&["group", "show", &group["index"].to_string(), "--json"]).json();
            assert_eq!((&shown["uuid"], &shown["approval_key"]["kind"]), (&group["uuid"], &Value::from(*kind)));
        }
        let shown = world.admin(&["group", "list"]).done();
        assert_eq!(shown.lines().count(), 5, "{shown}");
        let uuid =
            |index: usize| world.admin(&["group", "list", "--json"]).json()[index]["uuid"].as_str().unwrap().to_owned();

        world.admin(&["pcrs", "--pcrs", "0,4", "--out", &file("now")]).done();
        let sign = |key_file: &str, group: &str, sequence: &str, out: &str| {
            let arguments = [
                "sign",
                "--key",
                &key(key_file),
                "--group",
                group,
                "--sequence",
                sequence,
                "--pcrs",
                &file("now"),
                "--label",
                "system_u:system_r:vtpm_t",
                "--out",
                &file(out),
            ];
            vtpmctl(&arguments).done();
        };
        for (index, private) in [(1, "p256.pem"), (2, "rsa2048-pkcs1.pem"), (3, "rsa3072.pem")] {
            let (group, number) = (uuid(index), index.to_string());
            sign(private, &group, "10", "ten");
            world.admin(&["group", "update", &number, &file("ten")]).done();
            let shown = world.admin(&["group", "show", &number, "--json"]).json();
            assert_eq!((&shown["sequence"], &shown["conditions"][0]["pcrs"]), (&Value::from(10), &Value::from("0,4")));
            assert_eq!(shown["kernels"].as_array().unwrap().len(), 1);
            let text = world.admin(&["group", "show", &number]).done();
            assert!(text.contains("opens with") && text.contains("label with hash"), "{text}");
            // An older list, another group's, another signer's.
            sign(private, &group, "9", "nine");
            world.admin(&["group", "update", &number, &file("nine")]).fails(1, "GROUP_UPDATE");
            sign(private, &uuid(0), "11", "elsewhere");
            world.admin(&["group", "update", &number, &file("elsewhere")]).fails(1, "GROUP_UPDATE");
            sign("p256-sec1.pem", &group, "12", "forged");
            world.admin(&["group", "update", &number, &file("forged")]).fails(1, "GROUP_UPDATE");
            assert_eq!(world.admin(&["group", "show", &number, "--json"]).json()["sequence"], 10);
        }
        // The first group gets its key later.
        world.admin(&["group", "set-key", "0", "--key", &key("rsa2048.pem")]).done();
        world.admin(&["group", "set-key", "0", "--key", &key("p256.pem")]).fails(1, "GROUP_SET_KEY");
        if world.version == Version::V12 {
            let arguments = [
                "sign",
                "--key",
                &key("rsa2048.pem"),
                "--legacy",
                "--sequence",
                "5",
                "--pcrs",
                &file("now"),
                "--out",
                &file("legacy"),
            ];
            vtpmctl(&arguments).done();
            world.admin(&["group", "update", "0", &file("legacy")]).done();
            assert_eq!(world.admin(&["group", "show", "0", "--json"]).json()["sequence"], 5);
        }
    });
}

#[test]
fn quotes_are_verified_and_only_as_they_were_asked_for() {
    on_both(|world| {
        let file = |name: &str| world.folder.arg(name);
        world.admin(&["group", "set-key", "0", "--key", &key("rsa2048.pem")]).done();
        world.admin(&["add", "--uuid", ADMIN_UUID]).done();
        world.admin(&["group", "keys", "0", "--out", &file("keys")]).done();
        world.admin(&["pcrs", "--pcrs", "0-7", "--out", &file("pcrs")]).done();
        let group = world.admin(&["group", "show", "0", "--json"]).json()["uuid"].as_str().unwrap().to_owned();

        world.admin(&["quote", "--nonce", NONCE, "--flags", "uuid,group-key", "--out", &file("quote")]).done();
        let verify = |name: &str, more: &[&str]| {
            let mut arguments = vec!["verify".to_owned(), "quote".into(), file(name), "--key".into(), file("keys")];
            arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
            vtpmctl(&arguments)
        };
        let (pcrs, saa) = (file("pcrs"), key("rsa2048.pem"));
        let full = ["--nonce", NONCE, "--uuid", ADMIN_UUID, "--expect", &pcrs, "--group-key", &saa];
        let shown = verify("quote", &[&full[..], &["--json"]].concat()).json();
        assert_eq!((&shown["verified"], &shown["uuid"]), (&Value::from(true), &Value::from(ADMIN_UUID)));
        assert_eq!(shown["pcrs"].as_object().unwrap().len(), 8);
        assert_eq!(shown["clock"].is_null(), world.version == Version::V12);
        assert!(verify("quote", &full).done().starts_with("verified "));
        verify("quote", &["--nonce", OTHER_NONCE]).fails(4, "another nonce");
        verify("quote", &["--nonce", NONCE, "--pcrs", "0-6"]).fails(4, "over PCRs 0-7 and not 0-6");
        verify("quote", &["--nonce", NONCE, "--uuid", GUEST_UUID]).fails(4, "another UUID");
        verify("quote", &["--nonce", NONCE, "--label", "x"]).fails(4, "does not vouch for the label");
        verify("quote", &["--nonce", NONCE, "--group-key", &key("p256.pem")]).fails(4, "another group key");
        let size = if world.version == Version::V12 { 20 } else { 32 };
        verify("quote", &["--nonce", NONCE, "--expect-pcr", &format!("4={}", "00".repeat(size))]).fails(4, "PCR 4 has");
        let text = std::fs::read_to_string(&pcrs).unwrap();
        std::fs::write(file("others"), text.replacen("00000000", "11111111", 1)).unwrap();
        verify("quote", &["--nonce", NONCE, "--expect", &file("others")]).fails(4, "PCR 0 has");
        if world.version == Version::V20 {
            verify("quote", &["--nonce", NONCE, "--bank", "sha1"]).fails(4, "not over the SHA-1 bank");
        }
        // A file that says it was asked with another nonce.
        let text = std::fs::read_to_string(file("quote")).unwrap().replace(NONCE, OTHER_NONCE);
        std::fs::write(file("replayed"), text).unwrap();
        verify("replayed", &["--nonce", OTHER_NONCE]).fails(4, "not proven");

        // Of the group and its list.
        let arguments =
            ["sign", "--key", &saa, "--group", &group, "--sequence", "3", "--pcrs", &pcrs, "--out", &file("list")];
        vtpmctl(&arguments).done();
        world.admin(&["group", "update", "0", &file("list")]).done();
        world.admin(&["group", "quote", "0", "--nonce", NONCE, "--out", &file("group")]).done();
        let list = file("list");
        let full = ["--nonce", NONCE, "--uuid", &group, "--group-key", &saa, "--group-list", &list];
        assert!(verify("group", &full).done().contains("a quote about a group"));
        let other = ["sign", "--key", &saa, "--group", &group, "--sequence", "4", "--out", &file("other")];
        vtpmctl(&other).done();
        let other = file("other");
        verify("group", &["--nonce", NONCE, "--group-key", &saa, "--group-list", &other])
            .fails(4, "configuration list");
    });
}

#[test]
fn a_challenge_proves_where_the_attestation_key_is() {
    on_both(|world| {
        let file = |name: &str| world.folder.arg(name);
        world.admin(&["group", "keys", "0", "--out", &file("keys")]).done();
        let challenge = |out: &str, secret: &str| {
            vtpmctl(&["challenge", &file("keys"), "--out", &file(out), "--secret", &file(secret)])
        };
        challenge("challenge", "secret").done();
        challenge("challenge", "secret").fails(5, "cannot write");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file("secret")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        world.admin(&["group", "activate", "0", &file("challenge"), "--out", &file("answer")]).done();
        let shown = vtpmctl(&["verify", "challenge", &file("answer"), "--secret", &file("secret"), "--json"]).json();
        assert_eq!(shown["verified"], true);
        challenge("challenge2", "secret2").done();
        vtpmctl(&["verify", "challenge", &file("answer"), "--secret", &file("secret2")]).fails(4, "does not show");
        // A challenge for another group's key.
        world.admin(&["group", "create"]).done();
        world.admin(&["group", "activate", "1", &file("challenge")]).fails(1, "GROUP_ACTIVATE");
    });
}

#[test]
fn a_guest_proves_its_pcrs_through_the_chip() {
    on_both(|world| {
        let file = |name: &str| world.folder.arg(name);
        common::world::take_ownership(&world);
        world.guest(&["guest", "endorsement", "--nonce", OTHER_NONCE, "--out", &file("ek")]).done();
        world.guest(&["guest", "deep-quote", "--nonce", NONCE, "--own", "0-10", "--out", &file("deep")]).done();
        world.admin(&["group", "keys", "0", "--out", &file("keys")]).done();
        let verify = |ek: &str, deep: &str, more: &[&str]| {
            let mut arguments: Vec<String> = ["verify", "chain"].map(str::to_owned).to_vec();
            arguments.extend([file(ek), file(deep), "--key".into(), file("keys")]);
            arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
            vtpmctl(&arguments)
        };
        let zeros = format!("10={}", "00".repeat(20));
        let full = ["--nonce", NONCE, "--uuid", GUEST_UUID, "--own-pcr", &zeros];
        let shown = verify("ek", "deep", &[&full[..], &["--json"]].concat()).json();
        assert_eq!(shown["vtpm"]["pcrs"].as_object().unwrap().len(), 11);
        assert!(verify("ek", "deep", &full).done().contains("this vTPM has this endorsement key"));
        verify("ek", "deep", &["--nonce", NONCE, "--uuid", ADMIN_UUID]).fails(4, "another UUID");
        verify("ek", "deep", &["--nonce", OTHER_NONCE, "--uuid", GUEST_UUID]).fails(4, "another nonce");
        let ones = format!("10={}", "11".repeat(20));
        verify("ek", "deep", &["--nonce", NONCE, "--uuid", GUEST_UUID, "--own-pcr", &ones])
            .fails(4, "PCR 10 of the vTPM");
        // The guest lies about its PCRs.
        let honest = std::fs::read_to_string(file("deep")).unwrap();
        std::fs::write(file("lie"), honest.replacen(&"00".repeat(20), &"11".repeat(20), 1)).unwrap();
        verify("ek", "lie", &["--nonce", NONCE, "--uuid", GUEST_UUID]).fails(4, "not proven");
        // Without a UUID in it, it is nobody's.
        let flags = ["guest", "deep-quote", "--nonce", NONCE, "--flags", "none", "--out", &file("nobody")];
        world.guest(&flags).done();
        verify("ek", "nobody", &["--nonce", NONCE, "--uuid", GUEST_UUID]).fails(4, "does not vouch for the UUID");
        let wrong = ["guest", "deep-quote", "--owner-auth", "text:wrong"];
        world.guest(&wrong).fails(1, "the owner's secret is wrong");
        // A guest has no rights with the manager, and its TPM is no manager.
        world.guest(&["status"]).fails(1, "admin_uuid=");
        world.guest(&["quote"]).fails(1, "GET_QUOTE");
    });
}

#[test]
fn a_recovery_code_is_shown() {
    on_both(|world| {
        let code = world.admin(&["recovery-code", "--json"]).json()["recovery_code"].as_str().unwrap().to_owned();
        assert!(code.len() == 40 && code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(world.admin(&["status", "--json"]).json()["recovery_code"], true);
        let text = world.admin(&["recovery-code"]).done();
        let shown = text.lines().next().unwrap();
        assert_eq!((shown.len(), shown.matches('-').count()), (44, 4));
        assert_ne!(shown.replace('-', ""), code, "each is another");
    });
}
