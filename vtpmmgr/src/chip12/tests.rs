use super::codes::ord;
use super::{Chip, ChipError, SealedBlob};
use crate::args::{AuthData, OWNER_WELL_KNOWN, SRK_WELL_KNOWN};
use crate::fake::{FakeChip, Fault};
use alloc::format;
use alloc::vec::Vec;
use core::pin::pin;
use core::time::Duration;
use frontback::looper::{Timer, Turn, turn};
use tpm_crypto::Drbg;
use tpm_wire::TransportError;
use xen_abi::Instant;

/// Polls to the end, moving time on whenever the future waits for it; returns the time that passed as well.
fn drive<O>(timer: &Timer, work: impl Future<Output = O>) -> (O, Duration) {
    let mut work = pin!(work);
    let mut now = Instant::from_millis(0);
    for _ in 0..1_000_000 {
        match turn(&mut (), now, &[], timer, work.as_mut()) {
            Turn::Done(output) => return (output, now.since(Instant::from_millis(0))),
            Turn::Wait(Some(at)) => now = now.max(at),
            Turn::Wait(None) => (),
        }
    }
    panic!("the chip client waits for ever");
}

/// Everything the manager does with a chip: ownership, storage key, seal, unseal.
async fn story(chip: &Chip<'_, FakeChip>, rng: &mut Drbg) -> Result<(), ChipError> {
    if !chip.start().await?.owned {
        chip.take_ownership(&OWNER_WELL_KNOWN, &SRK_WELL_KNOWN, rng).await?;
    }
    assert_eq!(chip.random(48).await?.len(), 48);
    let key = chip.create_storage_key(&SRK_WELL_KNOWN, rng).await?;
    let handle = chip.load(&SRK_WELL_KNOWN, &key, rng).await?;
    let result = async {
        let sealed = chip.seal_at(handle, &key, 0, &[0x5a; 32], rng).await?;
        chip.unseal_at(handle, &key, &sealed, rng).await
    };
    let result = result.await;
    chip.unload(handle).await?;
    // A changed blob is a refusal of the chip; a changed answer is caught by its HMAC.
    result.map(|secret| assert!(*secret == [0x5a; 32]))
}

fn run_story(fake: &FakeChip) -> Result<(), ChipError> {
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake.clone(), &timer);
    let mut rng = Drbg::new(&[1; 48], b"test").unwrap();
    drive(&timer, story(&chip, &mut rng)).0
}

#[test]
fn an_honest_chip_is_owned_once_and_used_without_leaving_anything_open() {
    let fake = FakeChip::new(1, 0);
    assert_eq!(run_story(&fake), Ok(()));
    assert_eq!(fake.owner_and_srk(), Some(([0xff; 20], [0; 20])));
    assert_eq!(fake.open_slots(), (0, 0));
    assert_eq!(run_story(&fake), Ok(()));
    assert_eq!(fake.seen().iter().filter(|o| **o == ord::TAKE_OWNERSHIP).count(), 1);
}

const USED: [u32; 14] = [
    ord::STARTUP,
    ord::GET_CAPABILITY,
    ord::GET_TICKS,
    ord::READ_PUBEK,
    ord::CREATE_EK,
    ord::TAKE_OWNERSHIP,
    ord::GET_RANDOM,
    ord::OIAP,
    ord::OSAP,
    ord::CREATE_WRAP_KEY,
    ord::LOAD_KEY2,
    ord::SEAL,
    ord::UNSEAL,
    ord::FLUSH_SPECIFIC,
];

#[test]
fn every_answer_cut_lengthened_mistagged_or_refused_is_an_error_and_leaks_nothing() {
    let cuts = [1, 2, 4, 5, 8, 12, 19, 20, 21, 24, 40, 41, 42, 300, 4096];
    let mut faults: Vec<Fault> = cuts.map(Fault::Cut).to_vec();
    faults.push(Fault::Longer);
    faults.extend([Fault::Tag(0), Fault::Tag(0x01c4), Fault::Code(9), Fault::Code(u32::MAX)]);
    faults.extend([TransportError::Gone, TransportError::TimedOut, TransportError::Garbled].map(Fault::Lost));
    faults.extend([Fault::AnswerLost(TransportError::TimedOut), Fault::Bytes(&[]), Fault::Bytes(&[0, 0xc4])]);
    for ordinal in USED {
        for fault in &faults {
            let fake = FakeChip::new(1, 0);
            if ordinal == ord::READ_PUBEK {
                // The first one is refused, for there is no endorsement key yet.
                fake.fault(ordinal, Fault::Late(1));
            }
            fake.fault(ordinal, *fault);
            let result = run_story(&fake);
            assert!(fake.is_faultless(), "{ordinal:#x} was never sent");
            let what = format!("{ordinal:#x} {fault:?} {result:?}");
            // Answers without content that the client needs may be odd: what counts is that nothing wrong is believed. A flush is
            // asked for twice.
            let no_content = matches!(ordinal, ord::STARTUP | ord::FLUSH_SPECIFIC | ord::CREATE_EK);
            let harmless =
                no_content && matches!(fault, Fault::Cut(_) | Fault::Longer) || ordinal == ord::FLUSH_SPECIFIC;
            assert!(harmless || result.is_err(), "{what}");
            // A chip that is refused is asked what it has open at the next start; everything works again.
            fake.power_cycle();
            assert_eq!(run_story(&fake), Ok(()), "after {what}");
            assert_eq!(fake.open_slots(), (0, 0), "after {what}");
        }
    }
}

#[test]
fn a_failed_command_leaves_no_session_behind() {
    for ordinal in [ord::TAKE_OWNERSHIP, ord::CREATE_WRAP_KEY, ord::LOAD_KEY2, ord::SEAL, ord::UNSEAL] {
        for fault in [Fault::Code(9), Fault::Lost(TransportError::Garbled), Fault::Flip(0), Fault::Longer] {
            let fake = FakeChip::new(1, 0);
            fake.fault(ordinal, fault);
            assert!(run_story(&fake).is_err());
            assert_eq!(fake.open_slots().0, 0, "{ordinal:#x} {fault:?}");
        }
    }
    // The first session of a pair, when the second cannot be had: OIAP number 3 is the second of TPM_Unseal.
    let fake = FakeChip::new(1, 0);
    for _ in 0..3 {
        fake.fault(ord::OIAP, Fault::Late(1));
    }
    fake.fault(ord::OIAP, Fault::Code(21));
    assert_eq!(run_story(&fake), Err(ChipError::Refused { ordinal: ord::OIAP, code: 21 }));
    assert_eq!(fake.open_slots(), (0, 0));
}

#[test]
fn an_answer_changed_on_the_bus_is_not_believed() {
    for ordinal in [ord::TAKE_OWNERSHIP, ord::CREATE_WRAP_KEY, ord::LOAD_KEY2, ord::SEAL, ord::UNSEAL] {
        let trailer = if ordinal == ord::UNSEAL { 82 } else { 41 };
        // resAuth, continueAuthSession, nonceEven, and the last byte of the parameters (LoadKey2 has none but a handle, which
        // the specification leaves out of the digest).
        let last = if ordinal == ord::LOAD_KEY2 { trailer - 1 } else { trailer };
        for from_end in [0, 19, 20, 21, 40, last] {
            let fake = FakeChip::new(1, 0);
            fake.fault(ordinal, Fault::Flip(from_end));
            assert_eq!(run_story(&fake), Err(ChipError::NotAuthentic { ordinal }), "{ordinal:#x} byte -{from_end}");
        }
    }
    let fake = FakeChip::new(1, 0);
    // The first ReadPubek says that there is no key.
    fake.fault(ord::READ_PUBEK, Fault::Late(1));
    fake.fault(ord::READ_PUBEK, Fault::Flip(30));
    assert_eq!(run_story(&fake), Err(ChipError::NotAuthentic { ordinal: ord::READ_PUBEK }));
}

#[test]
fn a_busy_chip_is_asked_again_for_half_a_minute() {
    for code in [0x800, 0x801, 0x802] {
        let fake = FakeChip::new(1, 0);
        for _ in 0..20 {
            fake.fault(ord::UNSEAL, Fault::Code(code));
        }
        assert_eq!(run_story(&fake), Ok(()), "{code:#x}");
        let tests = fake.seen().iter().filter(|o| **o == ord::CONTINUE_SELF_TEST).count();
        assert_eq!(tests, if code == 0x801 { 21 } else { 1 });
    }
    let fake = FakeChip::new(1, 0);
    for _ in 0..1000 {
        fake.fault(ord::STARTUP, Fault::Code(0x800));
    }
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake, &timer);
    let (result, time) = drive(&timer, chip.start());
    assert_eq!(result, Err(ChipError::Transport(TransportError::TimedOut)));
    assert_eq!(time, Duration::from_secs(30));
}

#[test]
fn a_tpm_20_chip_is_named() {
    let fake = FakeChip::new(1, 0);
    fake.fault(ord::STARTUP, Fault::Code(30));
    fake.fault(0x17a, Fault::Bytes(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0]));
    assert_eq!(run_story(&fake), Err(ChipError::Tpm20));
    fake.fault(ord::STARTUP, Fault::Code(28));
    assert_eq!(run_story(&fake), Err(ChipError::Refused { ordinal: ord::STARTUP, code: 28 }));
}

#[test]
fn what_others_left_open_is_freed_at_the_start() {
    let fake = FakeChip::new(1, 0);
    assert_eq!(run_story(&fake), Ok(()));
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake.clone(), &timer);
    let mut rng = Drbg::new(&[1; 48], b"test").unwrap();
    drive(&timer, async {
        let key = chip.create_storage_key(&SRK_WELL_KNOWN, &mut rng).await.unwrap();
        for _ in 0..3 {
            chip.load(&SRK_WELL_KNOWN, &key, &mut rng).await.unwrap();
            assert!(chip.oiap(&[0; 20], &mut rng).await.is_ok() || fake.open_slots().0 == 3);
        }
    });
    assert!(fake.open_slots().1 == 3);
    assert_eq!(run_story(&fake), Ok(()));
    assert_eq!(fake.open_slots(), (0, 0));
}

#[test]
fn wrong_secrets_wrong_locality_and_another_chips_blobs_are_refused() {
    let (fake, other) = (FakeChip::new(1, 2), FakeChip::new(2, 2));
    let timer = Timer::new(Instant::from_millis(0));
    let (chip, stranger) = (Chip::new(fake.clone(), &timer), Chip::new(other, &timer));
    let mut rng = Drbg::new(&[1; 48], b"test").unwrap();
    let refused = |ordinal, code| Some(ChipError::Refused { ordinal, code });
    drive(&timer, async {
        for chip in [&chip, &stranger] {
            chip.start().await.unwrap();
            chip.take_ownership(&OWNER_WELL_KNOWN, &SRK_WELL_KNOWN, &mut rng).await.unwrap();
        }
        let key = chip.create_storage_key(&SRK_WELL_KNOWN, &mut rng).await.unwrap();
        let wrong = AuthData([9; 20]);
        assert_eq!(chip.load(&wrong, &key, &mut rng).await.err(), refused(ord::LOAD_KEY2, 1));
        assert_eq!(stranger.load(&SRK_WELL_KNOWN, &key, &mut rng).await.err(), refused(ord::LOAD_KEY2, 33));
        let handle = chip.load(&SRK_WELL_KNOWN, &key, &mut rng).await.unwrap();
        let sealed = chip.seal_at(handle, &key, 2, &[7; 32], &mut rng).await.unwrap();
        let unauthorized = SealedBlob { auth: wrong, blob: sealed.blob.clone() };
        assert_eq!(chip.unseal_at(handle, &key, &unauthorized, &mut rng).await.err(), refused(ord::UNSEAL, 29));
        fake.set_locality(0);
        assert_eq!(chip.unseal_at(handle, &key, &sealed, &mut rng).await.err(), refused(ord::UNSEAL, 61));
        fake.set_locality(2);
        assert!(chip.unseal_at(handle, &key, &sealed, &mut rng).await.is_ok_and(|secret| *secret == [7; 32]));
    });
}

#[test]
fn a_forwarded_answer_is_checked() {
    let fake = FakeChip::new(1, 0);
    assert_eq!(run_story(&fake), Ok(()));
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake.clone(), &timer);
    let command = |ordinal: u8, n: u8| [0, 0xc1, 0, 0, 0, 14, 0, 0, 0, ordinal, 0, 0, 0, n];
    let send = |ordinal: u8, n: u8| drive(&timer, chip.forward(ordinal.into(), &command(ordinal, n))).0;
    assert_eq!(send(0x46, 16).unwrap().len(), 10 + 4 + 16);
    assert_eq!(send(0x15, 3).unwrap()[10..], [3; 20]);
    assert_eq!(send(0x15, 24).unwrap()[..], [0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 2], "the chip's own refusal is passed on");
    for ordinal in [0x46, 0x15] {
        for fault in [Fault::Cut(1), Fault::Cut(99), Fault::Longer, Fault::Tag(0x01c4)] {
            fake.fault(ordinal.into(), fault);
            let want = Some(ChipError::Malformed { ordinal: ordinal.into() });
            assert_eq!(send(ordinal, 16).err(), want, "{ordinal:#x} {fault:?}");
        }
    }
    // More than was asked for.
    fake.fault(0x46, Fault::Bytes(&[0, 0xc4, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5]));
    assert_eq!(send(0x46, 4).err(), Some(ChipError::Malformed { ordinal: 0x46 }));
}

mod whole;
