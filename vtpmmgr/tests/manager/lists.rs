//! Signed lists: who may sign which, what they change, and what an old one is worth.

use crate::agent::*;
use crate::rig::*;
use std::collections::BTreeMap;
use std::rc::Rc;
use tpm_crypto::sha1;
use tpm_wire::mgr::*;

const LABEL: &[u8] = b"user_1:vm_r:vtpm_t";

fn vtpm(n: u8) -> [u8; 16] {
    [n; 16]
}

fn show(m: &mut Running<'_>, index: u32) -> GroupShow {
    GroupShow::parse(&m.manage(&Management::GroupShow2 { index })).unwrap()
}

/// The PCRs as they are.
fn pcrs(m: &mut Running<'_>, mask: u32) -> PcrValues {
    ChipPcrs::parse(&m.manage(&Management::ChipPcrs { pcrs: mask })).unwrap().0
}

/// A list for group `index`, which has key 0.
fn list(
    m: &mut Running<'_>,
    index: u32,
    sequence: u64,
    conditions: Vec<PcrValues>,
    kernels: &[[u8; 20]],
) -> ConfigList {
    ConfigList { group: show(m, index).uuid, sequence, conditions, kernels: kernels.to_vec() }
}

/// A group with key 0 of the agent.
fn create(m: &mut Running<'_>) -> u32 {
    let saa = SaaKey::rsa(&modulus(0)[..]);
    let body = m.manage(&Management::GroupCreate { saa, label: [0; 20] });
    u32::from_be_bytes(body[16..].try_into().unwrap())
}

#[test]
fn only_the_agents_signature_counts() {
    let world = World::new();
    manage(&world, |mut m| {
        let index = create(&mut m);
        let good = list(&mut m, index, 5, vec![], &[[1; 20]]);
        let refused = |m: &mut Running<'_>, command: &Management, code| {
            assert_eq!(m.refused(command), code);
            assert_eq!((show(m, index).sequence, show(m, index).kernels.len()), (0, 0), "nothing changed");
        };
        refused(&mut m, &signed(rsa(2048, 1), index, &good), code::AUTHFAIL);
        let Management::GroupUpdate2 { signature, list: bytes, .. } = signed(rsa(2048, 0), index, &good) else {
            panic!()
        };
        for at in [0, 128, 255] {
            let mut broken = signature.clone();
            broken[at] ^= 1;
            let command = Management::GroupUpdate2 { index, signature: broken, list: bytes.clone() };
            refused(&mut m, &command, code::AUTHFAIL);
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            let command = Management::GroupUpdate2 { index, signature: signature.clone(), list: broken };
            refused(&mut m, &command, code::AUTHFAIL);
        }
        for short in [0, 1, 255] {
            let command =
                Management::GroupUpdate2 { index, signature: signature[..short].to_vec(), list: bytes.clone() };
            refused(&mut m, &command, code::AUTHFAIL);
        }
        // Signed, but for another group of the same agent; and for a group without an agent.
        let other = create(&mut m);
        let foreign = list(&mut m, other, 5, vec![], &[]);
        refused(&mut m, &signed(rsa(2048, 0), index, &foreign), code::BAD_PARAMETER);
        let first = list(&mut m, 0, 5, vec![], &[]);
        assert_eq!(m.refused(&signed(rsa(2048, 0), 0, &first)), code::AUTHFAIL);
        assert_eq!(m.refused(&signed(rsa(2048, 0), 9, &first)), code::BADINDEX);
        // A list of the C stack's form is not taken as one of ours, nor the other way round.
        let old = LegacyList { sequence: 5, ..LegacyList::default() };
        let Management::GroupUpdate { signature: with_sha1, .. } = signed_legacy(0, index, old.clone()) else {
            panic!()
        };
        let command = Management::GroupUpdate2 { index, signature: with_sha1.to_vec(), list: old.to_bytes() };
        refused(&mut m, &command, code::AUTHFAIL);
        let command = Management::GroupUpdate { index, signature: signature.clone().try_into().unwrap(), list: old };
        refused(&mut m, &command, code::AUTHFAIL);
        m.manage(&Management::GroupUpdate2 { index, signature, list: bytes });
        assert_eq!((show(&mut m, index).sequence, show(&mut m, index).kernels), (5, vec![[1; 20]]));
        m.stop();
    });
}

#[test]
fn every_kind_of_key_signs() {
    let world = World::new();
    manage(&world, |mut m| {
        let large = rsa(3072, 0);
        let saa = SaaKey::rsa(&large.public().modulus());
        assert_eq!(m.manage(&Management::GroupCreate { saa, label: [0; 20] })[19], 1);
        let good = list(&mut m, 1, 1, vec![], &[[1; 20]]);
        m.manage(&signed(large, 1, &good));

        let (private, public) = p256();
        assert_eq!(m.manage(&Management::GroupCreate { saa: Some(public), label: [0; 20] })[19], 2);
        let good = list(&mut m, 2, 1, vec![], &[[1; 20]]);
        let command = signed_p256(&private, 2, &good);
        let Management::GroupUpdate2 { signature, list: bytes, .. } = &command else { panic!() };
        for broken in [signature[..63].to_vec(), [&signature[..], &[0]].concat(), vec![0; 64], vec![]] {
            let command = Management::GroupUpdate2 { index: 2, signature: broken, list: bytes.clone() };
            assert_eq!(m.refused(&command), code::AUTHFAIL);
        }
        m.manage(&command);
        assert_eq!(show(&mut m, 2).sequence, 1);
        // The C stack's lists are for keys of its form.
        assert_eq!(
            m.refused(&signed_legacy(0, 2, LegacyList { sequence: 9, ..LegacyList::default() })),
            code::AUTHFAIL
        );
        m.stop();
    });
}

#[test]
fn an_older_list_is_refused_and_the_same_one_changes_nothing() {
    let world = World::new();
    let index = manage(&world, |mut m| {
        let index = create(&mut m);
        let (five, six) = (list(&mut m, index, 5, vec![], &[[5; 20]]), list(&mut m, index, 6, vec![], &[[6; 20]]));
        m.manage(&signed(rsa(2048, 0), index, &five));
        m.manage(&signed(rsa(2048, 0), index, &six));
        assert_eq!(m.refused(&signed(rsa(2048, 0), index, &five)), code::FAIL);
        let disk = world.disk.image();
        m.manage(&signed(rsa(2048, 0), index, &six));
        assert!(world.disk.image() == disk);
        let other_six = ConfigList { kernels: vec![[7; 20]], ..six };
        assert_eq!(m.refused(&signed(rsa(2048, 0), index, &other_six)), code::FAIL);
        // The two forms share their sequence.
        let old = |sequence| LegacyList { sequence, conditions: vec![], kernels: vec![[8; 20]] };
        assert_eq!(m.refused(&signed_legacy(0, index, old(5))), code::FAIL);
        m.manage(&signed_legacy(0, index, old(7)));
        m.stop();
        index
    });
    manage(&world.restart(), |mut m| {
        assert_eq!((show(&mut m, index).sequence, show(&mut m, index).kernels), (7, vec![[8; 20]]));
        let six = list(&mut m, index, 6, vec![], &[[6; 20]]);
        assert_eq!(m.refused(&signed(rsa(2048, 0), index, &six)), code::FAIL, "after a restart too");
        m.stop();
    });
}

#[test]
fn a_list_of_the_c_stacks_form_names_labels_and_composites() {
    let world = World::new();
    manage(&world, |mut m| {
        m.manage(&Management::GroupNew { label: [1; 20], saa: modulus(0) });
        let now = pcrs(&mut m, 0x90);
        let composite = sha1(&[&[0, 3, 0x90, 0, 0, 0, 0, 0, 40], &now.values.concat()]);
        let conditions = vec![(0x90, composite), (1 << 17, [9; 20])];
        m.manage(&signed_legacy(0, 0, LegacyList { sequence: 3, conditions, kernels: vec![[2; 20]] }));
        let shown = GroupSummary::parse(&m.manage(&Management::GroupShow { index: 0 })).unwrap();
        assert_eq!((shown.sequence, shown.composites, shown.kernels), (3, vec![composite, [9; 20]], vec![[2; 20]]));
        let empty = LegacyList { sequence: 4, conditions: vec![(0, [9; 20])], kernels: vec![] };
        assert_eq!(m.refused(&signed_legacy(0, 0, empty)), code::BAD_PARAMETER, "a configuration of no PCRs");
        m.stop();
    });
}

#[test]
fn a_sealed_group_opens_where_its_list_says_and_nowhere_else() {
    let world = World::new();
    let index = manage(&world, |mut m| {
        let index = create(&mut m);
        m.manage(&Management::VtpmNew { index, uuid: Some(vtpm(5)) });
        m.manage(&Management::VtpmNew { index, uuid: Some(vtpm(6)) });
        for n in [5, 6] {
            m.attach(front(n.into(), 1), vtpm(n));
            assert_eq!(m.ask(front(n.into(), 1), &save(&[n; 64])).1, 0);
        }
        let now = pcrs(&mut m, 1 << 4 | 1 << 7);
        let mut later = now.clone();
        later.values[0] = sha1(&[&[0; 20], &[7; 20]]).to_vec();
        let other_bank = PcrValues { bank: 0xb, mask: 1, values: vec![vec![0; 32]] };
        let bad = list(&mut m, index, 1, vec![other_bank], &[]);
        assert_eq!(m.refused(&signed(rsa(2048, 0), index, &bad)), code::DISABLED_CMD, "this chip has SHA-1 only");
        let good = list(&mut m, index, 1, vec![now, later], &[]);
        m.manage(&signed(rsa(2048, 0), index, &good));
        let shown = show(&mut m, index);
        assert_eq!((shown.flags, shown.conditions.len()), (group_flags::OPEN | group_flags::SEALED, 2));
        assert_eq!(m.ask(front(5, 1), &load()).2, [5; 64]);
        assert_eq!(m.ask(front(5, 1), &save(&[55; 64])).1, 0);
        m.stop();
        index
    });
    // Those that were saved before the list came are encrypted too: whoever opens the disk elsewhere does not have them.
    let state = world.state();
    assert_eq!(state.count(), 2);
    assert!(state.vtpms().all(|(_, vtpm)| vtpm.record.as_ref().is_some_and(|record| record.is_sealed())));
    let loaded = |world: &World, n: u8| {
        manage(world, |mut m| {
            m.attach(front(5, 2), vtpm(n));
            let (_, code, record) = m.ask(front(5, 2), &load());
            let open = show(&mut m, index).flags & group_flags::OPEN != 0;
            assert_eq!(open, code == 0);
            m.stop();
            (code, record)
        })
    };
    // As now, and as approved for later; not as it becomes after that.
    let again = world.restart();
    assert_eq!(loaded(&again, 5), (0, vec![55; 64]));
    again.chip.extend(4);
    assert_eq!(loaded(&again, 6), (0, vec![6; 64]));
    again.chip.extend(4);
    assert_eq!(loaded(&again, 5), (code::WRONG_PCR, vec![]), "never the code that makes a new vTPM of it");
    manage(&again, |mut m| {
        // Nothing of the closed group is overwritten, sealed anew, moved out or given away.
        m.attach(front(5, 3), vtpm(5));
        assert_eq!(m.ask(front(5, 3), &save(&[1; 64])).1, code::WRONG_PCR);
        m.detach(front(5, 3));
        assert_eq!(m.refused(&Management::VtpmEdit { uuid: vtpm(5), index: 0, flags: 0 }), code::AUTHFAIL);
        let now = pcrs(&mut m, 1 << 4);
        let next = list(&mut m, index, 2, vec![now], &[]);
        assert_eq!(m.refused(&signed(rsa(2048, 0), index, &next)), code::AUTHFAIL);
        // Others are served.
        m.attach(front(9, 1), vtpm(9));
        assert_eq!(m.ask(front(9, 1), &save(&[9; 64])).1, 0);
        m.stop();
    });
    let back = world.restart();
    assert_eq!(loaded(&back, 5), (0, vec![55; 64]));
    // A list without configurations: open everywhere again.
    manage(&back, |mut m| {
        let free = list(&mut m, index, 2, vec![], &[]);
        m.manage(&signed(rsa(2048, 0), index, &free));
        assert_eq!(show(&mut m, index).flags, group_flags::OPEN);
        m.stop();
    });
    let free = back.restart();
    free.chip.extend(4);
    free.chip.extend(4);
    assert_eq!(loaded(&free, 5), (0, vec![55; 64]));
    assert_eq!(loaded(&free, 6), (0, vec![6; 64]));
}

#[test]
fn the_first_groups_list_opens_the_managers_disk() {
    let world = World { seal_pcrs: 1 << 4, ..World::new() };
    let extended = |value: &[u8]| sha1(&[value, &[7; 20]]).to_vec();
    let code: [u8; 20] = manage(&world, |mut m| {
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let now = pcrs(&mut m, 1 << 4);
        let later = PcrValues { values: vec![extended(&now.values[0])], ..now };
        let next = list(&mut m, 0, 1, vec![later], &[]);
        m.manage(&signed(rsa(2048, 0), 0, &next));
        let flags = Status::parse(&m.manage(&Management::Status)).unwrap().flags;
        assert_eq!(flags & (status_flags::SEALED | status_flags::RECOVERY), status_flags::SEALED);
        let first = m.manage(&Management::RecoveryCode);
        let code = m.manage(&Management::RecoveryCode);
        assert_ne!(first, code);
        let flags = Status::parse(&m.manage(&Management::Status)).unwrap().flags;
        assert_eq!(flags & status_flags::RECOVERY, status_flags::RECOVERY);
        m.stop();
        // A code that was replaced is worth nothing.
        assert_eq!(
            world.unseal(Some(&first.try_into().unwrap())).map(|secret| secret.to_vec()),
            Some(SECRET.to_vec()),
            "by PCRs"
        );
        code.try_into().unwrap()
    });
    let opens = |world: &World, code: Option<&[u8; 20]>| world.unseal(code).is_some_and(|secret| secret[..] == SECRET);
    let again = world.restart();
    assert!(opens(&again, None), "the present configuration stays");
    again.chip.extend(4);
    assert!(opens(&again, None), "the approved one");
    // The next list takes the place of the one before; the configuration of this very start stays.
    manage(&again, |mut m| {
        let now = pcrs(&mut m, 1 << 4);
        let later = PcrValues { values: vec![extended(&extended(&now.values[0]))], ..now };
        let next = list(&mut m, 0, 2, vec![later], &[]);
        m.manage(&signed(rsa(2048, 0), 0, &next));
        m.stop();
    });
    assert!(!opens(&again.restart(), None), "the configuration before the update opens it no more");
    assert!(opens(&again, None));
    again.chip.extend(4);
    assert!(!opens(&again, None));
    assert!(!opens(&again, Some(&[0; 20])) && opens(&again, Some(&code)), "but for the code");
    again.chip.extend(4);
    assert!(opens(&again, None));
}

#[test]
fn only_listed_labels_are_served() {
    let world = World::new();
    let fronts = Rc::new(FakeFronts::default());
    let label = |user: &str| format!("{user}:vm_r:vtpm_t").into_bytes();
    // Domain 1 is the admin's; 5 and 6 differ in their user; 8 has no label that Xen would tell.
    let known = BTreeMap::from([
        (1, b"system_u:vm_r:dom0_t".to_vec()),
        (5, LABEL.to_vec()),
        (6, label("user_2")),
        (7, b"x".to_vec()),
    ]);
    *fronts.labels.borrow_mut() = Some(known);
    manage_on(&world, world.disk.clone(), fronts, |mut m| {
        let index = create(&mut m);
        for n in [5, 6, 7, 8] {
            m.manage(&Management::VtpmNew { index, uuid: Some(vtpm(n)) });
            m.attach(front(n.into(), 1), vtpm(n));
        }
        let codes = |m: &mut Running<'_>| [5, 6, 7, 8].map(|n| m.ask(front(n, 1), &save(&[n as u8; 64])).1);
        assert_eq!(codes(&mut m), [0; 4], "without a list everybody");
        let hash = sha1(&[LABEL]);
        let exact = list(&mut m, index, 1, vec![], &[[0; 20], hash]);
        m.manage(&signed(rsa(2048, 0), index, &exact));
        assert_eq!(codes(&mut m), [0, code::DISABLED, code::DISABLED, code::FAIL]);
        assert_eq!(m.ask(front(6, 1), &load()).1, code::DISABLED);
        // `*` stands for any user.
        let any = list(&mut m, index, 2, vec![], &[sha1(&[b"*:vm_r:vtpm_t"])]);
        m.manage(&signed(rsa(2048, 0), index, &any));
        assert_eq!(codes(&mut m), [0, 0, code::DISABLED, code::FAIL]);
        assert_eq!(m.ask(front(5, 1), &packet(TAG_REQ, 3, &[])), (TAG_RSP, 0, hash.to_vec()), "GET_BOOT_HASH");
        assert_eq!(m.ask(front(8, 1), &packet(TAG_REQ, 3, &[])).1, code::FAIL);
        let shown = VtpmShow::parse(&m.manage(&Management::VtpmShow { uuid: vtpm(5) })).unwrap();
        assert_eq!(shown.label, hash);
        // A vTPM that is not known yet comes into the first group, if that has no list against it.
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let first = list(&mut m, 0, 1, vec![], &[hash]);
        m.manage(&signed(rsa(2048, 0), 0, &first));
        m.attach(front(7, 2), vtpm(77));
        assert_eq!(m.ask(front(7, 2), &save(&[1; 64])).1, code::DISABLED);
        m.attach(front(5, 2), vtpm(55));
        assert_eq!(m.ask(front(5, 2), &save(&[1; 64])).1, 0);
        m.stop();
    });
    // The same on a Xen without FLASK: served by UUID.
    manage(&world.restart(), |mut m| {
        m.attach(front(6, 1), vtpm(7));
        assert_eq!(m.ask(front(6, 1), &load()).2, [7; 64]);
        assert_eq!(m.ask(front(6, 1), &packet(TAG_REQ, 3, &[])).1, code::FAIL);
        m.stop();
    });
}

#[test]
fn an_admin_with_the_wrong_label_has_no_rights() {
    let world = World::new();
    let fronts = Rc::new(FakeFronts::default());
    *fronts.labels.borrow_mut() = Some(BTreeMap::from([(1, LABEL.to_vec()), (2, b"a:b:c".to_vec())]));
    manage_on(&world, world.disk.clone(), fronts, |mut m| {
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).1, 0);
        m.manage(&Management::GroupSetKey { index: 0, saa: SaaKey::rsa(&modulus(0)[..]).unwrap() });
        let only = list(&mut m, 0, 1, vec![], &[sha1(&[LABEL])]);
        m.manage(&signed(rsa(2048, 0), 0, &only));
        m.detach(front(1, 1));
        m.attach(front(2, 1), ADMIN);
        m.without_rights(front(2, 1), &[], ORD_GROUP_LIST);
        let extend = [&[0, 0, 0, 4][..], &[7; 20]].concat();
        assert_eq!(m.ask(front(2, 1), &packet(0x00c1, 0x14, &extend)).1, code::DISABLED_CMD);
        m.stop();
    });
}
