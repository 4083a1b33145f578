//! Quotes for vTPMs and of groups, checked by the verifier that is to check them; giving a group's key to its agent and back.

use crate::agent::*;
use crate::rig::*;
use attest::{Bank, Claims, Credential, EndorsementKey, GroupInfo, QuoteKey, Request, Subject, verify};
use std::collections::BTreeMap;
use std::rc::Rc;
use tpm_crypto::sha1;
use tpm_wire::mgr::*;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"user_1:vm_r:vtpm_t";

fn group_key(m: &mut Running<'_>, index: u32) -> QuoteKey {
    let keys = GroupKeys::parse(&m.manage(&Management::GroupKeys { index })).unwrap();
    QuoteKey::from_modulus(&keys.attestation.try_into().unwrap()).unwrap()
}

fn show(m: &mut Running<'_>, index: u32) -> GroupShow {
    GroupShow::parse(&m.manage(&Management::GroupShow2 { index })).unwrap()
}

fn claims(group: &GroupShow) -> GroupInfo {
    GroupInfo {
        key: group.saa.as_ref().map(|key| key.bytes().to_vec()),
        sequence: group.sequence,
        conditions: group.conditions.iter().map(|condition| condition.digest.clone()).collect(),
        kernels: group.kernels.clone(),
    }
}

#[test]
fn a_quote_says_which_vtpm_in_which_group() {
    let world = World::new();
    let fronts = Rc::new(FakeFronts::default());
    *fronts.labels.borrow_mut() =
        Some(BTreeMap::from([(1, b"a:b:c".to_vec()), (5, LABEL.to_vec()), (6, b"d:e:f".to_vec())]));
    manage_on(&world, world.disk.clone(), fronts, |mut m| {
        m.attach(front(5, 1), [5; 16]);
        m.attach(front(6, 1), [6; 16]);
        let ask = QuoteRequest { data: [9; 20], pcrs: 0x80_0011, flags: 0 };
        assert_eq!(m.ask(front(5, 1), &ask.to_packet()).1, code::BAD_PARAMETER, "it has no record yet");
        for n in [5, 6] {
            assert_eq!(m.ask(front(n, 1), &save(&[n as u8; 64])).1, 0);
        }
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let list = ConfigList {
            group: show(&mut m, 0).uuid,
            sequence: 4,
            conditions: vec![],
            kernels: vec![[3; 20], sha1(&[LABEL]), sha1(&[b"d:e:f"])],
        };
        m.manage(&signed(rsa(2048, 0), 0, &list));
        // The key is made by the first quote and is the same from then on.
        let quote = |m: &mut Running<'_>, n: u16, flags| {
            let (tag, code, body) = m.ask(front(n, 1), &QuoteRequest { flags, ..ask }.to_packet());
            assert_eq!((tag, code), (TAG_RSP, 0));
            body
        };
        let bodies: Vec<_> = (0..16).map(|flags| quote(&mut m, 5, flags)).collect();
        let key = group_key(&mut m, 0);
        let all = Claims {
            uuid: Some([5; 16]),
            label_hash: Some(sha1(&[LABEL])),
            group: Some(claims(&show(&mut m, 0))),
            group_key: Some(modulus(0).to_vec()),
        };
        let said = |flags: u32| Claims {
            uuid: all.uuid.filter(|_| flags & 1 != 0),
            label_hash: all.label_hash.filter(|_| flags & 2 != 0),
            group: all.group.clone().filter(|_| flags & 4 != 0),
            group_key: all.group_key.clone().filter(|_| flags & 8 != 0),
        };
        let check = |subject, flags, claims: &Claims, body: &[u8]| {
            verify(&key, &Request { subject, data: [9; 20], pcrs: 0x80_0011, bank: Bank::Sha1, flags, claims }, body)
        };
        for (flags, body) in (0..16u32).zip(&bodies) {
            assert_eq!(body.len(), 256 + 20 * flags.count_ones() as usize + 3 * 20);
            let quoted =
                check(Subject::Vtpm, flags, &said(flags), body).unwrap_or_else(|error| panic!("{flags}: {error}"));
            let values = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x80_0011 })).unwrap().0.values;
            assert!(quoted.pcrs.iter().map(|(_, value)| value).eq(&values));
            for other in 0..16 {
                assert_eq!(check(Subject::Vtpm, other, &said(other), body).is_ok(), other == flags);
            }
        }
        // Another vTPM does not get a quote that says it were this one.
        let foreign = quote(&mut m, 6, 1);
        assert!(check(Subject::Vtpm, 1, &said(1), &foreign).is_err());
        let theirs = Claims { uuid: Some([6; 16]), ..Claims::default() };
        assert!(check(Subject::Vtpm, 1, &theirs, &foreign).is_ok());
        // Nor can it have signed what says it were a group's.
        assert!(check(Subject::Group, 5, &said(5), &bodies[5]).is_err());
        m.stop();
    });
}

#[test]
fn the_chip_answers_a_privacy_cas_challenge_for_its_own_keys() {
    let world = World::new();
    manage(&world, |mut m| {
        let activate = |blob| Management::GroupActivate { index: 0, blob };
        assert_eq!(m.refused(&activate(vec![1; 256])), code::FAIL, "there is no key yet");
        let keys = GroupKeys::parse(&m.manage(&Management::GroupKeys { index: 0 })).unwrap();
        let key = QuoteKey::parse(&keys.attestation).unwrap();
        let ek = EndorsementKey::parse(&keys.endorsement).unwrap();
        let challenge = Credential::new(&ek, &key, &mut crate::bus::rng(8)).unwrap();
        let answer = m.manage(&activate(challenge.blob.clone()));
        assert!(Credential::is_answered(&challenge.secret, false, &answer));
        // For another key of the same chip it is worth nothing.
        m.manage(&Management::GroupCreate { saa: None, label: [0; 20] });
        m.manage(&Management::GroupKeys { index: 1 });
        m.refused(&Management::GroupActivate { index: 1, blob: challenge.blob });
        m.stop();
    });
}

#[test]
fn without_a_label_there_is_no_measurement_to_vouch_for() {
    let world = World::new();
    manage(&world, |mut m| {
        m.attach(front(5, 1), [5; 16]);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        let seen = world.chip.seen().len();
        let ask = |flags| QuoteRequest { data: [9; 20], pcrs: 1, flags }.to_packet();
        assert_eq!(m.ask(front(5, 1), &ask(2)).1, code::FAIL);
        assert_eq!(m.ask(front(5, 1), &ask(16)).1, code::INVALID_REQUEST);
        assert_eq!(world.chip.seen().len(), seen, "no key is made for what is refused");
        assert_eq!(m.ask(front(5, 1), &ask(13)).1, 0);
        m.stop();
    });
}

#[test]
fn a_group_proves_its_list() {
    let world = World::new();
    manage(&world, |mut m| {
        let saa = SaaKey::rsa(&modulus(0)[..]);
        m.manage(&Management::GroupCreate { saa, label: [0; 20] });
        let before = show(&mut m, 1);
        let ask = Management::GroupQuote { index: 1, nonce: [4; 20], pcrs: 3 };
        let old = m.manage(&ask);
        let list = ConfigList { group: before.uuid, sequence: 4, conditions: vec![], kernels: vec![[3; 20]] };
        m.manage(&signed(rsa(2048, 0), 1, &list));
        let (new, key) = (m.manage(&ask), group_key(&mut m, 1));
        let after = Claims { uuid: Some(before.uuid), group: Some(claims(&show(&mut m, 1))), ..Claims::default() };
        let request = Request {
            subject: Subject::Group,
            data: [4; 20],
            pcrs: 3,
            bank: Bank::Sha1,
            flags: GROUP_QUOTE_FLAGS,
            claims: &after,
        };
        assert!(verify(&key, &request, &new).is_ok());
        assert!(verify(&key, &request, &old).is_err());
        assert!(verify(&key, &Request { data: [5; 20], ..request }, &new).is_err());
        assert_eq!(m.refused(&Management::GroupQuote { index: 2, nonce: [4; 20], pcrs: 3 }), code::BADINDEX);
        m.stop();
    });
}

/// Checks a TPM 1.2's quote over these PCRs with this external data.
fn is_quote(world: &World, key: &[u8], external: &[u8; 20], pcrs: u8, signature: &[u8]) -> bool {
    let values: Vec<u8> = (0..8)
        .filter(|pcr| pcrs >> pcr & 1 == 1)
        .flat_map(|pcr| world.chip.raw(&[0, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x15, 0, 0, 0, pcr])[10..].to_vec())
        .collect();
    let composite = sha1(&[&[0, 3, pcrs, 0, 0], &(values.len() as u32).to_be_bytes(), &values]);
    let info = sha1(&[&[1, 1, 0, 0], b"QUOT", &composite, external]);
    let key = tpm_crypto::rsa::RsaPublic::new(key, 65537).unwrap();
    key.verify_pkcs1_sha1(&info, signature).is_ok()
}

#[test]
fn the_agent_registers_a_group_and_later_opens_it_elsewhere() {
    let world = World::new();
    let (ours, index) = (Half([0x33; 32]), 1);
    let register = |n: u8, index, dh: [u8; 256]| {
        let signature = rsa(2048, n).sign_pkcs1_sha1(&mut crate::bus::rng(1), &sha1(&[&dh])).unwrap();
        let signature = signature.try_into().unwrap();
        Management::GroupRegister { index, dh: Box::new(dh), signature, pcrs: 3 }
    };
    let key = manage(&world, |mut m| {
        let saa = SaaKey::rsa(&modulus(0)[..]);
        m.manage(&Management::GroupCreate { saa, label: [0; 20] });
        m.manage(&Management::VtpmNew { index, uuid: Some([5; 16]) });
        m.attach(front(5, 1), [5; 16]);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        assert_eq!(m.refused(&register(1, index, ours.public())), code::AUTHFAIL, "not the agent's key");
        let mut small = [0; 256];
        small[255] = 1;
        assert_eq!(m.refused(&register(0, index, small)), code::BAD_PARAMETER, "the secret would be known to all");
        assert_eq!(m.refused(&register(0, 0, ours.public())), code::DISABLED_CMD, "the manager's own");
        assert_eq!(m.refused(&register(0, 2, ours.public())), code::BADINDEX);
        let made = Registration::parse(&m.manage(&register(0, index, ours.public()))).unwrap();
        let aik = GroupKeys::parse(&m.manage(&Management::GroupKeys { index })).unwrap().attestation;
        let external = sha1(&[b"REGR", &ours.public(), &made.dh[..], &made.blob]);
        assert!(is_quote(&world, &aik, &external, 3, &made.quote));
        assert_eq!(m.refused(&register(0, index, ours.public())), code::DISABLED_CMD, "once");
        assert_eq!(show(&mut m, index).flags, group_flags::OPEN | group_flags::HAS_KEY | group_flags::REGISTERED);
        let now = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x10 })).unwrap().0;
        let list = ConfigList { group: show(&mut m, index).uuid, sequence: 1, conditions: vec![now], kernels: vec![] };
        m.manage(&signed(rsa(2048, 0), index, &list));
        // An open group needs no recovery.
        let begin = Management::GroupRecover1 { index, key: vec![0x12, 1], nonce: [0; 20], pcrs: 3 };
        assert_eq!(m.refused(&begin), code::DISABLED_CMD);
        m.stop();
        xor(&made.blob, &ours.shared(&made.dh[..]))
    });
    let closed = world.restart();
    closed.chip.extend(4);
    manage(&closed, |mut m| {
        m.attach(front(5, 1), [5; 16]);
        assert_eq!(m.ask(front(5, 1), &load()).1, code::WRONG_PCR);
        let give =
            |dh: [u8; 256], blob| Management::GroupRecover2 { index, dh: Box::new(dh), blob: Zeroizing::new(blob) };
        assert_eq!(m.refused(&give(ours.public(), [0; 32])), code::FAIL, "nothing was begun");

        let made = m.manage(&Management::MakeIdentity { label: [1; 20] });
        let mut from = tpm_wire::Reader::new(&made);
        let (proxy, aik) = (from.sized32().unwrap().to_vec(), from.sized32().unwrap().to_vec());
        let begin = Management::GroupRecover1 { index, key: proxy, nonce: [8; 20], pcrs: 3 };
        let mut answer = m.manage(&begin);
        let quote = answer.split_off(256);
        assert!(is_quote(&closed, &aik, &sha1(&[b"RCVR", &[8; 20], &answer]), 3, &quote));
        let theirs = Half([0x44; 32]);
        let wrong = xor(&[1; 32], &theirs.shared(&answer));
        assert_eq!(m.refused(&give(theirs.public(), wrong)), code::AUTHFAIL);
        let right = xor(&key, &theirs.shared(&answer));
        assert_eq!(m.refused(&give(theirs.public(), right)), code::FAIL, "one try for each beginning");
        assert_eq!(m.ask(front(5, 1), &load()).1, code::WRONG_PCR);

        let answer = m.manage(&begin)[..256].to_vec();
        m.manage(&give(theirs.public(), xor(&key, &theirs.shared(&answer))));
        assert_eq!(m.ask(front(5, 1), &load()).2, [5; 64]);
        // A list makes it last.
        let now = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x10 })).unwrap().0;
        let list = ConfigList { group: show(&mut m, index).uuid, sequence: 2, conditions: vec![now], kernels: vec![] };
        m.manage(&signed(rsa(2048, 0), index, &list));
        m.stop();
    });
    manage(&World { made_now: false, ..closed }, |mut m| {
        m.attach(front(5, 1), [5; 16]);
        assert_eq!(m.ask(front(5, 1), &load()).2, [5; 64]);
        m.stop();
    });
    // A group that was made in an earlier run cannot be registered any more.
    let late = World::new();
    manage(&late, |mut m| {
        m.manage(&Management::GroupCreate { saa: SaaKey::rsa(&modulus(0)[..]), label: [0; 20] });
        m.stop();
    });
    manage(&late.restart(), |mut m| {
        assert_eq!(m.refused(&register(0, 1, ours.public())), code::DISABLED_CMD);
        m.stop();
    });
}
