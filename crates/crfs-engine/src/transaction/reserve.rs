// SPDX-License-Identifier: GPL-2.0-or-later
//! Room for the commit: a batch is accepted only if everything the next commit may have to write still fits. So ENOSPC is
//! the answer to a batch and never the end of a commit. And promises: space that a client may count on before it sends
//! anything, so that ENOSPC comes from the call that causes it.

use super::Running;
use crate::change::cost::SECTOR;
use crate::error::{EngineError, Result};
use crate::space::Purpose;
use crfs_disk::verify::is_fs_tree;
use crfs_disk::{Header, objectid};

/// Changed nodes that wait for a commit at most; a full buffer makes the volume commit.
pub const DIRTY_NODES_MAX: u64 = 8192;
/// Batches that add no more than this to the leaves (removals, truncations, times) may use the room that is kept back
/// for them.
const FREEING_BYTES_MAX: i64 = 128;
/// Nodes kept back for such batches: a part of all metadata space, within bounds.
const KEPT_BACK_PART: u64 = 16;
const KEPT_BACK_MIN: u64 = 64;
/// As much as Linux keeps back at most.
const KEPT_BACK_BYTES_MAX: u64 = 512 << 20;
/// Leaf bytes of the extent item of a tree block, and of a data extent with one reference.
const BLOCK_ITEM_BYTES: u64 = 58;
const DATA_ITEM_BYTES: u64 = 78;
/// Nodes for what every commit touches: root tree, block groups, device and chunk trees.
const EVERY_COMMIT_NODES: u64 = 48;

/// Items that were removed leave room inside leaves and mostly no node. For what goes into that room again, promises may go
/// below what is kept back, down to this part of it in fourths.
const FLOOR_FOURTHS: u64 = 3;
/// Cost for which a byte in a leaf is enough, for small files.
const COST_A_LEAF_BYTE: u64 = 8;
/// Nodes that a batch may copy for the commit beside those that it adds: names fall into the leaves of a large directory at
/// random. A part of all metadata space, within bounds. A batch that copies more is cut in two by its sender.
const COPIES_PART: u64 = 32;
const COPIES_MIN: u64 = 128;
const COPIES_BYTES_MIN: u64 = 2 << 20;
const COPIES_MAX: u64 = 4096;
/// Leaves that changes of one SECTOR of cost may split: those of a name's three items and one to spare; those of a put
/// data's items in the file, extent and checksum trees.
const SPLITS_A_SECTOR: u64 = 4;
/// Data space that is never promised: what chunks for metadata take beyond their need.
const DATA_KEPT: u64 = 4 << 20;

impl Running {
    /// Upper bound of the nodes that the commit of everything so far writes.
    fn nodes_needed(&self) -> u64 {
        let dirty = self.log.dirty_nodes.max(0) as u64;
        let extents = self.refs.extents.len() as u64;
        let operations = dirty + self.log.freed.len() as u64 + extents;
        // Every operation changes a leaf of the extent tree and one of the free-space tree, a dropped extent one of the
        // checksum tree; copying that leaf frees the old one, which is an operation of its own. No more leaves than there
        // are can be copied.
        let existing = [objectid::EXTENT_TREE, objectid::FREE_SPACE_TREE, objectid::CSUM_TREE];
        let existing: u64 = existing.iter().map(|tree| self.tree_nodes(*tree)).sum();
        let copied = (operations * 4).min(existing);
        let space = Header::leaf_space(self.superblock.nodesize as usize) as u64;
        let items = (dirty + copied) * BLOCK_ITEM_BYTES + extents * DATA_ITEM_BYTES;
        let split = items.div_ceil(space / 2) * 2;
        // Each changed subvolume has its root item in a leaf of the root tree, perhaps one of its own.
        let roots = self.roots.values().filter(|tree| is_fs_tree(tree.id) && tree.is_dirty()).count() as u64;
        dirty + copied + copied / 32 + split + roots + EVERY_COMMIT_NODES
    }

    fn tree_nodes(&self, tree: u64) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        let committed = self.root_items.get(&tree).map_or(0, |root| root.bytes_committed / nodesize);
        let delta = self.roots.get(&tree).map_or(0, |tree| tree.node_delta);
        (committed as i64 + delta).max(1) as u64
    }

    /// Nodes of all metadata, what it can still grow by included: data that takes room of the device only lessens it.
    fn capacity_nodes(&self) -> u64 {
        let grown = self.space.total_bytes(Purpose::Metadata) - self.space.free_bytes(Purpose::Metadata);
        (grown + self.space.metadata_room()) / u64::from(self.superblock.nodesize)
    }

    fn nodes_kept_back(&self) -> u64 {
        let most = KEPT_BACK_BYTES_MAX / u64::from(self.superblock.nodesize);
        (self.capacity_nodes() / KEPT_BACK_PART).clamp(KEPT_BACK_MIN, most)
    }

    /// Nodes of those kept back that not even promises may take.
    fn nodes_floor(&self) -> u64 {
        self.nodes_kept_back() * FLOOR_FOURTHS / 4
    }

    fn nodes_for_copies(&self) -> u64 {
        let least = COPIES_MIN.max(COPIES_BYTES_MIN / u64::from(self.superblock.nodesize));
        (self.capacity_nodes() / COPIES_PART).clamp(least, COPIES_MAX)
    }

    /// Nodes by which changes of this cost can make metadata grow. What they add fills leaves to a good half on average
    /// once those were split; and a leaf that is full now splits at its first new item. No more leaves can do so than there
    /// are.
    fn growth(&self, cost: u64) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        let space = Header::leaf_space(nodesize as usize) as u64;
        let filled = cost.div_ceil(4).saturating_mul(5).div_ceil(space);
        let existing =
            self.space.used_bytes(Purpose::Metadata) / nodesize + self.log.dirty_nodes.max(0) as u64;
        let splits = cost.div_ceil(SECTOR).saturating_mul(SPLITS_A_SECTOR).min(existing);
        filled + splits
    }

    /// Nodes that nothing but promised changes and those that free space may take.
    fn nodes_for_promises(&self, promised: u64) -> u64 {
        if promised == 0 { 0 } else { self.growth(promised) + self.nodes_for_copies() }
    }

    /// Promises space for changes of up to `wanted` cost (`change::cost`): for data or for items, whichever they turn out
    /// to need. Returns how much, perhaps 0.
    ///
    /// INVARIANT: what was promised and not used yet fits, for data and for items, after a commit. The batches that use
    /// it fit if they copy no more than is kept for copies, and any of one operation does.
    pub fn promise(&mut self, wanted: u64) -> u64 {
        let room = self.space.metadata_room() / u64::from(self.superblock.nodesize);
        let room = room.saturating_sub(self.nodes_needed());
        let (kept, floor) = (self.nodes_kept_back(), self.nodes_floor());
        let reusable = self.reusable.saturating_mul(COST_A_LEAF_BYTE);
        let fits = |cost: u64| {
            let promised = self.promised.saturating_add(cost);
            self.nodes_for_promises(promised) + if promised <= reusable { floor } else { kept } <= room
        };
        let data = self.space.data_room().saturating_sub(DATA_KEPT);
        let (mut given, mut beyond) = (0, wanted.min(data.saturating_sub(self.promised)) + 1);
        while beyond - given > 1 {
            let middle = given + (beyond - given) / 2;
            if fits(middle) {
                given = middle;
            } else {
                beyond = middle;
            }
        }
        self.promised += given;
        given
    }

    /// Takes a promise back of which `bytes` were not used.
    pub fn withdraw(&mut self, bytes: u64) {
        self.promised = self.promised.saturating_sub(bytes);
    }

    /// Takes account of a batch that was applied: `covered` of its cost was promised.
    pub(super) fn account(&mut self, net_item_bytes: i64, covered: u64) {
        self.withdraw(covered);
        self.reusable = self.reusable.saturating_add_signed(net_item_bytes.saturating_neg());
    }

    /// Tells the allocator how much room of the device data must leave to metadata while a batch is applied of which
    /// `covered` was promised: what of that is data needs no room there any more, and less than it would have as items.
    /// A chunk is larger than what is needed at once; for that it may take half of the room for copies.
    pub(super) fn keep_room_for_metadata(&mut self, covered: u64) {
        let promises = match self.promised {
            0 => 0,
            promised => self.growth(promised.saturating_sub(covered)) + self.nodes_for_copies() / 2,
        };
        let nodes = self.nodes_needed() + self.nodes_floor() + promises;
        self.space.keep_metadata_room(nodes * u64::from(self.superblock.nodesize));
    }

    /// Makes sure that the commit of everything so far cannot run out of space. `covered` is the part of the batch's cost
    /// that was promised to its sender, `cost` all of it.
    pub(super) fn check_reserve(&self, net_item_bytes: i64, cost: u64, covered: u64) -> Result<()> {
        let room = self.space.metadata_room() / u64::from(self.superblock.nodesize);
        let kept = if net_item_bytes <= FREEING_BYTES_MAX {
            0
        } else if covered >= cost {
            self.nodes_floor()
        } else {
            self.nodes_kept_back() + self.nodes_for_promises(self.promised - covered.min(self.promised))
        };
        let needed = self.nodes_needed();
        if needed + kept <= room {
            return Ok(());
        }
        Err(EngineError::NoSpace(format!(
            "metadata has room for {room} nodes, {needed} may be needed, {kept} are kept back"
        )))
    }

    /// Whether the next commit gives space back.
    pub(super) fn frees_at_commit(&self) -> bool {
        self.space.pinned_bytes() > 0
            || !self.log.freed.is_empty()
            || self.refs.extents.values().any(|extent| extent.refs_now() == 0)
    }

    /// Bytes that are free for metadata beyond what is kept back.
    pub fn metadata_free(&self) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        self.space.metadata_room().saturating_sub(self.nodes_kept_back() * nodesize)
    }
}
