// SPDX-License-Identifier: GPL-2.0-or-later
//! Copy-on-write B-trees in memory.
//!
//! A tree is a root pointer. Nodes that lie on the device are named by address and generation; nodes changed since the
//! last commit hang in memory behind `Arc`. An edit copies only nodes that somebody else still holds, so a clone of a
//! root is a frozen picture of the whole tree: readers keep one, and undoing a refused batch is going back to one.
//! A changed node has no address; it gets one at commit (`transaction/`).

mod branch;
mod cache;
mod cursor;
mod edit;
mod leaf;
mod node;
#[cfg(test)]
mod tests;

pub use branch::{Branch, Entry};
pub use cache::{BlockSource, NodeCache};
pub use cursor::Cursor;
pub use edit::{EditLog, FreedBlock};
pub use leaf::Leaf;
pub use node::{Body, Child, Node, NodeSource, Wanted};

/// One tree: its id, its root, and what an editor wants to remember between edits.
#[derive(Clone)]
pub struct Tree {
    pub id: u64,
    pub root: Child,
    pub level: u8,
    /// Nodes that the tree has more (or fewer) than at the last commit.
    pub node_delta: i64,
    /// Key of the newest insertion: tells a sorted run from scattered inserts when a leaf must split.
    last_insert: crfs_disk::Key,
}

impl Tree {
    /// A tree whose root block lies on the device.
    pub fn on_disk(id: u64, bytenr: u64, generation: u64, level: u8) -> Tree {
        Tree {
            id,
            root: Child::Disk { bytenr, generation },
            level,
            node_delta: 0,
            last_insert: crfs_disk::Key::MAX,
        }
    }

    /// True when something changed since the root was last on the device.
    pub fn is_dirty(&self) -> bool {
        matches!(self.root, Child::Memory(_))
    }
}
