// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS engine for TypeScript: `ts/store/native_volume.ts` and the `crfsd` commands are its users.
//!
//! Whatever may touch the device or wait for a lock runs as a job (`jobs`) on one of three queues: batches (one thread,
//! in order), commits (one thread), reads (two threads). What is small can be tried on the calling thread first, which is
//! sooner by two changes of thread. Nothing here decides anything.

use std::path::Path;
use std::sync::Arc;

use crate::jobs::{self, Completion, Completions, Job, Outcome, Queue};
use crfs_device::{Access, FileDevice, OpenError};
use crfs_disk::{ChecksumKind, Key, Uuid};
use crfs_engine::change::{Batch, Grants, Refusal};
use crfs_engine::mkfs::MkfsOptions;
use crfs_engine::{EngineError, Volume, VolumeOptions};
use napi::bindgen_prelude::{Float64Array, Function, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Error, Result, Status};
use napi_derive::napi;

/// Threads that read items and data: as many as keep two cores busy beside the batches.
const READ_THREADS: usize = 2;

#[napi(object)]
pub struct NativeVolumeOptions {
    pub read_only: bool,
    /// Bound of the engine's node cache, bytes.
    pub cache_bytes: f64,
    /// Give freed space back to the file that holds the image.
    pub punch_freed: bool,
}

#[napi(object)]
pub struct NativeVolumeInfo {
    pub fsid: String,
    pub label: Uint8Array,
    /// Generation of the last durable commit.
    pub generation: f64,
    pub nodesize: u32,
    pub sectorsize: u32,
    /// Longest file that is kept inline, bytes.
    pub max_inline: u32,
    pub checksum: String,
    pub device_bytes: f64,
    pub bytes_used: f64,
    pub incompat_flags: f64,
    pub compat_ro_flags: f64,
    pub read_only: bool,
    pub read_only_reasons: Vec<String>,
}

#[napi(object)]
pub struct NativeSubvolume {
    pub tree: f64,
    /// Linux was told that nothing in it may change.
    pub read_only: bool,
    /// Tree and directory in which it has its name; 0 for the top one.
    pub parent_tree: f64,
    pub parent_dir: f64,
}

#[napi(object)]
pub struct NativeVolumeStats {
    pub generation: f64,
    pub batches: f64,
    pub commits: f64,
    pub dirty_bytes: f64,
    pub snapshots: f64,
    pub cache_nodes: f64,
    pub cache_hits: f64,
    pub cache_misses: f64,
    pub blocks_read: f64,
    pub data_bytes_read: f64,
    pub copies_failed: f64,
}

#[napi(object)]
pub struct NativeMkfsOptions {
    pub label: Uint8Array,
    /// Bytes of a tree block.
    pub nodesize: u32,
    /// crc32c, xxhash64, sha256 or blake2.
    pub checksum: String,
    pub force: bool,
}

/// The message starts with the errno's number, which the facade takes off again.
fn to_js(errno: i32, error: &dyn std::fmt::Display) -> Error {
    Error::new(Status::GenericFailure, format!("{errno} {error}"))
}

fn engine(error: EngineError) -> Error {
    to_js(error.errno(), &error)
}

fn open(error: OpenError) -> Error {
    to_js(error.errno(), &error)
}

fn uuid(id: &Uuid) -> String {
    id.to_string()
}

fn key(bytes: &[u8]) -> Result<Key> {
    let bytes: &[u8; Key::SIZE] = bytes.try_into().map_err(|_| to_js(libc::EINVAL, &"a key has 17 bytes"))?;
    Ok(Key::from_be_bytes(bytes))
}

fn outcome<T>(result: crfs_engine::Result<T>, done: impl FnOnce(T) -> Outcome) -> Outcome {
    match result {
        Ok(value) => done(value),
        Err(error) => Outcome { errno: error.errno(), text: Some(error.to_string()), ..Outcome::default() },
    }
}

fn decode_grants(packed: Option<&[u8]>) -> std::result::Result<Grants, Outcome> {
    match packed.map(Grants::decode).transpose() {
        Ok(grants) => Ok(grants.unwrap_or_else(Grants::all)),
        Err(error) => Err(outcome(Err::<(), _>(error), |()| Outcome::default())),
    }
}

fn judged(result: std::result::Result<u64, Refusal>) -> Outcome {
    match result {
        Ok(cost) => Outcome { number: Some(cost as f64), ..Outcome::default() },
        Err(refusal) => Outcome {
            errno: refusal.errno,
            text: Some(refusal.text),
            number: Some(f64::from(refusal.index)),
            ..Outcome::default()
        },
    }
}

fn items(volume: &Volume, tree: u64, start: Key, end: Key, bytes_max: usize) -> Outcome {
    outcome(volume.snapshot().read_items(tree, start, end, bytes_max), |page| Outcome {
        bytes: Some(page.bytes),
        more: Some(page.covered_end.to_be_bytes().to_vec()),
        ..Outcome::default()
    })
}

/// `extents`: tree, inode, offset and length of each.
fn data(volume: &Volume, extents: &[f64]) -> Outcome {
    let snapshot = volume.snapshot();
    let (mut bytes, mut sums) = (Vec::new(), Vec::new());
    for extent in extents.chunks_exact(4) {
        let [tree, ino, offset, len] = [0, 1, 2, 3].map(|field| extent[field] as u64);
        match snapshot.read_data(tree, ino, offset, len) {
            Ok(page) => {
                sums.extend(page.crcs.iter().flat_map(|crc| crc.to_le_bytes()));
                if bytes.is_empty() {
                    bytes = page.bytes;
                } else {
                    bytes.extend_from_slice(&page.bytes);
                }
            }
            Err(error) => return outcome(Err::<(), _>(error), |()| Outcome::default()),
        }
    }
    Outcome { bytes: Some(bytes), more: Some(sums), ..Outcome::default() }
}

/// Makes a file system on an image file (made or lengthened to `size` bytes) or, without `size`, on what is there.
/// Returns its id.
#[napi]
pub fn make_file_system(path: String, size: Option<f64>, options: NativeMkfsOptions) -> Result<String> {
    let path = Path::new(&path);
    let checksum = ChecksumKind::from_name(&options.checksum)
        .ok_or_else(|| to_js(libc::EINVAL, &format!("unknown checksum {}", options.checksum)))?;
    let existed = path.exists();
    let device = match size {
        Some(size) => FileDevice::create(path, size as u64),
        None => FileDevice::open(path, Access::ReadWrite),
    }
    .map_err(open)?;
    let options = MkfsOptions {
        label: options.label.to_vec(),
        uuid: None,
        nodesize: options.nodesize,
        checksum,
        force: options.force,
    };
    let made = crfs_engine::mkfs::mkfs(&device, &options).map_err(engine);
    if made.is_err() && !existed {
        // An image that could not be made is not left behind half-made.
        let _ = std::fs::remove_file(path);
    }
    made.map(|id| uuid(&id))
}

/// crc32c of `data`.
#[napi(js_name = "crc32c")]
pub fn crc32c(data: &[u8]) -> u32 {
    crfs_disk::checksum::crc32c(data)
}

/// Puts the crc32c of each 4 KiB sector of `data` into `target`; a last partial sector counts as padded with zeros.
#[napi]
pub fn sector_checksums(data: &[u8], mut target: napi::bindgen_prelude::Uint32Array) -> Result<()> {
    const SECTOR: usize = 4096;
    // SAFETY: JavaScript, the only other user of the array, waits for this call on this very thread.
    let target = unsafe { target.as_mut() };
    let count = data.len().div_ceil(SECTOR);
    if target.len() < count {
        return Err(to_js(libc::EINVAL, &"the target has too few places for the checksums"));
    }
    let whole = data.len() / SECTOR * SECTOR;
    let mut sums = Vec::with_capacity(count);
    crfs_disk::checksum::crc32c_sectors(&data[..whole], SECTOR, &mut sums);
    if whole < data.len() {
        let mut last = [0; SECTOR];
        last[..data.len() - whole].copy_from_slice(&data[whole..]);
        sums.push(crfs_disk::checksum::crc32c(&last));
    }
    target[..count].copy_from_slice(&sums);
    Ok(())
}

/// An opened image.
#[napi]
pub struct NativeVolume {
    volume: Arc<Volume>,
    completions: Arc<Completions>,
    batches: Queue,
    commits: Queue,
    reads: Queue,
}

#[napi]
impl NativeVolume {
    /// Opens the image. `on_completed` is called when `completions` has something to take; `on_log` with each line that
    /// the engine has to say.
    #[napi(constructor)]
    pub fn new(
        path: String,
        options: NativeVolumeOptions,
        on_completed: Function<(), ()>,
        on_log: Function<String, ()>,
    ) -> Result<Self> {
        let access = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let device = Arc::new(FileDevice::open(Path::new(&path), access).map_err(open)?);
        let log = on_log.build_threadsafe_function().weak::<true>().build()?;
        let volume = Volume::open(
            device,
            VolumeOptions {
                read_only: options.read_only,
                cache_bytes: options.cache_bytes as usize,
                punch_freed: options.punch_freed,
                log: Arc::new(move |line: &str| {
                    let _ = log.call(line.to_owned(), ThreadsafeFunctionCallMode::NonBlocking);
                }),
            },
        )
        .map_err(engine)?;
        let completions = Completions::new(on_completed)?;
        let queue = |name, threads| {
            Queue::new(name, threads, &completions)
                .map_err(|error| to_js(error.raw_os_error().unwrap_or(libc::EAGAIN), &error))
        };
        Ok(Self {
            volume: Arc::new(volume),
            batches: queue("batch", 1)?,
            commits: queue("commit", 1)?,
            reads: queue("read", READ_THREADS)?,
            completions,
        })
    }

    /// What finished since the last call.
    #[napi]
    pub fn completions(&self) -> Vec<Completion> {
        self.completions.take()
    }

    #[napi]
    pub fn info(&self) -> NativeVolumeInfo {
        let info = self.volume.info();
        NativeVolumeInfo {
            fsid: uuid(&info.fsid),
            label: info.label.into(),
            generation: info.generation as f64,
            nodesize: info.nodesize,
            sectorsize: info.sectorsize,
            max_inline: crfs_engine::change::MAX_INLINE as u32,
            checksum: info.checksum.to_owned(),
            device_bytes: info.device_bytes as f64,
            bytes_used: info.bytes_used as f64,
            incompat_flags: info.incompat_flags as f64,
            compat_ro_flags: info.compat_ro_flags as f64,
            read_only: info.read_only,
            read_only_reasons: info.read_only_reasons,
        }
    }

    #[napi]
    pub fn stats(&self) -> NativeVolumeStats {
        let stats = self.volume.stats();
        NativeVolumeStats {
            generation: stats.generation as f64,
            batches: stats.batches as f64,
            commits: stats.commits as f64,
            dirty_bytes: stats.dirty_bytes as f64,
            snapshots: stats.snapshots as f64,
            cache_nodes: stats.cache_nodes as f64,
            cache_hits: stats.cache_hits as f64,
            cache_misses: stats.cache_misses as f64,
            blocks_read: stats.blocks_read as f64,
            data_bytes_read: stats.data_bytes_read as f64,
            copies_failed: stats.copies_failed as f64,
        }
    }

    /// Memory that only a commit gives back, bytes.
    #[napi]
    pub fn dirty_bytes(&self) -> f64 {
        self.volume.dirty_bytes() as f64
    }

    /// Whether so much has gathered that the next commit should not wait.
    #[napi]
    pub fn wants_commit(&self) -> bool {
        self.volume.wants_commit()
    }

    /// Ids of the file trees that batches may change.
    #[napi]
    pub fn writable_trees(&self) -> Vec<f64> {
        self.volume.writable_trees().into_iter().map(|tree| tree as f64).collect()
    }

    /// The subvolumes, the top one included.
    #[napi]
    pub fn subvolumes(&self) -> Vec<NativeSubvolume> {
        let subvolumes = self.volume.subvolumes().map(|subvolume| {
            let (parent_tree, parent_dir) =
                subvolume.place.as_ref().map_or((0, 0), |place| (place.parent, place.dir));
            NativeSubvolume {
                tree: subvolume.tree as f64,
                read_only: subvolume.read_only,
                parent_tree: parent_tree as f64,
                parent_dir: parent_dir as f64,
            }
        });
        subvolumes.collect()
    }

    /// Job: the highest inode number in use in a tree, in `number`.
    #[napi]
    pub fn highest_inode(&self, ticket: u32, tree: f64) {
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || {
            outcome(volume.highest_inode(tree as u64), |ino| Outcome {
                number: Some(ino as f64),
                ..Outcome::default()
            })
        });
    }

    /// Job: packs the items of `[start, end)` (17-byte keys). Completes with the page in `bytes` and the end of what
    /// it covers in `more`.
    #[napi]
    pub fn read_items(&self, ticket: u32, tree: f64, start: &[u8], end: &[u8], bytes_max: u32) -> Result<()> {
        let (start, end) = (key(start)?, key(end)?);
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || items(&volume, tree as u64, start, end, bytes_max as usize));
        Ok(())
    }

    /// `read_items` on the calling thread, if everything is in memory; else null.
    #[napi]
    pub fn read_items_at_once(
        &self,
        tree: f64,
        start: &[u8],
        end: &[u8],
        bytes_max: u32,
    ) -> Result<Option<Completion>> {
        let (start, end) = (key(start)?, key(end)?);
        let read = || items(&self.volume, tree as u64, start, end, bytes_max as usize);
        Ok(jobs::at_once(|| crfs_device::at_once(read)))
    }

    /// Job: reads whole sectors of files. `extents` is tree, inode, offset and length of each, all from one applied state.
    /// Completes with the sectors one behind the other in `bytes` and their crc32c (u32, little-endian) in `more`.
    #[napi]
    pub fn read_data(&self, ticket: u32, extents: Float64Array) {
        let extents = extents.to_vec();
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || data(&volume, &extents));
    }

    /// `read_data` on the calling thread, if everything is in memory; else null.
    #[napi]
    pub fn read_data_at_once(&self, extents: &[f64]) -> Option<Completion> {
        jobs::at_once(|| crfs_device::at_once(|| data(&self.volume, extents)))
    }

    /// Job: total, free and available bytes, as three f64 (little-endian) in `bytes`.
    #[napi]
    pub fn statfs(&self, ticket: u32) {
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || {
            outcome(volume.statfs(), |space| Outcome {
                bytes: Some(
                    [space.total, space.free, space.available]
                        .iter()
                        .flat_map(|bytes| (*bytes as f64).to_le_bytes())
                        .collect(),
                ),
                ..Outcome::default()
            })
        });
    }

    /// Job: promises space for changes of up to `wanted` cost. Completes with what was promised in `number`.
    #[napi]
    pub fn promise(&self, ticket: u32, wanted: f64) {
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || {
            outcome(volume.promise(wanted as u64), |given| Outcome {
                number: Some(given as f64),
                ..Outcome::default()
            })
        });
    }

    /// Job: takes back what was promised and will not be used.
    #[napi]
    pub fn withdraw(&self, ticket: u32, bytes: f64) {
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || outcome(volume.withdraw(bytes as u64), |()| Outcome::default()));
    }

    /// Job: applies a batch, judged by the packed `grants` (none: the server itself); `promised` is what its sender was
    /// promised and has not used. The arrays must not change until it completes: with the bytes of reserved space that it used in `number`, or, when refused, with an errno, a text and
    /// the index of the change in `number`.
    #[napi]
    #[allow(clippy::too_many_arguments)] // One per section of the batch message.
    pub fn apply(
        &self,
        ticket: u32,
        count: u32,
        changes: Uint8Array,
        checksums: Uint8Array,
        data: Uint8Array,
        grants: Option<Uint8Array>,
        promised: f64,
    ) {
        let volume = Arc::clone(&self.volume);
        let job: Job = Box::new(move || {
            let batch = Batch { changes: &changes, count, checksums: &checksums, data: &data };
            match decode_grants(grants.as_deref()) {
                Ok(grants) => judged(volume.apply(&batch, &grants, promised as u64)),
                Err(failed) => failed,
            }
        });
        self.batches.submit(ticket, job);
    }

    /// `apply` on the calling thread, if it need not wait for anything; else null, and nothing was done. Not to be used
    /// while a batch of the same sender is under way.
    #[napi]
    pub fn apply_at_once(
        &self,
        count: u32,
        changes: &[u8],
        checksums: &[u8],
        data: &[u8],
        grants: Option<Uint8Array>,
        promised: f64,
    ) -> Option<Completion> {
        jobs::at_once(|| {
            let batch = Batch { changes, count, checksums, data };
            match decode_grants(grants.as_deref()) {
                Ok(grants) => self.volume.apply_at_once(&batch, &grants, promised as u64).map(judged),
                Err(failed) => Some(failed),
            }
        })
    }

    /// Job: deletes nameless inodes of `tree` from number `from` on, but for those in `keep` (sorted); about `work`
    /// items. Completes with the number to go on from, or -1.
    #[napi]
    pub fn finish_deletes(&self, ticket: u32, tree: f64, from: f64, work: u32, keep: Float64Array) {
        let keep: Vec<u64> = keep.iter().map(|ino| *ino as u64).collect();
        let volume = Arc::clone(&self.volume);
        let job: Job = Box::new(move || {
            let is_kept = |ino: u64| keep.binary_search(&ino).is_ok();
            let progress = volume.finish_deletes(tree as u64, from as u64, work as usize, is_kept);
            outcome(progress, |progress| Outcome {
                number: Some(progress.next.map_or(-1.0, |next| next as f64)),
                ..Outcome::default()
            })
        });
        self.batches.submit(ticket, job);
    }

    /// Job: the inodes of `tree` that wait for their deletion, from number `from` on, `count` at most. Completes with their
    /// numbers as f64 (little-endian) in `bytes`.
    #[napi]
    pub fn orphans(&self, ticket: u32, tree: f64, from: f64, count: u32) {
        let volume = Arc::clone(&self.volume);
        self.read(ticket, move || {
            outcome(volume.orphans(tree as u64, from as u64, count as usize), |found| Outcome {
                bytes: Some(found.iter().flat_map(|ino| (*ino as f64).to_le_bytes()).collect()),
                ..Outcome::default()
            })
        });
    }

    /// Job: makes everything applied so far durable. Completes with the generation of the commit.
    #[napi]
    pub fn commit(&self, ticket: u32) {
        let volume = Arc::clone(&self.volume);
        let job: Job = Box::new(move || {
            outcome(volume.commit(), |generation| Outcome {
                number: Some(generation as f64),
                ..Outcome::default()
            })
        });
        self.commits.submit(ticket, job);
    }

    /// Finishes what was queued and ends the threads. The image is given back when the object is collected or the
    /// process ends. Not to be called while anything is expected to complete.
    #[napi]
    pub fn close(&self) {
        self.batches.stop();
        self.commits.stop();
        self.reads.stop();
    }

    fn read(&self, ticket: u32, job: impl FnOnce() -> Outcome + Send + 'static) {
        self.reads.submit(ticket, Box::new(job));
    }
}
