//! The registers (TIS 1.3 and PTP 1.05, register definitions of the FIFO interface) and the trait that reaches them.

/// Physical address of locality 0 on a PC (TIS 1.3, memory map of the localities).
pub const BASE: u64 = 0xfed4_0000;
/// Bytes between the registers of two localities.
pub const LOCALITY_SIZE: usize = 0x1000;
/// Localities 0 to 4.
pub const LOCALITIES: u8 = 5;

/// The register window: `LOCALITIES * LOCALITY_SIZE` bytes. Offsets that the driver uses lie inside it, and 32-bit ones are
/// aligned; where nothing answers (or the window is shorter) a read gives all ones, as an empty bus does.
pub trait TisBus {
    /// Reads one byte.
    fn read8(&mut self, offset: usize) -> u8;
    /// Reads 32 bits, little-endian.
    fn read32(&mut self, offset: usize) -> u32;
    /// Writes one byte.
    fn write8(&mut self, offset: usize, value: u8);
    /// Writes 32 bits, little-endian.
    fn write32(&mut self, offset: usize, value: u32);
}

impl<B: TisBus> TisBus for &mut B {
    fn read8(&mut self, offset: usize) -> u8 {
        B::read8(self, offset)
    }

    fn read32(&mut self, offset: usize) -> u32 {
        B::read32(self, offset)
    }

    fn write8(&mut self, offset: usize, value: u8) {
        B::write8(self, offset, value);
    }

    fn write32(&mut self, offset: usize, value: u32) {
        B::write32(self, offset, value);
    }
}

/// `TPM_ACCESS_x`, 8 bits.
pub(crate) const ACCESS: usize = 0x000;
/// `TPM_INTF_CAPABILITY_x`, 32 bits.
pub(crate) const INTF_CAPABILITY: usize = 0x014;
/// `TPM_STS_x`, 32 bits: flags, 16-bit burst count, flags.
pub(crate) const STS: usize = 0x018;
/// The last byte of `TPM_STS_x`.
pub(crate) const STS_HIGH: usize = STS + 3;
/// `TPM_DATA_FIFO_x`.
pub(crate) const DATA_FIFO: usize = 0x024;
/// `TPM_INTERFACE_ID_x` (PTP), 32 bits.
pub(crate) const INTERFACE_ID: usize = 0x030;
/// `TPM_DID_VID_x`, 32 bits: device in the upper half, vendor in the lower.
pub(crate) const DID_VID: usize = 0xf00;
/// `TPM_RID_x`, 8 bits.
pub(crate) const RID: usize = 0xf04;

/// Bits of `TPM_ACCESS_x`. A write sets one of them; writing `ACTIVE` gives the locality (or a pending request) up.
pub(crate) mod access {
    pub const VALID: u8 = 0x80;
    pub const ACTIVE: u8 = 0x20;
    pub const BEEN_SEIZED: u8 = 0x10;
    pub const PENDING: u8 = 0x04;
    pub const REQUEST_USE: u8 = 0x02;
}

/// Bits of the first byte of `TPM_STS_x`.
pub(crate) mod sts {
    pub const VALID: u8 = 0x80;
    pub const COMMAND_READY: u8 = 0x40;
    pub const GO: u8 = 0x20;
    pub const DATA_AVAIL: u8 = 0x10;
    pub const EXPECT: u8 = 0x08;
    pub const RESPONSE_RETRY: u8 = 0x02;
    /// `commandCancel`, in [`super::STS_HIGH`] (PTP, TPM 2.0 only).
    pub const HIGH_COMMAND_CANCEL: u8 = 0x01;
}

/// A copy of `TPM_STS_x`.
#[derive(Clone, Copy)]
pub(crate) struct Status(pub u32);

impl Status {
    fn has(self, bits: u8) -> bool {
        self.0.to_le_bytes()[0] & bits == bits
    }

    /// `tpmGo` and `responseRetry` read as zero on a living chip, so a byte of ones is no status: the locality is not ours or
    /// nothing answers.
    pub fn is_ones(self) -> bool {
        self.has(0xff)
    }

    /// `dataAvail` and `Expect` mean something.
    pub fn valid(self) -> bool {
        self.has(sts::VALID)
    }

    pub fn command_ready(self) -> bool {
        self.has(sts::COMMAND_READY)
    }

    pub fn data_available(self) -> bool {
        self.has(sts::VALID | sts::DATA_AVAIL)
    }

    pub fn expects(self) -> bool {
        self.has(sts::VALID | sts::EXPECT)
    }

    /// Bytes that may go through the FIFO now.
    pub fn burst(self) -> usize {
        usize::from((self.0 >> 8) as u16)
    }
}

/// The registers of one locality.
pub(crate) struct Regs<'a, B> {
    bus: &'a mut B,
    page: usize,
}

impl<'a, B: TisBus> Regs<'a, B> {
    /// `locality` is at most 4.
    pub fn new(bus: &'a mut B, locality: u8) -> Self {
        Self { bus, page: usize::from(locality) * LOCALITY_SIZE }
    }

    pub fn access(&mut self) -> u8 {
        self.bus.read8(self.page + ACCESS)
    }

    pub fn set_access(&mut self, bit: u8) {
        self.bus.write8(self.page + ACCESS, bit);
    }

    pub fn status(&mut self) -> Status {
        Status(self.bus.read32(self.page + STS))
    }

    pub fn set_status(&mut self, bit: u8) {
        self.bus.write8(self.page + STS, bit);
    }

    pub fn command_cancel(&mut self) {
        self.bus.write8(self.page + STS_HIGH, sts::HIGH_COMMAND_CANCEL);
    }

    pub fn fifo_read(&mut self) -> u8 {
        self.bus.read8(self.page + DATA_FIFO)
    }

    pub fn fifo_write(&mut self, byte: u8) {
        self.bus.write8(self.page + DATA_FIFO, byte);
    }

    pub fn read32(&mut self, register: usize) -> u32 {
        self.bus.read32(self.page + register)
    }

    pub fn revision(&mut self) -> u8 {
        self.bus.read8(self.page + RID)
    }
}
