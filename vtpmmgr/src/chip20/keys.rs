//! Keys of the chip: templates, primaries, and encrypting to them.

use super::session::{Auth, Session, name_of, permanent, stripped};
use super::{Chip, ChipError, Name, read};
use crate::hardware::{KeyNumbers, PublicKey};
use alloc::vec::Vec;
use tpm_crypto::ecc::{P256Private, P256Public};
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, kdfe_sha256};
use tpm_wire::v20::{EccParms, Public, RsaParms, Scheme, Symmetric, Unique, alg, cc, curve, object, rh};
use tpm_wire::{Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The public exponent where a structure says 0.
const DEFAULT_EXPONENT: u32 = 65537;

/// A restricted decryption key, for the salt of a session.
#[derive(Clone)]
pub(super) enum SaltKey {
    P256(P256Public),
    Rsa(RsaPublic),
}

impl SaltKey {
    /// A new salt, and the same encrypted to this key (part 1, annexes B.10.2 and C.6.1). `None` if the key is too small.
    pub fn salt(&self, rng: &mut Drbg) -> Option<(Zeroizing<[u8; 32]>, Vec<u8>)> {
        let mut salt = Zeroizing::new([0; 32]);
        let mut encrypted = Vec::new();
        match self {
            Self::P256(key) => {
                let ephemeral = P256Private::generate(rng);
                let ((x, y), (key_x, _)) = (ephemeral.public().coordinates(), key.coordinates());
                kdfe_sha256(&*ephemeral.agree(key), b"SECRET", &x, &key_x, &mut *salt);
                Writer::new(&mut encrypted).sized16(&x).sized16(&y);
            }
            Self::Rsa(key) => {
                rng.fill(&mut *salt);
                encrypted = key.encrypt_oaep_sha256(rng, b"SECRET\0", &*salt).ok()?;
            }
        }
        Some((salt, encrypted))
    }
}

/// Kinds of key that the manager has the chip make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// NIST P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

const OF_THIS_CHIP: u32 = object::FIXED_TPM | object::FIXED_PARENT | object::SENSITIVE_DATA_ORIGIN;
/// Attributes of a storage key.
const STORAGE: u32 = OF_THIS_CHIP | object::USER_WITH_AUTH | object::RESTRICTED | object::DECRYPT;
/// Attributes of a key for quotes.
const ATTESTATION: u32 = OF_THIS_CHIP | object::USER_WITH_AUTH | object::NO_DA | object::RESTRICTED | object::SIGN;
/// Attributes of an endorsement key (EK Credential Profile 2.3, annex B.3).
const ENDORSEMENT: u32 = OF_THIS_CHIP | object::ADMIN_WITH_POLICY | object::RESTRICTED | object::DECRYPT;
/// The policy of an endorsement key, PolicyA: TPM2_PolicySecret with the endorsement hierarchy (the same, annex B.6.2).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// The TPMT_PUBLIC of a key to be made.
fn template(kind: Kind, attributes: u32, policy: &[u8], symmetric: Symmetric, signing: bool, unique: &[u8]) -> Vec<u8> {
    let scheme = |scheme| if signing { Scheme::Hash { scheme, hash: alg::SHA256 } } else { Scheme::Null };
    let unique = match kind {
        Kind::P256 => {
            let unique = unique.get(..32).unwrap_or_default();
            Unique::Ecc(EccParms { symmetric, scheme: scheme(alg::ECDSA), curve: curve::NIST_P256 }, unique, unique)
        }
        Kind::Rsa2048 => {
            Unique::Rsa(RsaParms { symmetric, scheme: scheme(alg::RSASSA), bits: 2048, exponent: 0 }, unique)
        }
    };
    let mut out = Vec::new();
    Public { name_alg: alg::SHA256, attributes, policy, unique }.put(&mut Writer::new(&mut out));
    out
}

/// The storage root key's template: that of the TCG TPM v2.0 Provisioning Guidance, section 7.5.1, with an empty unique field.
pub(super) fn storage_template(kind: Kind) -> Vec<u8> {
    template(kind, STORAGE | object::NO_DA, &[], Symmetric::AES_128_CFB, false, &[])
}

/// The template of a key for quotes.
pub(super) fn attestation_template(kind: Kind) -> Vec<u8> {
    template(kind, ATTESTATION, &[], Symmetric::Null, true, &[])
}

/// The endorsement key's template: L-1 (RSA) or L-2 (ECC) of the EK Credential Profile 2.3, annex B.3.
pub(super) fn endorsement_template(kind: Kind) -> Vec<u8> {
    template(kind, ENDORSEMENT, &POLICY_A, Symmetric::AES_128_CFB, false, &[0; 256])
}

/// The numbers of a public area's key, if it is one of [`Kind`] (RSA up to 4096 bits).
fn numbers(public: &Public<'_>) -> Option<KeyNumbers> {
    match public.unique {
        Unique::Ecc(EccParms { curve: curve::NIST_P256, .. }, x, y) => {
            let (x, y) = P256Public::new(x, y).ok()?.coordinates();
            Some(KeyNumbers::P256 { x, y })
        }
        Unique::Rsa(parms, modulus) if modulus.len() == usize::from(parms.bits) / 8 && parms.bits >= 2048 => {
            let exponent = if parms.exponent == 0 { DEFAULT_EXPONENT } else { parms.exponent };
            RsaPublic::new(modulus, exponent).ok()?;
            Some(KeyNumbers::Rsa { modulus: modulus.to_vec(), exponent })
        }
        _ => None,
    }
}

/// A key of the chip from its TPMT_PUBLIC.
pub(super) fn public_key(encoded: &[u8]) -> Option<PublicKey> {
    let numbers = numbers(&Public::parse(encoded).ok()?)?;
    Some(PublicKey { numbers, encoded: encoded.to_vec() })
}

/// The key in a public area, if it is a storage key that the manager can use: restricted to decryption, of this chip, used
/// with a secret and nothing else, AES as its cipher, and SHA-256 as the hash of its Name and so of its salts.
pub(super) fn storage_key(public: &[u8]) -> Option<SaltKey> {
    let public = Public::parse(public).ok()?;
    let symmetric = match public.unique {
        Unique::Ecc(parms, ..) if parms.scheme == Scheme::Null => parms.symmetric,
        Unique::Rsa(parms, ..) if parms.scheme == Scheme::Null => parms.symmetric,
        _ => return None,
    };
    let aes = matches!(symmetric, Symmetric::Cipher { algorithm: alg::AES, bits: 128.., mode: alg::CFB });
    let usable = public.attributes & STORAGE == STORAGE
        && public.attributes & object::SIGN == 0
        && public.policy.is_empty()
        && public.name_alg == alg::SHA256
        && aes;
    match numbers(&public).filter(|_| usable)? {
        KeyNumbers::P256 { x, y } => P256Public::new(&x, &y).ok().map(SaltKey::P256),
        KeyNumbers::Rsa { modulus, exponent } => RsaPublic::new(&modulus, exponent).ok().map(SaltKey::Rsa),
    }
}

/// A loaded key.
pub(super) struct Loaded {
    pub handle: u32,
    /// Whether it has to be unloaded.
    pub transient: bool,
    pub name: Name,
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
}

impl<T: Transport> Chip<'_, T> {
    /// TPM2_ReadPublic (part 3, section 12.4): the TPMT_PUBLIC at a handle and its Name, computed from it; `None` if there is
    /// nothing at the handle.
    pub(super) async fn read_public(&self, handle: u32) -> Result<Option<Loaded>, ChipError> {
        const CODE: u32 = cc::READ_PUBLIC;
        let out = match self.call(CODE, &handle.to_be_bytes()).await {
            Err(error) if super::refusal(&error, CODE) == Some(tpm_wire::v20::rc::HANDLE) => return Ok(None),
            other => other?,
        };
        let public = read(&out, CODE, |r| {
            let public = r.sized16()?;
            let (_name, _qualified) = (r.sized16()?, r.sized16()?);
            Ok(public.to_vec())
        })?;
        Ok(Some(Loaded { handle, transient: false, name: name_of(&public), public }))
    }

    /// TPM2_CreatePrimary (part 3, section 24.1) with an empty secret. The chip makes the same key of the same template
    /// until the hierarchy is cleared.
    pub(super) async fn create_primary(
        &self,
        hierarchy: u32,
        auth: Auth<'_>,
        template: &[u8],
    ) -> Result<Loaded, ChipError> {
        const CODE: u32 = cc::CREATE_PRIMARY;
        let mut params = Vec::new();
        let mut w = Writer::new(&mut params);
        // TPM2B_SENSITIVE_CREATE without secret and data, the template, nothing from outside, no PCRs.
        w.u16(4).u32(0).sized16(template).u16(0).u32(0);
        let hierarchy_name = permanent(hierarchy);
        let (handles, out) = self.call_authorized(&[auth], CODE, &[(hierarchy, &hierarchy_name)], &params, 1).await?;
        let handle = handles.first().copied().ok_or(ChipError::Malformed { ordinal: CODE })?;
        let result = read(&out, CODE, |r| {
            let public = r.sized16()?;
            let (_creation_data, _creation_hash) = (r.sized16()?, r.sized16()?);
            let (_tag, _hierarchy, _digest) = (r.u16()?, r.u32()?, r.sized16()?);
            let name = name_of(public);
            if r.sized16()? == name { Ok((public.to_vec(), name)) } else { Err(Truncated) }
        });
        match result {
            Ok((public, name)) => Ok(Loaded { handle, transient: true, name, public }),
            Err(error) => {
                self.flush(handle).await;
                Err(error)
            }
        }
    }

    /// Unloads a key, unless it is persistent.
    pub(super) async fn unload(&self, key: &Loaded) {
        if key.transient {
            self.flush(key.handle).await;
        }
    }

    /// A session salted with a storage key of the null hierarchy, which the chip makes for this once: no one can have put it
    /// there, but nobody vouches for it either, so it keeps a listener out and not one who exchanges answers.
    pub(super) async fn anonymous_session(&self, rng: &mut Drbg) -> Result<Session, ChipError> {
        let kind = self.key_kind().await?;
        let primary = self.create_primary(rh::NULL, Auth::Empty, &storage_template(kind)).await?;
        let result = match storage_key(&primary.public) {
            Some(key) => self.hmac_session(primary.handle, &key, rng).await,
            None => Err(ChipError::Malformed { ordinal: cc::CREATE_PRIMARY }),
        };
        self.unload(&primary).await;
        result
    }

    /// A primary key of the owner's or the endorsement hierarchy, whose secret is not sent in the clear.
    pub(super) async fn create_owned_primary(
        &self,
        hierarchy: u32,
        secret: &[u8],
        template: &[u8],
        rng: &mut Drbg,
    ) -> Result<Loaded, ChipError> {
        if stripped(secret).is_empty() {
            return self.create_primary(hierarchy, Auth::Empty, template).await;
        }
        let session = self.anonymous_session(rng).await?;
        self.create_primary(hierarchy, Auth::hmac(&session, secret, 0), template).await
    }
}
