//! The rate of the time-stamp counter on a machine without Xen.

use crate::cpu;
use core::arch::x86_64::__cpuid;
use x86_64::instructions::port::Port;

/// The rate of the programmable interval timer.
const PIT_HERTZ: u64 = 1_193_182;
/// What the timer counts down while the counter is measured: about 10 ms.
const PIT_COUNT: u16 = 11_932;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const CONTROL_B: u16 = 0x61;
/// Polls before the timer counts as absent.
const PATIENCE: u32 = 10_000_000;

/// Ticks per second: from CPUID leaf 0x15 if it says, else measured against the interval timer.
///
/// # Panics
/// If there is neither; nothing could be bounded in time then.
pub fn hertz() -> u64 {
    from_cpuid()
        .or_else(measured)
        .expect("neither CPUID nor an interval timer tells the rate of the time-stamp counter")
}

fn from_cpuid() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid(0x15);
    let [denominator, numerator, crystal] = [leaf.eax, leaf.ebx, leaf.ecx].map(u64::from);
    (crystal * numerator).checked_div(denominator).filter(|&hertz| hertz > 0)
}

fn measured() -> Option<u64> {
    let mut control: Port<u8> = Port::new(CONTROL_B);
    let mut command: Port<u8> = Port::new(PIT_COMMAND);
    let mut data: Port<u8> = Port::new(PIT_CHANNEL_2);
    let [low, high] = PIT_COUNT.to_le_bytes();
    // SAFETY: channel 2 drives the speaker and nothing else. Its gate (bit 0) is opened and the speaker (bit 1) cut off; mode 0
    // then counts down once, and bit 5 shows the end.
    unsafe {
        let before = control.read();
        control.write(before & !2 | 1);
        command.write(0b1011_0000);
        data.write(low);
        data.write(high);
        let start = cpu::rdtsc();
        let ended = (0..PATIENCE).any(|_| control.read() & 0x20 != 0);
        let ticks = cpu::rdtsc() - start;
        control.write(before);
        (ended && ticks > 0).then(|| ticks * PIT_HERTZ / u64::from(PIT_COUNT))
    }
}
