//! The key that everything of the manager lies under: a storage key below the storage root key.

use super::codes::{self, ord};
use super::{Chip, ChipError, MAX_BLOB, StorageKey};
use crate::args::{AuthChoice, AuthData};
use crate::hardware::{NewRoot, RootKey, Secret, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of [`Root`] that this software writes.
const FORMAT: u8 = 1;

/// A root key of a TPM 1.2 chip.
pub(super) struct Root {
    /// The storage root key's secret, if the manager drew it; else the operator gives it at every start.
    srk_auth: Option<AuthData>,
    pub key: StorageKey,
}

/// The secrets that ownership is taken with.
pub(crate) struct Ownership {
    owner: AuthData,
    owner_drawn: bool,
    srk: AuthData,
    srk_drawn: bool,
}

impl Ownership {
    fn choose(settings: &Settings, rng: &mut Drbg) -> Self {
        let mut pick = |choice: &AuthChoice| match choice {
            AuthChoice::Fixed(auth) => (auth.clone(), false),
            AuthChoice::Random => (AuthData(rng.bytes()), true),
        };
        let (owner, owner_drawn) = pick(&settings.owner_auth);
        let (srk, srk_drawn) = pick(&settings.srk_auth);
        Self { owner, owner_drawn, srk, srk_drawn }
    }
}

impl Root {
    /// Format (1), whether the storage root key's secret is kept (1), that secret or zeros (20), the key's secret (20), length
    /// and bytes (1 to 1024) of its TPM_KEY.
    fn store(&self) -> Result<RootKey, ChipError> {
        let mut out = Zeroizing::new(Vec::with_capacity(2 + 20 + 20 + 4 + self.key.blob.len()));
        let mut w = Writer::new(&mut out);
        w.u8(FORMAT).u8(self.srk_auth.is_some().into()).bytes(self.srk_auth.as_ref().map_or(&[0; 20], |auth| &auth.0));
        w.bytes(&self.key.auth.0).sized32(&self.key.blob);
        RootKey::new(Version::V12, out)
    }

    pub(super) fn of(stored: &RootKey) -> Result<Self, ChipError> {
        Self::read(stored.body(Version::V12)?).ok().flatten().ok_or(stored.bad())
    }

    fn read(bytes: &[u8]) -> Result<Option<Self>, Truncated> {
        let mut r = Reader::new(bytes);
        let (format, kept, srk) = (r.u8()?, r.u8()?, AuthData(r.array()?));
        let key = StorageKey { auth: AuthData(r.array()?), blob: r.sized32()?.to_vec() };
        let sound = format == FORMAT && kept <= 1 && (1..=MAX_BLOB).contains(&key.blob.len()) && r.is_empty();
        Ok(sound.then_some(Self { srk_auth: (kept == 1).then_some(srk), key }))
    }

    /// The storage root key's secret: the one that was drawn, else the one that the operator gave.
    pub(super) fn srk(&self, settings: &Settings) -> Result<AuthData, ChipError> {
        match (&self.srk_auth, &settings.srk_auth) {
            (Some(kept), _) => Ok(kept.clone()),
            (None, AuthChoice::Fixed(given)) => Ok(given.clone()),
            (None, AuthChoice::Random) => Err(ChipError::SrkAuthChosen),
        }
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Makes a root key; takes ownership first if the chip has no owner, with the secrets in `taken`, which are drawn once:
    /// when the chip's answer was lost, the next attempt finds a chip that has them already.
    pub(crate) async fn create_root(
        &self,
        settings: &Settings,
        taken: &mut Option<Ownership>,
        rng: &mut Drbg,
    ) -> Result<NewRoot, ChipError> {
        if !self.owned().await? {
            log::info!(target: "vtpmmgr", "the TPM chip has no owner; taking ownership, which can take some minutes");
            let secrets = taken.get_or_insert_with(|| Ownership::choose(settings, rng));
            self.take_ownership(&secrets.owner, &secrets.srk, rng).await?;
        } else if taken.is_none() {
            log::info!(target: "vtpmmgr", "the TPM chip has an owner; using its storage root key with the given srk_auth");
        }
        let (srk_auth, owner) = match &*taken {
            Some(secrets) => {
                (secrets.srk_drawn.then(|| secrets.srk.clone()), secrets.owner_drawn.then(|| secrets.owner.clone()))
            }
            None => (None, None),
        };
        let srk = match (&srk_auth, &settings.srk_auth) {
            (Some(drawn), _) => drawn,
            (None, AuthChoice::Fixed(given)) => given,
            (None, AuthChoice::Random) => return Err(ChipError::SrkAuthChosen),
        };
        let key = self.create_storage_key(srk, rng).await.map_err(|error| wrong(error, Secret::Srk))?;
        Ok(NewRoot { key: Root { srk_auth, key }.store()?, owner })
    }

    /// Loads the root key, does `work` with its handle and secret, and unloads it again, whatever came of the work.
    pub(super) async fn with_root<O>(
        &self,
        settings: &Settings,
        root: &RootKey,
        rng: &mut Drbg,
        work: impl AsyncFnOnce(u32, &StorageKey, &mut Drbg) -> Result<O, ChipError>,
    ) -> Result<O, ChipError> {
        let root = Root::of(root)?;
        let srk = root.srk(settings)?;
        let handle = self.load(&srk, &root.key, rng).await.map_err(|error| wrong_load(error, Secret::Srk))?;
        let result = work(handle, &root.key, rng).await;
        // A chip that does not take this is noticed by the next command, and freed before the next operation.
        let _ = self.unload(handle).await;
        result
    }
}

/// A refusal of the first secret, told apart from other errors.
pub(super) fn wrong(error: ChipError, secret: Secret) -> ChipError {
    match error {
        ChipError::Refused { code: codes::AUTHFAIL, .. } => ChipError::WrongSecret(secret),
        other => other,
    }
}

/// A refusal to load a key: of its parent's secret, or of the key, which is another chip's then.
pub(super) fn wrong_load(error: ChipError, secret: Secret) -> ChipError {
    match wrong(error, secret) {
        ChipError::Refused { ordinal: ordinal @ ord::LOAD_KEY2, code } => not_ours(ordinal, code),
        other => other,
    }
}

/// A refusal that means that a key or blob is not this chip's, unless the code names a passing state of the chip.
pub(super) fn not_ours(ordinal: u32, code: u32) -> ChipError {
    let error = ChipError::Refused { ordinal, code };
    let passing = codes::PASSING.contains(&code) || error.outlook() != crate::hardware::Outlook::Final;
    if passing { error } else { ChipError::NotOurs { ordinal, code } }
}
