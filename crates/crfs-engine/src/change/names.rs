// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes on names: add name, remove name, rename.
//!
//! A name is three items that agree on index, name and inode: a DIR_ITEM entry (found by the name's hash), a DIR_INDEX
//! (the order of readdir) and the back reference of `links`. With them go the link count of the inode and the size and
//! times of the directory.

use super::codec::{MAX_SAFE, Name, Rename, show};
use super::inodes::Slot;
use super::links::{Place, ref_key};
use super::{Running, corrupt, malformed};
use crate::error::{EngineError, Result};
use crate::store::Store;
use crfs_disk::constants::file_type;
use crfs_disk::dir::{DirEntry, find_entry};
use crfs_disk::hash::name_hash;
use crfs_disk::inode::Timespec;
use crfs_disk::{Key, item_type, objectid};

/// Most names of one inode (Linux: BTRFS_LINK_MAX).
pub const LINK_MAX: u32 = 65_535;
/// First DIR_INDEX number of a directory; 0 and 1 stand for "." and "..".
const FIRST_INDEX: u64 = 2;
/// Deepest directory whose ancestors a rename climbs. A path of PATH_MAX has at most 2,048 levels; what is built below
/// it by relative steps may go deeper.
const DEPTH_MAX: u32 = 1 << 16;

fn dir_item_key(dir: u64, name: &[u8]) -> Key {
    Key::new(dir, item_type::DIR_ITEM, name_hash(name))
}

fn dir_index_key(dir: u64, index: u64) -> Key {
    Key::new(dir, item_type::DIR_INDEX, index)
}

impl<S: Store> Running<'_, S> {
    pub(super) fn add_name(&mut self, change: &Name<'_>) -> Result<()> {
        let tree = change.tree;
        let place = Place { dir: change.dir, index: change.index, name: change.name };
        self.check_tree(tree)?;
        self.need_name(tree, change.ino, &place)?;
        let dir = self.live_dir(tree, change.dir)?;
        let slot = self.inode(tree, change.ino)?;
        let item = &self.inodes.get(slot).item;
        if item.is_dir() && item.nlink > 0 {
            let text = format!("directory {} of tree {tree} has a name already", change.ino);
            return Err(EngineError::refused(libc::EPERM, text));
        }
        if item.nlink >= LINK_MAX {
            let text = format!("inode {} of tree {tree} has {LINK_MAX} names", change.ino);
            return Err(EngineError::refused(libc::EMLINK, text));
        }
        self.insert_name(dir, slot, &place, change.time)?;
        self.inodes.change(slot).item.nlink += 1;
        self.stamp_named(slot, change.time);
        Ok(())
    }

    pub(super) fn remove_name(&mut self, change: &Name<'_>) -> Result<()> {
        let tree = change.tree;
        let place = Place { dir: change.dir, index: change.index, name: change.name };
        self.check_tree(tree)?;
        self.need_name(tree, change.ino, &place)?;
        let dir = self.live_dir(tree, change.dir)?;
        let slot = self.delete_name(dir, change.ino, &place, change.time)?;
        if self.inodes.get(slot).item.is_dir() {
            self.check_empty(tree, change.ino)?;
        }
        let item = &mut self.inodes.change(slot).item;
        item.nlink = item.nlink.checked_sub(1).ok_or_else(|| {
            corrupt(tree, ref_key(change.ino, change.dir), "a name of an inode whose link count is 0")
        })?;
        self.stamp_named(slot, change.time);
        Ok(())
    }

    pub(super) fn rename(&mut self, change: &Rename<'_>) -> Result<()> {
        let (tree, ino) = (change.tree, change.ino);
        let source = Place { dir: change.source_dir, index: change.source_index, name: change.source_name };
        let target = Place { dir: change.target_dir, index: change.target_index, name: change.target_name };
        self.check_tree(tree)?;
        self.need_name(tree, ino, &source)?;
        self.need_name(tree, ino, &target)?;
        let source_dir = self.live_dir(tree, source.dir)?;
        let target_dir = self.live_dir(tree, target.dir)?;
        let slot = self.delete_name(source_dir, ino, &source, change.time)?;
        if source.dir != target.dir && self.inodes.get(slot).item.is_dir() {
            self.check_no_cycle(tree, ino, source.dir, target.dir)?;
        }
        self.insert_name(target_dir, slot, &target, change.time)?;
        self.stamp_named(slot, change.time);
        Ok(())
    }

    fn need_name(&self, tree: u64, ino: u64, place: &Place<'_>) -> Result<()> {
        self.grants.need_key(tree, dir_item_key(place.dir, place.name))?;
        self.grants.need_key(tree, dir_index_key(place.dir, place.index))?;
        self.grants.need_derived(tree, place.dir)?;
        self.grants.need_derived(tree, ino)?;
        self.grants.need_key(tree, ref_key(ino, place.dir))
    }

    /// Writes the three items of a name that must be free, and the directory's size and times.
    fn insert_name(&mut self, dir: Slot, slot: Slot, place: &Place<'_>, time: Timespec) -> Result<()> {
        let inode = self.inodes.get(slot);
        let (tree, ino) = (inode.tree, inode.ino);
        if !(FIRST_INDEX..=MAX_SAFE).contains(&place.index) {
            let text = format!("{} is no index of a directory entry", place.index);
            return Err(EngineError::refused(libc::EINVAL, text));
        }
        let kind = file_type::of_mode(inode.item.mode)
            .ok_or_else(|| corrupt(tree, super::inodes::inode_key(ino), "invalid mode"))?;
        let location = Key::new(ino, item_type::INODE_ITEM, 0);
        let entry = DirEntry { location, transid: self.generation, kind, name: place.name, data: &[] };
        let mut item = std::mem::take(&mut self.item2);
        item.clear();
        entry.append_to(&mut item);
        if !self.store.insert(tree, dir_index_key(place.dir, place.index), &item)? {
            let text = format!("index {} of directory {} in tree {tree} is taken", place.index, place.dir);
            return Err(EngineError::refused(libc::EEXIST, text));
        }
        if !self.store.insert(tree, dir_item_key(place.dir, place.name), &item)? {
            self.pack_dir_item(tree, place, &item)?;
        }
        self.item2 = item;
        self.add_ref_to_name(slot, place)?;
        let dir = &mut self.inodes.change(dir).item;
        dir.size = dir.size.saturating_add(2 * place.name.len() as u64);
        stamp_dir(&mut dir.mtime, time);
        stamp_dir(&mut dir.ctime, time);
        Ok(())
    }

    /// Appends `entry` to the DIR_ITEM of other names with the same hash.
    fn pack_dir_item(&mut self, tree: u64, place: &Place<'_>, entry: &[u8]) -> Result<()> {
        let key = dir_item_key(place.dir, place.name);
        let mut item = std::mem::take(&mut self.item);
        self.store.get(tree, key, &mut item)?;
        if find_entry(&item, place.name).map_err(malformed(tree, key))?.is_some() {
            let text = format!("{} exists in directory {} of tree {tree}", show(place.name), place.dir);
            return Err(EngineError::refused(libc::EEXIST, text));
        }
        item.extend_from_slice(entry);
        if !self.fits_leaf(item.len()) {
            let text =
                format!("too many names with the hash of {} in directory {}", show(place.name), place.dir);
            return Err(EngineError::refused(libc::EOVERFLOW, text));
        }
        self.store.replace(tree, key, &item)?;
        self.item = item;
        Ok(())
    }

    /// Removes the three items of a name that must lead to `ino` under its index; the inode's slot.
    fn delete_name(&mut self, dir: Slot, ino: u64, place: &Place<'_>, time: Timespec) -> Result<Slot> {
        let tree = self.inodes.get(dir).tree;
        let key = dir_item_key(place.dir, place.name);
        let mut item = std::mem::take(&mut self.item2);
        let found = match self.store.get(tree, key, &mut item)? {
            true => find_entry(&item, place.name).map_err(malformed(tree, key))?,
            false => None,
        };
        let Some((range, entry)) = found else {
            let text =
                format!("{} does not exist in directory {} of tree {tree}", show(place.name), place.dir);
            return Err(EngineError::refused(libc::ENOENT, text));
        };
        check_leads_to(&entry, ino, place)?;
        self.cut_entry(tree, key, &mut item, range)?;
        self.delete_index(tree, ino, place, &mut item)?;
        self.item2 = item;
        let slot = self.inode(tree, ino)?;
        self.remove_ref_to_name(tree, ino, place)?;
        let dir = &mut self.inodes.change(dir).item;
        dir.size = dir.size.checked_sub(2 * place.name.len() as u64).ok_or_else(|| {
            corrupt(tree, super::inodes::inode_key(place.dir), "directory size below its names")
        })?;
        stamp_dir(&mut dir.mtime, time);
        stamp_dir(&mut dir.ctime, time);
        Ok(slot)
    }

    fn delete_index(&mut self, tree: u64, ino: u64, place: &Place<'_>, item: &mut Vec<u8>) -> Result<()> {
        let key = dir_index_key(place.dir, place.index);
        let found = match self.store.get(tree, key, item)? {
            true => find_entry(item, place.name).map_err(malformed(tree, key))?,
            false => None,
        };
        if found.is_none_or(|(_, entry)| entry.location != Key::new(ino, item_type::INODE_ITEM, 0)) {
            let text =
                format!("{} in directory {} has not index {}", show(place.name), place.dir, place.index);
            return Err(EngineError::refused(libc::ESTALE, text));
        }
        self.store.remove(tree, key)
    }

    fn check_empty(&mut self, tree: u64, dir: u64) -> Result<()> {
        let next = self.store.next(tree, Key::new(dir, item_type::DIR_ITEM, 0), &mut self.item)?;
        match next {
            Some(key) if key.objectid == dir && key.kind <= item_type::DIR_INDEX => {
                let text = format!("directory {dir} of tree {tree} is not empty");
                Err(EngineError::refused(libc::ENOTEMPTY, text))
            }
            _ => Ok(()),
        }
    }

    /// Climbs from the target directory to the root: the moved directory must not be on the way. Its own name is gone
    /// already, so meeting it ends the climb.
    fn check_no_cycle(&mut self, tree: u64, moved: u64, source_dir: u64, target_dir: u64) -> Result<()> {
        let mut dir = target_dir;
        for _ in 0..DEPTH_MAX {
            if dir == moved {
                let text = format!("directory {moved} of tree {tree} would move below itself");
                return Err(EngineError::refused(libc::EINVAL, text));
            }
            // The moved directory's ancestors are not below it.
            if dir == objectid::FIRST_FREE || dir == source_dir {
                return Ok(());
            }
            self.climb_budget = self.climb_budget.checked_sub(1).ok_or_else(|| {
                EngineError::refused(libc::E2BIG, "the renames of the batch climb too many directory levels")
            })?;
            dir = self.parent_of(tree, dir)?;
        }
        let text = format!("directory {target_dir} of tree {tree} is more than {DEPTH_MAX} levels deep");
        Err(EngineError::refused(libc::ELOOP, text))
    }

    /// The ctime of an inode that got or lost a name.
    fn stamp_named(&mut self, slot: Slot, time: Timespec) {
        let item = &mut self.inodes.change(slot).item;
        if item.is_dir() {
            stamp_dir(&mut item.ctime, time);
        } else {
            item.ctime = time;
        }
    }
}

/// Times of a directory that names set never go backwards: several clients' stamps may arrive out of order.
fn stamp_dir(have: &mut Timespec, time: Timespec) {
    *have = (*have).max(time);
}

fn check_leads_to(entry: &DirEntry<'_>, ino: u64, place: &Place<'_>) -> Result<()> {
    if entry.location.kind == item_type::ROOT_ITEM {
        let text = format!("{} in directory {} is a subvolume", show(place.name), place.dir);
        return Err(EngineError::refused(libc::EXDEV, text));
    }
    if entry.location != Key::new(ino, item_type::INODE_ITEM, 0) {
        let text =
            format!("{} in directory {} is inode {}", show(place.name), place.dir, entry.location.objectid);
        return Err(EngineError::refused(libc::ESTALE, text));
    }
    Ok(())
}
