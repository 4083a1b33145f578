//! A chip that answers at random.

use crate::regs::{ACCESS, DATA_FIFO, LOCALITY_SIZE, STS, TisBus, access, sts};

/// Registers with random content from a seed, now and then plausible enough that the driver gets deep into a command.
pub struct NoiseBus {
    state: u64,
    /// Out of 256: how often a read is plausible.
    plausible: u8,
    fifo_reads: usize,
}

impl NoiseBus {
    /// The same `seed` gives the same noise.
    pub fn new(seed: u64) -> Self {
        let mut bus = Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, plausible: 0, fifo_reads: 0 };
        // Most seeds are quite plausible, or every run would end at the first register.
        bus.plausible = 255 - (bus.next() % 16) as u8 * (bus.next() % 16) as u8;
        bus
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
