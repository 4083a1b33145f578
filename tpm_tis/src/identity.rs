//! Which chip it is, as far as its registers tell.

use crate::crb::regs::{CrbRegs, INTF_ID_HIGH};
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

/// How commands get to the chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// The FIFO of TIS and PTP, driven by [`crate::Tis`].
    Fifo,
    /// The buffers of PTP, driven by [`crate::Crb`].
    Crb,
}

impl Interface {
    /// What `TPM_INTERFACE_ID` stands for. TIS has no such register (most chips show all ones there), so whatever is not a CRB
    /// is a FIFO.
    pub(crate) fn of(interface_id: u32) -> Self {
        if interface_id & 0xf == TYPE_CRB { Self::Crb } else { Self::Fifo }
    }
}

/// Interface type "CRB" in the low four bits of `TPM_INTERFACE_ID` (PTP).
const TYPE_CRB: u32 = 1;
/// `CapLocality` in `TPM_CRB_INTF_ID` (PTP): localities 0 to 4, not 0 only.
const CAP_LOCALITY: u32 = 1 << 8;
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
    /// `TPM_INTF_CAPABILITY`; 0 for a CRB, which has none.
    pub capability: u32,
}

impl Identity {
    /// Reads the registers, which do not depend on the active locality.
    pub(crate) fn read<B: TisBus>(regs: &mut Regs<'_, B>) -> Result<Self, TisError> {
        let interface_id = regs.read32(INTERFACE_ID);
        // In a CRB the register space from 0x80 on is the data buffer, so nothing further is read from one.
        if Interface::of(interface_id) == Interface::Crb {
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

    /// Reads the registers of a CRB, at locality 0.
    pub(crate) fn read_crb<B: TisBus>(regs: &mut CrbRegs<'_, B>) -> Result<Self, TisError> {
        let interface_id = regs.read_first(INTERFACE_ID);
        let ids = regs.read_first(INTF_ID_HIGH);
        if interface_id == u32::MAX || ids == u32::MAX || (interface_id == 0 && ids == 0) {
            return Err(TisError::NoChip);
        }
        if Interface::of(interface_id) != Interface::Crb {
            return Err(TisError::NotCrb(interface_id));
        }
        let [v0, v1, d0, d1] = ids.to_le_bytes();
        let [_, _, _, revision] = interface_id.to_le_bytes();
        Ok(Self {
            vendor: u16::from_le_bytes([v0, v1]),
            device: u16::from_le_bytes([d0, d1]),
            revision,
            interface_id,
            capability: 0,
        })
    }

    /// Whether a CRB has other localities than 0.
    pub(crate) fn has_localities(&self) -> bool {
        self.interface_id & CAP_LOCALITY != 0
    }

    /// How commands get to the chip.
    pub fn interface(&self) -> Interface {
        Interface::of(self.interface_id)
    }

    /// Whether there is no vendor at all: no chip puts 0 or all ones there.
    pub(crate) fn is_blank<B: TisBus>(regs: &mut Regs<'_, B>) -> bool {
        matches!(regs.read32(DID_VID), 0 | u32::MAX)
    }

    /// The family that the interface version stands for; CRB is for TPM 2.0 only.
    pub fn family(&self) -> Family {
        let crb = self.interface() == Interface::Crb;
        if crb || (self.capability >> 28) & 7 == VERSION_PTP { Family::Tpm20 } else { Family::Tpm12 }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family() {
            Family::Tpm12 => "1.2",
            Family::Tpm20 => "2.0",
        };
        let Self { vendor, device, revision, interface_id, capability } = self;
        write!(f, "TPM {family}, vendor {vendor:#06x}, device {device:#06x}, revision {revision:#04x}, ")?;
        match self.interface() {
            Interface::Fifo => write!(f, "interface id {interface_id:#010x}, capabilities {capability:#010x}"),
            Interface::Crb => write!(f, "CRB interface id {interface_id:#010x}"),
        }
    }
}
