//! The key derivations of TPM 2.0 (Library 1.59, part 1, sections 11.4.10.2 and 11.4.10.3), with SHA-256.

use crate::mac::hmac_sha256;
use zeroize::Zeroizing;

/// KDFa: fills `out` from `key`. `label` goes in without its terminating zero byte, which is added here.
///
/// # Panics
/// If `out` is 512 MiB or longer, a mistake of the caller.
pub fn kdfa_sha256(key: &[u8], label: &[u8], context_u: &[u8], context_v: &[u8], out: &mut [u8]) {
    let bits = bits(out);
    for (counter, chunk) in (1u32..).zip(out.chunks_mut(32)) {
        let parts = [&counter.to_be_bytes(), label, &[0], context_u, context_v, &bits.to_be_bytes()];
        let block = Zeroizing::new(hmac_sha256(key, &parts));
        chunk.iter_mut().zip(block.iter()).for_each(|(out, byte)| *out = *byte);
    }
}

/// KDFe: fills `out` from the shared secret `z` (the x coordinate, padded to the curve's size). `party_u` and `party_v` are x
/// coordinates; `purpose` goes in without its terminating zero byte.
///
/// # Panics
/// If `out` is 512 MiB or longer, a mistake of the caller.
pub fn kdfe_sha256(z: &[u8], purpose: &[u8], party_u: &[u8], party_v: &[u8], out: &mut [u8]) {
    for (counter, chunk) in (1u32..).zip(out.chunks_mut(32)) {
        let block = Zeroizing::new(crate::sha256(&[&counter.to_be_bytes(), z, purpose, &[0], party_u, party_v]));
        chunk.iter_mut().zip(block.iter()).for_each(|(out, byte)| *out = *byte);
    }
}

fn bits(out: &[u8]) -> u32 {
    u32::try_from(out.len()).ok().and_then(|bytes| bytes.checked_mul(8)).expect("a key is shorter than 512 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::hex;

    // Computed by hand from the definitions with another implementation of HMAC and SHA-256 (Python's hmac and hashlib); the
    // second output of each is cut in the middle of a block.
    #[test]
    fn definitions_worked_out() {
        let key: [u8; 32] = core::array::from_fn(|i| i as u8);
        let mut out = [0; 48];
        kdfa_sha256(&key, b"CFB", b"newer", b"older", &mut out);
        assert_eq!(out, hex(KDFA)[..]);
        kdfe_sha256(&key, b"SECRET", &[0xaa; 32], &[0xbb; 32], &mut out);
        assert_eq!(out, hex(KDFE)[..]);
    }

    #[test]
    fn length_is_part_of_kdfa_but_not_of_kdfe() {
        let (mut long, mut short) = ([0; 32], [0; 16]);
        kdfa_sha256(b"k", b"CFB", b"", b"", &mut long);
        kdfa_sha256(b"k", b"CFB", b"", b"", &mut short);
        assert_ne!(long[..16], short);
        kdfe_sha256(b"k", b"CFB", b"", b"", &mut long);
        kdfe_sha256(b"k", b"CFB", b"", b"", &mut short);
        assert_eq!(long[..16], short);
    }

    const KDFA: &str =
        "b0f093bc5fbe62393876b2ecb26c7d12a85b431e1aecd30b3cfe076644f9e7cd1b6d4ee198e05634e55b55268d5e674f";
    const KDFE: &str =
        "08fc920f9d3033e952b0e3490a04acb53ef7324548e744107218611d224bb249aee271d0bcfadcc6b287a262252ec463";
}
