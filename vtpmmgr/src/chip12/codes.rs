//! Ordinals, return codes and constants of TPM Main 1.2, part 2 (sections 17, 16, 4 and 5), as far as the manager meets them.

/// Ordinals (part 2, section 17).
pub mod ord {
    pub const OIAP: u32 = 0x0a;
    pub const OSAP: u32 = 0x0b;
    pub const TAKE_OWNERSHIP: u32 = 0x0d;
    pub const EXTEND: u32 = 0x14;
    pub const PCR_READ: u32 = 0x15;
    pub const QUOTE: u32 = 0x16;
    pub const SEAL: u32 = 0x17;
    pub const UNSEAL: u32 = 0x18;
    pub const CREATE_WRAP_KEY: u32 = 0x1f;
    pub const LOAD_KEY2: u32 = 0x41;
    pub const GET_RANDOM: u32 = 0x46;
    pub const CONTINUE_SELF_TEST: u32 = 0x53;
    pub const GET_CAPABILITY: u32 = 0x65;
    pub const CREATE_EK: u32 = 0x78;
    pub const MAKE_IDENTITY: u32 = 0x79;
    pub const ACTIVATE_IDENTITY: u32 = 0x7a;
    pub const READ_PUBEK: u32 = 0x7c;
    pub const OWNER_READ_INTERNAL_PUB: u32 = 0x81;
    pub const STARTUP: u32 = 0x99;
    pub const FLUSH_SPECIFIC: u32 = 0xba;
    pub const NV_DEFINE_SPACE: u32 = 0xcc;
    pub const NV_WRITE_VALUE: u32 = 0xcd;
    pub const NV_READ_VALUE: u32 = 0xcf;
    pub const CREATE_COUNTER: u32 = 0xdc;
    pub const INCREMENT_COUNTER: u32 = 0xdd;
    pub const READ_COUNTER: u32 = 0xde;
    pub const RELEASE_COUNTER: u32 = 0xdf;
    pub const ESTABLISH_TRANSPORT: u32 = 0xe6;
    pub const EXECUTE_TRANSPORT: u32 = 0xe7;
    pub const GET_TICKS: u32 = 0xf1;
}

/// `TPM_AUTHFAIL`: a wrong secret.
pub const AUTHFAIL: u32 = 1;
/// `TPM_BAD_PARAMETER`.
pub const BAD_PARAMETER: u32 = 3;
/// `TPM_DEACTIVATED`.
pub const DEACTIVATED: u32 = 6;
/// `TPM_DISABLED`.
pub const DISABLED: u32 = 7;
/// `TPM_FAIL`.
pub const FAIL: u32 = 9;
/// `TPM_DISABLED_CMD`.
pub const DISABLED_CMD: u32 = 8;
/// `TPM_INVALID_KEYHANDLE`.
pub const INVALID_KEYHANDLE: u32 = 12;
/// `TPM_OWNER_SET`.
pub const OWNER_SET: u32 = 20;
/// `TPM_INVALID_AUTHHANDLE`.
pub const INVALID_AUTHHANDLE: u32 = 34;
/// `TPM_BAD_COUNTER`.
pub const BAD_COUNTER: u32 = 69;
/// `TPM_BAD_ORDINAL`.
pub const BAD_ORDINAL: u32 = 10;
/// `TPM_RESOURCES`.
pub const RESOURCES: u32 = 21;
/// `TPM_WRONGPCRVAL`.
pub const WRONG_PCR_VALUE: u32 = 24;
/// `TPM_BAD_PARAM_SIZE`.
pub const BAD_PARAM_SIZE: u32 = 25;
/// `TPM_BADTAG`.
pub const BAD_TAG: u32 = 30;
/// `TPM_FAILEDSELFTEST`.
pub const FAILED_SELF_TEST: u32 = 28;
/// `TPM_AUTH2FAIL`: the second secret is wrong.
pub const AUTH2FAIL: u32 = 29;
/// `TPM_NO_ENDORSEMENT`.
pub const NO_ENDORSEMENT: u32 = 35;
/// `TPM_INVALID_POSTINIT`: started already.
pub const INVALID_POSTINIT: u32 = 38;
/// `TPM_BAD_LOCALITY`.
pub const BAD_LOCALITY: u32 = 61;
/// `TPM_RETRY`.
pub const RETRY: u32 = 0x800;
/// `TPM_NEEDS_SELFTEST`.
pub const NEEDS_SELFTEST: u32 = 0x801;
/// `TPM_DOING_SELFTEST`.
pub const DOING_SELFTEST: u32 = 0x802;
/// `TPM_DEFEND_LOCK_RUNNING`: too many wrong secrets lately.
pub const DEFEND_LOCK: u32 = 0x803;

/// States of the chip that pass or can be ended, and say nothing about whose blob it was given.
pub const PASSING: [u32; 5] = [DEACTIVATED, DISABLED, RESOURCES, FAILED_SELF_TEST, DEFEND_LOCK];

/// `TPM_RESOURCE_TYPE` (part 2, section 4.1).
pub mod rt {
    pub const KEY: u32 = 1;
    pub const AUTH: u32 = 2;
    pub const TRANS: u32 = 4;
    pub const COUNTER: u32 = 6;
}

/// `TPM_KH_SRK`: the storage root key's handle (part 2, section 4.4.1).
pub const KH_SRK: u32 = 0x4000_0000;

/// `TPM_KH_OWNER`.
pub const KH_OWNER: u32 = 0x4000_0001;
/// `TPM_KH_EK`: the endorsement key's handle.
pub const KH_EK: u32 = 0x4000_0006;

/// The specification's name of a return code, where it has one that the manager is likely to meet.
pub fn code_name(code: u32) -> &'static str {
    match code {
        AUTHFAIL => "TPM_AUTHFAIL",
        BAD_PARAMETER => "TPM_BAD_PARAMETER",
        DEACTIVATED => "TPM_DEACTIVATED",
        DISABLED => "TPM_DISABLED",
        DISABLED_CMD => "TPM_DISABLED_CMD",
        FAIL => "TPM_FAIL",
        BAD_ORDINAL => "TPM_BAD_ORDINAL",
        INVALID_KEYHANDLE => "TPM_INVALID_KEYHANDLE",
        13 => "TPM_KEYNOTFOUND",
        17 => "TPM_NOSPACE",
        18 => "TPM_NOSRK",
        19 => "TPM_NOTSEALED_BLOB",
        OWNER_SET => "TPM_OWNER_SET",
        RESOURCES => "TPM_RESOURCES",
        WRONG_PCR_VALUE => "TPM_WRONGPCRVAL",
        BAD_PARAM_SIZE => "TPM_BAD_PARAM_SIZE",
        FAILED_SELF_TEST => "TPM_FAILEDSELFTEST",
        AUTH2FAIL => "TPM_AUTH2FAIL",
        BAD_TAG => "TPM_BADTAG",
        33 => "TPM_DECRYPT_ERROR",
        INVALID_AUTHHANDLE => "TPM_INVALID_AUTHHANDLE",
        NO_ENDORSEMENT => "TPM_NO_ENDORSEMENT",
        INVALID_POSTINIT => "TPM_INVALID_POSTINIT",
        BAD_LOCALITY => "TPM_BAD_LOCALITY",
        BAD_COUNTER => "TPM_BAD_COUNTER",
        DEFEND_LOCK => "TPM_DEFEND_LOCK_RUNNING",
        _ => "an error",
    }
}

/// The specification's name of an ordinal.
pub fn ordinal_name(ordinal: u32) -> &'static str {
    match ordinal {
        ord::OIAP => "TPM_OIAP",
        ord::OSAP => "TPM_OSAP",
        ord::TAKE_OWNERSHIP => "TPM_TakeOwnership",
        ord::PCR_READ => "TPM_PCRRead",
        ord::SEAL => "TPM_Seal",
        ord::UNSEAL => "TPM_Unseal",
        ord::CREATE_WRAP_KEY => "TPM_CreateWrapKey",
        ord::LOAD_KEY2 => "TPM_LoadKey2",
        ord::GET_RANDOM => "TPM_GetRandom",
        ord::CONTINUE_SELF_TEST => "TPM_ContinueSelfTest",
        ord::GET_CAPABILITY => "TPM_GetCapability",
        ord::CREATE_EK => "TPM_CreateEndorsementKeyPair",
        ord::READ_PUBEK => "TPM_ReadPubek",
        ord::STARTUP => "TPM_Startup",
        ord::FLUSH_SPECIFIC => "TPM_FlushSpecific",
        ord::EXTEND => "TPM_Extend",
        ord::QUOTE => "TPM_Quote",
        ord::MAKE_IDENTITY => "TPM_MakeIdentity",
        ord::ACTIVATE_IDENTITY => "TPM_ActivateIdentity",
        ord::OWNER_READ_INTERNAL_PUB => "TPM_OwnerReadInternalPub",
        ord::NV_DEFINE_SPACE => "TPM_NV_DefineSpace",
        ord::NV_WRITE_VALUE => "TPM_NV_WriteValue",
        ord::NV_READ_VALUE => "TPM_NV_ReadValue",
        ord::CREATE_COUNTER => "TPM_CreateCounter",
        ord::INCREMENT_COUNTER => "TPM_IncrementCounter",
        ord::READ_COUNTER => "TPM_ReadCounter",
        ord::RELEASE_COUNTER => "TPM_ReleaseCounter",
        ord::ESTABLISH_TRANSPORT => "TPM_EstablishTransport",
        ord::EXECUTE_TRANSPORT => "TPM_ExecuteTransport",
        ord::GET_TICKS => "TPM_GetTicks",
        _ => "a command",
    }
}
