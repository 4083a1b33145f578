//! `TPM_CC`: command codes (part 2, section 6.5), as far as the manager sends them.

/// TPM2_EvictControl.
pub const EVICT_CONTROL: u32 = 0x120;
/// TPM2_NV_UndefineSpace.
pub const NV_UNDEFINE_SPACE: u32 = 0x122;
/// TPM2_Clear.
pub const CLEAR: u32 = 0x126;
/// TPM2_HierarchyChangeAuth.
pub const HIERARCHY_CHANGE_AUTH: u32 = 0x129;
/// TPM2_NV_DefineSpace.
pub const NV_DEFINE_SPACE: u32 = 0x12a;
/// TPM2_CreatePrimary.
pub const CREATE_PRIMARY: u32 = 0x131;
/// TPM2_NV_Increment.
pub const NV_INCREMENT: u32 = 0x134;
/// TPM2_PCR_Reset.
pub const PCR_RESET: u32 = 0x13d;
/// TPM2_SelfTest.
pub const SELF_TEST: u32 = 0x143;
/// TPM2_Startup.
pub const STARTUP: u32 = 0x144;
/// TPM2_Shutdown.
pub const SHUTDOWN: u32 = 0x145;
/// TPM2_ActivateCredential.
pub const ACTIVATE_CREDENTIAL: u32 = 0x147;
/// TPM2_CertifyCreation.
pub const CERTIFY_CREATION: u32 = 0x14a;
/// TPM2_NV_Read.
pub const NV_READ: u32 = 0x14e;
/// TPM2_PolicySecret.
pub const POLICY_SECRET: u32 = 0x151;
/// TPM2_Create.
pub const CREATE: u32 = 0x153;
/// TPM2_Load.
pub const LOAD: u32 = 0x157;
/// TPM2_Quote.
pub const QUOTE: u32 = 0x158;
/// TPM2_Unseal.
pub const UNSEAL: u32 = 0x15e;
/// TPM2_ContextLoad.
pub const CONTEXT_LOAD: u32 = 0x161;
/// TPM2_ContextSave.
pub const CONTEXT_SAVE: u32 = 0x162;
/// TPM2_FlushContext.
pub const FLUSH_CONTEXT: u32 = 0x165;
/// TPM2_MakeCredential.
pub const MAKE_CREDENTIAL: u32 = 0x168;
/// TPM2_NV_ReadPublic.
pub const NV_READ_PUBLIC: u32 = 0x169;
/// TPM2_PolicyAuthValue.
pub const POLICY_AUTH_VALUE: u32 = 0x16b;
/// TPM2_PolicyLocality.
pub const POLICY_LOCALITY: u32 = 0x16f;
/// TPM2_ReadPublic.
pub const READ_PUBLIC: u32 = 0x173;
/// TPM2_StartAuthSession.
pub const START_AUTH_SESSION: u32 = 0x176;
/// TPM2_GetCapability.
pub const GET_CAPABILITY: u32 = 0x17a;
/// TPM2_GetRandom.
pub const GET_RANDOM: u32 = 0x17b;
/// TPM2_PCR_Read.
pub const PCR_READ: u32 = 0x17e;
/// TPM2_PolicyPCR.
pub const POLICY_PCR: u32 = 0x17f;
/// TPM2_ReadClock.
pub const READ_CLOCK: u32 = 0x181;
/// TPM2_PCR_Extend.
pub const PCR_EXTEND: u32 = 0x182;

/// The first code of all (`TPM_CC_FIRST`); the ordinals of TPM 1.2 that are in use lie below.
pub const FIRST: u32 = 0x11f;

/// The specification's name of a command.
#[must_use]
pub const fn name(code: u32) -> &'static str {
    match code {
        EVICT_CONTROL => "TPM2_EvictControl",
        NV_UNDEFINE_SPACE => "TPM2_NV_UndefineSpace",
        CLEAR => "TPM2_Clear",
        HIERARCHY_CHANGE_AUTH => "TPM2_HierarchyChangeAuth",
        NV_DEFINE_SPACE => "TPM2_NV_DefineSpace",
        CREATE_PRIMARY => "TPM2_CreatePrimary",
        NV_INCREMENT => "TPM2_NV_Increment",
        PCR_RESET => "TPM2_PCR_Reset",
        SELF_TEST => "TPM2_SelfTest",
        STARTUP => "TPM2_Startup",
        SHUTDOWN => "TPM2_Shutdown",
        ACTIVATE_CREDENTIAL => "TPM2_ActivateCredential",
        CERTIFY_CREATION => "TPM2_CertifyCreation",
        NV_READ => "TPM2_NV_Read",
        POLICY_SECRET => "TPM2_PolicySecret",
        CREATE => "TPM2_Create",
        LOAD => "TPM2_Load",
        QUOTE => "TPM2_Quote",
        UNSEAL => "TPM2_Unseal",
        CONTEXT_LOAD => "TPM2_ContextLoad",
        CONTEXT_SAVE => "TPM2_ContextSave",
        FLUSH_CONTEXT => "TPM2_FlushContext",
        MAKE_CREDENTIAL => "TPM2_MakeCredential",
        NV_READ_PUBLIC => "TPM2_NV_ReadPublic",
        POLICY_AUTH_VALUE => "TPM2_PolicyAuthValue",
        POLICY_LOCALITY => "TPM2_PolicyLocality",
        READ_PUBLIC => "TPM2_ReadPublic",
        START_AUTH_SESSION => "TPM2_StartAuthSession",
        GET_CAPABILITY => "TPM2_GetCapability",
        GET_RANDOM => "TPM2_GetRandom",
        PCR_READ => "TPM2_PCR_Read",
        POLICY_PCR => "TPM2_PolicyPCR",
        READ_CLOCK => "TPM2_ReadClock",
        PCR_EXTEND => "TPM2_PCR_Extend",
        _ => "a command",
    }
}
