//! TPM 1.2 commands (TPM Main 1.2, part 3).

use crate::bench::{Bench, command, ensure};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use tpm_tis::TisError;
use tpm_wire::v12::TAG_RQU_COMMAND;
use tpm_wire::{Reader, Writer};

const ORD_EXTEND: u32 = 0x14;
const ORD_PCR_READ: u32 = 0x15;
const ORD_GET_RANDOM: u32 = 0x46;
const ORD_SELF_TEST_FULL: u32 = 0x50;
const ORD_GET_CAPABILITY: u32 = 0x65;
const ORD_CREATE_ENDORSEMENT_KEY_PAIR: u32 = 0x78;
const ORD_STARTUP: u32 = 0x99;
const ORD_SHA1_START: u32 = 0xa0;
const ORD_SHA1_UPDATE: u32 = 0xa1;
const ORD_SHA1_COMPLETE: u32 = 0xa2;

const BAD_ORDINAL: u32 = 10;
const BADTAG: u32 = 30;
const INVALID_POSTINIT: u32 = 38;

/// SHA-1 of 1024 zero bytes.
const SHA1_OF_ZEROS: [u8; 20] = [
    0x60, 0xca, 0xcb, 0xf3, 0xd7, 0x2e, 0x1e, 0x78, 0x34, 0x20, 0x3d, 0xa6, 0x08, 0x03, 0x7b, 0x1b, 0xf8, 0x3b, 0x40,
    0xe8,
];

fn rqu(ordinal: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    command(TAG_RQU_COMMAND, ordinal, fill)
}

fn bytes20(body: &[u8]) -> Result<[u8; 20], String> {
    Reader::new(body).array().map_err(|error| format!("{error}"))
}

fn pcr_read(bench: &mut Bench) -> Result<[u8; 20], String> {
    let body = bench.succeed(&rqu(ORD_PCR_READ, |w| {
        w.u32(10);
    }))?;
    bytes20(&body)
}

pub fn get_random(count: u32) -> Vec<u8> {
    rqu(ORD_GET_RANDOM, |w| {
        w.u32(count);
    })
}

/// The timeouts that the chip reports, in microseconds.
fn reported_timeouts(bench: &mut Bench) -> Result<[u32; 4], String> {
    let body = bench.succeed(&rqu(ORD_GET_CAPABILITY, |w| {
        w.u32(5).u32(4).u32(0x115);
    }))?;
    let mut reader = Reader::new(&body);
    let mut next = || reader.u32().map_err(|error| format!("{error}"));
    ensure(next()? == 16, || "TPM_CAP_PROP_TIS_TIMEOUT is not four numbers".into())?;
    Ok([next()?, next()?, next()?, next()?])
}

pub fn run(bench: &mut Bench) {
    bench.check("TPM_Startup, or started already", |b| {
        let (code, _) = b.transmit(&rqu(ORD_STARTUP, |w| {
            w.u16(1);
        }))?;
        ensure(code == 0 || code == INVALID_POSTINIT, || format!("error {code:#x}"))
    });
    bench.check("TPM_SelfTestFull", |b| b.succeed(&rqu(ORD_SELF_TEST_FULL, |_| ())).map(drop));
    bench.check("TPM_GetCapability: version", |b| {
        let body = b.succeed(&rqu(ORD_GET_CAPABILITY, |w| {
            w.u32(0x1a).u32(0);
        }))?;
        ensure(body.get(4..8) == Some(&[0, 0x30, 1, 2]), || format!("no TPM_CAP_VERSION_INFO: {body:02x?}"))
    });
    bench.check("TPM_GetCapability: timeouts raise ours", |b| {
        let reported = reported_timeouts(b)?;
        let raised = b.chip.borrow().timeouts().raised_to(reported);
        b.chip.borrow_mut().set_timeouts(raised);
        ensure(raised.a >= Duration::from_millis(750), || format!("{raised:?}"))
    });
    bench.check("TPM_GetRandom", |b| {
        let (one, two) = (b.succeed(&get_random(32))?, b.succeed(&get_random(32))?);
        ensure(one.len() == 36 && one != two, || format!("{} and {} bytes", one.len(), two.len()))
    });
    bench.check("TPM_GetRandom: a long response", |b| {
        let body = b.succeed(&get_random(3000))?;
        ensure(body.len() > 1000, || format!("{} bytes", body.len()))
    });
    bench.check("TPM_PCRRead, TPM_Extend, TPM_PCRRead", |b| {
        let before = pcr_read(b)?;
        let body = b.succeed(&rqu(ORD_EXTEND, |w| {
            w.u32(10).bytes(&[0x5a; 20]);
        }))?;
        let (extended, after) = (bytes20(&body)?, pcr_read(b)?);
        ensure(extended == after && after != before, || format!("{before:02x?} {extended:02x?} {after:02x?}"))
    });
    bench.check("TPM_SHA1Start, TPM_SHA1Update of 1024 bytes, TPM_SHA1Complete", |b| {
        b.succeed(&rqu(ORD_SHA1_START, |_| ()))?;
        b.succeed(&rqu(ORD_SHA1_UPDATE, |w| {
            w.sized32(&[0; 1024]);
        }))?;
        let body = b.succeed(&rqu(ORD_SHA1_COMPLETE, |w| {
            w.sized32(&[]);
        }))?;
        ensure(bytes20(&body)? == SHA1_OF_ZEROS, || format!("{body:02x?}"))
    });
    bench.check("a wrong tag is TPM_BADTAG", |b| {
        let wrong = command(0x1234, ORD_PCR_READ, |w| {
            w.u32(10);
        });
        b.refuse(&wrong, BADTAG)
    });
    bench.check("an unknown ordinal is TPM_BAD_ORDINAL", |b| b.refuse(&rqu(0x0fff, |_| ()), BAD_ORDINAL));
    bench.check("4096 bytes of an unknown command are TPM_BAD_ORDINAL", |b| {
        let long = rqu(0x0fff, |w| {
            w.bytes(&[0; 4086]);
        });
        b.refuse(&long, BAD_ORDINAL)
    });
    bench.check("a key generation is aborted, and the next command works", |b| {
        let create = rqu(ORD_CREATE_ENDORSEMENT_KEY_PAIR, |w| {
            // antiReplay; RSA 2048, no encryption or signature scheme named, 2 primes, default exponent.
            w.bytes(&[0; 20]).u32(1).u16(3).u16(1).u32(12).u32(2048).u32(2).u32(0);
        });
        let (result, took) = b.raw(&create, Some(Duration::from_millis(2)));
        // A chip that was quicker than the cancel has answered in full.
        let ended = matches!(&result, Err(TisError::Cancelled) | Ok(_));
        ensure(ended && took < Duration::from_secs(10), || format!("{result:02x?} after {took:?}"))?;
        log::info!(target: "probe", "cancel: {} after {} ms", if result.is_ok() { "answered" } else { "aborted" }, took.as_millis());
        b.succeed_within(&get_random(16), Duration::from_secs(60)).map(drop)
    });
}
