// SPDX-License-Identifier: GPL-2.0-or-later
//! Checked reading and writing of little-endian values, and the macro that turns a list of fields into a packed
//! disk structure. Everything that parses bytes of an image goes through here, so no length is ever trusted.

use crate::key::Key;
use thiserror::Error;

/// Bytes that do not have the form they should have; the text is one line without the place, which the caller adds.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct FormatError(pub String);

impl FormatError {
    pub fn new(text: impl Into<String>) -> FormatError {
        FormatError(text.into())
    }

    pub(crate) fn short(what: &str, have: usize, need: usize) -> FormatError {
        FormatError(format!("{what} is cut short, have {have} bytes, need {need}"))
    }
}

pub type Result<T> = std::result::Result<T, FormatError>;

/// The `N` bytes at `offset`, or `None` past the end.
#[inline]
pub fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    let end = offset.checked_add(N)?;
    bytes.get(offset..end)?.try_into().ok()
}

#[inline]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

#[inline]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

#[inline]
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

#[inline]
pub fn key_at(bytes: &[u8], offset: usize) -> Option<Key> {
    array_at::<{ Key::SIZE }>(bytes, offset).map(|raw| Key::from_le_bytes(&raw))
}

/// Overwrites the bytes at `offset`; false (and nothing written) when they do not fit.
#[inline]
pub fn put_at(bytes: &mut [u8], offset: usize, value: &[u8]) -> bool {
    let Some(end) = offset.checked_add(value.len()) else { return false };
    match bytes.get_mut(offset..end) {
        Some(place) => {
            place.copy_from_slice(value);
            true
        }
        None => false,
    }
}

/// A value with a fixed packed form. `read` and `write` get exactly `SIZE` bytes.
pub trait Field: Sized {
    const SIZE: usize;
    fn read(bytes: &[u8]) -> Option<Self>;
    fn write(&self, bytes: &mut [u8]);
}

macro_rules! integer_field {
    ($($t:ty),*) => {$(
        impl Field for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline]
            fn read(bytes: &[u8]) -> Option<$t> {
                array_at(bytes, 0).map(<$t>::from_le_bytes)
            }
            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
integer_field!(u8, u16, u32, u64, i64);

impl<const N: usize> Field for [u8; N] {
    const SIZE: usize = N;
    #[inline]
    fn read(bytes: &[u8]) -> Option<[u8; N]> {
        array_at(bytes, 0)
    }
    #[inline]
    fn write(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(self);
    }
}

impl Field for Key {
    const SIZE: usize = Key::SIZE;
    #[inline]
    fn read(bytes: &[u8]) -> Option<Key> {
        key_at(bytes, 0)
    }
    #[inline]
    fn write(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_le_bytes());
    }
}

/// Declares a packed little-endian structure: the fields in disk order, plus `SIZE`, `parse` (of at least `SIZE`
/// bytes; what follows is left alone), `encode` and `write_to`.
macro_rules! disk_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident : $t:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$field_meta])* pub $field: $t),+ }

        impl $crate::bytes::Field for $name {
            const SIZE: usize = 0 $(+ <$t as $crate::bytes::Field>::SIZE)+;
            #[inline]
            fn read(bytes: &[u8]) -> Option<$name> {
                let mut rest = bytes;
                $(
                    let (head, tail) = rest.split_at_checked(<$t as $crate::bytes::Field>::SIZE)?;
                    let $field = <$t as $crate::bytes::Field>::read(head)?;
                    rest = tail;
                )+
                let _ = rest;
                Some($name { $($field),+ })
            }
            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                let mut rest = bytes;
                $(
                    let (head, tail) = rest.split_at_mut(<$t as $crate::bytes::Field>::SIZE);
                    $crate::bytes::Field::write(&self.$field, head);
                    rest = tail;
                )+
                let _ = rest;
            }
        }

        impl $name {
            /// Bytes on disk.
            pub const SIZE: usize = <$name as $crate::bytes::Field>::SIZE;

            /// Reads the structure from the first `SIZE` bytes.
            pub fn parse(bytes: &[u8]) -> $crate::bytes::Result<$name> {
                <$name as $crate::bytes::Field>::read(bytes).ok_or_else(|| {
                    $crate::bytes::FormatError::short(stringify!($name), bytes.len(), $name::SIZE)
                })
            }

            pub fn encode(&self) -> [u8; $name::SIZE] {
                let mut bytes = [0; $name::SIZE];
                $crate::bytes::Field::write(self, &mut bytes);
                bytes
            }

            /// Writes the structure over the first `SIZE` bytes, which the caller has made sure exist.
            pub fn write_to(&self, bytes: &mut [u8]) {
                $crate::bytes::Field::write(self, &mut bytes[..$name::SIZE]);
            }
        }
    };
}
pub(crate) use disk_struct;
