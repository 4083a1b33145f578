//! The label in what a hypercall wrote.

use xen_abi::LabelError;

/// The longest label with its final zero byte. Those of the policies in Xen's sources have some 30 bytes.
pub const SPACE: usize = 512;

/// The label in `space`, of which Xen wrote `size` bytes: up to the zero byte that it counts, and never empty.
pub fn label_of(space: &[u8], size: usize) -> Result<&[u8], LabelError> {
    /// `XEN_EINVAL`.
    const INVALID: u32 = 22;
    let text = space.get(..size).and_then(|all| all.split(|byte| *byte == 0).next());
    text.filter(|text| !text.is_empty()).ok_or(LabelError(INVALID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_ends_before_the_zero_byte() {
        let mut space = [0; SPACE];
        space[..8].copy_from_slice(b"a:b:c_t\0");
        space[8] = b'x';
        assert_eq!(label_of(&space, 8), Ok(&b"a:b:c_t"[..]));
        assert_eq!(label_of(&space, 7), Ok(&b"a:b:c_t"[..]));
        assert_eq!(label_of(&space, 20), Ok(&b"a:b:c_t"[..]));
        assert_eq!(label_of(&[b'y'; SPACE], SPACE), Ok(&[b'y'; SPACE][..]));
        for (first, size) in [(0, 8), (b'a', 0), (b'a', SPACE + 1), (b'a', usize::MAX)] {
            space[0] = first;
            assert_eq!(label_of(&space, size), Err(LabelError(22)));
        }
    }
}
