//! A chip that answers at random.

use crate::crb::regs::{
    CMD_ADDRESS, CMD_SIZE, CTRL_REQ, CTRL_START, CTRL_STS, DATA_BUFFER, LOC_STATE, LOC_STS, RSP_ADDRESS, RSP_SIZE,
    ctrl_sts, loc_state, loc_sts,
};
use crate::regs::{ACCESS, BASE, DATA_FIFO, INTERFACE_ID, LOCALITY_SIZE, STS, TisBus, access, sts};

/// Registers with random content from a seed, now and then plausible enough that the driver gets deep into a command.
pub struct NoiseBus {
    state: u64,
    /// Out of 256: how often a read is plausible.
    plausible: u8,
    fifo_reads: usize,
    crb: bool,
}

impl NoiseBus {
    /// The same `seed` gives the same noise.
    pub fn new(seed: u64) -> Self {
        let mut bus =
            Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, plausible: 0, fifo_reads: 0, crb: false };
        // Most seeds are quite plausible, or every run would end at the first register.
        bus.plausible = 255 - (bus.next() % 16) as u8 * (bus.next() % 16) as u8;
        bus
    }

    /// The same, as a CRB would be.
    pub fn new_crb(seed: u64) -> Self {
        Self { crb: true, ..Self::new(seed) }
    }

    fn read_crb(&mut self, offset: usize) -> u32 {
        let noise = self.next();
        if !self.is_plausible() {
            return noise;
        }
        match offset % LOCALITY_SIZE {
            LOC_STATE => noise | loc_state::REG_VALID,
            LOC_STS => noise & 0x7f | loc_sts::GRANTED,
            INTERFACE_ID => 0x0002_4111,
            CTRL_REQ => noise >> 31,
            CTRL_STS if noise >> 28 == 0 => ctrl_sts::ERROR,
            CTRL_STS => noise & ctrl_sts::IDLE,
            CTRL_START => noise >> 31,
            at if [CMD_ADDRESS[0], RSP_ADDRESS[0]].contains(&at) => BASE as u32 + 0x80 + (noise & 0x4ffc),
            at if [CMD_ADDRESS[1], RSP_ADDRESS[1]].contains(&at) => 0,
            CMD_SIZE | RSP_SIZE => noise & 0xfff,
            // The two words of a response's size field, now and then.
            DATA_BUFFER.. if noise & 3 > 0 => u32::from_le_bytes([0, noise.to_le_bytes()[1], 0, 0]),
            _ => noise,
        }
    }

    /// xorshift64* (Vigna 2016): only has to be uneven and repeatable.
    fn next(&mut self) -> u32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn is_plausible(&mut self) -> bool {
        (self.next() & 0xff) as u8 <= self.plausible
    }
}

impl TisBus for NoiseBus {
    fn read8(&mut self, offset: usize) -> u8 {
        let noise = self.next().to_le_bytes()[0];
        if !self.is_plausible() {
            return noise;
        }
        match offset % LOCALITY_SIZE {
            ACCESS => access::VALID | access::ACTIVE | (noise & access::PENDING),
            DATA_FIFO => {
                self.fifo_reads += 1;
                // The size field of a header now and then.
                if self.fifo_reads % 10 < 5 { 0 } else { noise }
            }
            _ => noise,
        }
    }

    fn read32(&mut self, offset: usize) -> u32 {
        if self.crb {
            return self.read_crb(offset);
        }
        let noise = self.next();
        if offset % LOCALITY_SIZE != STS || !self.is_plausible() {
            return noise;
        }
        let flags = match noise >> 30 {
            0 => sts::VALID | sts::COMMAND_READY,
            1 => sts::VALID | sts::EXPECT,
            2 => sts::VALID | sts::DATA_AVAIL,
            _ => sts::VALID,
        };
        noise & 0x0000_1f00 | u32::from(flags)
    }

    fn write8(&mut self, _offset: usize, _value: u8) {}

    fn write32(&mut self, _offset: usize, _value: u32) {}
}
