//! What a TPM remembers: [`permanent`] across everything, [`volatile`] until the next start.

mod format;
pub(crate) mod permanent;
pub(crate) mod volatile;

pub use format::StateError;
pub(crate) use format::{LEVEL, load_permanent, load_volatile, store_permanent, store_volatile};

use core::ops::Deref;

/// A value that knows whether it was changed.
pub(crate) struct Tracked<T> {
    value: T,
    changed: bool,
}

impl<T> Tracked<T> {
    /// Wraps an unchanged value.
    pub(crate) const fn new(value: T) -> Self {
        Self { value, changed: false }
    }

    /// Gives the value for changing, and remembers that.
    pub(crate) fn edit(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }

    /// Whether it was changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
