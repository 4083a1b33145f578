use crate::dispatch::table::ord;
use crate::testing::client::{OWNER, call, oiap};
use crate::testing::{owned, send, tpm};

const OK: Result<alloc::vec::Vec<u8>, u32> = Ok(alloc::vec::Vec::new());

#[test]
fn presence_enables_disables_and_deactivates() {
    let mut tpm = tpm();
    for (ordinal, parameters) in [
        (ord::PHYSICAL_ENABLE, &[][..]),
        (ord::PHYSICAL_DISABLE, &[]),
        (ord::PHYSICAL_SET_DEACTIVATED, &[1]),
        (ord::SET_TEMP_DEACTIVATED, &[]),
        (ord::SET_OPERATOR_AUTH, &[0; 20]),
        (ord::SET_OWNER_INSTALL, &[0]),
    ] {
        assert_eq!(send(&mut tpm, ordinal, &[parameters]), Err(45), "{ordinal:#x}");
    }
    assert_eq!(send(&mut tpm, ord::TSC_PHYSICAL_PRESENCE, &[&[0, 8]]), OK);
    assert_eq!(send(&mut tpm, ord::PHYSICAL_DISABLE, &[]), OK);
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), Err(7));
    assert_eq!(send(&mut tpm, ord::PHYSICAL_ENABLE, &[]), OK);
    assert_eq!(send(&mut tpm, ord::PHYSICAL_SET_DEACTIVATED, &[&[1]]), OK);
    assert!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]).is_ok(), "only from the next start on");
    tpm.reset_for_new_guest();
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), Err(6));
    assert_eq!(send(&mut tpm, ord::PHYSICAL_SET_DEACTIVATED, &[&[2]]), Err(3));
}

#[test]
fn the_operator_deactivates_until_the_next_start() {
    let mut tpm = tpm();
    let mut auth = oiap(&mut tpm, [9; 20]);
    assert_eq!(call(&mut tpm, ord::SET_TEMP_DEACTIVATED, &[], &[], &mut [&mut auth]), Err(73));
    tpm.assert_physical_presence();
    assert_eq!(send(&mut tpm, ord::SET_OPERATOR_AUTH, &[&[9; 20]]), OK);
    let mut wrong = oiap(&mut tpm, [8; 20]);
    assert_eq!(call(&mut tpm, ord::SET_TEMP_DEACTIVATED, &[], &[], &mut [&mut wrong]), Err(1));
    let mut auth = oiap(&mut tpm, [9; 20]);
    assert_eq!(call(&mut tpm, ord::SET_TEMP_DEACTIVATED, &[], &[], &mut [&mut auth]), OK);
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), Err(6));
}

#[test]
fn the_owner_disables_and_enables() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::OWNER_SET_DISABLE, &[], &[&[1]], &mut [&mut auth]), OK);
    assert_eq!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]), Err(7));
    assert_eq!(call(&mut tpm, ord::OWNER_SET_DISABLE, &[], &[&[0]], &mut [&mut auth]), OK);
    assert!(send(&mut tpm, ord::GET_RANDOM, &[&[0, 0, 0, 1]]).is_ok());
}

#[test]
fn with_an_owner_the_install_flag_stays() {
    let mut tpm = owned();
    let flags: [&[u8]; 3] = [&[0, 0, 0, 4], &[0, 0, 0, 4], &[0, 0, 1, 8]];
    let before = send(&mut tpm, ord::GET_CAPABILITY, &flags).unwrap();
    assert_eq!(send(&mut tpm, ord::SET_OWNER_INSTALL, &[&[0]]), OK);
    assert_eq!(send(&mut tpm, ord::GET_CAPABILITY, &flags), Ok(before));
    assert_eq!(send(&mut tpm, ord::SET_OWNER_INSTALL, &[&[2]]), Err(3));
}
