//! The chip, whatever its version.
//!
//! [`Hardware`] is the one door to it: it asks the chip which specification it follows, and it is the one place that makes up
//! for a chip that stops answering, is started anew under the manager, or answers garbage (`steady`). Every
//! operation loads what it needs and leaves nothing behind in the chip.

mod detect;
mod error;
mod steady;
mod types;

pub use error::{ChipError, Outlook, Secret};
pub use types::{
    AttestationKey, Bank, ChipInfo, Counter, Digest, KeyNumbers, PcrCondition, PcrSelection, PublicKey, Quote, RootKey,
    Sealed, Version,
};

use crate::args::{AuthChoice, AuthData, Options};
use crate::{chip12, chip20};
use alloc::vec::Vec;
use frontback::looper::Timer;
use steady::Steady;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use zeroize::Zeroizing;

/// The longest secret that can be sealed, in bytes.
pub const MAX_SECRET: usize = 128;

/// What the operator said about the chip.
#[derive(Clone)]
pub struct Settings {
    /// `owner_auth=`.
    pub owner_auth: AuthChoice,
    /// `srk_auth=`.
    pub srk_auth: AuthChoice,
    /// `srk_handle=`: the storage root key of a TPM 2.0 chip.
    pub srk_handle: Option<u32>,
    /// `tpmlocality=`, 0 to 4: where the driver works, and where what is sealed can be unsealed on a TPM 1.2 chip.
    pub locality: u8,
}

impl From<&Options> for Settings {
    fn from(options: &Options) -> Self {
        Self {
            owner_auth: options.owner_auth.clone(),
            srk_auth: options.srk_auth.clone(),
            srk_handle: options.srk_handle,
            locality: options.locality,
        }
    }
}

/// A root key that was just made.
pub struct NewRoot {
    /// The key, for the disk.
    pub key: RootKey,
    /// The owner's secret, if it was drawn now: to be kept on the disk, encrypted.
    pub owner: Option<AuthData>,
}

/// A chip behind a transport.
pub struct Hardware<'a, T> {
    chip: Kind<'a, T>,
    settings: Settings,
    steady: Steady<'a>,
}

/// The client for the chip's version.
enum Kind<'a, T> {
    /// A TPM 1.2 chip.
    Tpm12(chip12::Chip<'a, T>),
    /// A TPM 2.0 chip.
    Tpm20(chip20::Chip<'a, T>),
}

/// Does the work with the client for the chip's version, and again if the chip was lost.
macro_rules! steadily {
    ($self:ident, $chip:ident => $work:expr) => {
        $self
            .steady
            .run(
                async || $self.restart().await,
                async || match &$self.chip {
                    Kind::Tpm12($chip) => $work,
                    Kind::Tpm20($chip) => $work,
                },
            )
            .await
    };
}

/// As [`steadily`], for what only a TPM 1.2 chip has.
macro_rules! steadily12 {
    ($self:ident, $what:literal, $chip:ident => $work:expr) => {
        $self
            .steady
            .run(
                async || $self.restart().await,
                async || match &$self.chip {
                    Kind::Tpm12($chip) => $work,
                    Kind::Tpm20(_) => Err(ChipError::Unsupported { what: $what }),
                },
            )
            .await
    };
}

impl<'a, T: Transport> Hardware<'a, T> {
    /// Asks the chip at the other end of `transport` which specification it follows. A chip that is not there yet is asked
    /// again, as often as for every other operation.
    pub async fn detect(transport: T, timer: &'a Timer, settings: Settings) -> Result<Self, ChipError> {
        let steady = Steady::new(timer);
        let version = steady.run(async || Ok(false), async || detect::version(&transport).await).await?;
        let chip = match version {
            Version::V12 => Kind::Tpm12(chip12::Chip::new(transport, timer)),
            Version::V20 => Kind::Tpm20(chip20::Chip::new(transport, timer)),
        };
        Ok(Self { chip, settings, steady })
    }

    /// The chip's version.
    pub const fn version(&self) -> Version {
        match &self.chip {
            Kind::Tpm12(_) => Version::V12,
            Kind::Tpm20(_) => Version::V20,
        }
    }

    /// What the operator said about the chip.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts the chip if the firmware has not, frees what others left behind in it, and asks what it is.
    pub async fn start(&self) -> Result<ChipInfo, ChipError> {
        steadily!(self, chip => chip.identify().await)
    }

    /// Gives a TPM 2.0 chip's client what the sessions of [`Self::random`] draw their secrets from: at least 48 bytes of another
    /// source than the chip. Without it the first random bytes travel in the clear.
    pub fn provide_entropy(&self, entropy: &[u8]) {
        match &self.chip {
            Kind::Tpm12(_) => (),
            Kind::Tpm20(chip) => chip.provide_entropy(entropy),
        }
    }

    /// `count` bytes from the chip's random generator. On their way from a TPM 2.0 chip they are encrypted.
    pub async fn random(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        steadily!(self, chip => chip.random(count).await)
    }

    /// At most `count` random bytes, as TPM_GetRandom gives them to a vTPM.
    pub async fn vtpm_random(&self, count: u32) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        steadily!(self, chip => chip.vtpm_random(count).await)
    }

    /// A PCR of the SHA-1 bank, as TPM_PCRRead gives it to a vTPM.
    pub async fn vtpm_pcr(&self, index: u32) -> Result<[u8; 20], ChipError> {
        steadily!(self, chip => chip.vtpm_pcr(index).await)
    }

    /// Extends a PCR by a SHA-1 digest (2.0: in the SHA-1 bank) and returns its new value. Done once only, even if the chip's
    /// answer is lost.
    pub async fn extend12(&self, index: u32, digest: &[u8; 20]) -> Result<[u8; 20], ChipError> {
        let mut before = None;
        self.steady
            .run(
                async || self.restart().await,
                async || {
                    let now = self.pcr12(index).await?;
                    let extended = |old: &[u8; 20]| tpm_crypto::sha1(&[old, digest]);
                    if before.is_some_and(|old| extended(&old) == now) {
                        return Ok(now);
                    }
                    before = Some(now);
                    match &self.chip {
                        Kind::Tpm12(chip) => chip.extend12(index, digest).await,
                        Kind::Tpm20(chip) => chip.extend12(index, digest).await,
                    }
                },
            )
            .await
    }

    async fn pcr12(&self, index: u32) -> Result<[u8; 20], ChipError> {
        match &self.chip {
            Kind::Tpm12(chip) => chip.vtpm_pcr(index).await,
            Kind::Tpm20(chip) => chip.vtpm_pcr(index).await,
        }
    }

    /// The values of these PCRs in the bank that the manager uses, in ascending order.
    pub async fn pcr_values(&self, selection: PcrSelection) -> Result<Vec<(u8, Digest)>, ChipError> {
        steadily!(self, chip => chip.pcr_values(selection).await)
    }

    /// What these PCRs are now, as a condition to seal to.
    pub async fn pcr_condition(&self, selection: PcrSelection) -> Result<PcrCondition, ChipError> {
        steadily!(self, chip => chip.pcr_condition(selection).await)
    }

    /// Makes the key that everything of the manager lies under. Takes ownership of a TPM 1.2 chip that has no owner, which can
    /// take minutes.
    pub async fn create_root(&self, rng: &mut Drbg) -> Result<NewRoot, ChipError> {
        let mut drawn: Option<chip12::Ownership> = None;
        steadily!(self, chip => chip.create_root(&self.settings, &mut drawn, rng).await)
    }

    /// Seals up to [`MAX_SECRET`] bytes. With a condition, the chip gives them back only when the PCRs are as it says, whatever
    /// they are now; with `auth`, only to who knows it. Without `auth` the secret of the blob is drawn and stored with it.
    pub async fn seal(
        &self,
        root: &RootKey,
        secret: &[u8],
        condition: Option<&PcrCondition>,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Sealed, ChipError> {
        if secret.is_empty() || secret.len() > MAX_SECRET {
            return Err(ChipError::BadForm { what: "a secret of this length" });
        }
        steadily!(self, chip => chip.seal(&self.settings, root, secret, condition, auth, rng).await)
    }

    /// Opens what [`Self::seal`] made; `auth` as it was given there.
    pub async fn unseal(
        &self,
        root: &RootKey,
        sealed: &Sealed,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        steadily!(self, chip => chip.unseal(&self.settings, root, sealed, auth, rng).await)
    }

    /// Makes a counter. `kept_owner` is the owner's secret if the manager drew it ([`NewRoot::owner`]).
    pub async fn counter_create(
        &self,
        root: &RootKey,
        kept_owner: Option<&AuthData>,
        rng: &mut Drbg,
    ) -> Result<Counter, ChipError> {
        let owner = self.owner(kept_owner)?;
        // Label or index, and the secret: the same in every attempt.
        let mut drawn: Option<Zeroizing<[u8; 24]>> = None;
        steadily!(self, chip => chip.counter_create(&self.settings, root, &owner, &mut drawn, rng).await)
    }

    /// The value of a counter, authentic.
    pub async fn counter_read(&self, root: &RootKey, counter: &Counter, rng: &mut Drbg) -> Result<u64, ChipError> {
        steadily!(self, chip => chip.counter_read(&self.settings, root, counter, rng).await)
    }

    /// Steps a counter by one, once only even if the chip's answer is lost, and returns its new value, authentic.
    pub async fn counter_increment(&self, root: &RootKey, counter: &Counter, rng: &mut Drbg) -> Result<u64, ChipError> {
        let mut before: Option<u64> = None;
        steadily!(self, chip => {
            if let Some(old) = before {
                let now = chip.counter_read(&self.settings, root, counter, rng).await?;
                if now > old {
                    return Ok(now);
                }
            }
            // Whoever forges this can have the step made twice, or make one that was made look like none: both are noticed by the
            // value that comes back in the end.
            before = Some(self.glance(root, counter, rng).await?);
            chip.counter_increment(&self.settings, root, counter, rng).await
        })
    }

    /// What a counter seems to be, by the shortest way.
    async fn glance(&self, root: &RootKey, counter: &Counter, rng: &mut Drbg) -> Result<u64, ChipError> {
        match &self.chip {
            Kind::Tpm12(chip) => chip.counter_glance(counter).await,
            Kind::Tpm20(chip) => chip.counter_read(&self.settings, root, counter, rng).await,
        }
    }

    /// Deletes a counter.
    pub async fn counter_delete(
        &self,
        root: &RootKey,
        kept_owner: Option<&AuthData>,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily!(self, chip => chip.counter_delete(&self.settings, root, &owner, counter, rng).await)
    }

    /// Makes a key for quotes. The second part binds it to the chip: 1.2, the identity binding that TPM_MakeIdentity signs over
    /// `label` (the SHA-1 over label and privacy CA's key), 256 bytes; 2.0, TPMS_ATTEST and TPMT_SIGNATURE of its creation and the
    /// TPMS_CREATION_DATA with `label` in them, each behind its 16-bit length.
    pub async fn ak_create(
        &self,
        root: &RootKey,
        kept_owner: Option<&AuthData>,
        label: &[u8; 20],
        rng: &mut Drbg,
    ) -> Result<(AttestationKey, Vec<u8>), ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily!(self, chip => chip.ak_create(&self.settings, root, &owner, label, rng).await)
    }

    /// The public part of a key for quotes.
    pub fn ak_public(&self, ak: &AttestationKey) -> Result<PublicKey, ChipError> {
        match &self.chip {
            Kind::Tpm12(chip) => chip.ak_public(ak),
            Kind::Tpm20(chip) => chip.ak_public(ak),
        }
    }

    /// Has the chip sign these PCRs together with `external`.
    pub async fn quote(
        &self,
        root: &RootKey,
        ak: &AttestationKey,
        external: &[u8; 20],
        selection: PcrSelection,
        rng: &mut Drbg,
    ) -> Result<Quote, ChipError> {
        steadily!(self, chip => chip.quote(&self.settings, root, ak, external, selection, rng).await)
    }

    /// Opens what a privacy CA encrypted for this chip and this key. 1.2: TPM_ActivateIdentity, from the encrypted
    /// TPM_ASYM_CA_CONTENTS or TPM_EK_BLOB to TPM_SYMMETRIC_KEY. 2.0: TPM2_ActivateCredential, from TPM2B_ID_OBJECT and
    /// TPM2B_ENCRYPTED_SECRET to the credential, a TPM2B_DIGEST.
    pub async fn activate(
        &self,
        root: &RootKey,
        kept_owner: Option<&AuthData>,
        ak: &AttestationKey,
        blob: &[u8],
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily!(self, chip => chip.activate(&self.settings, root, &owner, ak, blob, rng).await)
    }

    /// Defines the area of a TPM 1.2 chip's NV memory that a TPM_NV_DATA_PUBLIC describes, with this secret.
    pub async fn nv_define(
        &self,
        kept_owner: Option<&AuthData>,
        public: &[u8],
        auth: &[u8; 20],
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily12!(self, "this form of NV memory", chip => chip.nv_define(&owner, public, auth, rng).await)
    }

    /// Writes to an area of a TPM 1.2 chip's NV memory, with the owner's authorization.
    pub async fn nv_write(
        &self,
        kept_owner: Option<&AuthData>,
        index: u32,
        offset: u32,
        data: &[u8],
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily12!(self, "this form of NV memory", chip => chip.nv_write(&owner, index, offset, data, rng).await)
    }

    /// Reads up to `size` bytes from an area of a TPM 1.2 chip's NV memory, with the owner's authorization.
    pub async fn nv_read(
        &self,
        kept_owner: Option<&AuthData>,
        index: u32,
        offset: u32,
        size: u32,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily12!(self, "this form of NV memory", chip => chip.nv_read(&owner, index, offset, size, rng).await)
    }

    /// The public endorsement key.
    pub async fn ek_public(&self, kept_owner: Option<&AuthData>, rng: &mut Drbg) -> Result<PublicKey, ChipError> {
        let owner = self.owner(kept_owner)?;
        steadily!(self, chip => chip.ek_public(&self.settings, &owner, rng).await)
    }

    /// Tells the chip that its power may go, as a clean stop does; it works on until then. A TPM 1.2 chip needs no word.
    pub async fn shut_down(&self) {
        match &self.chip {
            Kind::Tpm12(_) => (),
            Kind::Tpm20(chip) => chip.shut_down().await,
        }
    }

    /// The owner's secret: the one that the manager drew, else the one that the operator gave.
    pub fn owner(&self, kept: Option<&AuthData>) -> Result<AuthData, ChipError> {
        match (kept, &self.settings.owner_auth) {
            (Some(kept), _) => Ok(kept.clone()),
            (None, AuthChoice::Fixed(given)) => Ok(given.clone()),
            (None, AuthChoice::Random) => Err(ChipError::OwnerUnknown),
        }
    }

    /// Makes a chip ready that was lost: whether it had been started anew.
    async fn restart(&self) -> Result<bool, ChipError> {
        match &self.chip {
            Kind::Tpm12(chip) => chip.restart().await,
            Kind::Tpm20(chip) => chip.restart().await,
        }
    }
}
