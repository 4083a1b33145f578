use super::*;
use crate::hardware::{AttestationKey, Bank, Digest, PcrSelection};
use alloc::vec;
use tpm_crypto::Drbg;
use vault::fake::Dice;

fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"state tests").unwrap()
}

fn condition(pcr: u8) -> PcrCondition {
    let values = vec![Digest::from_slice(&[pcr; 32]).unwrap()];
    let digest = Digest::from_slice(&[pcr + 1; 32]).unwrap();
    PcrCondition { bank: Bank::Sha256, selection: PcrSelection::NONE.with(pcr), digest, values }
}

fn sealed(n: u8) -> Sealed {
    Sealed::parse(&[0x20, n, n, n]).unwrap()
}

/// A group with something in every field.
fn full(n: u8) -> Group {
    Group {
        uuid: [n; 16],
        flags: 0x0102_0304,
        approver: Some(ApprovalKey::Rsa(vec![n; 384])),
        privacy_ca: [2; 20],
        ak: Some(GroupAk { key: AttestationKey::parse(&[0x20, 8, 8]).unwrap(), binding: vec![3; 300] }),
        key: GroupKey::Sealed(vec![(condition(1), sealed(1)), (condition(2), sealed(2))]),
        config: Config { sequence: 77, pcrs: vec![condition(5)], kernels: vec![[6; 20], [7; 20]] },
        recovery: vec![4; 64],
    }
}

fn plain(n: u8) -> Group {
    Group { approver: Some(ApprovalKey::P256([9; 64])), ak: None, ..Group::new(&mut rng(n)) }
}

fn anchor(value: u64) -> Anchor {
    Anchor { counter: Counter::parse(&[0x12, 1, 2]).unwrap(), value }
}

fn vtpm(group: Uuid, record: Option<StoredRecord>) -> Vtpm {
    Vtpm { group, flags: 5, record }
}

/// A state with everything in it.
fn whole() -> State {
    let mut state = State::default();
    let (first, second) = (plain(1), full(2));
    let (a, b) = (first.uuid, second.uuid);
    for change in [
        Change::Owner(Some(AuthData([1; 20]))),
        Change::Anchor(Some(anchor(7))),
        Change::AnchorValue(8),
        Change::PutGroup(Box::new(first)),
        Change::PutGroup(Box::new(second)),
        Change::PutVtpm { uuid: [1; 16], vtpm: vtpm(a, StoredRecord::plain(&[1; 52])) },
        Change::PutVtpm { uuid: [2; 16], vtpm: vtpm(a, None) },
        Change::PutVtpm {
            uuid: [3; 16],
            vtpm: vtpm(b, StoredRecord::sealed(&[3; 64], &[3; 16], &b, &[9; 32], &mut rng(3))),
        },
    ] {
        state.apply(change).unwrap();
    }
    state
}

fn same(a: &State, b: &State) -> bool {
    (&a.owner, &a.anchor, &a.groups, &a.vtpms, a.size) == (&b.owner, &b.anchor, &b.groups, &b.vtpms, b.size)
}

fn replayed(parts: impl IntoIterator<Item = Zeroizing<Vec<u8>>>) -> Result<State, StateError> {
    let mut state = State::default();
    parts.into_iter().try_for_each(|part| state.replay(&part))?;
    Ok(state)
}

#[test]
fn what_is_written_reads_back() {
    assert!(same(&replayed(State::default().parts()).unwrap(), &State::default()));
    let state = whole();
    assert!(same(&replayed(state.parts()).unwrap(), &state));
    let parts: usize = state.parts().map(|part| part.len() - encoding::PART_HEADER).sum();
    assert_eq!(state.size(), parts, "what it says it takes is what it takes");
}

/// Random lives: the state that a checkpoint or the entries give back is the state that was; what takes a change back does so.
#[test]
fn entries_checkpoints_and_memory_agree() {
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let (mut state, mut from_entries) = (State::default(), State::default());
        // The first group, which is there for good.
        let first = Change::PutGroup(Box::new(plain(100)));
        from_entries.replay(&Change::to_entry(core::slice::from_ref(&first))).unwrap();
        state.apply(first).unwrap();
        let began = replayed(state.parts()).unwrap();
        let mut undo = Vec::new();
        for step in 0..300u32 {
            let n = dice.roll(30) as u8;
            let group = [dice.roll(4) as u8; 16];
            let change = match dice.roll(14) {
                0 => Change::Owner((n > 10).then(|| AuthData([n; 20]))),
                1 => Change::Anchor((n > 5).then(|| anchor(n.into()))),
                2 => Change::AnchorValue(step.into()),
                3 => Change::PutGroup(Box::new(full(n % 4))),
                4 => Change::PutGroup(Box::new(Group { uuid: group, ..plain(n) })),
                5 => Change::DeleteGroup(group),
                6 => Change::DeleteVtpm([n; 16]),
                7 => Change::PutVtpm { uuid: [n; 16], vtpm: vtpm(group, None) },
                _ => {
                    let record = vec![n; 52 + dice.roll(13)];
                    let record = match dice.roll(2) {
                        0 => StoredRecord::plain(&record),
                        _ => StoredRecord::sealed(&record, &[n; 16], &group, &[1; 32], &mut rng(n)),
                    };
                    assert!(record.is_some());
                    Change::PutVtpm { uuid: [n; 16], vtpm: vtpm(group, record) }
                }
            };
            let size = state.check(&change);
            let entry = Change::to_entry(core::slice::from_ref(&change));
            match state.apply(change) {
                Ok(back) => {
                    assert_eq!(size, Ok(state.size()));
                    from_entries.replay(&entry).unwrap();
                    undo.push(back);
                }
                Err(error) => {
                    assert_eq!(size, Err(error));
                    // An entry that makes no sense is not ours.
                    let mut other = replayed(state.parts()).unwrap();
                    assert_eq!(other.replay(&entry), Err(StateError::Malformed));
                }
            }
        }
        assert!(same(&state, &from_entries));
        let from_parts = replayed(state.parts()).unwrap();
        assert!(same(&state, &from_parts));
        let known = undo.len();
        assert!(known > 100, "{known}");
        for change in undo.into_iter().rev() {
            state.apply(change).unwrap();
        }
        assert!(same(&state, &began));
    }
}

#[test]
fn many_vtpms_make_parts_of_the_right_size() {
    let mut state = whole();
    let group = state.groups()[0].uuid;
    for n in 0..3000u128 {
        let vtpm = vtpm(group, StoredRecord::plain(&[n as u8; 64]));
        state.apply(Change::PutVtpm { uuid: n.to_be_bytes(), vtpm }).unwrap();
    }
    let lengths: Vec<_> = state.parts().map(|part| (part.len(), part.capacity())).collect();
    let (last, full) = lengths.split_last().unwrap();
    assert!(full.len() >= 8 && last.0 <= MAX_PART);
    // Full, and never grown: growing would leave a copy of a secret behind.
    assert!(full.iter().all(|(len, capacity)| *len <= MAX_PART && *len > MAX_PART - 200 && *capacity <= MAX_PART + 64));
    assert!(same(&replayed(state.parts()).unwrap(), &state));
}

#[test]
fn large_groups_have_parts_of_their_own() {
    let mut state = State::default();
    for n in 0..5 {
        let pcrs = vec![PcrCondition { values: vec![Digest::from_slice(&[1; 32]).unwrap()], ..condition(3) }; 8];
        let seals = (0..8).map(|pcr| (condition(pcr), Sealed::parse(&[0x20; 2048]).unwrap())).collect();
        let group = Group { key: GroupKey::Sealed(seals), config: Config { pcrs, ..Config::default() }, ..full(n) };
        state.apply(Change::PutGroup(Box::new(group))).unwrap();
    }
    assert!(state.parts().all(|part| part.len() <= vault::MAX_ENTRY));
    assert!(state.parts().count() >= 4);
    assert!(same(&replayed(state.parts()).unwrap(), &state));
}

#[test]
fn format_1_reads_for_ever() {
    let parts: [&[u8]; 17] = [
        &[0, 1],
        &[1, 0, 0, 0, 20],
        &[1; 20],
        &[2, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 7, 0x12, 1, 2],
        &[3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8],
        // A group: UUID, flags, CA label, no approver, no AK, plain key, sequence, no PCRs, a kernel, no recovery.
        &[4, 0, 0, 0, 16 + 4 + 20 + 4 + 4 + 33 + 8 + 1 + 21 + 4],
        &[5; 16],
        &[0, 0, 0, 6],
        &[7; 20],
        &[0; 4 + 4 + 1],
        &[8; 32],
        &[0, 0, 0, 0, 0, 0, 0, 9, 0, 1],
        &[10; 20],
        &[0; 4],
        // A vTPM: UUID, group, flags, plain record.
        &[6, 0, 0, 0, 16 + 16 + 4 + 1 + 52],
        &[11; 16],
        &[&[5; 16][..], &[0, 0, 0, 12, 1], &[13; 52]].concat(),
    ];
    let mut state = State::default();
    state.replay(&parts.concat()).unwrap();
    assert!(state.owner() == Some(&AuthData([1; 20])) && state.anchor() == Some(&anchor(8)));
    let group = state.group(&[5; 16]).unwrap();
    assert!(group.flags == 6 && group.privacy_ca == [7; 20] && group.key == GroupKey::Plain(Zeroizing::new([8; 32])));
    assert!(group.config == Config { sequence: 9, pcrs: vec![], kernels: vec![[10; 20]] });
    let kept = state.vtpm(&[11; 16]).unwrap();
    assert!(kept == &Vtpm { group: [5; 16], flags: 12, record: StoredRecord::plain(&[13; 52]) });
    for (entry, count) in [(&[0, 1, 7, 0, 0, 0, 16][..], 0), (&[0, 1, 5, 0, 0, 0, 16], 0)] {
        let uuid = if count == 0 && entry[2] == 7 { [11; 16] } else { [5; 16] };
        let outcome = state.replay(&[entry, &uuid].concat());
        // The vTPM goes; the first group stays.
        assert_eq!(outcome.is_ok(), entry[2] == 7);
        assert_eq!(state.count(), count);
    }
}

#[test]
fn stored_bytes_that_are_not_ours_are_refused() {
    let parts: Vec<_> = whole().parts().collect();
    let [good] = &parts[..] else { panic!("one part") };
    let parse = |bytes: &[u8]| replayed([Zeroizing::new(bytes.to_vec())]).err();
    assert_eq!(parse(good), None);
    let mut ends = 0;
    for cut in 0..good.len() {
        match parse(&good[..cut]) {
            Some(StateError::Malformed) => {}
            // A cut between two items.
            None => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends, 7, "owner, anchor, two groups, three vTPMs, less the last, and nothing at all");
    assert_eq!(parse(&[0, 2]), Some(StateError::NewerFormat(2)));
    assert_eq!(parse(&[0, 0]), Some(StateError::Malformed));
    for at in 0..good.len() {
        for value in [0, 1, 2, 0x7f, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            // Whatever it says, it does not panic, and what is taken is written again as it is.
            if let Ok(state) = replayed([Zeroizing::new(bytes.clone())]) {
                assert!(same(&replayed(state.parts()).unwrap(), &state), "byte {at} = {value}");
            }
        }
    }
    for entry in [
        &[0, 1, 9, 0, 0, 0, 0][..],
        &[0, 1, 0, 0, 0, 0, 0],
        &[0, 1, 7, 0, 0, 0, 15, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        &[0, 1, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 1, 3, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(whole().replay(entry), Err(StateError::Malformed), "{entry:?}");
    }
}

#[test]
fn limits_hold() {
    let mut state = State::default();
    let first = plain(1);
    let group = first.uuid;
    assert_eq!(state.apply(Change::AnchorValue(1)).err(), Some(ChangeError::NoAnchor));
    let early = Change::PutVtpm { uuid: [1; 16], vtpm: vtpm(group, None) };
    assert_eq!(state.apply(early).err(), Some(ChangeError::NoSuchGroup));
    state.apply(Change::PutGroup(Box::new(first))).unwrap();
    for n in 1..MAX_GROUPS {
        state.apply(Change::PutGroup(Box::new(Group { uuid: [n as u8; 16], ..plain(2) }))).unwrap();
    }
    let more = Change::PutGroup(Box::new(Group { uuid: [99; 16], ..plain(2) }));
    assert_eq!(state.apply(more).err(), Some(ChangeError::TooManyGroups));
    state.apply(Change::PutGroup(Box::new(full(7)))).unwrap();
    assert_eq!(state.groups()[0].uuid, group, "the first stays the first");
    for n in 0..MAX_VTPMS as u128 {
        state.apply(Change::PutVtpm { uuid: n.to_be_bytes(), vtpm: vtpm(group, None) }).unwrap();
    }
    let more = Change::PutVtpm { uuid: [99; 16], vtpm: vtpm(group, None) };
    assert_eq!(state.apply(more).err(), Some(ChangeError::TooManyVtpms));
    let known = Change::PutVtpm { uuid: 5u128.to_be_bytes(), vtpm: vtpm([7; 16], StoredRecord::plain(&[1; 60])) };
    state.apply(known).unwrap();
    assert_eq!(state.apply(Change::DeleteGroup([7; 16])).err(), Some(ChangeError::GroupInUse));
    assert_eq!(state.apply(Change::DeleteGroup(group)).err(), Some(ChangeError::FirstGroup));
    assert_eq!(state.apply(Change::DeleteGroup([98; 16])).err(), Some(ChangeError::NoSuchGroup));
    assert_eq!(state.apply(Change::DeleteVtpm([98; 16])).err(), Some(ChangeError::NoSuchVtpm));
    state.apply(Change::DeleteVtpm(5u128.to_be_bytes())).unwrap();
    state.apply(Change::DeleteGroup([7; 16])).unwrap();
    let too_large = [
        Group { recovery: vec![0; MAX_BLOB + 1], ..plain(3) },
        Group { key: GroupKey::Sealed(vec![]), ..plain(3) },
        Group { key: GroupKey::Sealed(vec![(condition(1), sealed(1)); MAX_CONFIGURATIONS + 1]), ..plain(3) },
        Group { approver: Some(ApprovalKey::Rsa(vec![1; 255])), ..plain(3) },
        Group { config: Config { kernels: vec![[0; 20]; MAX_KERNELS + 1], ..Config::default() }, ..plain(3) },
        Group { config: Config { pcrs: vec![condition(1); MAX_CONFIGURATIONS + 1], ..Config::default() }, ..plain(3) },
        Group { ak: Some(GroupAk { binding: vec![0; MAX_BLOB + 1], ..full(1).ak.unwrap() }), ..plain(3) },
    ];
    for group in too_large {
        assert_eq!(state.apply(Change::PutGroup(Box::new(group))).err(), Some(ChangeError::GroupTooLarge));
    }
}

#[test]
fn records_have_52_to_64_bytes_and_open_only_where_they_belong() {
    for length in [0, 51, 65, 200] {
        assert!(StoredRecord::plain(&vec![1; length]).is_none());
        assert!(StoredRecord::sealed(&vec![1; length], &[1; 16], &[2; 16], &[3; 32], &mut rng(1)).is_none());
    }
    let (vtpm, group, key) = ([1; 16], [2; 16], [3; 32]);
    for length in 52..=64 {
        let record = vec![length as u8; length];
        let stored = StoredRecord::plain(&record).unwrap();
        assert_eq!(stored.open(&vtpm, &group, None).unwrap()[..], record[..]);
        let stored = StoredRecord::sealed(&record, &vtpm, &group, &key, &mut rng(2)).unwrap();
        assert_eq!(stored.open(&vtpm, &group, Some(&key)).unwrap()[..], record[..]);
        assert!(stored.open(&vtpm, &group, None).is_err());
        assert!(stored.open(&group, &group, Some(&key)).is_err());
        assert!(stored.open(&vtpm, &vtpm, Some(&key)).is_err());
        assert!(stored.open(&vtpm, &group, Some(&[4; 32])).is_err());
        assert!(!stored.bytes().windows(8).any(|bytes| bytes == &record[..8]), "encrypted");
    }
}
