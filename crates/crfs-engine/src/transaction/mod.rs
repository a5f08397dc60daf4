// SPDX-License-Identifier: GPL-2.0-or-later
//! The running transaction: the trees as they are now, what space they took, and how all of it becomes a commit.
//!
//! One writer at a time owns it (`volume`). Batches change it through `BatchStore`, which goes back to the state before
//! when a batch is refused. `freeze` turns it into a list of blocks to write and starts the next transaction; writing them
//! (`write`) needs no hold on it.
//!
//! Invariant between batches: the file and checksum trees are exactly what the batches made of them; extent tree, free-space
//! tree, block groups and root items are those of the last commit, and follow at the next.

mod batch;
mod commit;
mod csums;
mod delayed_refs;
mod extent_tree;
mod reserve;
mod write;

pub use batch::BatchStore;
pub use commit::Frozen;
pub use csums::read as read_csums;
pub use reserve::DIRTY_NODES_MAX;
pub use write::write_commit;

use crate::block_reader::BlockReader;
use crate::error::Result;
use crate::open::RootInfo;
use crate::space::{DeviceSpace, FreeSource, Space};
use crate::tree::{EditLog, NodeCache, Tree};
use crfs_disk::chunk::DevItem;
use crfs_disk::constants::compat_ro;
use crfs_disk::root::RootItem;
use crfs_disk::{Key, Superblock, objectid};
use delayed_refs::DelayedRefs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a touched data extent takes in memory until the commit, about.
const DELAYED_EXTENT_BYTES: u64 = 256;

/// All trees of one state, by id, root tree and chunk tree included.
pub type Roots = BTreeMap<u64, Tree>;

pub struct Running {
    pub nodes: Arc<NodeCache>,
    pub reader: Arc<BlockReader>,
    /// Generation that the next commit gets.
    pub generation: u64,
    pub roots: Roots,
    pub space: Space,
    /// As of the last commit.
    pub superblock: Superblock,
    /// The ROOT_ITEMs, all but the root tree's and the chunk tree's own, which have none.
    root_items: BTreeMap<u64, RootRecord>,
    writable: BTreeSet<u64>,
    log: EditLog,
    refs: DelayedRefs,
    /// Cost of changes that clients may still send and count on (`reserve`).
    promised: u64,
    /// Leaf bytes that batches gave back since the image was opened and that were not filled again.
    reusable: u64,
}

/// A ROOT_ITEM as the running root tree has it.
struct RootRecord {
    key: Key,
    item: RootItem,
    /// What the tree took up at the last commit.
    bytes_committed: u64,
}

impl RootRecord {
    fn new(root: &RootInfo) -> RootRecord {
        RootRecord { key: root.key, item: root.item, bytes_committed: root.item.bytes_used }
    }
}

/// The trees of an image that was just opened.
pub fn committed_roots(sb: &Superblock, infos: &BTreeMap<u64, RootInfo>) -> Roots {
    let mut roots = Roots::new();
    for (id, info) in infos {
        let item = &info.item;
        roots.insert(*id, Tree::on_disk(*id, item.bytenr, item.generation, item.level));
    }
    roots.insert(
        objectid::ROOT_TREE,
        Tree::on_disk(objectid::ROOT_TREE, sb.root, sb.generation, sb.root_level),
    );
    let chunk =
        Tree::on_disk(objectid::CHUNK_TREE, sb.chunk_root, sb.chunk_root_generation, sb.chunk_root_level);
    roots.insert(objectid::CHUNK_TREE, chunk);
    roots
}

impl Running {
    /// The transaction after the last commit of an image that was opened for writing.
    pub fn start(
        superblock: Superblock,
        dev_item: DevItem,
        root_infos: &BTreeMap<u64, RootInfo>,
        reader: Arc<BlockReader>,
        nodes: Arc<NodeCache>,
    ) -> Result<Running> {
        let roots = committed_roots(&superblock, root_infos);
        let device = DeviceSpace::load(dev_item, &roots[&objectid::DEV_TREE], &*nodes)?;
        let groups_tree = &roots[&groups_tree_id(&superblock)];
        let space = Space::load(Arc::clone(&reader), device, groups_tree, &*nodes)?;
        let writable = root_infos
            .values()
            .filter(|root| root.is_live_subvolume() && !root.is_read_only_subvolume())
            .map(RootInfo::id)
            .collect();
        Ok(Running {
            nodes,
            reader,
            generation: superblock.generation + 1,
            roots,
            space,
            superblock,
            root_items: root_infos.iter().map(|(id, root)| (*id, RootRecord::new(root))).collect(),
            writable,
            log: EditLog::default(),
            refs: DelayedRefs::default(),
            promised: 0,
            reusable: 0,
        })
    }

    /// Trees that batches may change.
    pub fn writable_trees(&self) -> &BTreeSet<u64> {
        &self.writable
    }

    /// Whether a commit would write anything.
    pub fn is_dirty(&self) -> bool {
        self.log.dirty_nodes > 0 || !self.refs.extents.is_empty() || self.space.has_new_chunks()
    }

    /// Memory that only a commit gives back.
    pub fn dirty_bytes(&self) -> u64 {
        self.log.dirty_nodes.max(0) as u64 * u64::from(self.superblock.nodesize)
            + self.refs.extents.len() as u64 * DELAYED_EXTENT_BYTES
    }

    fn groups_tree_id(&self) -> u64 {
        groups_tree_id(&self.superblock)
    }
}

fn groups_tree_id(sb: &Superblock) -> u64 {
    if sb.compat_ro_flags & compat_ro::BLOCK_GROUP_TREE != 0 {
        objectid::BLOCK_GROUP_TREE
    } else {
        objectid::EXTENT_TREE
    }
}

/// The free-space tree for the allocator, borrowed beside `space`.
fn free_source<'a>(roots: &'a Roots, nodes: &'a NodeCache) -> FreeSource<'a> {
    FreeSource { tree: &roots[&objectid::FREE_SPACE_TREE], nodes }
}
