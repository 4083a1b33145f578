//! Which storage root key is used, keys for quotes, and the endorsement key.

use crate::bus::Bus;
use crate::{extend, new_root, pcrs, secret, session, settings, stored};
use attest::{Credential, EndorsementKey, QuoteKey};
use tpm_crypto::ecc::P256Public;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::sha256;
use tpm_wire::v20::{Attest, Attested, Signature};
use tpm_wire::{Reader, Writer};
use vtpmmgr::hardware::{AttestationKey, ChipError, KeyNumbers, RootKey, Secret, Settings};

/// The storage root key template of the Provisioning Guidance: P-256 and RSA 2048.
pub const ECC_SRK: &[u8] = b"\0\x23\0\x0b\0\x03\x04\x72\0\0\0\x06\0\x80\0\x43\0\x10\0\x03\0\x10\0\0\0\0";
const RSA_SRK: &[u8] = b"\0\x01\0\x0b\0\x03\x04\x72\0\0\0\x06\0\x80\0\x43\0\x10\x08\0\0\0\0\0\0\0";
/// A key that signs anything.
const SIGNING: &[u8] = b"\0\x23\0\x0b\0\x04\x04\x72\0\0\0\x10\0\x18\0\x0b\0\x03\0\x10\0\0\0\0";

/// Puts a primary key of the owner's at a persistent handle.
pub fn install(bus: &Bus, at: u32, template: &[u8], auth: &[u8]) {
    let mut params = Vec::new();
    Writer::new(&mut params).u16(4 + auth.len() as u16).sized16(auth).u16(0).sized16(template).u16(0).u32(0);
    // The chip takes commands once it is started.
    let _ = bus.raw(0x144, &[], &[], &[0, 0]);
    let out = bus.raw(0x131, &[0x4000_0001], &[b""], &params).unwrap();
    let handle = u32::from_be_bytes(out[..4].try_into().unwrap());
    bus.raw(0x120, &[0x4000_0001, handle], &[b""], &at.to_be_bytes()).unwrap();
    bus.raw(0x165, &[], &[], &handle.to_be_bytes()).unwrap();
}

/// Seals, restarts, unseals.
fn round_trip(bus: &Bus, settings: &Settings, root: &RootKey) -> Result<(), ChipError> {
    let sealed = session(bus, settings, async |chip, rng| chip.seal(root, &[5; 32], None, None, rng).await)?;
    bus.power_cycle();
    let back = session(bus, settings, async |chip, rng| chip.unseal(&stored(root), &sealed, None, rng).await)?;
    assert_eq!(*back, [5; 32]);
    Ok(())
}

/// Where the stored root key says that it is: 1 and a handle, or the kind of a primary.
fn source(root: &RootKey) -> (u8, u32) {
    let bytes = root.to_bytes();
    (bytes[2], u32::from_be_bytes(bytes[3..7].try_into().unwrap()))
}

#[test]
fn the_storage_root_key_is_the_given_one_the_usual_one_or_a_standard_one() {
    for template in [ECC_SRK, RSA_SRK] {
        let bus = Bus::new();
        install(&bus, 0x8100_0001, template, b"");
        let root = new_root(&bus, &settings()).unwrap();
        assert_eq!(source(&root), (1, 0x8100_0001));
        round_trip(&bus, &settings(), &root).unwrap();
        // Sessions go on with it, so it is not read again and again.
        let reads = bus.seen.borrow().iter().filter(|packet| packet[6..10] == [0, 0, 1, 0x73]).count();
        assert_eq!(reads, 3);
    }

    let bus = Bus::new();
    install(&bus, 0x8100_0001, SIGNING, b"");
    let root = new_root(&bus, &settings()).unwrap();
    assert_eq!(source(&root), (2, 0), "a key that cannot be used is passed over");
    round_trip(&bus, &settings(), &root).unwrap();

    install(&bus, 0x8100_1234, RSA_SRK, b"");
    let given = Settings { srk_handle: Some(0x8100_1234), ..settings() };
    let root = new_root(&bus, &given).unwrap();
    assert_eq!(source(&root), (1, 0x8100_1234));
    // The disk knows which key it is; the operator need not say it again.
    round_trip(&bus, &settings(), &root).unwrap();
    for handle in [0x8100_0001, 0x8100_0002, 0x8000_0000, 0x4000_0001, 0] {
        let wrong = Settings { srk_handle: Some(handle), ..settings() };
        assert!(matches!(new_root(&bus, &wrong), Err(ChipError::Unsupported { .. })), "{handle:#x}");
    }
}

#[test]
fn secrets_of_the_storage_root_key_and_of_the_owner() {
    let bus = Bus::new();
    install(&bus, 0x8100_0001, ECC_SRK, &[0x21; 20]);
    let right = Settings { srk_auth: secret(0x21), ..settings() };
    let root = new_root(&bus, &right).unwrap();
    round_trip(&bus, &right, &root).unwrap();
    let refused = Err(ChipError::WrongSecret(Secret::Srk));
    assert_eq!(round_trip(&bus, &settings(), &root), refused);
    assert_eq!(round_trip(&bus, &Settings { srk_auth: secret(0x22), ..settings() }, &root), refused);
    assert!(!bus.leaked(&[0x21; 20]) && !bus.leaked(&[0x22; 20]));

    let bus = Bus::new();
    let _ = bus.raw(0x144, &[], &[], &[0, 0]);
    let mut params = Vec::new();
    Writer::new(&mut params).sized16(&[0x31; 20]);
    bus.raw(0x129, &[0x4000_0001], &[b""], &params).unwrap();
    let right = Settings { owner_auth: secret(0x31), ..settings() };
    let wrong = Settings { owner_auth: secret(0x32), ..settings() };
    let refused = Some(ChipError::WrongSecret(Secret::Owner));
    assert_eq!(new_root(&bus, &wrong).err(), refused);
    assert_eq!(new_root(&bus, &settings()).err(), refused);
    let root = new_root(&bus, &right).unwrap();
    round_trip(&bus, &right, &root).unwrap();
    let counter = session(&bus, &right, async |chip, rng| {
        assert!(chip.start().await?.owned);
        chip.counter_create(&root, None, rng).await
    });
    let counter = counter.unwrap();
    let result = session(&bus, &wrong, async |chip, rng| chip.counter_create(&root, None, rng).await);
    assert_eq!(result.err(), refused);
    session(&bus, &right, async |chip, rng| chip.counter_delete(&root, None, &counter, rng).await).unwrap();
    assert!(!bus.leaked(&[0x31; 20]) && !bus.leaked(&[0x32; 20]));
}

/// Checks a TPMT_SIGNATURE with nothing of the manager's.
fn verify(key: &KeyNumbers, signed: &[u8], signature: &[u8]) -> bool {
    let digest = sha256(&[signed]);
    match (key, Signature::parse(signature).unwrap()) {
        (KeyNumbers::P256 { x, y }, Signature::Ecdsa { hash: 0x0b, r, s }) => {
            P256Public::new(x, y).unwrap().verify(&digest, r, s).is_ok()
        }
        (KeyNumbers::Rsa { modulus, exponent }, Signature::Rsassa { hash: 0x0b, signature }) => {
            RsaPublic::new(modulus, *exponent).unwrap().verify_pkcs1_sha256(&digest, signature).is_ok()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn quotes_and_their_key() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    extend(&bus, 16, &[3; 32]);
    let (ak, binding) = session(&bus, &settings, async |chip, rng| {
        let (ak, binding) = chip.ak_create(&root, None, &[0x5c; 20], rng).await?;
        Ok((AttestationKey::parse(&ak.to_bytes()).unwrap(), binding))
    })
    .unwrap();
    bus.power_cycle();
    session(&bus, &settings, async |chip, rng| {
        let public = chip.ak_public(&ak)?;
        assert!(matches!(public.numbers, KeyNumbers::P256 { .. }));
        let key = QuoteKey::from_tpmt_public(&public.encoded).unwrap();

        // The binding: the key's creation, certified by itself, with the label in it.
        let mut r = Reader::new(&binding);
        let (attest, signature, creation) = (r.sized16().unwrap(), r.sized16().unwrap(), r.sized16().unwrap());
        assert!(r.is_empty() && verify(&public.numbers, attest, signature));
        let attest = Attest::parse(attest).unwrap();
        let Attested::Creation { name, creation_hash } = attest.attested else { panic!("{attest:?}") };
        assert_eq!((name, creation_hash), (&key.name()[..], &sha256(&[creation])[..]));
        assert_eq!(attest.extra_data, [0x5c; 20]);
        assert!(creation.ends_with(&[0x5c; 20]));

        for selection in ["16", "0-23", "23,0"] {
            let selection = pcrs(selection);
            let quote = chip.quote(&root, &ak, &[0xab; 20], selection, rng).await?;
            assert!(verify(&public.numbers, &quote.attest, &quote.signature));
            assert!(!verify(&public.numbers, b"something else", &quote.signature));
            let attest = Attest::parse(&quote.attest).unwrap();
            let Attested::Quote { pcrs, digest } = attest.attested else { panic!("{attest:?}") };
            assert_eq!((pcrs.mask, pcrs.hash, attest.extra_data), (selection.mask(), 0x0b, &[0xab; 20][..]));
            let values: Vec<&[u8]> = quote.pcrs.iter().map(|(_, value)| value.as_slice()).collect();
            assert_eq!(digest, sha256(&values));
            assert_eq!(quote.pcrs, chip.pcr_values(selection).await?);
        }
        let none = chip.quote(&root, &ak, &[1; 20], pcrs("1-1"), rng).await?;
        assert!(none.pcrs.len() == 1);
        Ok(())
    })
    .unwrap();
    // A key of another chip.
    let other = Bus::new();
    let stranger = new_root(&other, &settings).unwrap();
    let result =
        session(&other, &settings, async |chip, rng| chip.quote(&stranger, &ak, &[1; 20], pcrs("0"), rng).await);
    assert!(matches!(result, Err(ChipError::NotOurs { .. })), "{:?}", result.err());
}

#[test]
fn a_challenge_is_answered_by_this_chip_for_this_key_only() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    session(&bus, &settings, async |chip, rng| {
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        let (other, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        let ek = EndorsementKey::from_tpmt_public(&chip.ek_public(None, rng).await?.encoded).unwrap();
        let key = QuoteKey::from_tpmt_public(&chip.ak_public(&ak)?.encoded).unwrap();
        let challenge = Credential::new(&ek, &key, rng).unwrap();
        let answer = chip.activate(&root, None, &ak, &challenge.blob, rng).await?;
        assert!(Credential::is_answered(&challenge.secret, true, &answer));
        assert!(!bus.leaked(&*challenge.secret));
        let refused = |result: Result<_, _>| matches!(result, Err(ChipError::BadForm { .. }));
        assert!(refused(chip.activate(&root, None, &other, &challenge.blob, rng).await));
        for at in 0..challenge.blob.len() {
            let mut blob = challenge.blob.clone();
            blob[at] ^= 1;
            if let Ok(answer) = chip.activate(&root, None, &ak, &blob, rng).await {
                panic!("byte {at}: {}", Credential::is_answered(&challenge.secret, true, &answer));
            }
            bus.assert_clean("a challenge refused");
        }
        for blob in [&[][..], &challenge.blob[1..], &[0; 3]] {
            assert!(refused(chip.activate(&root, None, &ak, blob, rng).await));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_endorsement_key_is_the_installed_one_or_the_standard_one() {
    // Template L-1 of the EK Credential Profile, RSA 2048.
    let policy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    let policy: Vec<u8> = (0..64).step_by(2).map(|i| u8::from_str_radix(&policy[i..i + 2], 16).unwrap()).collect();
    let mut template = Vec::new();
    Writer::new(&mut template)
        .u16(1)
        .u16(0x0b)
        .u32(0x0003_00b2)
        .sized16(&policy)
        .u16(6)
        .u16(128)
        .u16(0x43)
        .u16(0x10)
        .u16(2048)
        .u32(0)
        .sized16(&[0; 256]);
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    let ek = |bus: &Bus| session(bus, &settings, async |chip, rng| chip.ek_public(None, rng).await).unwrap();
    let standard = ek(&bus);
    assert!(matches!(standard.numbers, KeyNumbers::P256 { .. }));
    bus.power_cycle();
    assert_eq!(ek(&bus), standard);

    let mut params = Vec::new();
    Writer::new(&mut params).u16(4).u32(0).sized16(&template).u16(0).u32(0);
    let out = bus.raw(0x131, &[0x4000_000b], &[b""], &params).unwrap();
    bus.raw(
        0x120,
        &[0x4000_0001, u32::from_be_bytes(out[..4].try_into().unwrap())],
        &[b""],
        &0x8101_0001u32.to_be_bytes(),
    )
    .unwrap();
    let installed = ek(&bus);
    assert!(matches!(installed.numbers, KeyNumbers::Rsa { .. }));
    session(&bus, &settings, async |chip, rng| {
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        let ek = EndorsementKey::from_tpmt_public(&installed.encoded).unwrap();
        let key = QuoteKey::from_tpmt_public(&chip.ak_public(&ak)?.encoded).unwrap();
        let challenge = Credential::new(&ek, &key, rng).unwrap();
        let answer = chip.activate(&root, None, &ak, &challenge.blob, rng).await?;
        assert!(Credential::is_answered(&challenge.secret, true, &answer));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_chip_without_elliptic_curves_makes_rsa_keys() {
    let (bus, settings) = (Bus::new(), settings());
    bus.no_ecc.set(true);
    let root = new_root(&bus, &settings).unwrap();
    assert_eq!(source(&root), (3, 0));
    round_trip(&bus, &settings, &root).unwrap();
    session(&bus, &settings, async |chip, rng| {
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        let public = chip.ak_public(&ak)?;
        let quote = chip.quote(&root, &ak, &[2; 20], pcrs("0-7"), rng).await?;
        assert!(verify(&public.numbers, &quote.attest, &quote.signature));
        let ek = EndorsementKey::from_tpmt_public(&chip.ek_public(None, rng).await?.encoded).unwrap();
        let key = QuoteKey::from_tpmt_public(&public.encoded).unwrap();
        assert!(matches!(public.numbers, KeyNumbers::Rsa { .. }));
        let challenge = Credential::new(&ek, &key, rng).unwrap();
        let answer = chip.activate(&root, None, &ak, &challenge.blob, rng).await?;
        assert!(Credential::is_answered(&challenge.secret, true, &answer));
        Ok(())
    })
    .unwrap();
}
