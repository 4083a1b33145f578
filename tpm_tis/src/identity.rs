//! Which chip it is, as far as its registers tell.

use crate::error::TisError;
use crate::regs::{DID_VID, INTERFACE_ID, INTF_CAPABILITY, Regs, TisBus};
use core::fmt;

/// The TPM family behind the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// TPM 1.2.
    Tpm12,
    /// TPM 2.0.
    Tpm20,
}

/// Interface type "CRB" in the low four bits of `TPM_INTERFACE_ID` (PTP).
const TYPE_CRB: u32 = 1;
/// Interface version of a TPM 2.0 in bits 30:28 of `TPM_INTF_CAPABILITY` (PTP).
const VERSION_PTP: u32 = 3;

/// What the identifying registers hold, for the log. The chip can put anything there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `TPM_VID`: PCI vendor number.
    pub vendor: u16,
    /// `TPM_DID`.
    pub device: u16,
    /// `TPM_RID`.
    pub revision: u8,
    /// `TPM_INTERFACE_ID`; all ones on most TPM 1.2 chips.
    pub interface_id: u32,
    /// `TPM_INTF_CAPABILITY`.
    pub capability: u32,
}

impl Identity {
    /// Reads the registers, which do not depend on the active locality.
    pub(crate) fn read<B: TisBus>(regs: &mut Regs<'_, B>) -> Result<Self, TisError> {
        let interface_id = regs.read32(INTERFACE_ID);
        // In a CRB the register space from 0x80 on is the data buffer, so nothing further is read from one.
        if interface_id & 0xf == TYPE_CRB {
            return Err(TisError::NotFifo(interface_id));
        }
        let [v0, v1, d0, d1] = match regs.read32(DID_VID) {
            u32::MAX => return Err(TisError::NoChip),
            word => word.to_le_bytes(),
        };
        Ok(Self {
            vendor: u16::from_le_bytes([v0, v1]),
            device: u16::from_le_bytes([d0, d1]),
            revision: regs.revision(),
            interface_id,
            capability: regs.read32(INTF_CAPABILITY),
        })
    }

    /// Whether there is no vendor at all: no chip puts 0 or all ones there.
    pub(crate) fn is_blank<B: TisBus>(regs: &mut Regs<'_, B>) -> bool {
        matches!(regs.read32(DID_VID), 0 | u32::MAX)
    }

    /// The family that the interface version stands for.
    pub fn family(&self) -> Family {
        if (self.capability >> 28) & 7 == VERSION_PTP { Family::Tpm20 } else { Family::Tpm12 }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family() {
            Family::Tpm12 => "1.2",
            Family::Tpm20 => "2.0",
        };
        write!(
            f,
            "TPM {family}, vendor {:#06x}, device {:#06x}, revision {:#04x}, interface id {:#010x}, capabilities {:#010x}",
            self.vendor, self.device, self.revision, self.interface_id, self.capability
        )
    }
}
