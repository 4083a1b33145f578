//! FLASK's labels of other domains (`public/xsm/flask_op.h`).

use super::hypercall::{NO_SUCH_CALL, flask};
use super::label::{SPACE, label_of};
use alloc::vec::Vec;
use xen_abi::{EventPort, LabelError, Labels};

/// The labels as this domain's Xen tells them.
#[derive(Clone, Copy, Debug)]
pub struct Flask(());

impl Flask {
    /// To be made on Xen only.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl Labels for Flask {
    fn peer_label(&self, port: EventPort) -> Result<Option<Vec<u8>>, LabelError> {
        let sid = match flask::peer_sid(port.0) {
            Ok(sid) => sid,
            Err(NO_SUCH_CALL) => return Ok(None),
            Err(error) => return Err(LabelError(error)),
        };
        let mut label = [0; SPACE];
        let size = flask::context(sid, &mut label).map_err(LabelError)?;
        Ok(Some(label_of(&label, size)?.to_vec()))
    }
}
