use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send};

#[test]
fn old_key_commands_work() {
    let mut tpm = owned();
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let handle = call(&mut tpm, ord::LOAD_KEY, &[SRK], &[&key], &mut [&mut auth]).unwrap();
    assert!(send(&mut tpm, ord::EVICT_KEY, &[&handle]).is_ok());
    assert_eq!(send(&mut tpm, ord::EVICT_KEY, &[&handle]), Err(12));
    assert_eq!(send(&mut tpm, ord::EVICT_KEY, &[&SRK.to_be_bytes()]), Err(12));
    assert!(send(&mut tpm, ord::TERMINATE_HANDLE, &[&auth.handle.to_be_bytes()]).is_ok());
    assert_eq!(send(&mut tpm, ord::TERMINATE_HANDLE, &[&auth.handle.to_be_bytes()]), Err(34));
    let auth = oiap(&mut tpm, SRK_AUTH);
    assert!(send(&mut tpm, ord::RESET, &[]).is_ok());
    assert_eq!(send(&mut tpm, ord::TERMINATE_HANDLE, &[&auth.handle.to_be_bytes()]), Err(34));
}

#[test]
fn the_dir_is_written_by_the_owner() {
    let mut tpm = owned();
    let mut auth = oiap(&mut tpm, OWNER);
    assert!(call(&mut tpm, ord::DIR_WRITE_AUTH, &[], &[&[0; 4], &[9; 20]], &mut [&mut auth]).is_ok());
    assert_eq!(send(&mut tpm, ord::DIR_READ, &[&[0; 4]]).unwrap(), [9; 20]);
    assert_eq!(send(&mut tpm, ord::DIR_READ, &[&[0, 0, 0, 1]]), Err(2));
    assert_eq!(call(&mut tpm, ord::DIR_WRITE_AUTH, &[], &[&[0, 0, 0, 1], &[9; 20]], &mut [&mut auth]), Err(2));
}
