//! The storage key, and secrets sealed under it.

use super::codes::{self, KH_SRK, ord, rt};
use super::ownership::storage_key_template;
use super::pcr::put_selection;
use super::root::not_ours;
use super::session::Entity;
use super::tunnel::Tunnel;
use super::{Chip, ChipError, ended, short};
use crate::args::AuthData;
use crate::hardware::{Bank, PcrCondition, PcrSelection, RootKey, Sealed, Secret, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Transport, Truncated, Writer};
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

/// The form of [`Stored`] that this software writes.
const FORMAT: u8 = 1;

/// A sealed secret as the disk keeps it.
struct Stored {
    locality: u8,
    /// The blob's secret, unless whoever opens it gives it.
    auth: Option<AuthData>,
    blob: Vec<u8>,
}

impl Stored {
    /// Format (1), locality (1), whether the blob's secret is kept (1), that secret or zeros (20), TPM_STORED_DATA12 (the rest).
    fn store(&self) -> Result<Sealed, ChipError> {
        let mut out = Zeroizing::new(Vec::with_capacity(23 + self.blob.len()));
        let mut w = Writer::new(&mut out);
        w.u8(FORMAT).u8(self.locality).u8(self.auth.is_some().into());
        w.bytes(self.auth.as_ref().map_or(&[0; 20], |auth| &auth.0)).bytes(&self.blob);
        Sealed::new(Version::V12, out)
    }

    fn of(stored: &Sealed) -> Result<Self, ChipError> {
        let mut r = Reader::new(stored.body(Version::V12)?);
        let read = (|| Ok((r.u8()?, r.u8()?, r.u8()?, r.array()?)))().map_err(|_: Truncated| stored.bad())?;
        match (read, r.rest()) {
            ((FORMAT, locality @ 0..=4, kept @ 0..=1, auth), blob @ [_, ..]) if blob.len() <= MAX_BLOB => {
                Ok(Self { locality, auth: (kept == 1).then_some(AuthData(auth)), blob: blob.to_vec() })
            }
            _ => Err(stored.bad()),
        }
    }
}

/// TPM_PCR_INFO_LONG (part 2, section 8.4) that asks for one locality and, with a condition, for PCRs when the blob is opened.
/// The digest of an empty selection is all zeroes in the forms that chips accept.
fn pcr_info(locality: u8, condition: Option<&PcrCondition>) -> Result<Vec<u8>, ChipError> {
    const TAG_PCR_INFO_LONG: u16 = 0x0006;
    let bit = 1u8.checked_shl(locality.into()).unwrap_or(0);
    let (selection, digest) = match condition {
        None => (PcrSelection::NONE, [0; 20]),
        Some(condition) => match <[u8; 20]>::try_from(&condition.digest[..]) {
            Ok(digest) if condition.bank == Bank::Sha1 => (condition.selection, digest),
            _ => return Err(ChipError::BadForm { what: "the PCR configuration" }),
        },
    };
    let mut info = Vec::new();
    let mut w = Writer::new(&mut info);
    w.u16(TAG_PCR_INFO_LONG).u8(bit).u8(bit);
    put_selection(&mut w, PcrSelection::NONE);
    put_selection(&mut w, selection);
    // The chip writes the digest at creation itself.
    w.bytes(&[0; 20]).bytes(&digest);
    Ok(info)
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

    /// TPM_Seal (part 3, section 10.1).
    #[allow(clippy::too_many_arguments, reason = "the command has as many")]
    async fn seal_blob(
        &self,
        tunnel: Tunnel,
        handle: u32,
        key: &StorageKey,
        info: &[u8],
        auth: &[u8; 20],
        secret: &[u8],
        rng: &mut Drbg,
    ) -> Result<Vec<u8>, ChipError> {
        let session = match self.osap(Entity::Key(handle), &key.auth.0, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.close(tunnel).await;
                return Err(error);
            }
        };
        let mut params = Zeroizing::new(Vec::with_capacity(20 + 4 + info.len() + 4 + secret.len()));
        Writer::new(&mut params).bytes(&session.encrypt_first(auth)).sized32(info).sized32(secret);
        let (_, blob) = self.call_authorized_through(Some(tunnel), [session], ord::SEAL, &[handle], &params, 0).await?;
        if blob.is_empty() || blob.len() > MAX_BLOB {
            return Err(ChipError::Malformed { ordinal: ord::SEAL });
        }
        Ok(blob.to_vec())
    }

    /// TPM_Unseal (part 3, section 10.2).
    async fn unseal_blob(
        &self,
        tunnel: Tunnel,
        handle: u32,
        key: &StorageKey,
        auth: &[u8; 20],
        blob: &[u8],
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let parent = match self.oiap(&key.auth.0, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.close(tunnel).await;
                return Err(error);
            }
        };
        let data = match self.oiap(auth, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.abandon(parent).await;
                self.close(tunnel).await;
                return Err(error);
            }
        };
        let sessions = [parent, data];
        let (_, mut out) =
            self.call_authorized_through(Some(tunnel), sessions, ord::UNSEAL, &[handle], blob, 0).await?;
        let mut r = Reader::new(&out);
        let length = r.sized32().map_err(short(ord::UNSEAL))?.len();
        ended(&r, ord::UNSEAL)?;
        let start = out.len() - length;
        out.drain(..start);
        Ok(out)
    }

    /// Seals under the root key: for the manager's locality, with or without a condition on PCRs; with the given blob secret, or
    /// with a random one that is kept in the stored form.
    pub(crate) async fn seal(
        &self,
        settings: &Settings,
        root: &RootKey,
        secret: &[u8],
        condition: Option<&PcrCondition>,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Sealed, ChipError> {
        let locality = settings.locality;
        let info = pcr_info(locality, condition)?;
        let drawn = if auth.is_none() { Some(AuthData(rng.bytes())) } else { None };
        let with = auth.or(drawn.as_ref().map(|drawn| &drawn.0)).unwrap_or(&[0; 20]);
        let blob = self
            .with_root(settings, root, rng, async |handle, key, rng| {
                let tunnel = self.tunnel(handle, key, rng).await?;
                self.seal_blob(tunnel, handle, key, &info, with, secret, rng).await
            })
            .await?;
        Stored { locality, auth: drawn, blob }.store()
    }

    /// Opens what [`Self::seal`] made.
    pub(crate) async fn unseal(
        &self,
        settings: &Settings,
        root: &RootKey,
        sealed: &Sealed,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let Stored { locality, auth: kept, blob } = Stored::of(sealed)?;
        let auth = auth.or(kept.as_ref().map(|kept| &kept.0)).ok_or(ChipError::WrongSecret(Secret::Blob))?;
        let result = self
            .with_root(settings, root, rng, async |handle, key, rng| {
                let tunnel = self.tunnel(handle, key, rng).await?;
                self.unseal_blob(tunnel, handle, key, auth, &blob, rng).await
            })
            .await;
        result.map_err(|error| match error {
            ChipError::Refused { ordinal: ordinal @ ord::UNSEAL, code } => match code {
                codes::WRONG_PCR_VALUE => ChipError::PcrMismatch,
                codes::BAD_LOCALITY => ChipError::Locality { sealed: locality },
                codes::AUTH2FAIL => ChipError::WrongSecret(Secret::Blob),
                _ => not_ours(ordinal, code),
            },
            other => other,
        })
    }
}
