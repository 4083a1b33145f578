//! The key for quotes, and quotes (TPM 2.0 Library, part 3, section 18).

use super::keys::{attestation_template, public_key};
use super::pcr::{digest, wire};
use super::root::Root;
use super::seal::{Creation, Object};
use super::session::Auth;
use super::{Chip, ChipError, Name, read};
use crate::args::AuthData;
use crate::hardware::{AttestationKey, Digest, PcrSelection, PublicKey, Quote, RootKey, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, ct_eq};
use tpm_wire::v20::{Attest, Attested, Public, Signature, alg, cc};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of [`Stored`] that this software writes.
const FORMAT: u8 = 1;
/// How often a quote is made again of PCRs that change while they are read.
const ATTEMPTS: u32 = 4;

/// A key for quotes: its secret, and the object.
pub(super) struct Stored {
    pub auth: AuthData,
    pub object: Object,
}

impl Stored {
    /// Format (1), secret (20), public and private part behind their lengths.
    fn store(&self) -> Result<AttestationKey, ChipError> {
        let mut out = Zeroizing::new(Vec::new());
        let mut w = Writer::new(&mut out);
        w.u8(FORMAT).bytes(&self.auth.0);
        self.object.put(&mut w);
        AttestationKey::new(Version::V20, out)
    }

    pub fn of(stored: &AttestationKey) -> Result<Self, ChipError> {
        let mut r = Reader::new(stored.body(Version::V20)?);
        let read = (|| Ok((r.u8()?, r.array()?, Object::get(&mut r)?)))();
        match read.map_err(|_: Truncated| stored.bad())? {
            (FORMAT, auth, object) if r.is_empty() => Ok(Self { auth: AuthData(auth), object }),
            _ => Err(stored.bad()),
        }
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Makes a key under the storage root key that signs nothing but what the chip says about itself: ECDSA on P-256 with SHA-256,
    /// or RSASSA with 2048 bits where the chip has no elliptic curves. Its creation data hold `label`, and it certifies them itself
    /// (TPM2_CertifyCreation): TPMS_ATTEST, TPMT_SIGNATURE and TPMS_CREATION_DATA, each behind its 16-bit length.
    pub(crate) async fn ak_create(
        &self,
        settings: &Settings,
        root: &RootKey,
        _owner: &AuthData,
        label: &[u8; 20],
        rng: &mut Drbg,
    ) -> Result<(AttestationKey, Vec<u8>), ChipError> {
        let template = attestation_template(self.key_kind().await?);
        let auth = AuthData(rng.bytes());
        self.with_root(settings, root, rng, async |root, rng| {
            let secret = super::session::stripped(&auth.0);
            let (object, creation) = self.create(root, secret, &[], &template, label, rng).await?;
            let same = |made: &Public<'_>, asked: &Public<'_>| {
                made.attributes == asked.attributes && made.policy == asked.policy && made.name_alg == asked.name_alg
            };
            let as_asked = match (Public::parse(&object.public), Public::parse(&template)) {
                (Ok(made), Ok(asked)) => same(&made, &asked) && public_key(&object.public).is_some(),
                _ => false,
            };
            if !as_asked {
                return Err(ChipError::Malformed { ordinal: cc::CREATE });
            }
            let binding = self
                .with_object(root, &object, rng, async |handle, name, rng| {
                    self.certify_creation(root, handle, name, &auth, label, &creation, rng).await
                })
                .await?;
            Ok((Stored { auth: auth.clone(), object }.store()?, binding))
        })
        .await
    }

    /// TPM2_CertifyCreation (section 18.3) of a key by itself.
    #[allow(clippy::too_many_arguments)] // a step of ak_create, with what it has
    async fn certify_creation(
        &self,
        root: &Root,
        handle: u32,
        name: &Name,
        auth: &AuthData,
        label: &[u8; 20],
        creation: &Creation,
        rng: &mut Drbg,
    ) -> Result<Vec<u8>, ChipError> {
        const CODE: u32 = cc::CERTIFY_CREATION;
        let mut params = Vec::new();
        Writer::new(&mut params).sized16(label).sized16(&creation.hash).u16(alg::NULL).bytes(&creation.ticket);
        let session = self.session(root, rng).await?;
        let handles: [(u32, &[u8]); 2] = [(handle, name), (handle, name)];
        let auth = Auth::hmac(&session, &auth.0, 0);
        let (_, out) = self.call_authorized(&[auth], CODE, &handles, &params, 0).await?;
        let (attest, signature) = attested(&out, CODE)?;
        let mut binding = Vec::new();
        Writer::new(&mut binding).sized16(attest).sized16(signature).sized16(&creation.data);
        Ok(binding)
    }

    /// The public part of a key for quotes.
    pub(crate) fn ak_public(&self, ak: &AttestationKey) -> Result<PublicKey, ChipError> {
        public_key(&Stored::of(ak)?.object.public).ok_or(ak.bad())
    }

    /// TPM2_Quote (section 18.4) with `external` as qualifying data.
    pub(crate) async fn quote(
        &self,
        settings: &Settings,
        root: &RootKey,
        ak: &AttestationKey,
        external: &[u8; 20],
        selection: PcrSelection,
        rng: &mut Drbg,
    ) -> Result<Quote, ChipError> {
        const CODE: u32 = cc::QUOTE;
        let Stored { auth, object } = Stored::of(ak)?;
        let bank = self.bank().await?;
        let mut params = Vec::new();
        let mut w = Writer::new(&mut params);
        w.sized16(external).u16(alg::NULL);
        wire(bank, selection).put_list(&mut w);
        self.with_root(settings, root, rng, async |root, rng| {
            self.with_object(root, &object, rng, async |handle, name, rng| {
                for _ in 0..ATTEMPTS {
                    let session = self.session(root, rng).await?;
                    let hmac = Auth::hmac(&session, &auth.0, 0);
                    let (_, out) = self.call_authorized(&[hmac], CODE, &[(handle, name)], &params, 0).await?;
                    let (attest, signature) = attested(&out, CODE)?;
                    let pcrs = match selection.is_empty() {
                        true => Vec::new(),
                        false => self.pcr_values(selection).await?,
                    };
                    if is_about(attest, external, wire(bank, selection), &pcrs).ok_or(malformed(CODE))? {
                        let (attest, signature) = (attest.to_vec(), signature.to_vec());
                        return Ok(Quote { version: Version::V20, attest, signature, pcrs });
                    }
                }
                Err(malformed(CODE))
            })
            .await
        })
        .await
    }
}

const fn malformed(ordinal: u32) -> ChipError {
    ChipError::Malformed { ordinal }
}

/// TPMS_ATTEST and TPMT_SIGNATURE of an answer.
fn attested(out: &[u8], code: u32) -> Result<(&[u8], &[u8]), ChipError> {
    read(out, code, |r| {
        let attest = r.sized16()?;
        Attest::parse(attest)?;
        let signature = r.bytes(r.rest().len())?;
        Signature::parse(signature)?;
        Ok((attest, signature))
    })
}

/// Whether a quote's digest is that of these values; `None` if it is not a quote of what was asked for.
fn is_about(attest: &[u8], external: &[u8; 20], asked: tpm_wire::v20::PcrBank, pcrs: &[(u8, Digest)]) -> Option<bool> {
    let attest = Attest::parse(attest).ok()?;
    match attest.attested {
        Attested::Quote { pcrs: found, digest: quoted } if found == asked && attest.extra_data == external => {
            Some(ct_eq(quoted, &digest(pcrs.iter().map(|(_, value)| value))))
        }
        _ => None,
    }
}
