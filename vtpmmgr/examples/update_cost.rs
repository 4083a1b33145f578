//! What it costs the manager to keep one vTPM's new key, as a table: `cargo run -p vtpmmgr --release --example update_cost`.
//!
//! Counted at the disk: writes, bytes and flushes of one update, and of 2,000 on average, in which the checkpoints that make room
//! are included.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant as Wall;
use tpm_crypto::Drbg;
use vault::fake::{RamDisk, block_on};
use vault::{Journal, Kind, Over, Owner, VaultKey};
use vtpmmgr::anchor::MonotonicCounter;
use vtpmmgr::args::Rollback;
use vtpmmgr::hardware::{ChipError, Counter};
use vtpmmgr::state::{Change, Group, State, StoredRecord, Vtpm};
use vtpmmgr::store::Store;
use xen_abi::{BlockDevice, DiskError, Instant};

/// Updates that the average is taken of.
const UPDATES: u32 = 2000;

/// A disk that counts writes, bytes written and flushes.
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

/// A counter that counts.
#[derive(Default)]
struct Steps(RefCell<u64>);

impl MonotonicCounter for Steps {
    async fn read(&self) -> Result<u64, ChipError> {
        Ok(*self.0.borrow())
    }
    async fn increment(&self) -> Result<u64, ChipError> {
        *self.0.borrow_mut() += 1;
        self.read().await
    }
}

fn main() {
    println!("disk   rollback  vTPMs  state KiB |     one update      |   average of {UPDATES}         | microseconds");
    println!("                                  | writes bytes flushes | writes  bytes  flushes steps |");
    for mib in [2, 16, 32] {
        for mode in [Rollback::Periodic, Rollback::Strict] {
            for vtpms in [10, 100, 1000, 4000] {
                row(mib, mode, vtpms);
            }
        }
    }
}

fn row(mib: usize, mode: Rollback, vtpms: u32) {
    let mut rng = Drbg::new(&[1; 48], b"update cost").expect("48 bytes are enough");
    let counts = Rc::new(RefCell::new([0; 3]));
    let disk = Counting(RamDisk::new(mib * 2048), counts.clone());
    let mut state = State::default();
    let group = Group::new(&mut rng);
    let uuid = group.uuid;
    state.apply(Change::PutGroup(Box::new(group))).expect("a first group");
    let owner = Owner { kind: Kind::Manager, uuid };
    let key = VaultKey::random(&mut rng);
    let journal = block_on(Journal::create(disk, owner, &key, b"", state.parts(), Over::Blank, &mut rng));
    let counter = Rc::new(Steps::default());
    let mut store = Store::new(journal.expect("a blank disk"), state, rng);
    let which = Counter::parse(&[0x20, 1]).expect("a counter's name");
    block_on(store.tie(&which, counter.clone(), mode, Instant::from_millis(0))).expect("a new counter");

    let mut save = |n: u32, fill: u8| {
        let vtpm = Vtpm { group: uuid, flags: 0, record: StoredRecord::plain(&[fill; 64]) };
        let change = Change::PutVtpm { uuid: u128::from(n).to_be_bytes(), vtpm };
        block_on(store.apply(change)).expect("there is room");
        store.state().size()
    };
    for n in 0..vtpms {
        save(n, 1);
    }
    *counts.borrow_mut() = [0; 3];
    save(0, 2);
    let one = *counts.borrow();
    *counts.borrow_mut() = [0; 3];
    let (steps, began) = (*counter.0.borrow(), Wall::now());
    let mut size = 0;
    for n in 0..UPDATES {
        size = save(n % vtpms, 3);
    }
    let micros = began.elapsed().as_secs_f64() * 1e6 / f64::from(UPDATES);
    let all = counts.borrow().map(|all| all as f64 / f64::from(UPDATES));
    let steps = (*counter.0.borrow() - steps) as f64 / f64::from(UPDATES);
    println!(
        "{mib:2} MiB {mode:>9} {vtpms:6} {:10.1} | {:6} {:5} {:7} | {:6.3} {:6.0} {:8.3} {steps:5.2} | {micros:12.1}",
        size as f64 / 1024.0,
        one[0],
        one[1],
        one[2],
        all[0],
        all[1],
        all[2],
        mode = format!("{mode:?}").to_lowercase(),
    );
}
