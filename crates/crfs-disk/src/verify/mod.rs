// SPDX-License-Identifier: GPL-2.0-or-later
//! Judges a whole tree block before anybody uses a byte of it: the header, then the structure, then every member of every
//! item that the format names. The reader calls it on each block that comes from disk; tests and debug builds call it
//! on each block that is about to be written.
//!
//! The rules are those of Linux's tree-checker plus those that `btrfs check` adds inside one block. Everything that needs a
//! second block is left to the reader (parent and child) or to `btrfs check`. Items of unknown types pass: an image
//! with items that we must understand carries a feature bit that the open refuses.
//!
//! No bytes make it panic. Every refusal is one line that names tree, block, slot and key.

mod inode_items;
mod space_items;
mod tree_items;

use crate::Uuid;
use crate::checksum::{ChecksumKind, hex};
use crate::constants::{header_flag, item_type, objectid};
use crate::header::{Header, ItemHeader, KeyPtr, Leaf, MAX_LEVEL, Node};
use crate::key::Key;
use thiserror::Error;

/// What a block contradicts; `corrupt leaf: root=5 block=30490624 slot=12, ...`. The field lacks the first word.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("corrupt {0}")]
pub struct VerifyError(pub String);

/// What the whole image says about its blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub nodesize: u32,
    pub sectorsize: u32,
    pub checksum: ChecksumKind,
    /// The id in block headers: metadata uuid or fsid.
    pub metadata_id: Uuid,
    /// Checked where known.
    pub chunk_tree_uuid: Option<Uuid>,
    /// Generation of the superblock. The running transaction has the next one.
    pub super_generation: u64,
    pub skinny_metadata: bool,
}

impl Geometry {
    /// Of an image with this superblock; the chunk tree's uuid is not in it.
    pub fn of_superblock(sb: &crate::Superblock) -> Result<Geometry, crate::FormatError> {
        Ok(Geometry {
            nodesize: sb.nodesize,
            sectorsize: sb.sectorsize,
            checksum: sb.checksum_kind()?,
            metadata_id: sb.metadata_id(),
            chunk_tree_uuid: None,
            super_generation: sb.generation,
            skinny_metadata: sb.incompat_flags & crate::constants::incompat::SKINNY_METADATA != 0,
        })
    }

    fn max_generation(&self) -> u64 {
        self.super_generation.saturating_add(1)
    }

    fn is_sector_aligned(&self, value: u64) -> bool {
        value.is_multiple_of(u64::from(self.sectorsize))
    }
}

/// What whoever points to a block knows about it. `None` is not checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expect {
    pub bytenr: u64,
    pub generation: Option<u64>,
    pub level: Option<u8>,
    /// Tree that the block was reached in.
    pub owner: Option<u64>,
    /// Key of the parent's pointer. Its presence says that the block is not a root, so it must not be empty.
    pub first_key: Option<Key>,
}

impl Expect {
    /// A block reached through a node's pointer.
    pub fn child(ptr: &KeyPtr, level: u8, owner: u64) -> Expect {
        Expect {
            bytenr: ptr.bytenr,
            generation: Some(ptr.generation),
            level: Some(level),
            owner: Some(owner),
            first_key: Some(ptr.key),
        }
    }

    /// The root of a tree, as its ROOT_ITEM or the superblock names it.
    pub fn root(bytenr: u64, generation: u64, level: u8, owner: u64) -> Expect {
        Expect {
            bytenr,
            generation: Some(generation),
            level: Some(level),
            owner: Some(owner),
            first_key: None,
        }
    }
}

/// Whether a tree id is that of a subvolume (including the top one).
pub fn is_fs_tree(id: u64) -> bool {
    // The upper 16 bits are a qgroup's level, and ids from 2^63 on are negative, internal ones.
    id == objectid::FS_TREE || (objectid::FIRST_FREE..1 << 48).contains(&id)
}

/// Judges the block; see the head of this file.
pub fn verify_block(block: &[u8], expect: &Expect, geometry: &Geometry) -> Result<(), VerifyError> {
    if block.len() != geometry.nodesize as usize || block.len() < Header::SIZE {
        return Err(VerifyError(format!(
            "tree block: block={}, invalid length, have {} expect {}",
            expect.bytenr,
            block.len(),
            geometry.nodesize
        )));
    }
    let header = Header::parse(block).map_err(|error| VerifyError(error.to_string()))?;
    check_header(block, &header, expect, geometry)?;
    if header.level == 0 {
        check_leaf(block, &header, geometry)
    } else {
        check_node(block, &header, geometry)
    }?;
    check_first_key(block, &header, expect)
}

fn check_header(
    block: &[u8],
    header: &Header,
    expect: &Expect,
    geometry: &Geometry,
) -> Result<(), VerifyError> {
    let fail = |text: String| {
        let root = expect.owner.unwrap_or(header.owner);
        Err(VerifyError(format!("tree block: root={root} block={}, {text}", expect.bytenr)))
    };
    let size = geometry.checksum.size();
    let computed = geometry.checksum.compute(&block[32..]);
    if header.csum[..size] != computed[..size] {
        return fail(format!(
            "checksum mismatch, have {} computed {}",
            hex(&header.csum[..size]),
            hex(&computed[..size])
        ));
    }
    if header.bytenr != expect.bytenr {
        return fail(format!("bytenr mismatch, have {} expect {}", header.bytenr, expect.bytenr));
    }
    if header.fsid != geometry.metadata_id {
        return fail(format!("fsid mismatch, have {} expect {}", header.fsid, geometry.metadata_id));
    }
    if let Some(uuid) = geometry.chunk_tree_uuid.filter(|uuid| *uuid != header.chunk_tree_uuid) {
        return fail(format!("chunk tree uuid mismatch, have {} expect {uuid}", header.chunk_tree_uuid));
    }
    if header.flags & header_flag::WRITTEN == 0 {
        return fail("the block is not marked as written".into());
    }
    if let Some(generation) = expect.generation.filter(|generation| *generation != header.generation) {
        return fail(format!("parent transid mismatch, have {} expect {generation}", header.generation));
    }
    if header.generation > geometry.max_generation() {
        return fail(format!(
            "generation {} is above that of the superblock {}",
            header.generation, geometry.super_generation
        ));
    }
    if header.level > MAX_LEVEL {
        return fail(format!("invalid level, have {} expect [0, {MAX_LEVEL}]", header.level));
    }
    if let Some(level) = expect.level.filter(|level| *level != header.level) {
        return fail(format!("level mismatch, have {} expect {level}", header.level));
    }
    check_owner(header.owner, expect.owner).or_else(fail)
}

/// A block of a tree carries the tree's id; one of a subvolume may carry the id of any subvolume, since snapshots
/// share blocks.
fn check_owner(have: u64, expect: Option<u64>) -> Result<(), String> {
    match expect {
        // Relocation trees are made of blocks of the tree that is relocated.
        None | Some(objectid::TREE_RELOC) => Ok(()),
        Some(tree) if is_fs_tree(tree) => {
            if is_fs_tree(have) {
                Ok(())
            } else {
                Err(format!("owner mismatch, have {have} expect a subvolume"))
            }
        }
        Some(tree) if tree == have => Ok(()),
        Some(tree) => Err(format!("owner mismatch, have {have} expect {tree}")),
    }
}

fn check_first_key(block: &[u8], header: &Header, expect: &Expect) -> Result<(), VerifyError> {
    let Some(first) = expect.first_key else { return Ok(()) };
    // Items and pointers both start with their key, at the same place.
    match crate::bytes::key_at(block, Header::SIZE) {
        Some(have) if header.nritems > 0 && have == first => Ok(()),
        Some(have) if header.nritems > 0 => {
            Err(at_slot(header, 0, None, format!("first key mismatch, have {have} expect {first}")))
        }
        _ => Err(at_slot(header, 0, None, format!("empty block below a root, expect first key {first}"))),
    }
}

fn at_slot(header: &Header, slot: usize, key: Option<Key>, text: String) -> VerifyError {
    let what = if header.level == 0 { "leaf" } else { "node" };
    let key = key.map(|key| format!(" key={key}")).unwrap_or_default();
    VerifyError(format!("{what}: root={} block={} slot={slot}{key}, {text}", header.owner, header.bytenr))
}

fn check_node(block: &[u8], header: &Header, geometry: &Geometry) -> Result<(), VerifyError> {
    let capacity = Header::node_capacity(block.len());
    let count = header.nritems as usize;
    if count == 0 || count > capacity {
        return Err(at_slot(
            header,
            0,
            None,
            format!("invalid nritems, have {count} expect [1, {capacity}]"),
        ));
    }
    let node = Node(block);
    let mut last: Option<Key> = None;
    for (slot, ptr) in node.iter().enumerate() {
        let fail = |text: String| Err(at_slot(header, slot, None, text));
        if let Some(last) = last.filter(|last| *last >= ptr.key) {
            return fail(format!("invalid key order, have {} after {last}", ptr.key));
        }
        if ptr.bytenr == 0 {
            return fail("invalid block pointer, have 0".into());
        }
        if !geometry.is_sector_aligned(ptr.bytenr) {
            return fail(format!(
                "unaligned pointer, have {} should be aligned to {}",
                ptr.bytenr, geometry.sectorsize
            ));
        }
        if ptr.generation > header.generation {
            return fail(format!(
                "child generation {} is above the node's {}",
                ptr.generation, header.generation
            ));
        }
        last = Some(ptr.key);
    }
    Ok(())
}

fn check_leaf(block: &[u8], header: &Header, geometry: &Geometry) -> Result<(), VerifyError> {
    let space = Header::leaf_space(block.len());
    let count = header.nritems as usize;
    if count == 0 {
        return check_empty_leaf(header);
    }
    if count > space / ItemHeader::SIZE {
        return Err(at_slot(
            header,
            0,
            None,
            format!("invalid nritems, have {count} expect [0, {}]", space / ItemHeader::SIZE),
        ));
    }
    let leaf = Leaf(block);
    let mut previous: Option<(Key, &[u8])> = None;
    let mut data_end = space as u64;
    for slot in 0..count {
        let fail = |text: String| Err(at_slot(header, slot, None, text));
        let Some(item) = leaf.item(slot) else { return fail("item header outside the block".into()) };
        if let Some((last, _)) = previous.filter(|(last, _)| *last >= item.key) {
            return fail(format!("invalid key order, have {} after {last}", item.key));
        }
        let end = u64::from(item.offset) + u64::from(item.size);
        if end != data_end {
            return fail(format!("unexpected item end, have {end} expect {data_end}"));
        }
        let headers_end = ((slot + 1) * ItemHeader::SIZE) as u64;
        if u64::from(item.offset) < headers_end {
            return fail(format!(
                "item overlaps with its data, item end {headers_end} data start {}",
                item.offset
            ));
        }
        let Some(data) = leaf.data(slot) else { return fail("item data outside the block".into()) };
        let context = ItemContext { key: item.key, data, previous, owner: header.owner, geometry };
        check_item(&context).map_err(|text| at_slot(header, slot, Some(item.key), text))?;
        previous = Some((item.key, data));
        data_end = u64::from(item.offset);
    }
    Ok(())
}

fn check_empty_leaf(header: &Header) -> Result<(), VerifyError> {
    let relocated = header.flags & header_flag::RELOC != 0;
    let never_empty = matches!(
        header.owner,
        0 | objectid::ROOT_TREE
            | objectid::EXTENT_TREE
            | objectid::CHUNK_TREE
            | objectid::DEV_TREE
            | objectid::FS_TREE
            | objectid::DATA_RELOC_TREE
    );
    if never_empty && !relocated {
        return Err(at_slot(
            header,
            0,
            None,
            format!("invalid root, root {} must never be empty", header.owner),
        ));
    }
    Ok(())
}

/// One item with what its rules need.
struct ItemContext<'a> {
    key: Key,
    data: &'a [u8],
    /// The item before it in the same leaf.
    previous: Option<(Key, &'a [u8])>,
    owner: u64,
    geometry: &'a Geometry,
}

impl ItemContext<'_> {
    fn require(&self, sound: bool, text: impl FnOnce() -> String) -> Result<(), String> {
        if sound { Ok(()) } else { Err(text()) }
    }

    fn require_size(&self, size: usize) -> Result<(), String> {
        self.require(self.data.len() == size, || {
            format!("invalid item size, have {} expect {size}", self.data.len())
        })
    }

    fn require_aligned(&self, what: &str, value: u64) -> Result<(), String> {
        self.require(self.geometry.is_sector_aligned(value), || {
            format!("unaligned {what}, have {value} should be aligned to {}", self.geometry.sectorsize)
        })
    }

    fn require_generation(&self, what: &str, value: u64) -> Result<(), String> {
        let max = self.geometry.max_generation();
        self.require(value <= max, || format!("invalid {what}, have {value} expect [0, {max}]"))
    }
}

fn check_item(item: &ItemContext<'_>) -> Result<(), String> {
    match item.key.kind {
        item_type::INODE_ITEM => inode_items::check_inode_item(item),
        item_type::INODE_REF => inode_items::check_inode_ref(item),
        item_type::INODE_EXTREF => inode_items::check_inode_extref(item),
        item_type::DIR_ITEM | item_type::DIR_INDEX | item_type::XATTR_ITEM => {
            inode_items::check_dir_item(item)
        }
        item_type::EXTENT_DATA => inode_items::check_extent_data(item),
        item_type::ORPHAN_ITEM => tree_items::check_orphan(item),
        item_type::EXTENT_CSUM => space_items::check_csum(item),
        item_type::ROOT_ITEM => tree_items::check_root_item(item),
        item_type::ROOT_REF | item_type::ROOT_BACKREF => tree_items::check_root_ref(item),
        item_type::EXTENT_ITEM | item_type::METADATA_ITEM => space_items::check_extent_item(item),
        item_type::TREE_BLOCK_REF | item_type::SHARED_BLOCK_REF | item_type::SHARED_DATA_REF => {
            space_items::check_keyed_ref(item)
        }
        item_type::EXTENT_DATA_REF => space_items::check_extent_data_ref(item),
        item_type::BLOCK_GROUP_ITEM => space_items::check_block_group(item),
        item_type::FREE_SPACE_INFO | item_type::FREE_SPACE_EXTENT | item_type::FREE_SPACE_BITMAP => {
            space_items::check_free_space(item)
        }
        item_type::DEV_EXTENT => space_items::check_dev_extent(item),
        item_type::DEV_ITEM => space_items::check_dev_item(item),
        item_type::CHUNK_ITEM => space_items::check_chunk(item),
        item_type::UUID_KEY_SUBVOL | item_type::UUID_KEY_RECEIVED_SUBVOL => tree_items::check_uuid(item),
        _ => Ok(()),
    }
}
