use super::*;
use crate::hardware::{Bank, Version};
use crate::state::{ApprovalKey, Change};
use alloc::boxed::Box;
use alloc::vec;
use tpm_wire::mgr::PcrValues;

fn rng() -> Drbg {
    Drbg::new(&[3; 48], b"test").unwrap()
}

/// Two groups, the second of which has vTPM 5.
fn state() -> State {
    let (mut state, mut rng) = (State::default(), rng());
    let second = Group::new(&mut rng);
    let vtpm = Vtpm { group: second.uuid, flags: 0, record: None };
    let first = Change::PutGroup(Box::new(Group::new(&mut rng)));
    for change in [first, Change::PutGroup(Box::new(second)), Change::PutVtpm { uuid: [5; 16], vtpm }] {
        assert!(state.apply(change).is_ok());
    }
    state
}

fn edit(state: &mut State, change: impl FnOnce(&mut Group)) {
    let mut group = state.groups()[1].clone();
    change(&mut group);
    assert!(state.apply(Change::PutGroup(Box::new(group))).is_ok());
}

/// A key sealed to one made-up condition.
fn sealed() -> GroupKey {
    let values = PcrValues { bank: 4, mask: 1, values: vec![vec![0; 20]] };
    let Ok(condition) = condition_of(&values, Version::V12, Bank::Sha1) else { panic!("a good one") };
    GroupKey::Sealed(vec![(condition, crate::hardware::Sealed::parse(&[0x12, 1]).unwrap())])
}

fn code_of<O>(outcome: Result<O, Refused>) -> u32 {
    outcome.err().map_or(0, |refused| refused.0)
}

#[test]
fn rights_go_to_whom_they_were_given() {
    let (mut state, policy) = (state(), Policy::new(&[[5; 16], [9; 16]]));
    assert!(policy.is_admin(&[5; 16]) && !policy.is_admin(&[6; 16]) && !Policy::new(&[]).is_admin(&[0; 16]));
    let check = |state: &State, uuid, peer| code_of(policy.check_admin(state, &[uuid; 16], &peer));
    assert_eq!(check(&state, 5, Peer::Unchecked), 0);
    assert_eq!(check(&state, 9, Peer::Unchecked), 0, "it never saved a record");
    assert_eq!(check(&state, 6, Peer::Unchecked), code::AUTHFAIL);
    // A vTPM with a record is served like any other, or has no rights.
    edit(&mut state, |group| group.config.kernels = vec![[1; 20]]);
    assert_eq!(check(&state, 5, Peer::from_label(b"a:b:c")), code::AUTHFAIL);
    assert_eq!(check(&state, 9, Peer::from_label(b"a:b:c")), 0);
    let vtpm = Vtpm { flags: vtpm_marks::LOCKED, ..state.vtpm(&[5; 16]).unwrap().clone() };
    assert!(state.apply(Change::PutVtpm { uuid: [5; 16], vtpm }).is_ok());
    assert_eq!(check(&state, 5, Peer::Unchecked), code::AUTHFAIL);
}

#[test]
fn labels_against_lists() {
    let hash = |text: &[u8]| tpm_crypto::sha1(&[text]);
    let known = Peer::from_label(b"user_1:vm_r:vtpm_t");
    let exact = hash(b"user_1:vm_r:vtpm_t");
    let any = hash(b"*:vm_r:vtpm_t");
    assert_eq!(known.measured(&[]), Ok(Some(exact)));
    assert_eq!(known.measured(&[[0; 20], exact]), Ok(Some(exact)));
    assert_eq!(known.measured(&[any]), Ok(Some(any)), "what the list names is what is measured");
    assert_eq!(known.measured(&[any, exact]), Ok(Some(exact)));
    for wrong in [hash(b"user_2:vm_r:vtpm_t"), hash(b"*:vm_r:vtpm_u"), hash(b"vm_r:vtpm_t"), hash(b"*")] {
        assert_eq!(known.measured(&[wrong]), Err(Refused(code::DISABLED)));
    }
    // A label without a user has no form with `*`.
    assert_eq!(Peer::from_label(b"plain").measured(&[hash(b"*plain")]), Err(Refused(code::DISABLED)));
    assert_eq!(Peer::Unchecked.measured(&[exact]), Ok(None));
    assert_eq!(Peer::Unknown.measured(&[]), Ok(None));
    assert_eq!(Peer::Unknown.measured(&[exact]), Err(Refused(code::FAIL)));
}

#[test]
fn a_sealed_group_is_open_with_its_key_only() {
    let (mut state, mut policy) = (state(), Policy::new(&[]));
    assert!(policy.is_open(&state.groups()[1]));
    edit(&mut state, |group| group.key = sealed());
    let group = state.groups()[1].clone();
    let record = [7; 64];
    assert_eq!(code_of(policy.keep(&record, &[5; 16], &group, &mut rng())), code::WRONG_PCR);
    assert_eq!(code_of(policy.group_key(&group)), code::WRONG_PCR);
    policy.open(group.uuid, Zeroizing::new([1; 32]));
    let Ok(kept) = policy.keep(&record, &[5; 16], &group, &mut rng()) else { panic!("an open group") };
    assert!(kept.is_sealed());
    let open = |vtpm, key: &[u8; 32]| kept.open(&[vtpm; 16], &group.uuid, Some(key)).ok();
    assert_eq!(open(5, &[1; 32]).map(|record| record.to_vec()), Some(record.to_vec()));
    assert!(open(6, &[1; 32]).is_none() && open(5, &[2; 32]).is_none());
    policy.forget(&group.uuid);
    assert!(!policy.is_open(&group));
}

#[test]
fn a_recovery_ends_with_the_right_key_or_not_at_all() {
    let (mut state, mut policy, mut rng) = (state(), Policy::new(&[]), rng());
    let key = [0x42; 32];
    edit(&mut state, |group| {
        group.key = sealed();
        group.recovery = check_value(&key).to_vec();
    });
    let group = state.groups()[1].clone();
    let mut end = |policy: &mut Policy, key: &[u8; 32]| {
        let (ours, theirs) = (Exchange::new(&mut rng), Exchange::new(&mut rng));
        let secret = theirs.shared(&ours.public()).unwrap();
        policy.begin_recovery(group.uuid, ours);
        code_of(policy.end_recovery(&group, &theirs.public(), &hidden(&secret, key)))
    };
    assert_eq!(end(&mut policy, &[0x43; 32]), code::AUTHFAIL);
    assert!(!policy.is_open(&group));
    assert_eq!(end(&mut policy, &key), 0);
    assert!(policy.is_open(&group));
    // A group whose key was never given away has nothing that an empty answer would match.
    edit(&mut state, |group| group.recovery = vec![]);
    let unregistered = state.groups()[1].clone();
    policy.begin_recovery(unregistered.uuid, Exchange::new(&mut Drbg::new(&[4; 48], b"").unwrap()));
    let half = Exchange::new(&mut Drbg::new(&[5; 48], b"").unwrap()).public();
    assert_eq!(code_of(policy.end_recovery(&unregistered, &half, &[0; 32])), code::AUTHFAIL);
}

#[test]
fn only_a_group_of_this_run_is_registered() {
    let (mut state, mut policy) = (state(), Policy::new(&[]));
    assert!(!policy.can_register(&state.groups()[1]));
    policy.is_new(state.groups()[1].uuid);
    assert!(policy.can_register(&state.groups()[1]) && !policy.can_register(&state.groups()[0]));
    edit(&mut state, |group| group.flags |= group_marks::REGISTERED);
    assert!(!policy.can_register(&state.groups()[1]));
}

#[test]
fn conditions_as_each_chip_wants_them() {
    let values = |bank, size| PcrValues { bank, mask: 0x81, values: vec![vec![1; size], vec![2; size]] };
    let Ok(old) = condition_of(&values(4, 20), Version::V12, Bank::Sha1) else { panic!("a good one") };
    // TPM_PCR_COMPOSITE: selection, size, values.
    let composite = [&[0, 3, 0x81, 0, 0, 0, 0, 0, 40][..], &[1; 20], &[2; 20]].concat();
    assert_eq!(old.digest[..], tpm_crypto::sha1(&[&composite]));
    let Ok(new) = condition_of(&values(0xb, 32), Version::V20, Bank::Sha256) else { panic!("a good one") };
    assert_eq!(new.digest[..], tpm_crypto::sha256(&[&[1; 32], &[2; 32]]));
    assert_eq!(new.values.len(), 2);
    let refused = |values, bank| code_of(condition_of(&values, Version::V20, bank));
    assert_eq!(refused(values(4, 20), Bank::Sha256), code::DISABLED_CMD);
    assert_eq!(refused(values(0xb, 20), Bank::Sha256), code::BAD_PARAMETER);
    assert_eq!(refused(values(9, 32), Bank::Sha256), code::BAD_PARAMETER);
    assert_eq!(refused(PcrValues { mask: 0, values: vec![], bank: 0xb }, Bank::Sha256), code::BAD_PARAMETER);
    assert_eq!(refused(PcrValues { mask: 1, ..values(0xb, 32) }, Bank::Sha256), code::BAD_PARAMETER);
}

#[test]
fn lists_of_the_c_stacks_form_are_for_its_keys() {
    let (mut state, list) = (state(), tpm_wire::mgr::LegacyList::default());
    let check = |state: &State| code_of(approve_legacy(&state.groups()[1], &list, &[0; 256], Version::V12));
    assert_eq!(check(&state), code::AUTHFAIL, "nobody can sign");
    edit(&mut state, |group| group.approver = Some(ApprovalKey::P256([1; 64])));
    assert_eq!(check(&state), code::AUTHFAIL);
    edit(&mut state, |group| group.approver = Some(ApprovalKey::Rsa(vec![0x81; 384])));
    assert_eq!(check(&state), code::AUTHFAIL, "a key of another size");
}
