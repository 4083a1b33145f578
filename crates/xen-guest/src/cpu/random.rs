//! Randomness from the processor.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use xen_abi::{EntropySource, NoEntropy};

/// Tries before an instruction counts as failed; Intel's guide asks for 10 with RDRAND, RDSEED may need more.
const TRIES: u32 = 1000;

/// Outputs of RDRAND that make one word. The generator behind it is reseeded after at most 511 outputs of 128 bits (Intel's guide to
/// its random number generator, "Generating Seeds from RDRAND"), so each word depends on two seeds at least.
const RAND_OUTPUTS: u32 = 1024;

/// RDSEED, or RDRAND where that is all there is.
#[derive(Clone, Copy, Debug)]
pub struct CpuEntropy {
    instruction: Option<Instruction>,
    last: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Instruction {
    Seed,
    Rand,
}

impl CpuEntropy {
    /// Finds out what the processor has.
    pub fn detect() -> Self {
        let leaves = __cpuid(0).eax;
        let rand = __cpuid(1).ecx & 1 << 30 != 0;
        let seed = leaves >= 7 && __cpuid_count(7, 0).ebx & 1 << 18 != 0;
        let instruction = if seed {
            Some(Instruction::Seed)
        } else if rand {
            Some(Instruction::Rand)
        } else {
            None
        };
        Self { instruction, last: 0 }
    }

    /// 64 bits of full entropy.
    fn word(&mut self) -> Result<u64, NoEntropy> {
        let outputs = if self.instruction == Some(Instruction::Seed) { 1 } else { RAND_OUTPUTS };
        (0..outputs).try_fold(0, |mixed, _| Ok(mixed ^ self.value()?))
    }

    /// One good output. A source that repeats itself or gives all zeroes or all ones is taken for broken (as some processors'
    /// RDRAND was after resume): the chance of a false alarm is about 2^-62.
    fn value(&mut self) -> Result<u64, NoEntropy> {
        let instruction = self.instruction.ok_or(NoEntropy)?;
        for _ in 0..TRIES {
            let got = match instruction {
                Instruction::Seed => rdseed(),
                Instruction::Rand => rdrand(),
            };
            let Some(value) = got else {
                core::hint::spin_loop();
                continue;
            };
            if value == self.last || value == 0 || value == u64::MAX {
                self.instruction = None;
                return Err(NoEntropy);
            }
            self.last = value;
            return Ok(value);
        }
        Err(NoEntropy)
    }
}

impl EntropySource for CpuEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        for chunk in out.chunks_mut(8) {
            let bytes = self.word()?.to_ne_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

fn rdseed() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: only called when CPUID offers it; it touches nothing but the two outputs and flags.
    unsafe { asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
    (ok != 0).then_some(value)
}

fn rdrand() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: as for `rdseed`.
    unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
    (ok != 0).then_some(value)
}
