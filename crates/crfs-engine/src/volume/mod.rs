// SPDX-License-Identifier: GPL-2.0-or-later
//! An opened image, as crfsd and the tests use it: snapshots to read from, batches to apply, commits.
//!
//! Threads. Any thread may call anything. One batch is applied at a time, under the writer lock. Readers take a snapshot of the
//! last applied state, which costs two reference counts, and never wait for the writer. A commit holds the writer lock only while it
//! freezes the running transaction; batches go on while its blocks are written. Lock order: `committing`, `writer`, then the
//! short ones.
//!
//! A write that fails ends writing for good: memory and device may differ. The last commit stands, reads go on.

mod data;
mod info;
mod pages;
mod repair;
mod snapshot;
mod subvolumes;

pub use data::DataPage;
pub use info::{Statfs, VolumeInfo, VolumeStats};
pub use pages::ItemPage;
pub use snapshot::Snapshot;
pub use subvolumes::Subvolume;

use crate::block_reader::{BlockReader, LogSink};
use crate::change::cost::batch_cost;
use crate::change::orphans::{Progress, finish_deletes};
use crate::change::{self, Batch, Grants, Refusal};
use crate::error::{EngineError, Result};
use crate::open::{Image, OpenOptions, open_image};
use crate::transaction::{BatchStore, DIRTY_NODES_MAX, Running, committed_roots, write_commit};
use crate::tree::{BlockSource, NodeCache, Wanted};
use crfs_device::{BlockDevice, at_once};
use crfs_disk::{Expect, Key, item_type, objectid};
use snapshot::{Published, Readers};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subvolumes::Subvolumes;

/// How long a batch that needs space waits for readers of older states to end.
const READERS_WAIT: Duration = Duration::from_secs(2);
/// Attempts of one batch: as it is, and after each commit that could help.
const ATTEMPTS: usize = 3;
/// A promise of less than this waits for a commit that may give more.
const PROMISED_UNCOMMITTED: u64 = 2 << 20;

/// Shorter runs are not punched: the call costs more than they give back.
const PUNCH_BYTES_MIN: u64 = 64 << 10;

/// How to open a volume.
pub struct VolumeOptions {
    pub read_only: bool,
    /// Bound of the node cache, bytes.
    pub cache_bytes: usize,
    /// Give freed space back to the file that holds the image.
    pub punch_freed: bool,
    pub log: LogSink,
}

impl Default for VolumeOptions {
    fn default() -> VolumeOptions {
        VolumeOptions { read_only: false, cache_bytes: 64 << 20, punch_freed: false, log: Arc::new(|_| {}) }
    }
}

pub struct Volume {
    reader: Arc<BlockReader>,
    nodes: Arc<NodeCache>,
    readers: Arc<Readers>,
    subvolumes: Arc<Subvolumes>,
    /// `None` when the volume was opened read-only.
    writer: Option<Mutex<Running>>,
    /// One commit at a time; holds the generation of the last durable one.
    committing: Mutex<u64>,
    durable: AtomicU64,
    dirty_bytes: AtomicU64,
    commits: AtomicU64,
    batches: AtomicU64,
    /// Why nothing is written any more.
    aborted: Mutex<Option<String>>,
    facts: info::Facts,
    punch_freed: bool,
}

/// Reads tree blocks for the node cache.
struct Blocks(Arc<BlockReader>);

impl BlockSource for Blocks {
    fn read_block(&self, wanted: &Wanted) -> Result<Box<[u8]>> {
        self.0.read_block(&Expect {
            bytenr: wanted.bytenr,
            generation: Some(wanted.generation),
            level: Some(wanted.level),
            owner: Some(wanted.tree),
            first_key: wanted.first_key,
        })
    }

    fn nodesize(&self) -> usize {
        self.0.geometry().nodesize as usize
    }
}

/// The refusal of a batch for a reason that lies in none of its changes.
fn outside(batch: &Batch<'_>, error: &EngineError) -> Refusal {
    Refusal { index: batch.count, errno: error.errno(), text: error.to_string() }
}

impl Volume {
    /// Opens the image on `device`. Opening for writing an image that must not be written is an error that says why.
    pub fn open(device: Arc<dyn BlockDevice>, options: VolumeOptions) -> Result<Volume> {
        let image = open_image(device, OpenOptions { read_only: options.read_only, log: options.log })?;
        let facts = info::Facts::of(&image);
        let Image { superblock, reader, roots: root_infos, dev_item, read_only, .. } = image;
        let generation = superblock.generation;
        let reader = Arc::new(reader);
        let nodes = Arc::new(NodeCache::new(Box::new(Blocks(Arc::clone(&reader))), options.cache_bytes));
        let roots = committed_roots(&superblock, &root_infos);
        let writer = if read_only {
            None
        } else {
            let (reader, nodes) = (Arc::clone(&reader), Arc::clone(&nodes));
            Some(Mutex::new(Running::start(superblock, dev_item, &root_infos, reader, nodes)?))
        };
        let readers =
            Arc::new(Readers::new(Published { roots: Arc::new(roots), generation: generation + 1 }));
        Ok(Volume {
            reader,
            nodes,
            readers,
            subvolumes: Arc::new(Subvolumes::of(&root_infos)),
            writer,
            committing: Mutex::new(generation),
            durable: AtomicU64::new(generation),
            dirty_bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            aborted: Mutex::new(None),
            facts,
            punch_freed: options.punch_freed,
        })
    }

    /// The last applied state.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.readers, &self.subvolumes, &self.nodes, &self.reader)
    }

    /// The subvolumes, the top one included, as long as the volume is open.
    pub fn subvolumes(&self) -> impl Iterator<Item = &Subvolume> {
        self.subvolumes.all()
    }

    /// Ids of the file trees that batches may change; empty when the volume is read-only.
    pub fn writable_trees(&self) -> Vec<u64> {
        self.lock_writer().map_or(Vec::new(), |run| run.writable_trees().iter().copied().collect())
    }

    /// Applies a batch entirely or not at all. May commit first, when that gives space or memory back. `promised` is what
    /// `promise` gave to its sender and is not used yet. Returns what the batch cost (`change::cost`), which is used now.
    pub fn apply(
        &self,
        batch: &Batch<'_>,
        grants: &Grants,
        promised: u64,
    ) -> std::result::Result<u64, Refusal> {
        let cost = batch_cost(batch.changes);
        let outside = |error: EngineError| outside(batch, &error);
        self.with_batch(cost, promised, outside, |store| {
            change::apply(store, batch, grants)?;
            store.check_reserve().map_err(outside)
        })?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(cost)
    }

    /// `apply`, if that has to wait neither for a lock nor for the device, nor for a commit that makes room; else `None`,
    /// and nothing was done.
    pub fn apply_at_once(
        &self,
        batch: &Batch<'_>,
        grants: &Grants,
        promised: u64,
    ) -> Option<std::result::Result<u64, Refusal>> {
        if self.dirty_bytes() >= DIRTY_NODES_MAX * u64::from(self.facts.nodesize) {
            return None;
        }
        let mut run = self.writer.as_ref()?.try_lock().ok()?;
        if self.aborted.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return None;
        }
        let cost = batch_cost(batch.changes);
        let mut store = BatchStore::begin(&mut run, cost, promised);
        let judged = at_once(|| {
            change::apply(&mut store, batch, grants)?;
            store.check_reserve().map_err(|error| outside(batch, &error))
        });
        match judged {
            Some(Ok(())) => {
                self.publish(&run);
                self.batches.fetch_add(1, Ordering::Relaxed);
                Some(Ok(cost))
            }
            Some(Err(refusal)) => {
                let is_final = !store.commit_helps();
                store.roll_back();
                is_final.then_some(Err(refusal))
            }
            None => {
                store.roll_back();
                None
            }
        }
    }

    /// Deletes inodes of `tree` without names, from number `from` on, about `work` items in one go; `keep` says which
    /// are still open. To be called until `next` is `None`.
    pub fn finish_deletes(
        &self,
        tree: u64,
        from: u64,
        work: usize,
        keep: impl Fn(u64) -> bool,
    ) -> Result<Progress> {
        self.with_batch(
            0,
            0,
            |error| error,
            |store| {
                let progress = finish_deletes(store, tree, from, work, &keep)?;
                store.check_reserve()?;
                Ok(progress)
            },
        )
    }

    /// Runs `work` as one batch: published if it succeeds, undone if not, tried again after a commit if that helps.
    fn with_batch<R, E>(
        &self,
        cost: u64,
        promised: u64,
        outside: impl Fn(EngineError) -> E,
        work: impl Fn(&mut BatchStore<'_>) -> std::result::Result<R, E>,
    ) -> std::result::Result<R, E> {
        for attempt in 1.. {
            if self.dirty_bytes() >= DIRTY_NODES_MAX * u64::from(self.facts.nodesize) {
                self.commit().map_err(&outside)?;
            }
            let mut run = self.lock_writer().map_err(&outside)?;
            let mut store = BatchStore::begin(&mut run, cost, promised);
            match work(&mut store) {
                Ok(result) => {
                    self.publish(&run);
                    return Ok(result);
                }
                Err(error) => {
                    let again = store.commit_helps() && attempt < ATTEMPTS;
                    store.roll_back();
                    drop(run);
                    if !again {
                        return Err(error);
                    }
                    self.commit_for_space().map_err(&outside)?;
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Promises space for changes of up to `wanted` cost (docs/protocol.md, "Space"): batches that it covers are applied.
    /// Returns how much, perhaps 0. Commits first where that gives space back and little would be promised without.
    pub fn promise(&self, wanted: u64) -> Result<u64> {
        let (given, helps) = {
            let mut run = self.lock_writer()?;
            let given = run.promise(wanted);
            (
                given,
                given < wanted.min(PROMISED_UNCOMMITTED) && (run.is_dirty() || run.space.pinned_bytes() > 0),
            )
        };
        if !helps {
            return Ok(given);
        }
        self.commit_for_space()?;
        Ok(given + self.lock_writer()?.promise(wanted - given))
    }

    /// Takes back what was promised and will not be used.
    pub fn withdraw(&self, bytes: u64) -> Result<()> {
        self.lock_writer()?.withdraw(bytes);
        Ok(())
    }

    /// Commits, and waits until what that frees can be handed out.
    fn commit_for_space(&self) -> Result<()> {
        self.commit()?;
        self.readers.wait_until_newer(self.durable_generation(), READERS_WAIT);
        self.release_pinned()
    }

    /// Makes everything applied so far durable; returns the generation of the last durable commit.
    pub fn commit(&self) -> Result<u64> {
        let mut last = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen = {
            let mut run = self.lock_writer()?;
            self.rewrite_bad_copies(&run)?;
            let Some(frozen) = run.freeze().map_err(|error| self.abort(error))? else { return Ok(*last) };
            self.publish(&run);
            frozen
        };
        write_commit(&self.reader, &frozen).map_err(|error| self.abort(error))?;
        self.nodes.end_flight();
        *last = frozen.generation;
        self.durable.store(frozen.generation, Ordering::Release);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.release_pinned()?;
        Ok(frozen.generation)
    }

    /// Generation of the last durable commit.
    pub fn durable_generation(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Memory that only a commit gives back, bytes.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// Whether so much has gathered that the next commit should not wait.
    pub fn wants_commit(&self) -> bool {
        self.dirty_bytes() >= DIRTY_NODES_MAX * u64::from(self.facts.nodesize) / 2
    }

    /// The highest inode number in use in a tree: the next ones are free.
    pub fn highest_inode(&self, tree: u64) -> Result<u64> {
        let last = Key::new(objectid::LAST_FREE, u8::MAX, u64::MAX);
        let found = self.snapshot().find_last(tree, last)?;
        Ok(found.map_or(objectid::FIRST_FREE, |key| key.objectid.max(objectid::FIRST_FREE)))
    }

    /// Numbers of the inodes of a tree that wait for their deletion, rising, from `from` on; at most `count`.
    pub fn orphans(&self, tree: u64, from: u64, count: usize) -> Result<Vec<u64>> {
        let snapshot = self.snapshot();
        let mut cursor = snapshot.cursor(tree, Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, from))?;
        let mut found = Vec::new();
        while let Some((key, _)) = cursor.item() {
            if key.objectid != objectid::ORPHAN || key.kind != item_type::ORPHAN_ITEM || found.len() == count
            {
                break;
            }
            found.push(key.offset);
            cursor.advance()?;
        }
        Ok(found)
    }

    fn lock_writer(&self) -> Result<MutexGuard<'_, Running>> {
        if let Some(why) = &*self.aborted.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(EngineError::Aborted(why.clone()));
        }
        let Some(writer) = &self.writer else {
            return Err(EngineError::refused(libc::EROFS, "the volume was opened read-only"));
        };
        // A panic while the lock was held left the transaction half-way.
        writer.lock().map_err(|_| EngineError::Aborted("the writer ended in the middle of a batch".into()))
    }

    /// Makes the running state what new snapshots see.
    fn publish(&self, run: &Running) {
        self.dirty_bytes.store(run.dirty_bytes(), Ordering::Relaxed);
        self.readers.publish(Published { roots: Arc::new(run.roots.clone()), generation: run.generation });
    }

    /// Ends writing for good.
    fn abort(&self, error: EngineError) -> EngineError {
        let mut aborted = self.aborted.lock().unwrap_or_else(PoisonError::into_inner);
        if aborted.is_none() {
            self.reader.log(&format!("commit failed, nothing more is written: {error}"));
            *aborted = Some(error.to_string());
        }
        error
    }

    /// Hands out again what durable commits freed and no reader can still see.
    fn release_pinned(&self) -> Result<()> {
        let mut run = self.lock_writer()?;
        let newest = self.readers.oldest_generation().saturating_sub(1).min(self.durable_generation());
        let runs = run.space.unpin(newest).map_err(|error| self.abort(error))?;
        if self.punch_freed {
            self.punch(&runs);
        }
        Ok(())
    }

    /// Called with the writer lock held, so that nothing of the runs is in use again.
    fn punch(&self, runs: &[(u64, u64)]) {
        for (start, len) in runs.iter().filter(|(_, len)| *len >= PUNCH_BYTES_MIN) {
            let (mut at, end) = (*start, start + len);
            while at < end {
                let Ok(run) = self.reader.chunks().map(at, end - at) else { break };
                for physical in run.physical {
                    if let Err(error) = self.reader.device().punch(physical, run.len) {
                        self.reader.log(&format!("punching {} bytes at {physical}: {error}", run.len));
                    }
                }
                at += run.len;
            }
        }
    }
}
