//! PCRs of a TPM 1.2 chip, and what vTPMs ask of the hardware.

use super::codes::ord;
use super::{Chip, ChipError, ended, short};
use crate::hardware::{Bank, Digest, PcrCondition, PcrSelection};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Transport, Writer};
use zeroize::Zeroizing;

/// TPM_PCR_SELECTION (part 2, section 8.1).
pub(super) fn put_selection(w: &mut Writer<'_>, selection: PcrSelection) {
    w.u16(3).bytes(&selection.to_bytes());
}

/// SHA-1 of a TPM_PCR_COMPOSITE (part 2, section 8.2): the selection and all values behind one length.
pub(super) fn composite<'v>(selection: PcrSelection, values: impl Iterator<Item = &'v Digest>) -> [u8; 20] {
    let mut all = Vec::new();
    values.for_each(|value| all.extend_from_slice(value));
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    put_selection(&mut w, selection);
    w.sized32(&all);
    sha1(&[&out])
}

impl<T: Transport> Chip<'_, T> {
    /// As [`Self::random`], in one command: the chip may give fewer bytes than asked for.
    pub(crate) async fn vtpm_random(&self, count: u32) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let out = self.call(ord::GET_RANDOM, &count.to_be_bytes()).await?;
        let mut r = Reader::new(&out);
        let bytes = r.sized32().map_err(short(ord::GET_RANDOM))?;
        ended(&r, ord::GET_RANDOM)?;
        if u32::try_from(bytes.len()).is_ok_and(|got| got <= count) {
            Ok(Zeroizing::new(bytes.to_vec()))
        } else {
            Err(ChipError::Malformed { ordinal: ord::GET_RANDOM })
        }
    }

    /// TPM_PCRRead (part 3, section 16.2).
    pub(crate) async fn vtpm_pcr(&self, index: u32) -> Result<[u8; 20], ChipError> {
        digest(ord::PCR_READ, &self.call(ord::PCR_READ, &index.to_be_bytes()).await?)
    }

    /// TPM_Extend (part 3, section 16.1): the PCR's new value.
    pub(crate) async fn extend12(&self, index: u32, digest_in: &[u8; 20]) -> Result<[u8; 20], ChipError> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(index).bytes(digest_in);
        digest(ord::EXTEND, &self.call(ord::EXTEND, &params).await?)
    }

    pub(crate) async fn pcr_values(&self, selection: PcrSelection) -> Result<Vec<(u8, Digest)>, ChipError> {
        let mut values = Vec::new();
        for pcr in selection.iter() {
            values.push((pcr, Digest::from_iter(self.vtpm_pcr(pcr.into()).await?)));
        }
        Ok(values)
    }

    pub(crate) async fn pcr_condition(&self, selection: PcrSelection) -> Result<PcrCondition, ChipError> {
        let values: Vec<Digest> = self.pcr_values(selection).await?.into_iter().map(|(_, value)| value).collect();
        let digest = Digest::from_iter(composite(selection, values.iter()));
        Ok(PcrCondition { bank: Bank::Sha1, selection, digest, values })
    }
}

fn digest(ordinal: u32, out: &[u8]) -> Result<[u8; 20], ChipError> {
    out.try_into().map_err(|_| ChipError::Malformed { ordinal })
}
