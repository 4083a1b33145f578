//! Arithmetic of Xen's clocks (`public/xen.h`, `vcpu_time_info` and `shared_info.wc_*`).

const NANOS: u64 = 1_000_000_000;

/// `vcpu_time_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VcpuTime {
    /// Odd while Xen writes.
    pub version: u32,
    /// Padding.
    pub pad: u32,
    /// Time-stamp counter at `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds since Xen booted, at `tsc_timestamp`.
    pub system_time: u64,
    /// Nanoseconds per tick, as a fraction of 2^32, after the shift.
    pub tsc_to_system_mul: u32,
    /// Bits to shift the tick count by: left, or right if negative.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`.
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}

/// `wc_version`, `wc_sec`, `wc_nsec`, `wc_sec_hi`: the wall clock when system time was zero.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Wall {
    /// Odd while Xen writes.
    pub version: u32,
    /// Low half of the seconds since 1970.
    pub sec: u32,
    /// Nanoseconds on top.
    pub nsec: u32,
    /// High half of the seconds.
    pub sec_hi: u32,
}

const _: () = assert!(size_of::<VcpuTime>() == 32 && size_of::<Wall>() == 16);

impl VcpuTime {
    /// Nanoseconds since Xen booted, when the time-stamp counter shows `tsc`. A counter that seems to run backwards counts as
    /// standing still.
    pub fn nanos(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.tsc_timestamp);
        let by = u32::from(self.tsc_shift.unsigned_abs());
        let ticks =
            if self.tsc_shift < 0 { ticks.checked_shr(by).unwrap_or(0) } else { ticks.checked_shl(by).unwrap_or(0) };
        self.system_time.wrapping_add(scale(ticks, self.tsc_to_system_mul))
    }
}

impl Wall {
    /// Seconds since 1970 when system time is `nanos`.
    pub fn seconds(&self, nanos: u64) -> u64 {
        let start = u64::from(self.sec_hi) << 32 | u64::from(self.sec);
        start.saturating_add(nanos.saturating_add(u64::from(self.nsec)) / NANOS)
    }
}

/// `ticks * factor / 2^32`.
fn scale(ticks: u64, factor: u32) -> u64 {
    ((u128::from(ticks) * u128::from(factor)) >> 32) as u64
}

/// Nanoseconds in `ticks` of a counter of `hertz`.
pub fn ticks_to_nanos(ticks: u64, hertz: u64) -> u64 {
    (u128::from(ticks) * u128::from(NANOS) / u128::from(hertz.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(mul: u32, shift: i8) -> VcpuTime {
        VcpuTime {
            version: 2,
            pad: 0,
            tsc_timestamp: 1000,
            system_time: 5_000,
            tsc_to_system_mul: mul,
            tsc_shift: shift,
            flags: 0,
            pad1: [0; 2],
        }
    }

    #[test]
    fn a_tick_of_half_a_nanosecond() {
        assert_eq!(time(1 << 31, 0).nanos(1000), 5_000);
        assert_eq!(time(1 << 31, 0).nanos(3000), 6_000);
    }

    #[test]
    fn the_shift_goes_both_ways() {
        assert_eq!(time(1 << 31, 1).nanos(3000), 7_000);
        assert_eq!(time(1 << 31, -1).nanos(3000), 5_500);
    }

    #[test]
    fn xen_values_of_a_three_gigahertz_machine() {
        // 1e9 / 3e9 of 2^32, normalized with shift -1.
        let time = time((2.0 / 3.0 * 4_294_967_296.0) as u32, -1);
        let nanos = time.nanos(1000 + 3_000_000_000) - 5_000;
        assert!((999_999_990..=1_000_000_000).contains(&nanos), "{nanos}");
    }

    #[test]
    fn long_runs_do_not_overflow() {
        let century = 3_000_000_000u64 * 3600 * 24 * 365 * 90;
        assert_eq!(time(1 << 31, 0).nanos(1000 + century), 5_000 + century / 2);
    }

    #[test]
    fn a_counter_that_goes_backwards_stands_still() {
        assert_eq!(time(1 << 31, 0).nanos(10), 5_000);
    }

    #[test]
    fn absurd_shifts_are_harmless() {
        assert_eq!(time(u32::MAX, i8::MIN).nanos(u64::MAX), 5_000);
        assert_eq!(time(u32::MAX, i8::MAX).nanos(u64::MAX), 5_000);
    }

    #[test]
    fn wall_clock_carries_into_seconds() {
        let wall = Wall { version: 2, sec: 100, nsec: 999_999_999, sec_hi: 1 };
        assert_eq!(wall.seconds(0), (1 << 32) + 100);
        assert_eq!(wall.seconds(1), (1 << 32) + 101);
        assert_eq!(wall.seconds(u64::MAX), (1 << 32) + 100 + 18_446_744_073);
    }

    #[test]
    fn ticks_of_a_calibrated_counter() {
        assert_eq!(ticks_to_nanos(1_000, 1_000_000_000), 1_000);
        assert_eq!(ticks_to_nanos(u64::MAX / 8, 2_000_000_000), u64::MAX / 16);
        assert_eq!(ticks_to_nanos(1, 0), 1_000_000_000);
    }
}
