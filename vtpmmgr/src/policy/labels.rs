//! The XSM label of the domain behind a connection, where Xen has FLASK.

use alloc::vec::Vec;
use core::cell::RefCell;
use frontback::tpmback::{FrontId, TpmBack};
use tpm_crypto::sha1;
use tpm_wire::mgr::{Refused, code};
use xen_abi::{LabelError, Labels, Xen};

/// Labels by connection.
pub trait PeerLabels {
    /// The label of the domain behind `front`; `None` where Xen has no FLASK.
    fn label(&self, front: FrontId) -> Result<Option<Vec<u8>>, LabelError>;
}

/// A Xen without FLASK.
pub struct NoLabels;

impl PeerLabels for NoLabels {
    fn label(&self, _front: FrontId) -> Result<Option<Vec<u8>>, LabelError> {
        Ok(None)
    }
}

/// The labels of a back end's connections, by their event ports.
pub struct BackLabels<'a, X: Xen, L> {
    /// Knows the ports.
    pub back: &'a RefCell<TpmBack<X>>,
    /// Xen's labels.
    pub labels: L,
}

impl<X: Xen, L: Labels> PeerLabels for BackLabels<'_, X, L> {
    fn label(&self, front: FrontId) -> Result<Option<Vec<u8>>, LabelError> {
        /// `XEN_ENOENT`: the connection is gone.
        const NOT_THERE: LabelError = LabelError(2);
        self.labels.peer_label(self.back.borrow().port(front).ok_or(NOT_THERE)?)
    }
}

/// What is known of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Xen has no FLASK: its UUID must do.
    Unchecked,
    /// Xen has FLASK and does not tell the label.
    Unknown,
    /// Its label.
    Known {
        /// SHA-1 of the label.
        exact: [u8; 20],
        /// SHA-1 of the label with `*` as its user, as in `*:vm_r:vtpm_t`.
        any_user: Option<[u8; 20]>,
    },
}

impl Peer {
    /// Looks the peer of a new connection up.
    pub fn of(labels: &impl PeerLabels, front: FrontId) -> Self {
        match labels.label(front) {
            Ok(None) => Self::Unchecked,
            Ok(Some(label)) => Self::from_label(&label),
            Err(error) => {
                log::error!(target: "vtpmmgr", "front end {}/{}: {error}", front.domid, front.devid);
                Self::Unknown
            }
        }
    }

    /// A peer with this label.
    pub fn from_label(label: &[u8]) -> Self {
        let colon = label.iter().position(|byte| *byte == b':');
        let rest = colon.and_then(|colon| label.get(colon..));
        Self::Known { exact: sha1(&[label]), any_user: rest.map(|rest| sha1(&[b"*", rest])) }
    }

    /// SHA-1 of the label, if it is known.
    pub const fn hash(&self) -> Option<[u8; 20]> {
        match self {
            Self::Known { exact, .. } => Some(*exact),
            Self::Unchecked | Self::Unknown => None,
        }
    }

    /// What stands for this peer, if `list` allows it: the hash that the list names, or without a list that of the label. An empty list allows
    /// everybody.
    ///
    /// # Errors
    /// `FAIL` if the label is not to be had, `DISABLED` if the list does not name it.
    pub fn measured(&self, list: &[[u8; 20]]) -> Result<Option<[u8; 20]>, Refused> {
        match self {
            Self::Unchecked => Ok(None),
            Self::Unknown if list.is_empty() => Ok(None),
            Self::Unknown => Err(Refused(code::FAIL)),
            Self::Known { exact, .. } if list.is_empty() || list.contains(exact) => Ok(Some(*exact)),
            Self::Known { any_user, .. } => {
                any_user.filter(|hash| list.contains(hash)).map(Some).ok_or(Refused(code::DISABLED))
            }
        }
    }
}
