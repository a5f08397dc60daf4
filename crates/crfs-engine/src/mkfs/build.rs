// SPDX-License-Identifier: GPL-2.0-or-later
//! The tree blocks of a fresh file system, from the items of each tree to sealed bytes.
//!
//! Every tree is one leaf, except that the root tree needs a node above two leaves where blocks are 4 KiB. How many blocks
//! a tree has depends on the sizes of its items alone, so the addresses stand before the items that name them.

use super::{DEVID, GENERATION, Plan};
use crate::error::{EngineError, Result};
use crfs_disk::chunk::{BlockGroupItem, DevExtent};
use crfs_disk::constants::{SECTOR_SIZE, extent_flag, file_type};
use crfs_disk::dir::DirEntry;
use crfs_disk::extent::{ExtentHead, ExtentItem, InlineRef};
use crfs_disk::free_space::FreeSpaceInfo;
use crfs_disk::hash::name_hash;
use crfs_disk::header::seal;
use crfs_disk::inode::{InodeItem, InodeRef, Timespec};
use crfs_disk::root::RootItem;
use crfs_disk::{Expect, Geometry, Header, ItemHeader, Key, KeyPtr, Uuid, item_type, objectid, verify_block};

/// A sealed block and where it goes.
pub struct Block {
    pub owner: u64,
    pub bytenr: u64,
    pub level: u8,
    pub bytes: Vec<u8>,
}

type Items = Vec<(Key, Vec<u8>)>;

/// Trees other than the root and chunk tree, in the order of their blocks.
const TREES: [u64; 7] = [
    objectid::EXTENT_TREE,
    objectid::DEV_TREE,
    objectid::FS_TREE,
    objectid::CSUM_TREE,
    objectid::UUID_TREE,
    objectid::FREE_SPACE_TREE,
    objectid::DATA_RELOC_TREE,
];

/// All tree blocks of the file system.
pub fn build_blocks(plan: &Plan) -> Result<Vec<Block>> {
    let nodesize = u64::from(plan.nodesize);
    let address = |index: usize| plan.layout.metadata.start + index as u64 * nodesize;
    let tree_address =
        |tree: u64| address(TREES.iter().position(|have| *have == tree).unwrap_or(TREES.len()));
    let root_leaves = split(root_items(plan, tree_address)?, plan);
    // Extents: one each for `TREES`, then the root tree's leaves, then a node above them if there are several.
    let root_blocks = root_leaves.len() + usize::from(root_leaves.len() > 1);
    let mut metadata: Vec<(u64, u8)> = TREES.iter().map(|tree| (*tree, 0)).collect();
    metadata.extend(root_leaves.iter().map(|_| (objectid::ROOT_TREE, 0)));
    if root_leaves.len() > 1 {
        metadata.push((objectid::ROOT_TREE, 1));
    }
    let used = (TREES.len() + root_blocks) as u64 * nodesize;

    let mut blocks = Vec::new();
    for tree in TREES {
        let items = match tree {
            objectid::EXTENT_TREE => extent_items(plan, &metadata, used),
            objectid::DEV_TREE => dev_items(plan),
            objectid::FS_TREE => top_dir_items(plan, plan.time, nodesize),
            objectid::UUID_TREE => uuid_items(plan),
            objectid::FREE_SPACE_TREE => free_space_items(plan, used),
            objectid::DATA_RELOC_TREE => top_dir_items(plan, Timespec { sec: 0, nsec: 0 }, 0),
            _ => Items::new(),
        };
        blocks.push(leaf(plan, tree, tree_address(tree), &items)?);
    }
    blocks.push(leaf(plan, objectid::CHUNK_TREE, plan.layout.system.start, &chunk_items(plan))?);
    let mut pointers = Vec::new();
    for (index, items) in root_leaves.iter().enumerate() {
        let bytenr = address(TREES.len() + index);
        blocks.push(leaf(plan, objectid::ROOT_TREE, bytenr, items)?);
        pointers.push(KeyPtr { key: items[0].0, bytenr, generation: GENERATION });
    }
    if pointers.len() > 1 {
        let bytenr = address(TREES.len() + root_leaves.len());
        blocks.push(node(plan, objectid::ROOT_TREE, bytenr, &pointers)?);
    }
    Ok(blocks)
}

/// Fills leaves from the left.
fn split(items: Items, plan: &Plan) -> Vec<Items> {
    let space = Header::leaf_space(plan.nodesize as usize);
    let (mut leaves, mut free) = (vec![Items::new()], space);
    for (key, data) in items {
        let need = ItemHeader::SIZE + data.len();
        if need > free {
            leaves.push(Items::new());
            free = space;
        }
        free -= need;
        if let Some(last) = leaves.last_mut() {
            last.push((key, data));
        }
    }
    leaves
}

fn header(plan: &Plan, owner: u64, bytenr: u64, level: u8, nritems: usize) -> Header {
    Header {
        csum: [0; 32],
        fsid: plan.fsid,
        bytenr,
        flags: Header::WRITTEN_FLAGS,
        chunk_tree_uuid: plan.chunk_tree_uuid,
        generation: GENERATION,
        owner,
        nritems: nritems as u32,
        level,
    }
}

fn leaf(plan: &Plan, owner: u64, bytenr: u64, items: &[(Key, Vec<u8>)]) -> Result<Block> {
    let mut bytes = vec![0; plan.nodesize as usize];
    header(plan, owner, bytenr, 0, items.len()).write_to(&mut bytes);
    let mut end = bytes.len();
    for (slot, (key, data)) in items.iter().enumerate() {
        let at = Header::SIZE + slot * ItemHeader::SIZE;
        let Some(start) = end.checked_sub(data.len()).filter(|start| *start >= at + ItemHeader::SIZE) else {
            return Err(EngineError::refused(
                libc::EINVAL,
                format!("tree {owner} does not fit into one leaf"),
            ));
        };
        bytes[start..end].copy_from_slice(data);
        end = start;
        let item = ItemHeader { key: *key, offset: (start - Header::SIZE) as u32, size: data.len() as u32 };
        item.write_to(&mut bytes[at..]);
    }
    finish(plan, owner, bytenr, 0, bytes)
}

fn node(plan: &Plan, owner: u64, bytenr: u64, pointers: &[KeyPtr]) -> Result<Block> {
    let mut bytes = vec![0; plan.nodesize as usize];
    header(plan, owner, bytenr, 1, pointers.len()).write_to(&mut bytes);
    for (slot, pointer) in pointers.iter().enumerate() {
        pointer.write_to(&mut bytes[Header::SIZE + slot * KeyPtr::SIZE..]);
    }
    finish(plan, owner, bytenr, 1, bytes)
}

/// Seals the block and lets the reader's judge look at it before anything is written.
fn finish(plan: &Plan, owner: u64, bytenr: u64, level: u8, mut bytes: Vec<u8>) -> Result<Block> {
    seal(&mut bytes, plan.checksum);
    let geometry = Geometry {
        nodesize: plan.nodesize,
        sectorsize: SECTOR_SIZE as u32,
        checksum: plan.checksum,
        metadata_id: plan.fsid,
        chunk_tree_uuid: Some(plan.chunk_tree_uuid),
        super_generation: GENERATION,
        skinny_metadata: true,
    };
    verify_block(&bytes, &Expect::root(bytenr, GENERATION, level, owner), &geometry)?;
    Ok(Block { owner, bytenr, level, bytes })
}

fn dir_inode(time: Timespec, otime: Timespec, nbytes: u64) -> InodeItem {
    let mode = 0o040755;
    InodeItem {
        generation: GENERATION,
        nbytes,
        nlink: 1,
        mode,
        atime: time,
        ctime: time,
        mtime: time,
        otime,
        ..InodeItem::ZERO
    }
}

fn dot_dot() -> Vec<u8> {
    let mut data = Vec::new();
    InodeRef { index: 0, name: b".." }.append_to(&mut data);
    data
}

fn root_items(plan: &Plan, address: impl Fn(u64) -> u64) -> Result<Items> {
    let mut items = Items::new();
    for tree in TREES {
        let mut root = RootItem::new(address(tree), 0, GENERATION, plan.nodesize);
        if matches!(tree, objectid::FS_TREE | objectid::DATA_RELOC_TREE) {
            root.root_dirid = objectid::FIRST_FREE;
        }
        if tree == objectid::FS_TREE {
            root.uuid = plan.subvolume_uuid;
            root.ctime = plan.time;
            root.otime = plan.time;
            root.inode.flags = crfs_disk::constants::inode_flag::ROOT_ITEM_INIT;
            // Linux's mkfs points from the top tree to the entry "default" in this way.
            let mut data = Vec::new();
            InodeRef { index: 0, name: b"default" }.append_to(&mut data);
            items.push((Key::new(tree, item_type::INODE_REF, objectid::ROOT_TREE_DIR), data));
        }
        items.push((Key::new(tree, item_type::ROOT_ITEM, 0), root.encode().to_vec()));
    }
    let dir = objectid::ROOT_TREE_DIR;
    let inode = dir_inode(plan.time, plan.time, u64::from(plan.nodesize));
    items.push((Key::new(dir, item_type::INODE_ITEM, 0), inode.encode().to_vec()));
    items.push((Key::new(dir, item_type::INODE_REF, dir), dot_dot()));
    let name = b"default";
    let location = Key::new(objectid::FS_TREE, item_type::ROOT_ITEM, u64::MAX);
    let mut data = Vec::new();
    DirEntry { location, transid: 0, kind: file_type::DIR, name, data: b"" }.append_to(&mut data);
    items.push((Key::new(dir, item_type::DIR_ITEM, name_hash(name)), data));
    items.sort_by_key(|(key, _)| *key);
    Ok(items)
}

/// Inode 256 of the top subvolume and of the data relocation tree.
fn top_dir_items(plan: &Plan, otime: Timespec, nbytes: u64) -> Items {
    let top = objectid::FIRST_FREE;
    let inode = dir_inode(plan.time, otime, nbytes);
    vec![
        (Key::new(top, item_type::INODE_ITEM, 0), inode.encode().to_vec()),
        (Key::new(top, item_type::INODE_REF, top), dot_dot()),
    ]
}

fn uuid_items(plan: &Plan) -> Items {
    let Uuid(id) = plan.subvolume_uuid;
    let half = |from: usize| crfs_disk::bytes::u64_at(&id, from).unwrap_or(0);
    let key = Key::new(half(0), item_type::UUID_KEY_SUBVOL, half(8));
    vec![(key, objectid::FS_TREE.to_le_bytes().to_vec())]
}

fn chunk_items(plan: &Plan) -> Items {
    let mut items =
        vec![(Key::new(objectid::DEV_ITEMS, item_type::DEV_ITEM, DEVID), plan.dev_item().encode().to_vec())];
    for group in plan.layout.groups() {
        let key = Key::new(objectid::FIRST_CHUNK_TREE, item_type::CHUNK_ITEM, group.start);
        items.push((key, group.chunk(plan.device_uuid).encode()));
    }
    items
}

fn dev_items(plan: &Plan) -> Items {
    let mut items = Items::new();
    for group in plan.layout.groups() {
        for physical in group.physical() {
            let extent = DevExtent {
                chunk_tree: objectid::CHUNK_TREE,
                chunk_objectid: objectid::FIRST_CHUNK_TREE,
                chunk_offset: group.start,
                length: group.length,
                chunk_tree_uuid: plan.chunk_tree_uuid,
            };
            items.push((Key::new(DEVID, item_type::DEV_EXTENT, *physical), extent.encode().to_vec()));
        }
    }
    items.sort_by_key(|(key, _)| *key);
    items
}

/// The block groups and an extent for each tree block. `metadata` lists owner and level in the order of addresses.
fn extent_items(plan: &Plan, metadata: &[(u64, u8)], used: u64) -> Items {
    let nodesize = u64::from(plan.nodesize);
    let mut items = Items::new();
    let (data, system) = (plan.layout.data.start, plan.layout.system.start);
    for group in plan.layout.groups() {
        let used = match group.start {
            start if start == data => 0,
            start if start == system => nodesize,
            _ => used,
        };
        let item = BlockGroupItem { used, chunk_objectid: objectid::FIRST_CHUNK_TREE, flags: group.flags };
        items
            .push((Key::new(group.start, item_type::BLOCK_GROUP_ITEM, group.length), item.encode().to_vec()));
    }
    items.push(tree_block(plan.layout.system.start, 0, objectid::CHUNK_TREE));
    for (index, (owner, level)) in metadata.iter().enumerate() {
        items.push(tree_block(plan.layout.metadata.start + index as u64 * nodesize, *level, *owner));
    }
    items.sort_by_key(|(key, _)| *key);
    items
}

fn tree_block(bytenr: u64, level: u8, owner: u64) -> (Key, Vec<u8>) {
    let item = ExtentItem {
        head: ExtentHead { refs: 1, generation: GENERATION, flags: extent_flag::TREE_BLOCK },
        block_info: None,
        inline_refs: vec![InlineRef::TreeBlock { root: owner }],
    };
    (Key::new(bytenr, item_type::METADATA_ITEM, u64::from(level)), item.encode())
}

/// What the extents leave: all of the data group, and the rest of the two others.
fn free_space_items(plan: &Plan, used: u64) -> Items {
    let mut items = Items::new();
    for group in plan.layout.groups() {
        let used = match group.start {
            start if start == plan.layout.data.start => 0,
            start if start == plan.layout.system.start => u64::from(plan.nodesize),
            _ => used,
        };
        let info = FreeSpaceInfo { extent_count: 1, flags: 0 };
        items.push((Key::new(group.start, item_type::FREE_SPACE_INFO, group.length), info.encode().to_vec()));
        let free = Key::new(group.start + used, item_type::FREE_SPACE_EXTENT, group.length - used);
        items.push((free, Vec::new()));
    }
    items
}
