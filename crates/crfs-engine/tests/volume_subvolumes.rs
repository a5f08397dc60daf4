// SPDX-License-Identifier: GPL-2.0-or-later
//! Images of Linux with subvolumes: batches that change several of them at once, what may not be changed or read, and
//! what clients are told of entries that lead to one. After each step `btrfs check` and Linux agree.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod change_common;
mod volume_common;

use change_common::builder::{Builder, at};
use change_common::{ROOT, TREE};
use crfs_disk::dir::dir_entries;
use crfs_disk::{Key, item_type, objectid};
use crfs_engine::Volume;
use crfs_engine::change::codec::{Change, Name, NewInode};
use crfs_testkit::{LoopMount, run};
use std::collections::BTreeMap;
use std::path::Path;
use volume_common::{Image, MIB, apply, pattern, try_apply};

fn btrfs(args: &[&str], path: &Path) {
    let args = args.iter().map(|arg| std::ffi::OsStr::new(*arg));
    run("btrfs", args.chain([path.as_os_str()]).collect::<Vec<_>>());
}

/// `one`, `one/inner` and `sealed`, each with a file; `sealed` is read-only.
fn made_by_linux() -> Image {
    let image = Image::by_progs(512 * MIB, &[]);
    let mount = LoopMount::new(&image.path, "");
    for name in ["one", "one/inner", "sealed"] {
        let path = mount.path().join(name);
        btrfs(&["subvolume", "create"], &path);
        std::fs::write(path.join("linux"), name).unwrap();
    }
    run("btrfs", ["property", "set", "-ts", mount.path().join("sealed").to_str().unwrap(), "ro", "true"]);
    mount.unmount();
    image
}

/// Trees by name.
fn trees(volume: &Volume) -> BTreeMap<String, u64> {
    let named = volume.subvolumes().filter_map(|subvolume| {
        let place = subvolume.place.as_ref()?;
        Some((String::from_utf8(place.name.clone()).unwrap(), subvolume.tree))
    });
    named.collect()
}

/// A file in the root directory of a tree, its number behind all that Linux used.
fn add_file(builder: &mut Builder, tree: u64, ino: u64, name: &[u8], content: &[u8]) {
    let (uid, gid, rdev, target) = (0, 0, 0, &b""[..]);
    builder.push(&Change::NewInode(NewInode {
        tree,
        ino,
        mode: 0o100644,
        uid,
        gid,
        rdev,
        time: at(10),
        target,
    }));
    builder.push(&Change::AddName(Name { tree, dir: ROOT, index: ino, ino, time: at(20), name }));
    builder.push_payload(content);
    let length = content.len() as u32;
    builder.push(&Change::PutData {
        tree,
        ino,
        offset: 0,
        length,
        new_size: u64::from(length),
        time: at(50),
    });
}

#[test]
fn one_batch_changes_several_subvolumes_or_none() {
    let image = made_by_linux();
    let volume = image.open();
    let trees = trees(&volume);
    let (one, inner, sealed) = (trees["one"], trees["inner"], trees["sealed"]);
    assert_eq!(volume.writable_trees(), [TREE, one, inner]);
    let writable = [TREE, one, inner];
    let content = |tree: u64| pattern(tree, 20_000);

    for (wrong, errno) in [(sealed, libc::EROFS), (999, libc::EROFS), (objectid::EXTENT_TREE, libc::EROFS)] {
        let mut builder = Builder::default();
        writable.iter().for_each(|tree| add_file(&mut builder, *tree, 1000, b"refused", &content(*tree)));
        add_file(&mut builder, wrong, 1000, b"refused", b"");
        let refusal = try_apply(&volume, &builder).unwrap_err();
        assert_eq!((refusal.index, refusal.errno), (9, errno));
    }
    for tree in writable {
        let key = Key::new(1000, item_type::INODE_ITEM, 0);
        assert_eq!(volume.snapshot().find(tree, key).unwrap(), None, "tree {tree}");
    }

    for round in 0..3_u64 {
        let mut builder = Builder::default();
        for tree in writable {
            let name = format!("crfs{round}");
            add_file(&mut builder, tree, 2000 + round, name.as_bytes(), &content(tree + round));
        }
        apply(&volume, &builder);
        volume.commit().unwrap();
        image_of(&volume, &writable, 2000 + round, |tree| content(tree + round));
    }
    // What no commit followed is gone, in all of them.
    let mut builder = Builder::default();
    writable.iter().for_each(|tree| add_file(&mut builder, *tree, 3000, b"lost", &content(*tree)));
    apply(&volume, &builder);
    drop(volume);
    image.check();

    let mount = LoopMount::new(&image.path, "");
    for (path, tree) in [("", TREE), ("one", one), ("one/inner", inner)] {
        let directory = mount.path().join(path);
        for round in 0..3 {
            let found = std::fs::read(directory.join(format!("crfs{round}"))).unwrap();
            assert!(found == content(tree + round), "{path} {round}");
        }
        assert!(!directory.join("lost").exists());
    }
    assert_eq!(std::fs::read(mount.path().join("sealed/linux")).unwrap(), b"sealed");
    mount.unmount();
}

/// Every tree reads its own file of that number.
fn image_of(volume: &Volume, trees: &[u64], ino: u64, content: impl Fn(u64) -> Vec<u8>) {
    for tree in trees {
        let page = volume.snapshot().read_data(*tree, ino, 0, 20_000).unwrap();
        assert!(page.bytes[..20_000] == content(*tree)[..], "tree {tree}");
    }
}

#[test]
fn nameless_inodes_wait_in_their_own_subvolume() {
    let image = made_by_linux();
    let volume = image.open();
    let one = trees(&volume)["one"];
    let mut builder = Builder::default();
    // The same number: in one tree with a name, in the other without.
    add_file(&mut builder, TREE, 1000, b"named", b"stays");
    builder.push(&Change::NewInode(NewInode {
        tree: one,
        ino: 1000,
        mode: 0o100644,
        uid: 0,
        gid: 0,
        rdev: 0,
        time: at(10),
        target: b"",
    }));
    apply(&volume, &builder);
    volume.commit().unwrap();
    drop(volume);
    image.check();
    let volume = image.open();
    let orphans = |tree| volume.orphans(tree, 0, 10).unwrap();
    assert_eq!((orphans(TREE), orphans(one)), (vec![], vec![1000]));
    for tree in [TREE, one] {
        assert_eq!(volume.finish_deletes(tree, 0, 100, |_| false).unwrap().next, None);
    }
    let inode = |tree| volume.snapshot().find(tree, Key::new(1000, item_type::INODE_ITEM, 0)).unwrap();
    assert_eq!((inode(TREE).is_some(), inode(one)), (true, None));
    volume.commit().unwrap();
    drop(volume);
    image.check();
}

/// Name, tree and the location's offset of each entry of a tree that leads to a subvolume, as clients see it.
fn marks(volume: &Volume, tree: u64) -> Vec<(String, u64, u64)> {
    let snapshot = volume.snapshot();
    let mut found = Vec::new();
    for kind in [item_type::DIR_ITEM, item_type::DIR_INDEX] {
        let (start, end) = (Key::new(ROOT, kind, 0), Key::new(ROOT, kind + 1, 0));
        let page = snapshot.read_items(tree, start, end, usize::MAX).unwrap();
        let count = page.items as usize;
        let mut end = page.bytes.len();
        for header in page.bytes[16..16 + 25 * count].chunks_exact(25) {
            let at = 16 + u32::from_le_bytes(header[17..21].try_into().unwrap()) as usize;
            for entry in dir_entries(&page.bytes[at..end]) {
                let (_, entry) = entry.unwrap();
                if entry.location.kind == item_type::ROOT_ITEM {
                    let name = String::from_utf8(entry.name.to_vec()).unwrap();
                    found.push((name, entry.location.objectid, entry.location.offset));
                }
            }
            end = at;
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn an_entry_tells_whether_its_subvolume_is_there() {
    let image = made_by_linux();
    let mount = LoopMount::new(&image.path, "");
    let path = mount.path().to_owned();
    for (source, target) in [("one", "copy"), ("copy", "again")] {
        let (source, target) = (path.join(source), path.join(target));
        run("btrfs", ["subvolume".as_ref(), "snapshot".as_ref(), source.as_os_str(), target.as_os_str()]);
    }
    btrfs(&["subvolume", "delete", "-C"], &path.join("copy"));
    mount.unmount();
    let device = std::sync::Arc::new(image.device());
    let options = crfs_engine::VolumeOptions { read_only: true, ..Default::default() };
    let volume = Volume::open(device, options).unwrap();
    let trees = trees(&volume);
    let (one, inner, sealed, again) = (trees["one"], trees["inner"], trees["sealed"], trees["again"]);
    assert!(!trees.contains_key("copy"));
    let there = |name: &str, tree| (name.to_owned(), tree, u64::MAX);
    assert_eq!(marks(&volume, TREE), [there("again", again), there("one", one), there("sealed", sealed)]);
    assert_eq!(marks(&volume, one), [there("inner", inner)]);
    assert_eq!(marks(&volume, again), [("inner".to_owned(), inner, 0)]);
    let read_only =
        volume.subvolumes().filter(|subvolume| subvolume.read_only).map(|subvolume| subvolume.tree);
    assert_eq!(read_only.collect::<Vec<_>>(), [sealed]);
    for tree in [objectid::ROOT_TREE, objectid::CSUM_TREE, 999] {
        let items = volume.snapshot().read_items(tree, Key::MIN, Key::MAX, 4096).unwrap_err();
        let data = volume.snapshot().read_data(tree, ROOT, 0, 4096).unwrap_err();
        assert_eq!((items.errno(), data.errno()), (libc::ENOENT, libc::ENOENT), "tree {tree}");
    }
}
