//! The manager's use of a TPM 1.2 chip, against our own engine, with and without trouble.

mod bus;

use bus::{Bus, Trouble, drive, rng, timer};
use frontback::looper::Timer;
use std::sync::OnceLock;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, sha1};
use tpm_wire::TransportError;
use vtpmmgr::args::{AuthChoice, AuthData, OWNER_WELL_KNOWN, SRK_WELL_KNOWN};
use vtpmmgr::hardware::{
    AttestationKey, ChipError, Counter, Hardware, KeyNumbers, PcrSelection, Quote, RootKey, Sealed, Secret, Settings,
    Version,
};

fn settings() -> Settings {
    Settings {
        owner_auth: AuthChoice::Fixed(OWNER_WELL_KNOWN),
        srk_auth: AuthChoice::Fixed(SRK_WELL_KNOWN),
        ..Settings::from(&vtpmmgr::args::Options::default())
    }
}

fn pcrs(text: &str) -> PcrSelection {
    PcrSelection::parse(text).unwrap()
}

/// An owned chip, made once: its permanent state, and a root key, a counter, an identity key and a sealed secret of it.
struct Kit {
    state: Vec<u8>,
    root: RootKey,
    counter: Counter,
    ak: AttestationKey,
    sealed: Sealed,
}

const SECRET: [u8; 32] = [0x5a; 32];
const LABEL: [u8; 20] = [0x1a; 20];

fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let (bus, timer, mut rng) = (Bus::new(1), timer(), rng(1));
        let work = async {
            let chip = Hardware::detect(bus.clone(), &timer, settings()).await?;
            assert!(!chip.start().await?.owned);
            let new = chip.create_root(&mut rng).await?;
            assert!(new.owner.is_none());
            assert!(chip.start().await?.owned);
            let counter = chip.counter_create(&new.key, None, &mut rng).await?;
            let (ak, binding) = chip.ak_create(&new.key, None, &LABEL, &mut rng).await?;
            check_binding(&chip, &ak, &binding);
            let condition = chip.pcr_condition(pcrs("0-3,10")).await?;
            let sealed = chip.seal(&new.key, &SECRET, Some(&condition), None, &mut rng).await?;
            Ok::<_, ChipError>((new.key, counter, ak, sealed))
        };
        let (root, counter, ak, sealed) = drive(&timer, work).0.unwrap();
        assert_eq!(bus.open(), 0);
        Kit { state: bus.state(), root, counter, ak, sealed }
    })
}

/// The identity binding is the new key's signature over TPM_IDENTITY_CONTENTS (part 2, section 12.5).
fn check_binding<T: tpm_wire::Transport>(chip: &Hardware<'_, T>, ak: &AttestationKey, binding: &[u8]) {
    let public = chip.ak_public(ak).unwrap();
    let contents = sha1(&[&[1, 1, 0, 0, 0, 0, 0, 0x79], &LABEL, &public.encoded]);
    verify(&public.numbers, &contents, binding);
}

fn verify(key: &KeyNumbers, digest: &[u8; 20], signature: &[u8]) {
    let KeyNumbers::Rsa { modulus, exponent } = key else { panic!("an RSA key was expected") };
    assert_eq!((modulus.len(), *exponent), (256, 65537));
    assert_eq!(RsaPublic::new(modulus, *exponent).unwrap().verify_pkcs1_sha1(digest, signature), Ok(()));
}

/// Does `work` with the kit's chip, which meets `troubles`; returns the chip and what came of it.
fn with_chip<O>(
    bus: &Bus,
    settings: Settings,
    work: impl AsyncFnOnce(&Hardware<'_, Bus>, &Timer, &mut Drbg) -> Result<O, ChipError>,
) -> Result<O, ChipError> {
    let (timer, mut rng) = (timer(), rng(2));
    drive(&timer, async {
        let chip = Hardware::detect(bus.clone(), &timer, settings).await?;
        assert_eq!(chip.version(), Version::V12);
        assert!(chip.start().await?.owned);
        work(&chip, &timer, &mut rng).await
    })
    .0
}

#[test]
fn a_secret_comes_back_where_the_pcrs_are_right() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        // For PCRs as they are going to be.
        let mut next = chip.pcr_condition(pcrs("4,10")).await?;
        let now = next.clone();
        next.values[1] = heapless::Vec::from_iter(sha1(&[&[0; 20], &[7; 20]]));
        let values: Vec<u8> = next.values.iter().flatten().copied().collect();
        next.digest = heapless::Vec::from_iter(sha1(&[&[0, 3, 0x10, 0x04, 0, 0, 0, 0, 40], &values]));
        let later = chip.seal(&kit.root, b"later", Some(&next), None, rng).await?;
        assert_eq!(chip.unseal(&kit.root, &later, None, rng).await, Err(ChipError::PcrMismatch));
        bus.extend(10);
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await, Err(ChipError::PcrMismatch));
        assert_eq!(chip.unseal(&kit.root, &later, None, rng).await?[..], b"later"[..]);
        assert!(next.is_met_by(&chip.pcr_condition(pcrs("4,10")).await?));
        assert_eq!(now.differing(&chip.pcr_condition(pcrs("4,10")).await?), pcrs("10"));

        // Without PCRs, with a code that is not stored.
        let code = [0x33; 20];
        let recovery = chip.seal(&kit.root, &[1; 128], None, Some(&code), rng).await?;
        assert!(!recovery.to_bytes().windows(20).any(|bytes| bytes == code));
        assert_eq!(chip.unseal(&kit.root, &recovery, Some(&code), rng).await?[..], [1; 128]);
        for wrong in [None, Some(&[0x34; 20]), Some(&[0; 20])] {
            let refused = chip.unseal(&kit.root, &recovery, wrong, rng).await;
            assert_eq!(refused, Err(ChipError::WrongSecret(Secret::Blob)));
        }
        for length in [0, 129] {
            assert!(chip.seal(&kit.root, &[1; 129][..length], None, None, rng).await.is_err());
        }
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(bus.open(), 0);
}

#[test]
fn stored_forms_read_back_and_odd_ones_are_refused() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        let root = RootKey::parse(&kit.root.to_bytes()).unwrap();
        let sealed = Sealed::parse(&kit.sealed.to_bytes()).unwrap();
        assert_eq!(chip.unseal(&root, &sealed, None, rng).await?[..], SECRET);
        let sent = bus.seen().len();
        for (at, value) in [(0, 0x20), (1, 2), (2, 5), (3, 2)] {
            let mut bytes = kit.sealed.to_bytes();
            bytes[at] = value;
            let odd = Sealed::parse(&bytes).unwrap();
            assert!(matches!(chip.unseal(&root, &odd, None, rng).await, Err(ChipError::BadForm { .. })), "byte {at}");
        }
        for (at, value) in [(0, 0x20), (1, 2), (2, 2), (43, 1), (46, 0)] {
            let mut bytes = kit.root.to_bytes();
            bytes[at] = value;
            let odd = RootKey::parse(&bytes).unwrap();
            assert!(matches!(chip.unseal(&odd, &sealed, None, rng).await, Err(ChipError::BadForm { .. })), "byte {at}");
        }
        for bytes in [&[0x12, 1][..], &[0x12, 2, 0, 0, 0, 1], &[0x12, 1, 0, 0, 0], &[0x20, 1]] {
            let odd = Counter::parse(bytes).unwrap();
            assert!(matches!(chip.counter_read(&root, &odd, rng).await, Err(ChipError::BadForm { .. })));
            let odd = AttestationKey::parse(bytes).unwrap();
            assert!(matches!(chip.ak_public(&odd), Err(ChipError::BadForm { .. })));
        }
        assert_eq!(bus.seen().len(), sent, "an odd form never reaches the chip");
        assert!(
            Sealed::parse(&[]).is_none() && Sealed::parse(&[0x12]).is_none() && Sealed::parse(&[0x13, 1]).is_none()
        );
        assert!(Sealed::parse(&[0x12; Sealed::MAX_SIZE + 1]).is_none());
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_counter_goes_up_by_one_and_outlives_resets() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        let first = chip.counter_read(&kit.root, &kit.counter, rng).await?;
        for n in 1..=3 {
            assert_eq!(chip.counter_increment(&kit.root, &kit.counter, rng).await?, first + n);
            if n == 2 {
                bus.reset();
            }
        }
        assert_eq!(chip.counter_read(&kit.root, &kit.counter, rng).await?, first + 3);

        // One counter only between two starts.
        let other = chip.counter_create(&kit.root, None, rng).await?;
        assert_eq!(chip.counter_increment(&kit.root, &other, rng).await, Err(ChipError::CounterTaken));
        bus.reset();
        let above = chip.counter_read(&kit.root, &other, rng).await?;
        assert!(above > first + 3);
        assert_eq!(chip.counter_increment(&kit.root, &other, rng).await?, above + 1);

        chip.counter_delete(&kit.root, None, &other, rng).await?;
        assert_eq!(chip.counter_read(&kit.root, &other, rng).await, Err(ChipError::NoCounter));
        assert_eq!(chip.counter_increment(&kit.root, &other, rng).await, Err(ChipError::NoCounter));
        assert_eq!(chip.counter_delete(&kit.root, None, &other, rng).await, Ok(()));
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(bus.open(), 0);
}

fn check_quote(kit: &Kit, bus: &Bus, quote: &Quote, external: &[u8; 20]) {
    let public = with_chip(bus, settings(), async |chip, _, _| chip.ak_public(&kit.ak)).unwrap();
    verify(&public.numbers, &sha1(&[&quote.attest]), &quote.signature);
    let values: Vec<u8> = quote.pcrs.iter().flat_map(|(_, value)| value.clone()).collect();
    let mask = quote.pcrs.iter().fold(PcrSelection::NONE, |all, (pcr, _)| all.with(*pcr)).to_bytes();
    let composite = sha1(&[&[0, 3], &mask, &(values.len() as u32).to_be_bytes(), &values]);
    assert_eq!(quote.attest, [&[1, 1, 0, 0][..], b"QUOT", &composite, external].concat());
}

/// An area of 16 bytes for the owner: TPM_NV_DATA_PUBLIC with no PCRs and TPM_NV_PER_OWNERREAD | TPM_NV_PER_OWNERWRITE.
fn area() -> Vec<u8> {
    let pcr_info = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let rest = [0, 0x17, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 16];
    [&[0, 0x18, 0, 0, 0x20, 0][..], &pcr_info, &pcr_info, &rest].concat()
}

#[test]
fn quotes_identities_nv_and_what_vtpms_ask() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        bus.extend(11);
        let quote = chip.quote(&kit.root, &kit.ak, &[0xe0; 20], pcrs("0,11,23"), rng).await?;
        check_quote(kit, &bus.clone(), &quote, &[0xe0; 20]);
        assert_eq!(quote.pcrs.iter().map(|(pcr, _)| *pcr).collect::<Vec<_>>(), [0, 11, 23]);
        assert_eq!(quote.pcrs[1].1[..], sha1(&[&[0; 20], &[7; 20]]));

        // What a privacy CA sends: TPM_ASYM_CA_CONTENTS for this identity, encrypted with the endorsement key.
        let ek = chip.ek_public(None, rng).await?;
        let KeyNumbers::Rsa { modulus, exponent } = &ek.numbers else { panic!("an RSA key was expected") };
        let session_key = [&[0, 0, 0, 6, 0, 1, 0, 16][..], &[0x77; 16]].concat();
        let id = sha1(&[&chip.ak_public(&kit.ak)?.encoded]);
        let contents = [&session_key[..], &id].concat();
        let encrypted = RsaPublic::new(modulus, *exponent).unwrap().encrypt_oaep(rng, &contents).unwrap();
        assert_eq!(chip.activate(&kit.root, None, &kit.ak, &encrypted, rng).await?[..], session_key);
        let stranger = [&session_key[..], &[1; 20]].concat();
        let encrypted = RsaPublic::new(modulus, *exponent).unwrap().encrypt_oaep(rng, &stranger).unwrap();
        assert!(matches!(
            chip.activate(&kit.root, None, &kit.ak, &encrypted, rng).await,
            Err(ChipError::Refused { .. })
        ));

        chip.nv_define(None, &area(), &[0; 20], rng).await?;
        chip.nv_write(None, 0x2000, 4, b"data", rng).await?;
        assert_eq!(chip.nv_read(None, 0x2000, 4, 4, rng).await?[..], b"data"[..]);

        assert_eq!(chip.random(300).await?.len(), 300);
        assert_eq!(chip.vtpm_random(16).await?.len(), 16);
        assert_eq!(chip.vtpm_pcr(11).await?, sha1(&[&[0; 20], &[7; 20]]));
        assert_eq!(chip.vtpm_pcr(24).await, Err(ChipError::Refused { ordinal: 0x15, code: 2 }));
        assert_eq!(chip.extend12(11, &[8; 20]).await?, sha1(&[&sha1(&[&[0; 20], &[7; 20]]), &[8; 20]]));
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(bus.open(), 0);
}

#[test]
fn wrong_secrets_localities_and_chips_are_told_apart() {
    let kit = kit();
    let wrong = AuthData([9; 20]);
    let with = |owner: Option<&AuthData>, srk: Option<&AuthData>, locality| {
        let base = settings();
        Settings {
            owner_auth: owner.map_or(base.owner_auth.clone(), |auth| AuthChoice::Fixed(auth.clone())),
            srk_auth: srk.map_or(base.srk_auth.clone(), |auth| AuthChoice::Fixed(auth.clone())),
            locality,
            ..base
        }
    };
    let unseal = |bus: &Bus, settings| {
        with_chip(bus, settings, async |chip, _, rng| chip.unseal(&kit.root, &kit.sealed, None, rng).await.map(drop))
    };
    let bus = Bus::load(&kit.state);
    assert_eq!(unseal(&bus, with(None, Some(&wrong), 0)), Err(ChipError::WrongSecret(Secret::Srk)));
    let random = Settings { srk_auth: AuthChoice::Random, owner_auth: AuthChoice::Random, ..settings() };
    assert_eq!(unseal(&bus, random.clone()), Err(ChipError::SrkAuthChosen));
    bus.set_locality(2);
    assert_eq!(unseal(&bus, with(None, None, 2)), Err(ChipError::Locality { sealed: 0 }));
    bus.set_locality(0);
    let owner = with_chip(&bus, with(Some(&wrong), None, 0), async |chip, _, rng| {
        let counter = chip.counter_create(&kit.root, None, rng).await.map(drop);
        assert_eq!(chip.ek_public(None, rng).await.map(drop), Err(ChipError::WrongSecret(Secret::Owner)));
        assert_eq!(chip.nv_define(None, &area(), &[0; 20], rng).await, Err(ChipError::WrongSecret(Secret::Owner)));
        let ak = chip.ak_create(&kit.root, None, &LABEL, rng).await.map(drop);
        assert_eq!(ak, Err(ChipError::WrongSecret(Secret::Owner)));
        // The owner's secret that the manager kept comes before the argument.
        chip.counter_create(&kit.root, Some(&OWNER_WELL_KNOWN), rng).await?;
        counter
    });
    assert_eq!(owner, Err(ChipError::WrongSecret(Secret::Owner)));
    let unknown = with_chip(&bus, random, async |chip, _, rng| {
        assert_eq!(chip.create_root(rng).await.err(), Some(ChipError::SrkAuthChosen));
        chip.counter_create(&kit.root, None, rng).await.map(drop)
    });
    assert_eq!(unknown, Err(ChipError::OwnerUnknown));

    // Another chip, owned with the same secrets.
    let other = Bus::new(3);
    let (timer, mut rng) = (timer(), rng(3));
    let work = async {
        let chip = Hardware::detect(other.clone(), &timer, settings()).await?;
        chip.start().await?;
        let new = chip.create_root(&mut rng).await?;
        let loading = chip.unseal(&kit.root, &kit.sealed, None, &mut rng).await.map(drop);
        assert!(matches!(loading, Err(ChipError::NotOurs { ordinal: 0x41, .. })), "{loading:?}");
        let opening = chip.unseal(&new.key, &kit.sealed, None, &mut rng).await.map(drop);
        assert!(matches!(opening, Err(ChipError::NotOurs { ordinal: 0x18, .. })), "{opening:?}");
        assert_eq!(chip.counter_read(&new.key, &kit.counter, &mut rng).await, Err(ChipError::NoCounter));
        // Its first counter has the same number, but another secret.
        chip.counter_create(&new.key, None, &mut rng).await?;
        chip.counter_read(&new.key, &kit.counter, &mut rng).await?;
        assert_eq!(chip.counter_increment(&new.key, &kit.counter, &mut rng).await, Err(ChipError::NoCounter));
        Ok::<_, ChipError>(())
    };
    assert_eq!(drive(&timer, work).0, Ok(()));
    assert_eq!(other.open(), 0);
}

#[test]
fn drawn_secrets_own_the_chip_even_when_its_answer_is_lost() {
    let random = Settings { srk_auth: AuthChoice::Random, owner_auth: AuthChoice::Random, ..settings() };
    let (bus, timer, mut rng) = (Bus::new(5), timer(), rng(5));
    let work = async {
        let chip = Hardware::detect(bus.clone(), &timer, random).await?;
        chip.start().await?;
        // GetCapability, ReadPubek, OIAP, and the answer to TakeOwnership.
        bus.trouble(3, Trouble::AnswerLost);
        let new = chip.create_root(&mut rng).await?;
        assert!(bus.untroubled());
        assert_eq!(bus.seen().iter().filter(|ordinal| **ordinal == 0x0d).count(), 1);
        let sealed = chip.seal(&new.key, &SECRET, None, None, &mut rng).await?;
        assert_eq!(chip.unseal(&new.key, &sealed, None, &mut rng).await?[..], SECRET);
        let counter = chip.counter_create(&new.key, new.owner.as_ref(), &mut rng).await?;
        chip.counter_increment(&new.key, &counter, &mut rng).await
    };
    assert!(drive(&timer, work).0.is_ok());
    assert_eq!(bus.open(), 0);
}

mod trouble;
