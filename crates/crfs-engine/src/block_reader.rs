// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads by logical address: tree blocks, each verified as a whole, and data sectors, compared with their checksums.
//! Where the chunk has a second copy, it is tried when the first is bad; the bad copy is noted so that the writer, who
//! alone knows whether the pointer to it is still current, can rewrite it.
//!
//! Nothing is cached here: `tree::NodeCache` keeps nodes in the form in which they are used.

use crate::chunk_map::{ChunkMap, ChunkMapping};
use crate::error::{EngineError, Result};
use crfs_device::BlockDevice;
use crfs_disk::chunk::Chunk;
use crfs_disk::constants::SECTOR_SIZE;
use crfs_disk::{Expect, Geometry, Key, check_sectors, verify_block};
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Receives one line for each thing an operator should know. Called from any thread; must not block.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Bad copies that are remembered for rewriting; more are only logged.
const BAD_COPIES_MAX: usize = 1024;

/// A copy of a block or sector that was bad while another one was good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadCopy {
    pub logical: u64,
    pub len: usize,
    /// Where the bad copy lies.
    pub physical: u64,
    /// Generation of the tree block; `None` for data.
    pub generation: Option<u64>,
}

/// What the reader counted since the image was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadCounters {
    pub blocks_read: u64,
    pub data_bytes_read: u64,
    /// Reads that a second copy answered.
    pub copies_failed: u64,
}

pub struct BlockReader {
    device: Arc<dyn BlockDevice>,
    geometry: Geometry,
    /// Generation of the last commit, which bounds what a sound block may say.
    generation: AtomicU64,
    devid: u64,
    device_bytes: u64,
    chunks: RwLock<ChunkMap>,
    log: LogSink,
    bad_copies: Mutex<Vec<BadCopy>>,
    blocks_read: AtomicU64,
    data_bytes_read: AtomicU64,
    copies_failed: AtomicU64,
}

impl BlockReader {
    /// A reader that knows no chunk yet. `device_bytes` is what the file system uses of the device.
    pub fn new(
        device: Arc<dyn BlockDevice>,
        geometry: Geometry,
        devid: u64,
        device_bytes: u64,
        log: LogSink,
    ) -> BlockReader {
        BlockReader {
            device,
            geometry,
            generation: AtomicU64::new(geometry.super_generation),
            devid,
            device_bytes,
            chunks: RwLock::new(ChunkMap::default()),
            log,
            bad_copies: Mutex::new(Vec::new()),
            blocks_read: AtomicU64::new(0),
            data_bytes_read: AtomicU64::new(0),
            copies_failed: AtomicU64::new(0),
        }
    }

    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// With the generation of the last commit.
    pub fn geometry(&self) -> Geometry {
        Geometry { super_generation: self.generation.load(Ordering::Acquire), ..self.geometry }
    }

    /// To be called when a commit's superblock is on the device.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn set_chunk_tree_uuid(&mut self, uuid: crfs_disk::Uuid) {
        self.geometry.chunk_tree_uuid = Some(uuid);
    }

    pub fn log(&self, line: &str) {
        (self.log)(line);
    }

    /// The chunk map at this moment; hold it briefly.
    pub fn chunks(&self) -> RwLockReadGuard<'_, ChunkMap> {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a chunk known: one of the chunk tree at open, or a new one before anything is written into it.
    pub fn add_chunk(&self, key: Key, chunk: Chunk) -> Result<()> {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        chunks.insert(key, chunk, self.devid, self.device_bytes)
    }

    pub fn remove_chunk(&self, start: u64) -> Option<ChunkMapping> {
        self.chunks.write().unwrap_or_else(PoisonError::into_inner).remove(start)
    }

    /// Reads a tree block from the first copy that passes every check.
    pub fn read_block(&self, expect: &Expect) -> Result<Box<[u8]>> {
        let len = self.geometry.nodesize as usize;
        let run = self.chunks().map(expect.bytenr, len as u64)?;
        if run.len < len as u64 {
            return Err(EngineError::corrupt(format!(
                "address: tree block {} crosses the end of its chunk",
                expect.bytenr
            )));
        }
        let geometry = self.geometry();
        let mut block = vec![0; len].into_boxed_slice();
        let mut failures = Failures::default();
        for physical in &run.physical {
            let judged = match self.device.read_at(*physical, &mut block) {
                Ok(()) => {
                    verify_block(&block, expect, &geometry).map_err(|error| EngineError::Corrupt(error.0))
                }
                // Nobody waited for this copy: it says nothing about it.
                Err(source) if would_wait(&source) => {
                    return Err(self.read_error(expect.bytenr, *physical, source));
                }
                Err(source) => Err(self.read_error(expect.bytenr, *physical, source)),
            };
            match judged {
                Ok(()) => {
                    self.blocks_read.fetch_add(1, Ordering::Relaxed);
                    self.note_failures(failures, expect.bytenr, len, expect.generation);
                    return Ok(block);
                }
                Err(error) => failures.push(*physical, error),
            }
        }
        Err(self.give_up(failures, expect.bytenr))
    }

    /// Reads data without comparing checksums (preallocated or NODATASUM extents have none). The range may cross chunks.
    pub fn read_data(&self, logical: u64, buf: &mut [u8]) -> Result<()> {
        self.for_runs(logical, buf.len(), |run, range| {
            let buf = &mut buf[range];
            let mut failures = Failures::default();
            for physical in &run.physical {
                match self.device.read_at(*physical, buf) {
                    Ok(()) => {
                        self.note_failures(failures, run.logical, buf.len(), None);
                        return Ok(());
                    }
                    Err(source) if would_wait(&source) => {
                        return Err(self.read_error(run.logical, *physical, source));
                    }
                    Err(source) => failures.push(*physical, self.read_error(run.logical, *physical, source)),
                }
            }
            Err(self.give_up(failures, run.logical))
        })?;
        self.data_bytes_read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads whole sectors and compares them with `csums`, which holds the checksum of each as a csum item does.
    pub fn read_data_checked(&self, logical: u64, buf: &mut [u8], csums: &[u8]) -> Result<()> {
        let sector = SECTOR_SIZE as usize;
        let size = self.geometry.checksum.size();
        if !buf.len().is_multiple_of(sector) || csums.len() != buf.len() / sector * size {
            return Err(EngineError::refused(
                libc::EINVAL,
                format!("{} bytes of checksums for {} bytes at {logical}", csums.len(), buf.len()),
            ));
        }
        self.for_runs(logical, buf.len(), |run, range| {
            let csums = &csums[range.start / sector * size..range.end / sector * size];
            self.read_checked_run(run, &mut buf[range], csums)
        })?;
        self.data_bytes_read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn read_checked_run(
        &self,
        run: &crate::chunk_map::MappedRun,
        buf: &mut [u8],
        csums: &[u8],
    ) -> Result<()> {
        let mut failures = Failures::default();
        for physical in &run.physical {
            let judged = match self.device.read_at(*physical, buf) {
                Err(source) if would_wait(&source) => {
                    return Err(self.read_error(run.logical, *physical, source));
                }
                Err(source) => Err(self.read_error(run.logical, *physical, source)),
                Ok(()) => {
                    check_sectors(buf, csums, self.geometry.checksum, SECTOR_SIZE as usize).map_err(|bad| {
                        EngineError::corrupt(format!(
                            "data: logical={} physical={}, checksum mismatch, have {} computed {}",
                            run.logical + bad.sector as u64 * SECTOR_SIZE,
                            physical + bad.sector as u64 * SECTOR_SIZE,
                            crfs_disk::checksum::hex(&bad.stored),
                            crfs_disk::checksum::hex(&bad.computed)
                        ))
                    })
                }
            };
            match judged {
                Ok(()) => {
                    self.note_failures(failures, run.logical, buf.len(), None);
                    return Ok(());
                }
                Err(error) => failures.push(*physical, error),
            }
        }
        Err(self.give_up(failures, run.logical))
    }

    /// Writes to every copy of a logical range. The caller owns the range; nothing is flushed.
    pub fn write_logical(&self, logical: u64, data: &[u8]) -> Result<()> {
        self.write_vectored(logical, &[IoSlice::new(data)])
    }

    /// Writes the parts, one behind the other, to every copy of a logical range.
    pub fn write_vectored(&self, logical: u64, parts: &[IoSlice<'_>]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let whole = self.chunks().map(logical, len as u64)?;
        let io =
            |source| EngineError::Io { what: format!("writing {len} bytes at logical {logical}"), source };
        if whole.len == len as u64 {
            // One chunk, the common case: the parts go out as they are.
            for physical in &whole.physical {
                self.device.write_vectored_at(*physical, parts).map_err(io)?;
            }
            return Ok(());
        }
        let data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.for_runs(logical, len, |run, range| {
            for physical in &run.physical {
                self.device.write_at(*physical, &data[range.clone()]).map_err(io)?;
            }
            Ok(())
        })
    }

    /// Cuts a logical range at chunk borders.
    fn for_runs(
        &self,
        logical: u64,
        len: usize,
        mut each: impl FnMut(&crate::chunk_map::MappedRun, std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let run = self.chunks().map(logical + done as u64, (len - done) as u64)?;
            let end = done + run.len as usize;
            each(&run, done..end)?;
            done = end;
        }
        Ok(())
    }

    fn read_error(&self, logical: u64, physical: u64, source: std::io::Error) -> EngineError {
        EngineError::Io { what: format!("reading logical {logical} at {physical}"), source }
    }

    /// A later copy was good: say so, and remember the bad ones.
    fn note_failures(&self, failures: Failures, logical: u64, len: usize, generation: Option<u64>) {
        for (physical, error) in failures.0 {
            self.copies_failed.fetch_add(1, Ordering::Relaxed);
            self.log(&format!("{error}; the other copy is good (bad copy at {physical})"));
            let mut bad = self.bad_copies.lock().unwrap_or_else(PoisonError::into_inner);
            let copy = BadCopy { logical, len, physical, generation };
            if bad.len() < BAD_COPIES_MAX && !bad.contains(&copy) {
                bad.push(copy);
            }
        }
    }

    /// No copy was good: every reason is logged, the first one returned.
    fn give_up(&self, failures: Failures, logical: u64) -> EngineError {
        for (_, error) in &failures.0 {
            self.log(&error.to_string());
        }
        let first = failures.0.into_iter().next();
        first.map_or_else(
            || EngineError::corrupt(format!("chunk: no copy of logical {logical}")),
            |(_, error)| error,
        )
    }

    /// Takes the bad copies noted so far. Who takes them writes each again with `rewrite_copy`, if what was read there is
    /// still in use.
    pub fn take_bad_copies(&self) -> Vec<BadCopy> {
        std::mem::take(&mut *self.bad_copies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Overwrites a bad copy with the good bytes.
    pub fn rewrite_copy(&self, copy: &BadCopy, good: &[u8]) -> Result<()> {
        self.device.write_at(copy.physical, good).map_err(|source| EngineError::Io {
            what: format!("rewriting the copy at {}", copy.physical),
            source,
        })
    }

    pub fn counters(&self) -> ReadCounters {
        ReadCounters {
            blocks_read: self.blocks_read.load(Ordering::Relaxed),
            data_bytes_read: self.data_bytes_read.load(Ordering::Relaxed),
            copies_failed: self.copies_failed.load(Ordering::Relaxed),
        }
    }
}

/// Whether a read was given up because it must not wait (`crfs_device::at_once`).
fn would_wait(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// What the copies tried so far failed with, by physical address.
#[derive(Default)]
struct Failures(Vec<(u64, EngineError)>);

impl Failures {
    fn push(&mut self, physical: u64, error: EngineError) {
        self.0.push((physical, error));
    }
}
