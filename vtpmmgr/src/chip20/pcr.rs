//! PCRs (TPM 2.0 Library, part 3, section 22).

use super::session::{Auth, permanent};
use super::{Chip, ChipError, read};
use crate::hardware::{Bank, Digest, PcrCondition, PcrSelection};
use alloc::vec::Vec;
use tpm_crypto::sha256;
use tpm_wire::v20::{PcrBank, cc};
use tpm_wire::{Transport, Truncated, Writer};

/// How often PCRs are read again that change while they are read.
const ATTEMPTS: u32 = 8;
/// `TPM_ORD_PcrRead` and `TPM_ORD_Extend` of TPM 1.2, and `TPM_BADINDEX`: what vTPMs ask and are answered is in its form.
const ORD_PCR_READ: u32 = 0x15;
const BAD_INDEX: u32 = 2;

/// The selection as the chip wants it.
pub(super) fn wire(bank: Bank, selection: PcrSelection) -> PcrBank {
    PcrBank { hash: bank.id(), mask: selection.mask() }
}

/// What TPM2_PolicyPCR and TPM2_Quote hash: the values one after another.
pub(super) fn digest<'v>(values: impl Iterator<Item = &'v Digest>) -> [u8; 32] {
    let values: Vec<&[u8]> = values.map(Digest::as_slice).collect();
    sha256(&values)
}

impl<T: Transport> Chip<'_, T> {
    /// TPM2_PCR_Read once: the update counter, which PCRs the answer is about, and their values.
    async fn read_pcrs(&self, bank: Bank, selection: PcrSelection) -> Result<(u32, Vec<(u8, Digest)>), ChipError> {
        const CODE: u32 = cc::PCR_READ;
        let mut params = Vec::new();
        wire(bank, selection).put_list(&mut Writer::new(&mut params));
        let out = self.call(CODE, &params).await?;
        read(&out, CODE, |r| {
            let updates = r.u32()?;
            let mut about = PcrSelection::NONE;
            let mut sound = true;
            PcrBank::list(r, |found| match PcrSelection::from_mask(found.mask) {
                Some(pcrs) if found.hash == bank.id() => about = pcrs,
                _ => sound &= found.mask == 0,
            })?;
            let count = usize::try_from(r.u32()?).map_err(|_| Truncated)?;
            if !sound || count != about.len() || about.mask() & !selection.mask() != 0 {
                return Err(Truncated);
            }
            let mut values = Vec::with_capacity(count);
            for pcr in about.iter() {
                let value = Digest::from_slice(r.sized16()?).ok().filter(|value| value.len() == bank.size());
                values.push((pcr, value.ok_or(Truncated)?));
            }
            Ok((updates, values))
        })
    }

    /// All of the selected PCRs at one point of time. A chip gives eight at a time.
    async fn bank_values(&self, bank: Bank, selection: PcrSelection) -> Result<Vec<(u8, Digest)>, ChipError> {
        'again: for _ in 0..ATTEMPTS {
            let mut values: Vec<(u8, Digest)> = Vec::new();
            let mut updates = None;
            while values.len() < selection.len() {
                let read = |pcr: u8| values.iter().any(|(known, _)| *known == pcr);
                let rest = selection.iter().filter(|pcr| !read(*pcr)).fold(PcrSelection::NONE, PcrSelection::with);
                let (now, more) = self.read_pcrs(bank, rest).await?;
                if more.is_empty() {
                    return Err(ChipError::Unsupported {
                        what: match bank {
                            Bank::Sha1 => "PCRs with SHA-1 (the bank is switched off in the firmware's set-up)",
                            _ => "these PCRs",
                        },
                    });
                }
                if *updates.get_or_insert(now) != now {
                    continue 'again;
                }
                values.extend(more);
            }
            values.sort_unstable_by_key(|(pcr, _)| *pcr);
            return Ok(values);
        }
        Err(ChipError::Malformed { ordinal: cc::PCR_READ })
    }

    /// The values of these PCRs in the bank that the manager uses, in ascending order.
    pub(crate) async fn pcr_values(&self, selection: PcrSelection) -> Result<Vec<(u8, Digest)>, ChipError> {
        self.bank_values(self.bank().await?, selection).await
    }

    /// What these PCRs are now.
    pub(crate) async fn pcr_condition(&self, selection: PcrSelection) -> Result<PcrCondition, ChipError> {
        let bank = self.bank().await?;
        let values: Vec<Digest> =
            self.bank_values(bank, selection).await?.into_iter().map(|(_, value)| value).collect();
        let digest = Digest::from_iter(digest(values.iter()));
        Ok(PcrCondition { bank, selection, digest, values })
    }

    /// A PCR of the SHA-1 bank, as TPM_PCRRead gives it to a vTPM.
    pub(crate) async fn vtpm_pcr(&self, index: u32) -> Result<[u8; 20], ChipError> {
        let pcr = u8::try_from(index).ok().filter(|pcr| *pcr < PcrSelection::COUNT);
        let pcr = pcr.ok_or(ChipError::Refused { ordinal: ORD_PCR_READ, code: BAD_INDEX })?;
        let values = self.bank_values(Bank::Sha1, PcrSelection::NONE.with(pcr)).await?;
        let value = values.first().and_then(|(_, value)| value.as_slice().try_into().ok());
        value.ok_or(ChipError::Malformed { ordinal: cc::PCR_READ })
    }

    /// TPM2_PCR_Extend of the SHA-1 bank, as TPM_Extend does it; the new value.
    pub(crate) async fn extend12(&self, index: u32, digest: &[u8; 20]) -> Result<[u8; 20], ChipError> {
        self.vtpm_pcr(index).await?;
        let mut params = Vec::new();
        Writer::new(&mut params).u32(1).u16(Bank::Sha1.id()).bytes(digest);
        let name = permanent(index);
        let (_, out) = self.call_authorized(&[Auth::Empty], cc::PCR_EXTEND, &[(index, &name)], &params, 0).await?;
        read(&out, cc::PCR_EXTEND, |_| Ok(()))?;
        self.vtpm_pcr(index).await
    }
}
