use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send_at, tpm};

fn set(tpm: &mut Tpm12, owner: bool, locality: u8, area: u32, sub: u32, value: &[u8]) -> Option<u32> {
    let parameters: [&[u8]; 3] = [&area.to_be_bytes(), &sized(&sub.to_be_bytes()), &sized(value)];
    if owner {
        let mut auth = oiap(tpm, OWNER);
        call_at(tpm, locality, ord::SET_CAPABILITY, &[], &parameters, &mut [&mut auth], false).err()
    } else {
        send_at(tpm, locality, ord::SET_CAPABILITY, &parameters).err()
    }
}

#[test]
fn permanent_flags_are_set_by_those_who_may() {
    let mut tpm = owned();
    for (sub, value) in [(1, 0), (4, 1), (5, 1), (6, 0), (17, 1), (20, 1)] {
        assert_eq!(set(&mut tpm, false, 0, 1, sub, &[value]), Some(1), "flag {sub}");
        assert_eq!(set(&mut tpm, true, 0, 1, sub, &[value]), None, "flag {sub}");
    }
    assert_eq!(set(&mut tpm, true, 0, 1, 5, &[0]), Some(3));
    assert_eq!(set(&mut tpm, true, 0, 1, 6, &[1]), Some(3));
    assert_eq!(set(&mut tpm, true, 0, 1, 2, &[1]), Some(20));
    assert_eq!(set(&mut tpm, true, 0, 1, 3, &[0]), Some(1), "presence, not the owner");
    for sub in [0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, u32::MAX] {
        assert_eq!(set(&mut tpm, true, 0, 1, sub, &[1]), Some(3), "flag {sub}");
    }
    for value in [&[][..], &[2], &[0, 0]] {
        assert_eq!(set(&mut tpm, true, 0, 1, 17, value), Some(3));
    }
    assert_eq!(set(&mut tpm, true, 0, 8, 1, &[1]), Some(44));
    // The root key can be read now.
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    assert!(call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]).is_ok());
}

#[test]
fn localities_and_presence_count_where_they_should() {
    let mut tpm = tpm();
    assert_eq!(set(&mut tpm, false, 2, 1, 18, &[0]), Some(61));
    assert_eq!(set(&mut tpm, false, 3, 1, 18, &[0]), None);
    assert_eq!(set(&mut tpm, false, 3, 1, 18, &[1]), Some(3));
    assert_eq!(set(&mut tpm, false, 2, 5, 4, &[0]), Some(61));
    assert_eq!(set(&mut tpm, false, 4, 5, 4, &[0]), None);
    assert_eq!(set(&mut tpm, false, 0, 4, 6, &[0, 0, 0, 1]), Some(45));
    assert_eq!(set(&mut tpm, false, 0, 3, 2, &[1]), None);
    assert_eq!(set(&mut tpm, false, 0, 3, 2, &[0]), Some(3));
    tpm.assert_physical_presence();
    assert_eq!(set(&mut tpm, false, 0, 4, 6, &[0, 0, 0, 1]), None);
    assert_eq!(set(&mut tpm, false, 0, 1, 3, &[1]), None);
}

#[test]
fn the_owner_reads_flags_as_bits() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, OWNER);
    let out = call(&mut tpm, ord::GET_CAPABILITY_OWNER, &[], &[], &mut [&mut auth]).unwrap();
    // ownership, allowMaintenance, physicalPresenceCMDEnable; readPubek went with TPM_TakeOwnership.
    assert_eq!(out, [&[1, 1, 0, 0][..], &0x0000_0122u32.to_be_bytes(), &[0; 4]].concat());
}
