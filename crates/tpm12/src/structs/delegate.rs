//! Delegation structures (part 2, section 20).

use super::pcr::PcrInfoShort;
use super::{AuthData, Digest};
use crate::wire::{Tag, wire_struct};
use alloc::vec::Vec;

wire_struct! {
    /// `TPM_DELEGATIONS` (section 20.2).
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct Delegations {
        tag: Tag<0x001a>,
        kind: u32,
        per1: u32,
        per2: u32,
    }
}

/// `TPM_DEL_OWNER_BITS`.
pub(crate) const DEL_OWNER_BITS: u32 = 1;
/// `TPM_DEL_KEY_BITS`.
pub(crate) const DEL_KEY_BITS: u32 = 2;

wire_struct! {
    /// `TPM_FAMILY_TABLE_ENTRY` (section 20.5).
    #[derive(Clone)]
    pub(crate) struct Family {
        tag: Tag<0x0025>,
        label: u8,
        id: u32,
        verification_count: u32,
        flags: u32,
    }
}

/// `TPM_FAMFLAG_ENABLED`.
pub(crate) const FAMILY_ENABLED: u32 = 1;
/// `TPM_DELEGATE_ADMIN_LOCK`.
pub(crate) const FAMILY_ADMIN_LOCK: u32 = 2;

wire_struct! {
    /// `TPM_DELEGATE_PUBLIC` (section 20.8).
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct DelegatePublic {
        tag: Tag<0x001b>,
        label: u8,
        pcr_info: PcrInfoShort,
        permissions: Delegations,
        family_id: u32,
        verification_count: u32,
    }
}

wire_struct! {
    /// `TPM_DELEGATE_TABLE_ROW` (section 20.9).
    #[derive(Clone)]
    pub(crate) struct DelegateRow {
        tag: Tag<0x001c>,
        public: DelegatePublic,
        auth: AuthData,
    }
}

wire_struct! {
    /// `TPM_DELEGATE_SENSITIVE` (section 20.11).
    pub(crate) struct DelegateSensitive {
        tag: Tag<0x0026>,
        auth: AuthData,
    }
}

wire_struct! {
    /// `TPM_DELEGATE_OWNER_BLOB` (section 20.12).
    pub(crate) struct DelegateOwnerBlob {
        tag: Tag<0x002a>,
        public: DelegatePublic,
        integrity: Digest,
        additional: Vec<u8>,
        sensitive: Vec<u8>,
    }
}

wire_struct! {
    /// `TPM_DELEGATE_KEY_BLOB` (section 20.13).
    pub(crate) struct DelegateKeyBlob {
        tag: Tag<0x0027>,
        public: DelegatePublic,
        integrity: Digest,
        pub_key_digest: Digest,
        additional: Vec<u8>,
        sensitive: Vec<u8>,
    }
}
