// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes on the inode itself: new inode, set fields, drop inode.

use super::Running;
use super::codec::{Fields, MAX_SAFE, NewInode};
use super::extents::{first_extent_key, is_extent_of};
use super::inodes::Slot;
use crate::error::{EngineError, Result};
use crate::store::Store;
use crfs_disk::constants::{file_type, inode_flag};
use crfs_disk::file_extent::{FileExtentHead, encode_inline};
use crfs_disk::header::ItemHeader;
use crfs_disk::inode::{InodeItem, S_IFMT};
use crfs_disk::{Key, objectid};

/// Inode flags that a client sets. The others steer how data lies on disk, which the engine decides.
const SETTABLE_FLAGS: u64 = inode_flag::SYNC
    | inode_flag::IMMUTABLE
    | inode_flag::APPEND
    | inode_flag::NODUMP
    | inode_flag::NOATIME
    | inode_flag::DIRSYNC
    | inode_flag::NOCOMPRESS
    | inode_flag::COMPRESS;
/// Those that Linux knows on what is neither file nor directory; others there are an error to `btrfs check`.
const SETTABLE_ON_SPECIAL: u64 = inode_flag::NODUMP | inode_flag::NOATIME;

impl<S: Store> Running<'_, S> {
    pub(super) fn new_inode(&mut self, new: &NewInode<'_>) -> Result<()> {
        let (tree, ino) = (new.tree, new.ino);
        self.check_tree(tree)?;
        if ino <= objectid::FIRST_FREE || ino > MAX_SAFE {
            return Err(EngineError::refused(libc::EINVAL, format!("{ino} is no number for a new inode")));
        }
        self.grants.need_inode(tree, ino)?;
        check_new_inode(new, self.store.leaf_space())?;
        if self.find_inode(tree, ino)?.is_some() {
            return Err(EngineError::refused(libc::EEXIST, format!("inode {ino} of tree {tree} exists")));
        }
        let mut item = InodeItem {
            generation: self.generation,
            transid: self.generation,
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            rdev: new.rdev,
            atime: new.time,
            ctime: new.time,
            mtime: new.time,
            otime: new.time,
            ..InodeItem::ZERO
        };
        if item.is_symlink() {
            item.size = new.target.len() as u64;
            item.nbytes = item.size;
            self.insert_new(tree, first_extent_key(ino), &encode_inline(self.generation, new.target))?;
        }
        let slot = self.inodes.insert_born(tree, ino, item);
        self.inodes.change(slot).may_have_extents = !new.target.is_empty();
        Ok(())
    }

    pub(super) fn set_fields(&mut self, tree: u64, ino: u64, fields: &Fields) -> Result<()> {
        self.check_tree(tree)?;
        if fields.mode.is_some() || fields.uid.is_some() || fields.gid.is_some() || fields.flags.is_some() {
            self.grants.need_identity(tree, ino)?;
        }
        if fields.size.is_some() || fields.atime.is_some() || fields.mtime.is_some() || fields.ctime.is_some()
        {
            self.grants.need_derived(tree, ino)?;
        }
        let slot = self.inode(tree, ino)?;
        if let Some(size) = fields.size {
            self.set_size(slot, size)?;
        }
        let item = &mut self.inodes.change(slot).item;
        if let Some(mode) = fields.mode {
            if mode & !0o7777 != item.mode & S_IFMT {
                let text =
                    format!("mode {mode:#o} would change the type of inode {ino}, mode {:#o}", item.mode);
                return Err(EngineError::refused(libc::EINVAL, text));
            }
            item.mode = mode;
        }
        if let Some(flags) = fields.flags {
            item.flags = new_flags(item, flags)?;
        }
        item.uid = fields.uid.unwrap_or(item.uid);
        item.gid = fields.gid.unwrap_or(item.gid);
        item.atime = fields.atime.unwrap_or(item.atime);
        item.mtime = fields.mtime.unwrap_or(item.mtime);
        item.ctime = fields.ctime.unwrap_or(item.ctime);
        Ok(())
    }

    fn set_size(&mut self, slot: Slot, size: u64) -> Result<()> {
        let inode = self.inodes.get(slot);
        let (tree, ino, old_size) = (inode.tree, inode.ino, inode.item.size);
        if !inode.item.is_regular() {
            let errno = if inode.item.is_dir() { libc::EISDIR } else { libc::EINVAL };
            return Err(EngineError::refused(
                errno,
                format!("inode {ino} of tree {tree} is no regular file"),
            ));
        }
        self.check_mutable_data(slot)?;
        if size < old_size {
            self.grants.need_bytes(tree, ino, size, None)?;
            self.shrink(slot, size)?;
        } else if size > old_size {
            self.grow(slot, size)?;
        }
        self.inodes.change(slot).item.size = size;
        Ok(())
    }

    pub(super) fn drop_inode(&mut self, tree: u64, ino: u64) -> Result<()> {
        self.check_tree(tree)?;
        self.grants.need_inode(tree, ino)?;
        let slot = self.inode(tree, ino)?;
        let nlink = self.inodes.get(slot).item.nlink;
        if nlink != 0 {
            let text = format!("inode {ino} of tree {tree} still has {nlink} names");
            return Err(EngineError::refused(libc::EBUSY, text));
        }
        let mut item = std::mem::take(&mut self.item2);
        let mut from = Key::new(ino, 0, 0);
        while let Some(key) = self.store.next(tree, from, &mut item)?.filter(|key| key.objectid == ino) {
            if is_extent_of(ino, key) {
                self.drop_extent_refs(tree, key, &item)?;
            }
            self.store.remove(tree, key)?;
            from = key;
        }
        self.item2 = item;
        self.remove_orphan(tree, ino)?;
        self.inodes.drop_slot(slot);
        Ok(())
    }

    /// The data of a file under fs-verity never changes.
    pub(super) fn check_mutable_data(&self, slot: Slot) -> Result<()> {
        let inode = self.inodes.get(slot);
        if inode.item.flags & inode_flag::RO_VERITY != 0 {
            let text = format!("inode {} of tree {} is sealed by fs-verity", inode.ino, inode.tree);
            return Err(EngineError::refused(libc::EPERM, text));
        }
        Ok(())
    }
}

fn new_flags(item: &InodeItem, wanted: u64) -> Result<u64> {
    let settable = if item.is_regular() || item.is_dir() { SETTABLE_FLAGS } else { SETTABLE_ON_SPECIAL };
    // The engine sets PREALLOC itself, perhaps after the client read the flags.
    if (wanted ^ item.flags) & !(settable | inode_flag::PREALLOC) != 0 {
        let text =
            format!("inode flags {wanted:#x} would change more than {settable:#x} of {:#x}", item.flags);
        return Err(EngineError::refused(libc::EOPNOTSUPP, text));
    }
    Ok(item.flags & !settable | wanted & settable)
}

fn check_new_inode(new: &NewInode<'_>, leaf_space: usize) -> Result<()> {
    let invalid = |text: String| Err(EngineError::refused(libc::EINVAL, text));
    let kind = match file_type::of_mode(new.mode) {
        Some(kind) if new.mode & !(S_IFMT | 0o7777) == 0 => kind,
        _ => return invalid(format!("invalid mode {:#o} of new inode {}", new.mode, new.ino)),
    };
    if new.rdev > u64::from(u32::MAX) {
        return invalid(format!("device number {:#x} of new inode {} exceeds 32 bits", new.rdev, new.ino));
    }
    if new.rdev != 0 && !matches!(kind, file_type::CHRDEV | file_type::BLKDEV) {
        return invalid(format!("new inode {} has a device number but is no device", new.ino));
    }
    if (kind == file_type::SYMLINK) == new.target.is_empty() || new.target.contains(&0) {
        return invalid(format!("invalid symlink target of new inode {}", new.ino));
    }
    if new.target.len() > leaf_space - ItemHeader::SIZE - FileExtentHead::SIZE {
        let text = format!("a symlink target of {} bytes does not fit into a leaf", new.target.len());
        return Err(EngineError::refused(libc::ENAMETOOLONG, text));
    }
    Ok(())
}
