// SPDX-License-Identifier: GPL-2.0-or-later
//! Volumes from end to end: batches, commits, reopening; judged by `btrfs check` and by a Linux mount.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::Builder;
use change_common::{ROOT, TREE};
use crfs_disk::{ChecksumKind, Key};
use crfs_engine::MkfsOptions;
use crfs_testkit::LoopMount;
use std::os::unix::fs::MetadataExt;
use volume_common::{GIB, Image, MIB, apply, pattern, read};

/// Some files of each size class, a directory, a hard link, an xattr.
fn fill(builder: &mut Builder) {
    builder.dir(300, b"dir");
    for number in 0..200u64 {
        let ino = 1000 + number;
        builder.new_inode(ino, 0o100644).add_name(300, number + 2, ino, format!("file {number}").as_bytes());
        let size = [0, 1, 700, 2048, 4096, 5000, 70_000, 300_000][number as usize % 8];
        if size > 0 {
            builder.put(ino, 0, &pattern(ino, size));
        }
    }
    builder.add_name(ROOT, 900, 1003, b"link");
    builder.set_xattr(1004, b"user.colour", b"blue", 0);
}

fn size_of(number: u64) -> usize {
    [0, 1, 700, 2048, 4096, 5000, 70_000, 300_000][number as usize % 8]
}

fn judge(image: &Image) {
    image.check();
    let mount = LoopMount::new(&image.path, "");
    for number in 0..200u64 {
        let path = mount.path().join("dir").join(format!("file {number}"));
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes == pattern(1000 + number, size_of(number)), "file {number}");
    }
    assert_eq!(std::fs::metadata(mount.path().join("link")).unwrap().nlink(), 2);
    mount.unmount();
    image.check();
}

fn create_and_judge(image: &Image) {
    let volume = image.open();
    let mut builder = Builder::default();
    fill(&mut builder);
    apply(&volume, &builder);
    for number in 0..200u64 {
        assert!(read(&volume, 1000 + number, 0, size_of(number)) == pattern(1000 + number, size_of(number)));
    }
    let before = volume.durable_generation();
    assert_eq!(volume.commit().unwrap(), before + 1);
    assert_eq!(volume.commit().unwrap(), before + 1, "nothing changed, nothing is written");
    assert_eq!(volume.highest_inode(TREE).unwrap(), 1199);
    for number in 0..200u64 {
        assert!(read(&volume, 1000 + number, 0, size_of(number)) == pattern(1000 + number, size_of(number)));
    }
    drop(volume);
    judge(image);
    let volume = image.open();
    for number in 0..200u64 {
        assert!(read(&volume, 1000 + number, 0, size_of(number)) == pattern(1000 + number, size_of(number)));
    }
}

#[test]
fn a_batch_on_an_image_by_progs() {
    create_and_judge(&Image::by_progs(256 * MIB, &[]));
}

#[test]
fn a_batch_on_an_image_by_the_engine() {
    create_and_judge(&Image::by_engine(GIB, &MkfsOptions::default()));
}

#[test]
fn every_node_size_and_checksum() {
    for (nodesize, checksum) in [
        (4096, ChecksumKind::Crc32c),
        (65536, ChecksumKind::Xxhash64),
        (8192, ChecksumKind::Sha256),
        (32768, ChecksumKind::Blake2b),
    ] {
        create_and_judge(&Image::by_engine(
            512 * MIB,
            &MkfsOptions { nodesize, checksum, ..MkfsOptions::default() },
        ));
    }
}

#[test]
fn a_refused_batch_leaves_no_trace() {
    let image = Image::by_engine(512 * MIB, &MkfsOptions::default());
    let volume = image.open();
    let mut builder = Builder::default();
    fill(&mut builder);
    apply(&volume, &builder);
    let before = volume.snapshot();
    let mut bad = Builder::default();
    bad.file(5000, b"new").put(5000, 0, &pattern(1, 200_000));
    bad.put(1007, 0, &pattern(2, 300_000)).cut(1006, 0, 65536);
    bad.remove_name(300, 9, 1007, b"no such name");
    let refusal = volume_common::try_apply(&volume, &bad).unwrap_err();
    assert_eq!(refusal.index, 5);
    let after = volume.snapshot();
    let all = |snapshot: &crfs_engine::Snapshot| {
        snapshot.read_items(TREE, Key::MIN, Key::MAX, usize::MAX).unwrap().bytes
    };
    assert!(all(&before) == all(&after));
    drop((before, after));
    volume.commit().unwrap();
    drop(volume);
    judge(&image);
}

#[test]
fn snapshots_do_not_change() {
    let image = Image::by_engine(512 * MIB, &MkfsOptions::default());
    let volume = image.open();
    let mut builder = Builder::default();
    fill(&mut builder);
    apply(&volume, &builder);
    volume.commit().unwrap();
    let old = volume.snapshot();
    let page = |snapshot: &crfs_engine::Snapshot| {
        snapshot.read_items(TREE, Key::MIN, Key::MAX, usize::MAX).unwrap().bytes
    };
    let items = page(&old);
    for round in 0..10u64 {
        let mut builder = Builder::default();
        for number in (0..200u64).filter(|number| number % 8 >= 6) {
            builder.put(1000 + number, 0, &pattern(round, size_of(number)));
        }
        apply(&volume, &builder);
        volume.commit().unwrap();
    }
    assert!(page(&old) == items);
    for number in 0..200u64 {
        let page = old.read_data(TREE, 1000 + number, 0, size_of(number) as u64).unwrap();
        assert!(page.bytes[..size_of(number)] == pattern(1000 + number, size_of(number)), "file {number}");
    }
    drop(old);
    drop(volume);
    image.check();
}
