//! Where the chip wants its commands and puts its responses.

use super::regs::{CMD_ADDRESS, CMD_SIZE, CrbRegs, DATA_BUFFER, RSP_ADDRESS, RSP_SIZE};
use crate::error::TisError;
use crate::regs::{LOCALITIES, LOCALITY_SIZE, TisBus};

/// Whole words that a response's header takes.
pub(super) const HEADER_WORDS: usize = 3;

/// A buffer inside the register window; `offset` and `size` are multiples of 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffer {
    pub offset: usize,
    pub size: usize,
}

impl Buffer {
    /// The buffer of `size` bytes at the physical address `start`, if it lies in the data buffer of one locality's page of the
    /// window at `base`: anywhere else it would be memory that is not mapped, or registers.
    fn new(base: u64, start: u64, size: u32) -> Result<Self, TisError> {
        Self::inside(base, start, size).ok_or(TisError::BadBuffer { start, size })
    }

    fn inside(base: u64, start: u64, size: u32) -> Option<Self> {
        let offset = usize::try_from(start.checked_sub(base)?).ok()?;
        let in_page = offset % LOCALITY_SIZE;
        let end = in_page.checked_add(usize::try_from(size).ok()?)?;
        // A word may not reach beyond the buffer, so a broken one at the end is left out.
        let size = usize::try_from(size).ok()? & !3;
        let sound = offset < usize::from(LOCALITIES) * LOCALITY_SIZE
            && offset.is_multiple_of(4)
            && in_page >= DATA_BUFFER
            && end <= LOCALITY_SIZE
            && size >= 4 * HEADER_WORDS;
        sound.then_some(Self { offset, size })
    }
}

/// Both buffers. They may be the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffers {
    pub command: Buffer,
    pub response: Buffer,
}

impl Buffers {
    /// Reads the registers, each one once.
    pub fn read<B: TisBus>(regs: &mut CrbRegs<'_, B>, base: u64) -> Result<Self, TisError> {
        let (start, size) = (regs.read_pair(CMD_ADDRESS), regs.read(CMD_SIZE));
        let command = Buffer::new(base, start, size)?;
        let (start, size) = (regs.read_pair(RSP_ADDRESS), regs.read(RSP_SIZE));
        Ok(Self { command, response: Buffer::new(base, start, size)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BASE;

    #[test]
    fn only_the_data_buffers_of_the_window_are_taken() {
        let inside = |start, size| Buffer::inside(BASE, start, size).map(|b| (b.offset, b.size));
        assert_eq!(inside(BASE + 0x80, 0xf80), Some((0x80, 0xf80)));
        assert_eq!(inside(BASE + 0x4080, 0xf80), Some((0x4080, 0xf80)));
        assert_eq!(inside(BASE + 0x2800, 0x803), None, "beyond the page's end by 3");
        assert_eq!(inside(BASE + 0x2800, 0x7ff), Some((0x2800, 0x7fc)));
        assert_eq!(inside(BASE + 0x80, 12), Some((0x80, 12)));
        for (start, size) in [
            (BASE + 0x80, 11),
            (BASE + 0x80, 0),
            (BASE + 0x80, 0xf84),
            (BASE + 0x80, u32::MAX),
            (BASE + 0x7c, 64),
            (BASE, 0x1000),
            (BASE + 0x1040, 64),
            (BASE + 0x81, 64),
            (BASE + 0x82, 64),
            (BASE + 0x5080, 64),
            (BASE - 0x1000 + 0x80, 64),
            (BASE + (1 << 32) + 0x80, 64),
            (0x80, 64),
            (0, 0),
            (u64::MAX, u32::MAX),
            (u64::MAX - 3, 64),
        ] {
            assert_eq!(inside(start, size), None, "{size} bytes at {start:#x}");
        }
    }
}
