//! Areas of the chip's NV memory, with the owner's authorization (TPM Main 1.2, part 3, section 20).

use super::codes::ord;
use super::root::wrong;
use super::session::Entity;
use super::{Chip, ChipError, ended, short};
use crate::args::AuthData;
use crate::hardware::Secret;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Transport, Writer};
use zeroize::Zeroizing;

impl<T: Transport> Chip<'_, T> {
    /// TPM_NV_DefineSpace (section 20.1) of the area that a TPM_NV_DATA_PUBLIC describes.
    pub(crate) async fn nv_define(
        &self,
        owner: &AuthData,
        public: &[u8],
        auth: &[u8; 20],
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let session = self.osap(Entity::Owner, &owner.0, rng).await?;
        let mut params = Vec::new();
        Writer::new(&mut params).bytes(public).bytes(&session.encrypt_first(auth));
        self.by_owner(session, ord::NV_DEFINE_SPACE, &params).await.map(drop)
    }

    /// TPM_NV_WriteValue (section 20.2).
    pub(crate) async fn nv_write(
        &self,
        owner: &AuthData,
        index: u32,
        offset: u32,
        data: &[u8],
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let session = self.oiap(&owner.0, rng).await?;
        let mut params = Zeroizing::new(Vec::with_capacity(12 + data.len()));
        Writer::new(&mut params).u32(index).u32(offset).sized32(data);
        self.by_owner(session, ord::NV_WRITE_VALUE, &params).await.map(drop)
    }

    /// TPM_NV_ReadValue (section 20.4).
    pub(crate) async fn nv_read(
        &self,
        owner: &AuthData,
        index: u32,
        offset: u32,
        size: u32,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let session = self.oiap(&owner.0, rng).await?;
        let mut params = Vec::new();
        Writer::new(&mut params).u32(index).u32(offset).u32(size);
        let out = self.by_owner(session, ord::NV_READ_VALUE, &params).await?;
        let mut r = Reader::new(&out);
        let data = r.sized32().map_err(short(ord::NV_READ_VALUE))?;
        ended(&r, ord::NV_READ_VALUE)?;
        Ok(Zeroizing::new(data.to_vec()))
    }

    async fn by_owner(
        &self,
        session: super::session::Session,
        ordinal: u32,
        params: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let result = self.call_authorized([session], ordinal, &[], params, 0).await;
        Ok(result.map_err(|error| wrong(error, Secret::Owner))?.1)
    }
}
