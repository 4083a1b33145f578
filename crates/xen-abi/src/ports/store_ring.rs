//! The raw connection to xenstored, below the protocol.

use crate::{Instant, SharedPage};

/// The page that a domain shares with xenstored (`public/io/xs_wire.h`, `xenstore_domain_interface`), its event channel,
/// and a way to wait for it. The protocol above is `frontback::xenstore::Client`.
pub trait StoreRing {
    /// The shared page.
    type Page: SharedPage;

    /// The interface page.
    fn page(&self) -> &Self::Page;

    /// Signals xenstored.
    fn notify(&mut self);

    /// Monotonic time, for the bound on a wait.
    fn now(&self) -> Instant;

    /// Waits until xenstored signals or `until` has come, whichever is first. Coming back early is allowed; events of
    /// other ports stay pending for their owners.
    fn wait(&mut self, until: Instant);
}
