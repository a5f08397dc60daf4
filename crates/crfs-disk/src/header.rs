// SPDX-License-Identifier: GPL-2.0-or-later
//! Tree blocks: the header that both kinds share, and read views of leaves and nodes.
//!
//! The views check every access, so they may be used on unverified bytes: what lies outside the block is `None`.

use crate::Uuid;
use crate::bytes::{Result, disk_struct, key_at, u32_at, u64_at};
use crate::checksum::ChecksumKind;
use crate::constants::header_flag;
use crate::key::Key;

disk_struct! {
    /// The first 101 bytes of every tree block.
    pub struct Header {
        /// Checksum of bytes 32 to the end, zero padded.
        pub csum: [u8; 32],
        /// The metadata uuid where METADATA_UUID is set, else the fsid.
        pub fsid: Uuid,
        /// The block's own logical address.
        pub bytenr: u64,
        /// `header_flag`s, the backref revision in bits 56 and up.
        pub flags: u64,
        pub chunk_tree_uuid: Uuid,
        pub generation: u64,
        /// Tree id of the tree that made the block.
        pub owner: u64,
        pub nritems: u32,
        /// 0 for a leaf.
        pub level: u8,
    }
}

disk_struct! {
    /// One entry of a leaf's item table.
    pub struct ItemHeader {
        pub key: Key,
        /// Where the data starts, counted from the end of the block header.
        pub offset: u32,
        pub size: u32,
    }
}

disk_struct! {
    /// One entry of a node.
    pub struct KeyPtr {
        /// First key of the child.
        pub key: Key,
        pub bytenr: u64,
        /// Generation of the child.
        pub generation: u64,
    }
}

/// Highest level that a node can have.
pub const MAX_LEVEL: u8 = 7;

impl Header {
    /// Flags of a block that this engine writes.
    pub const WRITTEN_FLAGS: u64 = header_flag::WRITTEN | header_flag::MIXED_BACKREF_REV;

    /// Bytes of items and their headers that fit into a leaf.
    pub const fn leaf_space(nodesize: usize) -> usize {
        nodesize - Header::SIZE
    }

    /// Pointers that fit into a node.
    pub const fn node_capacity(nodesize: usize) -> usize {
        (nodesize - Header::SIZE) / KeyPtr::SIZE
    }
}

/// Computes the checksum of a finished tree block or superblock and stores it in its first 32 bytes.
pub fn seal(block: &mut [u8], kind: ChecksumKind) {
    let csum = kind.compute(&block[32..]);
    block[..32].copy_from_slice(&csum);
}

/// Level of a block, 0 for a leaf; `None` when it is shorter than a header.
pub fn level_of(block: &[u8]) -> Option<u8> {
    block.get(Header::SIZE - 1).copied()
}

/// A leaf's bytes, `nodesize` long.
#[derive(Clone, Copy)]
pub struct Leaf<'a>(pub &'a [u8]);

impl<'a> Leaf<'a> {
    pub fn header(&self) -> Result<Header> {
        Header::parse(self.0)
    }

    /// Number of items as the header says.
    #[inline]
    pub fn len(&self) -> usize {
        u32_at(self.0, 96).unwrap_or(0) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn item_at(slot: usize) -> usize {
        Header::SIZE.saturating_add(slot.saturating_mul(ItemHeader::SIZE))
    }

    #[inline]
    pub fn key(&self, slot: usize) -> Option<Key> {
        if slot >= self.len() {
            return None;
        }
        key_at(self.0, Leaf::item_at(slot))
    }

    #[inline]
    pub fn item(&self, slot: usize) -> Option<ItemHeader> {
        if slot >= self.len() {
            return None;
        }
        ItemHeader::parse(self.0.get(Leaf::item_at(slot)..)?).ok()
    }

    /// Data of an item.
    #[inline]
    pub fn data(&self, slot: usize) -> Option<&'a [u8]> {
        if slot >= self.len() {
            return None;
        }
        let at = Leaf::item_at(slot);
        let start = Header::SIZE + u32_at(self.0, at + 17)? as usize;
        self.0.get(start..start + u32_at(self.0, at + 21)? as usize)
    }

    /// Slot of the first item with a key >= `key` (`len()` if there is none), and whether it is equal.
    pub fn search(&self, key: Key) -> (usize, bool) {
        search(self.len(), key, |slot| self.key(slot))
    }

    /// All items in order. Stops at the first whose data lies outside the block.
    pub fn iter(self) -> impl Iterator<Item = (Key, &'a [u8])> {
        (0..self.len()).map_while(move |slot| Some((self.key(slot)?, self.data(slot)?)))
    }
}

/// An interior node's bytes, `nodesize` long.
#[derive(Clone, Copy)]
pub struct Node<'a>(pub &'a [u8]);

impl Node<'_> {
    pub fn header(&self) -> Result<Header> {
        Header::parse(self.0)
    }

    #[inline]
    pub fn len(&self) -> usize {
        u32_at(self.0, 96).unwrap_or(0) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn ptr_at(slot: usize) -> usize {
        Header::SIZE.saturating_add(slot.saturating_mul(KeyPtr::SIZE))
    }

    #[inline]
    pub fn key(&self, slot: usize) -> Option<Key> {
        if slot >= self.len() {
            return None;
        }
        key_at(self.0, Node::ptr_at(slot))
    }

    #[inline]
    pub fn ptr(&self, slot: usize) -> Option<KeyPtr> {
        if slot >= self.len() {
            return None;
        }
        let at = Node::ptr_at(slot);
        Some(KeyPtr {
            key: key_at(self.0, at)?,
            bytenr: u64_at(self.0, at + 17)?,
            generation: u64_at(self.0, at + 25)?,
        })
    }

    /// Slot of the child whose subtree can hold `key`: the last with a first key <= `key`, or 0.
    pub fn child_slot(&self, key: Key) -> usize {
        match search(self.len(), key, |slot| self.key(slot)) {
            (slot, true) => slot,
            (slot, false) => slot.saturating_sub(1),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = KeyPtr> + '_ {
        (0..self.len()).map_while(|slot| self.ptr(slot))
    }
}

/// Binary search over ascending keys.
fn search(len: usize, key: Key, key_of: impl Fn(usize) -> Option<Key>) -> (usize, bool) {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        match key_of(middle) {
            Some(have) if have == key => return (middle, true),
            Some(have) if have < key => low = middle + 1,
            _ => high = middle,
        }
    }
    (low, false)
}
