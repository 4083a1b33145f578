//! The storage key, and secrets sealed under it.

use super::codes::{KH_SRK, ord, rt};
use super::ownership::storage_key_template;
use super::session::Entity;
use super::{Chip, ChipError, ended, short};
use crate::args::AuthData;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Transport, Writer};
use zeroize::Zeroizing;

/// The longest key or sealed blob, in bytes, that the manager takes from a chip. A 2048-bit TPM_KEY has 559, a
/// TPM_STORED_DATA12 about 330.
pub const MAX_BLOB: usize = 1024;

/// A storage key below the storage root key.
pub struct StorageKey {
    /// Its usage secret.
    pub auth: AuthData,
    /// TPM_KEY as the chip made it; the private part is encrypted by the storage root key.
    pub blob: Vec<u8>,
}

/// A secret sealed under a storage key.
pub struct SealedBlob {
    /// The secret that goes with it.
    pub auth: AuthData,
    /// TPM_STORED_DATA12 as the chip made it.
    pub blob: Vec<u8>,
}

/// TPM_PCR_INFO_LONG (part 2, section 8.2) that asks for no PCR, and for one locality when the blob is opened. The chip
/// checks the locality only; the digest of an empty selection is all zeroes in the forms that chips accept.
fn locality_only(locality: u8) -> Vec<u8> {
    const TAG_PCR_INFO_LONG: u16 = 0x0006;
    const NO_PCRS: [u8; 5] = [0, 3, 0, 0, 0];
    let bit = 1u8.checked_shl(locality.into()).unwrap_or(0);
    let mut info = Vec::new();
    Writer::new(&mut info)
        .u16(TAG_PCR_INFO_LONG)
        .u8(bit)
        .u8(bit)
        .bytes(&NO_PCRS)
        .bytes(&NO_PCRS)
        .bytes(&[0; 20])
        .bytes(&[0; 20]);
    info
}

impl<T: Transport> Chip<'_, T> {
    /// Has the chip make a 2048-bit storage key with a new random secret under the storage root key.
    pub async fn create_storage_key(&self, srk: &AuthData, rng: &mut Drbg) -> Result<StorageKey, ChipError> {
        let auth = AuthData(rng.bytes());
        let session = self.osap(Entity::Srk, &srk.0, rng).await?;
        // A key that cannot migrate has no use for a migration secret, but the command has the field.
        let migration_auth = AuthData(rng.bytes());
        let mut params = Vec::new();
        Writer::new(&mut params)
            .bytes(&session.encrypt_first(&auth.0))
            .bytes(&session.encrypt_second(&migration_auth.0))
            .bytes(&storage_key_template());
        let (_, blob) = self.call_authorized([session], ord::CREATE_WRAP_KEY, &[KH_SRK], &params, 0).await?;
        if blob.is_empty() || blob.len() > MAX_BLOB {
            return Err(ChipError::Malformed { ordinal: ord::CREATE_WRAP_KEY });
        }
        Ok(StorageKey { auth, blob: blob.to_vec() })
    }

    /// Loads a storage key; [`Self::unload`] frees its slot.
    pub async fn load(&self, srk: &AuthData, key: &StorageKey, rng: &mut Drbg) -> Result<u32, ChipError> {
        let session = self.oiap(&srk.0, rng).await?;
        let (handles, _) = self.call_authorized([session], ord::LOAD_KEY2, &[KH_SRK], &key.blob, 1).await?;
        handles.first().copied().ok_or(ChipError::Malformed { ordinal: ord::LOAD_KEY2 })
    }

    /// Unloads a key.
    pub async fn unload(&self, handle: u32) -> Result<(), ChipError> {
        self.flush(handle, rt::KEY).await
    }

    /// Seals `secret` under the loaded `key` for this `locality` (0 to 4), with a new random blob secret.
    pub async fn seal(
        &self,
        handle: u32,
        key: &StorageKey,
        locality: u8,
        secret: &[u8; 32],
        rng: &mut Drbg,
    ) -> Result<SealedBlob, ChipError> {
        let auth = AuthData(rng.bytes());
        let session = self.osap(Entity::Key(handle), &key.auth.0, rng).await?;
        let info = locality_only(locality);
        let mut params = Zeroizing::new(Vec::with_capacity(20 + 4 + info.len() + 4 + secret.len()));
        Writer::new(&mut params).bytes(&session.encrypt_first(&auth.0)).sized32(&info).sized32(secret);
        let (_, blob) = self.call_authorized([session], ord::SEAL, &[handle], &params, 0).await?;
        if blob.is_empty() || blob.len() > MAX_BLOB {
            return Err(ChipError::Malformed { ordinal: ord::SEAL });
        }
        Ok(SealedBlob { auth, blob: blob.to_vec() })
    }

    /// Opens what [`Self::seal`] made.
    pub async fn unseal(
        &self,
        handle: u32,
        key: &StorageKey,
        sealed: &SealedBlob,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<[u8; 32]>, ChipError> {
        let parent = self.oiap(&key.auth.0, rng).await?;
        let data = match self.oiap(&sealed.auth.0, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.abandon(parent).await;
                return Err(error);
            }
        };
        let (_, out) = self.call_authorized([parent, data], ord::UNSEAL, &[handle], &sealed.blob, 0).await?;
        let mut r = Reader::new(&out);
        let secret = r.sized32().map_err(short(ord::UNSEAL))?;
        let secret: &[u8; 32] = secret.try_into().map_err(|_| ChipError::Malformed { ordinal: ord::UNSEAL })?;
        ended(&r, ord::UNSEAL)?;
        Ok(Zeroizing::new(*secret))
    }
}
