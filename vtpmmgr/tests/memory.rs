//! What the state of many vTPMs takes of the heap: a domain with `memory=16` has some 13 MiB of it.

use std::rc::Rc;
use tpm_crypto::Drbg;
use vault::fake::{RamDisk, block_on};
use vault::{Journal, Kind, Over, Owner, VaultError, VaultKey};
use vtpmmgr::anchor::MonotonicCounter;
use vtpmmgr::hardware::ChipError;
use vtpmmgr::state::{Change, Group, State, StoredRecord, Vtpm};
use vtpmmgr::store::Store;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const KIB: usize = 1024;
const OWNER: Owner = Owner { kind: Kind::Manager, uuid: [1; 16] };

/// No counter: the state is tied to nothing here.
struct NoCounter;

impl MonotonicCounter for NoCounter {
    async fn read(&self) -> Result<u64, ChipError> {
        Err(ChipError::NoCounter)
    }
    async fn increment(&self) -> Result<u64, ChipError> {
        Err(ChipError::NoCounter)
    }
}

fn rng() -> Drbg {
    Drbg::new(&[1; 48], b"memory").unwrap()
}

/// A disk with so many vTPMs.
fn made(vtpms: u32) -> RamDisk {
    let disk = RamDisk::new(8192);
    let mut state = State::default();
    let group = Group::new(&mut rng());
    let uuid = group.uuid;
    state.apply(Change::PutGroup(Box::new(group))).unwrap();
    for n in 0..vtpms {
        let vtpm = Vtpm { group: uuid, flags: 0, record: StoredRecord::plain(&[7; 64]) };
        state.apply(Change::PutVtpm { uuid: u128::from(n).to_be_bytes(), vtpm }).unwrap();
    }
    let key = VaultKey::from_bytes(&[2; 32]);
    block_on(Journal::create(disk.clone(), OWNER, &key, b"", state.parts(), Over::Blank, &mut rng())).unwrap();
    disk
}

/// The most that was in use at any moment since `_profiler` was made, and what is now.
fn used(_profiler: &dhat::Profiler) -> (usize, usize) {
    let stats = dhat::HeapStats::get();
    (stats.max_bytes, stats.curr_bytes)
}

#[test]
fn a_thousand_vtpms_and_more_fit_a_small_domain() {
    for (vtpms, resident_limit, peak_limit) in [(1000, 320 * KIB, 640 * KIB), (4000, 1200 * KIB, 1500 * KIB)] {
        let disk = made(vtpms);
        // The disk itself was there before, and is not counted.
        let profiler = dhat::Profiler::builder().testing().build();
        let mut state = State::default();
        let key = VaultKey::from_bytes(&[2; 32]);
        let replay = |part: &[u8]| state.replay(part).map_err(|_| VaultError::Blank);
        let journal = block_on(Journal::open(disk, OWNER, &key, replay)).unwrap();
        let mut store: Store<_, Rc<NoCounter>> = Store::new(journal, state, rng());
        let (opening, resident) = used(&profiler);
        let group = store.state().groups()[0].uuid;
        let vtpm = Vtpm { group, flags: 0, record: StoredRecord::plain(&[8; 64]) };
        block_on(store.apply(Change::PutVtpm { uuid: [0; 16], vtpm })).unwrap();
        block_on(store.relabel(&[1; 8000])).unwrap();
        let (peak, _) = used(&profiler);
        println!("{vtpms} vTPMs: {resident} bytes in memory, {opening} while opening, {peak} with a checkpoint");
        assert!(resident < resident_limit, "{vtpms} vTPMs: {resident} bytes");
        assert!(peak < peak_limit && opening < peak_limit, "{vtpms} vTPMs: {opening} and {peak} bytes");
        // A checkpoint is written part by part: what it needs does not depend on the number of vTPMs.
        assert!(peak.max(opening) - resident < 300 * KIB, "{vtpms} vTPMs: {} bytes", peak - resident);
    }
}
