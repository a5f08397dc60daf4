// SPDX-License-Identifier: GPL-2.0-or-later
//! Nodes, pointers to nodes, and where nodes on the device come from.

use super::branch::{Branch, Entry};
use super::leaf::Leaf;
use crate::error::Result;
use crfs_disk::{Header, Key};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A pointer to a node.
#[derive(Clone)]
pub enum Child {
    /// On the device (or on its way there in the commit that is being written).
    Disk { bytenr: u64, generation: u64 },
    /// Changed since the last commit.
    Memory(Arc<Node>),
}

pub enum Body {
    Leaf(Leaf),
    Branch(Branch),
}

pub struct Node {
    /// Address given by the commit in progress, 0 before. Atomic because published pictures of a tree share the node
    /// while the commit gives it its address; they never look at it.
    address: AtomicU64,
    pub body: Body,
}

/// What a node read from the device must be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub tree: u64,
    pub bytenr: u64,
    pub generation: u64,
    pub level: u8,
    /// `None` at the root.
    pub first_key: Option<Key>,
}

/// Reads nodes from the device, verified, through a cache.
pub trait NodeSource {
    fn load(&self, wanted: &Wanted) -> Result<Arc<Node>>;
    fn nodesize(&self) -> usize;
}

impl Clone for Node {
    fn clone(&self) -> Node {
        let body = match &self.body {
            Body::Leaf(leaf) => Body::Leaf(leaf.clone()),
            Body::Branch(branch) => {
                // Copies of branches exist to be edited: leave room, so that an insertion does not copy once more.
                let mut entries: Vec<Entry> = Vec::with_capacity(branch.entries.len() + 8);
                entries.extend_from_slice(&branch.entries);
                Body::Branch(Branch { level: branch.level, entries })
            }
        };
        Node { address: AtomicU64::new(self.address()), body }
    }
}

impl Node {
    pub fn leaf(leaf: Leaf) -> Node {
        Node { address: AtomicU64::new(0), body: Body::Leaf(leaf) }
    }

    pub fn branch(level: u8, entries: Vec<Entry>) -> Node {
        Node { address: AtomicU64::new(0), body: Body::Branch(Branch { level, entries }) }
    }

    /// Takes a verified block of the device.
    pub fn from_block(bytes: Box<[u8]>) -> Node {
        match crfs_disk::header::level_of(&bytes).unwrap_or(0) {
            0 => Node::leaf(Leaf::from_block(bytes)),
            level => {
                Node { address: AtomicU64::new(0), body: Body::Branch(Branch::from_block(&bytes, level)) }
            }
        }
    }

    pub fn address(&self) -> u64 {
        self.address.load(Ordering::Relaxed)
    }

    pub fn set_address(&self, bytenr: u64) {
        self.address.store(bytenr, Ordering::Relaxed);
    }

    pub fn level(&self) -> u8 {
        match &self.body {
            Body::Leaf(_) => 0,
            Body::Branch(branch) => branch.level,
        }
    }

    /// Items or children.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Leaf(leaf) => leaf.len(),
            Body::Branch(branch) => branch.entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `None` of an empty leaf.
    pub fn first_key(&self) -> Option<Key> {
        match &self.body {
            Body::Leaf(leaf) => (!leaf.is_empty()).then(|| leaf.key(0)),
            Body::Branch(branch) => branch.entries.first().map(|entry| entry.key),
        }
    }

    /// Writes the block without its checksum: `header` with the counts of this node, then the content.
    pub fn encode_into(&self, header: &Header, block: &mut [u8]) {
        match &self.body {
            Body::Leaf(leaf) => block.copy_from_slice(leaf.bytes()),
            Body::Branch(branch) => branch.encode_into(block),
        }
        Header { nritems: self.len() as u32, level: self.level(), ..*header }.write_to(block);
    }
}

impl Child {
    pub fn memory(node: Node) -> Child {
        Child::Memory(Arc::new(node))
    }

    /// The node itself; `key` is the parent's key for it.
    pub fn load(
        &self,
        source: &dyn NodeSource,
        tree: u64,
        level: u8,
        first_key: Option<Key>,
    ) -> Result<Arc<Node>> {
        match self {
            Child::Memory(node) => Ok(Arc::clone(node)),
            Child::Disk { bytenr, generation } => {
                source.load(&Wanted { tree, bytenr: *bytenr, generation: *generation, level, first_key })
            }
        }
    }

    /// All nodes in memory below (and at) this pointer, parents after their children.
    pub fn visit_memory(&self, visit: &mut impl FnMut(&Arc<Node>)) {
        let Child::Memory(node) = self else { return };
        if let Body::Branch(branch) = &node.body {
            for entry in &branch.entries {
                entry.child.visit_memory(visit);
            }
        }
        visit(node);
    }

    /// The pointer once everything below has been written with `generation`: nodes in memory, all with addresses,
    /// go to `out` in a form that names their children by address.
    pub fn seal(&self, generation: u64, out: &mut Vec<Arc<Node>>) -> Child {
        let Child::Memory(node) = self else { return self.clone() };
        let bytenr = node.address();
        assert!(bytenr != 0, "a node was sealed before it had an address");
        match &node.body {
            Body::Leaf(_) => out.push(Arc::clone(node)),
            Body::Branch(branch) => {
                let entries = branch
                    .entries
                    .iter()
                    .map(|entry| Entry { key: entry.key, child: entry.child.seal(generation, out) })
                    .collect();
                let sealed = Node::branch(branch.level, entries);
                sealed.set_address(bytenr);
                out.push(Arc::new(sealed));
            }
        }
        Child::Disk { bytenr, generation }
    }
}
