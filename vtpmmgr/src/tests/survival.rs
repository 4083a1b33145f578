//! Power cuts and disk errors at every write and flush of the manager's disk.

use super::*;
use vault::fake::{Fate, FlakyDisk, RamDisk};

fn fates(seed: u64) -> [Fate; 5] {
    [Fate::Lost, Fate::Kept, Fate::Seeded(seed), Fate::Torn(seed), Fate::Subset(0x5555_5555_5555_5555)]
}

const LINES: [&str; 3] = ["", "rollback=strict", "rollback=off"];

#[test]
fn a_power_cut_at_any_point_of_the_first_start_is_made_good_by_the_next() {
    for line in LINES {
        let whole = {
            let (chip, disk) = (FakeChip::new(1, 0), FlakyDisk::new(256));
            manage(line, disk.clone(), &chip, |mut m| {
                m.settle();
                m.stop();
            });
            disk.operations()
        };
        assert!(whole >= 8);
        for cut in 0..whole {
            for fate in fates(cut) {
                let (chip, disk) = (FakeChip::new(1, 0), FlakyDisk::new(256));
                disk.cut_at(cut);
                manage(line, disk.clone(), &chip, |mut m| {
                    m.settle();
                    m.stop();
                });
                assert!(disk.is_cut());
                chip.power_cycle();
                manage(line, disk.restarted(fate), &chip, |mut m| {
                    m.attach(front(1, 1), uuid(1));
                    let answer = m.try_ask(front(1, 1), &save(&[1; 64]));
                    assert_eq!(answer, Some((0, Vec::new())), "{line} cut at {cut}, {fate:?}: {}", console());
                    m.stop();
                });
            }
        }
    }
}

/// Three vTPMs save in turn until the disk is gone; what was acknowledged, and what was being asked for.
fn save_in_turn(m: &mut Running<'_>) -> ([Option<u8>; 3], Option<(usize, u8)>) {
    let mut acknowledged = [None; 3];
    (0..3).for_each(|n| m.attach(front(n, 1), uuid(n as u8)));
    for n in 0..6 {
        let who = usize::from(n % 3);
        if m.try_ask(front(who as u16, 1), &save(&[n; 64])).is_none_or(|(code, _)| code != 0) {
            return (acknowledged, Some((who, n)));
        }
        acknowledged[who] = Some(n);
    }
    (acknowledged, None)
}

#[test]
fn a_power_cut_never_loses_an_acknowledged_record() {
    for line in LINES {
        let (chip, disk) = (FakeChip::new(1, 0), FlakyDisk::new(256));
        manage(line, disk.clone(), &chip, |mut m| {
            m.settle();
            m.stop();
        });
        let mut image = disk.image_after(Fate::Kept);
        let whole = {
            let disk = FlakyDisk::from_image(image.clone());
            manage(line, disk.clone(), &chip, |mut m| {
                save_in_turn(&mut m);
                m.stop();
            });
            image = disk.image_after(Fate::Kept);
            disk.operations()
        };
        assert!(whole >= 12);
        for cut in 0..whole {
            for fate in fates(cut) {
                // The chip's counter has moved since, and the disk goes with it.
                let disk = FlakyDisk::from_image(image.clone());
                disk.cut_at(cut);
                let before = [3, 4, 5];
                let (acknowledged, under_way) = manage(line, disk.clone(), &chip, |mut m| {
                    let told = save_in_turn(&mut m);
                    m.stop();
                    told
                });
                assert!(disk.is_cut());
                chip.power_cycle();
                let disk = disk.restarted(fate);
                manage(line, disk.clone(), &chip, |mut m| {
                    for who in 0..3 {
                        m.attach(front(who as u16, 2), uuid(who as u8));
                        let found = m.ask(front(who as u16, 2), &load());
                        let kept = (0, [acknowledged[who].unwrap_or(before[who]); 64].to_vec());
                        let new = under_way.map(|(_, n)| (0, [n; 64].to_vec()));
                        let is_new = under_way.is_some_and(|(last, _)| last == who) && Some(&found) == new.as_ref();
                        assert!(found == kept || is_new, "{line} cut at {cut}, {fate:?}, vTPM {who}");
                        // As it was, for the next cut.
                        assert_eq!(m.ask(front(who as u16, 2), &save(&[before[who]; 64])).0, 0);
                    }
                    m.stop();
                });
                image = disk.image_after(Fate::Lost);
            }
        }
    }
}

#[test]
fn a_disk_error_fails_that_request_and_what_is_told_afterwards_is_what_a_restart_shows() {
    let chip = FakeChip::new(1, 0);
    let disk = FlakyDisk::new(256);
    manage("rollback=off", disk.clone(), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        m.stop();
    });
    let made = disk.image_after(Fate::Kept);
    for operation in 0..4 {
        let disk = FlakyDisk::from_image(made.clone());
        disk.fail_at(operation, DiskError::Io);
        let told = manage("rollback=off", disk.clone(), &chip, |mut m| {
            m.attach(front(1, 1), uuid(1));
            m.attach(front(2, 1), uuid(2));
            let codes = [m.ask(front(1, 1), &save(&[2; 64])).0, m.ask(front(2, 1), &save(&[3; 64])).0];
            let failed = usize::try_from(operation / 2).unwrap();
            assert_eq!(codes, core::array::from_fn(|i| if i == failed { 9 } else { 0 }));
            let told = [m.ask(front(1, 1), &load()), m.ask(front(2, 1), &load())];
            m.stop();
            told
        });
        assert_eq!(told[0].1, if operation < 2 { [1; 64] } else { [2; 64] });
        assert_eq!(told[1].0, if operation < 2 { 0 } else { 3 });
        for fate in fates(operation) {
            manage("rollback=off", disk.restarted(fate), &chip, |mut m| {
                m.attach(front(1, 1), uuid(1));
                m.attach(front(2, 1), uuid(2));
                assert_eq!([m.ask(front(1, 1), &load()), m.ask(front(2, 1), &load())], told);
                m.stop();
            });
        }
    }
}

#[test]
fn a_disk_too_small_for_another_record_refuses_the_newcomer_only() {
    // The smallest disk: areas of 28 KiB.
    let (chip, disk) = (FakeChip::new(1, 0), FlakyDisk::new(128));
    manage("", disk, &chip, |mut m| {
        let mut saved = 0u16;
        let refused = loop {
            m.attach(front(saved, 1), (u128::from(saved) << 8).to_be_bytes());
            match m.ask(front(saved, 1), &save(&[5; 64])).0 {
                0 => saved += 1,
                code => break code,
            }
        };
        assert!(refused == 21 && saved > 120, "{refused} after {saved}");
        assert_eq!(m.ask(front(0, 1), &save(&[6; 64])).0, 0, "those who have a record go on");
        m.stop();
    });
}

/// A disk that does what it is told and reports an error all the same, so many times.
struct Doubtful(RamDisk, Rc<Cell<u32>>);

impl BlockDevice for Doubtful {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }
    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.0.read(sector, out).await
    }
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        self.0.write(sector, data).await
    }
    async fn flush(&self) -> Result<(), DiskError> {
        match self.1.get() {
            0 => Ok(()),
            more => {
                self.1.set(more - 1);
                Err(DiskError::Io)
            }
        }
    }
}

#[test]
fn a_write_that_failed_and_yet_reached_the_disk_does_not_come_back_at_a_restart() {
    let (chip, disk, errors) = (FakeChip::new(1, 0), RamDisk::new(256), Rc::new(Cell::new(0)));
    manage("rollback=off", Doubtful(disk.clone(), errors.clone()), &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &save(&[1; 64])).0, 0);
        errors.set(3);
        assert_eq!(m.ask(front(1, 1), &save(&[2; 64])).0, 9);
        assert_eq!(m.ask(front(1, 1), &load()).0, 9, "not told before it is certain");
        assert_eq!(m.ask(front(1, 1), &save(&[3; 64])).0, 9);
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
    manage("rollback=off", disk, &chip, |mut m| {
        m.attach(front(1, 1), uuid(1));
        assert_eq!(m.ask(front(1, 1), &load()), (0, [1; 64].to_vec()));
        m.stop();
    });
}
