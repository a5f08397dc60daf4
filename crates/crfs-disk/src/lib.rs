// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS disk format: keys, checked byte views of every structure, checksums, and the verification of whole
//! blocks before anybody uses them. No I/O, no allocation policy.
//!
//! Every structure is a struct of plain values with `SIZE`, `parse` (never panics, never trusts a length) and
//! `encode`. Items of variable length have iterators over their parts. `verify` judges a whole block; what passed it
//! may be parsed again without the possibility of failure, but parsing stays checked all the same.

pub mod bytes;
pub mod checksum;
pub mod chunk;
pub mod constants;
pub mod dir;
pub mod extent;
pub mod file_extent;
pub mod free_space;
pub mod hash;
pub mod header;
pub mod inode;
mod key;
pub mod root;
pub mod superblock;
pub mod verify;

pub use bytes::FormatError;
pub use checksum::{ChecksumKind, check_sectors};
pub use constants::{block_group, item_type, objectid};
pub use header::{Header, ItemHeader, KeyPtr, Leaf, Node};
pub use key::Key;
pub use superblock::Superblock;
pub use verify::{Expect, Geometry, verify_block};

/// A file system or subvolume id: 16 bytes, printed in the usual groups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    pub const NIL: Uuid = Uuid([0; 16]);

    pub fn is_nil(self) -> bool {
        self == Uuid::NIL
    }

    /// Reads the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` (dashes optional, either case).
    pub fn from_text(text: &str) -> Option<Uuid> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(Uuid(id))
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl bytes::Field for Uuid {
    const SIZE: usize = 16;
    fn read(raw: &[u8]) -> Option<Uuid> {
        bytes::array_at(raw, 0).map(Uuid)
    }
    fn write(&self, raw: &mut [u8]) {
        raw.copy_from_slice(&self.0);
    }
}
