//! Power cuts and errors at every write, flush and counter step, in every mode; old copies.

extern crate std;

mod many;

use super::*;
use crate::hardware::ChipError;
use crate::state::{Group, StoredRecord, Uuid, Vtpm};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::{Cell, RefCell};
use tpm_wire::TransportError;
use vault::fake::{Fate, FlakyDisk, RamDisk, block_on};
use vault::{Kind, Over, Owner};
use xen_abi::DiskError;

const OWNER: Owner = Owner { kind: Kind::Manager, uuid: [9; 16] };
const MODES: [Rollback; 3] = [Rollback::Off, Rollback::Periodic, Rollback::Strict];

/// How a step of the counter goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// The chip does not do it.
    Refused,
    /// The chip does it, and the answer is lost.
    AnswerLost,
}

/// A counter, and what the next steps run into: (how many go well first, how many do not, how).
#[derive(Default)]
struct FakeCounter {
    value: Cell<u64>,
    trouble: Cell<Option<(u32, u32, Trouble)>>,
    steps: Cell<u32>,
}

impl FakeCounter {
    fn at(value: u64) -> Rc<Self> {
        Rc::new(Self { value: Cell::new(value), ..Self::default() })
    }

    /// The trouble of this command, if its time has come.
    fn meet(&self) -> Option<Trouble> {
        let (well, bad, trouble) = self.trouble.get()?;
        self.trouble.set(match (well, bad) {
            (0, 1) => None,
            (0, _) => Some((0, bad - 1, trouble)),
            _ => Some((well - 1, bad, trouble)),
        });
        (well == 0).then_some(trouble)
    }
}

impl MonotonicCounter for FakeCounter {
    async fn read(&self) -> Result<u64, ChipError> {
        match self.trouble.get() {
            Some((0, ..)) => {
                self.meet();
                Err(ChipError::Transport(TransportError::TimedOut))
            }
            _ => Ok(self.value.get()),
        }
    }

    async fn increment(&self) -> Result<u64, ChipError> {
        let trouble = self.meet();
        if trouble != Some(Trouble::Refused) {
            self.value.set(self.value.get() + 1);
            self.steps.set(self.steps.get() + 1);
        }
        match trouble {
            None => Ok(self.value.get()),
            Some(_) => Err(ChipError::Transport(TransportError::TimedOut)),
        }
    }
}

fn which() -> Counter {
    Counter::parse(&[0x20, 1, 2, 3]).unwrap()
}

fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"store tests").unwrap()
}

fn key() -> VaultKey {
    VaultKey::from_bytes(&[7; 32])
}

fn uuid(n: u32) -> Uuid {
    u128::from(n).to_be_bytes()
}

fn now() -> Instant {
    Instant::from_millis(1000)
}

type TestStore<B> = Store<B, Rc<FakeCounter>>;

/// A manager's disk with a first group and nothing else.
fn make<B: BlockDevice>(disk: B) -> (TestStore<B>, Uuid) {
    let mut state = State::default();
    let group = Group::new(&mut rng(1));
    let uuid = group.uuid;
    state.apply(Change::PutGroup(Box::new(group))).unwrap();
    let journal =
        block_on(Journal::create(disk, OWNER, &key(), b"label", state.parts(), Over::Blank, &mut rng(2))).unwrap();
    (Store::new(journal, state, rng(3)), uuid)
}

fn open<B: BlockDevice>(disk: B) -> Result<TestStore<B>, VaultError> {
    std::thread_local!(static STARTS: Cell<u8> = const { Cell::new(0) });
    let starts = STARTS.replace(STARTS.get().wrapping_add(1));
    let mut state = State::default();
    let replayed = |part: &[u8]| state.replay(part).map_err(|_| VaultError::Damaged { what: "content" });
    let journal = block_on(Journal::open(disk, OWNER, &key(), replayed))?;
    Ok(Store::new(journal, state, rng(starts)))
}

fn put(group: Uuid, n: u32, fill: u8) -> Change {
    let record = StoredRecord::plain(&[fill; 64]);
    Change::PutVtpm { uuid: uuid(n), vtpm: Vtpm { group, flags: n, record } }
}

fn record(state: &State, n: u32) -> Option<u8> {
    let vtpm = state.vtpm(&uuid(n))?;
    let bytes = vtpm.record.as_ref()?.open(&uuid(n), &vtpm.group, None).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]) && vtpm.flags == n);
    Some(bytes[0])
}

fn records(state: &State) -> Vec<Option<u8>> {
    (0..3).map(|n| record(state, n)).collect()
}

/// What was told to the vTPMs, and what is being asked for.
struct Story {
    told: Vec<Option<u8>>,
    asked: Vec<(u32, u8)>,
}

/// A manager's life: it opens the disk, ties it, saves records in turn with a step of the period now and then, and stops; until
/// something fails for good. A failure of one request is like the vTPM's: it goes on with what it had.
fn live<B: BlockDevice>(
    disk: B,
    counter: &Rc<FakeCounter>,
    mode: Rollback,
    story: &mut Story,
) -> Result<(), StoreError> {
    let mut store = open(disk)?;
    block_on(store.tie(&which(), counter.clone(), mode, now()))?;
    assert_eq!(records(store.state()), story.told);
    let group = store.state().groups()[0].uuid;
    for n in 1..=8u8 {
        let vtpm = u32::from(n % 3);
        story.asked.push((vtpm, n));
        let saved = block_on(store.apply(put(group, vtpm, n)));
        if saved == Err(StoreError::Vault(VaultError::Disk(DiskError::Gone))) {
            return saved;
        }
        if saved.is_ok() {
            story.told[vtpm as usize] = Some(n);
            story.asked.clear();
        }
        if n % 3 == 0 {
            let due = now() + PERIOD * u32::from(n);
            if let Some(step) = block_on(store.begin_step(due))? {
                store.finish_step(block_on(step.run()));
            }
            // Another label now and then, and so another checkpoint.
            block_on(store.relabel(&[n; 100]))?;
        }
        if let Ok(state) = block_on(store.settled()) {
            assert_eq!(records(state), story.told, "what is told is what was acknowledged");
            story.asked.clear();
        }
    }
    block_on(store.stop(now()))
}

/// The disk and the counter as a manager left them that was made and stopped.
fn made(mode: Rollback) -> (Vec<u8>, u64) {
    let (disk, counter) = (RamDisk::new(256), FakeCounter::at(40));
    let (mut store, _) = make(disk.clone());
    block_on(store.tie(&which(), counter.clone(), mode, now())).unwrap();
    block_on(store.stop(now())).unwrap();
    (disk.image(), counter.value.get())
}

fn fates(seed: u64) -> [Fate; 6] {
    let subset = Fate::Subset(0x5555_5555_5555_5555);
    [Fate::Lost, Fate::Kept, subset, Fate::Seeded(seed), Fate::Torn(seed), Fate::Torn(seed + 1000)]
}

/// After a power cut the disk opens, is not refused by the counter, and shows what was told or what was being asked for.
fn check_after(image: Vec<u8>, counter: &Rc<FakeCounter>, mode: Rollback, story: &Story, context: &str) {
    counter.trouble.set(None);
    let mut store = open(RamDisk::from_image(image)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let tied = block_on(store.tie(&which(), counter.clone(), mode, now()));
    tied.unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = records(store.state());
    let mut possible = story.asked.iter().map(|(vtpm, n)| {
        let mut other = story.told.clone();
        other[*vtpm as usize] = Some(*n);
        other
    });
    assert!(found == story.told || possible.any(|other| found == other), "{context}: {found:?}, told {:?}", story.told);
    let value = store.state().anchor().map(|anchor| anchor.value);
    assert_eq!(value, (mode != Rollback::Off).then(|| counter.value.get()), "{context}");
}

#[test]
fn power_cut_at_every_write_flush_and_step() {
    for mode in MODES {
        let (start, value) = made(mode);
        let none = || Story { told: vec![None; 3], asked: vec![] };
        let (trial, counter) = (FlakyDisk::from_image(start.clone()), FakeCounter::at(value));
        live(trial.clone(), &counter, mode, &mut none()).unwrap();
        let (operations, steps) = (trial.operations(), counter.steps.get());
        assert!(operations >= 16, "{operations}");
        match mode {
            Rollback::Off => assert_eq!(steps, 0),
            Rollback::Periodic => assert_eq!(steps, 4, "start, twice the period, stop"),
            Rollback::Strict => assert_eq!(steps, 10, "start, eight changes, stop"),
        }
        // Between a write or flush and the next there is at most one step, so that this is every interleaving: power fails
        // after the step or before it.
        for cut in 0..operations {
            for fate in fates(cut) {
                let (disk, counter) = (FlakyDisk::from_image(start.clone()), FakeCounter::at(value));
                disk.cut_at(cut);
                let mut story = none();
                let _ = live(disk.clone(), &counter, mode, &mut story);
                check_after(
                    disk.image_after(fate),
                    &counter,
                    mode,
                    &story,
                    &alloc::format!("{mode:?}, cut at {cut}, {fate:?}"),
                );
            }
        }
        for step in 0..steps {
            for trouble in [Trouble::Refused, Trouble::AnswerLost] {
                let (disk, counter) = (FlakyDisk::from_image(start.clone()), FakeCounter::at(value));
                // The chip is dead from this step on; the first step may have been made. Then power fails.
                counter.trouble.set(Some((step, 1000, trouble)));
                let dead = Rc::new(DyingCounter { counter: counter.clone(), dead: Cell::new(false) });
                let mut story = none();
                let context = alloc::format!("{mode:?}, chip dead at step {step}, {trouble:?}");
                live_until_dead(disk.clone(), &dead, mode, &mut story);
                for fate in fates(u64::from(step)) {
                    let again = FakeCounter::at(counter.value.get());
                    check_after(disk.image_after(fate), &again, mode, &story, &context);
                }
            }
        }
    }
}

/// A counter whose first failure is its last answer.
struct DyingCounter {
    counter: Rc<FakeCounter>,
    dead: Cell<bool>,
}

impl MonotonicCounter for DyingCounter {
    async fn read(&self) -> Result<u64, ChipError> {
        if self.dead.get() { Err(ChipError::Transport(TransportError::Gone)) } else { Ok(self.counter.value.get()) }
    }

    async fn increment(&self) -> Result<u64, ChipError> {
        if self.dead.get() {
            return Err(ChipError::Transport(TransportError::Gone));
        }
        let outcome = self.counter.increment().await;
        self.dead.set(outcome.is_err());
        outcome
    }
}

/// As [`live`], for a chip that dies: with `rollback=periodic` saves go on, with `rollback=strict` they fail.
fn live_until_dead(disk: FlakyDisk, counter: &Rc<DyingCounter>, mode: Rollback, story: &mut Story) {
    let mut store: Store<_, Rc<DyingCounter>> = {
        let mut state = State::default();
        let journal = block_on(Journal::open(disk, OWNER, &key(), |part: &[u8]| {
            state.replay(part).map_err(|_| VaultError::Blank)
        }));
        Store::new(journal.unwrap(), state, rng(4))
    };
    let tied = block_on(store.tie(&which(), counter.clone(), mode, now()));
    match (mode, counter.dead.get()) {
        (Rollback::Strict, true) => return assert!(tied.is_err()),
        _ => tied.unwrap(),
    }
    let group = store.state().groups()[0].uuid;
    for n in 1..=8u8 {
        let vtpm = u32::from(n % 3);
        let was_dead = counter.dead.get();
        let saved = block_on(store.apply(put(group, vtpm, n)));
        match (mode, counter.dead.get()) {
            (Rollback::Strict, true) => {
                assert!(matches!(saved, Err(StoreError::Anchor(AnchorError::Chip(_)))), "{saved:?}");
                // Of two that fail, only the first can be found after a restart.
                if !was_dead {
                    story.asked.push((vtpm, n));
                }
                assert!(block_on(store.settled()).is_err(), "not told before it is certain");
            }
            _ => {
                saved.unwrap();
                story.told[vtpm as usize] = Some(n);
                assert_eq!(records(block_on(store.settled()).unwrap()), story.told);
            }
        }
        if n % 3 == 0
            && let Ok(Some(step)) = block_on(store.begin_step(now() + PERIOD * u32::from(n)))
        {
            store.finish_step(block_on(step.run()));
        }
    }
    assert_eq!(block_on(store.stop(now())).is_err(), counter.dead.get());
}

#[test]
fn a_step_that_fails_for_a_while_is_made_up_for() {
    for mode in [Rollback::Periodic, Rollback::Strict] {
        let (start, value) = made(mode);
        for well in 1..10 {
            for bad in 1..4 {
                for trouble in [Trouble::Refused, Trouble::AnswerLost] {
                    let (disk, counter) = (RamDisk::from_image(start.clone()), FakeCounter::at(value));
                    counter.trouble.set(Some((well, bad, trouble)));
                    let mut story = Story { told: vec![None; 3], asked: vec![] };
                    let context = alloc::format!("{mode:?}, {well} go well and {bad} do not, {trouble:?}");
                    let _ = live(disk.clone(), &counter, mode, &mut story);
                    check_after(disk.image(), &counter, mode, &story, &context);
                }
            }
        }
    }
}

#[test]
fn with_strict_a_failed_change_is_taken_back_once_the_chip_answers() {
    for trouble in [Trouble::Refused, Trouble::AnswerLost] {
        let (start, value) = made(Rollback::Strict);
        let (disk, counter) = (RamDisk::from_image(start), FakeCounter::at(value));
        let mut store = open(disk.clone()).unwrap();
        block_on(store.tie(&which(), counter.clone(), Rollback::Strict, now())).unwrap();
        let group = store.state().groups()[0].uuid;
        block_on(store.apply(put(group, 1, 1))).unwrap();
        counter.trouble.set(Some((0, 1, trouble)));
        assert!(block_on(store.apply(put(group, 1, 2))).is_err());
        assert!(block_on(store.apply_all(vec![put(group, 2, 3), Change::DeleteVtpm(uuid(1))])).is_ok());
        assert_eq!(records(store.state()), [None, None, Some(3)]);
        counter.trouble.set(Some((0, 1, trouble)));
        assert!(block_on(store.apply(Change::DeleteVtpm(uuid(2)))).is_err());
        assert_eq!(records(block_on(store.settled()).unwrap()), [None, None, Some(3)], "it is back");
        let mut again = open(disk).unwrap();
        block_on(again.tie(&which(), counter, Rollback::Strict, now())).unwrap();
        assert_eq!(records(again.state()), [None, None, Some(3)]);
    }
}

/// Reports an error at one write or flush, having done nothing or all of it.
struct Doubtful {
    disk: RamDisk,
    done: bool,
    at: Cell<u32>,
}

impl Doubtful {
    fn count(&self) -> bool {
        let left = self.at.get();
        self.at.set(left.wrapping_sub(1));
        left == 0
    }
}

impl BlockDevice for &Doubtful {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }
    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(sector, out).await
    }
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let fails = self.count();
        if !fails || self.done {
            self.disk.write(sector, data).await?;
        }
        if fails { Err(DiskError::Io) } else { Ok(()) }
    }
    async fn flush(&self) -> Result<(), DiskError> {
        if self.count() { Err(DiskError::Io) } else { Ok(()) }
    }
}

#[test]
fn a_disk_error_fails_that_request_and_what_is_told_is_what_a_restart_shows() {
    for mode in MODES {
        let (start, value) = made(mode);
        let mut failures = 0;
        for done in [false, true] {
            for at in 0..40 {
                let disk = Doubtful { disk: RamDisk::from_image(start.clone()), done, at: Cell::new(at) };
                let counter = FakeCounter::at(value);
                let mut story = Story { told: vec![None; 3], asked: vec![] };
                let outcome = live(&disk, &counter, mode, &mut story);
                failures += u32::from(disk.at.get() > 1000);
                if let Err(error) = outcome {
                    assert_eq!(error, StoreError::Vault(VaultError::Disk(DiskError::Io)));
                }
                let context = alloc::format!("{mode:?}, error at {at}, {done}");
                check_after(disk.disk.image(), &counter, mode, &story, &context);
            }
        }
        assert!(failures > 40);
    }
}

#[test]
fn older_copies_are_refused() {
    for mode in [Rollback::Periodic, Rollback::Strict] {
        let (start, value) = made(mode);
        let (disk, counter) = (RamDisk::from_image(start.clone()), FakeCounter::at(value));
        // Each copy, and whether it is an older one from the moment on when the next change was acknowledged.
        let mut copies = vec![start];
        let mut store = open(disk.clone()).unwrap();
        block_on(store.tie(&which(), counter.clone(), mode, now())).unwrap();
        let group = store.state().groups()[0].uuid;
        let refused = |image: &Vec<u8>| {
            let mut store = open(RamDisk::from_image(image.clone())).unwrap();
            let counter = FakeCounter::at(counter.value.get());
            let tied = block_on(store.tie(&which(), counter, mode, now()));
            matches!(tied, Err(StoreError::Anchor(AnchorError::OlderCopy { .. })))
        };
        for n in 1..20u8 {
            copies.push(disk.image());
            block_on(store.apply(put(group, 1, n))).unwrap();
            let due = now() + PERIOD * u32::from(n);
            if let Some(step) = block_on(store.begin_step(due)).unwrap() {
                store.finish_step(block_on(step.run()));
            }
            assert!(copies.iter().all(&refused), "{mode:?}, {n}");
            assert!(!refused(&disk.image()), "{mode:?}, {n}: the current disk opens");
        }
        copies.push(disk.image());
        block_on(store.stop(now())).unwrap();
        assert!(copies.iter().all(&refused), "{mode:?}: copies of a running manager's disk, after its stop");
        assert!(!refused(&disk.image()));
    }
    // With rollback=strict at once, before any period has passed.
    let (start, value) = made(Rollback::Strict);
    let (disk, counter) = (RamDisk::from_image(start), FakeCounter::at(value));
    let mut store = open(disk.clone()).unwrap();
    block_on(store.tie(&which(), counter.clone(), Rollback::Strict, now())).unwrap();
    let group = store.state().groups()[0].uuid;
    for n in 1..5 {
        let copy = disk.image();
        block_on(store.apply(put(group, 1, n))).unwrap();
        let mut old = open(RamDisk::from_image(copy)).unwrap();
        let tied = block_on(old.tie(&which(), FakeCounter::at(counter.value.get()), Rollback::Strict, now()));
        assert!(matches!(tied, Err(StoreError::Anchor(AnchorError::OlderCopy { .. }))), "{tied:?}");
    }
}

#[test]
fn another_chip_and_a_counter_that_is_gone_are_refused_and_the_lines_say_what_to_do() {
    let (start, value) = made(Rollback::Periodic);
    let tie = |counter: Rc<FakeCounter>| {
        let mut store = open(RamDisk::from_image(start.clone())).unwrap();
        block_on(store.tie(&which(), counter, Rollback::Periodic, now()))
    };
    assert_eq!(tie(FakeCounter::at(value)), Ok(()));
    assert_eq!(tie(FakeCounter::at(value - 1)), Ok(()), "power failed between disk and chip");
    let other = AnchorError::OtherChip { disk: value, chip: value - 2 };
    assert_eq!(tie(FakeCounter::at(value - 2)), Err(other.into()));
    let older = AnchorError::OlderCopy { disk: value, chip: value + 1 };
    assert_eq!(tie(FakeCounter::at(value + 1)), Err(older.into()));
    let gone = FakeCounter::at(value);
    gone.trouble.set(Some((0, 1000, Trouble::Refused)));
    assert!(matches!(tie(gone), Err(StoreError::Anchor(AnchorError::Chip(_)))));
    for (error, says) in [(other, "put the disk back into its machine"), (older, "put the current disk back")] {
        let line = alloc::format!("{error}");
        assert!(line.contains(says) && !line.contains('\n'), "{line}");
    }
}

/// A chip whose answer to a read was changed on its way: TPM 1.2 does not authenticate it.
struct LyingCounter(Rc<FakeCounter>, u64);

impl MonotonicCounter for LyingCounter {
    async fn read(&self) -> Result<u64, ChipError> {
        Ok(self.1)
    }
    async fn increment(&self) -> Result<u64, ChipError> {
        self.0.increment().await
    }
}

#[test]
fn an_older_copy_is_refused_even_if_the_counters_value_is_forged_on_the_bus() {
    let (start, value) = made(Rollback::Periodic);
    for forged in [value, value - 1] {
        let mut state = State::default();
        let disk = RamDisk::from_image(start.clone());
        let journal = block_on(Journal::open(disk, OWNER, &key(), |part: &[u8]| {
            state.replay(part).map_err(|_| VaultError::Blank)
        }));
        let mut store = Store::new(journal.unwrap(), state, rng(1));
        let liar = Rc::new(LyingCounter(FakeCounter::at(value + 5), forged));
        let tied = block_on(store.tie(&which(), liar, Rollback::Periodic, now()));
        assert!(matches!(tied, Err(StoreError::Anchor(AnchorError::OlderCopy { .. }))), "{tied:?}");
    }
}

#[test]
fn the_counter_moves_once_a_minute_at_most_and_only_while_there_are_changes() {
    let (start, value) = made(Rollback::Periodic);
    let counter = FakeCounter::at(value);
    let mut store = open(RamDisk::from_image(start)).unwrap();
    block_on(store.tie(&which(), counter.clone(), Rollback::Periodic, now())).unwrap();
    let group = store.state().groups()[0].uuid;
    let began = counter.steps.get();
    let mut time = now();
    let mut tick = |store: &mut TestStore<_>, millis: u64| {
        time = time + core::time::Duration::from_millis(millis);
        let step = block_on(store.begin_step(time)).unwrap();
        if let Some(step) = step {
            store.finish_step(block_on(step.run()));
        }
        counter.steps.get() - began
    };
    assert_eq!(tick(&mut store, 3_600_000), 0, "nothing has changed");
    assert_eq!(store.next_step(), None);
    for n in 0..50 {
        block_on(store.apply(put(group, 1, n))).unwrap();
    }
    assert_eq!(tick(&mut store, 1), 1);
    for n in 0..120 {
        block_on(store.apply(put(group, 1, n))).unwrap();
        tick(&mut store, 1000);
    }
    assert_eq!(tick(&mut store, 0), 3, "two minutes of changes");
    assert_eq!(tick(&mut store, 60_000), 3 + u32::from(false), "all of them are covered");
}

#[test]
fn a_mode_can_be_changed_and_turned_off_and_on() {
    let (disk, counter) = (RamDisk::new(256), FakeCounter::at(40));
    let (store, group) = make(disk.clone());
    drop(store);
    let mut n = 0;
    for mode in [Rollback::Off, Rollback::Strict, Rollback::Off, Rollback::Periodic, Rollback::Strict] {
        let mut store = open(disk.clone()).unwrap();
        block_on(store.tie(&which(), counter.clone(), mode, now())).unwrap();
        assert_eq!(store.is_anchored(), (mode != Rollback::Off).then_some(true));
        n += 1;
        block_on(store.apply(put(group, 1, n))).unwrap();
        block_on(store.stop(now())).unwrap();
    }
    assert_eq!(record(open(disk).unwrap().state(), 1), Some(5));
}

#[test]
fn a_full_disk_refuses_newcomers_only() {
    let (disk, counter) = (RamDisk::new(128), FakeCounter::at(1));
    let (mut store, group) = make(disk.clone());
    block_on(store.tie(&which(), counter, Rollback::Strict, now())).unwrap();
    let mut count = 0;
    let refused = loop {
        match block_on(store.apply(put(group, count, 1))) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, StoreError::Vault(VaultError::TooLarge { .. })) && count > 120,
        "{refused} after {count}"
    );
    for n in 0..50 {
        block_on(store.apply(put(group, n % count, 2))).unwrap();
    }
    block_on(store.apply(Change::DeleteVtpm(uuid(0)))).unwrap();
    block_on(store.apply(put(group, count, 3))).unwrap();
    assert_eq!(open(disk).unwrap().state().count(), count as usize);
}

#[test]
fn changes_are_made_together_or_not_at_all() {
    let (disk, counter) = (RamDisk::new(256), FakeCounter::at(1));
    let (mut store, first) = make(disk.clone());
    block_on(store.tie(&which(), counter, Rollback::Periodic, now())).unwrap();
    let others: Vec<_> = (0..3).map(|n| Group::new(&mut rng(60 + n))).collect();
    let uuids: Vec<_> = others.iter().map(|group| group.uuid).collect();
    let puts = others.into_iter().map(|group| Change::PutGroup(Box::new(group)));
    block_on(store.apply_all(puts.chain([put(first, 1, 1)]).collect())).unwrap();
    let operations = disk.image();
    for wrong in [Change::DeleteGroup(first), Change::DeleteVtpm(uuid(7)), put([0; 16], 3, 3)] {
        let changes = vec![Change::DeleteGroup(uuids[0]), put(uuids[1], 1, 2), put(first, 2, 2), wrong];
        assert!(matches!(block_on(store.apply_all(changes)), Err(StoreError::Change(_))));
        assert!(disk.image() == operations, "nothing was written");
        assert_eq!(records(store.state()), [None, Some(1), None]);
        let order: Vec<_> = store.state().groups().iter().skip(1).map(|group| group.uuid).collect();
        assert_eq!(order, uuids);
    }
    block_on(store.apply_all(vec![put(uuids[1], 1, 2), put(first, 2, 2), Change::DeleteGroup(uuids[0])])).unwrap();
    let again = open(disk).unwrap();
    for state in [store.state(), again.state()] {
        assert_eq!(records(state), [None, Some(2), Some(2)]);
        assert_eq!(state.groups().iter().map(|group| group.uuid).collect::<Vec<_>>(), [first, uuids[1], uuids[2]]);
    }
}
