//! Two-level event-channel bitmaps (`public/xen.h`, `shared_info`): 64 words of 64 ports.

/// Ports that two-level event channels have.
pub const PORTS: u32 = 4096;

/// The word and the mask in it of a port, or `None` for a port that cannot exist.
pub const fn position(port: u32) -> Option<(usize, u64)> {
    if port < PORTS { Some(((port / 64) as usize, 1 << (port % 64))) } else { None }
}

/// A set of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortSet([u64; 64]);

impl PortSet {
    /// No port.
    pub const EMPTY: Self = Self([0; 64]);

    /// Adds a port; one that cannot exist is ignored.
    pub fn insert(&mut self, port: u32) {
        if let Some((word, mask)) = position(port) {
            self.0[word] |= mask;
        }
    }

    /// Takes a port out. True if it was in.
    pub fn remove(&mut self, port: u32) -> bool {
        let Some((word, mask)) = position(port) else { return false };
        let had = self.0[word] & mask != 0;
        self.0[word] &= !mask;
        had
    }

    /// The ports, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(word, &bits)| ones(bits).map(move |bit| word as u32 * 64 + bit))
    }
}

/// The numbers of the bits that are set, lowest first.
fn ones(mut bits: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn positions_cover_exactly_the_bitmap() {
        assert_eq!(position(0), Some((0, 1)));
        assert_eq!(position(65), Some((1, 2)));
        assert_eq!(position(4095), Some((63, 1 << 63)));
        assert_eq!(position(4096), None);
        assert_eq!(position(u32::MAX), None);
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut set = PortSet::EMPTY;
        for port in [4095, 3, 64, 63, 3, 9999, 0] {
            set.insert(port);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 63, 64, 4095]);
        assert!(set.remove(63));
        assert!(!set.remove(63));
        assert!(!set.remove(9999));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 64, 4095]);
    }

    #[test]
    fn a_full_set_has_every_port_once() {
        let mut set = PortSet::EMPTY;
        (0..PORTS).for_each(|port| set.insert(port));
        assert!(set.iter().eq(0..PORTS));
    }
}
