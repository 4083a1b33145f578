use super::codes::ord;
use super::root::Root;
use super::{Chip, ChipError};
use crate::args::{Options, SRK_WELL_KNOWN};
use crate::fake::{FakeChip, Fault};
use crate::hardware::Settings;
use alloc::format;
use alloc::vec::Vec;
use core::pin::pin;
use core::time::Duration;
use frontback::looper::{Timer, Turn, turn};
use tpm_crypto::Drbg;
use tpm_wire::TransportError;
use xen_abi::Instant;

mod whole;

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

fn settings() -> Settings {
    Settings::from(&Options::default())
}

/// What the manager does with a chip at its first start: ownership, storage key, seal, unseal. Nothing is asked twice here.
async fn story(chip: &Chip<'_, FakeChip>, rng: &mut Drbg) -> Result<(), ChipError> {
    chip.identify().await?;
    assert_eq!(chip.random(48).await?.len(), 48);
    let root = chip.create_root(&settings(), &mut None, rng).await?.key;
    let sealed = chip.seal(&settings(), &root, &[0x5a; 32], None, None, rng).await?;
    // A changed blob is a refusal of the chip; a changed answer is caught by its HMAC.
    let secret = chip.unseal(&settings(), &root, &sealed, None, rng).await?;
    assert_eq!(secret[..], [0x5a; 32]);
    Ok(())
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

const USED: [u32; 15] = [
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
    ord::ESTABLISH_TRANSPORT,
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
fn a_failed_command_leaves_nothing_behind() {
    let authorized =
        [ord::TAKE_OWNERSHIP, ord::CREATE_WRAP_KEY, ord::LOAD_KEY2, ord::ESTABLISH_TRANSPORT, ord::SEAL, ord::UNSEAL];
    for ordinal in authorized {
        for fault in [Fault::Code(9), Fault::Lost(TransportError::Garbled), Fault::Flip(0), Fault::Longer] {
            let fake = FakeChip::new(1, 0);
            fake.fault(ordinal, fault);
            assert!(run_story(&fake).is_err());
            // What was made, but whose handle was not believed, stays until its room is needed.
            let unknown = matches!(fault, Fault::Flip(_) | Fault::Longer);
            let slots = match ordinal {
                ord::LOAD_KEY2 if unknown => (0, 1),
                ord::ESTABLISH_TRANSPORT if unknown => (1, 0),
                _ => (0, 0),
            };
            assert_eq!(fake.open_slots(), slots, "{ordinal:#x} {fault:?}");
        }
    }
    // A session that cannot be had, when others and a key are there already: OIAPs 6 and 7 are those of TPM_Unseal, after
    // TPM_EstablishTransport; OSAP 2 is that of TPM_Seal.
    for (ordinal, before) in [(ord::OIAP, 5), (ord::OIAP, 6), (ord::OSAP, 1)] {
        let fake = FakeChip::new(1, 0);
        for _ in 0..before {
            fake.fault(ordinal, Fault::Late(1));
        }
        fake.fault(ordinal, Fault::Code(21));
        assert_eq!(run_story(&fake), Err(ChipError::Refused { ordinal, code: 21 }));
        assert_eq!((fake.open_slots(), fake.is_faultless()), ((0, 0), true));
    }
}

#[test]
fn an_answer_changed_on_the_bus_is_not_believed() {
    for ordinal in [ord::TAKE_OWNERSHIP, ord::CREATE_WRAP_KEY, ord::LOAD_KEY2, ord::ESTABLISH_TRANSPORT] {
        // resAuth, continueAuthSession, nonceEven, and the last byte of the parameters (LoadKey2 has none but a handle, which
        // the specification leaves out of the digest).
        let last = if ordinal == ord::LOAD_KEY2 { 40 } else { 41 };
        for from_end in [0, 19, 20, 21, 40, last] {
            let fake = FakeChip::new(1, 0);
            fake.fault(ordinal, Fault::Flip(from_end));
            assert_eq!(run_story(&fake), Err(ChipError::NotAuthentic { ordinal }), "{ordinal:#x} byte -{from_end}");
        }
    }
    // Through a tunnel it is the tunnel that notices, except for what the sessions of the command inside protect themselves.
    for (ordinal, sessions) in [(ord::SEAL, 1), (ord::UNSEAL, 2)] {
        for from_end in [0, 19, 20, 21, 40, 41, 40 + 41 * sessions, 41 + 41 * sessions] {
            let fake = FakeChip::new(1, 0);
            fake.fault(ordinal, Fault::Flip(from_end));
            let inside = (41..41 + 41 * sessions).contains(&from_end);
            let notices = if inside { ordinal } else { ord::EXECUTE_TRANSPORT };
            assert_eq!(run_story(&fake), Err(ChipError::NotAuthentic { ordinal: notices }), "byte -{from_end}");
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
    let (result, time) = drive(&timer, chip.identify());
    assert_eq!(result, Err(ChipError::Transport(TransportError::TimedOut)));
    assert_eq!(time, Duration::from_secs(30));
}

#[test]
fn what_others_left_open_is_freed_at_the_start() {
    let fake = FakeChip::new(1, 0);
    assert_eq!(run_story(&fake), Ok(()));
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake.clone(), &timer);
    let mut rng = Drbg::new(&[1; 48], b"test").unwrap();
    drive(&timer, async {
        let root = chip.create_root(&settings(), &mut None, &mut rng).await.unwrap().key;
        let key = Root::of(&root).ok().unwrap().key;
        let handle = chip.load(&SRK_WELL_KNOWN, &key, &mut rng).await.unwrap();
        assert!(chip.tunnel(handle, &key, &mut rng).await.is_ok());
        for _ in 0..2 {
            chip.load(&SRK_WELL_KNOWN, &key, &mut rng).await.unwrap();
            assert!(chip.oiap(&[0; 20], &mut rng).await.is_ok());
        }
    });
    assert_eq!(fake.open_slots(), (3, 3));
    assert_eq!(run_story(&fake), Ok(()));
    assert_eq!(fake.open_slots(), (0, 0));
}

#[test]
fn random_bytes_are_counted() {
    let fake = FakeChip::new(1, 0);
    assert_eq!(run_story(&fake), Ok(()));
    let timer = Timer::new(Instant::from_millis(0));
    let chip = Chip::new(fake.clone(), &timer);
    let malformed = Err(ChipError::Malformed { ordinal: ord::GET_RANDOM });
    drive(&timer, async {
        assert_eq!(chip.vtpm_random(16).await.map(|bytes| bytes.len()), Ok(16));
        assert_eq!(chip.vtpm_random(300).await.map(|bytes| bytes.len()), Ok(20), "the model gives no more at a time");
        // More than was asked for, and none at all.
        fake.fault(ord::GET_RANDOM, Fault::Bytes(&[0, 0xc4, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5]));
        assert_eq!(chip.vtpm_random(4).await.map(drop), malformed);
        fake.fault(ord::GET_RANDOM, Fault::Bytes(&[0, 0xc4, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(chip.random(4).await.map(drop), malformed);
        for fault in [Fault::Cut(1), Fault::Cut(99), Fault::Longer, Fault::Tag(0x01c4)] {
            fake.fault(ord::GET_RANDOM, fault);
            assert_eq!(chip.vtpm_random(16).await.map(drop), malformed, "{fault:?}");
            fake.fault(ord::PCR_READ, fault);
            assert_eq!(chip.vtpm_pcr(3).await, Err(ChipError::Malformed { ordinal: ord::PCR_READ }), "{fault:?}");
        }
    });
}
