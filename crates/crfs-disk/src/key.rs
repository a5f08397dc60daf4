// SPDX-License-Identifier: GPL-2.0-or-later
//! Keys of the BTRFS item space: `(objectid, type, offset)`, ordered in that order.

use std::fmt;

/// The name of an item in one tree. The derived order is the tree order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub objectid: u64,
    /// The item type; `type` is a Rust keyword, hence `kind`.
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub const MIN: Key = Key::new(0, 0, 0);
    pub const MAX: Key = Key::new(u64::MAX, u8::MAX, u64::MAX);
    /// Bytes of a key on disk.
    pub const SIZE: usize = 17;

    pub const fn new(objectid: u64, kind: u8, offset: u64) -> Key {
        Key { objectid, kind, offset }
    }

    /// The smallest key above this one, or `None` above the last.
    pub fn successor(self) -> Option<Key> {
        if self.offset < u64::MAX {
            return Some(Key { offset: self.offset + 1, ..self });
        }
        if self.kind < u8::MAX {
            return Some(Key::new(self.objectid, self.kind + 1, 0));
        }
        self.objectid.checked_add(1).map(|objectid| Key::new(objectid, 0, 0))
    }

    /// Reads the 17 bytes of a key as a leaf or node stores it (little-endian).
    pub fn from_le_bytes(bytes: &[u8; Key::SIZE]) -> Key {
        let mut objectid = [0; 8];
        let mut offset = [0; 8];
        objectid.copy_from_slice(&bytes[..8]);
        offset.copy_from_slice(&bytes[9..]);
        Key::new(u64::from_le_bytes(objectid), bytes[8], u64::from_le_bytes(offset))
    }

    pub fn to_le_bytes(self) -> [u8; Key::SIZE] {
        let mut bytes = [0; Key::SIZE];
        bytes[..8].copy_from_slice(&self.objectid.to_le_bytes());
        bytes[8] = self.kind;
        bytes[9..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// The form that travels: big-endian, so that memcmp order is key order (docs/protocol.md).
    pub fn from_be_bytes(bytes: &[u8; Key::SIZE]) -> Key {
        let mut objectid = [0; 8];
        let mut offset = [0; 8];
        objectid.copy_from_slice(&bytes[..8]);
        offset.copy_from_slice(&bytes[9..]);
        Key::new(u64::from_be_bytes(objectid), bytes[8], u64::from_be_bytes(offset))
    }

    pub fn to_be_bytes(self) -> [u8; Key::SIZE] {
        let mut bytes = [0; Key::SIZE];
        bytes[..8].copy_from_slice(&self.objectid.to_be_bytes());
        bytes[8] = self.kind;
        bytes[9..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.objectid, self.kind, self.offset)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
