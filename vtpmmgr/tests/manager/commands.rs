//! Every management command: good, malformed, without rights.

use crate::rig::*;
use tpm_wire::mgr::*;
use zeroize::Zeroizing;

const SOMEBODY: [u8; 16] = [5; 16];

fn vtpm(n: u8) -> [u8; 16] {
    [n; 16]
}

/// A command of every kind.
fn every_command() -> Vec<Management> {
    let (uuid, label, nonce) = ([9; 16], [1; 20], [2; 20]);
    let saa = SaaKey::rsa(&[0x81; 384]).unwrap();
    let list = LegacyList { sequence: 1, conditions: vec![(1, [0; 20])], kernels: vec![[3; 20]] };
    vec![
        Management::GroupList,
        Management::GroupNew { label, saa: Box::new([0x81; 256]) },
        Management::GroupDelete { index: 1 },
        Management::GroupActivate { index: 0, blob: vec![1; 256] },
        Management::GroupRegister { index: 0, dh: Box::new([1; 256]), signature: Box::new([2; 256]), pcrs: 1 },
        Management::GroupUpdate { index: 0, signature: Box::new([2; 256]), list },
        Management::GroupShow { index: 0 },
        Management::GroupQuote { index: 0, nonce, pcrs: 1 },
        Management::GroupRecover1 { index: 0, key: vec![0x12, 1, 1], nonce, pcrs: 1 },
        Management::GroupRecover2 { index: 0, dh: Box::new([1; 256]), blob: Zeroizing::new([1; 32]) },
        Management::Status,
        Management::GroupCreate { saa: Some(saa.clone()), label },
        Management::GroupShow2 { index: 0 },
        Management::GroupUpdate2 { index: 0, signature: vec![1; 256], list: ConfigList::default().to_bytes() },
        Management::RecoveryCode,
        Management::GroupSetKey { index: 0, saa },
        Management::GroupKeys { index: 0 },
        Management::ChipPcrs { pcrs: 0xff },
        Management::VtpmList2 { index: ALL_GROUPS, offset: 0 },
        Management::VtpmList { index: 0, offset: 0 },
        Management::VtpmShow { uuid },
        Management::VtpmEdit { uuid, index: 0, flags: 0 },
        Management::VtpmNew { index: 0, uuid: Some(uuid) },
        Management::VtpmDelete { uuid },
        Management::MakeIdentity { label },
        Management::ActivateIdentity { key: vec![0x12, 1, 1], blob: vec![1; 256] },
        Management::ReadPubek,
        Management::NvDefineSpace { public: vec![1; 70], auth: Zeroizing::new([2; 20]) },
        Management::NvWrite { index: 1, offset: 0, data: vec![1; 4] },
        Management::NvRead { index: 1, offset: 0, size: 4 },
    ]
}

#[test]
fn without_rights_nothing_is_even_looked_at() {
    let world = World::new();
    manage(&world, |mut m| {
        m.attach(front(5, 1), SOMEBODY);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        let (disk, seen) = (world.disk.image(), world.chip.seen().len());
        for command in every_command() {
            let body = command.to_packet()[10..].to_vec();
            m.without_rights(front(5, 1), &body, command.ordinal());
            // Lengths and ordinals are not told either.
            m.without_rights(front(5, 1), &[], command.ordinal());
            m.without_rights(front(5, 1), &body, 0xdead);
        }
        let (tag, code, _) = m.ask(front(5, 1), &packet(0x00c1, 0x14, &[0; 24]));
        assert_eq!((tag, code), (0x00c4, 8), "Extend is the admin's");
        assert!(world.disk.image() == disk && world.chip.seen().len() == seen);
        m.stop();
    });
}

#[test]
fn other_lengths_are_refused_and_change_nothing() {
    let world = World::new();
    manage(&world, |mut m| {
        assert_eq!(m.manage(&Management::GroupList), [0, 0, 0, 1]);
        let (disk, seen) = (world.disk.image(), world.chip.seen().len());
        for command in every_command() {
            let body = command.to_packet()[10..].to_vec();
            let mut bad = vec![[&body[..], &[0]].concat()];
            // A GROUP_UPDATE2's list and a VTPM_NEW's UUID may be missing as a whole.
            if !body.is_empty() && !matches!(command, Management::VtpmNew { .. }) {
                bad.push(body[..body.len() - 1].to_vec());
                bad.push(vec![]);
            }
            if matches!(command, Management::VtpmNew { .. }) {
                bad.extend([vec![], body[..19].to_vec(), body[..5].to_vec()]);
            }
            for body in bad {
                let (tag, code, _) = m.ask(front(1, 1), &packet(TAG_REQ2, command.ordinal(), &body));
                assert_eq!((tag, code), (TAG_RSP, code::BAD_PARAMETER), "{:x}, {}", command.ordinal(), body.len());
            }
        }
        for unknown in [0x0200_0100, 0x0200_010b, 0x0200_0189, 0x0200_0206, 1, 2, 4] {
            let (tag, code, _) = m.ask(front(1, 1), &packet(TAG_REQ2, unknown, &[]));
            assert_eq!((tag, code), (TAG_RSP2, code::BAD_ORDINAL));
        }
        assert!(world.disk.image() == disk && world.chip.seen().len() == seen);
        m.stop();
    });
}

#[test]
fn status_and_pcrs() {
    let world = World::new();
    manage(&world, |mut m| {
        m.attach(front(5, 1), SOMEBODY);
        assert_eq!(m.ask(front(5, 1), &save(&[5; 64])).1, 0);
        let status = Status::parse(&m.manage(&Management::Status)).unwrap();
        assert_eq!((status.chip_version, status.bank, status.rollback), (0x12, 4, RollbackMode::Off));
        assert_eq!((status.groups, status.vtpms, status.connected), (1, 1, 2));
        assert_eq!((status.flags, &status.version[..]), (status_flags::CHIP_ANSWERS, env!("CARGO_PKG_VERSION")));
        assert_eq!(m.ask(front(5, 1), &packet(TAG_REQ, 0x80, &[])).2, status.boot_id);

        let ChipPcrs(pcrs) = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x80_0011 })).unwrap();
        assert_eq!((pcrs.bank, pcrs.mask, pcrs.values.len()), (4, 0x80_0011, 3));
        let extend = [&[0, 0, 0, 4][..], &[7; 20]].concat();
        let (tag, code, value) = m.ask(front(1, 1), &packet(0x00c1, 0x14, &extend));
        assert_eq!((tag, code), (0x00c4, 0));
        let ChipPcrs(now) = ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: 0x80_0011 })).unwrap();
        assert_eq!((&now.values[0], &now.values[1], &now.values[2]), (&pcrs.values[0], &value, &pcrs.values[2]));
        assert_eq!(m.ask(front(5, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 4])).2, value);
        assert_eq!(m.ask(front(5, 1), &packet(0x00c1, 0x15, &[0, 0, 0, 24])).1, code::BADINDEX);
        m.stop();
    });
}

#[test]
fn vtpms_are_listed_shown_moved_locked_and_deleted() {
    let world = World::new();
    let made = manage(&world, |mut m| {
        m.attach(front(5, 1), vtpm(5));
        assert_eq!(m.ask(front(5, 1), &save(&[5; 60])).1, 0, "unknown ones register themselves");
        let body = m.manage(&Management::GroupCreate { saa: None, label: [0; 20] });
        assert_eq!((body.len(), &body[16..]), (20, &[0, 0, 0, 1][..]));
        assert_eq!(m.manage(&Management::VtpmNew { index: 1, uuid: Some(vtpm(9)) }), vtpm(9));
        assert_eq!(m.refused(&Management::VtpmNew { index: 1, uuid: Some(vtpm(9)) }), code::FAIL);
        assert_eq!(m.refused(&Management::VtpmNew { index: 2, uuid: None }), code::BADINDEX);
        let made: [u8; 16] = m.manage(&Management::VtpmNew { index: 1, uuid: None }).try_into().unwrap();
        assert_eq!((made[6] >> 4, made[8] >> 6), (4, 2), "a random UUID");

        let list = |m: &mut Running<'_>, index| m.manage(&Management::VtpmList { index, offset: 0 });
        assert_eq!(list(&mut m, 0), [&[0, 0, 0, 1][..], &vtpm(5)].concat());
        let mut both = [vtpm(9), made];
        both.sort();
        assert_eq!(list(&mut m, 1), [&[0, 0, 0, 2][..], &both.concat()].concat());
        assert_eq!(m.refused(&Management::VtpmList { index: 2, offset: 0 }), code::BADINDEX);
        assert_eq!(m.manage(&Management::VtpmList { index: 1, offset: 2 }), [0, 0, 0, 2]);
        assert_eq!(m.manage(&Management::VtpmList { index: 1, offset: u32::MAX }), [0, 0, 0, 2]);

        let show = |m: &mut Running<'_>, uuid| VtpmShow::parse(&m.manage(&Management::VtpmShow { uuid })).unwrap();
        let shown = show(&mut m, vtpm(5));
        assert_eq!((shown.index, shown.flags, shown.label), (0, vtpm_flags::RECORD | vtpm_flags::CONNECTED, [0; 20]));
        assert_eq!(show(&mut m, vtpm(9)).flags, 0);
        assert_eq!(m.refused(&Management::VtpmShow { uuid: vtpm(6) }), code::BAD_PARAMETER);
        let page = VtpmPage::parse(&m.manage(&Management::VtpmList2 { index: ALL_GROUPS, offset: 1 })).unwrap();
        assert_eq!((page.total, page.entries.len(), page.entries[0].uuid), (3, 2, both[0]));

        // A vTPM without a record gets the code that makes it a new one; it keeps its group.
        m.attach(front(9, 1), vtpm(9));
        assert_eq!(m.ask(front(9, 1), &load()).1, code::BAD_PARAMETER);
        assert_eq!(m.ask(front(9, 1), &save(&[9; 52])).1, 0);
        assert_eq!(show(&mut m, vtpm(9)).index, 1);

        // Locked while connected; not moved or deleted while connected.
        let edit = |uuid, index, flags| Management::VtpmEdit { uuid, index, flags };
        m.manage(&edit(vtpm(9), 1, vtpm_flags::LOCKED));
        assert_eq!(show(&mut m, vtpm(9)).flags & vtpm_flags::LOCKED, vtpm_flags::LOCKED);
        for command in [load(), save(&[1; 64]), QuoteRequest { data: [0; 20], pcrs: 0, flags: 0 }.to_packet()] {
            assert_eq!(m.ask(front(9, 1), &command).1, code::DISABLED);
        }
        assert_eq!(m.refused(&edit(vtpm(9), 0, 0)), code::FAIL);
        assert_eq!(m.refused(&Management::VtpmDelete { uuid: vtpm(9) }), code::FAIL);
        m.manage(&edit(vtpm(9), 1, 0));
        assert_eq!(m.ask(front(9, 1), &load()).2, [9; 52]);
        assert_eq!(m.refused(&edit(vtpm(6), 0, 0)), code::BAD_PARAMETER);
        assert_eq!(m.refused(&edit(vtpm(9), 7, 0)), code::BADINDEX);
        m.detach(front(9, 1));
        m.manage(&edit(vtpm(9), 0, 0));
        assert_eq!(show(&mut m, vtpm(9)).index, 0);
        m.attach(front(9, 2), vtpm(9));
        assert_eq!(m.ask(front(9, 2), &load()).2, [9; 52]);
        m.stop();
        made
    });
    manage(&world.restart(), |mut m| {
        m.attach(front(9, 3), vtpm(9));
        assert_eq!(m.ask(front(9, 3), &load()).2, [9; 52]);
        m.manage(&Management::VtpmDelete { uuid: made });
        m.manage(&Management::VtpmDelete { uuid: vtpm(5) });
        assert_eq!(m.refused(&Management::VtpmDelete { uuid: vtpm(5) }), code::FAIL);
        m.stop();
    });
    manage(&world.restart(), |mut m| {
        m.attach(front(5, 2), vtpm(5));
        assert_eq!(m.ask(front(5, 2), &load()).1, code::BAD_PARAMETER, "deleted for good");
        assert_eq!(m.manage(&Management::VtpmList { index: 0, offset: 0 })[..4], [0, 0, 0, 1]);
        m.stop();
    });
}

#[test]
fn groups_are_made_shown_completed_and_deleted() {
    let world = World::new();
    manage(&world, |mut m| {
        assert_eq!(m.manage(&Management::GroupList), [0, 0, 0, 1], "one is there from the start");
        let first = GroupSummary::parse(&m.manage(&Management::GroupShow { index: 0 })).unwrap();
        assert_eq!((first.sequence, &first.saa[..], first.composites.len()), (0, &[0; 256][..], 0));

        // GROUP_NEW completes the first group, and makes others after that.
        let new = |top: u8, label| Management::GroupNew { label: [label; 20], saa: Box::new(modulus(top)) };
        let completed = NewGroup::parse(&m.manage(&new(0x91, 1))).unwrap();
        assert_eq!(completed.uuid, first.uuid);
        let second = NewGroup::parse(&m.manage(&new(0x92, 2))).unwrap();
        assert!(second.uuid != first.uuid && second.aik != completed.aik);
        assert_eq!(m.manage(&Management::GroupList), [0, 0, 0, 2]);
        let shown = GroupSummary::parse(&m.manage(&Management::GroupShow { index: 1 })).unwrap();
        assert_eq!((shown.uuid, *shown.saa), (second.uuid, modulus(0x92)));
        let keys = GroupKeys::parse(&m.manage(&Management::GroupKeys { index: 1 })).unwrap();
        assert_eq!((keys.attestation, keys.binding), (second.aik.to_vec(), second.binding.to_vec()));
        assert_eq!(keys.endorsement.len(), 256);
        let pubek = m.manage(&Management::ReadPubek);
        assert_eq!((&pubek[..4], &pubek[4..]), (&[0, 0, 1, 0][..], &keys.endorsement[..]));
        let mut even = modulus(0x91);
        even[255] = 0;
        for bad in [[0; 256], even] {
            assert_eq!(m.refused(&Management::GroupNew { label: [0; 20], saa: Box::new(bad) }), code::BAD_PARAMETER);
        }

        // Of our own form, without a key and with each kind.
        let create = |saa| Management::GroupCreate { saa, label: [3; 20] };
        let third = m.manage(&create(None));
        assert_eq!(third[16..], [0, 0, 0, 2]);
        let show = |m: &mut Running<'_>, index| GroupShow::parse(&m.manage(&Management::GroupShow2 { index })).unwrap();
        let shown = show(&mut m, 2);
        assert_eq!((&shown.uuid[..], shown.flags, shown.vtpms, shown.saa), (&third[..16], group_flags::OPEN, 0, None));
        let large = SaaKey::rsa(&[&[0x81][..], &[1; 383]].concat()).unwrap();
        m.manage(&Management::GroupSetKey { index: 2, saa: large.clone() });
        assert_eq!(show(&mut m, 2).saa, Some(large.clone()));
        assert_eq!(m.refused(&Management::GroupSetKey { index: 2, saa: large.clone() }), code::DISABLED_CMD, "once");
        assert_eq!(m.refused(&Management::GroupSetKey { index: 9, saa: large }), code::BADINDEX);
        assert_eq!(m.refused(&create(Some(SaaKey::EcdsaP256([1; 64])))), code::BAD_PARAMETER, "no point on the curve");
        let (x, y) = generator();
        let point = SaaKey::EcdsaP256([x, y].concat().try_into().unwrap());
        assert_eq!(m.manage(&create(Some(point.clone())))[16..], [0, 0, 0, 3]);
        assert_eq!(show(&mut m, 3).saa, Some(point));

        // What has vTPMs stays, and so does the first.
        m.manage(&Management::VtpmNew { index: 1, uuid: Some(vtpm(9)) });
        assert_eq!(show(&mut m, 1).vtpms, 1);
        assert_eq!(m.refused(&Management::GroupDelete { index: 1 }), code::FAIL);
        assert_eq!(m.refused(&Management::GroupDelete { index: 0 }), code::BADINDEX);
        assert_eq!(m.refused(&Management::GroupDelete { index: 4 }), code::BADINDEX);
        assert_eq!(m.refused(&Management::GroupDelete { index: u32::MAX }), code::BADINDEX);
        m.manage(&Management::VtpmDelete { uuid: vtpm(9) });
        m.manage(&Management::GroupDelete { index: 1 });
        assert_eq!(show(&mut m, 1).uuid[..], third[..16], "those behind move up");
        m.stop();
    });
    manage(&world.restart(), |mut m| {
        assert_eq!(m.manage(&Management::GroupList), [0, 0, 0, 3]);
        m.stop();
    });
}

/// An odd number with this top byte.
fn modulus(top: u8) -> [u8; 256] {
    let mut modulus = [1; 256];
    modulus[0] = top;
    modulus
}

/// The base point of P-256 (FIPS 186-4, appendix D.1.2.3).
fn generator() -> ([u8; 32], [u8; 32]) {
    let hex = |text: &str| core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap());
    (
        hex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
        hex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    )
}

#[test]
fn the_chips_own_commands() {
    let world = World::new();
    manage(&world, |mut m| {
        let made = m.manage(&Management::MakeIdentity { label: [1; 20] });
        let mut from = tpm_wire::Reader::new(&made);
        let (key, public, binding) = (from.sized32().unwrap(), from.sized32().unwrap(), from.sized32().unwrap());
        assert!(from.is_empty() && public.len() == 256 && binding.len() == 256 && key[0] == 0x12);
        for (key, blob) in [(vec![], vec![1; 256]), (vec![0x20, 1], vec![1; 256]), (vec![0x12, 9, 9], vec![1; 256])] {
            assert_eq!(m.refused(&Management::ActivateIdentity { key, blob }), code::BAD_PARAMETER);
        }
        let garbage = Management::ActivateIdentity { key: key.to_vec(), blob: vec![1; 256] };
        assert_ne!(m.refused(&garbage), 0);
        // TPM_NV_DATA_PUBLIC (TPM Main 1.2, part 2, section 19.3) of 8 bytes that the owner reads and writes.
        let short = [&[0, 3, 0, 0, 0][..], &[0x1f], &[0; 20]].concat();
        let public =
            [&[0, 0x18][..], &[0, 0, 0x11, 0], &short, &short, &[0, 0x17, 0, 2, 0, 2], &[0, 0, 0], &[0, 0, 0, 8]]
                .concat();
        m.manage(&Management::NvDefineSpace { public, auth: Zeroizing::new([0; 20]) });
        m.manage(&Management::NvWrite { index: 0x1100, offset: 2, data: b"abc".to_vec() });
        let read = |offset, size| Management::NvRead { index: 0x1100, offset, size };
        assert_eq!(m.manage(&read(1, 5)), b"\0\0\0\x05\xffabc\xff");
        assert_ne!(m.refused(&read(4, 5)), 0, "beyond its end");
        assert_ne!(m.refused(&Management::NvRead { index: 0x1101, offset: 0, size: 1 }), 0);
        assert_ne!(m.refused(&Management::NvDefineSpace { public: vec![1; 9], auth: Zeroizing::new([0; 20]) }), 0);
        m.stop();
    });
    assert_eq!(world.chip.open(), 0, "nothing is left in the chip");
}
