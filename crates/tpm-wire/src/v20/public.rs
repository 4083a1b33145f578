//! Public areas of objects (part 2, section 12.2) and selections of PCRs (section 10.6).

use super::codes::alg;
use crate::cursor::{Reader, Truncated, Writer};

/// `TPMT_SYM_DEF_OBJECT` (section 11.1.7): the cipher that protects what lies under a storage key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symmetric {
    /// None.
    Null,
    /// A block cipher.
    Cipher {
        /// `TPM_ALG_AES`, for example.
        algorithm: u16,
        /// Bits of its key.
        bits: u16,
        /// `TPM_ALG_CFB`, for example.
        mode: u16,
    },
}

impl Symmetric {
    /// AES-128 in cipher feedback mode.
    pub const AES_128_CFB: Self = Self::Cipher { algorithm: alg::AES, bits: 128, mode: alg::CFB };

    fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        Ok(match r.u16()? {
            alg::NULL => Self::Null,
            algorithm => Self::Cipher { algorithm, bits: r.u16()?, mode: r.u16()? },
        })
    }

    /// Writes it.
    pub fn put(&self, w: &mut Writer<'_>) {
        match *self {
            Self::Null => w.u16(alg::NULL),
            Self::Cipher { algorithm, bits, mode } => w.u16(algorithm).u16(bits).u16(mode),
        };
    }
}

/// `TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME`, `TPMT_KEYEDHASH_SCHEME` (sections 11.2.2 and 11.1.19), as far as each is nothing or a
/// hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// None.
    Null,
    /// RSAES, which has no hash.
    Rsaes,
    /// A scheme and its hash.
    Hash {
        /// `TPM_ALG_ECDSA`, for example.
        scheme: u16,
        /// `TPM_ALG_SHA256`, for example.
        hash: u16,
    },
}

impl Scheme {
    /// Reads it. Schemes with other details than a hash are refused.
    pub fn get(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        Ok(match r.u16()? {
            alg::NULL => Self::Null,
            alg::RSAES => Self::Rsaes,
            scheme @ (alg::RSASSA | alg::RSAPSS | alg::OAEP | alg::ECDSA) => Self::Hash { scheme, hash: r.u16()? },
            _ => return Err(Truncated),
        })
    }

    /// Writes it.
    pub fn put(&self, w: &mut Writer<'_>) {
        match *self {
            Self::Null => w.u16(alg::NULL),
            Self::Rsaes => w.u16(alg::RSAES),
            Self::Hash { scheme, hash } => w.u16(scheme).u16(hash),
        };
    }
}

/// `TPMS_RSA_PARMS` (section 12.2.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RsaParms {
    /// The cipher, of a storage key.
    pub symmetric: Symmetric,
    /// The scheme, of a signing key.
    pub scheme: Scheme,
    /// Bits of the modulus.
    pub bits: u16,
    /// The public exponent; 0 stands for 65537.
    pub exponent: u32,
}

/// `TPMS_ECC_PARMS` (section 12.2.3.6), with the null KDF that every key in use has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EccParms {
    /// The cipher, of a storage key.
    pub symmetric: Symmetric,
    /// The scheme, of a signing key.
    pub scheme: Scheme,
    /// The curve.
    pub curve: u16,
}

/// Parameters and public value of an object, by its type (sections 12.2.3.7 and 12.2.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unique<'a> {
    /// A data object: no scheme, and the digest that is its public value.
    Data(&'a [u8]),
    /// An RSA key and its modulus.
    Rsa(RsaParms, &'a [u8]),
    /// An elliptic curve key and the coordinates x and y.
    Ecc(EccParms, &'a [u8], &'a [u8]),
}

/// `TPMT_PUBLIC` (section 12.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Public<'a> {
    /// The hash of its Name.
    pub name_alg: u16,
    /// `TPMA_OBJECT`.
    pub attributes: u32,
    /// Its policy's digest, or nothing.
    pub policy: &'a [u8],
    /// The rest, which depends on the type.
    pub unique: Unique<'a>,
}

impl<'a> Public<'a> {
    /// Reads a public area that ends where `bytes` end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        let public = Self::get(&mut r)?;
        if r.is_empty() { Ok(public) } else { Err(Truncated) }
    }

    /// Reads one. Types and schemes that nobody here uses are refused.
    pub fn get(r: &mut Reader<'a>) -> Result<Self, Truncated> {
        let (kind, name_alg, attributes) = (r.u16()?, r.u16()?, r.u32()?);
        let policy = r.sized16()?;
        let unique = match kind {
            alg::KEYEDHASH => {
                if r.u16()? != alg::NULL {
                    return Err(Truncated);
                }
                Unique::Data(r.sized16()?)
            }
            alg::RSA => {
                let (symmetric, scheme) = (Symmetric::get(r)?, Scheme::get(r)?);
                let parms = RsaParms { symmetric, scheme, bits: r.u16()?, exponent: r.u32()? };
                Unique::Rsa(parms, r.sized16()?)
            }
            alg::ECC => {
                let (symmetric, scheme) = (Symmetric::get(r)?, Scheme::get(r)?);
                let parms = EccParms { symmetric, scheme, curve: r.u16()? };
                if r.u16()? != alg::NULL {
                    return Err(Truncated);
                }
                Unique::Ecc(parms, r.sized16()?, r.sized16()?)
            }
            _ => return Err(Truncated),
        };
        Ok(Self { name_alg, attributes, policy, unique })
    }

    /// Writes it.
    pub fn put(&self, w: &mut Writer<'_>) {
        let kind = match self.unique {
            Unique::Data(_) => alg::KEYEDHASH,
            Unique::Rsa(..) => alg::RSA,
            Unique::Ecc(..) => alg::ECC,
        };
        w.u16(kind).u16(self.name_alg).u32(self.attributes).sized16(self.policy);
        match self.unique {
            Unique::Data(digest) => {
                w.u16(alg::NULL).sized16(digest);
            }
            Unique::Rsa(parms, modulus) => {
                parms.symmetric.put(w);
                parms.scheme.put(w);
                w.u16(parms.bits).u32(parms.exponent).sized16(modulus);
            }
            Unique::Ecc(parms, x, y) => {
                parms.symmetric.put(w);
                parms.scheme.put(w);
                w.u16(parms.curve).u16(alg::NULL).sized16(x).sized16(y);
            }
        }
    }
}

/// `TPMS_PCR_SELECTION` (section 10.6.1): some PCRs of one bank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcrBank {
    /// The bank's hash.
    pub hash: u16,
    /// PCR n is bit n; only 0 to 31.
    pub mask: u32,
}

impl PcrBank {
    /// Reads a `TPML_PCR_SELECTION` (section 10.9.7) and gives each bank to `each`. A PCR above 31 is refused.
    pub fn list(r: &mut Reader<'_>, mut each: impl FnMut(Self)) -> Result<(), Truncated> {
        for _ in 0..r.u32()? {
            let (hash, size) = (r.u16()?, r.u8()?);
            let mut mask = [0; 4];
            for (at, byte) in r.bytes(size.into())?.iter().enumerate() {
                match mask.get_mut(at) {
                    Some(place) => *place = *byte,
                    None if *byte == 0 => (),
                    None => return Err(Truncated),
                }
            }
            each(Self { hash, mask: u32::from_le_bytes(mask) });
        }
        Ok(())
    }

    /// Writes a `TPML_PCR_SELECTION` of this one bank, with the three bytes of a PC's 24 PCRs.
    pub fn put_list(&self, w: &mut Writer<'_>) {
        let [a, b, c, _] = self.mask.to_le_bytes();
        w.u32(1).u16(self.hash).u8(3).bytes(&[a, b, c]);
    }
}
