//! Secrets sealed under the storage root key (TPM 2.0 Library, part 3, sections 12 and 23).
//!
//! Every sealed secret has a policy: the locality, then the PCRs if there is a condition, then the secret if there is one. What
//! has no secret of its own is out of reach of the chip's dictionary-attack logic, since there is nothing to guess.

use super::pcr::wire;
use super::root::{Root, wrong_secret};
use super::session::{Auth, Session, name_of};
use super::{Chip, ChipError, Name, is_wrong_secret, read, refusal};
use crate::hardware::{Bank, Outlook, PcrCondition, PcrSelection, RootKey, Sealed, Secret, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, sha256};
use tpm_wire::v20::{Public, Unique, alg, cc, object, rc, se, session};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of [`Stored`] that this software writes.
const FORMAT: u8 = 1;
/// The longest public or private part taken, in bytes. Those of a sealed secret have about 90 and 200.
const MAX_PART: usize = 768;

/// What must hold when the secret is opened.
#[derive(Clone, PartialEq, Eq)]
struct Policy {
    /// The locality, 0 to 4.
    locality: u8,
    /// Bank and selection of PCRs, and the SHA-256 over their values.
    pcrs: Option<(Bank, PcrSelection, [u8; 32])>,
    /// Whether a secret is asked for.
    secret: bool,
}

/// An object made by TPM2_Create: TPMT_PUBLIC and TPM2B_PRIVATE's content.
pub(super) struct Object {
    pub public: Vec<u8>,
    pub private: Vec<u8>,
}

/// A sealed secret.
struct Stored {
    policy: Policy,
    object: Object,
}

impl Object {
    /// Both parts, each behind its length.
    pub fn put(&self, w: &mut Writer<'_>) {
        w.sized16(&self.public).sized16(&self.private);
    }

    pub fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let (public, private) = (r.sized16()?, r.sized16()?);
        let fits = |part: &[u8]| (1..=MAX_PART).contains(&part.len());
        if !fits(public) || !fits(private) {
            return Err(Truncated);
        }
        Ok(Self { public: public.to_vec(), private: private.to_vec() })
    }
}

impl Policy {
    fn of(settings: &Settings, condition: Option<&PcrCondition>, secret: bool) -> Result<Self, ChipError> {
        let pcrs = match condition {
            None => None,
            Some(condition) => {
                let digest = condition.digest.as_slice().try_into();
                let digest = digest.map_err(|_| ChipError::BadForm { what: "the PCR configuration" })?;
                Some((condition.bank, condition.selection, digest))
            }
        };
        Ok(Self { locality: settings.locality, pcrs, secret })
    }

    const fn locality_bit(&self) -> u8 {
        match self.locality {
            0..=4 => 1 << self.locality,
            _ => 0,
        }
    }

    /// The policy's digest, as the chip computes it (sections 23.7, 23.8 and 23.17).
    fn digest(&self) -> [u8; 32] {
        let mut digest = sha256(&[&[0; 32], &cc::POLICY_LOCALITY.to_be_bytes(), &[self.locality_bit()]]);
        if let Some((bank, selection, values)) = &self.pcrs {
            let mut pcrs = Vec::new();
            wire(*bank, *selection).put_list(&mut Writer::new(&mut pcrs));
            digest = sha256(&[&digest, &cc::POLICY_PCR.to_be_bytes(), &pcrs, values]);
        }
        if self.secret {
            digest = sha256(&[&digest, &cc::POLICY_AUTH_VALUE.to_be_bytes()]);
        }
        digest
    }

    /// Locality (1), whether a secret is asked for (1), bank or zero (2), mask (4), digest or zeros (32).
    fn put(&self, w: &mut Writer<'_>) {
        let (bank, mask, digest) = match &self.pcrs {
            Some((bank, selection, digest)) => (bank.id(), selection.mask(), *digest),
            None => (0, 0, [0; 32]),
        };
        w.u8(self.locality).u8(self.secret.into()).u16(bank).u32(mask).bytes(&digest);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let (locality, secret) = (r.u8()?, r.u8()?);
        let (bank, mask, digest) = (r.u16()?, r.u32()?, r.array()?);
        let pcrs = match bank {
            0 if mask == 0 && digest == [0; 32] => None,
            bank => {
                let bank = Bank::from_id(bank).ok_or(Truncated)?;
                Some((bank, PcrSelection::from_mask(mask).ok_or(Truncated)?, digest))
            }
        };
        if locality > 4 || secret > 1 {
            return Err(Truncated);
        }
        Ok(Self { locality, pcrs, secret: secret == 1 })
    }
}

impl Stored {
    /// Format (1), policy (40), public and private part behind their lengths.
    fn store(&self) -> Result<Sealed, ChipError> {
        let mut out = Zeroizing::new(Vec::new());
        let mut w = Writer::new(&mut out);
        w.u8(FORMAT);
        self.policy.put(&mut w);
        self.object.put(&mut w);
        Sealed::new(Version::V20, out)
    }

    fn of(sealed: &Sealed) -> Result<Self, ChipError> {
        let mut r = Reader::new(sealed.body(Version::V20)?);
        let read = (|| Ok((r.u8()?, Policy::get(&mut r)?, Object::get(&mut r)?)))();
        match read.map_err(|_: Truncated| sealed.bad())? {
            (FORMAT, policy, object) if r.is_empty() => Ok(Self { policy, object }),
            _ => Err(sealed.bad()),
        }
    }
}

/// What TPM2_Create says about how it made an object: TPMS_CREATION_DATA, its hash, and the ticket (TPMT_TK_CREATION).
pub(super) struct Creation {
    pub data: Vec<u8>,
    pub hash: Vec<u8>,
    pub ticket: Vec<u8>,
}

/// A refusal of a blob that means that it is not this chip's, unless the code names a passing state of the chip.
fn not_ours(error: ChipError) -> ChipError {
    match error {
        ChipError::Refused { ordinal, code } if error.outlook() == Outlook::Final => match rc::kind(code) {
            rc::LOCKOUT | rc::FAILURE | rc::DISABLED | rc::NV_SPACE | rc::REBOOT | rc::UPGRADE => error,
            _ => ChipError::NotOurs { ordinal, code },
        },
        other => other,
    }
}

impl<T: Transport> Chip<'_, T> {
    /// TPM2_Create (section 12.1) under the storage root key: `secret` is the new object's own, `data` what is to be sealed
    /// or nothing, `outside` goes into its creation data.
    pub(super) async fn create(
        &self,
        root: &Root,
        secret: &[u8],
        data: &[u8],
        template: &[u8],
        outside: &[u8],
        rng: &mut Drbg,
    ) -> Result<(Object, Creation), ChipError> {
        const CODE: u32 = cc::CREATE;
        let size = 4 + secret.len() + data.len();
        let mut params = Zeroizing::new(Vec::with_capacity(2 + size + 2 + template.len() + 2 + outside.len() + 4));
        let mut w = Writer::new(&mut params);
        w.u16(u16::try_from(size).map_err(|_| ChipError::BadForm { what: "a secret of this length" })?);
        w.sized16(secret).sized16(data).sized16(template).sized16(outside).u32(0);
        let session = self.session(root, rng).await?;
        let auth = Auth::hmac(&session, &root.secret.0, session::DECRYPT | session::ENCRYPT);
        let result = self.call_authorized(&[auth], CODE, &[(root.handle, &root.name)], &params, 0).await;
        let (_, out) = result.map_err(|error| wrong_secret(error, Secret::Srk))?;
        read(&out, CODE, |r| {
            let (private, public) = (r.sized16()?.to_vec(), r.sized16()?.to_vec());
            let (data, hash) = (r.sized16()?.to_vec(), r.sized16()?.to_vec());
            let before = r.rest();
            let (_tag, _hierarchy, _digest) = (r.u16()?, r.u32()?, r.sized16()?);
            let fits = |part: &[u8]| (1..=MAX_PART).contains(&part.len());
            if !fits(&private) || !fits(&public) {
                return Err(Truncated);
            }
            Ok((Object { public, private }, Creation { data, hash, ticket: before.to_vec() }))
        })
    }

    /// TPM2_Load (section 12.2); whoever loads unloads. Returns handle and Name.
    pub(super) async fn load(&self, root: &Root, object: &Object, rng: &mut Drbg) -> Result<(u32, Name), ChipError> {
        const CODE: u32 = cc::LOAD;
        let mut params = Vec::new();
        Writer::new(&mut params).sized16(&object.private).sized16(&object.public);
        let session = self.session(root, rng).await?;
        let auth = Auth::hmac(&session, &root.secret.0, 0);
        let result = self.call_authorized(&[auth], CODE, &[(root.handle, &root.name)], &params, 1).await;
        let (handles, out) = result.map_err(|error| not_ours(wrong_secret(error, Secret::Srk)))?;
        let handle = handles.first().copied().ok_or(ChipError::Malformed { ordinal: CODE })?;
        let name = name_of(&object.public);
        let right = read(&out, CODE, |r| r.sized16().map(|given| given == name));
        match right {
            Ok(true) => Ok((handle, name)),
            _ => {
                self.flush(handle).await;
                Err(ChipError::Malformed { ordinal: CODE })
            }
        }
    }

    /// Loads an object, does `work` with its handle and Name, and unloads it again.
    pub(super) async fn with_object<O>(
        &self,
        root: &Root,
        object: &Object,
        rng: &mut Drbg,
        work: impl AsyncFnOnce(u32, &Name, &mut Drbg) -> Result<O, ChipError>,
    ) -> Result<O, ChipError> {
        let (handle, name) = self.load(root, object, rng).await?;
        let result = work(handle, &name, rng).await;
        self.flush(handle).await;
        result
    }

    pub(crate) async fn seal(
        &self,
        settings: &Settings,
        root: &RootKey,
        secret: &[u8],
        condition: Option<&PcrCondition>,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Sealed, ChipError> {
        let policy = Policy::of(settings, condition, auth.is_some())?;
        let digest = policy.digest();
        let no_da = if auth.is_some() { 0 } else { object::NO_DA };
        let mut template = Vec::new();
        Public {
            name_alg: alg::SHA256,
            attributes: object::FIXED_TPM | object::FIXED_PARENT | object::ADMIN_WITH_POLICY | no_da,
            policy: &digest,
            unique: Unique::Data(&[]),
        }
        .put(&mut Writer::new(&mut template));
        let auth: &[u8] = auth.map_or(&[], |auth| auth);
        let (object, _) = self
            .with_root(settings, root, rng, async |root, rng| {
                self.create(root, auth, secret, &template, &[], rng).await
            })
            .await?;
        let as_asked = Public::parse(&object.public).is_ok_and(|public| public.policy == digest);
        if !as_asked {
            return Err(ChipError::Malformed { ordinal: cc::CREATE });
        }
        Stored { policy, object }.store()
    }

    pub(crate) async fn unseal(
        &self,
        settings: &Settings,
        root: &RootKey,
        sealed: &Sealed,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let Stored { policy, object } = Stored::of(sealed)?;
        let secret: &[u8] = match (policy.secret, auth) {
            (true, Some(auth)) => auth,
            (true, None) => return Err(ChipError::WrongSecret(Secret::Blob)),
            (false, _) => &[],
        };
        self.with_root(settings, root, rng, async |root, rng| {
            self.with_object(root, &object, rng, async |handle, name, rng| {
                let session = self.policy_session(root, &policy, rng).await?;
                let auth = Auth::Session { session: &session, secret, keyed: policy.secret, protect: session::ENCRYPT };
                let result = self.call_authorized(&[auth], cc::UNSEAL, &[(handle, name)], &[], 0).await;
                let (_, out) = result.map_err(|error| not_opened(error, &policy))?;
                read(&out, cc::UNSEAL, |r| r.sized16().map(|secret| Zeroizing::new(secret.to_vec())))
            })
            .await
        })
        .await
    }

    /// A session that fulfils the policy, as far as the chip checks that now.
    async fn policy_session(&self, root: &Root, policy: &Policy, rng: &mut Drbg) -> Result<Session, ChipError> {
        let session = self.start_session(se::POLICY, root.handle, &root.key, rng).await?;
        match self.fulfil(session.handle, policy).await {
            Ok(()) => Ok(session),
            Err(error) => {
                self.flush(session.handle).await;
                Err(error)
            }
        }
    }

    async fn fulfil(&self, session: u32, policy: &Policy) -> Result<(), ChipError> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(session).u8(policy.locality_bit());
        self.call(cc::POLICY_LOCALITY, &params).await?;
        if let Some((bank, selection, digest)) = &policy.pcrs {
            let mut params = Vec::new();
            let mut w = Writer::new(&mut params);
            w.u32(session).sized16(digest);
            wire(*bank, *selection).put_list(&mut w);
            self.call(cc::POLICY_PCR, &params).await.map_err(|error| match refusal(&error, cc::POLICY_PCR) {
                Some(rc::VALUE) => ChipError::PcrMismatch,
                _ => error,
            })?;
        }
        if policy.secret {
            self.call(cc::POLICY_AUTH_VALUE, &session.to_be_bytes()).await?;
        }
        Ok(())
    }
}

/// What a refused TPM2_Unseal says.
fn not_opened(error: ChipError, policy: &Policy) -> ChipError {
    match refusal(&error, cc::UNSEAL) {
        Some(rc::LOCALITY) => ChipError::Locality { sealed: policy.locality },
        Some(rc::PCR_CHANGED) => ChipError::PcrMismatch,
        kind if policy.secret && is_wrong_secret(kind) => ChipError::WrongSecret(Secret::Blob),
        Some(_) => not_ours(error),
        None => error,
    }
}
