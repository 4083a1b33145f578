//! Public keys: those that sign quotes and those of endorsement.

use crate::attested::sized16;
use crate::error::{AttestError, cut};
use alloc::vec::Vec;
use tpm_crypto::ecc::P256Public;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPublic};
use tpm_crypto::{ct_eq, sha1, sha256};
use tpm_wire::{Reader, Truncated, Writer};

const ALG_RSA: u16 = 0x0001;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ECC_NIST_P256: u16 = 0x0003;

/// `TPMA_OBJECT` (TPM 2.0, part 2, section 8.3).
mod attributes {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;
}

/// `TPM_ALG_RSA`, `TPM_ES_NONE`, `TPM_SS_RSASSAPKCS1v15_SHA1`, `TPM_ES_RSAESOAEP_SHA1_MGF1` of TPM 1.2 (part 2, sections 4.8, 5.8).
mod v12 {
    pub const ALG_RSA: u32 = 1;
    pub const ES_NONE: u16 = 1;
    pub const ES_OAEP: u16 = 3;
    pub const SS_NONE: u16 = 1;
    pub const SS_SHA1: u16 = 2;
}

/// The smallest modulus that is taken, in bytes.
const RSA_MIN: usize = 256;

#[derive(Clone)]
pub(crate) enum Numbers {
    Rsa(RsaPublic),
    P256(P256Public),
}

/// A key that a chip signs quotes with.
#[derive(Clone)]
pub struct QuoteKey {
    pub(crate) numbers: Numbers,
    encoded: Vec<u8>,
    v20: bool,
}

impl QuoteKey {
    /// A TPM 1.2 identity key from its `TPM_PUBKEY` (part 2, section 10.5), which has to say that it signs SHA-1 digests and encrypts
    /// nothing, with 2048 bits or more. That it *is* an identity key the structure does not say: that is proven by [`crate::Credential`].
    pub fn from_tpm_pubkey(bytes: &[u8]) -> Result<Self, AttestError> {
        let (schemes, key) = tpm_pubkey(bytes)?;
        if schemes != (v12::ES_NONE, v12::SS_SHA1) {
            return Err(AttestError::UnfitKey { why: "its schemes are not those of a TPM 1.2 identity key" });
        }
        Ok(Self { numbers: Numbers::Rsa(key), encoded: bytes.to_vec(), v20: false })
    }

    /// A TPM 1.2 identity key from its 256-byte modulus, as the C manager's GROUP_NEW gives it.
    pub fn from_modulus(modulus: &[u8; 256]) -> Result<Self, AttestError> {
        Self::from_tpm_pubkey(&pubkey_of(modulus, v12::ES_NONE, v12::SS_SHA1))
    }

    /// A TPM 2.0 attestation key from its `TPMT_PUBLIC` (part 2, section 12.2.4): restricted, signing, not decrypting, made in this TPM
    /// and fixed to it; ECDSA on P-256 or RSASSA of 2048 bits or more, with SHA-256.
    pub fn from_tpmt_public(bytes: &[u8]) -> Result<Self, AttestError> {
        use attributes::{DECRYPT, FIXED_PARENT, FIXED_TPM, RESTRICTED, SENSITIVE_DATA_ORIGIN, SIGN};
        let public = Public::parse(bytes)?;
        let unfit = |why| Err(AttestError::UnfitKey { why });
        let has = |bit| public.attributes & bit != 0;
        if !has(RESTRICTED) {
            return unfit("it is not restricted: it signs whatever it is given");
        }
        if !has(SIGN) || has(DECRYPT) {
            return unfit("it is not for signing alone");
        }
        if !has(FIXED_TPM) || !has(FIXED_PARENT) {
            return unfit("it can be taken out of its TPM");
        }
        if !has(SENSITIVE_DATA_ORIGIN) {
            return unfit("it was made outside of the TPM");
        }
        let scheme = match public.numbers {
            Numbers::Rsa(_) => ALG_RSASSA,
            Numbers::P256(_) => ALG_ECDSA,
        };
        if public.scheme != Some((scheme, ALG_SHA256)) {
            return unfit("its scheme is neither ECDSA nor RSASSA with SHA-256");
        }
        Ok(Self { numbers: public.numbers, encoded: bytes.to_vec(), v20: true })
    }

    /// From any of the three forms, which cannot be mistaken for each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        match Form::of(bytes) {
            Form::Modulus(modulus) => Self::from_modulus(modulus),
            Form::TpmPubkey => Self::from_tpm_pubkey(bytes),
            Form::TpmtPublic => Self::from_tpmt_public(bytes),
        }
    }

    /// Whether it is a TPM 2.0's.
    #[must_use]
    pub const fn is_v20(&self) -> bool {
        self.v20
    }

    /// The structure it was read from.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// What to pin it by: SHA-256 of [`Self::encoded`].
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&[&self.encoded])
    }

    /// The TPM 2.0 Name: algorithm and SHA-256 of the `TPMT_PUBLIC` (part 1, section 16). Of a TPM 1.2 key: SHA-1 of the `TPM_PUBKEY`,
    /// as `TPM_ActivateIdentity` compares it.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        if self.v20 {
            [&ALG_SHA256.to_be_bytes()[..], &sha256(&[&self.encoded])].concat()
        } else {
            sha1(&[&self.encoded]).to_vec()
        }
    }

    /// Checks a TPM 1.2 signature: RSASSA-PKCS1-v1.5 over the SHA-1 digest of `signed`.
    pub(crate) fn verify_12(&self, signed: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        match &self.numbers {
            Numbers::Rsa(key) if !self.v20 => {
                key.verify_pkcs1_sha1(&sha1(&[signed]), signature).map_err(|_| AttestError::Signature)
            }
            _ => Err(AttestError::Scheme),
        }
    }

    /// Checks a `TPMT_SIGNATURE` (part 2, section 11.3.4) over `signed`, of the key's own scheme.
    pub(crate) fn verify_20(&self, signed: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        const WHAT: &str = "the TPMT_SIGNATURE";
        let mut from = Reader::new(signature);
        let scheme = (from.u16().map_err(cut(WHAT))?, from.u16().map_err(cut(WHAT))?);
        let digest = sha256(&[signed]);
        let valid = match (&self.numbers, scheme) {
            _ if !self.v20 => return Err(AttestError::Scheme),
            (Numbers::Rsa(key), (ALG_RSASSA, ALG_SHA256)) => {
                let signature = sized16(&mut from).map_err(cut(WHAT))?;
                key.verify_pkcs1_sha256(&digest, signature).is_ok()
            }
            (Numbers::P256(key), (ALG_ECDSA, ALG_SHA256)) => {
                let (r, s) = (sized16(&mut from).map_err(cut(WHAT))?, sized16(&mut from).map_err(cut(WHAT))?);
                key.verify(&digest, r, s).is_ok()
            }
            _ => return Err(AttestError::Scheme),
        };
        match (from.is_empty(), valid) {
            (false, _) => Err(AttestError::Malformed { what: WHAT }),
            (true, false) => Err(AttestError::Signature),
            (true, true) => Ok(()),
        }
    }
}

/// An endorsement key: of a chip, or of a vTPM.
#[derive(Clone)]
pub struct EndorsementKey {
    pub(crate) numbers: Numbers,
    encoded: Vec<u8>,
    v20: bool,
}

impl EndorsementKey {
    /// A TPM 1.2's `TPM_PUBKEY`, which has to say that it decrypts OAEP and signs nothing.
    pub fn from_tpm_pubkey(bytes: &[u8]) -> Result<Self, AttestError> {
        let (schemes, key) = tpm_pubkey(bytes)?;
        if schemes != (v12::ES_OAEP, v12::SS_NONE) {
            return Err(AttestError::UnfitKey { why: "its schemes are not those of a TPM 1.2 endorsement key" });
        }
        Ok(Self { numbers: Numbers::Rsa(key), encoded: bytes.to_vec(), v20: false })
    }

    /// A TPM 2.0's `TPMT_PUBLIC`: restricted, decrypting, not signing, made in this TPM and fixed to it, over AES-128 in CFB mode.
    pub fn from_tpmt_public(bytes: &[u8]) -> Result<Self, AttestError> {
        use attributes::{DECRYPT, FIXED_PARENT, FIXED_TPM, RESTRICTED, SENSITIVE_DATA_ORIGIN, SIGN};
        const WANTED: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT;
        let public = Public::parse(bytes)?;
        if public.attributes & (WANTED | SIGN) != WANTED {
            return Err(AttestError::UnfitKey { why: "its attributes are not those of an endorsement key" });
        }
        let Some(128) = public.aes_cfb else {
            return Err(AttestError::UnfitKey { why: "its symmetric algorithm is not AES-128 in CFB mode" });
        };
        Ok(Self { numbers: public.numbers, encoded: bytes.to_vec(), v20: true })
    }

    /// A TPM 1.2's, from its 256-byte modulus.
    pub fn from_modulus(modulus: &[u8; 256]) -> Result<Self, AttestError> {
        Self::from_tpm_pubkey(&pubkey_of(modulus, v12::ES_OAEP, v12::SS_NONE))
    }

    /// From any of the three forms.
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        match Form::of(bytes) {
            Form::Modulus(modulus) => Self::from_modulus(modulus),
            Form::TpmPubkey => Self::from_tpm_pubkey(bytes),
            Form::TpmtPublic => Self::from_tpmt_public(bytes),
        }
    }

    /// Whether it is a TPM 2.0's.
    #[must_use]
    pub const fn is_v20(&self) -> bool {
        self.v20
    }

    /// The structure it was read from.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// What to pin it by: SHA-256 of [`Self::encoded`].
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&[&self.encoded])
    }
}

impl PartialEq for EndorsementKey {
    fn eq(&self, other: &Self) -> bool {
        ct_eq(&self.encoded, &other.encoded)
    }
}

/// How a public key is written.
enum Form<'a> {
    Modulus(&'a [u8; 256]),
    TpmPubkey,
    TpmtPublic,
}

impl<'a> Form<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match <&[u8; 256]>::try_from(bytes) {
            // An RSA key's TPMT_PUBLIC or TPM_PUBKEY is longer, a P-256 key's much shorter.
            Ok(modulus) => Self::Modulus(modulus),
            // A TPM_PUBKEY begins with the 32-bit number 1, a TPMT_PUBLIC with a 16-bit one that is not 0.
            Err(_) if bytes.starts_with(&[0, 0]) => Self::TpmPubkey,
            Err(_) => Self::TpmtPublic,
        }
    }
}

/// The `TPM_PUBKEY` of a 2048-bit key with the default exponent.
fn pubkey_of(modulus: &[u8; 256], encryption: u16, signature: u16) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(284);
    let mut out = Writer::new(&mut encoded);
    out.u32(v12::ALG_RSA).u16(encryption).u16(signature).u32(12).u32(2048).u32(2).u32(0).sized32(modulus);
    encoded
}

/// A `TPM_PUBKEY`: encryption scheme and signature scheme, and the key.
fn tpm_pubkey(bytes: &[u8]) -> Result<((u16, u16), RsaPublic), AttestError> {
    const WHAT: &str = "the TPM_PUBKEY";
    let mut from = Reader::new(bytes);
    let mut read = || -> Result<_, Truncated> {
        let algorithm = from.u32()?;
        let schemes = (from.u16()?, from.u16()?);
        let mut parameters = Reader::new(from.sized32()?);
        let (bits, primes, exponent) = (parameters.u32()?, parameters.u32()?, parameters.sized32()?);
        let modulus = from.sized32()?;
        let shape = algorithm == v12::ALG_RSA && primes == 2 && parameters.is_empty() && from.is_empty();
        let exponent = match exponent {
            [] => Some(DEFAULT_EXPONENT),
            bytes => bytes.iter().try_fold(0u32, |value, byte| Some(value.checked_mul(256)? + u32::from(*byte))),
        };
        let sized = u32::try_from(modulus.len()).ok().and_then(|bytes| bytes.checked_mul(8)) == Some(bits);
        if shape && sized { Ok((schemes, exponent.ok_or(Truncated)?, modulus)) } else { Err(Truncated) }
    };
    let (schemes, exponent, modulus) = read().map_err(cut(WHAT))?;
    Ok((schemes, rsa(modulus, exponent)?))
}

fn rsa(modulus: &[u8], exponent: u32) -> Result<RsaPublic, AttestError> {
    if modulus.len() < RSA_MIN {
        return Err(AttestError::UnfitKey { why: "an RSA key of less than 2048 bits" });
    }
    RsaPublic::new(modulus, exponent).map_err(|_| AttestError::UnfitKey { why: "its numbers are no RSA key" })
}

/// The parts of a `TPMT_PUBLIC` that are looked at.
struct Public {
    attributes: u32,
    /// Scheme and its hash.
    scheme: Option<(u16, u16)>,
    /// Bits of an AES key in CFB mode, if there is a symmetric algorithm.
    aes_cfb: Option<u16>,
    numbers: Numbers,
}

impl Public {
    fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        const ALG_AES: u16 = 0x0006;
        const ALG_CFB: u16 = 0x0043;
        const WHAT: &str = "the TPMT_PUBLIC";
        enum Raw<'a> {
            Rsa(u16, u32, &'a [u8]),
            Ecc(u16, &'a [u8], &'a [u8]),
        }
        let mut from = Reader::new(bytes);
        let mut read = || -> Result<_, Truncated> {
            let (kind, name_alg, attributes) = (from.u16()?, from.u16()?, from.u32()?);
            let _policy = sized16(&mut from)?;
            let aes_cfb = match from.u16()? {
                ALG_NULL => None,
                ALG_AES => {
                    let bits = from.u16()?;
                    Some(if from.u16()? == ALG_CFB { bits } else { 0 })
                }
                _ => return Err(Truncated),
            };
            let scheme = match from.u16()? {
                ALG_NULL => None,
                scheme => Some((scheme, from.u16()?)),
            };
            let raw = match kind {
                ALG_RSA => Raw::Rsa(from.u16()?, from.u32()?, sized16(&mut from)?),
                ALG_ECC => {
                    let curve = from.u16()?;
                    if from.u16()? != ALG_NULL {
                        return Err(Truncated);
                    }
                    Raw::Ecc(curve, sized16(&mut from)?, sized16(&mut from)?)
                }
                _ => return Err(Truncated),
            };
            if from.is_empty() && name_alg == ALG_SHA256 {
                Ok((attributes, aes_cfb, scheme, raw))
            } else {
                Err(Truncated)
            }
        };
        let (attributes, aes_cfb, scheme, raw) = read().map_err(cut(WHAT))?;
        let numbers = match raw {
            Raw::Rsa(bits, _, modulus) if modulus.len() * 8 != usize::from(bits) => {
                return Err(AttestError::Malformed { what: WHAT });
            }
            // TPM 2.0 writes the default exponent as 0.
            Raw::Rsa(_, 0, modulus) => Numbers::Rsa(rsa(modulus, DEFAULT_EXPONENT)?),
            Raw::Rsa(_, exponent, modulus) => Numbers::Rsa(rsa(modulus, exponent)?),
            Raw::Ecc(ECC_NIST_P256, x, y) => {
                let point = P256Public::new(x, y);
                Numbers::P256(point.map_err(|_| AttestError::UnfitKey { why: "its point is not on the curve" })?)
            }
            Raw::Ecc(..) => return Err(AttestError::UnfitKey { why: "its curve is not NIST P-256" }),
        };
        Ok(Self { attributes, scheme, aes_cfb, numbers })
    }
}
