use crate::dispatch::table::ord;
use crate::testing::client::{
    OWNER, SRK, SRK_AUTH, call, oiap, osap, public_of, sized, storage_template, take_ownership, template,
};
use crate::testing::{commit, owned, rng, send, tpm};
use crate::{Options, StartupType, Tpm12};
use alloc::vec::Vec;
use tpm_wire::Engine;

const OK: Result<Vec<u8>, u32> = Ok(Vec::new());

#[test]
fn ownership_makes_a_storage_root_key_and_outlives_a_restart() {
    let mut tpm = tpm();
    let srk = take_ownership(&mut tpm).unwrap();
    assert_eq!(public_of(&srk).size(), 256);
    assert_eq!(take_ownership_again(&mut tpm), Err(20));
    assert_eq!(send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]), Err(8));
    let state = commit(&mut tpm).unwrap();
    let mut tpm = Tpm12::load(&state, rng(5), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    let session = osap(&mut tpm, 4, 0, SRK_AUTH);
    assert!(session.keep);
    assert_eq!(send(&mut tpm, ord::GET_CAPABILITY, &[&[0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 1, 0x11]]).unwrap()[4], 1);
}

fn take_ownership_again(tpm: &mut Tpm12) -> Result<Vec<u8>, u32> {
    try_ownership(tpm, &[1; 256], &[1; 256], &storage_template(0), OWNER)
}

fn try_ownership(tpm: &mut Tpm12, owner: &[u8], srk: &[u8], key: &[u8], secret: [u8; 20]) -> Result<Vec<u8>, u32> {
    let mut auth = oiap(tpm, secret);
    let parameters: [&[u8]; 4] = [&[0, 5], &sized(owner), &sized(srk), key];
    call(tpm, ord::TAKE_OWNERSHIP, &[], &parameters, &mut [&mut auth])
}

#[test]
fn an_ownership_that_is_not_right_in_every_part_is_refused_and_changes_nothing() {
    let mut tpm = tpm();
    let ek = public_of(&send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]).unwrap());
    let encrypt = |secret: &[u8]| ek.encrypt_oaep(&mut rng(7), secret).unwrap();
    let (owner, srk) = (encrypt(&OWNER), encrypt(&SRK_AUTH));
    let good = storage_template(0);
    let mut check = |owner: &[u8], srk: &[u8], key: &[u8], secret, code| {
        assert_eq!(try_ownership(&mut tpm, owner, srk, key, secret), Err(code));
    };
    check(&owner, &srk, &good, [9; 20], 1);
    check(&encrypt(&[1; 19]), &srk, &good, OWNER, 40);
    check(&owner[..255], &srk, &good, OWNER, 33);
    check(&[], &srk, &good, OWNER, 33);
    check(&owner, &[0xff; 256], &good, OWNER, 33);
    check(&owner, &srk, &storage_template(2), OWNER, 36);
    check(&owner, &srk, &template(0x10, 0, 1, 1, 2, 2048), OWNER, 36);
    check(&owner, &srk, &template(0x11, 0, 1, 3, 1, 1024), OWNER, 40);
    check(&owner, &srk, &template(0x11, 0, 1, 2, 1, 2048), OWNER, 40);
    assert_eq!(commit(&mut tpm), None);
    assert!(take_ownership(&mut tpm).is_ok());
}

#[test]
fn a_cancelled_ownership_never_came() {
    let mut tpm = tpm();
    let ek = public_of(&send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]).unwrap());
    let encrypt = |secret: &[u8]| sized(&ek.encrypt_oaep(&mut rng(7), secret).unwrap());
    let mut auth = oiap(&mut tpm, OWNER);
    let parameters: [&[u8]; 4] = [&[0, 5], &encrypt(&OWNER), &encrypt(&SRK_AUTH), &storage_template(0)];
    let packet = crate::testing::client::authorized(ord::TAKE_OWNERSHIP, &[], &parameters, &[&mut auth]);
    let before = tpm.save_volatile();
    let mut response = Vec::new();
    assert_eq!(tpm.execute(0, &packet, &mut response), tpm_wire::Progress::Working);
    assert_eq!(tpm.resume(&mut response), tpm_wire::Progress::Working);
    tpm.cancel();
    assert_eq!((tpm.save_volatile(), tpm.staged(), response.len()), (before, None, 0));
    // The session is as it was: the same packet is good.
    let response = crate::testing::execute(&mut tpm, 0, &packet);
    assert!(crate::testing::client::check_response(&response, ord::TAKE_OWNERSHIP, &mut [&mut auth], false).is_ok());
}

#[test]
fn the_owner_clears_and_takes_everything_along() {
    let mut tpm = owned();
    let proof_before = tpm.staged();
    let mut session = osap(&mut tpm, 1, SRK, SRK_AUTH);
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::OWNER_CLEAR, &[], &[], &mut [&mut auth]), OK);
    assert!(!auth.keep);
    assert_eq!(call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut session]), Err(18));
    assert!(send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]).is_ok());
    assert_ne!(tpm.staged(), proof_before);
    assert!(take_ownership(&mut tpm).is_ok());
}

#[test]
fn clearing_can_be_disabled() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut auth]), OK);
    assert_eq!(call(&mut tpm, ord::OWNER_CLEAR, &[], &[], &mut [&mut auth]), Err(5));
    assert_eq!(send(&mut tpm, ord::FORCE_CLEAR, &[]), Err(45));
    tpm.assert_physical_presence();
    assert_eq!(send(&mut tpm, ord::DISABLE_FORCE_CLEAR, &[]), OK);
    assert_eq!(send(&mut tpm, ord::FORCE_CLEAR, &[]), Err(5));
    tpm.reset_for_new_guest();
    tpm.assert_physical_presence();
    assert_eq!(send(&mut tpm, ord::FORCE_CLEAR, &[]), OK);
    assert!(take_ownership(&mut tpm).is_ok());
}

#[test]
fn physical_presence_follows_its_locks() {
    let mut tpm = tpm();
    let mut presence = |bits: u16| send(&mut tpm, ord::TSC_PHYSICAL_PRESENCE, &[&bits.to_be_bytes()]).err();
    for bad in [0u16, 0x18, 0x0c, 0x28, 0x0001, 0x0400, 0x8000, 0x0120, 0x0240] {
        assert_eq!(presence(bad), Some(3), "{bad:#x}");
    }
    assert_eq!(presence(0x0008), None);
    assert_eq!(presence(0x0010), None);
    assert_eq!(presence(0x0004), None);
    assert_eq!(presence(0x0008), Some(3), "locked until the next start");
    tpm.reset_for_new_guest();
    let mut presence = |bits: u16| send(&mut tpm, ord::TSC_PHYSICAL_PRESENCE, &[&bits.to_be_bytes()]).err();
    assert_eq!(presence(0x0008), None);
    assert_eq!(presence(0x0100 | 0x0080), None);
    assert_eq!(presence(0x0008), Some(3), "disabled for life");
    assert_eq!(presence(0x0020), Some(3));
    assert_eq!(send(&mut tpm, ord::FORCE_CLEAR, &[]), Err(45));
}
