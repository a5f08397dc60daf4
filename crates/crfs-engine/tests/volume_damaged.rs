// SPDX-License-Identifier: GPL-2.0-or-later
//! Volumes on images whose tree blocks were damaged and sealed again, as a hostile image is: every call ends with an
//! answer or one precise line, none with a panic.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::Builder;
use change_common::draw::{Draw, Seeded};
use change_common::{ROOT, TREE};
use crfs_device::{BlockDevice, MemoryDevice};
use crfs_disk::header::seal;
use crfs_disk::{ChecksumKind, Key, item_type};
use crfs_engine::change::Grants;
use crfs_engine::{MkfsOptions, OpenOptions, Volume, VolumeOptions, mkfs, open_image};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use volume_common::{apply, pattern};

const NODESIZE: usize = 4096;

fn base() -> MemoryDevice {
    let device = Arc::new(MemoryDevice::new(256 << 20));
    mkfs(&*device, &MkfsOptions { nodesize: NODESIZE as u32, ..MkfsOptions::default() }).unwrap();
    let volume = volume_common::open(device.clone());
    for round in 0..4u64 {
        let mut builder = Builder::default();
        for ino in (1000 + round..1120).step_by(4) {
            builder.file(ino, format!("file-{ino}").as_bytes());
            builder.put(ino, 0, &pattern(ino, (ino as usize % 7) * 3000 + 1));
        }
        apply(&volume, &builder);
        volume.commit().unwrap();
    }
    drop(volume);
    MemoryDevice::clone(&device)
}

/// Logical address and all physical ones of every tree block.
fn blocks(device: &MemoryDevice) -> Vec<Vec<u64>> {
    let image =
        open_image(Arc::new(device.clone()), OpenOptions { read_only: true, log: Arc::new(|_| {}) }).unwrap();
    let mut found = Vec::new();
    for id in [1, 3].into_iter().chain(image.roots.keys().copied()) {
        image
            .tree(id)
            .unwrap()
            .scan_blocks(|expect, _| {
                found.push(image.reader.chunks().map(expect.bytenr, NODESIZE as u64)?.physical);
                Ok(())
            })
            .unwrap();
    }
    found
}

fn damage(device: &MemoryDevice, physical: &[u64], draw: &mut impl Draw) {
    let mut block = vec![0; NODESIZE];
    device.read_at(physical[0], &mut block).unwrap();
    for _ in 0..1 + draw.below(3) {
        // Mostly items and pointers, at times the header; small changes pass more checks than large ones.
        let at = if draw.one_in(8) { draw.index(101) } else { 101 + draw.index(NODESIZE - 101) };
        match draw.below(4) {
            0 => block[at] = draw.bits() as u8,
            1 => block[at] = block[at].wrapping_add(1),
            2 => block[at] ^= 1 << draw.below(8),
            _ => {
                let from = 101 + draw.index(NODESIZE - 101 - 64);
                let to = 101 + draw.index(NODESIZE - 101 - 64);
                block.copy_within(from..from + 1 + draw.index(63), to);
            }
        }
    }
    seal(&mut block, ChecksumKind::Crc32c);
    for at in physical {
        device.write_at(*at, &block).unwrap();
    }
}

/// Everything a server does with a volume; how many batches it took, `None` when it did not open.
fn use_it(device: MemoryDevice) -> Option<usize> {
    let device = Arc::new(device);
    let Ok(volume) = Volume::open(device, VolumeOptions::default()) else { return None };
    let snapshot = volume.snapshot();
    let _ = volume.statfs();
    let _ = volume.highest_inode(TREE);
    let mut from = Key::MIN;
    while let Ok(page) = snapshot.read_items(TREE, from, Key::MAX, 8192) {
        if page.covered_end <= from || page.covered_end == Key::MAX {
            break;
        }
        from = page.covered_end;
    }
    for ino in (1000..1120).step_by(5) {
        let _ = snapshot.read_data(TREE, ino, 0, 40_000);
    }
    drop(snapshot);
    let mut calls: Vec<Builder> = Vec::new();
    let mut one = |build: &dyn Fn(&mut Builder)| {
        let mut builder = Builder::default();
        build(&mut builder);
        calls.push(builder);
    };
    one(&|builder| {
        for ino in 5000..5040 {
            builder.file(ino, format!("new-{ino}").as_bytes()).put(ino, 0, &pattern(ino, 9000));
        }
    });
    for ino in (1000..1120).step_by(3) {
        one(&|builder| {
            builder.put(ino, 4096, &pattern(ino, 4096));
        });
        one(&|builder| {
            builder.remove_name(ROOT, ino + 1, ino + 1, format!("file-{}", ino + 1).as_bytes());
            builder.drop_inode(ino + 1);
        });
    }
    let mut taken = 0;
    for (number, call) in calls.iter().enumerate() {
        taken += usize::from(volume.apply(&call.batch(), &Grants::all(), 0).is_ok());
        if number % 9 == 0 {
            let _ = volume.commit();
        }
    }
    let _ = volume.finish_deletes(TREE, 0, 100, |_| false);
    let _ = volume.commit();
    let _ = volume.snapshot().find(TREE, Key::new(1000, item_type::INODE_ITEM, 0));
    Some(taken)
}

#[test]
fn damaged_blocks_never_make_the_engine_panic() {
    let seed = std::env::var("CRFS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let rounds = std::env::var("CRFS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(400);
    let base = base();
    let blocks = blocks(&base);
    assert!(blocks.len() > 20, "{} blocks", blocks.len());
    let (mut opened, mut taken) = (0, 0);
    for round in 0..rounds {
        let mut draw = Seeded(seed * 1_000_003 + round);
        let device = base.clone();
        for _ in 0..1 + draw.below(2) {
            damage(&device, &draw.pick(&blocks), &mut draw);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| use_it(device)));
        let Ok(outcome) = outcome else { panic!("seed {seed}, round {round}") };
        opened += u64::from(outcome.is_some());
        taken += outcome.unwrap_or(0);
    }
    // The damage must often get past the first checks, or the run proves little.
    assert!(
        opened * 5 > rounds && taken as u64 > rounds,
        "{opened} of {rounds} opened, {taken} batches taken"
    );
}
