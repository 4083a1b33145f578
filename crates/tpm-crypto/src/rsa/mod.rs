//! RSA as TPM 1.2 uses it: keys known by one prime and the modulus, OAEP with the label `TCPA`, PKCS #1 v1.5.
//!
//! Every private operation is blinded and checked (a fault in the CRT computation cannot leave as a signature).

mod blinding;
mod keygen;
mod padding;
mod private;
mod public;

pub use keygen::KeyGen;
pub(crate) use padding::fixed;
pub use private::RsaPrivate;
pub use public::RsaPublic;

use core::fmt;

/// The public exponent of a key that names none (TPM Main 1.2, part 2, section 10.1.1).
pub const DEFAULT_EXPONENT: u32 = 65537;
/// The smallest modulus taken, in bits.
pub const MIN_BITS: usize = 512;
/// The largest modulus taken, in bits.
pub const MAX_BITS: usize = 4096;

/// What can go wrong with an RSA key or operation. None of them says more than that about the secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RsaError {
    /// The numbers are no RSA key of a size between [`MIN_BITS`] and [`MAX_BITS`].
    BadKey,
    /// The data is too long for the key and padding, or not a number below the modulus.
    BadSize,
    /// The decrypted padding is wrong.
    Decrypt,
    /// The signature does not verify.
    Signature,
}

impl fmt::Display for RsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadKey => "not an RSA key of 512 to 4096 bits",
            Self::BadSize => "data that does not fit the RSA key",
            Self::Decrypt => "RSA decryption failed",
            Self::Signature => "RSA signature does not verify",
        })
    }
}

impl core::error::Error for RsaError {}

#[cfg(test)]
mod tests;
