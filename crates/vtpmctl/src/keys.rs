//! Keys in PEM files: approval keys of groups.

use crate::error::Error;
use der::{Decode, SecretDocument};
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef, SubjectPublicKeyInfoRef};
use std::path::Path;
use tpm_crypto::ecc::{P256Private, P256Public};
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPrivate};
use tpm_crypto::{Drbg, sha1, sha256};
use tpm_wire::mgr::SaaKey;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A key that signs lists.
pub enum SigningKey {
    /// RSA of 2048 or 3072 bits, exponent 65537.
    Rsa(Box<RsaPrivate>),
    /// NIST P-256.
    P256(P256Private),
}

/// What a PEM file held.
enum Found {
    Private(SigningKey),
    Public(SaaKey),
}

/// The private key in a PEM file: PKCS #8, PKCS #1 or SEC 1, not encrypted.
pub fn signing_key(path: &Path) -> Result<SigningKey, Error> {
    match read(path)? {
        Found::Private(key) => Ok(key),
        Found::Public(_) => {
            Err(Error::Input(format!("{}: a public key; signing needs the private one", path.display())))
        }
    }
}

/// The public key, or the public half of the private key, in a PEM file.
pub fn approval_key(path: &Path) -> Result<SaaKey, Error> {
    match read(path)? {
        Found::Private(key) => key.public().ok_or_else(|| unfit(path, "the key has a size that groups do not take")),
        Found::Public(key) => Ok(key),
    }
}

impl SigningKey {
    /// Its public half, if it can be a group's key.
    pub fn public(&self) -> Option<SaaKey> {
        match self {
            Self::Rsa(key) => SaaKey::rsa(&key.public().modulus()),
            Self::P256(key) => Some(point(&key.public())),
        }
    }

    /// Signs a list of our form: RSASSA-PKCS1-v1.5 with SHA-256, or ECDSA with SHA-256 as r ‖ s.
    pub fn sign(&self, list: &[u8], rng: &mut Drbg) -> Result<Vec<u8>, Error> {
        let digest = sha256(&[list]);
        match self {
            Self::Rsa(key) => key.sign_pkcs1_sha256(rng, &digest).map_err(|error| Error::Input(error.to_string())),
            Self::P256(key) => {
                let (r, s) = key.sign(&digest);
                Ok([r, s].concat())
            }
        }
    }

    /// Signs a list of the C stack's form: RSASSA-PKCS1-v1.5 with SHA-1, 2048 bits.
    pub fn sign_legacy(&self, signed_part: &[u8], rng: &mut Drbg) -> Result<Box<[u8; 256]>, Error> {
        let Self::Rsa(key) = self else { return Err(only_rsa()) };
        let signature = key.sign_pkcs1_sha1(rng, &sha1(&[signed_part])).ok();
        let signature: Option<[u8; 256]> = signature.and_then(|signature| signature.try_into().ok());
        signature.map(Box::new).ok_or_else(only_rsa)
    }
}

fn only_rsa() -> Error {
    Error::Input("a list of the C stack's form is signed with an RSA key of 2048 bits".into())
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::Input(format!("{}: {why} (RSA of 2048 or 3072 bits with exponent 65537, or NIST P-256)", path.display()))
}

fn point(key: &P256Public) -> SaaKey {
    let (x, y) = key.coordinates();
    let mut point = [0; 64];
    point[..32].copy_from_slice(&x);
    point[32..].copy_from_slice(&y);
    SaaKey::EcdsaP256(point)
}

fn read(path: &Path) -> Result<Found, Error> {
    let show = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Error::Input(format!("cannot read {show}: {error}")))?;
    let text = zeroize::Zeroizing::new(text);
    // Some tools write parameters or remarks before the key.
    let start = text.match_indices("-----BEGIN ").find(|(at, _)| {
        text.get(*at..).and_then(|rest| rest.lines().next()).is_some_and(|line| line.ends_with("KEY-----"))
    });
    let pem = start.and_then(|(at, _)| text.get(at..)).ok_or_else(|| unfit(path, "no key in PEM form"))?;
    let (label, document) = SecretDocument::from_pem(pem).map_err(|error| unfit(path, &error.to_string()))?;
    let der = document.as_bytes();
    match label {
        "PRIVATE KEY" => pkcs8_key(der).map(Found::Private),
        "RSA PRIVATE KEY" => rsa_key(der).map(Found::Private),
        "EC PRIVATE KEY" => ec_key(der, None).map(Found::Private),
        "PUBLIC KEY" => public_key(der).map(Found::Public),
        "RSA PUBLIC KEY" => rsa_public(der).map(Found::Public),
        "ENCRYPTED PRIVATE KEY" => {
            return Err(Error::Input(format!(
                "{show}: the key is encrypted; write it without a passphrase to a safe place first (openssl pkey -in {show} -out ...)"
            )));
        }
        _ => None,
    }
    .ok_or_else(|| unfit(path, "not a key that can be used"))
}

fn pkcs8_key(der: &[u8]) -> Option<SigningKey> {
    let info = PrivateKeyInfoRef::from_der(der).ok()?;
    match info.algorithm.oid {
        RSA => rsa_key(info.private_key.as_bytes()),
        EC => ec_key(info.private_key.as_bytes(), info.algorithm.parameters_oid().ok()),
        _ => None,
    }
}

fn rsa_key(der: &[u8]) -> Option<SigningKey> {
    let key = pkcs1::RsaPrivateKeyRef::from_der(der).ok()?;
    let exponent = key.public_exponent.as_bytes();
    if exponent != DEFAULT_EXPONENT.to_be_bytes().strip_prefix(&[0])? {
        return None;
    }
    let (modulus, prime) = (key.modulus.as_bytes(), key.prime1.as_bytes());
    RsaPrivate::from_prime(modulus, prime, DEFAULT_EXPONENT).ok().map(|key| SigningKey::Rsa(Box::new(key)))
}

fn ec_key(der: &[u8], curve: Option<ObjectIdentifier>) -> Option<SigningKey> {
    let key = sec1::EcPrivateKey::from_der(der).ok()?;
    let named = key.parameters.and_then(|parameters| parameters.named_curve());
    if named.or(curve)? != P256 || curve.is_some_and(|curve| curve != P256) {
        return None;
    }
    P256Private::from_bytes(key.private_key.try_into().ok()?).ok().map(SigningKey::P256)
}

fn public_key(der: &[u8]) -> Option<SaaKey> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let bits = info.subject_public_key.as_bytes()?;
    match info.algorithm.oid {
        RSA => rsa_public(bits),
        EC if info.algorithm.parameters_oid().ok()? == P256 => {
            let (x, y) = bits.strip_prefix(&[4])?.split_at_checked(32)?;
            P256Public::new(x, y).ok().map(|key| point(&key))
        }
        _ => None,
    }
}

fn rsa_public(der: &[u8]) -> Option<SaaKey> {
    let key = pkcs1::RsaPublicKeyRef::from_der(der).ok()?;
    let exponent = key.public_exponent.as_bytes() == DEFAULT_EXPONENT.to_be_bytes().strip_prefix(&[0])?;
    SaaKey::rsa(key.modulus.as_bytes()).filter(|_| exponent)
}
