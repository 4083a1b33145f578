//! TPM Main 1.2 (revision 116) tags and the codes that more than one room needs.

/// `TPM_TAG_RQU_COMMAND`.
pub const TAG_RQU_COMMAND: u16 = 0x00c1;
/// `TPM_TAG_RQU_AUTH1_COMMAND`.
pub const TAG_RQU_AUTH1_COMMAND: u16 = 0x00c2;
/// `TPM_TAG_RQU_AUTH2_COMMAND`.
pub const TAG_RQU_AUTH2_COMMAND: u16 = 0x00c3;
/// `TPM_TAG_RSP_COMMAND`.
pub const TAG_RSP_COMMAND: u16 = 0x00c4;
/// `TPM_TAG_RSP_AUTH1_COMMAND`.
pub const TAG_RSP_AUTH1_COMMAND: u16 = 0x00c5;
/// `TPM_TAG_RSP_AUTH2_COMMAND`.
pub const TAG_RSP_AUTH2_COMMAND: u16 = 0x00c6;
