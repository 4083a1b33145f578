//! The key of a group's system approval agent: who signs what the group may run on.

use super::{read16, sized16};
use crate::cursor::{Reader, Writer};
use alloc::vec::Vec;

/// A public key. The exponent of an RSA key is 65537, as in the C stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SaaKey {
    /// Modulus of 256 or 384 bytes (2048 or 3072 bits), big-endian, the top byte not zero.
    Rsa(Vec<u8>),
    /// NIST P-256: the coordinates X ‖ Y.
    EcdsaP256([u8; 64]),
}

const NONE: u16 = 0;
/// `TPM_ALG_RSA`.
const RSA: u16 = 1;
/// `TPM_ALG_ECDSA`.
const ECDSA: u16 = 0x18;

impl SaaKey {
    /// A key of the C stack's form: a modulus of 2048 bits.
    pub fn legacy(modulus: &[u8; 256]) -> Option<Self> {
        Self::rsa(modulus)
    }

    /// An RSA key, if its modulus has a size that is taken.
    pub fn rsa(modulus: &[u8]) -> Option<Self> {
        let sound = [256, 384].contains(&modulus.len())
            && modulus.first().is_some_and(|top| *top != 0)
            && modulus.last().is_some_and(|low| low % 2 == 1);
        sound.then(|| Self::Rsa(modulus.to_vec()))
    }

    /// The key's bytes as they go into the hashes of quotes: the modulus, or X ‖ Y.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(modulus) => modulus,
            Self::EcdsaP256(point) => point,
        }
    }

    /// Appends algorithm (16 bits: 0 no key, 1 RSA, 0x18 ECDSA), length (16 bits) and bytes.
    pub fn write(key: Option<&Self>, out: &mut Vec<u8>) {
        let algorithm = match key {
            None => NONE,
            Some(Self::Rsa(_)) => RSA,
            Some(Self::EcdsaP256(_)) => ECDSA,
        };
        let mut out = Writer::new(out);
        out.u16(algorithm);
        sized16(&mut out, key.map_or(&[], Self::bytes));
    }

    /// Reads what [`Self::write`] wrote; the outer `None` is something else.
    #[allow(clippy::option_option, reason = "\"there is no key\" and \"this is no key\" are two answers")]
    pub fn read(from: &mut Reader<'_>) -> Option<Option<Self>> {
        match (from.u16().ok()?, read16(from).ok()?) {
            (NONE, []) => Some(None),
            (RSA, modulus) => Self::rsa(modulus).map(Some),
            (ECDSA, point) => Some(Some(Self::EcdsaP256(point.try_into().ok()?))),
            _ => None,
        }
    }
}
