//! What is said about a chip, its PCRs and its keys, whatever its version.

use alloc::vec::Vec;
use core::fmt;
pub use tpm_wire::Bank;
use tpm_wire::{Reader, Truncated, Writer};
use zeroize::Zeroizing;

/// The specification a chip follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// TPM Main 1.2.
    V12,
    /// TPM 2.0 Library.
    V20,
}

impl Version {
    /// The byte that names the version where something of a chip is stored.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::V12 => 0x12,
            Self::V20 => 0x20,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0x12 => Some(Self::V12),
            0x20 => Some(Self::V20),
            _ => None,
        }
    }
}

/// A hash or the content of a PCR: 20, 32 or 48 bytes.
pub type Digest = heapless::Vec<u8, 48>;

/// PCRs 0 to 23, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct PcrSelection(u32);

impl PcrSelection {
    /// PCRs of a PC (PC Client TIS 1.3, section 3.7; PC Client PTP, section 4.6).
    pub const COUNT: u8 = 24;
    /// No PCR.
    pub const NONE: Self = Self(0);

    /// The PCRs whose bits are set; `None` if there is one above 23.
    #[must_use]
    pub const fn from_mask(mask: u32) -> Option<Self> {
        if mask >> Self::COUNT == 0 { Some(Self(mask)) } else { None }
    }

    /// PCR n is bit n.
    #[must_use]
    pub const fn mask(self) -> u32 {
        self.0
    }

    /// From the bytes of a `TPM_PCR_SELECTION` or `TPMS_PCR_SELECTION`: PCR n is bit n % 8 of byte n / 8. `None` if there is
    /// a PCR above 23.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut mask = [0; 4];
        let (front, rest) = bytes.split_at_checked(bytes.len().min(4))?;
        mask.get_mut(..front.len())?.copy_from_slice(front);
        if rest.iter().any(|byte| *byte != 0) { None } else { Self::from_mask(u32::from_le_bytes(mask)) }
    }

    /// The three bytes of a selection on the wire, as in [`Self::from_bytes`].
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }

    /// A list as in `seal_pcrs=0-7,14`: numbers and ranges between commas, each PCR at most once.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut mask = 0u32;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (index(first)?, index(last)?);
            if first > last {
                return None;
            }
            for pcr in first..=last {
                let bit = 1 << pcr;
                if mask & bit != 0 {
                    return None;
                }
                mask |= bit;
            }
        }
        Some(Self(mask))
    }

    /// With this PCR added; PCRs above 23 do not exist and change nothing.
    #[must_use]
    pub const fn with(self, pcr: u8) -> Self {
        if pcr < Self::COUNT { Self(self.0 | 1 << pcr) } else { self }
    }

    /// Whether the PCR is selected.
    #[must_use]
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < Self::COUNT && self.0 >> pcr & 1 == 1
    }

    /// The PCRs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::COUNT).filter(move |pcr| self.contains(*pcr))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A PCR's number: decimal digits and nothing else.
fn index(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|pcr| digits && *pcr < PcrSelection::COUNT)
}

/// As [`PcrSelection::parse`] reads it.
impl fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let mut pcr = 0;
        while pcr < Self::COUNT {
            let run = (pcr..Self::COUNT).take_while(|n| self.contains(*n)).count() as u8;
            match run {
                0 => pcr += 1,
                1 => write!(f, "{comma}{pcr}")?,
                _ => write!(f, "{comma}{pcr}-{}", pcr + run - 1)?,
            }
            if run > 0 {
                comma = ",";
                pcr += run;
            }
        }
        Ok(())
    }
}

/// What some PCRs must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PcrCondition {
    /// Their bank.
    pub bank: Bank,
    /// Which.
    pub selection: PcrSelection,
    /// TPM 1.2: SHA-1 of the TPM_PCR_COMPOSITE (part 2, section 8.1). TPM 2.0: SHA-256 of the values one after another, as
    /// TPM2_PolicyPCR wants it (part 3, section 23.7).
    pub digest: Digest,
    /// The values one by one, in ascending order of PCR, so that a difference can be named; or none where only the digest
    /// is known.
    pub values: Vec<Digest>,
}

impl PcrCondition {
    /// The longest stored form, in bytes.
    pub const MAX_SIZE: usize = 2 + 4 + 1 + 48 + 1 + 24 * 48;

    /// Whether PCRs that are as `now` says fulfil this.
    #[must_use]
    pub fn is_met_by(&self, now: &Self) -> bool {
        (self.bank, self.selection, &self.digest) == (now.bank, now.selection, &now.digest)
    }

    /// Which of the PCRs differ from `now`, which must have the same selection and bank; all of them if only the digests can be compared.
    #[must_use]
    pub fn differing(&self, now: &Self) -> PcrSelection {
        if self.is_met_by(now) {
            return PcrSelection::NONE;
        }
        let known = self.values.len() == self.selection.len()
            && (self.bank, self.selection, self.values.len()) == (now.bank, now.selection, now.values.len());
        let pairs = self.selection.iter().zip(self.values.iter().zip(&now.values));
        let named = pairs.filter(|(_, (a, b))| a != b).fold(PcrSelection::NONE, |all, (pcr, _)| all.with(pcr));
        if known && !named.is_empty() { named } else { self.selection }
    }

    /// The stored form: bank (2), mask (4), length and bytes of the digest (1 + n), number of values (1), values.
    pub fn put(&self, w: &mut Writer<'_>) {
        w.u16(self.bank.id()).u32(self.selection.mask()).u8(self.digest.len() as u8).bytes(&self.digest);
        w.u8(self.values.len() as u8);
        for value in &self.values {
            w.bytes(value);
        }
    }

    /// Reads the stored form back.
    pub fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let bank = Bank::from_id(r.u16()?).ok_or(Truncated)?;
        let selection = PcrSelection::from_mask(r.u32()?).ok_or(Truncated)?;
        let size = r.u8()?;
        let digest = Digest::from_slice(r.bytes(size.into())?).map_err(|_| Truncated)?;
        let count = usize::from(r.u8()?);
        if ![20, 32].contains(&digest.len()) || selection.is_empty() || (count != 0 && count != selection.len()) {
            return Err(Truncated);
        }
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(Digest::from_slice(r.bytes(bank.size())?).map_err(|_| Truncated)?);
        }
        Ok(Self { bank, selection, digest, values })
    }
}

/// What the chip tells about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChipInfo {
    /// The specification it follows.
    pub version: Version,
    /// TCG vendor identifier.
    pub vendor: [u8; 4],
    /// Firmware revision, major and minor (1.2), or both halves of TPM 2.0's 64-bit firmware version.
    pub firmware: [u32; 2],
    /// 1.2: specification level × 256 + errata revision; 2.0: revision × 100.
    pub revision: u32,
    /// A name for this start of the machine: 20 bytes that are new whenever the chip was started anew.
    pub boot_id: [u8; 20],
    /// Whether the chip has an owner (1.2), or its owner hierarchy a secret (2.0).
    pub owned: bool,
    /// Interface time-outs A to D in microseconds, if the chip tells them.
    pub timeouts: Option<[u32; 4]>,
    /// The PCR bank that the manager uses.
    pub bank: Bank,
}

/// A public key of the chip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// The numbers.
    pub numbers: KeyNumbers,
    /// As the chip gave it: TPM_PUBKEY (1.2) or TPMT_PUBLIC (2.0).
    pub encoded: Vec<u8>,
}

/// The numbers of a public key, big-endian.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyNumbers {
    /// RSA.
    Rsa {
        /// The modulus: 256 bytes for a 2048-bit key.
        modulus: Vec<u8>,
        /// The public exponent.
        exponent: u32,
    },
    /// A point on NIST P-256.
    P256 {
        /// Its x coordinate.
        x: [u8; 32],
        /// Its y coordinate.
        y: [u8; 32],
    },
}

/// What a chip signed about its PCRs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quote {
    /// The chip's version, which says what the other fields are.
    pub version: Version,
    /// 1.2: the 48 bytes of TPM_QUOTE_INFO (part 2, section 11.3); 2.0: TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// 1.2: RSASSA-PKCS1-v1_5 with SHA-1, 256 bytes; 2.0: TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// The PCRs' values when it was made.
    pub pcrs: Vec<(u8, Digest)>,
}

/// Declares a byte string that only the chip it belongs to understands: stored as the version's code and the chip's own form.
macro_rules! chip_form {
    ($(#[$doc:meta])* $name:ident, $max:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name {
            version: Version,
            body: Zeroizing<Vec<u8>>,
        }

        impl $name {
            /// The longest stored form, in bytes.
            pub const MAX_SIZE: usize = $max;
            const WHAT: &'static str = $what;

            /// The chip's own form `body`, at most [`Self::MAX_SIZE`] - 1 bytes.
            pub(crate) fn new(version: Version, body: Zeroizing<Vec<u8>>) -> Result<Self, super::ChipError> {
                if body.is_empty() || body.len() >= Self::MAX_SIZE {
                    return Err(super::ChipError::BadForm { what: Self::WHAT });
                }
                Ok(Self { version, body })
            }

            /// The chip's own form, if it is for this version of chip.
            pub(crate) fn body(&self, version: Version) -> Result<&[u8], super::ChipError> {
                if self.version == version { Ok(&self.body) } else { Err(self.bad()) }
            }

            /// The error for a form that the chip's client cannot read.
            pub(crate) fn bad(&self) -> super::ChipError {
                super::ChipError::BadForm { what: Self::WHAT }
            }

            /// The version of chip that made it.
            #[must_use]
            pub fn version(&self) -> Version {
                self.version
            }

            /// The stored form: version code and the chip's own form, at most [`Self::MAX_SIZE`] bytes.
            #[must_use]
            pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
                let mut out = Zeroizing::new(Vec::with_capacity(1 + self.body.len()));
                Writer::new(&mut out).u8(self.version.code()).bytes(&self.body);
                out
            }

            /// Reads the stored form back. What is in it is looked at when the chip is to use it.
            #[must_use]
            pub fn parse(bytes: &[u8]) -> Option<Self> {
                let (code, body) = bytes.split_first()?;
                Self::new(Version::from_code(*code)?, Zeroizing::new(body.to_vec())).ok()
            }
        }
    };
}

chip_form! {
    /// A secret sealed by the chip.
    Sealed, 2048, "the sealed secret"
}
chip_form! {
    /// What the disk keeps about the key that everything of the manager lies under. 1.2: a storage key, its secret, and the
    /// storage root key's secret where the manager drew it. 2.0: which storage root key, and its Name.
    RootKey, 2048, "the storage key"
}
chip_form! {
    /// A counter of the chip, and its secret.
    Counter, 256, "the counter"
}
chip_form! {
    /// A key that signs only what the chip says about itself, and its secret.
    AttestationKey, 2048, "the attestation key"
}

#[cfg(test)]
mod tests;
