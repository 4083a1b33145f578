//! Many vTPMs: what belongs to whom, and what a change costs.

use super::*;
use vault::fake::Dice;

/// What a random life of many vTPMs comes to is the same in memory, on the disk and in a plain table; no record of one ever
/// shows up with another.
#[test]
fn a_record_saved_for_one_vtpm_is_never_given_to_another() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let (disk, counter) = (RamDisk::new(1024), FakeCounter::at(1));
        let (mut store, first) = make(disk.clone());
        let mode = MODES[dice.roll(3)];
        block_on(store.tie(&which(), counter.clone(), mode, now())).unwrap();
        let second = Group::new(&mut rng(50));
        let group_key = [0x77; 32];
        let groups = [first, second.uuid];
        block_on(store.apply(Change::PutGroup(Box::new(second)))).unwrap();
        let mut table: alloc::collections::BTreeMap<u32, (usize, Vec<u8>)> = Default::default();
        let mut random = rng(seed as u8);
        for _ in 0..600 {
            let n = dice.roll(40) as u32;
            match dice.roll(20) {
                0 => {
                    let known = table.remove(&n).is_some();
                    let outcome = block_on(store.apply(Change::DeleteVtpm(uuid(n))));
                    assert_eq!(outcome.is_ok(), known);
                }
                1 => {
                    store = open(disk.clone()).unwrap();
                    block_on(store.tie(&which(), counter.clone(), mode, now())).unwrap();
                }
                2 => block_on(store.relabel(&[0; 30])).unwrap(),
                _ => {
                    // Every record names its vTPM and is never the same twice.
                    let mut record = n.to_be_bytes().to_vec();
                    record.extend_from_slice(&random.bytes::<60>()[..48 + dice.roll(13)]);
                    let which = dice.roll(2);
                    let stored = match which {
                        0 => StoredRecord::plain(&record),
                        _ => StoredRecord::sealed(&record, &uuid(n), &groups[1], &group_key, &mut random),
                    };
                    let vtpm = Vtpm { group: groups[which], flags: 0, record: stored };
                    block_on(store.apply(Change::PutVtpm { uuid: uuid(n), vtpm })).unwrap();
                    table.insert(n, (which, record));
                }
            }
            let n = dice.roll(40) as u32;
            let state = block_on(store.settled()).unwrap();
            let found = state.vtpm(&uuid(n)).map(|vtpm| {
                let open =
                    |uuid: &Uuid, group: &Uuid| vtpm.record.as_ref().unwrap().open(uuid, group, Some(&group_key));
                // An encrypted record moved to another vTPM or group does not open there.
                if vtpm.group == groups[1] {
                    assert!(open(&uuid(n + 1), &vtpm.group).is_err() && open(&uuid(n), &groups[0]).is_err());
                }
                open(&uuid(n), &vtpm.group).unwrap().to_vec()
            });
            assert_eq!(found.as_ref(), table.get(&n).map(|(_, record)| record));
        }
        assert_eq!(store.state().count(), table.len());
    }
}

/// Counts what is written.
struct Counting(RamDisk, Rc<RefCell<[u64; 3]>>);

impl BlockDevice for Counting {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }
    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.0.read(sector, out).await
    }
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let [writes, bytes, flushes] = *self.1.borrow();
        *self.1.borrow_mut() = [writes + 1, bytes + data.len() as u64, flushes];
        self.0.write(sector, data).await
    }
    async fn flush(&self) -> Result<(), DiskError> {
        self.1.borrow_mut()[2] += 1;
        Ok(())
    }
}

/// Requests, bytes and flushes of one update, and of 2,000 on average, with so many vTPMs on a disk of so many MiB.
fn cost(vtpms: u32, mib: usize) -> ([u64; 3], [f64; 3]) {
    let counts = Rc::new(RefCell::new([0; 3]));
    let (mut store, group) = make(Counting(RamDisk::new(mib * 2048), counts.clone()));
    for n in 0..vtpms {
        block_on(store.apply(put(group, n, 1))).unwrap();
    }
    block_on(store.relabel(b"label")).unwrap();
    *counts.borrow_mut() = [0; 3];
    block_on(store.apply(put(group, 0, 2))).unwrap();
    let one = *counts.borrow();
    *counts.borrow_mut() = [0; 3];
    for n in 0..2000 {
        block_on(store.apply(put(group, n % vtpms, 3))).unwrap();
    }
    (one, counts.borrow().map(|all| all as f64 / 2000.0))
}

#[test]
fn the_cost_of_a_key_update_does_not_grow_with_the_number_of_vtpms() {
    for vtpms in [10, 100, 1000, 4000] {
        let (one, average) = cost(vtpms, 16);
        assert_eq!(one, [1, 512, 1], "one sector, one flush");
        // With the checkpoints that make room: an area of 16 MiB lets a thousand entries and more pass before each.
        assert!(average[0] < 1.1 && average[1] < 1024.0 && average[2] < 1.1, "{vtpms}: {average:?}");
    }
    // The disk of 2 MiB that the documentation advises.
    let (one, average) = cost(1000, 2);
    assert!(one == [1, 512, 1] && average[1] < 1536.0, "{average:?}");
}
