//! Blinding of private operations, and the public operation that both blinding and its check need.
//!
//! A fresh pair (r^e, r^-1) costs an inversion, a quarter of a private operation. A pair is therefore used [`USES`] times, squared
//! after each use: nobody outside ever sees a value that depends on the pair alone.

use crate::Drbg;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, RandomMod};
use zeroize::Zeroize;

/// How often a pair is used.
const USES: u8 = 32;

/// A number and its inverse, in Montgomery form modulo the key.
pub(super) struct Blinding {
    factor: BoxedMontyForm,
    inverse: BoxedMontyForm,
    uses: u8,
}

impl Blinding {
    fn new(rng: &mut Drbg, params: &BoxedMontyParams, exponent: u32) -> Self {
        loop {
            let mut random = BoxedUint::random_mod_vartime(rng, params.modulus().as_nz_ref());
            let number = BoxedMontyForm::new(random.clone(), params);
            random.zeroize();
            if let Some(inverse) = number.invert().into_option() {
                return Self { factor: public_power(&number, exponent), inverse, uses: 0 };
            }
        }
    }

    /// The pair in `place` for one more use; a new one if there is none or it is worn out.
    pub(super) fn next<'a>(
        place: &'a mut Option<Self>,
        rng: &mut Drbg,
        params: &BoxedMontyParams,
        exponent: u32,
    ) -> &'a Self {
        match place {
            Some(pair) if pair.uses < USES => {
                pair.factor = pair.factor.square();
                pair.inverse = pair.inverse.square();
                pair.uses += 1;
            }
            _ => *place = None,
        }
        place.get_or_insert_with(|| Self::new(rng, params, exponent))
    }

    /// Hides a number.
    pub(super) fn hide(&self, number: &BoxedMontyForm) -> BoxedMontyForm {
        number * &self.factor
    }

    /// Takes the mask off what the private operation made of a hidden number.
    pub(super) fn show(&self, number: &BoxedMontyForm) -> BoxedMontyForm {
        number * &self.inverse
    }
}

impl Drop for Blinding {
    fn drop(&mut self) {
        self.factor.zeroize();
        self.inverse.zeroize();
    }
}

/// `base` to the power of a public exponent: the time depends on the exponent, not on the base.
pub(super) fn public_power(base: &BoxedMontyForm, exponent: u32) -> BoxedMontyForm {
    let bits = u32::BITS - exponent.leading_zeros();
    (0..bits.saturating_sub(1)).rev().fold(base.clone(), |power, bit| {
        let square = power.square();
        if exponent >> bit & 1 == 1 { square * base } else { square }
    })
}
