//! Direct anonymous attestation structures (part 2, section 22).

use super::{AuthData, Digest};
use crate::wire::{Tag, wire_struct};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// `DAA_SIZE_issuerModulus`, `DAA_SIZE_w`, `DAA_SIZE_NE`, and the size of `DAA_scratch` (section 22.1).
pub(crate) const MODULUS_SIZE: usize = 256;
/// `DAA_SIZE_v0`.
pub(crate) const V0_SIZE: usize = 128;
/// `DAA_SIZE_v1`.
pub(crate) const V1_SIZE: usize = 192;
/// `DAA_SIZE_r0` and `DAA_SIZE_r1`.
pub(crate) const R01_SIZE: usize = 43;
/// `DAA_SIZE_r2`.
pub(crate) const R2_SIZE: usize = 128;
/// `DAA_SIZE_r3`.
pub(crate) const R3_SIZE: usize = 168;
/// `DAA_SIZE_r4`.
pub(crate) const R4_SIZE: usize = 219;
/// `DAA_power0` in bytes: where the secret f is divided.
pub(crate) const POWER0: usize = 104 / 8;
/// `DAA_power1` in bytes.
pub(crate) const POWER1: usize = 1024 / 8;
/// Size of `DAA_join_u0`.
pub(crate) const U0_SIZE: usize = 128;
/// Size of `DAA_join_u1`.
pub(crate) const U1_SIZE: usize = 138;

/// `TPM_RT_DAA_TPM`.
pub(crate) const RT_DAA_TPM: u32 = 8;
/// `TPM_RT_DAA_V0`.
pub(crate) const RT_DAA_V0: u32 = 9;
/// `TPM_RT_DAA_V1`.
pub(crate) const RT_DAA_V1: u32 = 10;

wire_struct! {
    /// `TPM_DAA_ISSUER` (section 22.2): an issuer's public parameters, all but one as digests.
    #[derive(Clone, Default)]
    pub(crate) struct DaaIssuer {
        tag: Tag<0x002f>,
        r0: Digest,
        r1: Digest,
        s0: Digest,
        s1: Digest,
        n: Digest,
        gamma: Digest,
        q: [u8; 26],
    }
}

wire_struct! {
    /// `TPM_DAA_TPM` (section 22.3): what a TPM keeps of a join.
    #[derive(Clone, Default)]
    pub(crate) struct DaaTpm {
        tag: Tag<0x0032>,
        issuer: Digest,
        v0: Digest,
        v1: Digest,
        rekey: AuthData,
        count: u32,
    }
}

wire_struct! {
    /// `TPM_DAA_SENSITIVE` (section 22.8).
    pub(crate) struct DaaSensitive {
        tag: Tag<0x0031>,
        data: Zeroizing<Vec<u8>>,
    }
}

wire_struct! {
    /// `TPM_DAA_BLOB` (section 22.7). Ours has the counter block of its encryption as additional data.
    pub(crate) struct DaaBlob {
        tag: Tag<0x002c>,
        kind: u32,
        label: [u8; 16],
        integrity: Digest,
        additional: Vec<u8>,
        sensitive: Vec<u8>,
    }
}
