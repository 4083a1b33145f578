//! The storage root key: which one the manager uses, and the Name that pins it.

use super::keys::{Kind, Loaded, SaltKey, storage_key, storage_template};
use super::session::Session;
use super::{Chip, ChipError, Known, Name};
use crate::args::{AuthChoice, AuthData, OWNER_WELL_KNOWN};
use crate::hardware::{NewRoot, RootKey, Settings, Version};
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::{Drbg, ct_eq};
use tpm_wire::v20::{cc, handle, rh};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of [`Pinned`] that this software writes.
const FORMAT: u8 = 1;

/// Where the key comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// A handle at which the chip keeps it.
    Persistent(u32),
    /// Made from the standard template whenever it is used.
    Primary(Kind),
}

/// What the disk keeps: where the key is, and its Name.
struct Pinned {
    source: Source,
    name: Name,
}

impl Pinned {
    /// Format (1), source (1: persistent, 2: P-256 primary, 3: RSA 2048 primary), handle or zero (4), Name (34).
    fn store(&self) -> Result<RootKey, ChipError> {
        let (source, handle) = match self.source {
            Source::Persistent(handle) => (1, handle),
            Source::Primary(Kind::P256) => (2, 0),
            Source::Primary(Kind::Rsa2048) => (3, 0),
        };
        let mut out = Zeroizing::new(Vec::with_capacity(40));
        Writer::new(&mut out).u8(FORMAT).u8(source).u32(handle).bytes(&self.name);
        RootKey::new(Version::V20, out)
    }

    fn of(stored: &RootKey) -> Result<Self, ChipError> {
        let mut r = Reader::new(stored.body(Version::V20)?);
        let read = (|| Ok((r.u8()?, r.u8()?, r.u32()?, r.array()?)))().map_err(|_: Truncated| stored.bad())?;
        let (source, name) = match read {
            (FORMAT, 1, at, name) if is_persistent(at) => (Source::Persistent(at), name),
            (FORMAT, 2, 0, name) => (Source::Primary(Kind::P256), name),
            (FORMAT, 3, 0, name) => (Source::Primary(Kind::Rsa2048), name),
            _ => return Err(stored.bad()),
        };
        if r.is_empty() { Ok(Self { source, name }) } else { Err(stored.bad()) }
    }
}

fn is_persistent(at: u32) -> bool {
    at >> 24 == handle::PERSISTENT >> 24
}

/// The storage root key in use.
pub(super) struct Root {
    pub handle: u32,
    transient: bool,
    pub name: Name,
    pub key: SaltKey,
    /// Its secret.
    pub secret: AuthData,
}

/// A hierarchy's secret from `owner_auth=`. The well-known secret of TPM 1.2 stands for the empty one, which is what a TPM 2.0
/// chip has before anybody sets another.
pub(super) fn owner_secret(auth: &AuthData) -> &[u8] {
    if *auth == OWNER_WELL_KNOWN { &[] } else { &auth.0 }
}

/// The owner hierarchy's secret where only the operator's word is there. `random` stands for the empty one: the manager does not
/// set the hierarchy's secret.
fn given_owner(settings: &Settings) -> AuthData {
    match &settings.owner_auth {
        AuthChoice::Fixed(auth) => auth.clone(),
        AuthChoice::Random => OWNER_WELL_KNOWN,
    }
}

/// The storage root key's secret; all zeros, the well-known one, are the same as none for a TPM 2.0 chip.
fn srk_secret(settings: &Settings, source: Source) -> Result<AuthData, ChipError> {
    match (source, &settings.srk_auth) {
        (Source::Persistent(_), AuthChoice::Fixed(auth)) => Ok(auth.clone()),
        (Source::Persistent(_), AuthChoice::Random) => Err(ChipError::SrkAuthChosen),
        // It is made without one: whoever may make it could give it any.
        (Source::Primary(_), _) => Ok(AuthData([0; 20])),
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Chooses the storage root key: at the handle that `srk_handle=` gives, or at 0x81000001 if the key there is suitable,
    /// or a primary key of the standard template.
    pub(crate) async fn create_root<D>(
        &self,
        settings: &Settings,
        _drawn: &mut Option<D>,
        rng: &mut Drbg,
    ) -> Result<NewRoot, ChipError> {
        self.keep_randomness(rng);
        let (source, loaded) = self.find_root(settings, rng).await?;
        self.unload(&loaded).await;
        if storage_key(&loaded.public).is_none() {
            return Err(ChipError::Malformed { ordinal: cc::CREATE_PRIMARY });
        }
        srk_secret(settings, source)?;
        match source {
            Source::Persistent(at) => {
                log::info!(target: "vtpmmgr", "using the TPM chip's storage root key at {at:#010x}");
            }
            Source::Primary(_) => {
                log::info!(target: "vtpmmgr", "the TPM chip has no storage root key that can be used; making one from the standard template");
            }
        }
        // Nothing is drawn for the chip, but an owner's secret is asked for later and has to be known then.
        let owner = matches!(settings.owner_auth, AuthChoice::Random).then_some(OWNER_WELL_KNOWN);
        Ok(NewRoot { key: Pinned { source, name: loaded.name }.store()?, owner })
    }

    async fn find_root(&self, settings: &Settings, rng: &mut Drbg) -> Result<(Source, Loaded), ChipError> {
        if let Some(at) = settings.srk_handle {
            let suitable = match is_persistent(at) {
                true => self.read_public(at).await?.filter(|found| storage_key(&found.public).is_some()),
                false => None,
            };
            return match suitable {
                Some(found) => Ok((Source::Persistent(at), found)),
                None => Err(ChipError::Unsupported {
                    what: "srk_handle= as given: there is no persistent storage key that can be used (restricted to decryption, \
                           of this chip, used with a secret and without a policy, SHA-256 and AES)",
                }),
            };
        }
        match self.read_public(handle::SRK).await? {
            Some(found) if storage_key(&found.public).is_some() => {
                return Ok((Source::Persistent(handle::SRK), found));
            }
            Some(_) => {
                log::warn!(target: "vtpmmgr", "the key at 0x81000001 of the TPM chip is not a storage key that can be used");
            }
            None => (),
        }
        let kind = self.key_kind().await?;
        Ok((Source::Primary(kind), self.make_primary(settings, kind, rng).await?))
    }

    async fn make_primary(&self, settings: &Settings, kind: Kind, rng: &mut Drbg) -> Result<Loaded, ChipError> {
        let owner = given_owner(settings);
        let template = storage_template(kind);
        let result = self.create_owned_primary(rh::OWNER, owner_secret(&owner), &template, rng).await;
        result.map_err(wrong_owner)
    }

    /// Loads the storage root key and checks its Name.
    async fn open_root(&self, settings: &Settings, stored: &RootKey, rng: &mut Drbg) -> Result<Root, ChipError> {
        let pinned = Pinned::of(stored)?;
        let secret = srk_secret(settings, pinned.source)?;
        let known = self
            .known
            .borrow()
            .clone()
            .filter(|known| known.name == pinned.name && pinned.source == Source::Persistent(known.handle));
        if let Some(known) = known {
            let Known { handle, name, ref key } = *known;
            return Ok(Root { handle, transient: false, name, key: key.clone(), secret });
        }
        let loaded = match pinned.source {
            Source::Persistent(at) => self.read_public(at).await?.ok_or(ChipError::OtherRoot)?,
            Source::Primary(kind) => self.make_primary(settings, kind, rng).await?,
        };
        let key = storage_key(&loaded.public).filter(|_| ct_eq(&loaded.name, &pinned.name));
        let Some(key) = key else {
            self.unload(&loaded).await;
            return Err(ChipError::OtherRoot);
        };
        let Loaded { handle, transient, name, .. } = loaded;
        if !transient {
            *self.known.borrow_mut() = Some(Rc::new(Known { handle, name, key: key.clone() }));
        }
        Ok(Root { handle, transient, name, key, secret })
    }

    /// Loads the storage root key, does `work` with it, and unloads it again, whatever came of the work.
    pub(super) async fn with_root<O>(
        &self,
        settings: &Settings,
        stored: &RootKey,
        rng: &mut Drbg,
        work: impl AsyncFnOnce(&Root, &mut Drbg) -> Result<O, ChipError>,
    ) -> Result<O, ChipError> {
        self.keep_randomness(rng);
        let root = self.open_root(settings, stored, rng).await?;
        if self.opened.borrow().as_ref().is_none_or(|opened| opened.1 != *stored) {
            *self.opened.borrow_mut() = Some(Rc::new((settings.clone(), stored.clone())));
        }
        let result = work(&root, rng).await;
        if result.is_err() {
            // Perhaps the key at the handle is another one by now: it is looked at again.
            self.known.take();
        }
        if root.transient {
            self.flush(root.handle).await;
        }
        result
    }

    /// A session salted with the storage root key.
    pub(super) async fn session(&self, root: &Root, rng: &mut Drbg) -> Result<Session, ChipError> {
        self.hmac_session(root.handle, &root.key, rng).await
    }
}

/// A refusal of the owner's secret, told apart from other errors.
pub(super) fn wrong_owner(error: ChipError) -> ChipError {
    wrong_secret(error, crate::hardware::Secret::Owner)
}

/// A refusal of a secret, told apart from other errors.
pub(super) fn wrong_secret(error: ChipError, secret: crate::hardware::Secret) -> ChipError {
    match error {
        ChipError::Refused { code, .. } if super::is_wrong_secret(Some(tpm_wire::v20::rc::kind(code))) => {
            ChipError::WrongSecret(secret)
        }
        other => other,
    }
}
