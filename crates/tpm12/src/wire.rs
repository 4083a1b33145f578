//! How structures go onto and come off the wire. The same trait serves commands and the stored state.

use crate::codes::{self, Code};
use alloc::vec::Vec;
use tpm_wire::{Reader, Writer};
use zeroize::{Zeroize, Zeroizing};

/// A structure with one external form.
pub(crate) trait Wire: Sized {
    /// Appends it.
    fn put(&self, w: &mut Writer<'_>);
    /// Takes it off the front. Never allocates more than what is there to read.
    fn get(r: &mut Reader<'_>) -> Result<Self, Code>;

    /// Its external form alone.
    fn to_bytes(&self) -> Vec<u8> {
        // Room for every structure with a secret, so that growing leaves no copy of it behind.
        let mut out = Vec::with_capacity(1024);
        self.put(&mut Writer::new(&mut out));
        out
    }

    /// The same of a structure with secrets: wiped afterwards, and with room for every such structure, so that growing leaves no
    /// copy behind.
    fn to_secret(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(2048));
        self.put(&mut Writer::new(&mut out));
        out
    }

    /// Takes it from bytes that must be used up; `left_over` if they are not.
    fn from_bytes(bytes: &[u8], left_over: Code) -> Result<Self, Code> {
        let mut r = Reader::new(bytes);
        let value = Self::get(&mut r)?;
        if r.is_empty() { Ok(value) } else { Err(left_over) }
    }
}

/// A structure that may stand in a counted list (everything but a byte).
pub(crate) trait Record: Wire {}

macro_rules! integers {
    ($($t:ident),*) => { $(
        impl Wire for $t {
            fn put(&self, w: &mut Writer<'_>) {
                w.$t(*self);
            }
            fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
                Ok(r.$t()?)
            }
        }
    )* };
}
integers!(u8, u16, u32, u64);
impl Record for u32 {}

impl Wire for bool {
    fn put(&self, w: &mut Writer<'_>) {
        w.u8((*self).into());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        match r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(codes::BAD_PARAMETER),
        }
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, w: &mut Writer<'_>) {
        w.bytes(self);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        Ok(r.array()?)
    }
}
impl<const N: usize> Record for [u8; N] {}

/// A byte string behind its 32-bit length.
impl Wire for Vec<u8> {
    fn put(&self, w: &mut Writer<'_>) {
        w.sized32(self);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        Ok(r.sized32()?.to_vec())
    }
}

/// A list behind its 32-bit count.
impl<T: Record> Wire for Vec<T> {
    fn put(&self, w: &mut Writer<'_>) {
        w.u32(u32::try_from(self.len()).unwrap_or(u32::MAX));
        self.iter().for_each(|item| item.put(w));
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        // Every record takes at least one byte, so a lying count ends at the end of the input.
        (0..r.u32()?).map(|_| T::get(r)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, w: &mut Writer<'_>) {
        self.is_some().put(w);
        if let Some(value) = self {
            value.put(w);
        }
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        bool::get(r)?.then(|| T::get(r)).transpose()
    }
}

impl<T: Wire + Zeroize> Wire for Zeroizing<T> {
    fn put(&self, w: &mut Writer<'_>) {
        (**self).put(w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        T::get(r).map(Zeroizing::new)
    }
}

/// A structure tag that has only one right value.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tag<const VALUE: u16>;

impl<const VALUE: u16> Wire for Tag<VALUE> {
    fn put(&self, w: &mut Writer<'_>) {
        w.u16(VALUE);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        if r.u16()? == VALUE { Ok(Self) } else { Err(codes::INVALID_STRUCTURE) }
    }
}

/// `TPM_STRUCT_VER` 1.1.0.0, which heads the structures of TPM 1.1.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version11;

impl Wire for Version11 {
    fn put(&self, w: &mut Writer<'_>) {
        w.bytes(&[1, 1, 0, 0]);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        match r.array()? {
            [1, 1, 0, 0] => Ok(Self),
            _ => Err(codes::BAD_VERSION),
        }
    }
}

/// Declares a structure whose external form is its fields in order.
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub(crate) struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub(crate) struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::wire::Wire for $name {
            fn put(&self, w: &mut tpm_wire::Writer<'_>) {
                $(self.$field.put(w);)*
            }
            fn get(r: &mut tpm_wire::Reader<'_>) -> Result<Self, $crate::codes::Code> {
                Ok(Self { $($field: $crate::wire::Wire::get(r)?,)* })
            }
        }
        impl $crate::wire::Record for $name {}
    };
}
pub(crate) use wire_struct;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn lists_and_options_read_back_and_lying_counts_do_not() {
        let list: Vec<u32> = vec![1, 2, 3];
        assert_eq!(Vec::<u32>::from_bytes(&list.to_bytes(), codes::SIZE), Ok(list.clone()));
        let mut lying = list.to_bytes();
        lying[0] = 0xff;
        assert_eq!(Vec::<u32>::from_bytes(&lying, codes::SIZE), Err(codes::BAD_PARAM_SIZE));
        assert_eq!(Option::<u16>::from_bytes(&[1, 0, 7], codes::SIZE), Ok(Some(7)));
        assert_eq!(Option::<u16>::from_bytes(&[0, 0], codes::SIZE), Err(codes::SIZE));
        assert_eq!(bool::from_bytes(&[2], codes::SIZE), Err(codes::BAD_PARAMETER));
    }
}
