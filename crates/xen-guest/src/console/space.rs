//! Room in the output ring of the PV console.

/// Bytes in the ring (`public/io/console.h`, `xencons_interface.out`).
pub const OUT_SIZE: u32 = 2048;

/// How many bytes fit, given the two free-running indices. None fit if they contradict each other: the reader has written
/// nonsense, and output is then lost rather than the reader's unread bytes.
pub const fn room(consumer: u32, producer: u32) -> u32 {
    OUT_SIZE.saturating_sub(producer.wrapping_sub(consumer))
}

/// Where in the ring the byte with free-running index `index` goes.
pub const fn position(index: u32) -> usize {
    (index % OUT_SIZE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shrinks_as_the_ring_fills() {
        assert_eq!(room(0, 0), 2048);
        assert_eq!(room(5, 2052), 1);
        assert_eq!(room(5, 2053), 0);
    }

    #[test]
    fn indices_wrap_around() {
        assert_eq!(room(u32::MAX - 9, 90), 2048 - 100);
        assert_eq!(position(u32::MAX), 2047);
        assert_eq!(position(2048), 0);
    }

    #[test]
    fn contradicting_indices_give_no_room() {
        assert_eq!(room(1, 0), 0);
        assert_eq!(room(0, 2049), 0);
        assert_eq!(room(0, u32::MAX / 2), 0);
    }
}
