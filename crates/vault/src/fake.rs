//! Disks for tests: [`RamDisk`], which always works, and [`FlakyDisk`], which fails and loses power when told to.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use xen_abi::{BlockDevice, DiskError, SECTOR_SIZE};

/// Polls `future` until it is ready. For futures that need nothing else to happen.
///
/// # Panics
/// If it is still not ready after a million polls.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
    panic!("the future waits for something that does not happen");
}

/// Pending once, so that nothing relies on a disk that answers at once.
async fn a_while() {
    let mut waited = false;
    core::future::poll_fn(|_| if core::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// The bytes of `len` from `sector` on, if they lie on a disk of `size` bytes.
fn range(sector: u64, len: usize, size: usize) -> Result<core::ops::Range<usize>, DiskError> {
    let start = usize::try_from(sector).ok().and_then(|sector| sector.checked_mul(SECTOR_SIZE));
    let start = start.ok_or(DiskError::OutOfRange)?;
    let end = start.checked_add(len).ok_or(DiskError::OutOfRange)?;
    if end <= size && len.is_multiple_of(SECTOR_SIZE) { Ok(start..end) } else { Err(DiskError::OutOfRange) }
}

/// A disk in memory; clones share it.
#[derive(Clone)]
pub struct RamDisk(Rc<RefCell<Vec<u8>>>);

impl RamDisk {
    /// A disk of `sectors` zeros.
    #[must_use]
    pub fn new(sectors: usize) -> Self {
        Self::from_image(vec![0; sectors * SECTOR_SIZE])
    }

    /// A disk with this content; a part of a sector at the end is not reachable.
    #[must_use]
    pub fn from_image(image: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(image)))
    }

    /// Its content.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }

    /// Changes its content behind everybody's back.
    pub fn edit(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.borrow_mut());
    }
}

impl BlockDevice for RamDisk {
    fn sectors(&self) -> u64 {
        (self.0.borrow().len() / SECTOR_SIZE) as u64
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let image = self.0.borrow();
        out.copy_from_slice(&image[range(sector, out.len(), image.len())?]);
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let mut image = self.0.borrow_mut();
        let range = range(sector, data.len(), image.len())?;
        image[range].copy_from_slice(data);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// What becomes of the sectors that were written and not flushed when the power failed. Any subset of them may have reached
/// the disk, which covers any order as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// None did.
    Lost,
    /// All did.
    Kept,
    /// Those did whose bit is set, in the order of writing (bits are used again after 64 sectors).
    Subset(u64),
    /// Each did or did not, as this seed has it.
    Seeded(u64),
    /// As `Seeded`, and some sectors are torn: one half is new and the other is not.
    Torn(u64),
}

/// A disk in memory that caches writes until they are flushed, and fails when told to; clones share it. Every operation is
/// pending once.
#[derive(Clone)]
pub struct FlakyDisk(Rc<RefCell<Flaky>>);

struct Flaky {
    durable: Vec<u8>,
    /// Sectors written since the last flush, in order.
    unflushed: Vec<(usize, [u8; SECTOR_SIZE])>,
    operations: u64,
    cut_at: Option<u64>,
    fail_at: Option<(u64, DiskError)>,
    fail_reads: Option<DiskError>,
    cut: bool,
}

impl FlakyDisk {
    /// A disk of `sectors` zeros.
    #[must_use]
    pub fn new(sectors: usize) -> Self {
        Self::from_image(vec![0; sectors * SECTOR_SIZE])
    }

    /// A disk with this content.
    #[must_use]
    pub fn from_image(durable: Vec<u8>) -> Self {
        let flaky = Flaky {
            durable,
            unflushed: Vec::new(),
            operations: 0,
            cut_at: None,
            fail_at: None,
            fail_reads: None,
            cut: false,
        };
        Self(Rc::new(RefCell::new(flaky)))
    }

    /// How many writes and flushes were asked for so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Power fails in the middle of write or flush number `operation` (the first ever is 0). From then on every operation
    /// answers [`DiskError::Gone`].
    pub fn cut_at(&self, operation: u64) {
        self.0.borrow_mut().cut_at = Some(operation);
    }

    /// Write or flush number `operation` answers `error`. Of a write the first half is done, rounded down; of a flush
    /// nothing, and what was to be flushed is lost.
    pub fn fail_at(&self, operation: u64, error: DiskError) {
        self.0.borrow_mut().fail_at = Some((operation, error));
    }

    /// Every read answers `error` from now on.
    pub fn fail_reads(&self, error: DiskError) {
        self.0.borrow_mut().fail_reads = Some(error);
    }

    /// Whether the power failed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.borrow().cut
    }

    /// How many sectors were written and not flushed.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.0.borrow().unflushed.len()
    }

    /// What is on the disk when the power comes back.
    #[must_use]
    pub fn image_after(&self, fate: Fate) -> Vec<u8> {
        let flaky = self.0.borrow();
        let mut image = flaky.durable.clone();
        let mut dice = match fate {
            Fate::Seeded(seed) | Fate::Torn(seed) => Dice(seed),
            Fate::Lost | Fate::Kept | Fate::Subset(_) => Dice(0),
        };
        for (i, (at, sector)) in flaky.unflushed.iter().enumerate() {
            let whole = 0..SECTOR_SIZE;
            let reached = match fate {
                Fate::Lost => 0..0,
                Fate::Kept => whole,
                Fate::Subset(bits) if bits >> (i % 64) & 1 == 1 => whole,
                Fate::Subset(_) => 0..0,
                Fate::Seeded(_) => [0..0, whole][dice.roll(2)].clone(),
                Fate::Torn(_) => [0..0, whole, 0..SECTOR_SIZE / 2, SECTOR_SIZE / 2..SECTOR_SIZE][dice.roll(4)].clone(),
            };
            image[at + reached.start..at + reached.end].copy_from_slice(&sector[reached]);
        }
        image
    }

    /// The same disk after the power came back.
    #[must_use]
    pub fn restarted(&self, fate: Fate) -> Self {
        Self::from_image(self.image_after(fate))
    }
}

impl Flaky {
    /// Counts an operation; says how it fails, if it does.
    fn count(&mut self) -> Result<(), DiskError> {
        if self.cut {
            return Err(DiskError::Gone);
        }
        let number = self.operations;
        self.operations += 1;
        if self.cut_at == Some(number) {
            self.cut = true;
            return Err(DiskError::Gone);
        }
        match self.fail_at {
            Some((at, error)) if at == number => Err(error),
            _ => Ok(()),
        }
    }
}

impl BlockDevice for FlakyDisk {
    fn sectors(&self) -> u64 {
        (self.0.borrow().durable.len() / SECTOR_SIZE) as u64
    }

    async fn read(&self, sector: u64, out: &mut [u8]) -> Result<(), DiskError> {
        a_while().await;
        let flaky = self.0.borrow();
        if flaky.cut {
            return Err(DiskError::Gone);
        }
        if let Some(error) = flaky.fail_reads {
            return Err(error);
        }
        let range = range(sector, out.len(), flaky.durable.len())?;
        out.copy_from_slice(&flaky.durable[range.clone()]);
        for (at, data) in flaky.unflushed.iter().filter(|(at, _)| range.contains(at)) {
            let at = at - range.start;
            out[at..at + SECTOR_SIZE].copy_from_slice(data);
        }
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        a_while().await;
        let mut flaky = self.0.borrow_mut();
        let range = range(sector, data.len(), flaky.durable.len())?;
        if flaky.cut {
            return Err(DiskError::Gone);
        }
        let outcome = flaky.count();
        let (sectors, _) = data.as_chunks::<SECTOR_SIZE>();
        let done = if outcome.is_ok() || flaky.cut { sectors.len() } else { sectors.len() / 2 };
        let written = range.step_by(SECTOR_SIZE).zip(sectors.iter().copied()).take(done);
        flaky.unflushed.extend(written);
        outcome
    }

    async fn flush(&self) -> Result<(), DiskError> {
        a_while().await;
        let mut flaky = self.0.borrow_mut();
        let outcome = flaky.count();
        if flaky.cut {
            return outcome;
        }
        let unflushed = core::mem::take(&mut flaky.unflushed);
        if outcome.is_ok() {
            for (at, sector) in unflushed {
                flaky.durable[at..at + SECTOR_SIZE].copy_from_slice(&sector);
            }
        }
        outcome
    }
}

/// A small pseudo-random sequence (SplitMix64), the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`, which is small and not 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        (self.bits() >> 32) as usize % sides
    }
}
