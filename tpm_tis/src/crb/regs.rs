//! The registers of the CRB interface (PTP 1.05, register definitions of the CRB interface). All are 32 bits wide.

use crate::regs::{LOCALITY_SIZE, TisBus};

/// `TPM_LOC_STATE_x`.
pub(crate) const LOC_STATE: usize = 0x00;
/// `TPM_LOC_CTRL_x`.
pub(crate) const LOC_CTRL: usize = 0x08;
/// `TPM_LOC_STS_x`.
pub(crate) const LOC_STS: usize = 0x0c;
/// The upper half of `TPM_CRB_INTF_ID_x`: device in the upper 16 bits, vendor in the lower.
pub(crate) const INTF_ID_HIGH: usize = 0x34;
/// `TPM_CRB_CTRL_REQ_x`.
pub(crate) const CTRL_REQ: usize = 0x40;
/// `TPM_CRB_CTRL_STS_x`.
pub(crate) const CTRL_STS: usize = 0x44;
/// `TPM_CRB_CTRL_CANCEL_x`.
pub(crate) const CTRL_CANCEL: usize = 0x48;
/// `TPM_CRB_CTRL_START_x`.
pub(crate) const CTRL_START: usize = 0x4c;
/// `TPM_CRB_CTRL_CMD_SIZE_x`.
pub(crate) const CMD_SIZE: usize = 0x58;
/// `TPM_CRB_CTRL_CMD_LADDR_x`, `TPM_CRB_CTRL_CMD_HADDR_x`.
pub(crate) const CMD_ADDRESS: [usize; 2] = [0x5c, 0x60];
/// `TPM_CRB_CTRL_RSP_SIZE_x`.
pub(crate) const RSP_SIZE: usize = 0x64;
/// `TPM_CRB_CTRL_RSP_ADDR_x`, both halves.
pub(crate) const RSP_ADDRESS: [usize; 2] = [0x68, 0x6c];
/// `TPM_CRB_DATA_BUFFER_x`: from here to the page's end. Below it are registers.
pub(crate) const DATA_BUFFER: usize = 0x80;

/// Bits of [`LOC_STATE`].
pub(crate) mod loc_state {
    pub const REG_VALID: u32 = 0x80;
    #[cfg(feature = "test-util")]
    pub const ASSIGNED: u32 = 0x02;
}

/// Bits of [`LOC_CTRL`].
pub(crate) mod loc_ctrl {
    pub const REQUEST_ACCESS: u32 = 1;
    pub const RELINQUISH: u32 = 2;
}

/// Bits of [`LOC_STS`].
pub(crate) mod loc_sts {
    pub const GRANTED: u32 = 1;
    #[cfg(feature = "test-util")]
    pub const BEEN_SEIZED: u32 = 2;
}

/// Bits of [`CTRL_REQ`], which the chip clears once it has obeyed.
pub(crate) mod ctrl_req {
    pub const CMD_READY: u32 = 1;
    pub const GO_IDLE: u32 = 2;
}

/// Bits of [`CTRL_STS`].
pub(crate) mod ctrl_sts {
    /// `tpmSts`: a fatal error.
    pub const ERROR: u32 = 1;
    pub const IDLE: u32 = 2;
}

/// The one bit of [`CTRL_START`] (set while a command runs) and of [`CTRL_CANCEL`].
pub(crate) const INVOKE: u32 = 1;

/// Whether the registers can be believed.
pub(crate) enum Hold {
    Ours(Condition),
    Lost,
    Ones,
}

/// What [`CTRL_STS`] and [`CTRL_START`] say together.
#[derive(Clone, Copy)]
pub(crate) struct Condition {
    pub failed: bool,
    pub idle: bool,
    pub running: bool,
}

/// The registers of one locality, and the window around them.
pub(crate) struct CrbRegs<'a, B> {
    bus: &'a mut B,
    page: usize,
}

impl<'a, B: TisBus> CrbRegs<'a, B> {
    /// `locality` is at most 4.
    pub fn new(bus: &'a mut B, locality: u8) -> Self {
        Self { bus, page: usize::from(locality) * LOCALITY_SIZE }
    }

    pub fn read(&mut self, register: usize) -> u32 {
        self.bus.read32(self.page + register)
    }

    pub fn write(&mut self, register: usize, value: u32) {
        self.bus.write32(self.page + register, value);
    }

    /// Reads a register of locality 0, whose page is there on every chip.
    pub fn read_first(&mut self, register: usize) -> u32 {
        self.bus.read32(register)
    }

    /// A register of 64 bits. PTP lets software read it in halves.
    pub fn read_pair(&mut self, [low, high]: [usize; 2]) -> u64 {
        u64::from(self.read(low)) | u64::from(self.read(high)) << 32
    }

    pub fn hold(&mut self) -> Hold {
        let granted = self.read(LOC_STS);
        if granted == u32::MAX {
            return Hold::Ones;
        }
        if granted & loc_sts::GRANTED == 0 {
            return Hold::Lost;
        }
        // In this order, so that the status is one of after the end when `Start` shows the end.
        match (self.read(CTRL_START), self.read(CTRL_STS)) {
            (u32::MAX, _) | (_, u32::MAX) => Hold::Ones,
            (start, status) => Hold::Ours(Condition {
                failed: status & ctrl_sts::ERROR != 0,
                idle: status & ctrl_sts::IDLE != 0,
                running: start & INVOKE != 0,
            }),
        }
    }

    /// Writes `bytes` to the window from `offset` on, in whole words, the last one filled up with zeros.
    pub fn fill(&mut self, offset: usize, bytes: &[u8]) {
        for (at, chunk) in (offset..).step_by(4).zip(bytes.chunks(4)) {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.bus.write32(at, u32::from_le_bytes(word));
        }
    }

    /// One word of the window.
    pub fn word(&mut self, offset: usize) -> [u8; 4] {
        self.bus.read32(offset).to_le_bytes()
    }
}
