use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send, tpm};
use tpm_crypto::sha1;

#[test]
fn ticks_follow_the_owners_clock_and_a_start_begins_a_new_session() {
    let mut tpm = tpm();
    let first = send(&mut tpm, ord::GET_TICKS, &[]).unwrap();
    assert_eq!(first[..12], [0, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    tpm.set_time(1_000_000);
    tpm.set_time(999_999);
    let second = send(&mut tpm, ord::GET_TICKS, &[]).unwrap();
    assert_eq!(second[2..10], 1_000_000u64.to_be_bytes());
    assert_eq!(first[12..], second[12..]);
    tpm.reset_for_new_guest();
    let third = send(&mut tpm, ord::GET_TICKS, &[]).unwrap();
    assert_eq!(third[2..10], [0; 8]);
    assert_ne!(first[12..], third[12..]);
}

#[test]
fn a_stamp_signs_digest_and_time() {
    let mut tpm = owned();
    tpm.set_time(77);
    let (handle, key) = new_key(&mut tpm, &signing_template(2, 1024));
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let out = call(&mut tpm, ord::TICK_STAMP_BLOB, &[handle], &[&[9; 20], &[5; 20]], &mut [&mut auth]).unwrap();
    let (ticks, signature) = out.split_at(32);
    let stamped = [&[5; 20], ticks].concat();
    let info = [&[0, 5][..], b"TSTP", &[9; 20], &sized(&stamped)].concat();
    assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), &signature[4..]), Ok(()));
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    assert_eq!(call(&mut tpm, ord::TICK_STAMP_BLOB, &[SRK], &[&[9; 20], &[5; 20]], &mut [&mut auth]), Err(36));
}

#[test]
fn a_restored_tpms_time_goes_on_where_it_was_saved() {
    let ticks = |tpm: &mut crate::Tpm12| {
        let out = send(tpm, ord::GET_TICKS, &[]).unwrap();
        u64::from_be_bytes(out[2..10].try_into().unwrap())
    };
    let mut first = tpm();
    first.set_time(5_000_000);
    let saved = first.save_volatile();
    let mut second = crate::testing::unstarted();
    second.set_time(100);
    second.restore_volatile(&saved).unwrap();
    assert_eq!(ticks(&mut second), 5_000_000);
    second.set_time(300);
    assert_eq!(ticks(&mut second), 5_000_200);
}
