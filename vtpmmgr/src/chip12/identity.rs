//! Attestation identity keys and quotes (TPM Main 1.2, part 3, sections 15 and 16.3), and the endorsement key's public part.

use super::codes::{self, KH_EK, ord, rt};
use super::ownership::{identity_key_template, rsa_pubkey};
use super::pcr::{composite, put_selection};
use super::root::{Root, wrong, wrong_load};
use super::session::Entity;
use super::{Chip, ChipError, MAX_BLOB, StorageKey, ended, short};
use crate::args::AuthData;
use crate::hardware::{
    AttestationKey, Digest, KeyNumbers, PcrSelection, PublicKey, Quote, RootKey, Secret, Settings, Version,
};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of an identity key that this software writes.
const FORMAT: u8 = 1;
/// The longest signature: of a 2048-bit key.
const SIGNATURE: usize = 256;

/// Format (1), secret (20), TPM_KEY (the rest).
fn store(key: &StorageKey) -> Result<AttestationKey, ChipError> {
    let mut out = Zeroizing::new(Vec::with_capacity(21 + key.blob.len()));
    Writer::new(&mut out).u8(FORMAT).bytes(&key.auth.0).bytes(&key.blob);
    AttestationKey::new(Version::V12, out)
}

fn identity(stored: &AttestationKey) -> Result<StorageKey, ChipError> {
    let mut r = Reader::new(stored.body(Version::V12)?);
    let read = (|| Ok((r.u8()?, r.array()?)))().map_err(|_: Truncated| stored.bad())?;
    match (read, r.rest()) {
        ((FORMAT, auth), blob @ [_, ..]) if blob.len() <= MAX_BLOB => {
            Ok(StorageKey { auth: AuthData(auth), blob: blob.to_vec() })
        }
        _ => Err(stored.bad()),
    }
}

/// The TPM_PUBKEY within a TPM_KEY or TPM_KEY12 (part 2, sections 10.2, 10.3 and 10.5).
pub(super) fn public_of(key: &[u8]) -> Result<Vec<u8>, Truncated> {
    let mut r = Reader::new(key);
    // Version or tag, usage, flags, whether a secret is needed.
    r.bytes(4 + 2 + 4 + 1)?;
    let mut public = Vec::new();
    let mut w = Writer::new(&mut public);
    w.bytes(r.bytes(4 + 2 + 2)?).sized32(r.sized32()?);
    let _pcr_info = r.sized32()?;
    w.sized32(r.sized32()?);
    let _private = r.sized32()?;
    if r.is_empty() { Ok(public) } else { Err(Truncated) }
}

fn public_key(encoded: &[u8]) -> Result<PublicKey, Truncated> {
    let (modulus, exponent) = rsa_pubkey(encoded)?;
    let numbers = KeyNumbers::Rsa { modulus: modulus.to_vec(), exponent };
    Ok(PublicKey { numbers, encoded: encoded.to_vec() })
}

/// TPM_QUOTE_INFO (part 2, section 11.3).
fn quote_info(composite: &[u8; 20], external: &[u8; 20]) -> Vec<u8> {
    let mut info = Vec::new();
    Writer::new(&mut info).bytes(&[1, 1, 0, 0]).bytes(b"QUOT").bytes(composite).bytes(external);
    info
}

impl<T: Transport> Chip<'_, T> {
    /// TPM_MakeIdentity (section 15.1): the key, and the identity binding.
    pub(crate) async fn ak_create(
        &self,
        settings: &Settings,
        root: &RootKey,
        owner: &AuthData,
        label: &[u8; 20],
        rng: &mut Drbg,
    ) -> Result<(AttestationKey, Vec<u8>), ChipError> {
        let srk = Root::of(root)?.srk(settings)?;
        let auth = AuthData(rng.bytes());
        let first = self.oiap(&srk.0, rng).await?;
        let second = match self.osap(Entity::Owner, &owner.0, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.abandon(first).await;
                return Err(error);
            }
        };
        let mut params = Vec::new();
        Writer::new(&mut params).bytes(&second.encrypt_first(&auth.0)).bytes(label).bytes(&identity_key_template());
        let (_, out) = self
            .call_authorized([first, second], ord::MAKE_IDENTITY, &[], &params, 0)
            .await
            .map_err(|error| wrong_second(wrong(error, Secret::Srk)))?;
        let short = short(ord::MAKE_IDENTITY);
        let (length, binding) = key_and_rest(&out).map_err(&short)?;
        let mut r = Reader::new(binding);
        let binding = r.sized32().map_err(&short)?;
        ended(&r, ord::MAKE_IDENTITY)?;
        let blob = out.get(..length).unwrap_or_default();
        if blob.len() > MAX_BLOB || binding.len() > SIGNATURE {
            return Err(ChipError::Malformed { ordinal: ord::MAKE_IDENTITY });
        }
        public_of(blob).and_then(|public| public_key(&public).map(drop)).map_err(&short)?;
        Ok((store(&StorageKey { auth, blob: blob.to_vec() })?, binding.to_vec()))
    }

    pub(crate) fn ak_public(&self, ak: &AttestationKey) -> Result<PublicKey, ChipError> {
        public_of(&identity(ak)?.blob).and_then(|public| public_key(&public)).map_err(|_| ak.bad())
    }

    /// Loads an identity key, does `work` with its handle and secret, and unloads it again.
    async fn with_identity<O>(
        &self,
        settings: &Settings,
        root: &RootKey,
        ak: &AttestationKey,
        rng: &mut Drbg,
        work: impl AsyncFnOnce(u32, &StorageKey, &mut Drbg) -> Result<O, ChipError>,
    ) -> Result<O, ChipError> {
        let (srk, key) = (Root::of(root)?.srk(settings)?, identity(ak)?);
        let handle = self.load(&srk, &key, rng).await.map_err(|error| wrong_load(error, Secret::Srk))?;
        let result = work(handle, &key, rng).await;
        // A chip that does not take this is noticed by the next command, and freed before the next operation.
        let _ = self.flush(handle, rt::KEY).await;
        result
    }

    /// TPM_Quote (section 16.3).
    pub(crate) async fn quote(
        &self,
        settings: &Settings,
        root: &RootKey,
        ak: &AttestationKey,
        external: &[u8; 20],
        selection: PcrSelection,
        rng: &mut Drbg,
    ) -> Result<Quote, ChipError> {
        let (values, signature) = self
            .with_identity(settings, root, ak, rng, async |handle, key, rng| {
                let session = self.oiap(&key.auth.0, rng).await?;
                let mut params = Vec::new();
                let mut w = Writer::new(&mut params);
                w.bytes(external);
                put_selection(&mut w, selection);
                let (_, out) = self.call_authorized([session], ord::QUOTE, &[handle], &params, 0).await?;
                quoted(&out, selection).map_err(short(ord::QUOTE))
            })
            .await?;
        let attest = quote_info(&composite(selection, values.iter()), external);
        let pcrs = selection.iter().zip(values).collect();
        Ok(Quote { version: Version::V12, attest, signature, pcrs })
    }

    /// TPM_ActivateIdentity (section 15.2).
    pub(crate) async fn activate(
        &self,
        settings: &Settings,
        root: &RootKey,
        owner: &AuthData,
        ak: &AttestationKey,
        blob: &[u8],
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        self.with_identity(settings, root, ak, rng, async |handle, key, rng| {
            let first = self.oiap(&key.auth.0, rng).await?;
            let second = match self.oiap(&owner.0, rng).await {
                Ok(session) => session,
                Err(error) => {
                    self.abandon(first).await;
                    return Err(error);
                }
            };
            let mut params = Vec::new();
            Writer::new(&mut params).sized32(blob);
            let result = self.call_authorized([first, second], ord::ACTIVATE_IDENTITY, &[handle], &params, 0).await;
            Ok(result.map_err(wrong_second)?.1)
        })
        .await
    }

    /// The public endorsement key: TPM_ReadPubek where it is allowed, else TPM_OwnerReadInternalPub (part 3, sections 14.4
    /// and 14.5).
    pub(crate) async fn ek_public(
        &self,
        _settings: &Settings,
        owner: &AuthData,
        rng: &mut Drbg,
    ) -> Result<PublicKey, ChipError> {
        match self.pubek(rng).await {
            Ok(encoded) => return public_key(&encoded).map_err(short(ord::READ_PUBEK)),
            Err(ChipError::Refused { code: codes::DISABLED_CMD, .. }) => (),
            Err(error) => return Err(error),
        }
        const ORDINAL: u32 = ord::OWNER_READ_INTERNAL_PUB;
        let session = self.oiap(&owner.0, rng).await?;
        let result = self.call_authorized([session], ORDINAL, &[], &KH_EK.to_be_bytes(), 0).await;
        let (_, encoded) = result.map_err(|error| wrong(error, Secret::Owner))?;
        public_key(&encoded).map_err(short(ORDINAL))
    }
}

/// A refusal of the second secret, which is the owner's.
fn wrong_second(error: ChipError) -> ChipError {
    match error {
        ChipError::Refused { code: codes::AUTH2FAIL, .. } => ChipError::WrongSecret(Secret::Owner),
        other => other,
    }
}

/// The length of the TPM_KEY in front, and what follows it.
fn key_and_rest(bytes: &[u8]) -> Result<(usize, &[u8]), Truncated> {
    let mut r = Reader::new(bytes);
    r.bytes(4 + 2 + 4 + 1 + 4 + 2 + 2)?;
    for _ in 0..4 {
        r.sized32()?;
    }
    Ok((bytes.len() - r.rest().len(), r.rest()))
}

/// TPM_PCR_COMPOSITE and signature of an answer to TPM_Quote, which must be about the PCRs that were asked for.
fn quoted(out: &[u8], selection: PcrSelection) -> Result<(Vec<Digest>, Vec<u8>), Truncated> {
    let mut r = Reader::new(out);
    let size = r.u16()?;
    let about = PcrSelection::from_bytes(r.bytes(size.into())?).filter(|about| *about == selection);
    let (values, []) = r.sized32()?.as_chunks::<20>() else { return Err(Truncated) };
    let values: Vec<Digest> = values.iter().map(|value| Digest::from_iter(*value)).collect();
    let signature = r.sized32()?;
    if about.is_some() && values.len() == selection.len() && signature.len() == SIGNATURE && r.is_empty() {
        Ok((values, signature.to_vec()))
    } else {
        Err(Truncated)
    }
}
