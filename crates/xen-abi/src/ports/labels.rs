//! Security labels that Xen gave to domains.

use crate::EventPort;
use alloc::vec::Vec;
use core::fmt;

/// FLASK is there and does not say the label, with Xen's error number (positive, as in `public/errno.h`): the port is not
/// bound to another domain any more, or the policy forbids the question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelError(pub u32);

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xen does not say the label of a domain (errno {})", self.0)
    }
}

impl core::error::Error for LabelError {}

/// Labels of FLASK, Xen's security module.
pub trait Labels {
    /// The label (`user:role:type`, as a rule; 1 to 511 bytes, none of them 0) of the domain at the other end of an event channel
    /// that is bound to it. `None` where Xen has no FLASK. An error is no reason to go without the label.
    fn peer_label(&self, port: EventPort) -> Result<Option<Vec<u8>>, LabelError>;
}
