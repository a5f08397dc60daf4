// SPDX-License-Identifier: GPL-2.0-or-later
//! Finishes deletes: removes the inodes that have no name left and that nobody has open any more.
//!
//! The server calls this for every file tree after it opened an image (a crash leaves orphan items behind, and Linux
//! does too), again and again with other work in between, because one orphan may be a huge file. Every state between
//! two calls is a legal file system: extents go from the end of the file, nbytes with them, the inode item and its
//! orphan item last and together.

use super::data::sector_up;
use super::extents::{extent_key, is_extent_of};
use super::inodes::{Slot, orphan_key};
use super::{Batch, Grants, Running};
use crate::error::Result;
use crate::store::Store;
use crfs_disk::{Key, item_type, objectid};

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Inodes that are gone.
    pub deleted: u64,
    /// Where the next call goes on; `None` when the tree has no orphan left but those that were kept.
    pub next: Option<u64>,
}

/// Deletes orphan inodes of `tree` with numbers from `from` on, removing about `work` items at most (at least one). `keep` says which
/// must stay because a client has them open. On an error the caller rolls the store back.
pub fn finish_deletes<S: Store>(
    store: &mut S,
    tree: u64,
    from: u64,
    work: usize,
    keep: impl Fn(u64) -> bool,
) -> Result<Progress> {
    let grants = Grants::all();
    let mut running =
        Running::new(store, &Batch { changes: &[], count: 0, checksums: &[], data: &[] }, &grants);
    running.check_tree(tree)?;
    let (mut progress, mut left, mut from) = (Progress::default(), work.max(1), from);
    while let Some(ino) = running.next_orphan(tree, from)? {
        if left == 0 {
            progress.next = Some(ino);
            break;
        }
        if !keep(ino) {
            if !running.delete_orphan(tree, ino, &mut left)? {
                progress.next = Some(ino);
                break;
            }
            progress.deleted += 1;
        }
        left = left.saturating_sub(1);
        let Some(next) = ino.checked_add(1) else { break };
        from = next;
    }
    running.flush_inodes()?;
    Ok(progress)
}

impl<S: Store> Running<'_, S> {
    fn next_orphan(&mut self, tree: u64, from: u64) -> Result<Option<u64>> {
        let found = self.store.next(tree, orphan_key(from), &mut self.item)?;
        let is_orphan = |key: &Key| key.objectid == objectid::ORPHAN && key.kind == item_type::ORPHAN_ITEM;
        Ok(found.filter(is_orphan).map(|key| key.offset))
    }

    /// Whether the orphan is gone; `left` is how many items may still be removed.
    fn delete_orphan(&mut self, tree: u64, ino: u64, left: &mut usize) -> Result<bool> {
        let Some(slot) = self.find_inode(tree, ino)? else {
            // An inode deleted by a Linux that crashed before it removed this item.
            self.remove_orphan(tree, ino)?;
            return Ok(true);
        };
        if self.inodes.get(slot).item.nlink > 0 {
            // Linux before 4.19 marked an unfinished truncate so: what lies beyond the end goes.
            let size = self.inodes.get(slot).item.size;
            if self.inodes.get(slot).item.is_regular() {
                self.drop_extents(slot, sector_up(size)..u64::MAX)?;
            }
            self.remove_orphan(tree, ino)?;
            return Ok(true);
        }
        if !self.drop_last_extents(slot, left)? {
            return Ok(false);
        }
        self.drop_inode(tree, ino)?;
        Ok(true)
    }

    /// Drops extents from the end of the file while `left` allows; whether none are left.
    fn drop_last_extents(&mut self, slot: Slot, left: &mut usize) -> Result<bool> {
        let inode = self.inodes.get(slot);
        let (tree, ino) = (inode.tree, inode.ino);
        if !inode.item.is_regular() {
            return Ok(true);
        }
        loop {
            let last = self.store.prev(tree, extent_key(ino, u64::MAX), &mut self.item)?;
            let Some(key) = last.filter(|key| is_extent_of(ino, *key)) else { return Ok(true) };
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            self.drop_extents(slot, key.offset..u64::MAX)?;
        }
    }
}
