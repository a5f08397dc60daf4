// SPDX-License-Identifier: GPL-2.0-or-later
//! Random and damaged batches against a whole volume on a recording device, with commits, reopenings and snapshots in
//! between. The model file system says what each batch should do; `btrfs check` judges what a power cut could have left.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::Builder;
use change_common::compare::compare;
use change_common::draw::{Draw, Seeded};
use change_common::generate::Generator;
use change_common::model_fs::ModelFs;
use change_common::{ROOT, TREE};
use crfs_device::{MemoryDevice, RecordingDevice};
use crfs_disk::inode::InodeItem;
use crfs_disk::{ChecksumKind, Key, item_type};
use crfs_engine::change::Grants;
use crfs_engine::{MkfsOptions, Snapshot, Volume, mkfs};
use crfs_testkit::{btrfs_check_quick, scratch_dir};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DEVICE_BYTES: u64 = 256 << 20;

struct World {
    device: Arc<RecordingDevice>,
    volume: Option<Volume>,
    fs: ModelFs,
    generator: Generator,
    /// States promised to be durable: position in the record, and the model then.
    durable: Vec<(usize, ModelFs)>,
    taken: usize,
    refused: usize,
    full: usize,
}

fn model_of(volume: &Volume, nodesize: usize) -> ModelFs {
    let root = volume.snapshot().find(TREE, Key::new(ROOT, item_type::INODE_ITEM, 0)).unwrap().unwrap();
    let root = InodeItem::parse(&root).unwrap();
    let mut fs = ModelFs::new(nodesize, root.mtime);
    let node = std::rc::Rc::get_mut(fs.nodes.get_mut(&ROOT).unwrap()).unwrap();
    (node.atime, node.ctime, node.otime) = (root.atime, root.ctime, root.otime);
    (node.mode, node.flags) = (root.mode, root.flags);
    fs
}

/// Whether a snapshot says the same as the model.
fn compare_snapshot(snapshot: &Snapshot, fs: &ModelFs) -> Result<(), String> {
    let mut items = Vec::new();
    let mut cursor = snapshot.cursor(TREE, Key::MIN).unwrap();
    while let Some((key, data)) = cursor.item() {
        let mut data = data.to_vec();
        if key == Key::new(ROOT, item_type::INODE_ITEM, 0) {
            // mkfs gives the root directory the bytes of its leaf, and nobody ever changes them.
            let inode = InodeItem::parse(&data).unwrap();
            data = InodeItem { nbytes: 0, ..inode }.encode().to_vec();
        }
        items.push((key, data));
        cursor.advance().unwrap();
    }
    compare(&items, |ino, offset, len| snapshot.read_data(TREE, ino, offset, len).unwrap().bytes, fs)
}

impl World {
    fn new(nodesize: u32, checksum: ChecksumKind, inodes_max: usize) -> World {
        let base = MemoryDevice::new(DEVICE_BYTES);
        mkfs(&base, &MkfsOptions { nodesize, checksum, ..MkfsOptions::default() }).unwrap();
        let device = Arc::new(RecordingDevice::new(base));
        let volume = volume_common::open(device.clone());
        let fs = model_of(&volume, nodesize as usize);
        World {
            device,
            volume: Some(volume),
            durable: vec![(0, fs.clone())],
            fs,
            generator: Generator::new(inodes_max),
            taken: 0,
            refused: 0,
            full: 0,
        }
    }

    fn volume(&self) -> &Volume {
        self.volume.as_ref().unwrap()
    }

    fn step(&mut self, draw: &mut impl Draw) -> Result<(), String> {
        let (builder, _) = self.generator.batch(draw, &self.fs);
        let old = draw.one_in(8).then(|| (self.volume().snapshot(), self.fs.clone()));
        let answer = self.volume().apply(&builder.batch(), &Grants::all(), 0);
        if let Err(refusal) = &answer
            && refusal.errno == libc::ENOSPC
            && refusal.text.starts_with("no space")
        {
            // The model knows nothing of space.
            self.full += 1;
            return compare_snapshot(&self.volume().snapshot(), &self.fs);
        }
        let verdict = self.fs.apply(&builder.batch());
        match (&answer, verdict) {
            (Ok(_), Ok(())) => self.taken += 1,
            (Err(refusal), Err(_)) if !refusal.text.starts_with("corrupt") => self.refused += 1,
            (answer, verdict) => return Err(format!("the volume says {answer:?}, the model {verdict:?}")),
        }
        if draw.one_in(12) {
            self.volume().commit().unwrap();
            self.durable.push((self.device.position(), self.fs.clone()));
        }
        if let Some((snapshot, fs)) = old {
            compare_snapshot(&snapshot, &fs).map_err(|error| format!("old snapshot: {error}"))?;
        }
        if draw.one_in(100) {
            self.volume().commit().unwrap();
            self.durable.push((self.device.position(), self.fs.clone()));
            self.volume = None;
            self.volume = Some(volume_common::open(self.device.clone()));
        }
        if draw.one_in(4) {
            compare_snapshot(&self.volume().snapshot(), &self.fs)?;
        }
        Ok(())
    }

    /// The images that a power cut at `cut` could leave hold a state no older than promised and no newer than applied.
    fn judge_cut(&self, cut: usize, reached: impl FnMut(usize) -> bool, file: &Path) -> Result<(), String> {
        let image = self.device.crash_image(cut, reached);
        image.to_file(file).unwrap();
        btrfs_check_quick(file)?;
        let volume = volume_common::open(Arc::new(image));
        let snapshot = volume.snapshot();
        let promised = self.durable.iter().rposition(|(at, _)| *at <= cut).unwrap();
        let states = &self.durable[promised..self.durable.len().min(promised + 2)];
        let errors: Vec<String> =
            states.iter().filter_map(|(_, fs)| compare_snapshot(&snapshot, fs).err()).collect();
        if errors.len() < states.len() { Ok(()) } else { Err(format!("none of the states: {errors:?}")) }
    }
}

fn run(seed: u64, nodesize: u32, checksum: ChecksumKind, batches: usize) -> World {
    let mut draw = Seeded(seed);
    let mut world = World::new(nodesize, checksum, 40);
    for step in 0..batches {
        world.step(&mut draw).unwrap_or_else(|error| panic!("seed {seed}, batch {step}: {error}"));
    }
    world.volume().commit().unwrap();
    world.durable.push((world.device.position(), world.fs.clone()));
    compare_snapshot(&world.volume().snapshot(), &world.fs).unwrap();
    let tally = (world.taken, world.refused, world.full);
    assert!(world.taken > batches / 3 && world.full < batches / 20, "taken, refused, full: {tally:?}");
    world
}

#[test]
fn random_batches_equal_the_model_and_check_clean() {
    let dir = scratch_dir();
    for (seed, nodesize, checksum) in [
        (1, 4096, ChecksumKind::Crc32c),
        (2, 16384, ChecksumKind::Crc32c),
        (3, 65536, ChecksumKind::Xxhash64),
        (4, 4096, ChecksumKind::Blake2b),
    ] {
        let world = run(seed, nodesize, checksum, 1500);
        let file = dir.file("image");
        world.device.image_at(world.device.position()).to_file(&file).unwrap();
        crfs_testkit::btrfs_check(&file);
    }
}

/// Every boundary between what is durable and what is not, with all, none, and random halves of what is not.
#[test]
fn every_power_cut_leaves_a_sound_image() {
    let dir = scratch_dir();
    let file = dir.file("image");
    let mut world = run(7, 4096, ChecksumKind::Crc32c, 120);
    world.volume = None;
    let mut draw = Seeded(99);
    let cuts = world.device.boundaries();
    assert!(cuts.len() > 20, "{} boundaries", cuts.len());
    for cut in cuts {
        let half = draw.bits();
        let halves = |at: usize| half >> (at % 61) & 1 == 1;
        let judged = world
            .judge_cut(cut, |_| true, &file)
            .and_then(|()| world.judge_cut(cut, |_| false, &file))
            .and_then(|()| world.judge_cut(cut, halves, &file));
        judged.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
    }
}

/// Sets the flag when dropped.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Batches go on while commits are written, on an image so small that freed space is used again at once.
#[test]
fn power_cuts_while_batches_and_commits_overlap() {
    let base = MemoryDevice::new(128 << 20);
    mkfs(&base, &MkfsOptions { nodesize: 4096, ..MkfsOptions::default() }).unwrap();
    let device = Arc::new(RecordingDevice::new(base));
    let volume = volume_common::open(device.clone());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                volume.commit().unwrap();
            }
        });
        // Also when a batch is refused, or the committing thread would never end.
        let _end = Set(&done);
        let mut draw = Seeded(5);
        let mut exists = std::collections::BTreeSet::new();
        for _ in 0..1500 {
            let mut builder = Builder::default();
            let ino = 1000 + draw.below(60);
            let name = format!("file-{ino}");
            if !exists.contains(&ino) {
                exists.insert(ino);
                builder.file(ino, name.as_bytes());
            } else if draw.one_in(5) {
                exists.remove(&ino);
                builder.remove_name(ROOT, ino, ino, name.as_bytes()).drop_inode(ino);
            }
            if exists.contains(&ino) {
                builder.put(ino, 0, &volume_common::pattern(draw.bits(), 4096 * (1 + draw.index(50))));
            }
            volume_common::apply(&volume, &builder);
        }
    });
    let dir = scratch_dir();
    let file = dir.file("image");
    let mut draw = Seeded(6);
    assert!(volume.stats().commits > 20, "{:?}", volume.stats());
    let end = device.position();
    for _ in 0..60 {
        let cut = draw.index(end);
        let half = draw.bits();
        device.crash_image(cut, |at| half >> (at % 61) & 1 == 1).to_file(&file).unwrap();
        btrfs_check_quick(&file).unwrap_or_else(|text| panic!("cut {cut} of {end}:\n{text}"));
    }
}
