//! Randomness from outside the program.

use core::fmt;

/// The source has none to give (no RDSEED/RDRAND, or it failed its retries).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no working source of randomness (the CPU offers neither RDSEED nor RDRAND, or they failed)")
    }
}

impl core::error::Error for NoEntropy {}

/// A source of seed material for a DRBG.
pub trait EntropySource {
    /// Fills `out` with full-entropy bytes, or leaves it unspecified and says why not.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy>;
}
