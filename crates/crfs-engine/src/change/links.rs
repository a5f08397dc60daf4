// SPDX-License-Identifier: GPL-2.0-or-later
//! The back references from an inode to its names: an INODE_REF holds all names of one inode in one directory until a
//! leaf is full; what does not fit any more goes into INODE_EXTREFs.
//!
//! `names` calls this after it has judged the name itself, so a reference that is already there, or missing, is a
//! contradiction in the image.

use super::inodes::Slot;
use super::{Running, corrupt, malformed};
use crate::error::{EngineError, Result};
use crate::store::Store;
use crfs_disk::hash::extref_hash;
use crfs_disk::header::ItemHeader;
use crfs_disk::inode::{InodeExtref, InodeRef, inode_extrefs, inode_refs};
use crfs_disk::{Key, item_type};
use std::ops::Range;

/// Where one name stands: directory, its DIR_INDEX number there, the name.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub dir: u64,
    pub index: u64,
    pub name: &'a [u8],
}

pub(super) fn ref_key(ino: u64, dir: u64) -> Key {
    Key::new(ino, item_type::INODE_REF, dir)
}

fn extref_key(ino: u64, place: &Place<'_>) -> Key {
    Key::new(ino, item_type::INODE_EXTREF, extref_hash(place.dir, place.name))
}

impl<S: Store> Running<'_, S> {
    /// Adds the reference, packed behind those that are there.
    pub(super) fn add_ref_to_name(&mut self, slot: Slot, place: &Place<'_>) -> Result<()> {
        let inode = self.inodes.get(slot);
        let (tree, ino, may_exist) = (inode.tree, inode.ino, inode.may_have_names);
        let key = ref_key(ino, place.dir);
        let mut item = std::mem::take(&mut self.item);
        item.clear();
        let exists = may_exist && self.store.get(tree, key, &mut item)?;
        InodeRef { index: place.index, name: place.name }.append_to(&mut item);
        let fits = self.fits_leaf(item.len());
        if !fits {
            self.add_extref(tree, ino, place)?;
        } else if exists {
            self.store.replace(tree, key, &item)?;
        } else {
            self.insert_new(tree, key, &item)?;
        }
        self.item = item;
        self.inodes.change(slot).may_have_names = true;
        Ok(())
    }

    fn add_extref(&mut self, tree: u64, ino: u64, place: &Place<'_>) -> Result<()> {
        let key = extref_key(ino, place);
        let mut item = Vec::new();
        let exists = self.store.get(tree, key, &mut item)?;
        InodeExtref { parent: place.dir, index: place.index, name: place.name }.append_to(&mut item);
        if !self.fits_leaf(item.len()) {
            let text = format!("inode {ino} of tree {tree} has too many names with one hash");
            return Err(EngineError::refused(libc::EMLINK, text));
        }
        if exists { self.store.replace(tree, key, &item) } else { self.insert_new(tree, key, &item) }
    }

    /// Removes the reference from where it is packed.
    pub(super) fn remove_ref_to_name(&mut self, tree: u64, ino: u64, place: &Place<'_>) -> Result<()> {
        let key = ref_key(ino, place.dir);
        let mut item = std::mem::take(&mut self.item);
        if self.store.get(tree, key, &mut item)? {
            let found = find_ref(&item, place).map_err(malformed(tree, key))?;
            if let Some(range) = found {
                self.cut_entry(tree, key, &mut item, range)?;
                self.item = item;
                return Ok(());
            }
        }
        let key = extref_key(ino, place);
        let found = match self.store.get(tree, key, &mut item)? {
            true => find_extref(&item, place).map_err(malformed(tree, key))?,
            false => None,
        };
        let range =
            found.ok_or_else(|| corrupt(tree, ref_key(ino, place.dir), "a name without back reference"))?;
        self.cut_entry(tree, key, &mut item, range)?;
        self.item = item;
        Ok(())
    }

    /// Cuts one of the entries packed in `item` and writes what is left.
    pub(super) fn cut_entry(
        &mut self,
        tree: u64,
        key: Key,
        item: &mut Vec<u8>,
        entry: Range<usize>,
    ) -> Result<()> {
        item.drain(entry);
        if item.is_empty() { self.store.remove(tree, key) } else { self.store.replace(tree, key, item) }
    }

    /// Whether an item of `len` bytes fits into a leaf of its own.
    pub(super) fn fits_leaf(&self, len: usize) -> bool {
        len + ItemHeader::SIZE <= self.store.leaf_space()
    }
}

fn find_ref(item: &[u8], place: &Place<'_>) -> crfs_disk::bytes::Result<Option<Range<usize>>> {
    for entry in inode_refs(item) {
        let (range, entry) = entry?;
        if entry.index == place.index && entry.name == place.name {
            return Ok(Some(range));
        }
    }
    Ok(None)
}

fn find_extref(item: &[u8], place: &Place<'_>) -> crfs_disk::bytes::Result<Option<Range<usize>>> {
    for entry in inode_extrefs(item) {
        let (range, entry) = entry?;
        if entry.parent == place.dir && entry.index == place.index && entry.name == place.name {
            return Ok(Some(range));
        }
    }
    Ok(None)
}
