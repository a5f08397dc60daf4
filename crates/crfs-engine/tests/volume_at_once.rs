// SPDX-License-Identifier: GPL-2.0-or-later
//! What is done at once or not at all: nothing waits, nothing is left half done, no copy is taken for a bad one.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::TREE;
use change_common::builder::Builder;
use crfs_device::{FaultyDevice, MemoryDevice, at_once};
use crfs_disk::{Key, item_type};
use crfs_engine::change::Grants;
use crfs_engine::{MkfsOptions, Volume, mkfs};
use crfs_testkit::{btrfs_check, scratch_dir};
use std::sync::Arc;
use volume_common::{apply, open, pattern, read};

type Device = Arc<FaultyDevice<MemoryDevice>>;

fn file(ino: u64) -> Builder {
    let mut builder = Builder::default();
    builder.file(ino, format!("file-{ino}").as_bytes()).put(ino, 0, &pattern(ino, 6000));
    builder
}

/// A committed volume of which nothing is in memory.
fn cold() -> (Device, Volume) {
    let device = Arc::new(FaultyDevice::new(MemoryDevice::new(512 << 20)));
    mkfs(&*device, &MkfsOptions::default()).unwrap();
    let volume = open(device.clone());
    for ino in 1000..1400 {
        apply(&volume, &file(ino));
    }
    volume.commit().unwrap();
    drop(volume);
    let volume = open(device.clone());
    (device, volume)
}

#[test]
fn a_read_that_would_wait_is_given_up_and_says_nothing_about_the_copies() {
    let (device, volume) = cold();
    let find = || volume.snapshot().find(TREE, Key::new(1200, item_type::INODE_ITEM, 0));
    let data = || volume.snapshot().read_data(TREE, 1200, 0, 6000);
    device.set_slow(true);
    assert!(at_once(find).is_none());
    assert!(at_once(data).is_none());
    // Outside nothing has changed: a slow device is read all the same.
    assert!(find().unwrap().is_some());
    assert!(at_once(find).is_some(), "the nodes are in memory now");
    assert!(at_once(data).is_none(), "the data is not");
    device.set_slow(false);
    assert_eq!(at_once(data).unwrap().unwrap().bytes[..6000], pattern(1200, 6000)[..]);
    assert_eq!(volume.stats().copies_failed, 0);
}

#[test]
fn a_batch_that_would_wait_leaves_everything_as_it_was() {
    let (device, volume) = cold();
    let grants = Grants::all();
    device.set_slow(true);
    let mut builder = Builder::default();
    builder.put(1001, 0, &pattern(1, 6000)).put(1399, 0, &pattern(2, 6000));
    assert!(volume.apply_at_once(&builder.batch(), &grants, 0).is_none());
    assert!(read(&volume, 1001, 0, 6000) == pattern(1001, 6000));
    // What it needs is in memory after it was applied the slow way.
    apply(&volume, &builder);
    assert!(read(&volume, 1399, 0, 6000) == pattern(2, 6000));
    let mut again = Builder::default();
    again.put(1001, 0, &pattern(3, 6000)).put(1399, 0, &pattern(4, 6000));
    assert!(volume.apply_at_once(&again.batch(), &grants, 0).unwrap().is_ok());
    assert!(read(&volume, 1001, 0, 6000) == pattern(3, 6000));
    let mut refused = Builder::default();
    refused.put(77_777, 0, b"no such inode");
    assert!(volume.apply_at_once(&refused.batch(), &grants, 0).unwrap().is_err());
    volume.commit().unwrap();
    drop(volume);
    let dir = scratch_dir();
    device.inner().to_file(&dir.file("image")).unwrap();
    btrfs_check(&dir.file("image"));
    assert!(read(&open(device.clone()), 1399, 0, 6000) == pattern(4, 6000));
}
