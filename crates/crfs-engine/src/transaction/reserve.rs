// SPDX-License-Identifier: GPL-2.0-or-later
//! Room for the commit: a batch is accepted only if everything the next commit may have to write still fits. So ENOSPC is
//! the answer to a batch and never the end of a commit.

use super::Running;
use crate::error::{EngineError, Result};
use crate::space::Purpose;
use crfs_disk::{Header, objectid};

/// Changed nodes that wait for a commit at most; a full buffer makes the volume commit.
pub const DIRTY_NODES_MAX: u64 = 8192;
/// Batches that add no more than this to the leaves (removals, truncations, times) may use the room that is kept back
/// for them.
const FREEING_BYTES_MAX: i64 = 128;
/// Nodes kept back for such batches: a part of all metadata space, within bounds.
const KEPT_BACK_PART: u64 = 16;
const KEPT_BACK_MIN: u64 = 64;
const KEPT_BACK_MAX: u64 = 4096;
/// Leaf bytes of the extent item of a tree block, and of a data extent with one reference.
const BLOCK_ITEM_BYTES: u64 = 58;
const DATA_ITEM_BYTES: u64 = 78;
/// Nodes for what every commit touches: root tree, block groups, device and chunk trees.
const EVERY_COMMIT_NODES: u64 = 48;

/// Nodes that one batch may make the commit write beside leaves for its items, for reservations: names fall into the
/// leaves of a large directory at random, and each such leaf is copied. A part of all nodes, within bounds.
const COPIED_PART: u64 = 8;
const COPIED_MIN: u64 = 256;
const COPIED_MAX: u64 = 4096;

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
        dirty + copied + copied / 32 + split + EVERY_COMMIT_NODES
    }

    fn tree_nodes(&self, tree: u64) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        let committed = self.root_items.get(&tree).map_or(0, |root| root.bytes_committed / nodesize);
        let delta = self.roots.get(&tree).map_or(0, |tree| tree.node_delta);
        (committed as i64 + delta).max(1) as u64
    }

    fn nodes_kept_back(&self) -> u64 {
        let all = self.space.total_bytes(Purpose::Metadata) / u64::from(self.superblock.nodesize);
        (all / KEPT_BACK_PART).clamp(KEPT_BACK_MIN, KEPT_BACK_MAX)
    }

    pub(super) fn check_reserve(&self, net_item_bytes: i64) -> Result<()> {
        let room = self.space.metadata_room() / u64::from(self.superblock.nodesize);
        let kept = if net_item_bytes <= FREEING_BYTES_MAX { 0 } else { self.nodes_kept_back() };
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

    /// Cost of changes (`change::cost`) whose items fit for certain, commits in between included. No kind of change takes
    /// more leaf bytes than half its cost; half-full leaves double that, and what a commit may have to write beside
    /// the leaves must fit at any moment.
    pub fn reservable_for_items(&self) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        let nodes = self.space.used_bytes(Purpose::Metadata) / nodesize;
        let copied = (nodes / COPIED_PART).clamp(COPIED_MIN, COPIED_MAX);
        self.metadata_free().saturating_sub(copied * nodesize) / 2
    }

    /// Bytes that are free for metadata beyond what is kept back.
    pub fn metadata_free(&self) -> u64 {
        let nodesize = u64::from(self.superblock.nodesize);
        self.space.metadata_room().saturating_sub(self.nodes_kept_back() * nodesize)
    }
}
