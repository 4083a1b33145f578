//! Choosing the heap: the largest piece of RAM that nothing else occupies.

/// Bytes in a page.
const PAGE: u64 = 4096;
/// `XEN_HVM_MEMMAP_TYPE_RAM`.
pub const RAM: u32 = 1;

/// A range of physical addresses, end exclusive, with its memory map type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*`.
    pub kind: u32,
}

impl Region {
    /// No bytes at all.
    pub const EMPTY: Self = Self { start: 0, end: 0, kind: 0 };

    /// Whether any byte is in both this region and `start..end`.
    pub const fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

/// The largest run of whole RAM pages inside `within` that touches neither a region of another type nor `taken`. Regions may be
/// in any order and may overlap; a range that is RAM and also something else is not RAM.
pub fn largest_free(map: &[Region], within: (u64, u64), taken: &[(u64, u64)]) -> Option<(u64, u64)> {
    let mut best: Option<(u64, u64)> = None;
    for ram in map.iter().filter(|region| region.kind == RAM) {
        let Some(low) = ram.start.max(within.0).checked_next_multiple_of(PAGE) else { continue };
        let high = ram.end.min(within.1) / PAGE * PAGE;
        let mut at = low;
        while at < high {
            let blocked_by = |from: u64| obstacles(map, taken).find(|&(start, end)| start <= from && from < end);
            if let Some((_, end)) = blocked_by(at) {
                at = end.min(high).next_multiple_of(PAGE);
                continue;
            }
            let stop = obstacles(map, taken).map(|(start, _)| start).filter(|&start| start > at).min();
            let end = stop.unwrap_or(high).min(high) / PAGE * PAGE;
            if end > at && best.is_none_or(|(start, stop)| end - at > stop - start) {
                best = Some((at, end));
            }
            at = end.max(at + PAGE);
        }
    }
    best
}

/// Everything that is not free RAM.
fn obstacles<'a>(map: &'a [Region], taken: &'a [(u64, u64)]) -> impl Iterator<Item = (u64, u64)> + 'a {
    let reserved = map.iter().filter(|region| region.kind != RAM).map(|region| (region.start, region.end));
    reserved.chain(taken.iter().copied()).filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const ALL: (u64, u64) = (0, 1 << 30);

    fn ram(start: u64, end: u64) -> Region {
        Region { start, end, kind: RAM }
    }

    #[test]
    fn what_follows_the_image_is_free() {
        let map = [ram(0, 8 * MIB), Region { start: 0xfc00_0000, end: 0xff00_0000, kind: 2 }];
        assert_eq!(largest_free(&map, ALL, &[(MIB, 3 * MIB + 5)]), Some((3 * MIB + PAGE, 8 * MIB)));
    }

    #[test]
    fn the_largest_piece_wins_and_the_limits_hold() {
        let map = [ram(0, 0x9fc00), ram(MIB, 4 * MIB), ram(8 * MIB, 2048 * MIB)];
        assert_eq!(largest_free(&map, ALL, &[]), Some((8 * MIB, 1024 * MIB)));
        assert_eq!(largest_free(&map, (MIB, 4 * MIB), &[]), Some((MIB, 4 * MIB)));
        assert_eq!(largest_free(&map, (0, MIB), &[]), Some((0, 0x9f000)));
    }

    #[test]
    fn a_reserved_hole_inside_ram_is_kept_out() {
        let map = [ram(MIB, 16 * MIB), Region { start: 12 * MIB - 1, end: 12 * MIB + 1, kind: 3 }];
        assert_eq!(largest_free(&map, ALL, &[(MIB, 2 * MIB)]), Some((2 * MIB, 12 * MIB - PAGE)));
        assert_eq!(largest_free(&map, ALL, &[(MIB, 12 * MIB - PAGE)]), Some((12 * MIB + PAGE, 16 * MIB)));
    }

    #[test]
    fn overlapping_and_empty_obstacles_are_stepped_over() {
        let taken = [(MIB, 3 * MIB), (2 * MIB, 5 * MIB), (6 * MIB, 6 * MIB)];
        assert_eq!(largest_free(&[ram(MIB, 8 * MIB)], ALL, &taken), Some((5 * MIB, 8 * MIB)));
    }

    #[test]
    fn nothing_left_is_nothing() {
        assert_eq!(largest_free(&[ram(MIB, 4 * MIB)], ALL, &[(0, 4 * MIB)]), None);
        assert_eq!(largest_free(&[ram(10, 4000)], ALL, &[]), None);
        assert_eq!(largest_free(&[], ALL, &[]), None);
    }

    #[test]
    fn a_map_up_to_the_last_address_does_not_overflow() {
        let map = [ram(0, u64::MAX), Region { start: 5 * MIB, end: u64::MAX, kind: 2 }];
        assert_eq!(largest_free(&map, (MIB, u64::MAX), &[]), Some((MIB, 5 * MIB)));
    }
}
