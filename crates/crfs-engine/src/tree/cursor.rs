// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading a tree: single items, and a cursor that walks items in both directions.

use super::node::{Body, Child, Node, NodeSource};
use super::{Leaf, Tree};
use crate::error::Result;
use crfs_disk::Key;
use std::sync::Arc;

impl Tree {
    /// Copies an item's data into `out` (cleared first); false when there is none.
    pub fn get(&self, source: &dyn NodeSource, key: Key, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        self.with_leaf(source, key, |leaf| {
            let (slot, found) = leaf.search(key);
            if found {
                out.extend_from_slice(leaf.data(slot));
            }
            found
        })
    }

    /// Runs `visit` on the leaf whose range holds `key`.
    fn with_leaf<R>(&self, source: &dyn NodeSource, key: Key, visit: impl FnOnce(&Leaf) -> R) -> Result<R> {
        // Recursion keeps nodes in memory borrowed instead of counting references on every level.
        fn descend<R>(
            source: &dyn NodeSource,
            wanted: (u64, u8, Option<Key>),
            child: &Child,
            key: Key,
            visit: impl FnOnce(&Leaf) -> R,
        ) -> Result<R> {
            let (tree, level, first_key) = wanted;
            let held;
            let node: &Node = match child {
                Child::Memory(node) => node,
                Child::Disk { .. } => {
                    held = child.load(source, tree, level, first_key)?;
                    &held
                }
            };
            match &node.body {
                Body::Leaf(leaf) => Ok(visit(leaf)),
                Body::Branch(branch) => {
                    let entry = &branch.entries[branch.child_slot(key)];
                    descend(source, (tree, level - 1, Some(entry.key)), &entry.child, key, visit)
                }
            }
        }
        descend(source, (self.id, self.level, None), &self.root, key, visit)
    }

    /// First item with a key >= `key`.
    pub fn next(&self, source: &dyn NodeSource, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        out.clear();
        let here = self.with_leaf(source, key, |leaf| {
            let (slot, _) = leaf.search(key);
            if slot == leaf.len() {
                return None;
            }
            out.extend_from_slice(leaf.data(slot));
            Some(leaf.key(slot))
        })?;
        if here.is_some() {
            return Ok(here);
        }
        Cursor::seek(self, source, key)?.copy_item(out)
    }

    /// Last item with a key <= `key`.
    pub fn prev(&self, source: &dyn NodeSource, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        out.clear();
        let here = self.with_leaf(source, key, |leaf| {
            let slot = match leaf.search(key) {
                (slot, true) => slot,
                (0, false) => return None,
                (slot, false) => slot - 1,
            };
            out.extend_from_slice(leaf.data(slot));
            Some(leaf.key(slot))
        })?;
        if here.is_some() {
            return Ok(here);
        }
        let mut cursor = Cursor::seek(self, source, key)?;
        if !cursor.retreat()? {
            return Ok(None);
        }
        cursor.copy_item(out)
    }
}

/// A place in one frozen picture of a tree: on an item, or past the last one.
pub struct Cursor<'a> {
    source: &'a dyn NodeSource,
    tree: u64,
    /// Root to leaf; the slot of a branch is the child the path goes through.
    path: Vec<(Arc<Node>, usize)>,
}

impl<'a> Cursor<'a> {
    /// On the first item with a key >= `key`.
    pub fn seek(tree: &Tree, source: &'a dyn NodeSource, key: Key) -> Result<Cursor<'a>> {
        let mut cursor = Cursor { source, tree: tree.id, path: Vec::with_capacity(4) };
        let mut node = tree.root.load(source, tree.id, tree.level, None)?;
        loop {
            let (slot, below) = match &node.body {
                Body::Leaf(leaf) => (leaf.search(key).0, None),
                Body::Branch(branch) => {
                    let slot = branch.child_slot(key);
                    let entry = &branch.entries[slot];
                    (slot, Some(entry.child.load(source, tree.id, branch.level - 1, Some(entry.key))?))
                }
            };
            cursor.path.push((node, slot));
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        if cursor.past_leaf() {
            cursor.next_leaf()?;
        }
        Ok(cursor)
    }

    pub fn item(&self) -> Option<(Key, &[u8])> {
        let (node, slot) = self.path.last()?;
        match &node.body {
            Body::Leaf(leaf) if *slot < leaf.len() => Some((leaf.key(*slot), leaf.data(*slot))),
            _ => None,
        }
    }

    /// To the next item; does nothing past the last.
    pub fn advance(&mut self) -> Result<()> {
        let Some((_, slot)) = self.path.last_mut() else { return Ok(()) };
        *slot += 1;
        if self.past_leaf() {
            self.next_leaf()?;
        }
        Ok(())
    }

    /// To the item before; false (and unmoved) at the first.
    pub fn retreat(&mut self) -> Result<bool> {
        if let Some((_, slot)) = self.path.last_mut().filter(|(_, slot)| *slot > 0) {
            *slot -= 1;
            return Ok(true);
        }
        self.prev_leaf()
    }

    fn copy_item(&self, out: &mut Vec<u8>) -> Result<Option<Key>> {
        out.clear();
        Ok(self.item().map(|(key, data)| {
            out.extend_from_slice(data);
            key
        }))
    }

    fn past_leaf(&self) -> bool {
        self.path.last().is_none_or(|(node, slot)| *slot >= node.len())
    }

    /// To the first item of the next leaf; past the last item when there is none.
    fn next_leaf(&mut self) -> Result<()> {
        let up = self.path.iter().enumerate().rev().skip(1).find(|(_, (node, slot))| slot + 1 < node.len());
        let Some((depth, _)) = up else { return Ok(()) };
        self.path.truncate(depth + 1);
        self.path[depth].1 += 1;
        self.descend(|_| 0)
    }

    /// To the last item of the leaf before; false when there is none.
    fn prev_leaf(&mut self) -> Result<bool> {
        let up = self.path.iter().enumerate().rev().skip(1).find(|(_, (_, slot))| *slot > 0);
        let Some((depth, _)) = up else { return Ok(false) };
        self.path.truncate(depth + 1);
        self.path[depth].1 -= 1;
        self.descend(|node| node.len().saturating_sub(1))?;
        Ok(true)
    }

    fn descend(&mut self, pick: impl Fn(&Node) -> usize) -> Result<()> {
        while let Some((node, slot)) = self.path.last() {
            let Body::Branch(branch) = &node.body else { break };
            let entry = &branch.entries[*slot];
            let below = entry.child.load(self.source, self.tree, branch.level - 1, Some(entry.key))?;
            let slot = pick(&below);
            self.path.push((below, slot));
        }
        Ok(())
    }
}
