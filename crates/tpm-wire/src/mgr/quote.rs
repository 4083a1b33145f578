//! Quotes of the hardware TPM for a vTPM: the request, the answer, and what is signed.

use super::{ORD_GET_QUOTE, Refused, TAG_REQ, code, end, read_selection, read16, sized16, write_selection};
use crate::cursor::{Reader, Writer};
use crate::header::HEADER_SIZE;
use alloc::vec::Vec;

/// Flags of a quote (`VTPM_QUOTE_FLAGS_*`): each adds a SHA-1 hash to what is signed, in ascending order.
pub mod quote_flags {
    /// SHA-1 of the vTPM's UUID.
    pub const UUID: u32 = 1;
    /// SHA-1 of the vTPM's kernel hash, which is SHA-1 of its label.
    pub const MEASUREMENT: u32 = 2;
    /// SHA-1 of SAA key ‖ sequence ‖ count ‖ composites ‖ count ‖ kernel hashes.
    pub const GROUP_INFO: u32 = 4;
    /// SHA-1 of the SAA key; 256 zero bytes if the group has none.
    pub const GROUP_PUBKEY: u32 = 8;
}

/// All flags there are.
pub const QUOTE_FLAGS: u32 =
    quote_flags::UUID | quote_flags::MEASUREMENT | quote_flags::GROUP_INFO | quote_flags::GROUP_PUBKEY;

/// What the hashes in the answer to GROUP_QUOTE are: SHA-1 of the *group's* UUID, and the group info.
pub const GROUP_QUOTE_FLAGS: u32 = quote_flags::UUID | quote_flags::GROUP_INFO;

/// GET_QUOTE: 20 bytes of data, PCR selection (16-bit length, bitmap), 32 bits of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuoteRequest {
    /// The verifier's nonce, or a hash of what a vTPM vouches for.
    pub data: [u8; 20],
    /// The chip's PCRs 0 to 23.
    pub pcrs: u32,
    /// [`quote_flags`].
    pub flags: u32,
}

impl QuoteRequest {
    /// The whole request.
    pub fn to_packet(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        let mut out = Writer::new(&mut packet);
        out.u16(TAG_REQ).u32(HEADER_SIZE as u32 + 20 + 5 + 4).u32(ORD_GET_QUOTE).bytes(&self.data);
        write_selection(&mut out, self.pcrs);
        out.u32(self.flags);
        packet
    }

    /// Reads the parameters; else a code.
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        let mut from = Reader::new(body);
        let (data, pcrs, flags) = (from.array()?, read_selection(&mut from)?, from.u32()?);
        end(&from)?;
        if flags & !QUOTE_FLAGS != 0 {
            return Err(Refused(code::INVALID_REQUEST));
        }
        Ok(Self { data, pcrs, flags })
    }
}

/// What SHA-1 makes the external data (1.2) or qualifying data (2.0) of: flags (32 bits, big-endian) ‖ `data` ‖ one SHA-1 hash for each
/// flag, ascending. The C manager takes the flags in its processor's order, which on x86 is the other one.
pub fn external_data_preimage(flags: u32, data: &[u8; 20], hashes: &[[u8; 20]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Writer::new(&mut bytes);
    out.u32(flags).bytes(data);
    hashes.iter().for_each(|hash| {
        out.bytes(hash);
    });
    bytes
}

/// What SHA-1 makes the external data of a GROUP_QUOTE of: `SHOW` ‖ nonce ‖ the two hashes of [`GROUP_QUOTE_FLAGS`]. No quote for a vTPM
/// begins with these letters, as flags they do not exist.
pub fn group_quote_preimage(nonce: &[u8; 20], hashes: &[[u8; 20]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Writer::new(&mut bytes);
    out.bytes(b"SHOW").bytes(nonce);
    hashes.iter().for_each(|hash| {
        out.bytes(hash);
    });
    bytes
}

/// What proves it: the body of the answers to GET_QUOTE and GROUP_QUOTE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// A TPM 1.2's, in the C manager's layout: 256 bytes signature, hashes, PCR values (20 bytes each).
    Tpm12 {
        /// RSASSA-PKCS1-v1.5 with SHA-1 over the `TPM_QUOTE_INFO`.
        signature: Vec<u8>,
        /// One for each flag.
        hashes: Vec<[u8; 20]>,
        /// In ascending order of PCR.
        pcrs: Vec<Vec<u8>>,
    },
    /// A TPM 2.0's: length (16 bits) and bytes of the `TPMS_ATTEST`, the same of the `TPMT_SIGNATURE`, hashes, PCR values.
    Tpm20 {
        /// `TPMS_ATTEST`, as signed. Its `pcrSelect` says which bank was quoted.
        attest: Vec<u8>,
        /// `TPMT_SIGNATURE`.
        signature: Vec<u8>,
        /// One for each flag.
        hashes: Vec<[u8; 20]>,
        /// In ascending order of PCR, each as long as the bank's digests.
        pcrs: Vec<Vec<u8>>,
    },
}

impl Evidence {
    /// The body of the answer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        let (hashes, pcrs) = match self {
            Self::Tpm12 { signature, hashes, pcrs } => {
                out.bytes(signature);
                (hashes, pcrs)
            }
            Self::Tpm20 { attest, signature, hashes, pcrs } => {
                sized16(&mut out, attest);
                sized16(&mut out, signature);
                (hashes, pcrs)
            }
        };
        hashes.iter().for_each(|hash| {
            out.bytes(hash);
        });
        pcrs.iter().for_each(|value| {
            out.bytes(value);
        });
        bytes
    }

    /// Reads a TPM 1.2's answer to a request with these flags and PCRs.
    pub fn parse_12(body: &[u8], flags: u32, pcrs: u32) -> Option<Self> {
        let mut from = Reader::new(body);
        let signature = from.bytes(256).ok()?.to_vec();
        let hashes = arrays(&mut from, flags.count_ones())?;
        let pcrs = arrays::<20>(&mut from, pcrs.count_ones())?.iter().map(|value| value.to_vec()).collect();
        from.is_empty().then_some(Self::Tpm12 { signature, hashes, pcrs })
    }

    /// Reads a TPM 2.0's answer to a request with these flags and PCRs; `digest_size` is that of the bank which was quoted.
    pub fn parse_20(body: &[u8], flags: u32, pcrs: u32, digest_size: usize) -> Option<Self> {
        let mut from = Reader::new(body);
        let (attest, signature) = (read16(&mut from).ok()?.to_vec(), read16(&mut from).ok()?.to_vec());
        let hashes = arrays(&mut from, flags.count_ones())?;
        let pcrs = (0..pcrs.count_ones())
            .map(|_| from.bytes(digest_size).map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()
            .ok()?;
        from.is_empty().then_some(Self::Tpm20 { attest, signature, hashes, pcrs })
    }
}

fn arrays<const N: usize>(from: &mut Reader<'_>, n: u32) -> Option<Vec<[u8; N]>> {
    (0..n).map(|_| from.array().ok()).collect()
}
