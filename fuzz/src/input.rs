//! Random bytes as decisions: every byte string is a valid input, and one that has ended goes on with zeros.

use tpm_wire::Reader;

/// What is left of an input.
#[derive(Clone)]
pub struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    /// All of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(Reader::new(data))
    }

    /// Whether all was used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let here = self.0.rest().len().min(N);
        out[..here].copy_from_slice(self.0.bytes(here).unwrap_or_default());
        out
    }

    /// True one time in two.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// True one time in `n` (at most 256), and not when the input has ended.
    pub fn rarely(&mut self, n: usize) -> bool {
        usize::from(self.u8()) % n == n - 1
    }

    /// A number below `n`, which is 1 to 65536.
    pub fn below(&mut self, n: usize) -> usize {
        let value = if n <= 256 { self.u8().into() } else { self.u16() };
        usize::from(value) % n
    }

    /// One of `choices`.
    pub fn choose<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// A byte string that says its own length: up to 255 bytes, or with `long` up to 65535.
    pub fn bytes(&mut self, long: bool) -> &'a [u8] {
        let wanted = usize::from(if long { self.u16() } else { self.u8().into() });
        self.0.bytes(wanted.min(self.0.rest().len())).unwrap_or_default()
    }

    /// A number near what limits are: small, just around `limit`, or anything.
    pub fn near(&mut self, limit: u32) -> u32 {
        match self.u8() {
            kind @ 0..128 => u32::from(kind),
            128..200 => limit.wrapping_add(u32::from(self.u8())).wrapping_sub(4),
            200..220 => u32::MAX.wrapping_sub(self.u8().into()),
            _ => self.u32(),
        }
    }
}
