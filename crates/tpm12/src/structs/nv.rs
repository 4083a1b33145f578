//! NV storage structures (part 2, section 19).

use super::AuthData;
use super::pcr::PcrInfoShort;
use crate::wire::{Tag, wire_struct};
use alloc::vec::Vec;
use zeroize::Zeroizing;

wire_struct! {
    /// `TPM_NV_ATTRIBUTES` (section 19.2).
    #[derive(Clone)]
    pub(crate) struct NvAttributes {
        tag: Tag<0x0017>,
        bits: u32,
    }
}

wire_struct! {
    /// `TPM_NV_DATA_PUBLIC` (section 19.3).
    #[derive(Clone)]
    pub(crate) struct NvPublic {
        tag: Tag<0x0018>,
        index: u32,
        pcr_read: PcrInfoShort,
        pcr_write: PcrInfoShort,
        permission: NvAttributes,
        read_st_clear: bool,
        write_st_clear: bool,
        write_define: bool,
        data_size: u32,
    }
}

wire_struct! {
    /// `TPM_NV_DATA_SENSITIVE` (section 19.4): an area. The two ST_CLEAR locks of its public part are volatile: here they
    /// are always false, the set ones are in the volatile state.
    pub(crate) struct NvArea {
        public: NvPublic,
        auth: AuthData,
        data: Zeroizing<Vec<u8>>,
    }
}

impl NvPublic {
    /// Whether any bit of `mask` is set.
    pub(crate) fn has(&self, mask: u32) -> bool {
        self.permission.bits & mask != 0
    }
}

pub(crate) const PER_READ_STCLEAR: u32 = 1 << 31;
pub(crate) const PER_AUTHREAD: u32 = 1 << 18;
pub(crate) const PER_OWNERREAD: u32 = 1 << 17;
pub(crate) const PER_PPREAD: u32 = 1 << 16;
pub(crate) const PER_GLOBALLOCK: u32 = 1 << 15;
pub(crate) const PER_WRITE_STCLEAR: u32 = 1 << 14;
pub(crate) const PER_WRITEDEFINE: u32 = 1 << 13;
pub(crate) const PER_WRITEALL: u32 = 1 << 12;
pub(crate) const PER_AUTHWRITE: u32 = 1 << 2;
pub(crate) const PER_OWNERWRITE: u32 = 1 << 1;
pub(crate) const PER_PPWRITE: u32 = 1;

/// `TPM_NV_INDEX_LOCK`: defining it turns NV authorization on.
pub(crate) const INDEX_LOCK: u32 = 0xffff_ffff;
/// `TPM_NV_INDEX0`: writing it sets the global lock.
pub(crate) const INDEX_0: u32 = 0;
/// `TPM_NV_INDEX_DIR`: the 1.1 DIR.
pub(crate) const INDEX_DIR: u32 = 0x1000_0001;
/// `TPM_NV_INDEX_TRIAL`: a definition that is only tried.
pub(crate) const INDEX_TRIAL: u32 = 0x0000_f004;
/// Set in indices that only the manufacturer may define.
pub(crate) const INDEX_D_BIT: u32 = 0x1000_0000;
/// Bits that no index may have.
pub(crate) const INDEX_RESERVED: u32 = 0x0f00_0000;
