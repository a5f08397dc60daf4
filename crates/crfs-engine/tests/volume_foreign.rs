// SPDX-License-Identifier: GPL-2.0-or-later
//! Images that Linux filled with everything it has: read whole, changed in the middle, deleted to the last file; after
//! each step `btrfs check` and Linux agree.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::Builder;
use change_common::{ROOT, TREE};
use crfs_disk::dir::dir_entries;
use crfs_disk::inode::InodeItem;
use crfs_disk::{Key, item_type};
use crfs_engine::Volume;
use crfs_testkit::{LoopMount, btrfs_check_quick, fill_with_everything};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use volume_common::{Image, MIB, apply, pattern};

/// Files longer than this are compared at both ends only (the sparse ones).
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// Regular files by inode: size, first part, last part.
type Contents = BTreeMap<u64, (u64, Vec<u8>)>;

fn pieces(size: u64) -> Vec<(u64, u64)> {
    if size <= WHOLE_BYTES_MAX {
        return vec![(0, size)];
    }
    vec![(0, 16 << 20), ((size - MIB) / 4096 * 4096, size - (size - MIB) / 4096 * 4096)]
}

fn contents_by_linux(dir: &Path, found: &mut Contents) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            contents_by_linux(&entry.path(), found);
        }
        if kind.is_file() {
            let file = std::fs::File::open(entry.path()).unwrap();
            let meta = file.metadata().unwrap();
            let mut bytes = Vec::new();
            for (offset, len) in pieces(meta.len()) {
                let mut piece = vec![0; len as usize];
                file.read_exact_at(&mut piece, offset).unwrap();
                bytes.extend(piece);
            }
            found.insert(meta.ino(), (meta.len(), bytes));
        }
    }
}

fn contents_by_volume(volume: &Volume) -> Contents {
    let snapshot = volume.snapshot();
    let mut found = Contents::new();
    let mut cursor = snapshot.cursor(TREE, Key::MIN).unwrap();
    while let Some((key, data)) = cursor.item() {
        if key.kind == item_type::INODE_ITEM {
            let inode = InodeItem::parse(data).unwrap();
            if inode.is_regular() {
                let mut bytes = Vec::new();
                for (offset, len) in pieces(inode.size) {
                    let page = snapshot.read_data(TREE, key.objectid, offset, len).unwrap();
                    bytes.extend_from_slice(&page.bytes[..len as usize]);
                }
                found.insert(key.objectid, (inode.size, bytes));
            }
        }
        cursor.advance().unwrap();
    }
    found
}

fn assert_same(linux: &Contents, volume: &Contents) {
    assert_eq!(linux.keys().collect::<Vec<_>>(), volume.keys().collect::<Vec<_>>());
    for (ino, content) in linux {
        assert!(volume[ino] == *content, "inode {ino}");
    }
}

/// Removes every name and every inode, leaves first.
fn delete_everything(volume: &Volume) {
    let snapshot = volume.snapshot();
    let mut names: Vec<(u64, u64, u64, Vec<u8>)> = Vec::new();
    let mut queue = vec![ROOT];
    while let Some(dir) = queue.pop() {
        let mut cursor = snapshot.cursor(TREE, Key::new(dir, item_type::DIR_INDEX, 0)).unwrap();
        while let Some((key, data)) =
            cursor.item().filter(|(key, _)| (key.objectid, key.kind) == (dir, item_type::DIR_INDEX))
        {
            let (_, entry) = dir_entries(data).next().unwrap().unwrap();
            let ino = entry.location.objectid;
            names.push((dir, key.offset, ino, entry.name.to_vec()));
            let inode = snapshot.find(TREE, Key::new(ino, item_type::INODE_ITEM, 0)).unwrap().unwrap();
            if InodeItem::parse(&inode).unwrap().is_dir() {
                queue.push(ino);
            }
            cursor.advance().unwrap();
        }
    }
    drop(snapshot);
    let mut links: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, _, ino, _) in &names {
        *links.entry(*ino).or_default() += 1;
    }
    for some in names.rchunks(700) {
        let mut builder = Builder::default();
        for (dir, index, ino, name) in some.iter().rev() {
            builder.remove_name(*dir, *index, *ino, name);
            let left = links.get_mut(ino).unwrap();
            *left -= 1;
            if *left == 0 {
                builder.drop_inode(*ino);
            }
        }
        apply(volume, &builder);
    }
}

fn filled(size: u64, mkfs: &[&str], options: &str) -> (Image, Contents) {
    let image = Image::by_progs(size, mkfs);
    let mount = LoopMount::new(&image.path, options);
    fill_with_everything(mount.path());
    mount.unmount();
    let mount = LoopMount::new(&image.path, "");
    let mut contents = Contents::new();
    contents_by_linux(mount.path(), &mut contents);
    mount.unmount();
    (image, contents)
}

fn change_and_judge(image: &Image, linux: &Contents) {
    let volume = image.open();
    assert_same(linux, &contents_by_volume(&volume));
    // Overwrite the middle of everything long enough, whoever shares it.
    let mut changed = 0;
    for (round, (ino, (size, _))) in linux.iter().filter(|(_, (size, _))| *size > 20_000).enumerate() {
        let mut builder = Builder::default();
        builder.put_sized(*ino, 8192, &pattern(round as u64, 8192), *size);
        apply(&volume, &builder);
        changed += 1;
    }
    assert!(changed > 5);
    volume.commit().unwrap();
    let ours = contents_by_volume(&volume);
    drop(volume);
    image.check();
    let mount = LoopMount::new(&image.path, "");
    let mut theirs = Contents::new();
    contents_by_linux(mount.path(), &mut theirs);
    assert_same(&theirs, &ours);
    mount.unmount();
    let volume = image.open();
    delete_everything(&volume);
    volume.commit().unwrap();
    assert_eq!(contents_by_volume(&volume).len(), 0);
    drop(volume);
    image.check();
    let mount = LoopMount::new(&image.path, "");
    assert_eq!(std::fs::read_dir(mount.path()).unwrap().count(), 0);
    fill_with_everything(mount.path());
    mount.unmount();
    image.check();
}

#[test]
fn an_image_with_everything_is_read_changed_and_emptied() {
    let (image, contents) = filled(2 << 30, &[], "");
    change_and_judge(&image, &contents);
}

#[test]
fn small_nodes_and_another_checksum() {
    let (image, contents) = filled(1 << 30, &["--nodesize", "4096", "--csum", "xxhash"], "");
    change_and_judge(&image, &contents);
}

/// Commits in the middle of deleting: every one is sound.
#[test]
fn deleting_in_many_commits() {
    let (image, contents) = filled(1 << 30, &[], "");
    let volume = image.open();
    let inos: Vec<u64> = contents.keys().copied().collect();
    for (round, some) in inos.chunks(inos.len() / 12).enumerate() {
        let mut builder = Builder::default();
        for ino in some {
            builder.set_size(*ino, 0);
        }
        apply(&volume, &builder);
        volume.commit().unwrap();
        if round % 4 == 3 {
            btrfs_check_quick(&image.path).unwrap_or_else(|text| panic!("round {round}: {text}"));
        }
    }
    drop(volume);
    image.check();
    let mount = LoopMount::new(&image.path, "");
    let mut left = Contents::new();
    contents_by_linux(mount.path(), &mut left);
    assert!(left.values().all(|(size, _)| *size == 0));
    mount.unmount();
}
