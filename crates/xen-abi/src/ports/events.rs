//! Event channels.

use crate::{DomId, EventPort};
use core::fmt;

/// A refused event-channel operation, with Xen's error number (positive, as in `public/errno.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventError(pub u32);

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event channel refused by Xen (errno {})", self.0)
    }
}

impl core::error::Error for EventError {}

/// Event channels of this domain. Waiting for them is the loop's business, not a driver's.
pub trait EventChannels {
    /// Makes a port that `remote` may bind to.
    fn alloc_unbound(&mut self, remote: DomId) -> Result<EventPort, EventError>;

    /// Binds to `remote_port`, which `remote` made for us. Xen marks the new port pending once.
    fn bind_interdomain(&mut self, remote: DomId, remote_port: EventPort) -> Result<EventPort, EventError>;

    /// Closes a port; closing one that is closed already does nothing.
    fn close(&mut self, port: EventPort);

    /// Signals the other end; without effect if there is none.
    fn notify(&mut self, port: EventPort);

    /// Takes the pending mark of a port: true once for each burst of signals. Spurious ones happen.
    fn take_pending(&mut self, port: EventPort) -> bool;
}
