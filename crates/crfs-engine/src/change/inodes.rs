// SPDX-License-Identifier: GPL-2.0-or-later
//! The inode items that a batch touches: read once, changed in memory, written once when the batch ends, in key order.
//! A thousand creates in one directory so cost one write of the directory's item.
//!
//! Orphan items follow from the link count at the end of the batch: an inode without a name has one, any other has
//! none. A batch that makes an inode, writes it and names it never touches them.

use super::{Running, corrupt, malformed};
use crate::error::{EngineError, Result};
use crate::store::Store;
use crfs_disk::inode::InodeItem;
use crfs_disk::{Key, item_type, objectid};
use std::collections::HashMap;

/// Position of an inode in the table, valid until the batch ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(usize);

#[derive(Default)]
pub(super) struct Inodes {
    table: Vec<Inode>,
    by_number: HashMap<(u64, u64), Slot>,
}

pub(super) struct Inode {
    pub tree: u64,
    pub ino: u64,
    pub item: InodeItem,
    /// Made by this batch: the store has no inode item yet.
    pub born: bool,
    /// The store may hold INODE_REFs of it. False only for a born inode that was never named.
    pub may_have_names: bool,
    /// The store may hold EXTENT_DATA of it. False only for a born inode that was never written.
    pub may_have_extents: bool,
    /// The store has its orphan item, if the image is consistent.
    orphan: bool,
    dirty: bool,
    dropped: bool,
}

impl Inodes {
    pub fn get(&self, slot: Slot) -> &Inode {
        &self.table[slot.0]
    }

    /// For changing: what is handed out is written when the batch ends.
    pub fn change(&mut self, slot: Slot) -> &mut Inode {
        let inode = &mut self.table[slot.0];
        inode.dirty = true;
        inode
    }

    fn push(&mut self, inode: Inode) -> Slot {
        let slot = Slot(self.table.len());
        self.by_number.insert((inode.tree, inode.ino), slot);
        self.table.push(inode);
        slot
    }

    /// Adds an inode that did not exist.
    pub fn insert_born(&mut self, tree: u64, ino: u64, item: InodeItem) -> Slot {
        let inode = Inode {
            tree,
            ino,
            item,
            born: true,
            may_have_names: false,
            may_have_extents: false,
            orphan: false,
            dirty: true,
            dropped: false,
        };
        self.push(inode)
    }

    /// Forgets an inode whose items are gone; its number is free again.
    pub fn drop_slot(&mut self, slot: Slot) {
        let inode = &mut self.table[slot.0];
        inode.dropped = true;
        self.by_number.remove(&(inode.tree, inode.ino));
    }
}

pub(super) fn inode_key(ino: u64) -> Key {
    Key::new(ino, item_type::INODE_ITEM, 0)
}

pub(super) fn orphan_key(ino: u64) -> Key {
    Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, ino)
}

impl<S: Store> Running<'_, S> {
    /// The inode, or `None` when it does not exist.
    pub(super) fn find_inode(&mut self, tree: u64, ino: u64) -> Result<Option<Slot>> {
        if let Some(slot) = self.inodes.by_number.get(&(tree, ino)) {
            return Ok(Some(*slot));
        }
        let key = inode_key(ino);
        if ino < objectid::FIRST_FREE || !self.store.get(tree, key, &mut self.item)? {
            return Ok(None);
        }
        let item = InodeItem::parse(&self.item).map_err(malformed(tree, key))?;
        Ok(Some(self.inodes.push(Inode {
            tree,
            ino,
            orphan: item.nlink == 0,
            item,
            born: false,
            may_have_names: true,
            may_have_extents: true,
            dirty: false,
            dropped: false,
        })))
    }

    pub(super) fn inode(&mut self, tree: u64, ino: u64) -> Result<Slot> {
        self.find_inode(tree, ino)?.ok_or_else(|| {
            EngineError::refused(libc::ENOENT, format!("inode {ino} of tree {tree} does not exist"))
        })
    }

    /// Writes the changed inode items and brings orphan items in line with link counts.
    pub(super) fn flush_inodes(&mut self) -> Result<()> {
        let table = std::mem::take(&mut self.inodes.table);
        let mut changed: Vec<&Inode> = table.iter().filter(|inode| inode.dirty && !inode.dropped).collect();
        changed.sort_unstable_by_key(|inode| (inode.tree, inode.ino));
        for inode in changed {
            self.flush_inode(inode)?;
        }
        Ok(())
    }

    fn flush_inode(&mut self, inode: &Inode) -> Result<()> {
        let (tree, key) = (inode.tree, inode_key(inode.ino));
        let mut item = inode.item;
        item.transid = self.generation;
        item.sequence = item.sequence.wrapping_add(1);
        if inode.born {
            self.insert_new(tree, key, &item.encode())?;
        } else {
            self.store.replace(tree, key, &item.encode())?;
        }
        match (inode.item.nlink == 0, inode.orphan) {
            // False: a foreign image had the item already.
            (true, false) => self.store.insert(tree, orphan_key(inode.ino), &[]).map(|_| ()),
            (false, true) => self.remove_orphan(tree, inode.ino),
            _ => Ok(()),
        }
    }

    /// Removes the orphan item if there is one.
    pub(super) fn remove_orphan(&mut self, tree: u64, ino: u64) -> Result<()> {
        if self.store.get(tree, orphan_key(ino), &mut self.item)? {
            self.store.remove(tree, orphan_key(ino))?;
        }
        Ok(())
    }

    /// The inode as a directory that can take and lose names.
    pub(super) fn live_dir(&mut self, tree: u64, ino: u64) -> Result<Slot> {
        let slot = self.inode(tree, ino)?;
        let item = &self.inodes.get(slot).item;
        if !item.is_dir() {
            return Err(EngineError::refused(
                libc::ENOTDIR,
                format!("inode {ino} of tree {tree} is not a directory"),
            ));
        }
        if item.nlink == 0 {
            let text = format!("directory {ino} of tree {tree} has been removed");
            return Err(EngineError::refused(libc::ENOENT, text));
        }
        Ok(slot)
    }

    /// The parent of a directory, by its only back reference.
    pub(super) fn parent_of(&mut self, tree: u64, dir: u64) -> Result<u64> {
        let first = Key::new(dir, item_type::INODE_REF, 0);
        match self.store.next(tree, first, &mut self.item)? {
            Some(key) if key.objectid == dir && key.kind == item_type::INODE_REF => Ok(key.offset),
            _ => Err(corrupt(tree, first, "a linked directory without a back reference")),
        }
    }
}
