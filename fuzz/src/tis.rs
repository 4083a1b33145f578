//! The TIS and CRB drivers against a chip whose registers are the input: they end in time, a response is one, and nothing outside
//! the window is touched.

use crate::input::Input;
use core::time::Duration;
use tpm_tis::{BASE, Chip, Timeouts, TisBus};
use tpm_wire::ResponseHeader;
use xen_abi::Instant;

/// Registers that read as the input says: often as a chip's would, else as anything.
/// The second field counts FIFO bytes, the third says whether it is a CRB.
struct Bus<'a>(Input<'a>, usize, bool);

/// A response, for the FIFO of a chip that is not at its worst.
const RESPONSE: [u8; 12] = [0, 0xc4, 0, 0, 0, 12, 0, 0, 0, 0, 1, 2];

impl TisBus for Bus<'_> {
    fn read8(&mut self, offset: usize) -> u8 {
        match (self.0.u8(), offset & 0xfff) {
            (0..224, 0) => 0xa1,
            (0..250, 0x24) => {
                self.1 += 1;
                RESPONSE[(self.1 - 1) % RESPONSE.len()]
            }
            (kind, _) => kind,
        }
    }

    fn read32(&mut self, offset: usize) -> u32 {
        assert!(offset < 5 * 0x1000 && offset.is_multiple_of(4));
        let kind = u32::from(self.0.u8());
        match (kind, offset & 0xfff) {
            (0..224, 0x18) if !self.2 => {
                let status = [0xc0, 0x88, 0x90, 0x80, 0xd8, 0x98, 0x80][(kind >> 5) as usize];
                status | (kind & 31) << 8
            }
            (0..250, 0x30) => {
                if self.2 {
                    0x4011 | (kind & 1) << 8
                } else {
                    u32::MAX
                }
            }
            (0..250, 0x34 | 0xf00) => 0x0001_f4ce,
            (0..240, register) if self.2 => match register {
                0 => 0x80 | kind & 2,
                0x0c => 1,
                0x44 => kind & 2,
                0x40 | 0x4c => kind / 120,
                0x58 | 0x64 => 0xf80 - kind / 220,
                0x5c | 0x68 => BASE as u32 + 0x80 + 0x1000 * (kind / 200),
                0x60 | 0x6c => 0,
                at => u32::from_ne_bytes(RESPONSE.as_chunks().0[at / 4 % 3]).rotate_left(8 * (kind / 230)),
            },
            _ => self.0.u32(),
        }
    }

    fn write8(&mut self, offset: usize, _: u8) {
        assert!(offset < 5 * 0x1000);
        // commandReady, tpmGo and responseRetry all begin anew.
        if offset & 0xfff == 0x18 {
            self.1 = 0;
        }
    }

    fn write32(&mut self, offset: usize, _: u32) {
        assert!(offset < 5 * 0x1000 && offset.is_multiple_of(4));
    }
}

/// Sends two commands, the second of which may be cancelled.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut tis = Chip::new(input.u8() % 5, Timeouts::DEFAULT).unwrap();
    let (cancel_at, length, duration) = (input.u8(), 10 + input.below(64), Duration::from_secs(5));
    let crb = input.flag();
    let mut bus = Bus(input, 0, crb);
    let mut command = vec![0, 0xc1, 0, 0, 0, length as u8, 0, 0, 0, 0x46];
    command.resize(length, 7);
    let mut now = Instant::from_millis(1);
    for round in 0..2 {
        let ticket = tis.submit(&command, duration).unwrap();
        let end = now + Timeouts::DEFAULT.longest(duration) + Duration::from_secs(1);
        let mut steps = 0u32;
        let result = loop {
            if let Some(result) = tis.take(ticket) {
                break result;
            }
            assert!(now <= end, "the driver does not end in time");
            if round == 1 && steps == cancel_at.into() {
                tis.cancel(ticket);
            }
            steps += 1;
            tis.step(&mut bus, now);
            now = tis.deadline().unwrap_or(now).max(now);
            // A driver that wants to go on at once has moved bytes; time passes all the same.
            now = now + Duration::from_millis(u64::from(steps.is_multiple_of(4)));
        };
        if let Ok(response) = result {
            ResponseHeader::parse(&response).unwrap();
        }
    }
}
