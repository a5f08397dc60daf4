// SPDX-License-Identifier: GPL-2.0-or-later
//! The judge of the rules on a real image: random and damaged batches, each taken or refused whole as the model file
//! system says, with commits, reopened volumes and finished deletes in between. `btrfs check`, both modes, judges the
//! image file again and again and at the end.
//!
//! A plain test run is short. For the long one:
//!
//! ```text
//! CRFS_BATCHES=100000 CRFS_SEED=42 cargo test --release -p crfs-engine --test batches -- --nocapture
//! ```
//!
//! `CRFS_SECONDS` ends a run early, after at least one check.

#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

mod change_common;
mod volume_common;

use change_common::TREE;
use change_common::draw::{Draw, Seeded};
use change_common::generate::Generator;
use change_common::model_fs::ModelFs;
use change_common::on_volume::{compare_snapshot, model_of};
use crfs_disk::ChecksumKind;
use crfs_engine::change::Grants;
use crfs_engine::{MkfsOptions, Volume};
use std::time::{Duration, Instant};
use volume_common::{Image, MIB};

const DEFAULT_BATCHES: u64 = 1_200;
const DEFAULT_SEED: u64 = 1;
/// What the batches are spread over: node size, checksum, most inodes.
const IMAGES: [(u32, ChecksumKind, usize); 4] = [
    (16_384, ChecksumKind::Crc32c, 300),
    (4_096, ChecksumKind::Crc32c, 120),
    (65_536, ChecksumKind::Crc32c, 60),
    (16_384, ChecksumKind::Xxhash64, 40),
];
/// `btrfs check` runs of one image.
const CHECKS: u64 = 25;
/// Batches between two checks at least; a check takes as long as hundreds of batches.
const CHECK_EVERY: u64 = 150;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

struct World {
    image: Image,
    /// `None` while the image is judged.
    volume: Option<Volume>,
    fs: ModelFs,
    generator: Generator,
    taken: u64,
    refused: u64,
    /// Refused for want of space, about which the model knows nothing.
    full: u64,
    checks: u64,
}

impl World {
    fn new(nodesize: u32, checksum: ChecksumKind, inodes_max: usize) -> World {
        let options = MkfsOptions { nodesize, checksum, ..MkfsOptions::default() };
        let image = Image::by_engine(1024 * MIB, &options);
        let volume = image.open();
        let fs = model_of(&volume, nodesize as usize);
        let generator = Generator::new(inodes_max);
        World { image, volume: Some(volume), fs, generator, taken: 0, refused: 0, full: 0, checks: 0 }
    }

    fn volume(&self) -> &Volume {
        self.volume.as_ref().expect("open between judgements")
    }

    fn step(&mut self, draw: &mut impl Draw) -> Result<(), String> {
        let (builder, _) = self.generator.batch(draw, &self.fs);
        match self.volume().apply(&builder.batch(), &Grants::all(), 0) {
            Err(refusal) if refusal.errno == libc::ENOSPC && refusal.text.starts_with("no space") => {
                self.full += 1
            }
            Err(refusal) if refusal.text.starts_with("corrupt") => return Err(format!("{refusal:?}")),
            answer => match (&answer, self.fs.apply(&builder.batch())) {
                (Ok(_), Ok(())) => self.taken += 1,
                (Err(_), Err(_)) => self.refused += 1,
                (answer, verdict) => {
                    return Err(format!("the volume says {answer:?}, the model {verdict:?}"));
                }
            },
        }
        if draw.one_in(20) {
            self.volume().commit().map_err(|error| error.to_string())?;
        }
        if draw.one_in(300) {
            self.delete_orphans(draw)?;
        }
        if draw.one_in(200) {
            // Without a commit first, what the last one did not hold would be lost: that is not this test's matter.
            self.close()?;
            self.volume = Some(self.image.open());
        }
        if draw.one_in(30) { compare_snapshot(&self.volume().snapshot(), &self.fs) } else { Ok(()) }
    }

    fn delete_orphans(&mut self, draw: &mut impl Draw) -> Result<(), String> {
        let (work, kept) = (1 + draw.below(20) as usize, draw.below(3));
        let mut from = Some(0);
        while let Some(ino) = from {
            let progress = self.volume().finish_deletes(TREE, ino, work, |ino| ino % 3 == kept);
            from = progress.map_err(|error| error.to_string())?.next;
        }
        self.fs.nodes.retain(|ino, node| node.nlink > 0 || ino % 3 == kept);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.volume().commit().map_err(|error| error.to_string())?;
        self.volume = None;
        Ok(())
    }

    /// The closed image passes `btrfs check`, and opened again it says what the model says.
    fn judge(&mut self) -> Result<(), String> {
        self.close()?;
        self.image.check();
        self.checks += 1;
        self.volume = Some(self.image.open());
        compare_snapshot(&self.volume().snapshot(), &self.fs)
    }
}

#[test]
fn every_batch_is_taken_or_refused_whole_and_every_image_checks_clean() {
    let (seed, batches) = (setting("CRFS_SEED", DEFAULT_SEED), setting("CRFS_BATCHES", DEFAULT_BATCHES));
    let deadline = Instant::now() + Duration::from_secs(setting("CRFS_SECONDS", 4 * 3600));
    let (mut taken, mut refused, mut full, mut checks) = (0, 0, 0, 0);
    for (number, (nodesize, checksum, inodes_max)) in IMAGES.into_iter().enumerate() {
        let mut draw = Seeded(seed.wrapping_add(number as u64 * 0x1_0001));
        let mut world = World::new(nodesize, checksum, inodes_max);
        let share = batches / IMAGES.len() as u64;
        let interval = CHECK_EVERY.max(share / CHECKS);
        for step in 1..=share {
            let judged = world
                .step(&mut draw)
                .and_then(|()| if step % interval == 0 || step == share { world.judge() } else { Ok(()) });
            judged.unwrap_or_else(|error| panic!("CRFS_SEED={seed}, image {number}, batch {step}: {error}"));
            if Instant::now() > deadline {
                break;
            }
        }
        world.judge().unwrap_or_else(|error| panic!("CRFS_SEED={seed}, image {number}, end: {error}"));
        taken += world.taken;
        refused += world.refused;
        full += world.full;
        checks += world.checks;
    }
    println!(
        "seed {seed}: {taken} batches taken, {refused} refused, {full} without space, {checks} images judged"
    );
    assert!(taken > refused / 4 && refused > 0, "taken {taken}, refused {refused}");
}
