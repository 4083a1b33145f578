//! PCR structures (part 2, section 8).

use super::Digest;
use crate::codes::{self, Code};
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Writer};

/// PCRs in this TPM.
pub(crate) const PCR_COUNT: usize = 24;
/// All localities, one bit each (section 8.6).
pub(crate) const ALL_LOCALITIES: u8 = 0x1f;

/// `TPM_PCR_SELECTION`: the bit map as it came, since its length goes into digests.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Selection(Vec<u8>);

impl Selection {
    /// The selected PCRs, lowest first.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = (0..self.0.len() * 8).filter(|i| self.0.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1));
        bits.take_while(|i| *i < PCR_COUNT)
    }

    /// Whether no PCR is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl Wire for Selection {
    fn put(&self, w: &mut Writer<'_>) {
        w.u16(self.0.len() as u16).bytes(&self.0);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        let size = usize::from(r.u16()?);
        if size > PCR_COUNT / 8 {
            return Err(codes::INVALID_PCR_INFO);
        }
        Ok(Self(r.bytes(size)?.to_vec()))
    }
}

/// The PCRs.
#[derive(Clone)]
pub(crate) struct Bank(pub [Digest; PCR_COUNT]);

impl Bank {
    /// `TPM_PCR_COMPOSITE` of a selection (section 8.3).
    pub(crate) fn composite(&self, selection: &Selection) -> Vec<u8> {
        let values: Vec<u8> = selection.indices().filter_map(|i| self.0.get(i)).flatten().copied().collect();
        let mut out = selection.to_bytes();
        Writer::new(&mut out).sized32(&values);
        out
    }

    /// `TPM_COMPOSITE_HASH` of a selection; zeros if nothing is selected (part 1, section 25).
    pub(crate) fn composite_hash(&self, selection: &Selection) -> Digest {
        if selection.is_empty() { [0; 20] } else { sha1(&[&self.composite(selection)]) }
    }
}

wire_struct! {
    /// `TPM_PCR_INFO` (section 8.1).
    #[derive(Clone, PartialEq, Eq, Default)]
    pub(crate) struct PcrInfo {
        selection: Selection,
        digest_at_release: Digest,
        digest_at_creation: Digest,
    }
}

wire_struct! {
    /// `TPM_PCR_INFO_LONG` (section 8.2).
    #[derive(Clone, PartialEq, Eq, Default)]
    pub(crate) struct PcrInfoLong {
        tag: Tag<0x0006>,
        locality_at_creation: u8,
        locality_at_release: u8,
        creation_selection: Selection,
        release_selection: Selection,
        digest_at_creation: Digest,
        digest_at_release: Digest,
    }
}

wire_struct! {
    /// `TPM_PCR_INFO_SHORT` (section 8.4).
    #[derive(Clone, PartialEq, Eq, Default)]
    pub(crate) struct PcrInfoShort {
        selection: Selection,
        locality_at_release: u8,
        digest_at_release: Digest,
    }
}

/// Either form of PCR restriction, as a key or a sealed blob carries it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PcrRestriction {
    V11(PcrInfo),
    Long(PcrInfoLong),
}

impl PcrRestriction {
    /// Reads the form that `long` says. `None` for no bytes.
    pub(crate) fn parse(bytes: &[u8], long: bool) -> Result<Option<Self>, Code> {
        let wrong = codes::INVALID_PCR_INFO;
        let parsed = match (bytes, long) {
            ([], _) => return Ok(None),
            (_, false) => PcrInfo::from_bytes(bytes, wrong).map(Self::V11),
            (_, true) => PcrInfoLong::from_bytes(bytes, wrong).map(Self::Long),
        };
        parsed.map(Some).map_err(|_| wrong)
    }

    /// The bytes without a length.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::V11(info) => info.to_bytes(),
            Self::Long(info) => info.to_bytes(),
        }
    }

    /// Fills in what the TPM knows when the key or blob is made.
    pub(crate) fn set_creation(&mut self, bank: &Bank, locality: u8) {
        match self {
            Self::V11(info) => info.digest_at_creation = bank.composite_hash(&info.selection),
            Self::Long(info) => {
                info.digest_at_creation = bank.composite_hash(&info.creation_selection);
                info.locality_at_creation = 1 << locality;
            }
        }
    }

    /// A restriction that names no locality or one that does not exist can never be fulfilled (section 8.6).
    pub(crate) fn check(&self) -> Result<(), Code> {
        match self {
            Self::V11(_) => Ok(()),
            Self::Long(info) => check_locality(info.locality_at_release),
        }
    }

    /// What must hold when the key or blob is used: PCRs, their digest, localities.
    pub(crate) fn release(&self) -> (&Selection, &Digest, u8) {
        match self {
            Self::V11(info) => (&info.selection, &info.digest_at_release, ALL_LOCALITIES),
            Self::Long(info) => (&info.release_selection, &info.digest_at_release, info.locality_at_release),
        }
    }

    /// The PCRs that the restriction depends on at release.
    pub(crate) fn release_selection(&self) -> &Selection {
        self.release().0
    }
}

/// Refuses a locality bit map that is empty or has bits of no locality.
pub(crate) fn check_locality(bits: u8) -> Result<(), Code> {
    if bits == 0 || bits & !ALL_LOCALITIES != 0 { Err(codes::INVALID_PCR_INFO) } else { Ok(()) }
}
