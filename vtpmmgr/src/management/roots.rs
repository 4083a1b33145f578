//! The manager's own secret: under which conditions the chip gives it back.

use super::{Answer, Office};
use crate::anchor::MonotonicCounter;
use crate::hardware::PcrCondition;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{Refused, code};
use xen_abi::BlockDevice;

/// What the disk's label holds.
pub struct Roots {}

impl Roots {
    /// Whether the secret is sealed to PCRs.
    pub fn is_sealed(&self) -> bool {
        false
    }

    /// Whether there is a recovery code.
    pub fn has_recovery(&self) -> bool {
        false
    }

    /// Has the chip give the secret back under these conditions, beside the manager's own.
    pub async fn approve<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &mut self,
        _office: &Office<'_, B, C, T>,
        conditions: &[PcrCondition],
        _rng: &mut Drbg,
    ) -> Result<(), Refused> {
        if conditions.is_empty() { Ok(()) } else { Err(Refused(code::DISABLED_CMD)) }
    }
}

/// RECOVERY_CODE.
pub async fn recovery_code<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    _office: &Office<'_, B, C, T>,
    _roots: &mut Roots,
    _rng: &mut Drbg,
) -> Answer {
    Err(Refused(code::DISABLED_CMD))
}
