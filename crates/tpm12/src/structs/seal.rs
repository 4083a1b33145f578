//! Sealed and bound data (part 2, section 9).

use super::pcr::PcrRestriction;
use super::{AuthData, Digest};
use crate::codes::{self, Code};
use crate::wire::{Tag, Version11, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

/// `TPM_STORED_DATA` (section 9.1) or `TPM_STORED_DATA12` (section 9.2).
pub(crate) struct StoredData {
    pub v12: bool,
    /// The encryption of the data under `TPM_Sealx`, zero otherwise; only the 1.2 form has it.
    pub entity_type: u16,
    pub seal_info: Vec<u8>,
    pub enc_data: Vec<u8>,
}

impl StoredData {
    fn put_public(&self, w: &mut Writer<'_>) {
        match self.v12 {
            true => {
                Tag::<0x0016>.put(w);
                w.u16(self.entity_type);
            }
            false => Version11.put(w),
        }
        w.sized32(&self.seal_info);
    }

    /// `storedDigest`: SHA-1 of the structure without the encrypted part and its size.
    pub(crate) fn digest(&self) -> Digest {
        let mut out = Vec::new();
        self.put_public(&mut Writer::new(&mut out));
        sha1(&[&out])
    }

    /// The PCR restriction, if there is one.
    pub(crate) fn restriction(&self) -> Result<Option<PcrRestriction>, Code> {
        PcrRestriction::parse(&self.seal_info, self.v12)
    }
}

impl Wire for StoredData {
    fn put(&self, w: &mut Writer<'_>) {
        self.put_public(w);
        w.sized32(&self.enc_data);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        let (v12, entity_type) = match r.array()? {
            [0x00, 0x16, high, low] => (true, u16::from_be_bytes([high, low])),
            [1, 1, 0, 0] => (false, 0),
            _ => return Err(codes::BAD_VERSION),
        };
        Ok(Self { v12, entity_type, seal_info: Wire::get(r)?, enc_data: Wire::get(r)? })
    }
}

/// `TPM_PT_SEAL`.
pub(crate) const PT_SEAL: u8 = 5;

wire_struct! {
    /// `TPM_SEALED_DATA` (section 9.3).
    pub(crate) struct SealedData {
        payload: u8,
        auth: AuthData,
        tpm_proof: AuthData,
        stored_digest: Digest,
        data: Zeroizing<Vec<u8>>,
    }
}
