// SPDX-License-Identifier: GPL-2.0-or-later
//! Extent items and back references: EXTENT_ITEM (bytenr, 168, length) for data (and for tree blocks before
//! SKINNY_METADATA), METADATA_ITEM (bytenr, 169, level), their inline references, and keyed references for what does
//! not fit inline.

use crate::bytes::{FormatError, Result, array_at, disk_struct, u32_at, u64_at};
use crate::constants::{extent_flag, item_type};
use crate::hash::extent_data_ref_hash;
use crate::key::Key;

disk_struct! {
    /// What EXTENT_ITEM and METADATA_ITEM start with. 24 bytes.
    pub struct ExtentHead {
        /// All references together, inline and keyed.
        pub refs: u64,
        pub generation: u64,
        /// `extent_flag`s.
        pub flags: u64,
    }
}

disk_struct! {
    /// EXTENT_DATA_REF: keyed at (bytenr, 178, hash + collisions), or inline.
    pub struct ExtentDataRef {
        pub root: u64,
        pub ino: u64,
        /// File offset minus offset inside the extent, wrapping.
        pub offset: u64,
        pub count: u32,
    }
}

disk_struct! {
    /// TREE_BLOCK_INFO of an EXTENT_ITEM for a tree block (not skinny).
    pub struct TreeBlockInfo {
        pub key: Key,
        pub level: u8,
    }
}

impl ExtentDataRef {
    pub fn hash(&self) -> u64 {
        extent_data_ref_hash(self.root, self.ino, self.offset)
    }
}

/// One inline reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InlineRef {
    /// A tree block of this root.
    TreeBlock { root: u64 },
    /// A tree block that this parent block points to.
    SharedBlock { parent: u64 },
    /// A data extent used by a file.
    Data(ExtentDataRef),
    /// A data extent that items of this leaf use.
    SharedData { parent: u64, count: u32 },
    /// Owner of a data extent (simple quotas); not a reference.
    Owner { root: u64 },
}

impl InlineRef {
    pub fn kind(&self) -> u8 {
        match self {
            InlineRef::TreeBlock { .. } => item_type::TREE_BLOCK_REF,
            InlineRef::SharedBlock { .. } => item_type::SHARED_BLOCK_REF,
            InlineRef::Data(_) => item_type::EXTENT_DATA_REF,
            InlineRef::SharedData { .. } => item_type::SHARED_DATA_REF,
            InlineRef::Owner { .. } => item_type::EXTENT_OWNER_REF,
        }
    }

    /// What orders references of one type inside an item: descending.
    pub fn sequence(&self) -> u64 {
        match self {
            InlineRef::TreeBlock { root } | InlineRef::Owner { root } => *root,
            InlineRef::SharedBlock { parent } | InlineRef::SharedData { parent, .. } => *parent,
            InlineRef::Data(data) => data.hash(),
        }
    }

    /// How many references it stands for.
    pub fn count(&self) -> u64 {
        match self {
            InlineRef::TreeBlock { .. } | InlineRef::SharedBlock { .. } => 1,
            InlineRef::Data(data) => u64::from(data.count),
            InlineRef::SharedData { count, .. } => u64::from(*count),
            InlineRef::Owner { .. } => 0,
        }
    }

    /// Bytes on disk, the type byte included.
    pub fn size(&self) -> usize {
        match self {
            InlineRef::TreeBlock { .. } | InlineRef::SharedBlock { .. } | InlineRef::Owner { .. } => 9,
            InlineRef::Data(_) => 1 + ExtentDataRef::SIZE,
            InlineRef::SharedData { .. } => 13,
        }
    }

    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        match self {
            InlineRef::TreeBlock { root } | InlineRef::Owner { root } => {
                out.extend_from_slice(&root.to_le_bytes())
            }
            InlineRef::SharedBlock { parent } => out.extend_from_slice(&parent.to_le_bytes()),
            InlineRef::Data(data) => out.extend_from_slice(&data.encode()),
            InlineRef::SharedData { parent, count } => {
                out.extend_from_slice(&parent.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    /// Reads the reference at the front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<InlineRef> {
        let short = || FormatError::new(format!("inline ref is cut short, have {} bytes", bytes.len()));
        let kind = *bytes.first().ok_or_else(short)?;
        let first = u64_at(bytes, 1);
        match kind {
            item_type::TREE_BLOCK_REF => first.map(|root| InlineRef::TreeBlock { root }).ok_or_else(short),
            item_type::SHARED_BLOCK_REF => {
                first.map(|parent| InlineRef::SharedBlock { parent }).ok_or_else(short)
            }
            item_type::EXTENT_OWNER_REF => first.map(|root| InlineRef::Owner { root }).ok_or_else(short),
            item_type::EXTENT_DATA_REF => {
                let raw: [u8; ExtentDataRef::SIZE] = array_at(bytes, 1).ok_or_else(short)?;
                ExtentDataRef::parse(&raw).map(InlineRef::Data)
            }
            item_type::SHARED_DATA_REF => match (first, u32_at(bytes, 9)) {
                (Some(parent), Some(count)) => Ok(InlineRef::SharedData { parent, count }),
                _ => Err(short()),
            },
            other => Err(FormatError::new(format!("invalid inline ref type {other}"))),
        }
    }
}

/// A whole EXTENT_ITEM or METADATA_ITEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtentItem {
    pub head: ExtentHead,
    /// Only in an EXTENT_ITEM that describes a tree block.
    pub block_info: Option<TreeBlockInfo>,
    pub inline_refs: Vec<InlineRef>,
}

impl ExtentItem {
    /// `kind` is the item's type, EXTENT_ITEM or METADATA_ITEM. Order and counts of the references are not judged
    /// here but by `verify`.
    pub fn parse(item: &[u8], kind: u8) -> Result<ExtentItem> {
        let head = ExtentHead::parse(item)?;
        let mut at = ExtentHead::SIZE;
        let mut block_info = None;
        if kind == item_type::EXTENT_ITEM && head.flags & extent_flag::TREE_BLOCK != 0 {
            block_info = Some(TreeBlockInfo::parse(&item[at..])?);
            at += TreeBlockInfo::SIZE;
        }
        let mut inline_refs = Vec::new();
        while at < item.len() {
            let inline = InlineRef::parse(&item[at..])?;
            at += inline.size();
            inline_refs.push(inline);
        }
        Ok(ExtentItem { head, block_info, inline_refs })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut item = self.head.encode().to_vec();
        if let Some(info) = &self.block_info {
            item.extend_from_slice(&info.encode());
        }
        for inline in &self.inline_refs {
            inline.append_to(&mut item);
        }
        item
    }

    /// Largest size to which inline references may let an item grow (Linux: BTRFS_MAX_EXTENT_ITEM_SIZE).
    pub const fn max_size(nodesize: usize) -> usize {
        ((nodesize - 101) >> 4) - 25
    }

    /// The place in `inline_refs` where a new reference belongs: types ascend, inside a type sequences descend.
    pub fn insert_position(&self, new: &InlineRef) -> usize {
        self.inline_refs.partition_point(|have| {
            have.kind() < new.kind() || (have.kind() == new.kind() && have.sequence() > new.sequence())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_item_survives_the_round_trip() {
        let data = ExtentDataRef { root: 5, ino: 257, offset: 0, count: 2 };
        let item = ExtentItem {
            head: ExtentHead { refs: 3, generation: 9, flags: extent_flag::DATA },
            block_info: None,
            inline_refs: vec![InlineRef::Data(data), InlineRef::SharedData { parent: 4096, count: 1 }],
        };
        let bytes = item.encode();
        assert_eq!(ExtentItem::parse(&bytes, item_type::EXTENT_ITEM), Ok(item));
        assert!(ExtentItem::parse(&bytes[..bytes.len() - 1], item_type::EXTENT_ITEM).is_err());
    }

    #[test]
    fn size_limit_of_the_default_node() {
        assert_eq!(ExtentItem::max_size(16384), 992);
    }
}
