//! The same on a TPM 2.0 chip: swtpm, another implementation of the specification.

use crate::agent::*;
use crate::bus20::Bus;
use crate::rig::*;
use attest::{Bank, Claims, Credential, EndorsementKey, GroupInfo, QuoteKey, Request, Subject, verify};
use tpm_crypto::{sha1, sha256};
use tpm_wire::mgr::*;
use zeroize::Zeroizing;

const UUID: [u8; 16] = [5; 16];

/// TPM2_PCR_Extend of the SHA-256 bank, as firmware does.
fn extend(bus: &Bus, pcr: u32) {
    let params = [&[0, 0, 0, 1, 0, 0x0b][..], &[7; 32]].concat();
    bus.raw(0x182, &[pcr], &[b""], &params).unwrap();
}

fn keys(m: &mut Running<'_>, index: u32) -> (QuoteKey, EndorsementKey, GroupKeys) {
    let keys = GroupKeys::parse(&m.manage(&Management::GroupKeys { index })).unwrap();
    let ak = QuoteKey::from_tpmt_public(&keys.attestation).unwrap();
    (ak, EndorsementKey::from_tpmt_public(&keys.endorsement).unwrap(), keys)
}

fn show(m: &mut Running<'_>, index: u32) -> GroupShow {
    GroupShow::parse(&m.manage(&Management::GroupShow2 { index })).unwrap()
}

#[test]
fn quotes_and_keys() {
    let bus = Bus::new();
    let world = World::on(&bus);
    manage(&world, |mut m| {
        let status = Status::parse(&m.manage(&Management::Status)).unwrap();
        assert_eq!((status.chip_version, status.bank), (0x20, 0xb));
        m.attach(front(5, 1), UUID);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let ask = QuoteRequest { data: [9; 20], pcrs: 0x80_0011, flags: 13 };
        let (tag, code, body) = m.ask(front(5, 1), &ask.to_packet());
        assert_eq!((tag, code), (TAG_RSP, 0));
        let (ak, ek, all) = keys(&mut m, 0);
        assert!(!all.binding.is_empty());
        let group = show(&mut m, 0);
        let info = GroupInfo { key: Some(modulus(0).to_vec()), sequence: 0, conditions: vec![], kernels: vec![] };
        let claims =
            Claims { uuid: Some(UUID), label_hash: None, group: Some(info), group_key: Some(modulus(0).to_vec()) };
        let request = Request {
            subject: Subject::Vtpm,
            data: [9; 20],
            pcrs: 0x80_0011,
            bank: Bank::Sha256,
            flags: 13,
            claims: &claims,
        };
        let quoted = verify(&ak, &request, &body).unwrap_or_else(|error| panic!("{error}"));
        let values = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x80_0011 })).unwrap().0;
        assert_eq!((values.bank, values.values.len()), (0xb, 3));
        assert!(quoted.pcrs.iter().map(|(_, value)| value).eq(&values.values));
        let other = Claims { uuid: Some([6; 16]), ..claims.clone() };
        assert!(verify(&ak, &Request { claims: &other, ..request }, &body).is_err());

        let body = m.manage(&Management::GroupQuote { index: 0, nonce: [4; 20], pcrs: 3 });
        let claims = Claims { uuid: Some(group.uuid), group: claims.group, ..Claims::default() };
        let request = Request {
            subject: Subject::Group,
            data: [4; 20],
            pcrs: 3,
            bank: Bank::Sha256,
            flags: GROUP_QUOTE_FLAGS,
            claims: &claims,
        };
        assert!(verify(&ak, &request, &body).is_ok());

        // Who holds the endorsement key holds the attestation key.
        let challenge = Credential::new(&ek, &ak, &mut crate::bus::rng(8)).unwrap();
        let answer = m.manage(&Management::GroupActivate { index: 0, blob: challenge.blob.clone() });
        assert!(Credential::is_answered(&challenge.secret, true, &answer));
        let mut broken = challenge.blob.clone();
        *broken.last_mut().unwrap() ^= 1;
        m.refused(&Management::GroupActivate { index: 0, blob: broken });
        let pubek = m.manage(&Management::ReadPubek);
        assert_eq!(pubek[4..], all.endorsement);
        m.stop();
    });
    bus.assert_clean("after a manager's life");
}

#[test]
fn what_needs_a_tpm_12_says_so() {
    let bus = Bus::new();
    let world = World::on(&bus);
    manage(&world, |mut m| {
        let new = Management::GroupNew { label: [0; 20], saa: modulus(0) };
        assert_eq!(m.refused(&new), code::DISABLED_CMD);
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let composites = LegacyList { sequence: 1, conditions: vec![(1, [0; 20])], kernels: vec![] };
        assert_eq!(m.refused(&signed_legacy(0, 0, composites)), code::DISABLED_CMD);
        m.manage(&signed_legacy(0, 0, LegacyList { sequence: 1, conditions: vec![], kernels: vec![[1; 20]] }));
        let public = Management::NvDefineSpace { public: vec![0; 70], auth: Zeroizing::new([0; 20]) };
        assert_eq!(m.refused(&public), code::DISABLED_CMD);
        assert_eq!(m.refused(&Management::NvRead { index: 1, offset: 0, size: 1 }), code::DISABLED_CMD);
        assert_eq!(m.refused(&Management::NvWrite { index: 1, offset: 0, data: vec![1] }), code::DISABLED_CMD);

        // A vTPM's commands have TPM 1.2's form on any chip.
        m.attach(front(5, 1), UUID);
        let (tag, code, random) = m.ask(front(5, 1), &packet(0x00c1, 0x46, &[0, 0, 0, 16]));
        assert_eq!((tag, code, &random[..4], random.len()), (0x00c4, 0, &[0, 0, 0, 16][..], 20));
        let read = |m: &mut Running<'_>| m.ask(front(5, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 4]));
        let (tag, code, before) = read(&mut m);
        assert_eq!((tag, code, before.len()), (0x00c4, 0, 20));
        let extended = m.ask(front(1, 1), &packet(0x00c1, 0x14, &[&[0, 0, 0, 4][..], &[7; 20]].concat()));
        assert_eq!((extended.1, &extended.2[..]), (0, &sha1(&[&before, &[7; 20]])[..]));
        assert_eq!(read(&mut m).2, extended.2);
        assert_eq!(m.ask(front(5, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 24])).1, code::BADINDEX);
        m.stop();
    });
}

#[test]
fn a_group_is_sealed_registered_and_recovered() {
    let bus = Bus::new();
    let world = World::on(&bus);
    let (ours, index) = (Half([0x33; 32]), 1);
    let key = manage(&world, |mut m| {
        m.manage(&Management::GroupCreate { saa: SaaKey::rsa(&modulus(0)[..]), label: [0; 20] });
        m.manage(&Management::VtpmNew { index, uuid: Some(UUID) });
        m.attach(front(5, 1), UUID);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        let dh = ours.public();
        let signature = rsa(2048, 0).sign_pkcs1_sha1(&mut crate::bus::rng(1), &sha1(&[&dh])).unwrap();
        let register =
            Management::GroupRegister { index, dh: Box::new(dh), signature: signature.try_into().unwrap(), pcrs: 3 };
        let made = Registration::parse(&m.manage(&register)).unwrap();
        let Some(Evidence::Tpm20 { attest, .. }) = Evidence::parse_20(&made.quote, 0, 3, 32) else {
            panic!("evidence")
        };
        let external = sha1(&[b"REGR", &dh, &made.dh[..], &made.blob]);
        assert!(attest.windows(20).any(|window| window == external), "qualifyingData");
        let mut now = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x10 })).unwrap().0;
        let mut later = now.clone();
        later.values[0] = sha256(&[&now.values[0], &[7; 32]]).to_vec();
        now.mask = 0x10;
        let uuid = show(&mut m, index).uuid;
        let list = ConfigList { group: uuid, sequence: 1, conditions: vec![now, later], kernels: vec![] };
        m.manage(&signed(rsa(2048, 0), index, &list));
        m.stop();
        xor(&made.blob, &ours.shared(&made.dh[..]))
    });
    let loaded = |m: &mut Running<'_>| {
        m.attach(front(5, 1), UUID);
        let (_, code, record) = m.ask(front(5, 1), &load());
        (code, record)
    };
    let later = World { made_now: false, ..world };
    bus.power_cycle();
    manage(&later, |mut m| {
        assert_eq!(loaded(&mut m), (0, vec![5; 64]));
        m.stop();
    });
    extend(&bus, 4);
    manage(&later, |mut m| {
        assert_eq!(loaded(&mut m), (0, vec![5; 64]), "approved beforehand");
        m.stop();
    });
    extend(&bus, 4);
    manage(&later, |mut m| {
        assert_eq!(loaded(&mut m), (code::WRONG_PCR, vec![]));
        let made = m.manage(&Management::MakeIdentity { label: [1; 20] });
        let proxy = tpm_wire::Reader::new(&made).sized32().unwrap().to_vec();
        let begin = Management::GroupRecover1 { index, key: proxy, nonce: [8; 20], pcrs: 3 };
        let answer = m.manage(&begin)[..256].to_vec();
        let theirs = Half([0x44; 32]);
        let blob = Zeroizing::new(xor(&key, &theirs.shared(&answer)));
        m.manage(&Management::GroupRecover2 { index, dh: Box::new(theirs.public()), blob });
        assert_eq!(loaded(&mut m), (0, vec![5; 64]));
        m.stop();
    });
    bus.assert_clean("after the managers' lives");
}

#[test]
fn the_managers_disk_follows_the_first_groups_list() {
    let bus = Bus::new();
    let world = World { seal_pcrs: 1 << 4, ..World::on(&bus) };
    let code: [u8; 20] = manage(&world, |mut m| {
        m.manage(&Management::GroupSetKey { index: 0, saa: p256().1 });
        let now = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x10 })).unwrap().0;
        let later = PcrValues { values: vec![sha256(&[&now.values[0], &[7; 32]]).to_vec()], ..now };
        let list = ConfigList { group: show(&mut m, 0).uuid, sequence: 1, conditions: vec![later], kernels: vec![] };
        m.manage(&signed_p256(&p256().0, 0, &list));
        let code = m.manage(&Management::RecoveryCode);
        m.stop();
        code.try_into().unwrap()
    });
    let opens = |code: Option<&[u8; 20]>| world.unseal(code).is_some_and(|secret| secret[..] == SECRET);
    assert!(opens(None));
    extend(&bus, 4);
    assert!(opens(None), "approved beforehand");
    extend(&bus, 4);
    assert!(!opens(None) && !opens(Some(&[1; 20])) && opens(Some(&code)));
}
