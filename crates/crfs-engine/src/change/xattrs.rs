// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes on extended attributes: set xattr, remove xattr. An XATTR_ITEM holds every attribute of an inode whose name
//! has its hash, packed like directory entries with the value behind the name.

use super::codec::{XATTR_MUST_EXIST, XATTR_MUST_NOT_EXIST, show};
use super::inodes::Slot;
use super::{Running, malformed};
use crate::error::{EngineError, Result};
use crate::store::Store;
use crfs_disk::constants::file_type;
use crfs_disk::dir::{DirEntry, find_entry};
use crfs_disk::hash::name_hash;
use crfs_disk::header::ItemHeader;
use crfs_disk::inode::Timespec;
use crfs_disk::{Key, item_type};

fn xattr_key(ino: u64, name: &[u8]) -> Key {
    Key::new(ino, item_type::XATTR_ITEM, name_hash(name))
}

impl<S: Store> Running<'_, S> {
    pub(super) fn set_xattr(
        &mut self,
        tree: u64,
        ino: u64,
        time: Timespec,
        flags: u8,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let slot = self.xattr_owner(tree, ino, name)?;
        let entry = DirEntry {
            location: Key::MIN,
            transid: self.generation,
            kind: file_type::XATTR,
            name,
            data: value,
        };
        if entry.size() + ItemHeader::SIZE > self.store.leaf_space() {
            // ERRNO: ENOSPC as Linux answers; see setxattr(2).
            let text = format!("xattr {} with {} bytes does not fit into a leaf", show(name), value.len());
            return Err(EngineError::refused(libc::ENOSPC, text));
        }
        let key = xattr_key(ino, name);
        let mut item = std::mem::take(&mut self.item);
        item.clear();
        let taken = self.store.get(tree, key, &mut item)?;
        let old = find_entry(&item, name).map_err(malformed(tree, key))?.map(|(range, _)| range);
        check_wanted(flags, old.is_some(), name, ino)?;
        if let Some(range) = old {
            item.drain(range);
        }
        entry.append_to(&mut item);
        if !self.fits_leaf(item.len()) {
            let text = format!("too many xattrs with the hash of {} on inode {ino}", show(name));
            return Err(EngineError::refused(libc::EOVERFLOW, text));
        }
        if taken {
            self.store.replace(tree, key, &item)?;
        } else {
            self.insert_new(tree, key, &item)?;
        }
        self.item = item;
        self.inodes.change(slot).item.ctime = time;
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, tree: u64, ino: u64, time: Timespec, name: &[u8]) -> Result<()> {
        let slot = self.xattr_owner(tree, ino, name)?;
        let key = xattr_key(ino, name);
        let mut item = std::mem::take(&mut self.item);
        item.clear();
        self.store.get(tree, key, &mut item)?;
        let old = find_entry(&item, name).map_err(malformed(tree, key))?.map(|(range, _)| range);
        let range = old.ok_or_else(|| no_such_xattr(name, ino))?;
        self.cut_entry(tree, key, &mut item, range)?;
        self.item = item;
        self.inodes.change(slot).item.ctime = time;
        Ok(())
    }

    fn xattr_owner(&mut self, tree: u64, ino: u64, name: &[u8]) -> Result<Slot> {
        self.check_tree(tree)?;
        self.grants.need_key(tree, xattr_key(ino, name))?;
        self.grants.need_derived(tree, ino)?;
        self.inode(tree, ino)
    }
}

fn check_wanted(flags: u8, exists: bool, name: &[u8], ino: u64) -> Result<()> {
    if exists && flags & XATTR_MUST_NOT_EXIST != 0 {
        return Err(EngineError::refused(
            libc::EEXIST,
            format!("xattr {} of inode {ino} exists", show(name)),
        ));
    }
    if !exists && flags & XATTR_MUST_EXIST != 0 {
        return Err(no_such_xattr(name, ino));
    }
    Ok(())
}

fn no_such_xattr(name: &[u8], ino: u64) -> EngineError {
    EngineError::refused(libc::ENODATA, format!("inode {ino} has no xattr {}", show(name)))
}
