//! Messages between a vTPM and its manager: TPM-style packets with tags and ordinals of their own.
//!
//! Values as the C stack in xen.git uses them (`stubdom/vtpmmgr/vtpm_manager.h`), so that either side can be the old one.

/// `VTPM_TAG_REQ`: a vTPM's request.
pub const TAG_REQ: u16 = 0x01c1;
/// `VTPM_TAG_REQ2`: a management request.
pub const TAG_REQ2: u16 = 0x01c2;
/// `VTPM_TAG_RSP`: the answer to [`TAG_REQ`].
pub const TAG_RSP: u16 = 0x01c4;
/// `VTPM_TAG_RSP2`: the answer to [`TAG_REQ2`].
pub const TAG_RSP2: u16 = 0x01c5;

/// `VTPM_ORD_SAVEHASHKEY`: keep this record (52 to 64 bytes) for the vTPM that asks; no output.
pub const ORD_SAVEHASHKEY: u32 = 1;
/// `VTPM_ORD_LOADHASHKEY`: give the record back.
pub const ORD_LOADHASHKEY: u32 = 2;
/// `VTPM_ORD_GET_BOOT_HASH`.
pub const ORD_GET_BOOT_HASH: u32 = 3;
/// `VTPM_ORD_GET_QUOTE`.
pub const ORD_GET_QUOTE: u32 = 4;
/// Ours: 20 bytes that name this start of the machine, new whenever the hardware TPM was started anew.
pub const ORD_GET_BOOT_ID: u32 = 0x80;

/// The shortest record, as the C vTPM writes it: SHA-1 of its blob, AES-256 key.
pub const RECORD_MIN: usize = 52;
/// The longest record.
pub const RECORD_MAX: usize = 64;
