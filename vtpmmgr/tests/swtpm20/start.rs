//! The manager's start on a TPM 2.0 chip: a blank disk, every later start, and disks that do not belong to this chip or this time.

use crate::bus::{Bus, Trouble};
use crate::keys::{ECC_SRK, install};
use crate::{drive, extend};
use frontback::looper::Timer;
use vault::fake::RamDisk;
use vtpmmgr::anchor::AnchorError;
use vtpmmgr::args::{Options, Rollback};
use vtpmmgr::hardware::{ChipError, Hardware};
use vtpmmgr::start::{Ready, StartError, open};
use vtpmmgr::state::{Change, Vtpm};
use xen_abi::{EntropySource, Instant, NoEntropy};

/// The processor's generator: another stream for every start.
struct Cpu(std::fs::File);

impl EntropySource for Cpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        std::io::Read::read_exact(&mut self.0, out).unwrap();
        Ok(())
    }
}

/// One life of a manager: start, one more vTPM, clean stop. Returns how many vTPMs it knew at its start.
fn life(bus: &Bus, disk: &RamDisk, options: &Options) -> Result<usize, StartError> {
    let timer = Timer::new(Instant::from_millis(0));
    let mut cpu = Cpu(std::fs::File::open("/dev/urandom").unwrap());
    let result = drive(&timer, async {
        let chip = Hardware::detect(bus, &timer, options.into()).await?;
        let Ready { mut store, label, .. } = open(options, disk.clone(), &chip, &timer, &mut cpu, |_| ()).await?;
        let known = store.state().count();
        let group = store.state().groups()[0].uuid;
        let vtpm = Vtpm { group, flags: 0, record: None };
        store.apply(Change::PutVtpm { uuid: [known as u8; 16], vtpm }).await.unwrap();
        store.stop(timer.now()).await.unwrap();
        let mut rng = tpm_crypto::Drbg::new(&[3; 48], b"").unwrap();
        let mut now = Vec::new();
        for selection in label.selections() {
            now.push(chip.pcr_condition(selection).await?);
        }
        let root = label.candidates(&now, false).next().unwrap();
        let secret = chip.unseal(&label.key, &root.sealed, None, &mut rng).await?;
        assert!(!bus.leaked(&secret) && !bus.leaked(&secret[..8]), "the root secret on the bus");
        Ok(known)
    });
    // After an error the next start frees what is left.
    if result.is_ok() {
        bus.assert_clean("after a manager's life");
    }
    result
}

#[test]
fn a_disk_serves_for_many_starts_of_the_machine() {
    for srk in [None, Some(0x8100_0001), Some(0x8100_0042)] {
        for rollback in [Rollback::Periodic, Rollback::Strict, Rollback::Off] {
            let (bus, disk) = (Bus::new(), RamDisk::new(4096));
            let options = Options { srk_handle: srk.filter(|at| at & 0xff != 1), rollback, ..Options::default() };
            if let Some(at) = srk {
                install(&bus, at, ECC_SRK, b"");
            }
            for known in 0..4 {
                assert_eq!(life(&bus, &disk, &options), Ok(known), "{srk:?} {rollback:?}");
                if known % 2 == 1 {
                    bus.power_cycle();
                }
            }
        }
    }
}

#[test]
fn a_machine_started_with_something_else_is_named() {
    let (bus, disk) = (Bus::new(), RamDisk::new(4096));
    let options = Options { seal_pcrs: 1 << 16 | 1 << 14 | 1, ..Options::default() };
    assert_eq!(life(&bus, &disk, &options), Ok(0));
    assert_eq!(life(&bus, &disk, &options), Ok(1));
    extend(&bus, 16, &[1; 32]);
    extend(&bus, 14, &[1; 32]);
    extend(&bus, 15, &[1; 32]);
    let before = disk.image();
    let error = life(&bus, &disk, &options).unwrap_err();
    assert_eq!(error, StartError::Pcrs { differing: crate::pcrs("14,16"), wrong_code: false });
    assert!(error.to_string().contains("PCRs 14,16 differ"), "{error}");
    assert!(disk.image() == before);
    bus.power_cycle();
    assert_eq!(life(&bus, &disk, &options), Ok(2));
}

#[test]
fn old_copies_and_other_machines_are_refused() {
    let (bus, other, disk) = (Bus::new(), Bus::new(), RamDisk::new(4096));
    let options = Options::default();
    assert_eq!(life(&bus, &disk, &options), Ok(0));
    let old = disk.image();
    assert_eq!(life(&bus, &disk, &options), Ok(1));
    let copy = RamDisk::from_image(old.clone());
    assert!(matches!(life(&bus, &copy, &options), Err(StartError::Anchor(AnchorError::OlderCopy { .. }))));
    assert!(copy.image() == old, "a refused disk is left as it is");

    // Another chip, one with a storage root key at the usual place, and this one when it was cleared.
    let present = disk.image();
    let refused = |result: Result<usize, StartError>| {
        let shown = format!("{result:?}");
        assert!(matches!(result, Err(StartError::OtherChip(_) | StartError::Chip(ChipError::OtherRoot))), "{shown}");
        assert!(disk.image() == present);
    };
    refused(life(&other, &disk, &options));
    install(&other, 0x8100_0001, ECC_SRK, b"");
    refused(life(&other, &disk, &options));
    assert_eq!(life(&bus, &RamDisk::from_image(present.clone()), &options), Ok(2));
    bus.raw(0x126, &[0x4000_000a], &[b""], &[]).unwrap();
    refused(life(&bus, &disk, &options));
}

#[test]
fn a_counter_that_was_deleted_and_made_again_is_not_the_disks() {
    let (bus, disk) = (Bus::new(), RamDisk::new(4096));
    let options = Options::default();
    assert_eq!(life(&bus, &disk, &options), Ok(0));
    // TPM2_NV_UndefineSpace by the owner, whose secret is empty.
    let index = bus.handles(0x0180_0000)[0];
    bus.raw(0x122, &[0x4000_0001, index], &[b""], &[]).unwrap();
    let error = life(&bus, &disk, &options).unwrap_err();
    assert_eq!(error, StartError::Anchor(AnchorError::Chip(ChipError::NoCounter)));
    // One of the same kind, with an empty secret.
    let mut params = vec![0, 0, 0, 14];
    params.extend(index.to_be_bytes());
    params.extend([0, 0x0b, 0x02, 0x04, 0x00, 0x14, 0, 0, 0, 8]);
    bus.raw(0x12a, &[0x4000_0001], &[b""], &params).unwrap();
    for _ in 0..9 {
        bus.raw(0x134, &[index, index], &[b""], &[]).unwrap();
    }
    let error = life(&bus, &disk, &options).unwrap_err();
    assert_eq!(error, StartError::Anchor(AnchorError::Chip(ChipError::NoCounter)));
}

/// Trouble at every third command of a first start.
fn first_start(trouble: Trouble) {
    let mut after = 0;
    loop {
        let (bus, disk) = (Bus::new(), RamDisk::new(4096));
        let options = Options { seal_pcrs: 1 << 16, ..Options::default() };
        bus.trouble(after, trouble);
        let what = format!("{trouble:?} {after}");
        assert_eq!(life(&bus, &disk, &options), Ok(0), "{what}");
        let came = bus.is_quiet();
        bus.power_cycle();
        assert_eq!(life(&bus, &disk, &options), Ok(1), "{what}");
        if !came {
            break;
        }
        after += 3;
    }
    assert!(after > 30, "{after}");
}

#[test]
fn answers_lost_during_the_first_start_harm_nothing() {
    first_start(Trouble::AnswerLost);
}

#[test]
fn power_lost_by_the_chip_during_the_first_start_harms_nothing() {
    first_start(Trouble::Reset);
}
