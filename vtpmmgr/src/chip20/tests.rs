//! Vectors and refusals that need no chip.

use super::keys::{Kind, attestation_template, endorsement_template, public_key, storage_key, storage_template};
use super::session::{name_of, session_key, stripped};
use super::{accept, packet};
use crate::hardware::ChipError;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_crypto::ecc::P256Private;
use tpm_wire::Writer;
use tpm_wire::v20::{Public, Unique, object};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn secrets_end_with_their_last_byte_that_is_not_zero() {
    assert_eq!(stripped(&[0; 20]), [0_u8; 0]);
    assert_eq!(stripped(&[]), []);
    assert_eq!(stripped(&[0, 1, 0, 2, 0, 0]), [0, 1, 0, 2]);
    assert_eq!(stripped(&[5; 20]), [5; 20]);
}

// Worked out with Python's hmac from part 1, section 19.6.8: KDFa(salt, "ATH", nonceTPM, nonceCaller, 256).
#[test]
fn the_session_key_is_derived_as_laid_down() {
    let key = session_key(&[1; 32], &[2; 32], &[3; 32]);
    assert_eq!(key[..], hex("d61e4115d0e81cb1945ebb5d9b419bee7a4ee232e491f18649e90032a4af1aaa")[..]);
}

#[test]
fn a_salt_can_be_recovered_by_the_keys_owner_only() {
    let mut rng = Drbg::new(&[7; 48], b"").unwrap();
    let private = P256Private::generate(&mut rng);
    let key = super::SaltKey::P256(private.public());
    let (salt, encrypted) = key.salt(&mut rng).unwrap();
    // TPMS_ECC_POINT: two coordinates behind their lengths.
    assert_eq!((encrypted.len(), &encrypted[..2], &encrypted[34..36]), (68, &[0, 32][..], &[0, 32][..]));
    let ephemeral = tpm_crypto::ecc::P256Public::new(&encrypted[2..34], &encrypted[36..]).unwrap();
    let recover = |private: &P256Private| {
        let (mut out, (x, _), (own, _)) = ([0; 32], ephemeral.coordinates(), private.public().coordinates());
        tpm_crypto::kdfe_sha256(&*private.agree(&ephemeral), b"SECRET", &x, &own, &mut out);
        out
    };
    assert_eq!(recover(&private), *salt);
    assert_ne!(recover(&P256Private::generate(&mut rng)), *salt);
    assert_ne!(*key.salt(&mut rng).unwrap().0, *salt);
}

/// A storage key's public area, with changes.
fn area(change: impl FnOnce(&mut Public<'_>)) -> Vec<u8> {
    let mut rng = Drbg::new(&[9; 48], b"").unwrap();
    let (x, y) = P256Private::generate(&mut rng).public().coordinates();
    let template = storage_template(Kind::P256);
    let mut public = Public::parse(&template).unwrap();
    if let Unique::Ecc(parms, ..) = public.unique {
        public.unique = Unique::Ecc(parms, &x, &y);
    }
    change(&mut public);
    let mut out = Vec::new();
    public.put(&mut Writer::new(&mut out));
    out
}

#[test]
fn only_a_plain_storage_key_is_taken_as_root() {
    assert!(storage_key(&area(|_| ())).is_some());
    for needed in [
        object::FIXED_TPM,
        object::FIXED_PARENT,
        object::SENSITIVE_DATA_ORIGIN,
        object::USER_WITH_AUTH,
        object::RESTRICTED,
        object::DECRYPT,
    ] {
        assert!(storage_key(&area(|public| public.attributes &= !needed)).is_none(), "{needed:#x}");
    }
    assert!(storage_key(&area(|public| public.attributes |= object::SIGN)).is_none());
    assert!(storage_key(&area(|public| public.policy = &[1; 32])).is_none());
    assert!(storage_key(&area(|public| public.name_alg = 0x0c)).is_none());
    assert!(storage_key(&area(|public| public.attributes &= !object::NO_DA)).is_some());
    let change = |parms: fn(&mut tpm_wire::v20::EccParms)| {
        area(|public| {
            if let Unique::Ecc(found, ..) = &mut public.unique {
                parms(found);
            }
        })
    };
    assert!(storage_key(&change(|parms| parms.symmetric = tpm_wire::v20::Symmetric::Null)).is_none());
    assert!(storage_key(&change(|parms| parms.curve = 4)).is_none());
    // Not a point of the curve, and a template without a key in it.
    assert!(
        storage_key(&area(|public| if let Unique::Ecc(_, x, _) = &mut public.unique {
            *x = &[1; 32]
        }))
        .is_none()
    );
    assert!(storage_key(&storage_template(Kind::P256)).is_none());
    assert!(storage_key(&storage_template(Kind::Rsa2048)).is_none());
    assert!(public_key(&attestation_template(Kind::P256)).is_none());
    let good = area(|_| ());
    for cut in 0..good.len() {
        assert!(storage_key(&good[..cut]).is_none());
    }
}

#[test]
fn templates_are_those_of_the_tcg_to_the_byte() {
    // Template L-2 (EK Credential Profile 2.3, annex B.3.4); L-1 differs in its type and size.
    let l2 = endorsement_template(Kind::P256);
    let policy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    let zeros = "00".repeat(32);
    let want = ["0023000b000300b20020", policy, "0006008000430010000300100020", &zeros, "0020", &zeros].concat();
    assert_eq!(l2, hex(&want));
    assert_eq!(endorsement_template(Kind::Rsa2048).len(), 314);
    assert_eq!(attestation_template(Kind::P256), hex("0023000b00050472000000100018000b0003001000000000"));
    assert_eq!(name_of(b"abc")[..], *[&hex("000b")[..], &tpm_crypto::sha256(&[b"abc"])].concat());
}

#[test]
fn answers_that_are_no_answers() {
    let answer = |tag: u16, code: u32| packet(tag, code, &[]);
    let malformed = Err(ChipError::Malformed { ordinal: 0x15e });
    assert_eq!(accept(&answer(0x8001, 0), 0x15e, 0x8001), Ok(()));
    assert_eq!(accept(&answer(0x8001, 0), 0x15e, 0x8002), malformed);
    assert_eq!(accept(&answer(0x00c4, 0), 0x15e, 0x8001), malformed);
    for garbage in [1, 0x10, 0x1e, 0x7f, 0x8000_0000] {
        assert_eq!(accept(&answer(0x8001, garbage), 0x15e, 0x8001), malformed, "{garbage:#x}");
    }
    for code in [0x84, 0x100, 0x1c4, 0x98e, 0x922] {
        assert_eq!(accept(&answer(0x8001, code), 0x15e, 0x8002), Err(ChipError::Refused { ordinal: 0x15e, code }));
    }
    for cut in 0..10 {
        assert_eq!(accept(&vec![0x80; cut], 0x15e, 0x8001), malformed);
    }
}

/// A chip that is not there.
struct Nothing;

impl tpm_wire::Transport for Nothing {
    async fn transmit(&self, _command: &[u8]) -> Result<Vec<u8>, tpm_wire::TransportError> {
        Err(tpm_wire::TransportError::Gone)
    }
}

/// What comes of stored forms: the chip is asked (and is not there), or the form is refused before.
fn used(root: &[u8], sealed: &[u8], counter: &[u8], ak: &[u8]) -> [Option<ChipError>; 3] {
    use crate::hardware::{AttestationKey, Counter, RootKey, Sealed, Settings};
    let timer = frontback::looper::Timer::new(xen_abi::Instant::from_millis(0));
    let chip = super::Chip::new(Nothing, &timer);
    let settings = Settings::from(&crate::args::Options::default());
    let mut rng = Drbg::new(&[1; 48], b"").unwrap();
    let root = RootKey::parse(root).unwrap();
    let (sealed, counter, ak) =
        (Sealed::parse(sealed).unwrap(), Counter::parse(counter).unwrap(), AttestationKey::parse(ak).unwrap());
    let work = async {
        [
            chip.unseal(&settings, &root, &sealed, None, &mut rng).await.err(),
            chip.counter_read(&settings, &root, &counter, &mut rng).await.err(),
            chip.activate(&settings, &root, &crate::args::OWNER_WELL_KNOWN, &ak, &[0; 4], &mut rng).await.err(),
        ]
    };
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    match core::pin::pin!(work).poll(&mut context) {
        core::task::Poll::Ready(errors) => errors,
        core::task::Poll::Pending => panic!("a chip that is not there is not waited for"),
    }
}

#[test]
fn format_1_reads_for_ever_and_nothing_else_does() {
    let gone = Some(ChipError::Transport(tpm_wire::TransportError::Gone));
    let bad = |error: &Option<ChipError>| matches!(error, Some(ChipError::BadForm { .. }));
    let root = hex(&["200101", "81000001", "000b", &"aa".repeat(32)].concat());
    let sealed =
        hex(&["2001", "0200", "000b", "00810000", &"bb".repeat(32), "0002", "0102", "0003", "040506"].concat());
    let counter = hex(&["2001", "01800005", &"cc".repeat(20)].concat());
    let ak = hex(&["2001", &"dd".repeat(20), "0002", "0102", "0003", "040506"].concat());
    assert_eq!(used(&root, &sealed, &counter, &ak), [gone, gone, gone]);
    for primary in ["20010200000000", "20010300000000"] {
        let root = hex(&[primary, "000b", &"aa".repeat(32)].concat());
        assert_eq!(used(&root, &sealed, &counter, &ak), [gone, gone, gone]);
    }
    let with = |form: &[u8], at: usize, value: u8| {
        let mut form = form.to_vec();
        form[at] = value;
        form
    };
    // Format, source, a handle that is not persistent; a primary key with a handle.
    for (at, value) in [(1, 0), (1, 2), (2, 0), (2, 4), (3, 0x80), (2, 2)] {
        assert!(used(&with(&root, at, value), &sealed, &counter, &ak).iter().all(bad), "root {at} {value}");
    }
    // Format, locality, code, bank, PCRs above 23, lengths.
    for (at, value) in [(1, 2), (2, 5), (3, 2), (5, 9), (5, 0), (6, 1), (43, 1), (43, 0), (47, 4), (47, 0)] {
        assert!(bad(&used(&root, &with(&sealed, at, value), &counter, &ak)[0]), "sealed {at} {value}");
    }
    // Format, an index that is not the owner's.
    for (at, value) in [(1, 2), (2, 2), (3, 0xc0), (3, 0x7f)] {
        assert!(bad(&used(&root, &sealed, &with(&counter, at, value), &ak)[1]), "counter {at} {value}");
    }
    for (at, value) in [(1, 2), (23, 1), (23, 0), (27, 4)] {
        assert!(bad(&used(&root, &sealed, &counter, &with(&ak, at, value))[2]), "key {at} {value}");
    }
    for cut in 2..sealed.len() {
        let cut_of = |form: &[u8]| form.get(..cut).unwrap_or(form).to_vec();
        let longer = |form: &[u8]| if cut < form.len() { cut_of(form) } else { [form, &[0]].concat() };
        let found = used(&root, &longer(&sealed), &longer(&counter), &longer(&ak));
        assert!(found.iter().all(bad), "{cut} {found:?}");
        assert!(used(&longer(&root), &sealed, &counter, &ak).iter().all(bad), "{cut}");
    }
}

/// A chip that answers whatever comes to its mind, in the form of an answer.
struct Noise(core::cell::RefCell<Drbg>);

impl tpm_wire::Transport for Noise {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, tpm_wire::TransportError> {
        let mut rng = self.0.borrow_mut();
        let [length, kind, zeros] = rng.bytes();
        let mut body = vec![0; usize::from(length) * 2];
        rng.fill(&mut body);
        // Small numbers are lengths and counts that can be believed.
        body.iter_mut().filter(|byte| **byte >= zeros).for_each(|byte| *byte = 0);
        let (tag, code) = match kind {
            0..16 => (0x8001, 0x100 | u32::from(length)),
            16..32 => (u16::from(length), 0),
            _ => (u16::from_be_bytes([command[0], command[1]]), 0),
        };
        Ok(packet(tag, code, &[&body]).to_vec())
    }
}

#[test]
fn noise_is_never_more_than_an_error() {
    use crate::hardware::{AttestationKey, Counter, PcrSelection, RootKey, Sealed, Settings};
    let root = RootKey::parse(&hex(&["200101", "81000001", "000b", &"aa".repeat(32)].concat())).unwrap();
    let sealed =
        hex(&["2001", "0200", "000b", "00810000", &"bb".repeat(32), "0002", "0102", "0003", "040506"].concat());
    let sealed = Sealed::parse(&sealed).unwrap();
    let counter = Counter::parse(&hex(&["2001", "01800005", &"cc".repeat(20)].concat())).unwrap();
    let ak = hex(&["2001", &"dd".repeat(20), "0002", "0102", "0003", "040506"].concat());
    let ak = AttestationKey::parse(&ak).unwrap();
    let settings = Settings::from(&crate::args::Options::default());
    let owner = crate::args::OWNER_WELL_KNOWN;
    let timer = frontback::looper::Timer::new(xen_abi::Instant::from_millis(0));
    let noise = Drbg::new(&[5; 48], b"noise").unwrap();
    let chip = super::Chip::new(Noise(noise.into()), &timer);
    let mut rng = Drbg::new(&[1; 48], b"").unwrap();
    chip.provide_entropy(&[1; 48]);
    let pcrs = PcrSelection::from_mask(0xff).unwrap();
    let work = async {
        for _ in 0..400 {
            // Nothing that an HMAC protects is believed; the rest is at least what was asked for.
            let _ = chip.identify().await;
            let _ = chip.extend12(3, &[1; 20]).await;
            assert!(chip.pcr_values(pcrs).await.map_or(8, |values| values.len()) == 8);
            assert!(chip.random(20).await.is_err());
            let _ = chip.create_root(&settings, &mut None::<()>, &mut rng).await;
            let _ = chip.ek_public(&settings, &owner, &mut rng).await;
            assert!(chip.seal(&settings, &root, &[1; 32], None, None, &mut rng).await.is_err());
            assert!(chip.unseal(&settings, &root, &sealed, None, &mut rng).await.is_err());
            assert!(chip.counter_create(&settings, &root, &owner, &mut None, &mut rng).await.is_err());
            assert!(chip.counter_increment(&settings, &root, &counter, &mut rng).await.is_err());
            assert!(chip.quote(&settings, &root, &ak, &[1; 20], pcrs, &mut rng).await.is_err());
            assert!(chip.activate(&settings, &root, &owner, &ak, &[0; 4], &mut rng).await.is_err());
        }
    };
    let mut work = core::pin::pin!(work);
    let mut now = xen_abi::Instant::from_millis(0);
    for _ in 0..1_000_000 {
        match frontback::looper::turn(&mut (), now, &[], &timer, work.as_mut()) {
            frontback::looper::Turn::Done(()) => return,
            frontback::looper::Turn::Wait(at) => now = now.max(at.unwrap_or(now)),
        }
    }
    panic!("never done");
}
