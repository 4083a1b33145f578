//! Numbers of part 2, by section.

/// `TPM_ST_NO_SESSIONS`: a packet without an authorization area (section 6.9).
pub const ST_NO_SESSIONS: u16 = 0x8001;
/// `TPM_ST_SESSIONS`: a packet with one.
pub const ST_SESSIONS: u16 = 0x8002;
/// `TPM_ST_ATTEST_CERTIFY`.
pub const ST_ATTEST_CERTIFY: u16 = 0x8017;
/// `TPM_ST_ATTEST_QUOTE`.
pub const ST_ATTEST_QUOTE: u16 = 0x8018;
/// `TPM_ST_ATTEST_CREATION`.
pub const ST_ATTEST_CREATION: u16 = 0x801a;
/// `TPM_ST_CREATION`: a creation ticket.
pub const ST_CREATION: u16 = 0x8021;

/// `TPM_ALG_ID` (section 6.3).
pub mod alg {
    /// RSA.
    pub const RSA: u16 = 0x0001;
    /// SHA-1.
    pub const SHA1: u16 = 0x0004;
    /// AES.
    pub const AES: u16 = 0x0006;
    /// A data object, or an HMAC key.
    pub const KEYEDHASH: u16 = 0x0008;
    /// SHA-256.
    pub const SHA256: u16 = 0x000b;
    /// SHA-384.
    pub const SHA384: u16 = 0x000c;
    /// SHA-512.
    pub const SHA512: u16 = 0x000d;
    /// No algorithm.
    pub const NULL: u16 = 0x0010;
    /// RSASSA-PKCS1-v1_5.
    pub const RSASSA: u16 = 0x0014;
    /// RSAES-PKCS1-v1_5.
    pub const RSAES: u16 = 0x0015;
    /// RSASSA-PSS.
    pub const RSAPSS: u16 = 0x0016;
    /// RSAES-OAEP.
    pub const OAEP: u16 = 0x0017;
    /// ECDSA.
    pub const ECDSA: u16 = 0x0018;
    /// Elliptic curve keys.
    pub const ECC: u16 = 0x0023;
    /// A symmetric key.
    pub const SYMCIPHER: u16 = 0x0025;
    /// Cipher feedback.
    pub const CFB: u16 = 0x0043;
}

/// `TPM_ECC_CURVE` (section 6.4).
pub mod curve {
    /// NIST P-256.
    pub const NIST_P256: u16 = 0x0003;
    /// NIST P-384.
    pub const NIST_P384: u16 = 0x0004;
}

/// `TPM_SU`: kinds of start-up (section 6.10).
pub mod su {
    /// Start anew.
    pub const CLEAR: u16 = 0;
    /// Go on from the saved state.
    pub const STATE: u16 = 1;
}

/// `TPM_SE`: kinds of session (section 6.11).
pub mod se {
    /// Authorization by HMAC.
    pub const HMAC: u8 = 0x00;
    /// Authorization by policy.
    pub const POLICY: u8 = 0x01;
    /// A policy that is only computed.
    pub const TRIAL: u8 = 0x03;
}

/// `TPM_CAP`: areas of TPM2_GetCapability (section 6.12).
pub mod cap {
    /// Handles in use.
    pub const HANDLES: u32 = 1;
    /// PCR banks.
    pub const PCRS: u32 = 5;
    /// Properties.
    pub const TPM_PROPERTIES: u32 = 6;
    /// Elliptic curves.
    pub const ECC_CURVES: u32 = 8;
}

/// `TPM_PT`: properties (section 6.13).
pub mod pt {
    /// The specification's revision times 100.
    pub const REVISION: u32 = 0x102;
    /// The vendor.
    pub const MANUFACTURER: u32 = 0x105;
    /// The upper half of the firmware's version.
    pub const FIRMWARE_VERSION_1: u32 = 0x10b;
    /// The lower half.
    pub const FIRMWARE_VERSION_2: u32 = 0x10c;
    /// The number of commands: a property that every chip has.
    pub const TOTAL_COMMANDS: u32 = 0x129;
    /// TPMA_PERMANENT (section 8.6): bit 0 owner's secret set, bit 9 in lockout.
    pub const PERMANENT: u32 = 0x200;
    /// Seconds until one failed authorization is forgotten.
    pub const LOCKOUT_INTERVAL: u32 = 0x210;
}

/// Permanent handles, `TPM_RH` and `TPM_RS` (section 7.4).
pub mod rh {
    /// The owner hierarchy.
    pub const OWNER: u32 = 0x4000_0001;
    /// The hierarchy that is new with every reset; also "no handle".
    pub const NULL: u32 = 0x4000_0007;
    /// `TPM_RS_PW`: the session that is a password.
    pub const PW: u32 = 0x4000_0009;
    /// The authorization of the dictionary-attack logic.
    pub const LOCKOUT: u32 = 0x4000_000a;
    /// The endorsement hierarchy.
    pub const ENDORSEMENT: u32 = 0x4000_000b;
    /// The platform hierarchy.
    pub const PLATFORM: u32 = 0x4000_000c;
}

/// First handles of each kind, `TPM_HC` (section 7.5), and handles that the TCG has assigned.
pub mod handle {
    /// NV indices.
    pub const NV: u32 = 0x0100_0000;
    /// NV indices of the owner (Registry of reserved TPM 2.0 handles, table "NV index").
    pub const NV_OWNER: u32 = 0x0180_0000;
    /// HMAC sessions; with TPM_CAP_HANDLES: all loaded sessions.
    pub const HMAC_SESSION: u32 = 0x0200_0000;
    /// Policy sessions; with TPM_CAP_HANDLES: all saved sessions.
    pub const POLICY_SESSION: u32 = 0x0300_0000;
    /// Transient objects.
    pub const TRANSIENT: u32 = 0x8000_0000;
    /// Persistent objects.
    pub const PERSISTENT: u32 = 0x8100_0000;
    /// The storage root key (TPM 2.0 Provisioning Guidance, section 7.8).
    pub const SRK: u32 = 0x8100_0001;
    /// The endorsement key (the same).
    pub const EK: u32 = 0x8101_0001;
}

/// `TPMA_SESSION` (section 8.4).
pub mod session {
    /// The session goes on after the command.
    pub const CONTINUE: u8 = 0x01;
    /// The first parameter of the command is encrypted.
    pub const DECRYPT: u8 = 0x20;
    /// The first parameter of the response is encrypted.
    pub const ENCRYPT: u8 = 0x40;
}

/// `TPMA_OBJECT` (section 8.3).
pub mod object {
    /// Never leaves this TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// No saved context of it survives a restart.
    pub const ST_CLEAR: u32 = 1 << 2;
    /// Never leaves its parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM drew its secret part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// Its authValue authorizes its use.
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    /// Only its policy authorizes administrative actions.
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    /// Wrong secrets for it do not count as an attack.
    pub const NO_DA: u32 = 1 << 10;
    /// Only structures of the TPM's own making.
    pub const RESTRICTED: u32 = 1 << 16;
    /// It decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// It signs.
    pub const SIGN: u32 = 1 << 18;
}

/// `TPMA_NV` (section 13.4).
pub mod nv {
    /// Its authValue authorizes a write.
    pub const AUTHWRITE: u32 = 1 << 2;
    /// TPM_NT_COUNTER: eight bytes that only count up.
    pub const COUNTER: u32 = 1 << 4;
    /// Its authValue authorizes a read.
    pub const AUTHREAD: u32 = 1 << 18;
    /// Wrong secrets for it do not count as an attack.
    pub const NO_DA: u32 = 1 << 25;
    /// It was written.
    pub const WRITTEN: u32 = 1 << 29;
}
