// SPDX-License-Identifier: GPL-2.0-or-later
//! Devices that fail, copies that rot, readers and writers at the same time.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::Builder;
use change_common::{ROOT, TREE};
use crfs_device::{BlockDevice, FaultyDevice, MemoryDevice};
use crfs_disk::{Key, item_type, objectid};
use crfs_engine::{MkfsOptions, Volume, mkfs};
use crfs_testkit::{btrfs_check, scratch_dir};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use volume_common::{apply, open, pattern, read, try_apply};

const DEVICE_BYTES: u64 = 512 << 20;

fn device() -> MemoryDevice {
    let device = MemoryDevice::new(DEVICE_BYTES);
    mkfs(&device, &MkfsOptions::default()).unwrap();
    device
}

fn files(first: u64, count: u64) -> Builder {
    let mut builder = Builder::default();
    for ino in first..first + count {
        builder.file(ino, format!("file-{ino}").as_bytes()).put(ino, 0, &pattern(ino, 6000));
    }
    builder
}

/// Judges what the device holds, and says whether these files are in it.
fn holds(device: &MemoryDevice, first: u64, count: u64) -> bool {
    let dir = scratch_dir();
    let file = dir.file("image");
    device.to_file(&file).unwrap();
    btrfs_check(&file);
    let volume = open(Arc::new(device.clone()));
    let found = (first..first + count)
        .filter(|ino| {
            volume.snapshot().find(TREE, Key::new(*ino, item_type::INODE_ITEM, 0)).unwrap().is_some()
        })
        .inspect(|ino| assert!(read(&volume, *ino, 0, 6000) == pattern(*ino, 6000)))
        .count() as u64;
    assert!(found == 0 || found == count, "a commit is there or not");
    found == count
}

fn fails_for_good(volume: &Volume) {
    let refusal = try_apply(volume, &files(9000, 1)).unwrap_err();
    assert_eq!(refusal.errno, libc::EROFS, "{refusal:?}");
    assert_eq!(volume.commit().unwrap_err().errno(), libc::EROFS);
    assert!(read(volume, 1000, 0, 6000) == pattern(1000, 6000), "what was applied can still be read");
}

#[test]
fn a_failed_write_ends_writing_and_the_last_commit_stands() {
    // Both copies of the nodes, the superblock, its copy (which nobody waits for), none.
    for (writes, fails) in [(0, true), (1, true), (2, true), (3, false), (1000, false)] {
        let device = Arc::new(FaultyDevice::new(device()));
        let volume = open(device.clone());
        apply(&volume, &files(1000, 50));
        volume.commit().unwrap();
        apply(&volume, &files(2000, 50));
        device.fail_write_after(writes);
        let result = volume.commit();
        assert_eq!(result.is_err(), fails, "after {writes} writes: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.errno(), libc::EIO, "{error}");
            fails_for_good(&volume);
        }
        drop(volume);
        assert!(holds(device.inner(), 1000, 50));
        assert_eq!(holds(device.inner(), 2000, 50), !fails);
    }
}

#[test]
fn a_failed_flush_ends_writing() {
    let device = Arc::new(FaultyDevice::new(device()));
    let volume = open(device.clone());
    apply(&volume, &files(1000, 50));
    volume.commit().unwrap();
    apply(&volume, &files(2000, 50));
    device.fail_flush_after(0);
    assert_eq!(volume.commit().unwrap_err().errno(), libc::EIO);
    fails_for_good(&volume);
    drop(volume);
    assert!(holds(device.inner(), 1000, 50));
    assert!(!holds(device.inner(), 2000, 50));
}

#[test]
fn a_failed_data_write_refuses_its_batch_only() {
    let device = Arc::new(FaultyDevice::new(device()));
    let volume = open(device.clone());
    apply(&volume, &files(1000, 50));
    device.fail_write_after(20);
    let refusal = try_apply(&volume, &files(2000, 50)).unwrap_err();
    assert_eq!(refusal.errno, libc::EIO, "{refusal:?}");
    apply(&volume, &files(2000, 50));
    volume.commit().unwrap();
    drop(volume);
    assert!(holds(device.inner(), 1000, 50) && holds(device.inner(), 2000, 50));
}

#[test]
fn a_failed_read_while_applying_changes_nothing() {
    let device = Arc::new(FaultyDevice::new(device()));
    let volume = open(device.clone());
    apply(&volume, &files(1000, 50));
    volume.commit().unwrap();
    drop(volume);
    let mut refused = 0;
    for reads in 0..12 {
        let volume = open(device.clone());
        // Both copies: the first failure is answered by the second copy.
        device.fail_read_after(reads);
        let mut builder = Builder::default();
        builder.put(1001, 0, &pattern(1, 6000)).remove_name(ROOT, 1002, 1002, b"file-1002").drop_inode(1002);
        match try_apply(&volume, &builder) {
            Ok(()) => {}
            Err(refusal) => {
                assert_eq!(refusal.errno, libc::EIO, "{refusal:?}");
                refused += 1;
            }
        }
        device.fail_read_after(u64::MAX);
        assert!(read(&volume, 1000, 0, 6000) == pattern(1000, 6000));
        drop(volume);
    }
    assert_eq!(refused, 0, "metadata has two copies");
    assert!(holds(device.inner(), 1000, 1));
}

#[test]
fn a_rotten_copy_of_a_node_is_read_around_and_rewritten() {
    let base = Arc::new(device());
    let volume = open(base.clone());
    apply(&volume, &files(1000, 300));
    volume.commit().unwrap();
    let bytenr = root_of(&volume);
    drop(volume);
    let physical = physical_of(&base, bytenr);
    let mut good = vec![0; 16384];
    base.read_at(physical[0], &mut good).unwrap();
    base.write_at(physical[0] + 200, b"rot").unwrap();
    let volume = open(base.clone());
    assert!(read(&volume, 1000, 0, 6000) == pattern(1000, 6000));
    assert_eq!(volume.stats().copies_failed, 1);
    apply(&volume, &{
        let mut builder = Builder::default();
        builder.put(1299, 0, &pattern(5, 6000));
        builder
    });
    volume.commit().unwrap();
    drop(volume);
    let mut now = vec![0; 16384];
    base.read_at(physical[0], &mut now).unwrap();
    assert!(now == good, "the good copy was written over the bad one");
    assert!(holds(&base, 1000, 299));
}

/// Address of the file tree's root block, from its ROOT_ITEM.
fn root_of(volume: &Volume) -> u64 {
    let key = Key::new(TREE, item_type::ROOT_ITEM, 0);
    let item = volume.snapshot().find(objectid::ROOT_TREE, key).unwrap().unwrap();
    crfs_disk::root::RootItem::parse_any(&item).unwrap().bytenr
}

fn physical_of(device: &MemoryDevice, bytenr: u64) -> Vec<u64> {
    let options = crfs_engine::OpenOptions { read_only: true, log: Arc::new(|_| {}) };
    let image = crfs_engine::open_image(Arc::new(device.clone()), options).unwrap();
    let run = image.reader.chunks().map(bytenr, 16384).unwrap();
    run.physical
}

#[test]
fn readers_never_see_half_a_batch() {
    let device = Arc::new(device());
    let volume = Arc::new(open(device.clone()));
    let mut builder = Builder::default();
    for ino in 1000..1040 {
        builder.file(ino, format!("file-{ino}").as_bytes()).put(ino, 0, &pattern(0, 30_000));
    }
    apply(&volume, &builder);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (volume, done) = (Arc::clone(&volume), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut rounds = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = volume.snapshot();
                    let of = |ino: u64| snapshot.read_data(TREE, ino, 0, 30_000).unwrap().bytes;
                    let first = of(1000 + reader);
                    for ino in (1000..1040).step_by(7) {
                        assert!(of(ino) == first, "every batch writes all files alike");
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let committer = {
        let (volume, done) = (Arc::clone(&volume), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                volume.commit().unwrap();
            }
        })
    };
    for round in 1..300 {
        let mut builder = Builder::default();
        for ino in 1000..1040 {
            builder.put(ino, 0, &pattern(round, 30_000));
        }
        apply(&volume, &builder);
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    committer.join().unwrap();
    volume.commit().unwrap();
    drop(volume);
    let dir = scratch_dir();
    let file = dir.file("image");
    device.to_file(&file).unwrap();
    btrfs_check(&file);
}
