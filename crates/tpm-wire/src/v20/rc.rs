//! `TPM_RC`: response codes (part 2, section 6.6).
//!
//! Three formats share the 32 bits: format 1 (bit 7 set) blames a parameter, handle or session by number; format 0 is an
//! error (bit 8) or a warning (bit 11) about the whole command. [`kind`] takes the number off a format 1 code, so that codes can
//! be compared with the constants here.

use core::fmt;

/// `TPM_RC_INITIALIZE`.
pub const INITIALIZE: u32 = 0x100;
/// `TPM_RC_FAILURE`.
pub const FAILURE: u32 = 0x101;
/// `TPM_RC_SEQUENCE`.
pub const SEQUENCE: u32 = 0x103;
/// `TPM_RC_DISABLED`.
pub const DISABLED: u32 = 0x120;
/// `TPM_RC_EXCLUSIVE`.
pub const EXCLUSIVE: u32 = 0x121;
/// `TPM_RC_AUTH_TYPE`.
pub const AUTH_TYPE: u32 = 0x124;
/// `TPM_RC_AUTH_MISSING`.
pub const AUTH_MISSING: u32 = 0x125;
/// `TPM_RC_POLICY`.
pub const POLICY: u32 = 0x126;
/// `TPM_RC_PCR`.
pub const PCR: u32 = 0x127;
/// `TPM_RC_PCR_CHANGED`.
pub const PCR_CHANGED: u32 = 0x128;
/// `TPM_RC_UPGRADE`.
pub const UPGRADE: u32 = 0x12d;
/// `TPM_RC_TOO_MANY_CONTEXTS`.
pub const TOO_MANY_CONTEXTS: u32 = 0x12e;
/// `TPM_RC_AUTH_UNAVAILABLE`.
pub const AUTH_UNAVAILABLE: u32 = 0x12f;
/// `TPM_RC_REBOOT`.
pub const REBOOT: u32 = 0x130;
/// `TPM_RC_UNBALANCED`.
pub const UNBALANCED: u32 = 0x131;
/// `TPM_RC_COMMAND_SIZE`.
pub const COMMAND_SIZE: u32 = 0x142;
/// `TPM_RC_COMMAND_CODE`.
pub const COMMAND_CODE: u32 = 0x143;
/// `TPM_RC_AUTHSIZE`.
pub const AUTHSIZE: u32 = 0x144;
/// `TPM_RC_AUTH_CONTEXT`.
pub const AUTH_CONTEXT: u32 = 0x145;
/// `TPM_RC_NV_RANGE`.
pub const NV_RANGE: u32 = 0x146;
/// `TPM_RC_NV_SIZE`.
pub const NV_SIZE: u32 = 0x147;
/// `TPM_RC_NV_LOCKED`.
pub const NV_LOCKED: u32 = 0x148;
/// `TPM_RC_NV_AUTHORIZATION`.
pub const NV_AUTHORIZATION: u32 = 0x149;
/// `TPM_RC_NV_UNINITIALIZED`.
pub const NV_UNINITIALIZED: u32 = 0x14a;
/// `TPM_RC_NV_SPACE`.
pub const NV_SPACE: u32 = 0x14b;
/// `TPM_RC_NV_DEFINED`.
pub const NV_DEFINED: u32 = 0x14c;
/// `TPM_RC_BAD_CONTEXT`.
pub const BAD_CONTEXT: u32 = 0x150;
/// `TPM_RC_CPHASH`.
pub const CPHASH: u32 = 0x151;
/// `TPM_RC_PARENT`.
pub const PARENT: u32 = 0x152;
/// `TPM_RC_NEEDS_TEST`.
pub const NEEDS_TEST: u32 = 0x153;
/// `TPM_RC_NO_RESULT`.
pub const NO_RESULT: u32 = 0x154;
/// `TPM_RC_SENSITIVE`.
pub const SENSITIVE: u32 = 0x155;
/// `TPM_RC_ASYMMETRIC` (format 1).
pub const ASYMMETRIC: u32 = 0x81;
/// `TPM_RC_ATTRIBUTES` (format 1).
pub const ATTRIBUTES: u32 = 0x82;
/// `TPM_RC_HASH` (format 1).
pub const HASH: u32 = 0x83;
/// `TPM_RC_VALUE` (format 1).
pub const VALUE: u32 = 0x84;
/// `TPM_RC_HIERARCHY` (format 1).
pub const HIERARCHY: u32 = 0x85;
/// `TPM_RC_KEY_SIZE` (format 1).
pub const KEY_SIZE: u32 = 0x87;
/// `TPM_RC_MGF` (format 1).
pub const MGF: u32 = 0x88;
/// `TPM_RC_MODE` (format 1).
pub const MODE: u32 = 0x89;
/// `TPM_RC_TYPE` (format 1).
pub const TYPE: u32 = 0x8a;
/// `TPM_RC_HANDLE` (format 1).
pub const HANDLE: u32 = 0x8b;
/// `TPM_RC_KDF` (format 1).
pub const KDF: u32 = 0x8c;
/// `TPM_RC_RANGE` (format 1).
pub const RANGE: u32 = 0x8d;
/// `TPM_RC_AUTH_FAIL` (format 1).
pub const AUTH_FAIL: u32 = 0x8e;
/// `TPM_RC_NONCE` (format 1).
pub const NONCE: u32 = 0x8f;
/// `TPM_RC_PP` (format 1).
pub const PP: u32 = 0x90;
/// `TPM_RC_SCHEME` (format 1).
pub const SCHEME: u32 = 0x92;
/// `TPM_RC_SIZE` (format 1).
pub const SIZE: u32 = 0x95;
/// `TPM_RC_SYMMETRIC` (format 1).
pub const SYMMETRIC: u32 = 0x96;
/// `TPM_RC_TAG` (format 1).
pub const TAG: u32 = 0x97;
/// `TPM_RC_SELECTOR` (format 1).
pub const SELECTOR: u32 = 0x98;
/// `TPM_RC_INSUFFICIENT` (format 1).
pub const INSUFFICIENT: u32 = 0x9a;
/// `TPM_RC_SIGNATURE` (format 1).
pub const SIGNATURE: u32 = 0x9b;
/// `TPM_RC_KEY` (format 1).
pub const KEY: u32 = 0x9c;
/// `TPM_RC_POLICY_FAIL` (format 1).
pub const POLICY_FAIL: u32 = 0x9d;
/// `TPM_RC_INTEGRITY` (format 1).
pub const INTEGRITY: u32 = 0x9f;
/// `TPM_RC_TICKET` (format 1).
pub const TICKET: u32 = 0xa0;
/// `TPM_RC_RESERVED_BITS` (format 1).
pub const RESERVED_BITS: u32 = 0xa1;
/// `TPM_RC_BAD_AUTH` (format 1).
pub const BAD_AUTH: u32 = 0xa2;
/// `TPM_RC_EXPIRED` (format 1).
pub const EXPIRED: u32 = 0xa3;
/// `TPM_RC_POLICY_CC` (format 1).
pub const POLICY_CC: u32 = 0xa4;
/// `TPM_RC_BINDING` (format 1).
pub const BINDING: u32 = 0xa5;
/// `TPM_RC_CURVE` (format 1).
pub const CURVE: u32 = 0xa6;
/// `TPM_RC_ECC_POINT` (format 1).
pub const ECC_POINT: u32 = 0xa7;
/// `TPM_RC_CONTEXT_GAP` (a warning).
pub const CONTEXT_GAP: u32 = 0x901;
/// `TPM_RC_OBJECT_MEMORY` (a warning).
pub const OBJECT_MEMORY: u32 = 0x902;
/// `TPM_RC_SESSION_MEMORY` (a warning).
pub const SESSION_MEMORY: u32 = 0x903;
/// `TPM_RC_MEMORY` (a warning).
pub const MEMORY: u32 = 0x904;
/// `TPM_RC_SESSION_HANDLES` (a warning).
pub const SESSION_HANDLES: u32 = 0x905;
/// `TPM_RC_OBJECT_HANDLES` (a warning).
pub const OBJECT_HANDLES: u32 = 0x906;
/// `TPM_RC_LOCALITY` (a warning).
pub const LOCALITY: u32 = 0x907;
/// `TPM_RC_YIELDED` (a warning).
pub const YIELDED: u32 = 0x908;
/// `TPM_RC_CANCELED` (a warning).
pub const CANCELED: u32 = 0x909;
/// `TPM_RC_TESTING` (a warning).
pub const TESTING: u32 = 0x90a;
/// `TPM_RC_REFERENCE_H0` (a warning).
pub const REFERENCE_H0: u32 = 0x910;
/// `TPM_RC_REFERENCE_H1` (a warning).
pub const REFERENCE_H1: u32 = 0x911;
/// `TPM_RC_REFERENCE_H2` (a warning).
pub const REFERENCE_H2: u32 = 0x912;
/// `TPM_RC_REFERENCE_H3` (a warning).
pub const REFERENCE_H3: u32 = 0x913;
/// `TPM_RC_REFERENCE_H4` (a warning).
pub const REFERENCE_H4: u32 = 0x914;
/// `TPM_RC_REFERENCE_H5` (a warning).
pub const REFERENCE_H5: u32 = 0x915;
/// `TPM_RC_REFERENCE_H6` (a warning).
pub const REFERENCE_H6: u32 = 0x916;
/// `TPM_RC_REFERENCE_S0` (a warning).
pub const REFERENCE_S0: u32 = 0x918;
/// `TPM_RC_REFERENCE_S1` (a warning).
pub const REFERENCE_S1: u32 = 0x919;
/// `TPM_RC_REFERENCE_S2` (a warning).
pub const REFERENCE_S2: u32 = 0x91a;
/// `TPM_RC_REFERENCE_S3` (a warning).
pub const REFERENCE_S3: u32 = 0x91b;
/// `TPM_RC_REFERENCE_S4` (a warning).
pub const REFERENCE_S4: u32 = 0x91c;
/// `TPM_RC_REFERENCE_S5` (a warning).
pub const REFERENCE_S5: u32 = 0x91d;
/// `TPM_RC_REFERENCE_S6` (a warning).
pub const REFERENCE_S6: u32 = 0x91e;
/// `TPM_RC_NV_RATE` (a warning).
pub const NV_RATE: u32 = 0x920;
/// `TPM_RC_LOCKOUT` (a warning).
pub const LOCKOUT: u32 = 0x921;
/// `TPM_RC_RETRY` (a warning).
pub const RETRY: u32 = 0x922;
/// `TPM_RC_NV_UNAVAILABLE` (a warning).
pub const NV_UNAVAILABLE: u32 = 0x923;
/// The bit of a format 1 code.
const FORMAT_1: u32 = 1 << 7;

/// The code without the number of the parameter, handle or session that it blames.
#[must_use]
pub const fn kind(code: u32) -> u32 {
    if code & FORMAT_1 != 0 && code >> 12 == 0 { code & 0xbf } else { code }
}

/// What a format 1 code blames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blamed {
    /// A parameter, counted from 1.
    Parameter(u8),
    /// A handle, counted from 1.
    Handle(u8),
    /// A session, counted from 1.
    Session(u8),
}

/// What a code blames, if it names anything.
#[must_use]
pub const fn blamed(code: u32) -> Option<Blamed> {
    let number = (code >> 8 & 0xf) as u8;
    if code & FORMAT_1 == 0 || code >> 12 != 0 || number == 0 {
        None
    } else if code & 1 << 6 != 0 {
        Some(Blamed::Parameter(number))
    } else if number & 8 == 0 {
        Some(Blamed::Handle(number))
    } else if number & 7 != 0 {
        Some(Blamed::Session(number & 7))
    } else {
        None
    }
}

/// Whether the same command can be sent again after a pause: the chip is busy, is testing itself or spares its memory.
#[must_use]
pub const fn is_busy(code: u32) -> bool {
    matches!(code, YIELDED | TESTING | CANCELED | RETRY | NV_RATE | NV_UNAVAILABLE)
}

/// The specification's name of a code; "an error" for one that it does not have.
#[must_use]
pub const fn name(code: u32) -> &'static str {
    match kind(code) {
        0 => "TPM_RC_SUCCESS",
        // What a chip answers to a packet with a tag that it does not know, the same number as in TPM 1.2.
        0x1e => "TPM_RC_BAD_TAG",
        INITIALIZE => "TPM_RC_INITIALIZE",
        FAILURE => "TPM_RC_FAILURE",
        SEQUENCE => "TPM_RC_SEQUENCE",
        DISABLED => "TPM_RC_DISABLED",
        EXCLUSIVE => "TPM_RC_EXCLUSIVE",
        AUTH_TYPE => "TPM_RC_AUTH_TYPE",
        AUTH_MISSING => "TPM_RC_AUTH_MISSING",
        POLICY => "TPM_RC_POLICY",
        PCR => "TPM_RC_PCR",
        PCR_CHANGED => "TPM_RC_PCR_CHANGED",
        UPGRADE => "TPM_RC_UPGRADE",
        TOO_MANY_CONTEXTS => "TPM_RC_TOO_MANY_CONTEXTS",
        AUTH_UNAVAILABLE => "TPM_RC_AUTH_UNAVAILABLE",
        REBOOT => "TPM_RC_REBOOT",
        UNBALANCED => "TPM_RC_UNBALANCED",
        COMMAND_SIZE => "TPM_RC_COMMAND_SIZE",
        COMMAND_CODE => "TPM_RC_COMMAND_CODE",
        AUTHSIZE => "TPM_RC_AUTHSIZE",
        AUTH_CONTEXT => "TPM_RC_AUTH_CONTEXT",
        NV_RANGE => "TPM_RC_NV_RANGE",
        NV_SIZE => "TPM_RC_NV_SIZE",
        NV_LOCKED => "TPM_RC_NV_LOCKED",
        NV_AUTHORIZATION => "TPM_RC_NV_AUTHORIZATION",
        NV_UNINITIALIZED => "TPM_RC_NV_UNINITIALIZED",
        NV_SPACE => "TPM_RC_NV_SPACE",
        NV_DEFINED => "TPM_RC_NV_DEFINED",
        BAD_CONTEXT => "TPM_RC_BAD_CONTEXT",
        CPHASH => "TPM_RC_CPHASH",
        PARENT => "TPM_RC_PARENT",
        NEEDS_TEST => "TPM_RC_NEEDS_TEST",
        NO_RESULT => "TPM_RC_NO_RESULT",
        SENSITIVE => "TPM_RC_SENSITIVE",
        ASYMMETRIC => "TPM_RC_ASYMMETRIC",
        ATTRIBUTES => "TPM_RC_ATTRIBUTES",
        HASH => "TPM_RC_HASH",
        VALUE => "TPM_RC_VALUE",
        HIERARCHY => "TPM_RC_HIERARCHY",
        KEY_SIZE => "TPM_RC_KEY_SIZE",
        MGF => "TPM_RC_MGF",
        MODE => "TPM_RC_MODE",
        TYPE => "TPM_RC_TYPE",
        HANDLE => "TPM_RC_HANDLE",
        KDF => "TPM_RC_KDF",
        RANGE => "TPM_RC_RANGE",
        AUTH_FAIL => "TPM_RC_AUTH_FAIL",
        NONCE => "TPM_RC_NONCE",
        PP => "TPM_RC_PP",
        SCHEME => "TPM_RC_SCHEME",
        SIZE => "TPM_RC_SIZE",
        SYMMETRIC => "TPM_RC_SYMMETRIC",
        TAG => "TPM_RC_TAG",
        SELECTOR => "TPM_RC_SELECTOR",
        INSUFFICIENT => "TPM_RC_INSUFFICIENT",
        SIGNATURE => "TPM_RC_SIGNATURE",
        KEY => "TPM_RC_KEY",
        POLICY_FAIL => "TPM_RC_POLICY_FAIL",
        INTEGRITY => "TPM_RC_INTEGRITY",
        TICKET => "TPM_RC_TICKET",
        RESERVED_BITS => "TPM_RC_RESERVED_BITS",
        BAD_AUTH => "TPM_RC_BAD_AUTH",
        EXPIRED => "TPM_RC_EXPIRED",
        POLICY_CC => "TPM_RC_POLICY_CC",
        BINDING => "TPM_RC_BINDING",
        CURVE => "TPM_RC_CURVE",
        ECC_POINT => "TPM_RC_ECC_POINT",
        CONTEXT_GAP => "TPM_RC_CONTEXT_GAP",
        OBJECT_MEMORY => "TPM_RC_OBJECT_MEMORY",
        SESSION_MEMORY => "TPM_RC_SESSION_MEMORY",
        MEMORY => "TPM_RC_MEMORY",
        SESSION_HANDLES => "TPM_RC_SESSION_HANDLES",
        OBJECT_HANDLES => "TPM_RC_OBJECT_HANDLES",
        LOCALITY => "TPM_RC_LOCALITY",
        YIELDED => "TPM_RC_YIELDED",
        CANCELED => "TPM_RC_CANCELED",
        TESTING => "TPM_RC_TESTING",
        REFERENCE_H0 => "TPM_RC_REFERENCE_H0",
        REFERENCE_H1 => "TPM_RC_REFERENCE_H1",
        REFERENCE_H2 => "TPM_RC_REFERENCE_H2",
        REFERENCE_H3 => "TPM_RC_REFERENCE_H3",
        REFERENCE_H4 => "TPM_RC_REFERENCE_H4",
        REFERENCE_H5 => "TPM_RC_REFERENCE_H5",
        REFERENCE_H6 => "TPM_RC_REFERENCE_H6",
        REFERENCE_S0 => "TPM_RC_REFERENCE_S0",
        REFERENCE_S1 => "TPM_RC_REFERENCE_S1",
        REFERENCE_S2 => "TPM_RC_REFERENCE_S2",
        REFERENCE_S3 => "TPM_RC_REFERENCE_S3",
        REFERENCE_S4 => "TPM_RC_REFERENCE_S4",
        REFERENCE_S5 => "TPM_RC_REFERENCE_S5",
        REFERENCE_S6 => "TPM_RC_REFERENCE_S6",
        NV_RATE => "TPM_RC_NV_RATE",
        LOCKOUT => "TPM_RC_LOCKOUT",
        RETRY => "TPM_RC_RETRY",
        NV_UNAVAILABLE => "TPM_RC_NV_UNAVAILABLE",
        _ => "an error",
    }
}

/// A code with its name and what it blames, for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Described(pub u32);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self.0))?;
        match blamed(self.0) {
            Some(Blamed::Parameter(n)) => write!(f, " for parameter {n}"),
            Some(Blamed::Handle(n)) => write!(f, " for handle {n}"),
            Some(Blamed::Session(n)) => write!(f, " for session {n}"),
            None => Ok(()),
        }
    }
}
