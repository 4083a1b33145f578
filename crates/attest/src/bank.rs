//! Selections of PCRs.

/// PCRs of a PC.
pub const PCR_COUNT: u8 = 24;

/// The PCRs of a mask (PCR *n* is bit *n*), ascending.
pub fn pcr_indices(mask: u32) -> impl Iterator<Item = u8> {
    (0..PCR_COUNT).filter(move |index| mask >> index & 1 == 1)
}

/// A mask from the bitmap of a selection, of whatever length; `None` if it has PCRs above 23.
pub(crate) fn mask_of(bitmap: &[u8]) -> Option<u32> {
    let mut mask = 0;
    for (byte, place) in bitmap.iter().zip(0u32..) {
        match (place, byte) {
            (0..3, byte) => mask |= u32::from(*byte) << (8 * place),
            (_, 0) => {}
            _ => return None,
        }
    }
    Some(mask)
}

/// The three bytes of a mask's bitmap.
pub(crate) const fn bitmap(mask: u32) -> [u8; 3] {
    let [a, b, c, _] = mask.to_le_bytes();
    [a, b, c]
}
