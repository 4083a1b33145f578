//! TPM 2.0 commands (TPM 2.0 Library, part 3).

use crate::bench::{Bench, command, ensure};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use tpm_tis::{Interface, TisError};
use tpm_wire::{HEADER_SIZE, Reader, Writer};

/// The longest command through the buffer of a CRB.
pub const LONGEST_CRB: usize = 3968;

const ST_NO_SESSIONS: u16 = 0x8001;
const ST_SESSIONS: u16 = 0x8002;
const RS_PW: u32 = 0x4000_0009;
const RH_NULL: u32 = 0x4000_0007;

const CC_CREATE_PRIMARY: u32 = 0x131;
const CC_SELF_TEST: u32 = 0x143;
const CC_STARTUP: u32 = 0x144;
const CC_GET_CAPABILITY: u32 = 0x17a;
const CC_GET_RANDOM: u32 = 0x17b;
const CC_HASH: u32 = 0x17d;
const CC_PCR_READ: u32 = 0x17e;
const CC_PCR_EXTEND: u32 = 0x182;

const ALG_RSA: u16 = 1;
const ALG_AES: u16 = 6;
const ALG_SHA256: u16 = 0xb;
const ALG_NULL: u16 = 0x10;
const ALG_CFB: u16 = 0x43;

const RC_INITIALIZE: u32 = 0x100;
const RC_COMMAND_CODE: u32 = 0x143;
const RC_CANCELED: u32 = 0x909;

/// SHA-256 of 1024 zero bytes.
const SHA256_OF_ZEROS: [u8; 32] = [
    0x5f, 0x70, 0xbf, 0x18, 0xa0, 0x86, 0x00, 0x70, 0x16, 0xe9, 0x48, 0xb0, 0x4a, 0xed, 0x3b, 0x82, 0x10, 0x3a, 0x36,
    0xbe, 0xa4, 0x17, 0x55, 0xb6, 0xcd, 0xdf, 0xaf, 0x10, 0xac, 0xe3, 0xc6, 0xef,
];

fn plain(code: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    command(ST_NO_SESSIONS, code, fill)
}

/// An empty password for one handle.
fn empty_password(w: &mut Writer<'_>) {
    w.u32(9).u32(RS_PW).u16(0).u8(0).u16(0);
}

pub fn get_random(count: u16) -> Vec<u8> {
    plain(CC_GET_RANDOM, |w| {
        w.u16(count);
    })
}

fn pcr_read(bench: &mut Bench) -> Result<[u8; 32], String> {
    let body = bench.succeed(&plain(CC_PCR_READ, |w| {
        // One selection: PCR 16 of the SHA-256 bank.
        w.u32(1).u16(ALG_SHA256).u8(3).bytes(&[0, 0, 1]);
    }))?;
    let mut reader = Reader::new(&body);
    // Update counter, the selection again, one digest of 32 bytes.
    reader.bytes(4 + 10 + 4 + 2).and_then(|_| reader.array()).map_err(|error| format!("{error}: {body:02x?}"))
}

/// A command of `len` bytes that no TPM knows.
pub fn unknown(len: usize) -> Vec<u8> {
    plain(0x0fff, |w| {
        w.bytes(&alloc::vec![0; len.saturating_sub(HEADER_SIZE)]);
    })
}

/// The making of an RSA 3072 key, which takes long.
pub fn create_primary() -> Vec<u8> {
    command(ST_SESSIONS, CC_CREATE_PRIMARY, |w| {
        w.u32(RH_NULL);
        empty_password(w);
        w.u16(4).u16(0).u16(0);
        let mut public = Vec::new();
        // A restricted storage key (fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth), AES-128-CFB, RSA 3072.
        Writer::new(&mut public)
            .u16(ALG_RSA)
            .u16(ALG_SHA256)
            .u32(0x0003_0072)
            .u16(0)
            .u16(ALG_AES)
            .u16(128)
            .u16(ALG_CFB)
            .u16(ALG_NULL)
            .u16(3072)
            .u32(0)
            .u16(0);
        w.u16(public.len() as u16).bytes(&public).u16(0).u32(0);
    })
}

pub fn run(bench: &mut Bench) {
    bench.check("TPM2_Startup, or started already", |b| {
        let (code, _) = b.transmit(&plain(CC_STARTUP, |w| {
            w.u16(0);
        }))?;
        ensure(code == 0 || code == RC_INITIALIZE, || format!("error {code:#x}"))
    });
    bench.check("TPM2_SelfTest", |b| {
        b.succeed(&plain(CC_SELF_TEST, |w| {
            w.u8(1);
        }))
        .map(drop)
    });
    bench.check("TPM2_GetCapability: family", |b| {
        let body = b.succeed(&plain(CC_GET_CAPABILITY, |w| {
            // TPM_CAP_TPM_PROPERTIES, TPM_PT_FAMILY_INDICATOR, one.
            w.u32(6).u32(0x100).u32(1);
        }))?;
        ensure(body.ends_with(b"2.0\0"), || format!("{body:02x?}"))
    });
    bench.check("TPM2_GetRandom", |b| {
        let (one, two) = (b.succeed(&get_random(32))?, b.succeed(&get_random(32))?);
        ensure(one.len() == 34 && one != two, || format!("{} and {} bytes", one.len(), two.len()))
    });
    bench.check("TPM2_GetCapability: a long response", |b| {
        let body = b.succeed(&plain(CC_GET_CAPABILITY, |w| {
            // TPM_CAP_COMMANDS from the first on.
            w.u32(2).u32(0x11f).u32(256);
        }))?;
        ensure(body.len() > 300, || format!("{} bytes", body.len()))
    });
    bench.check("TPM2_PCR_Read, TPM2_PCR_Extend, TPM2_PCR_Read", |b| {
        let before = pcr_read(b)?;
        b.succeed(&command(ST_SESSIONS, CC_PCR_EXTEND, |w| {
            w.u32(16);
            empty_password(w);
            w.u32(1).u16(ALG_SHA256).bytes(&[0x5a; 32]);
        }))?;
        let after = pcr_read(b)?;
        ensure(after != before, || format!("{before:02x?} both times"))
    });
    bench.check("TPM2_Hash of 1024 bytes", |b| {
        let body = b.succeed(&plain(CC_HASH, |w| {
            w.u16(1024).bytes(&[0; 1024]).u16(ALG_SHA256).u32(RH_NULL);
        }))?;
        ensure(body.get(2..34) == Some(&SHA256_OF_ZEROS), || format!("{body:02x?}"))
    });
    bench.check("a wrong tag is refused by a bare header", |b| {
        let wrong = command(0x1234, CC_GET_RANDOM, |w| {
            w.u16(8);
        });
        // The specification says TPM_RC_BAD_TAG; software TPMs answer TPM_RC_VALUE as well.
        let (code, body) = b.transmit(&wrong)?;
        ensure(code != 0 && body.is_empty(), || format!("code {code:#x}, {} bytes", body.len()))
    });
    bench.check("an unknown command is TPM_RC_COMMAND_CODE", |b| b.refuse(&plain(0x0fff, |_| ()), RC_COMMAND_CODE));
    let longest = match bench.interface {
        Interface::Fifo => 4096,
        Interface::Crb => LONGEST_CRB,
    };
    bench.check(&format!("{longest} bytes of an unknown command are TPM_RC_COMMAND_CODE"), |b| {
        b.refuse(&unknown(longest), RC_COMMAND_CODE)
    });
    bench.check("a key generation is cancelled, and the next command works", |b| {
        let create = create_primary();
        let (result, took) = b.raw(&create, Some(Duration::from_millis(50)));
        let code = result.as_ref().ok().and_then(|response| Reader::new(response.get(6..)?).u32().ok());
        let ended = matches!(code, Some(0 | RC_CANCELED)) || result == Err(TisError::Cancelled);
        ensure(ended && took < Duration::from_secs(10), || format!("{result:02x?} after {took:?}"))?;
        log::info!(target: "probe", "cancel: code {code:x?} after {} ms", took.as_millis());
        b.succeed_within(&get_random(16), Duration::from_secs(60)).map(drop)
    });
}
