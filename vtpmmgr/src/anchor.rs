//! What ties the manager's disk to its chip: a counter that only ever goes up, and whose value the disk knows.
//!
//! The rule on which all of it rests: the disk is written first and the counter stepped afterwards, by one. So the disk names
//! either the counter's value or the next one, whenever power fails; and an older copy of the disk names an earlier one.

use crate::hardware::ChipError;
use core::fmt;
use core::time::Duration;

/// With `rollback=periodic`, changes are out of reach of an older copy after this long at most.
pub const PERIOD: Duration = Duration::from_secs(60);

/// A counter of the chip. [`crate::hardware::Hardware`] has the real ones.
#[allow(async_fn_in_trait)] // one thread, no Send bound wanted
pub trait MonotonicCounter {
    /// Its value.
    async fn read(&self) -> Result<u64, ChipError>;

    /// Steps it by one and gives the new value. After an error it may have been stepped or not.
    async fn increment(&self) -> Result<u64, ChipError>;
}

impl<C: MonotonicCounter> MonotonicCounter for &C {
    async fn read(&self) -> Result<u64, ChipError> {
        C::read(self).await
    }

    async fn increment(&self) -> Result<u64, ChipError> {
        C::increment(self).await
    }
}

impl<C: MonotonicCounter> MonotonicCounter for alloc::rc::Rc<C> {
    async fn read(&self) -> Result<u64, ChipError> {
        C::read(self).await
    }

    async fn increment(&self) -> Result<u64, ChipError> {
        C::increment(self).await
    }
}

/// Why disk and chip do not go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnchorError {
    /// The chip did not say, or did not step.
    Chip(ChipError),
    /// The chip's counter is further than the disk.
    OlderCopy {
        /// What the disk expects.
        disk: u64,
        /// What the chip says.
        chip: u64,
    },
    /// The disk is further than the chip's counter by more than the one step that a power cut explains.
    OtherChip {
        /// What the disk expects.
        disk: u64,
        /// What the chip says.
        chip: u64,
    },
    /// The counter went elsewhere than it was told to while the manager was running.
    Moved {
        /// What it was to say.
        expected: u64,
        /// What it says.
        found: u64,
    },
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chip(error) => write!(f, "the counter that protects the manager's disk: {error}"),
            Self::OlderCopy { disk, chip } => write!(
                f,
                "the manager's disk is an older copy: it was written at step {disk} of the TPM chip's counter, which is at {chip} now; \
                 put the current disk back"
            ),
            Self::OtherChip { disk, chip } => write!(
                f,
                "the manager's disk does not belong to this TPM chip: it was written at step {disk} of a counter, and this chip's is at \
                 {chip}; put the disk back into its machine"
            ),
            Self::Moved { expected, found } => write!(
                f,
                "the TPM chip's counter should be at {expected} and is at {found}: the manager's disk is an older copy, or another \
                 program steps the manager's counter"
            ),
        }
    }
}

impl core::error::Error for AnchorError {}

impl From<ChipError> for AnchorError {
    fn from(error: ChipError) -> Self {
        Self::Chip(error)
    }
}

/// Makes the step to `value`, the one that the disk expects.
pub(crate) async fn make(counter: &impl MonotonicCounter, value: u64) -> Result<(), AnchorError> {
    let found = counter.increment().await?;
    if found == value { Ok(()) } else { Err(AnchorError::Moved { expected: value, found }) }
}

/// Brings a chip that may be one step behind `value`, the one that the disk expects, to it.
pub(crate) async fn catch_up(counter: &impl MonotonicCounter, value: u64) -> Result<(), AnchorError> {
    let mut found = counter.read().await?;
    if found.checked_add(1) == Some(value) {
        found = counter.increment().await?;
    }
    if found == value { Ok(()) } else { Err(AnchorError::Moved { expected: value, found }) }
}

/// As [`catch_up`] when the manager starts: what differs is what it means if disk and chip do not go together.
pub(crate) async fn verify(counter: &impl MonotonicCounter, value: u64) -> Result<(), AnchorError> {
    match catch_up(counter, value).await {
        Err(AnchorError::Moved { expected: disk, found: chip }) if chip > disk => {
            Err(AnchorError::OlderCopy { disk, chip })
        }
        Err(AnchorError::Moved { expected: disk, found: chip }) => Err(AnchorError::OtherChip { disk, chip }),
        other => other,
    }
}
