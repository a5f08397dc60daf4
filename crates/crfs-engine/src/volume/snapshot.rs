// SPDX-License-Identifier: GPL-2.0-or-later
//! Frozen states of the volume for readers, and the count of who still holds which.

use super::subvolumes::Subvolumes;
use crate::block_reader::BlockReader;
use crate::error::{EngineError, Result};
use crate::transaction::Roots;
use crate::tree::{Cursor, NodeCache, Tree};
use crfs_disk::Key;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the writer made visible last.
#[derive(Clone)]
pub struct Published {
    pub roots: Arc<Roots>,
    /// Of the transaction that was running: everything that commits from this one on free may still be read here.
    pub generation: u64,
}

/// Hands out the last applied state and knows the oldest one still in use.
pub struct Readers {
    inner: Mutex<Inner>,
    left: Condvar,
}

struct Inner {
    published: Published,
    /// Snapshots by generation.
    held: BTreeMap<u64, usize>,
}

impl Readers {
    pub fn new(published: Published) -> Readers {
        Readers { inner: Mutex::new(Inner { published, held: BTreeMap::new() }), left: Condvar::new() }
    }

    pub fn publish(&self, published: Published) {
        // The old state may be the last holder of many nodes: free them outside the lock.
        let old = std::mem::replace(&mut self.lock().published, published);
        drop(old);
    }

    /// The oldest generation that a snapshot, or the next one taken, belongs to.
    pub fn oldest_generation(&self) -> u64 {
        let inner = self.lock();
        inner.held.keys().next().copied().unwrap_or(u64::MAX).min(inner.published.generation)
    }

    /// Waits until no snapshot of `generation` or older is held, or the time is up.
    pub fn wait_until_newer(&self, generation: u64, most: Duration) {
        let until = Instant::now() + most;
        let mut inner = self.lock();
        while inner.held.keys().next().is_some_and(|oldest| *oldest <= generation) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            inner = self.left.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn count(&self) -> usize {
        self.lock().held.values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One applied state, frozen: every read from it gives the same answer however long it is held. Holding it keeps the
/// space pinned that later commits free, so it is meant for one request.
pub struct Snapshot {
    pub(super) state: Published,
    pub(super) nodes: Arc<NodeCache>,
    pub(super) reader: Arc<BlockReader>,
    pub(super) subvolumes: Arc<Subvolumes>,
    readers: Arc<Readers>,
}

impl Snapshot {
    pub(super) fn take(
        readers: &Arc<Readers>,
        subvolumes: &Arc<Subvolumes>,
        nodes: &Arc<NodeCache>,
        reader: &Arc<BlockReader>,
    ) -> Snapshot {
        let state = {
            let mut inner = readers.lock();
            let state = inner.published.clone();
            *inner.held.entry(state.generation).or_default() += 1;
            state
        };
        Snapshot {
            state,
            nodes: Arc::clone(nodes),
            reader: Arc::clone(reader),
            subvolumes: Arc::clone(subvolumes),
            readers: Arc::clone(readers),
        }
    }

    /// Generation of the transaction that was running when the snapshot was taken.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    pub(super) fn tree(&self, id: u64) -> Result<&Tree> {
        self.state
            .roots
            .get(&id)
            .ok_or_else(|| EngineError::refused(libc::ENOENT, format!("there is no tree {id}")))
    }

    /// The tree of a subvolume, which is all that clients may read.
    pub(super) fn subvolume(&self, id: u64) -> Result<&Tree> {
        if self.subvolumes.has(id) {
            return self.tree(id);
        }
        Err(EngineError::refused(libc::ENOENT, format!("there is no subvolume {id}")))
    }

    /// Ids of all trees.
    pub fn trees(&self) -> impl Iterator<Item = u64> + '_ {
        self.state.roots.keys().copied()
    }

    /// The data of one item.
    pub fn find(&self, tree: u64, key: Key) -> Result<Option<Vec<u8>>> {
        let mut data = Vec::new();
        Ok(self.tree(tree)?.get(&*self.nodes, key, &mut data)?.then_some(data))
    }

    /// The last key at or before `key`.
    pub fn find_last(&self, tree: u64, key: Key) -> Result<Option<Key>> {
        self.tree(tree)?.prev(&*self.nodes, key, &mut Vec::new())
    }

    /// A walk over all items from `from` on.
    pub fn cursor(&self, tree: u64, from: Key) -> Result<Cursor<'_>> {
        Cursor::seek(self.tree(tree)?, &*self.nodes, from)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut inner = self.readers.lock();
        if let Some(count) = inner.held.get_mut(&self.state.generation) {
            *count -= 1;
            if *count == 0 {
                inner.held.remove(&self.state.generation);
            }
        }
        drop(inner);
        self.readers.left.notify_all();
    }
}
