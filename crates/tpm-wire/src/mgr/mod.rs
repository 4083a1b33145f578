//! Messages between a vTPM and its manager: TPM-style packets with tags and ordinals of their own.
//!
//! Values as the C stack in xen.git uses them (`stubdom/vtpmmgr/vtpm_manager.h`), so that either side can be the old one. Ordinals
//! from 0x80 and from [`ORD_STATUS`] on are ours. The whole table, with sizes and codes: `docs/formats/management.md`.

mod answers;
mod lists;
mod management;
mod quote;
mod saa;

pub use answers::{
    ChipPcrs, Condition, GroupKeys, GroupShow, GroupSummary, NewGroup, Registration, RollbackMode, Status, VtpmEntry,
    VtpmPage, VtpmShow, group_flags, status_flags, vtpm_flags,
};
pub use lists::{ConfigList, LEGACY_CONDITIONS, LEGACY_KERNELS, LegacyList, MAX_CONDITIONS, MAX_KERNELS, PcrValues};
pub use management::Management;
pub use quote::{
    Evidence, GROUP_QUOTE_FLAGS, QUOTE_FLAGS, QuoteRequest, external_data_preimage, group_quote_preimage, quote_flags,
};
pub use saa::SaaKey;

use crate::cursor::{Reader, Truncated, Writer};

/// `VTPM_TAG_REQ`: a vTPM's request.
pub const TAG_REQ: u16 = 0x01c1;
/// `VTPM_TAG_REQ2`: a management request.
pub const TAG_REQ2: u16 = 0x01c2;
/// `VTPM_TAG_RSP`: the answer to [`TAG_REQ`], and, as in the C stack, of every management command that was looked at.
pub const TAG_RSP: u16 = 0x01c4;
/// `VTPM_TAG_RSP2`: the answer to a [`TAG_REQ2`] that is no command, or whose sender has no rights.
pub const TAG_RSP2: u16 = 0x01c5;

/// `VTPM_ORD_SAVEHASHKEY`: keep this record (52 to 64 bytes) for the vTPM that asks; no output.
pub const ORD_SAVEHASHKEY: u32 = 1;
/// `VTPM_ORD_LOADHASHKEY`: give the record back.
pub const ORD_LOADHASHKEY: u32 = 2;
/// `VTPM_ORD_GET_BOOT_HASH`: 20 bytes, SHA-1 of the XSM label of the domain that asks.
pub const ORD_GET_BOOT_HASH: u32 = 3;
/// `VTPM_ORD_GET_QUOTE`: see [`QuoteRequest`] and [`Evidence`].
pub const ORD_GET_QUOTE: u32 = 4;
/// Ours: 20 bytes that name this start of the machine, new whenever the hardware TPM was started anew.
pub const ORD_GET_BOOT_ID: u32 = 0x80;

/// `VTPM_ORD_GROUP_LIST`.
pub const ORD_GROUP_LIST: u32 = 0x0200_0101;
/// `VTPM_ORD_GROUP_NEW`.
pub const ORD_GROUP_NEW: u32 = 0x0200_0102;
/// `VTPM_ORD_GROUP_DEL`.
pub const ORD_GROUP_DEL: u32 = 0x0200_0103;
/// `VTPM_ORD_GROUP_ACTIVATE`.
pub const ORD_GROUP_ACTIVATE: u32 = 0x0200_0104;
/// `VTPM_ORD_GROUP_REGISTER`.
pub const ORD_GROUP_REGISTER: u32 = 0x0200_0105;
/// `VTPM_ORD_GROUP_UPDATE`.
pub const ORD_GROUP_UPDATE: u32 = 0x0200_0106;
/// `VTPM_ORD_GROUP_SHOW`.
pub const ORD_GROUP_SHOW: u32 = 0x0200_0107;
/// `VTPM_ORD_GROUP_QUOTE`.
pub const ORD_GROUP_QUOTE: u32 = 0x0200_0108;
/// `VTPM_ORD_GROUP_RECOVER1`.
pub const ORD_GROUP_RECOVER1: u32 = 0x0200_0109;
/// `VTPM_ORD_GROUP_RECOVER2`.
pub const ORD_GROUP_RECOVER2: u32 = 0x0200_010a;
/// Ours: the manager and its chip at a glance, [`Status`].
pub const ORD_STATUS: u32 = 0x0200_0180;
/// Ours: make a group, with a key of any kind or none.
pub const ORD_GROUP_CREATE: u32 = 0x0200_0181;
/// Ours: all about a group, [`GroupShow`].
pub const ORD_GROUP_SHOW2: u32 = 0x0200_0182;
/// Ours: a signed [`ConfigList`].
pub const ORD_GROUP_UPDATE2: u32 = 0x0200_0183;
/// Ours: a new recovery code for the manager's disk, 20 bytes.
pub const ORD_RECOVERY_CODE: u32 = 0x0200_0184;
/// Ours: give a group without one its approval key.
pub const ORD_GROUP_SET_KEY: u32 = 0x0200_0185;
/// Ours: the group's attestation key, made if it has none, and the chip's endorsement key, [`GroupKeys`].
pub const ORD_GROUP_KEYS: u32 = 0x0200_0186;
/// Ours: the chip's PCRs now, [`ChipPcrs`].
pub const ORD_CHIP_PCRS: u32 = 0x0200_0187;
/// Ours: vTPMs with their groups and flags, [`VtpmPage`].
pub const ORD_VTPM_LIST2: u32 = 0x0200_0188;
/// `VTPM_ORD_VTPM_LIST`.
pub const ORD_VTPM_LIST: u32 = 0x0200_0201;
/// `VTPM_ORD_VTPM_SHOW`: no layout in the C stack; ours is [`VtpmShow`].
pub const ORD_VTPM_SHOW: u32 = 0x0200_0202;
/// `VTPM_ORD_VTPM_EDIT`: no layout in the C stack.
pub const ORD_VTPM_EDIT: u32 = 0x0200_0203;
/// `VTPM_ORD_VTPM_NEW`.
pub const ORD_VTPM_NEW: u32 = 0x0200_0204;
/// `VTPM_ORD_VTPM_DEL`.
pub const ORD_VTPM_DEL: u32 = 0x0200_0205;
/// `VTPM_ORD_MakeIdentity`: an attestation key of no group.
pub const ORD_MAKE_IDENTITY: u32 = 0x0200_0301;
/// `VTPM_ORD_ActivateIdentity`.
pub const ORD_ACTIVATE_IDENTITY: u32 = 0x0200_0302;
/// `VTPM_ORD_ReadPubek`.
pub const ORD_READ_PUBEK: u32 = 0x0200_0303;
/// `VTPM_NV_DefineSpace`.
pub const ORD_NV_DEFINE_SPACE: u32 = 0x0200_0304;
/// `VTPM_NV_WriteValue`.
pub const ORD_NV_WRITE: u32 = 0x0200_0305;
/// `VTPM_NV_ReadValue`.
pub const ORD_NV_READ: u32 = 0x0200_0306;

/// The shortest record, as the C vTPM writes it: SHA-1 of its blob, AES-256 key.
pub const RECORD_MIN: usize = 52;
/// The longest record.
pub const RECORD_MAX: usize = 64;
/// Bytes in one half of a key exchange in the 2048-bit group 14 of RFC 3526.
pub const DH_SIZE: usize = 256;
/// [`Management::VtpmList2`]'s group index for "of all groups".
pub const ALL_GROUPS: u32 = u32::MAX;

/// What the manager answers in place of zero (TPM Main 1.2, part 2, section 16; the C manager's choice where it has the command).
pub mod code {
    /// `TPM_AUTHFAIL`: no rights; of a group: it is not open; of a signed list: the signature is wrong.
    pub const AUTHFAIL: u32 = 1;
    /// `TPM_BADINDEX`: there is no such group.
    pub const BADINDEX: u32 = 2;
    /// `TPM_BAD_PARAMETER`: a length or value that the command does not take; there is no such vTPM or record.
    pub const BAD_PARAMETER: u32 = 3;
    /// `VTPM_INVALID_REQUEST`: a quote with flags that do not exist. (TPM 1.2 calls the same number `TPM_CLEAR_DISABLED`.)
    pub const INVALID_REQUEST: u32 = 5;
    /// `TPM_DISABLED`: this vTPM is locked, or the domain's label is not in its group's list.
    pub const DISABLED: u32 = 7;
    /// `TPM_DISABLED_CMD`: not with this chip, or not (any more) with this group.
    pub const DISABLED_CMD: u32 = 8;
    /// `TPM_FAIL`: the disk or the chip failed, or what is asked cannot be done now.
    pub const FAIL: u32 = 9;
    /// `TPM_BAD_ORDINAL`.
    pub const BAD_ORDINAL: u32 = 10;
    /// `TPM_RESOURCES`: no room for more.
    pub const RESOURCES: u32 = 21;
    /// `TPM_SIZE`: more entries than a list may have.
    pub const SIZE: u32 = 23;
    /// `TPM_WRONGPCRVAL`: the group is sealed to other PCR values than the chip has now.
    pub const WRONG_PCR: u32 = 24;
    /// `TPM_BAD_PARAM_SIZE`.
    pub const BAD_PARAM_SIZE: u32 = 25;
    /// `TPM_BADTAG`.
    pub const BAD_TAG: u32 = 30;
}

/// A byte string behind its 16-bit length.
fn sized16(out: &mut Writer<'_>, bytes: &[u8]) {
    let length = bytes.len().min(usize::from(u16::MAX));
    out.u16(u16::try_from(length).unwrap_or(u16::MAX)).bytes(bytes.get(..length).unwrap_or_default());
}

fn read16<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let length = from.u16()?;
    from.bytes(length.into())
}

/// A `TPM_PCR_SELECTION` (TPM Main 1.2, part 2, section 8.1) as a mask of PCRs 0 to 23. More bytes than three are taken if
/// they are zero, up to the four that the C manager takes.
fn read_selection(from: &mut Reader<'_>) -> Result<u32, Refused> {
    let bytes = read16(from)?;
    let set = bytes.iter().zip(0u32..).map(|(byte, place)| (u32::from(*byte), place));
    let mut mask = 0;
    for (byte, place) in set {
        match place {
            0..3 => mask |= byte << (8 * place),
            3 if byte == 0 => {}
            _ => return Err(Refused(code::BAD_PARAMETER)),
        }
    }
    Ok(mask)
}

fn write_selection(out: &mut Writer<'_>, mask: u32) {
    let [a, b, c, _] = mask.to_le_bytes();
    out.u16(3).bytes(&[a, b, c]);
}

/// Fails unless all was read.
fn end(from: &Reader<'_>) -> Result<(), Refused> {
    if from.is_empty() { Ok(()) } else { Err(Refused(code::BAD_PARAMETER)) }
}

/// A request that is answered with this [`code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub u32);

impl From<Truncated> for Refused {
    fn from(_: Truncated) -> Self {
        Self(code::BAD_PARAMETER)
    }
}

#[cfg(test)]
mod tests;
