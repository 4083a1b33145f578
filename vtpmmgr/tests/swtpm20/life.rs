//! What the manager does with an honest chip.

use crate::bus::Bus;
use crate::{condition, extend, new_root, pcrs, session, settings, stored};
use tpm_crypto::sha256;
use tpm_wire::Writer;
use vtpmmgr::hardware::{Bank, ChipError, Counter, PcrSelection, Sealed, Secret};

#[test]
fn a_secret_outlives_restarts_and_opens_by_pcrs_or_by_code() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    let code = [0x77; 20];
    let extended = sha256(&[&[0; 32], &[9; 32]]);
    let made = session(&bus, &settings, async |chip, rng| {
        let now = chip.pcr_condition(pcrs("0-7,14")).await?;
        assert_eq!((now.bank, now.values.len()), (Bank::Sha256, 9));
        let later = condition(pcrs("16,23"), &[extended, [0; 32]]);
        let before = condition(pcrs("16,23"), &[[0; 32], [0; 32]]);
        assert_eq!(chip.pcr_condition(pcrs("16,23")).await?, before);
        let mut all = Vec::new();
        for (number, (condition, auth)) in [
            (None, None),
            (Some(&now), None),
            (None, Some(&code)),
            (Some(&before), Some(&code)),
            (Some(&before), None),
            (Some(&later), None),
        ]
        .into_iter()
        .enumerate()
        {
            let secret = [number as u8 + 1; 32];
            let sealed = chip.seal(&root, &secret, condition, auth, rng).await?;
            all.push(Sealed::parse(&sealed.to_bytes()).unwrap());
        }
        // The longest secret, and one byte more.
        let longest = chip.seal(&root, &[8; 128], None, None, rng).await?;
        assert_eq!(*chip.unseal(&root, &longest, None, rng).await?, [8; 128]);
        assert!(chip.seal(&root, &[8; 129], None, None, rng).await.is_err());
        Ok(all)
    })
    .unwrap();
    let open = |number: usize, auth: Option<[u8; 20]>| {
        session(&bus, &settings, async |chip, rng| {
            Ok(chip.unseal(&root, &made[number], auth.as_ref(), rng).await?.to_vec())
        })
    };
    let is = |number: usize| Ok(vec![number as u8 + 1; 32]);
    bus.power_cycle();
    for (number, auth) in [(0, None), (1, None), (2, Some(code)), (3, Some(code)), (4, None)] {
        assert_eq!(open(number, auth), is(number), "{number}");
    }
    assert_eq!(open(5, None), Err(ChipError::PcrMismatch));
    // A secret that asks for no code opens with one as well.
    assert_eq!(open(0, Some(code)), is(0));

    extend(&bus, 16, &[9; 32]);
    assert_eq!(open(3, Some(code)), Err(ChipError::PcrMismatch));
    assert_eq!(open(4, None), Err(ChipError::PcrMismatch));
    assert_eq!(open(5, None), is(5), "what was sealed to a state yet to come");
    assert_eq!(open(2, Some(code)), is(2));
    extend(&bus, 14, &[1; 32]);
    assert_eq!(open(1, None), Err(ChipError::PcrMismatch));
    bus.power_cycle();
    assert_eq!(open(1, None), is(1));
}

#[test]
fn guessing_a_code_locks_the_code_and_nothing_else() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    session(&bus, &settings, async |chip, rng| {
        let free = chip.seal(&root, &[1; 32], None, None, rng).await?;
        let coded = chip.seal(&root, &[2; 32], None, Some(&[3; 20]), rng).await?;
        assert_eq!(chip.unseal(&root, &coded, None, rng).await, Err(ChipError::WrongSecret(Secret::Blob)));
        assert_eq!(*chip.unseal(&root, &coded, Some(&[3; 20]), rng).await?, [2; 32]);
        let wrong = Err(ChipError::WrongSecret(Secret::Blob));
        assert_eq!(chip.unseal(&root, &coded, Some(&[4; 20]), rng).await, wrong);
        let mut last = wrong;
        for _ in 0..40 {
            last = chip.unseal(&root, &coded, Some(&[4; 20]), rng).await;
        }
        let Err(ChipError::Refused { code: 0x921, .. }) = last else { panic!("no lockout") };
        let text = last.err().map(|error| error.to_string()).unwrap();
        assert!(text.contains("TPM_RC_LOCKOUT"), "{text}");
        assert!(chip.unseal(&root, &coded, Some(&[3; 20]), rng).await.is_err());
        assert_eq!(*chip.unseal(&root, &free, None, rng).await?, [1; 32]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_secret_opens_at_its_locality_only() {
    let (bus, here) = (Bus::new(), settings());
    let root = new_root(&bus, &here).unwrap();
    let there = vtpmmgr::hardware::Settings { locality: 2, ..settings() };
    // swtpm is at locality 0 whatever the settings say.
    let sealed = session(&bus, &there, async |chip, rng| chip.seal(&root, &[1; 32], None, None, rng).await).unwrap();
    let result = session(&bus, &here, async |chip, rng| chip.unseal(&root, &sealed, None, rng).await);
    assert_eq!(result, Err(ChipError::Locality { sealed: 2 }));
}

#[test]
fn a_counter_counts_up_and_never_comes_back() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    let (first, second, at) = session(&bus, &settings, async |chip, rng| {
        let first = chip.counter_create(&root, None, rng).await?;
        let start = chip.counter_read(&root, &first, rng).await?;
        assert_eq!(chip.counter_increment(&root, &first, rng).await?, start + 1);
        let second = chip.counter_create(&root, None, rng).await?;
        Ok((Counter::parse(&first.to_bytes()).unwrap(), second, start + 1))
    })
    .unwrap();
    assert_eq!(bus.handles(0x0100_0000), [0x0180_0000, 0x0180_0001]);
    for more in 0..3 {
        bus.power_cycle();
        let value = session(&bus, &settings, async |chip, rng| {
            assert_eq!(chip.counter_read(&root, &first, rng).await?, at + more);
            chip.counter_increment(&root, &first, rng).await
        });
        assert_eq!(value, Ok(at + more + 1));
    }
    session(&bus, &settings, async |chip, rng| {
        chip.counter_delete(&root, None, &first, rng).await?;
        chip.counter_delete(&root, None, &first, rng).await?;
        assert_eq!(chip.counter_read(&root, &first, rng).await, Err(ChipError::NoCounter));
        assert_eq!(chip.counter_increment(&root, &first, rng).await, Err(ChipError::NoCounter));
        // Another one at the same place is not it.
        let other = chip.counter_create(&root, None, rng).await?;
        assert!(chip.counter_read(&root, &other, rng).await? > at + 3, "it starts above all that were deleted");
        assert_eq!(bus.handles(0x0100_0000), [0x0180_0000, 0x0180_0001]);
        assert_eq!(chip.counter_read(&root, &first, rng).await, Err(ChipError::NoCounter));
        chip.counter_read(&root, &second, rng).await.map(drop)
    })
    .unwrap();
}

#[test]
fn every_start_of_the_chip_has_a_name_of_its_own() {
    let (bus, other, settings) = (Bus::new(), Bus::new(), settings());
    let name = |bus: &Bus| {
        session(bus, &settings, async |chip, _| {
            let info = chip.start().await?;
            assert_eq!((&info.vendor, info.bank, info.owned), (b"IBM\0", Bank::Sha256, false));
            assert!(info.revision >= 138, "{info:?}");
            Ok(info.boot_id)
        })
        .unwrap()
    };
    let first = name(&bus);
    assert_eq!(name(&bus), first);
    bus.power_cycle();
    let second = name(&bus);
    bus.power_cycle();
    let names = [first, second, name(&bus), name(&other)];
    for (at, one) in names.iter().enumerate() {
        assert!(!names[..at].contains(one), "{at}");
    }
}

#[test]
fn vtpms_are_answered_in_the_form_of_tpm_12() {
    let (bus, settings) = (Bus::new(), settings());
    session(&bus, &settings, async |chip, _| {
        assert_eq!(chip.vtpm_random(0).await?.len(), 0);
        let first = chip.vtpm_random(20).await?;
        assert_eq!(first.len(), 20);
        assert_ne!(first, chip.vtpm_random(20).await?);
        assert!((1..=64).contains(&chip.vtpm_random(u32::MAX).await?.len()));
        assert_eq!(chip.random(1000).await?.len(), 1000);
        assert_eq!(chip.vtpm_pcr(16).await?, [0; 20]);
        assert_eq!(chip.vtpm_pcr(17).await?, [0xff; 20]);
        let want = tpm_crypto::sha1(&[&[0; 20], &[5; 20]]);
        assert_eq!(chip.extend12(16, &[5; 20]).await?, want);
        assert_eq!(chip.vtpm_pcr(16).await?, want);
        for index in [24, 31, 255, 256, u32::MAX] {
            assert_eq!(chip.vtpm_pcr(index).await, Err(ChipError::Refused { ordinal: 0x15, code: 2 }));
            assert!(chip.extend12(index, &[5; 20]).await.is_err());
        }
        let all = PcrSelection::from_mask(0xff_ffff).unwrap();
        let values = chip.pcr_values(all).await?;
        assert_eq!(values.iter().map(|(pcr, _)| *pcr).collect::<Vec<_>>(), (0..24).collect::<Vec<_>>());
        assert!(values.iter().all(|(pcr, value)| value.len() == 32 && (*pcr == 16 || value[0] == value[31])));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_bank_is_the_best_that_the_chip_has() {
    let (bus, settings) = (Bus::new(), settings());
    let root = new_root(&bus, &settings).unwrap();
    for (banks, want) in [(&[0x0c, 4][..], Bank::Sha384), (&[4], Bank::Sha1), (&[0x0c], Bank::Sha384)] {
        let mut params = Vec::new();
        let mut w = Writer::new(&mut params);
        w.u32(4);
        for bank in [4, 0x0b, 0x0c, 0x0d] {
            let byte = if banks.contains(&bank) { 0xff } else { 0 };
            w.u16(bank).u8(3).bytes(&[byte; 3]);
        }
        // TPM2_PCR_Allocate with the platform hierarchy, for the next start.
        bus.raw(0x12b, &[0x4000_000c], &[b""], &params).unwrap();
        bus.power_cycle();
        let sealed = session(&bus, &settings, async |chip, rng| {
            assert_eq!(chip.start().await?.bank, want);
            match chip.vtpm_pcr(3).await {
                Ok(value) => assert!(banks.contains(&4) && value == [0; 20]),
                Err(ChipError::Unsupported { .. }) => assert!(!banks.contains(&4)),
                Err(error) => return Err(error),
            }
            let now = chip.pcr_condition(pcrs("0-16")).await?;
            assert_eq!(now.values[0].len(), want.size());
            let sealed = chip.seal(&root, &[1; 32], Some(&now), None, rng).await?;
            assert_eq!(*chip.unseal(&root, &sealed, None, rng).await?, [1; 32]);
            Ok(sealed)
        })
        .unwrap();
        let mut params = Vec::new();
        Writer::new(&mut params).u32(1).u16(want.id()).bytes(&[7; 48][..want.size()]);
        bus.raw(0x182, &[16], &[b""], &params).unwrap();
        let result = session(&bus, &settings, async |chip, rng| chip.unseal(&stored(&root), &sealed, None, rng).await);
        assert_eq!(result, Err(ChipError::PcrMismatch));
    }
}

#[test]
fn a_clean_stop_is_no_failed_guess() {
    for (clean, want) in [(true, 0), (false, 1)] {
        let (bus, settings) = (Bus::new(), settings());
        let root = new_root(&bus, &settings).unwrap();
        session(&bus, &settings, async |chip, rng| {
            let sealed = chip.seal(&root, &[1; 32], None, Some(&[3; 20]), rng).await?;
            chip.unseal(&root, &sealed, Some(&[3; 20]), rng).await?;
            if clean {
                chip.shut_down().await;
            }
            Ok(())
        })
        .unwrap();
        bus.power_cycle();
        session(&bus, &settings, async |_, _| Ok(())).unwrap();
        // TPM_PT_LOCKOUT_COUNTER.
        let out = bus.raw(0x17a, &[], &[], &[0, 0, 0, 6, 0, 0, 2, 0x0e, 0, 0, 0, 1]).unwrap();
        assert_eq!(out.last(), Some(&want), "{clean}");
    }
}
