use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send, tpm};
use tpm_crypto::sha1;

/// `TPM_KEY_PARMS` of a 2048-bit storage key.
fn parms(bits: u32) -> alloc::vec::Vec<u8> {
    storage_template(0)[11..11 + 4 + 2 + 2 + 4]
        .iter()
        .copied()
        .chain(bits.to_be_bytes())
        .chain([0, 0, 0, 2, 0, 0, 0, 0])
        .collect()
}

#[test]
fn the_endorsement_key_comes_with_a_checksum_over_the_nonce() {
    let mut tpm = tpm();
    let out = send(&mut tpm, ord::READ_PUBEK, &[&[7; 20]]).unwrap();
    let (key, checksum) = out.split_at(out.len() - 20);
    assert_eq!(sha1(&[key, &[7; 20]]), checksum);
    assert_eq!(public_of(key).size(), 256);
    assert_eq!(send(&mut tpm, ord::CREATE_ENDORSEMENT_KEY_PAIR, &[&[0; 20], &parms(2048)]), Err(8));
    assert_eq!(send(&mut tpm, ord::REVOKE_TRUST, &[&[0; 20]]), Err(97));
}

#[test]
fn an_owned_tpm_shows_its_keys_to_the_owner_only() {
    let mut tpm = owned();
    assert_eq!(send(&mut tpm, ord::READ_PUBEK, &[&[7; 20]]), Err(8));
    let mut auth = oiap(&mut tpm, OWNER);
    let mut read =
        |handle: u32| call(&mut tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&handle.to_be_bytes()], &mut [&mut auth]);
    let (ek, srk) = (read(0x4000_0006).unwrap(), read(SRK).unwrap());
    assert_ne!(public_of(&ek).modulus(), public_of(&srk).modulus());
    assert_eq!(read(0x4000_0001), Err(3));
    let mut auth = oiap(&mut tpm, OWNER);
    assert_eq!(call(&mut tpm, ord::OWNER_READ_PUBEK, &[], &[], &mut [&mut auth]), Ok(ek));
}

#[test]
fn a_revocable_endorsement_key_is_made_and_revoked() {
    let mut tpm = tpm();
    tpm.forget_endorsement_key();
    assert_eq!(send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]), Err(35));
    let mut create = |bits| send(&mut tpm, ord::CREATE_REVOCABLE_EK, &[&[1; 20], &parms(bits), &[0], &[5; 20]]);
    assert_eq!(create(1024), Err(40));
    let out = create(2048).unwrap();
    assert!(out.ends_with(&[5; 20]));
    assert!(take_ownership(&mut tpm).is_ok());
    assert_eq!(send(&mut tpm, ord::REVOKE_TRUST, &[&[5; 20]]), Err(45));
    tpm.assert_physical_presence();
    assert_eq!(send(&mut tpm, ord::REVOKE_TRUST, &[&[6; 20]]), Err(1));
    assert!(send(&mut tpm, ord::REVOKE_TRUST, &[&[5; 20]]).is_ok());
    assert_eq!(send(&mut tpm, ord::READ_PUBEK, &[&[0; 20]]), Err(35));
}
