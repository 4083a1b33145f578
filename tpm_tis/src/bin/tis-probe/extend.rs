//! `extend FAMILY PCR`: extends one PCR of every bank by a digest of 0x5a bytes, for tests that need a machine which has
//! started something else. It works in a domain on Xen as well, where the domain has the registers (`iomem=`).

use crate::bench::{Bench, Check, command};
use alloc::format;
use tpm_tis::Family;
use tpm_wire::v12::TAG_RQU_COMMAND;

const ORD_EXTEND: u32 = 0x14;
const ST_SESSIONS: u16 = 0x8002;
const RS_PW: u32 = 0x4000_0009;
const CC_PCR_EXTEND: u32 = 0x182;
/// TPM_ALG_SHA1, _SHA256, _SHA384, and the sizes of their digests.
const BANKS: [(u16, usize); 3] = [(4, 20), (0xb, 32), (0xc, 48)];

/// Extends PCR `index` at locality 0, which is given back.
pub fn run(bench: &mut Bench, index: u32) {
    bench.check(&format!("PCR {index} is extended"), |bench| {
        let outcome = extend(bench, index);
        bench.leave();
        outcome
    });
}

fn extend(bench: &mut Bench, index: u32) -> Check {
    let digest = [0x5a; 48];
    let command = match bench.family {
        Family::Tpm12 => command(TAG_RQU_COMMAND, ORD_EXTEND, |w| {
            w.u32(index).bytes(&digest[..20]);
        }),
        Family::Tpm20 => command(ST_SESSIONS, CC_PCR_EXTEND, |w| {
            // An empty password, then one digest for each bank.
            w.u32(index).u32(9).u32(RS_PW).u16(0).u8(0).u16(0).u32(3);
            for (algorithm, size) in BANKS {
                w.u16(algorithm).bytes(&digest[..size]);
            }
        }),
    };
    bench.succeed(&command).map(drop)
}
