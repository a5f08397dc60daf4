// SPDX-License-Identifier: GPL-2.0-or-later
//! Inserting, replacing and removing items.
//!
//! A node is copied when it lies on the device or when a published picture of the tree shares it; else it is changed in
//! place. What an edit means for space is only noted (`EditLog`), so that a refused batch is undone by going back
//! to the old root and the old length of the log.
//!
//! Leaves are kept full: a sorted run of inserts leaves full leaves behind, a leaf that falls below a third is joined
//! with a neighbour when both fit well into one.

use super::Tree;
use super::branch::{Branch, Entry};
use super::leaf::Leaf;
use super::node::{Body, Child, Node, NodeSource};
use crate::error::{EngineError, Result};
use crfs_disk::{Header, ItemHeader, Key};
use std::sync::Arc;

/// A block of the last commit that the running transaction no longer uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreedBlock {
    pub tree: u64,
    pub bytenr: u64,
    pub level: u8,
}

/// What edits did to the set of nodes.
#[derive(Default)]
pub struct EditLog {
    pub freed: Vec<FreedBlock>,
    /// Addresses given by the commit in progress whose node vanished again: (address, level).
    pub freed_new: Vec<FreedBlock>,
    /// Nodes in memory over all trees.
    pub dirty_nodes: i64,
}

struct Editor<'a> {
    source: &'a dyn NodeSource,
    log: &'a mut EditLog,
    tree: u64,
    node_delta: i64,
    last_insert: Key,
}

/// New right-hand neighbours of a node that had to split, with their first keys.
type Spill = Vec<Entry>;

impl Tree {
    /// Inserts an item that cannot exist yet; one that does is reported as corruption.
    pub fn insert(
        &mut self,
        source: &dyn NodeSource,
        log: &mut EditLog,
        key: Key,
        data: &[u8],
    ) -> Result<()> {
        if self.try_insert(source, log, key, data)? {
            return Ok(());
        }
        Err(EngineError::corrupt(format!("tree {}: item {key} exists already", self.id)))
    }

    /// Inserts an item; false, and nothing changed, when the key is taken.
    pub fn try_insert(
        &mut self,
        source: &dyn NodeSource,
        log: &mut EditLog,
        key: Key,
        data: &[u8],
    ) -> Result<bool> {
        let most = Header::leaf_space(source.nodesize()) - ItemHeader::SIZE;
        if data.len() > most {
            return Err(EngineError::refused(
                libc::EOVERFLOW,
                format!("item {key} of {} bytes does not fit into a leaf", data.len()),
            ));
        }
        let mut editor = Editor { source, log, tree: self.id, node_delta: 0, last_insert: self.last_insert };
        let Some(spill) = editor.insert(&mut self.root, self.level, None, key, data)? else {
            return Ok(false);
        };
        editor.grow_root(&mut self.root, &mut self.level, spill);
        self.node_delta += editor.node_delta;
        self.last_insert = key;
        Ok(true)
    }

    /// Gives an existing item new data of any size; returns the size it had.
    pub fn replace(
        &mut self,
        source: &dyn NodeSource,
        log: &mut EditLog,
        key: Key,
        data: &[u8],
    ) -> Result<usize> {
        let mut editor = Editor { source, log, tree: self.id, node_delta: 0, last_insert: self.last_insert };
        if let Some(old) = editor.replace_in_place(&mut self.root, self.level, None, key, data)? {
            return Ok(old);
        }
        let old = self.remove(source, log, key)?;
        self.insert(source, log, key, data)?;
        Ok(old)
    }

    /// Removes an existing item; returns the size it had.
    pub fn remove(&mut self, source: &dyn NodeSource, log: &mut EditLog, key: Key) -> Result<usize> {
        let mut editor = Editor { source, log, tree: self.id, node_delta: 0, last_insert: self.last_insert };
        let old = editor.remove(&mut self.root, self.level, None, key)?;
        editor.shrink_root(&mut self.root, &mut self.level);
        self.node_delta += editor.node_delta;
        Ok(old)
    }

    /// Copies the nodes on the way to `key` into memory, so that a later change there needs no new node.
    pub fn touch(&mut self, source: &dyn NodeSource, log: &mut EditLog, key: Key) -> Result<()> {
        let mut editor = Editor { source, log, tree: self.id, node_delta: 0, last_insert: self.last_insert };
        let mut child = &mut self.root;
        let mut level = self.level;
        let mut first_key = None;
        loop {
            let node = editor.own(child, level, first_key)?;
            let Body::Branch(branch) = &mut node.body else { return Ok(()) };
            let slot = branch.child_slot(key);
            let entry = &mut branch.entries[slot];
            first_key = Some(entry.key);
            child = &mut entry.child;
            level -= 1;
        }
    }
}

impl Editor<'_> {
    /// Makes the node behind `child` ours alone and in memory.
    fn own<'n>(&mut self, child: &'n mut Child, level: u8, first_key: Option<Key>) -> Result<&'n mut Node> {
        if let Child::Disk { bytenr, .. } = *child {
            let node = child.load(self.source, self.tree, level, first_key)?;
            let copy = Node::clone(&node);
            copy.set_address(0);
            self.log.freed.push(FreedBlock { tree: self.tree, bytenr, level });
            self.log.dirty_nodes += 1;
            *child = Child::memory(copy);
        }
        match child {
            Child::Memory(node) => Ok(Arc::make_mut(node)),
            Child::Disk { .. } => unreachable!("the pointer was replaced above"),
        }
    }

    fn new_node(&mut self, node: Node) -> Child {
        self.log.dirty_nodes += 1;
        self.node_delta += 1;
        Child::memory(node)
    }

    /// Notes that a node is no longer part of the tree.
    fn drop_node(&mut self, child: &Child, level: u8) {
        self.node_delta -= 1;
        match child {
            Child::Disk { bytenr, .. } => {
                self.log.freed.push(FreedBlock { tree: self.tree, bytenr: *bytenr, level });
            }
            Child::Memory(node) => {
                self.log.dirty_nodes -= 1;
                if node.address() != 0 {
                    self.log.freed_new.push(FreedBlock { tree: self.tree, bytenr: node.address(), level });
                }
            }
        }
    }

    /// `None` when the key is taken.
    fn insert(
        &mut self,
        child: &mut Child,
        level: u8,
        first_key: Option<Key>,
        key: Key,
        data: &[u8],
    ) -> Result<Option<Spill>> {
        let last_insert = self.last_insert;
        let node = self.own(child, level, first_key)?;
        match &mut node.body {
            Body::Leaf(leaf) => {
                let (slot, found) = leaf.search(key);
                if found {
                    return Ok(None);
                }
                if leaf.free() >= ItemHeader::SIZE + data.len() {
                    leaf.insert(slot, key, data);
                    return Ok(Some(Vec::new()));
                }
                let leaves = split_leaf(leaf, slot, key, data, last_insert);
                let spill = leaves
                    .into_iter()
                    .map(|leaf| Entry { key: leaf.key(0), child: self.new_node(Node::leaf(leaf)) })
                    .collect();
                Ok(Some(spill))
            }
            Body::Branch(branch) => {
                let mut slot = branch.child_slot(key);
                if level == 1 && self.make_room(branch, slot, key, ItemHeader::SIZE + data.len())? {
                    slot = branch.child_slot(key);
                }
                let entry = &mut branch.entries[slot];
                let child_key = entry.key;
                let Some(spill) = self.insert(&mut entry.child, level - 1, Some(child_key), key, data)?
                else {
                    return Ok(None);
                };
                if key < entry.key {
                    entry.key = key;
                }
                if spill.is_empty() {
                    return Ok(Some(spill));
                }
                let last = slot + spill.len();
                branch.entries.splice(slot + 1..slot + 1, spill);
                // A split at the insertion point of a sorted run can leave a small rest on the right.
                if last + 1 < branch.entries.len() {
                    self.join_if_small(branch, last)?;
                }
                Ok(Some(self.split_branch(branch, slot)))
            }
        }
    }

    /// Before a leaf splits for an item in its middle, its neighbours take what they can. Only neighbours that are in
    /// memory anyway: a copy of another one would cost as much as the split. Whether anything moved.
    fn make_room(&mut self, branch: &mut Branch, at: usize, key: Key, need: usize) -> Result<bool> {
        let first_key = branch.entries[at].key;
        let node = self.own(&mut branch.entries[at].child, 0, Some(first_key))?;
        let Body::Leaf(leaf) = &node.body else { unreachable!("the level says that it is a leaf") };
        let (slot, found) = leaf.search(key);
        let in_run = slot == leaf.len() || (slot > 0 && leaf.key(slot - 1) == self.last_insert);
        if found || leaf.free() >= need || in_run {
            return Ok(false);
        }
        let mut moved = 0;
        if let Some((before, here)) = leaves_in_memory(&mut branch.entries, at.checked_sub(1), at) {
            // One item stays before the new one, so that it still belongs here.
            moved += here.push_left(before, slot.saturating_sub(1));
        }
        let (slot, fits) = match &branch.entries[at].child {
            Child::Memory(node) => match &node.body {
                Body::Leaf(leaf) => (leaf.search(key).0, leaf.free() >= need),
                Body::Branch(_) => unreachable!("the level says that it is a leaf"),
            },
            Child::Disk { .. } => unreachable!("the leaf was made ours above"),
        };
        if !fits && let Some((here, after)) = leaves_in_memory(&mut branch.entries, Some(at), at + 1) {
            moved += here.push_right(after, slot.max(1));
        }
        for entry in branch.entries.iter_mut().skip(at).take(2) {
            if let Child::Memory(node) = &entry.child
                && let Some(first) = node.first_key()
            {
                entry.key = first;
            }
        }
        Ok(moved > 0)
    }

    fn split_branch(&mut self, branch: &mut Branch, touched: usize) -> Spill {
        let capacity = Header::node_capacity(self.source.nodesize());
        let len = branch.entries.len();
        if len <= capacity {
            return Vec::new();
        }
        // Growth at the right end leaves a full node behind.
        let at = if touched + 2 >= len - 1 { len - 2 } else { len / 2 };
        let right: Vec<Entry> = branch.entries.drain(at..).collect();
        let key = right[0].key;
        let level = branch.level;
        let child = self.new_node(Node::branch(level, right));
        vec![Entry { key, child }]
    }

    fn grow_root(&mut self, root: &mut Child, level: &mut u8, spill: Spill) {
        if spill.is_empty() {
            return;
        }
        let Child::Memory(node) = &*root else { unreachable!("a node that split is in memory") };
        let first = node.first_key().expect("a node that split is not empty");
        let mut entries = vec![Entry { key: first, child: root.clone() }];
        entries.extend(spill);
        *level += 1;
        *root = self.new_node(Node::branch(*level, entries));
    }

    fn replace_in_place(
        &mut self,
        child: &mut Child,
        level: u8,
        first_key: Option<Key>,
        key: Key,
        data: &[u8],
    ) -> Result<Option<usize>> {
        let tree = self.tree;
        let node = self.own(child, level, first_key)?;
        match &mut node.body {
            Body::Leaf(leaf) => {
                let (slot, found) = leaf.search(key);
                if !found {
                    return Err(EngineError::corrupt(format!("tree {tree}: item {key} is missing")));
                }
                let old = leaf.data(slot).len();
                if leaf.free() + old < data.len() {
                    return Ok(None);
                }
                leaf.replace(slot, data);
                Ok(Some(old))
            }
            Body::Branch(branch) => {
                let slot = branch.child_slot(key);
                let entry = &mut branch.entries[slot];
                let child_key = entry.key;
                self.replace_in_place(&mut entry.child, level - 1, Some(child_key), key, data)
            }
        }
    }

    fn remove(&mut self, child: &mut Child, level: u8, first_key: Option<Key>, key: Key) -> Result<usize> {
        let tree = self.tree;
        let node = self.own(child, level, first_key)?;
        match &mut node.body {
            Body::Leaf(leaf) => {
                let (slot, found) = leaf.search(key);
                if !found {
                    return Err(EngineError::corrupt(format!("tree {tree}: item {key} is missing")));
                }
                let old = leaf.data(slot).len();
                leaf.remove(slot);
                Ok(old)
            }
            Body::Branch(branch) => {
                let slot = branch.child_slot(key);
                let entry = &mut branch.entries[slot];
                let child_key = entry.key;
                let old = self.remove(&mut entry.child, level - 1, Some(child_key), key)?;
                let Child::Memory(below) = &entry.child else { unreachable!("an edited node is in memory") };
                match below.first_key() {
                    Some(first) => {
                        entry.key = first;
                        self.join_if_small(branch, slot)?;
                    }
                    None => {
                        let gone = branch.entries.remove(slot);
                        self.drop_node(&gone.child, level - 1);
                    }
                }
                Ok(old)
            }
        }
    }

    /// A root with a single child gives way to it; an emptied root becomes an empty leaf.
    fn shrink_root(&mut self, root: &mut Child, level: &mut u8) {
        loop {
            let Child::Memory(node) = &*root else { return };
            let Body::Branch(branch) = &node.body else { return };
            let next = match branch.entries.as_slice() {
                [] => None,
                [only] => Some(only.child.clone()),
                _ => return,
            };
            let old = root.clone();
            self.drop_node(&old, *level);
            match next {
                Some(child) => {
                    *root = child;
                    *level -= 1;
                }
                None => {
                    *root = self.new_node(Node::leaf(Leaf::new(self.source.nodesize())));
                    *level = 0;
                }
            }
        }
    }

    /// Joins the child at `slot` with a neighbour if it is small and both fit well into one node.
    fn join_if_small(&mut self, branch: &mut Branch, slot: usize) -> Result<()> {
        let level = branch.level - 1;
        let (fill, full) = self.fill(&branch.entries[slot], level)?;
        if fill * 3 >= full {
            return Ok(());
        }
        for left in [Some(slot), slot.checked_sub(1)].into_iter().flatten() {
            let other = if left == slot { slot + 1 } else { left };
            if other >= branch.entries.len() {
                continue;
            }
            let (other_fill, _) = self.fill(&branch.entries[other], level)?;
            if (fill + other_fill) * 4 <= full * 3 {
                return self.join(branch, left);
            }
        }
        Ok(())
    }

    /// How much of a node is in use, and how much could be.
    fn fill(&mut self, entry: &Entry, level: u8) -> Result<(usize, usize)> {
        let node = entry.child.load(self.source, self.tree, level, Some(entry.key))?;
        Ok(match &node.body {
            Body::Leaf(leaf) => (leaf.used(), leaf.space()),
            Body::Branch(branch) => (branch.entries.len(), Header::node_capacity(self.source.nodesize())),
        })
    }

    /// Moves everything of child `left + 1` into child `left`.
    fn join(&mut self, branch: &mut Branch, left: usize) -> Result<()> {
        let level = branch.level - 1;
        let gone = &branch.entries[left + 1];
        let right = gone.child.load(self.source, self.tree, level, Some(gone.key))?;
        let entry = &mut branch.entries[left];
        let key = entry.key;
        let node = self.own(&mut entry.child, level, Some(key))?;
        match (&mut node.body, &right.body) {
            (Body::Leaf(into), Body::Leaf(from)) => into.append(from),
            (Body::Branch(into), Body::Branch(from)) => into.entries.extend_from_slice(&from.entries),
            _ => unreachable!("children of one node have one level"),
        }
        let gone = branch.entries.remove(left + 1);
        self.drop_node(&gone.child, level);
        Ok(())
    }
}

/// The two neighbouring leaves `left` and `right`, ours alone, if both are in memory.
fn leaves_in_memory(
    entries: &mut [Entry],
    left: Option<usize>,
    right: usize,
) -> Option<(&mut Leaf, &mut Leaf)> {
    let [one, other] = entries.get_mut(left?..=right)? else { return None };
    let (Child::Memory(one), Child::Memory(other)) = (&mut one.child, &mut other.child) else { return None };
    match (&mut Arc::make_mut(one).body, &mut Arc::make_mut(other).body) {
        (Body::Leaf(one), Body::Leaf(other)) => Some((one, other)),
        _ => None,
    }
}

/// Splits a full leaf around a new item at `slot`; returns the new leaves right of it.
fn split_leaf(leaf: &mut Leaf, slot: usize, key: Key, data: &[u8], last_insert: Key) -> Vec<Leaf> {
    let need = ItemHeader::SIZE + data.len();
    let len = leaf.len();
    let nodesize = leaf.bytes().len();
    let in_run = slot > 0 && leaf.key(slot - 1) == last_insert;
    let at = if slot == len || in_run { slot } else { leaf.middle(slot, need) };
    if at > 0 && at < len {
        let space = leaf.space();
        if slot <= at && leaf.bytes_of(0, at) + need <= space {
            let right = leaf.split_off(at);
            leaf.insert(slot, key, data);
            return vec![right];
        }
        if slot >= at && leaf.bytes_of(at, len) + need <= space {
            let mut right = leaf.split_off(at);
            right.insert(slot - at, key, data);
            return vec![right];
        }
    }
    // The item gets a leaf of its own between what lies before and after it.
    let mut own = Leaf::new(nodesize);
    own.insert(0, key, data);
    if slot == len {
        return vec![own];
    }
    let right = leaf.split_off(slot);
    if slot == 0 {
        *leaf = own;
        return vec![right];
    }
    vec![own, right]
}
