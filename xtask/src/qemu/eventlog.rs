//! The firmware's event log of a TPM 1.2, replayed.
//!
//! Layout: TCG PC Client Specific Implementation Specification for Conventional BIOS 1.21, section 11.3.1.1
//! (`TCG_PCClientPCREventStruc`): PCR u32 LE, type u32 LE, SHA-1 digest, size u32 LE, and so many bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tpm_crypto::sha1;

/// A PCR's value.
pub type Digest = [u8; 20];

/// Events of this type are not extended (`EV_NO_ACTION`).
const NO_ACTION: u32 = 3;

/// The values of all PCRs that the log mentions, as they are after its last event, and the number of events.
pub fn replay(log: &[u8]) -> Result<(BTreeMap<u32, Digest>, usize)> {
    let mut pcrs: BTreeMap<u32, Digest> = BTreeMap::new();
    let mut rest = log;
    let mut events = 0;
    while !rest.is_empty() {
        let (pcr, kind, digest, after) =
            event(rest).with_context(|| format!("event {events} of the log is cut off"))?;
        if kind != NO_ACTION {
            let value = pcrs.entry(pcr).or_insert([0; 20]);
            *value = extended(value, &digest);
        }
        events += 1;
        rest = after;
    }
    Ok((pcrs, events))
}

/// What `TPM_Extend` makes of a PCR.
pub fn extended(value: &Digest, by: &Digest) -> Digest {
    sha1(&[value, by])
}

fn event(log: &[u8]) -> Option<(u32, u32, Digest, &[u8])> {
    let (pcr, rest) = log.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (digest, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (_, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)?;
    Some((u32::from_le_bytes(*pcr), u32::from_le_bytes(*kind), *digest, rest))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pcr: u32, kind: u32, digest: u8, data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        [&pcr.to_le_bytes()[..], &kind.to_le_bytes(), &[digest; 20], &size.to_le_bytes(), data].concat()
    }

    #[test]
    fn a_log_gives_the_values_of_its_pcrs() {
        let log = [event(0, 8, 1, b"version"), event(4, 4, 2, &[]), event(0, NO_ACTION, 3, b"x"), event(0, 4, 4, b"y")];
        let (pcrs, events) = replay(&log.concat()).unwrap();
        assert_eq!(events, 4);
        assert_eq!(pcrs.len(), 2);
        let first = sha1(&[&[0; 20], &[1; 20]]);
        assert_eq!(pcrs[&0], sha1(&[&first, &[4; 20]]));
        assert_eq!(pcrs[&4], sha1(&[&[0; 20], &[2; 20]]));
    }

    #[test]
    fn a_cut_log_is_refused() {
        let log = event(0, 8, 1, b"version");
        for size in 1..log.len() {
            assert!(replay(&log[..size]).is_err(), "{size} bytes");
        }
        assert_eq!(replay(&[]).unwrap().1, 0);
    }
}
