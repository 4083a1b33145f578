//! What somebody between the manager and the chip can do, and chips that fail.

use crate::bus::{Bus, Trouble};
use crate::{new_root, pcrs, session, settings};
use tpm_wire::TransportError;
use vtpmmgr::hardware::{ChipError, RootKey, Sealed};

#[test]
fn a_listener_learns_no_secret() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    let secret: Vec<u8> = (100..132).collect();
    let code: [u8; 20] = core::array::from_fn(|i| 0xc0 ^ i as u8);
    let kept = session(&bus, &settings, async |chip, rng| {
        let now = chip.pcr_condition(pcrs("0-7")).await?;
        for (condition, auth) in [(None, None), (Some(&now), None), (None, Some(&code)), (Some(&now), Some(&code))] {
            let sealed = chip.seal(&root, &secret, condition, auth, rng).await?;
            assert_eq!(*chip.unseal(&root, &sealed, auth, rng).await?, secret);
        }
        let mut kept = vec![secret.clone(), code.to_vec()];
        let counter = chip.counter_create(&root, None, rng).await?;
        chip.counter_increment(&root, &counter, rng).await?;
        kept.push(counter.to_bytes()[6..26].to_vec());
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        chip.quote(&root, &ak, &[1; 20], pcrs("0"), rng).await?;
        kept.push(ak.to_bytes()[2..22].to_vec());
        kept.push(chip.random(48).await?.to_vec());
        kept.push(chip.vtpm_random(20).await?.to_vec());
        Ok(kept)
    })
    .unwrap();
    for secret in &kept {
        for part in secret.windows(8) {
            assert!(!bus.leaked(part), "{part:02x?}");
        }
    }
    // The same ears do hear what is not hidden: the label in the key's creation data.
    assert!(bus.leaked(&[1; 20]));
}

/// A chip with a sealed secret of 0x5a.
fn sealed(bus: &Bus) -> (RootKey, Sealed) {
    let root = new_root(bus, &settings()).unwrap();
    let sealed = session(bus, &settings(), async |chip, rng| {
        let now = chip.pcr_condition(pcrs("16")).await?;
        chip.seal(&root, &[0x5a; 32], Some(&now), None, rng).await
    });
    (root, sealed.unwrap())
}

/// Commands that answer with an HMAC, and those that do not but must not be believed either.
const UNSEALING: [u32; 5] = [0x176, 0x157, 0x16f, 0x17f, 0x15e];

#[test]
fn a_bit_changed_in_every_answer_never_gives_a_wrong_secret() {
    let bus = Bus::new();
    let (root, blob) = sealed(&bus);
    session(&bus, &settings(), async |chip, rng| {
        for code in UNSEALING {
            // As long as the longest of these answers, so that the last ones change nothing.
            for at in 0..130 {
                bus.always(Some((code, Trouble::Flip(at, 1 << (at % 8)))));
                let result = chip.unseal(&root, &blob, None, rng).await;
                bus.always(None);
                assert!(result.as_ref().map_or(true, |secret| **secret == [0x5a; 32]), "{code:#x} byte {at}");
                // What carries the secret or a handle is found out, whatever byte it is.
                let length = bus
                    .seen
                    .borrow()
                    .iter()
                    .rev()
                    .skip(1)
                    .step_by(2)
                    .find(|c| c[6..10] == code.to_be_bytes())
                    .map(|_| ());
                assert!(length.is_some());
                if matches!(code, 0x15e) && at < 10 + 4 + 34 + 2 + 32 + 1 + 2 + 32 {
                    assert!(result.is_err(), "{code:#x} byte {at}");
                }
                // A session whose handle never arrived is freed with the next restart.
                chip.start().await?;
                bus.assert_clean("after garbage");
                bus.seen.borrow_mut().clear();
            }
        }
        // Once only: it is asked again.
        for after in 0..8 {
            bus.trouble(after, Trouble::Flip(9, 0x10));
            assert_eq!(*chip.unseal(&root, &blob, None, rng).await?, [0x5a; 32]);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn sealing_is_not_believed_when_its_answer_was_changed() {
    let bus = Bus::new();
    let (root, _) = sealed(&bus);
    session(&bus, &settings(), async |chip, rng| {
        for at in (0..420).step_by(7) {
            bus.always(Some((0x153, Trouble::Flip(at, 4))));
            let result = chip.seal(&root, &[0x5a; 32], None, None, rng).await;
            bus.always(None);
            assert!(result.is_err(), "byte {at}");
            bus.assert_clean("after garbage");
        }
        Ok(())
    })
    .unwrap();
}

/// Exchanges two chips before and while a manager runs; `prepare` gives both their storage root keys.
fn exchange(prepare: impl Fn(&Bus)) -> (Bus, RootKey, Sealed) {
    let (bus, other) = (Bus::new(), Bus::new());
    prepare(&bus);
    prepare(&other);
    let (root, blob) = sealed(&bus);
    sealed(&other);
    let open = |bus: &Bus| session(bus, &settings(), async |chip, rng| chip.unseal(&root, &blob, None, rng).await);
    assert_eq!(open(&other), Err(ChipError::OtherRoot));
    assert!(open(&bus).is_ok());
    session(&bus, &settings(), async |chip, rng| {
        chip.unseal(&root, &blob, None, rng).await?;
        bus.swap(&other);
        assert_eq!(chip.unseal(&root, &blob, None, rng).await, Err(ChipError::OtherRoot));
        let sealed = chip.seal(&root, &[0x5a; 32], None, None, rng).await;
        assert_eq!(sealed.err(), Some(ChipError::OtherRoot));
        bus.swap(&other);
        assert_eq!(*chip.unseal(&root, &blob, None, rng).await?, [0x5a; 32]);
        // Random bytes, too, come from the chip that the manager knows.
        bus.swap(&other);
        assert_eq!(chip.random(32).await, Err(ChipError::OtherRoot));
        bus.swap(&other);
        assert!(chip.random(32).await.is_ok());
        Ok(())
    })
    .unwrap();
    (bus, root, blob)
}

#[test]
fn another_chip_with_a_key_at_the_same_place_is_found_out() {
    exchange(|bus| crate::keys::install(bus, 0x8100_0001, crate::keys::ECC_SRK, b""));
    let (bus, root, blob) = exchange(|_| ());
    // Cleared by whoever holds the lockout hierarchy: TPM2_Clear.
    bus.raw(0x126, &[0x4000_000a], &[b""], &[]).unwrap();
    let result = session(&bus, &settings(), async |chip, rng| chip.unseal(&root, &blob, None, rng).await);
    assert_eq!(result, Err(ChipError::OtherRoot));
}

#[test]
fn a_chip_that_is_reset_or_loses_answers_is_made_up_for() {
    let bus = Bus::new();
    let (root, blob) = sealed(&bus);
    session(&bus, &settings(), async |chip, rng| {
        let counter = chip.counter_create(&root, None, rng).await?;
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        let mut value = chip.counter_read(&root, &counter, rng).await?;
        for trouble in [Trouble::Reset, Trouble::AnswerLost, Trouble::Refuse(0x922), Trouble::Refuse(0x902)] {
            let mut after = 0;
            loop {
                bus.trouble(after, trouble);
                assert_eq!(*chip.unseal(&root, &blob, None, rng).await?, [0x5a; 32], "{trouble:?} {after}");
                // One step, even if the chip took it and its answer was lost.
                value += 1;
                assert_eq!(chip.counter_increment(&root, &counter, rng).await?, value, "{trouble:?} {after}");
                chip.quote(&root, &ak, &[1; 20], pcrs("0"), rng).await?;
                bus.assert_clean(&format!("{trouble:?} {after}"));
                if !bus.is_quiet() {
                    break;
                }
                after += 1;
            }
            assert!(after > 20, "{after}");
            bus.trouble(0, Trouble::Refuse(0x922));
            chip.vtpm_pcr(0).await?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_counter_made_while_answers_are_lost_is_one_counter() {
    for after in 0..14 {
        let bus = Bus::new();
        let root = new_root(&bus, &settings()).unwrap();
        session(&bus, &settings(), async |chip, rng| {
            bus.trouble(after, Trouble::AnswerLost);
            let counter = chip.counter_create(&root, None, rng).await?;
            let value = chip.counter_read(&root, &counter, rng).await?;
            assert_eq!(chip.counter_increment(&root, &counter, rng).await?, value + 1);
            assert_eq!(bus.handles(0x0100_0000).len(), 1, "{after}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_chip_that_stays_away_is_an_error_and_comes_back() {
    let bus = Bus::new();
    let (root, blob) = sealed(&bus);
    session(&bus, &settings(), async |chip, rng| {
        // TPM_RC_RETRY for ever, TPM_RC_FAILURE, answers that never come.
        for (trouble, want) in [
            (Trouble::Refuse(0x922), ChipError::Transport(TransportError::TimedOut)),
            (Trouble::Refuse(0x101), ChipError::Refused { ordinal: 0x157, code: 0x101 }),
            (Trouble::AnswerLost, ChipError::Transport(TransportError::TimedOut)),
        ] {
            bus.always(Some((0x157, trouble)));
            assert_eq!(chip.unseal(&root, &blob, None, rng).await, Err(want));
            bus.always(None);
            assert_eq!(*chip.unseal(&root, &blob, None, rng).await?, [0x5a; 32]);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn pcrs_that_were_changed_on_their_way_do_not_go_with_a_quote() {
    let bus = Bus::new();
    let (root, _) = sealed(&bus);
    session(&bus, &settings(), async |chip, rng| {
        let (ak, _) = chip.ak_create(&root, None, &[1; 20], rng).await?;
        // TPM2_PCR_Read: header, update counter, selection, count and size come before the value.
        for at in [10 + 4 + 4 + 6 + 4 + 2, 10 + 4 + 4 + 6 + 4 + 2 + 31] {
            bus.always(Some((0x17e, Trouble::Flip(at, 1))));
            let quote = chip.quote(&root, &ak, &[1; 20], pcrs("0"), rng).await;
            assert_eq!(quote.err(), Some(ChipError::Malformed { ordinal: 0x158 }));
            bus.always(None);
        }
        // Its answer is longer than this.
        for at in 10..200 {
            bus.always(Some((0x158, Trouble::Flip(at, 1))));
            assert!(chip.quote(&root, &ak, &[1; 20], pcrs("0"), rng).await.is_err(), "byte {at}");
            bus.always(None);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn random_bytes_are_hidden_as_soon_as_there_is_something_to_hide_them_with() {
    let bus = Bus::new();
    let timer = frontback::looper::Timer::new(xen_abi::Instant::from_millis(0));
    let mut rng = tpm_crypto::Drbg::new(&[9; 48], b"").unwrap();
    crate::drive(&timer, async {
        let chip = vtpmmgr::hardware::Hardware::detect(&bus, &timer, settings()).await.unwrap();
        chip.start().await.unwrap();
        assert!(bus.leaked(&chip.random(32).await.unwrap()));
        // Too little to draw secrets from.
        chip.provide_entropy(&[1; 47]);
        assert!(bus.leaked(&chip.random(32).await.unwrap()));
        chip.create_root(&mut rng).await.unwrap();
        assert!(!bus.leaked(&chip.random(32).await.unwrap()));
    });
}
