// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of names, inodes, xattrs and grants, one by one.

#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

mod change_common;

use change_common::builder::{Builder, at};
use change_common::hashes::colliding_names;
use change_common::model_store::{ModelStore, START};
use change_common::{ROOT, TREE};
use crfs_disk::constants::file_type;
use crfs_disk::dir::{DirEntry, dir_entries};
use crfs_disk::hash::name_hash;
use crfs_disk::inode::{InodeItem, Timespec};
use crfs_disk::{Key, item_type, objectid};
use crfs_engine::change::codec::{Change, CloneRange, Fields, Name, NewInode};
use crfs_engine::change::grants::{Grant, Grants, Mode};
use crfs_engine::change::{Refusal, apply};

fn store() -> ModelStore {
    ModelStore::new(16384, 1024)
}

/// A store with directory 257 "d", file 258 "f", directory 259 "d/sub".
fn small_tree() -> ModelStore {
    let mut store = store();
    let mut batch = Builder::default();
    batch.dir(257, b"d").file(258, b"f").new_inode(259, 0o040755).add_name(257, 2, 259, b"sub");
    batch.accept(&mut store);
    store
}

/// The errno of a batch of one.
fn errno(store: &ModelStore, make: impl FnOnce(&mut Builder)) -> i32 {
    refusal(store, make).errno
}

fn refusal(store: &ModelStore, make: impl FnOnce(&mut Builder)) -> Refusal {
    let mut batch = Builder::default();
    make(&mut batch);
    batch.refuse(store)
}

fn accept(store: &mut ModelStore, make: impl FnOnce(&mut Builder)) {
    let mut batch = Builder::default();
    make(&mut batch);
    batch.accept(store);
}

#[test]
fn a_created_file_has_its_items_and_counts() {
    let mut store = store();
    accept(&mut store, |b| _ = b.file(300, b"name").put(300, 0, b"12345"));
    let (dir, file) = (store.inode(ROOT), store.inode(300));
    assert_eq!((dir.size, dir.nlink, dir.mtime), (8, 1, START));
    assert_eq!((file.size, file.nbytes, file.nlink, file.generation, file.transid), (5, 5, 1, 7, 7));
    assert_eq!((file.otime, file.mtime, file.ctime), (at(10), at(50), at(50)));
}

#[test]
fn a_create_costs_few_calls_of_the_store() {
    let mut store = store();
    let mut batch = Builder::default();
    for number in 0..1000 {
        let ino = 1000 + number;
        batch.file(ino, format!("file-{number}").as_bytes()).put(ino, 0, &[7; 1024]);
    }
    batch.apply(&mut store).unwrap();
    assert!(store.calls <= 6 * 1000 + 3, "{} calls", store.calls);
}

#[test]
fn a_name_needs_a_live_directory_and_must_be_free() {
    let store = small_tree();
    assert_eq!(errno(&store, |b| _ = b.add_name(999, 9, 258, b"x")), libc::ENOENT);
    assert_eq!(errno(&store, |b| _ = b.add_name(258, 9, 258, b"x")), libc::ENOTDIR);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 9, 999, b"x")), libc::ENOENT);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 9, 258, b"d")), libc::EEXIST);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 258, 258, b"x")), libc::EEXIST);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 1, 258, b"x")), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 1 << 53, 258, b"x")), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 9, 257, b"x")), libc::EPERM);
    assert_eq!(errno(&store, |b| _ = b.add_name(257, 9, ROOT, b"x")), libc::EPERM);
    // A directory that lost its name takes none.
    let gone = |b: &mut Builder| _ = b.remove_name(257, 2, 259, b"sub").add_name(259, 2, 258, b"x");
    let refusal = refusal(&store, gone);
    assert_eq!((refusal.index, refusal.errno), (1, libc::ENOENT));
    // Nor does one that never had a name.
    assert_eq!(errno(&store, |b| _ = b.new_inode(300, 0o040755).add_name(300, 2, 258, b"x")), libc::ENOENT);
}

#[test]
fn a_removed_name_must_be_the_one_that_is_there() {
    let mut store = small_tree();
    assert_eq!(errno(&store, |b| _ = b.remove_name(ROOT, 258, 258, b"g")), libc::ENOENT);
    assert_eq!(errno(&store, |b| _ = b.remove_name(ROOT, 258, 257, b"f")), libc::ESTALE);
    assert_eq!(errno(&store, |b| _ = b.remove_name(ROOT, 257, 258, b"f")), libc::ESTALE);
    assert_eq!(errno(&store, |b| _ = b.remove_name(ROOT, 9, 258, b"f")), libc::ESTALE);
    assert_eq!(errno(&store, |b| _ = b.remove_name(ROOT, 257, 257, b"d")), libc::ENOTEMPTY);
    accept(&mut store, |b| _ = b.remove_name(257, 2, 259, b"sub").remove_name(ROOT, 257, 257, b"d"));
    assert_eq!(store.inode(ROOT).size, 2);
}

#[test]
fn two_links_in_one_directory_share_an_inode_ref() {
    let mut store = small_tree();
    accept(&mut store, |b| _ = b.add_name(ROOT, 9, 258, b"second").add_name(257, 9, 258, b"third"));
    assert_eq!(store.inode(258).nlink, 3);
    assert_eq!(store.items_of(258, item_type::INODE_REF).count(), 2);
    accept(&mut store, |b| _ = b.remove_name(ROOT, 258, 258, b"f"));
    assert_eq!(store.inode(258).nlink, 2);
}

#[test]
fn a_rename_moves_one_name_and_makes_no_cycle() {
    let mut store = small_tree();
    accept(&mut store, |b| _ = b.new_inode(260, 0o040755).add_name(259, 2, 260, b"deep"));
    assert_eq!(errno(&store, |b| _ = b.rename(257, (ROOT, 257, b"d"), (257, 9, b"x"))), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.rename(257, (ROOT, 257, b"d"), (260, 9, b"x"))), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.rename(258, (ROOT, 258, b"f"), (ROOT, 9, b"d"))), libc::EEXIST);
    assert_eq!(errno(&store, |b| _ = b.rename(258, (ROOT, 258, b"f"), (999, 9, b"d"))), libc::ENOENT);
    assert_eq!(errno(&store, |b| _ = b.rename(258, (ROOT, 258, b"f"), (258, 9, b"d"))), libc::ENOTDIR);
    // Up, to a sibling, onto itself, over a victim.
    accept(&mut store, |b| _ = b.rename(260, (259, 2, b"deep"), (ROOT, 300, b"deep")));
    accept(&mut store, |b| _ = b.rename(257, (ROOT, 257, b"d"), (260, 9, b"moved")));
    accept(&mut store, |b| _ = b.rename(258, (ROOT, 258, b"f"), (ROOT, 301, b"f")));
    accept(&mut store, |b| {
        b.file(270, b"victim").remove_name(ROOT, 270, 270, b"victim");
        b.rename(258, (ROOT, 301, b"f"), (ROOT, 302, b"victim"));
    });
    assert_eq!(errno(&store, |b| _ = b.rename(260, (ROOT, 300, b"deep"), (259, 9, b"x"))), libc::EINVAL);
}

#[test]
fn climbing_through_a_deep_tree_is_bounded() {
    let mut store = store();
    let depth = 3_000;
    let mut batch = Builder::default();
    batch.dir(1000, b"top");
    for level in 1..depth {
        batch.new_inode(1000 + level, 0o040755).add_name(999 + level, 2, 1000 + level, b"d");
    }
    batch.dir(500, b"a");
    batch.apply(&mut store).unwrap();
    let bottom = 999 + depth;
    let mut moves = Builder::default();
    for turn in 0..200 {
        moves.rename(500, (ROOT, 500 + turn * 10_000, b"a"), (bottom, 9, b"a"));
        moves.rename(500, (bottom, 9, b"a"), (ROOT, 500 + (turn + 1) * 10_000, b"a"));
    }
    moves.accept(&mut store.clone());
    for turn in 200..500 {
        moves.rename(500, (ROOT, 500 + turn * 10_000, b"a"), (bottom, 9, b"a"));
        moves.rename(500, (bottom, 9, b"a"), (ROOT, 500 + (turn + 1) * 10_000, b"a"));
    }
    assert_eq!(moves.refuse(&store).errno, libc::E2BIG);
}

#[test]
fn names_with_one_hash_share_an_item_until_a_leaf_is_full() {
    let mut store = ModelStore::new(4096, 64);
    let names = colliding_names(20, 255);
    let mut batch = Builder::default();
    // (255 + 30) x 13 + 25 is the most that fits into 3,995.
    for (number, name) in names[..13].iter().enumerate() {
        batch.file(300 + number as u64, name);
    }
    batch.accept(&mut store);
    let key = Key::new(ROOT, item_type::DIR_ITEM, name_hash(&names[0]));
    assert_eq!(dir_entries(store.item(key).unwrap()).count(), 13);
    assert_eq!(errno(&store, |b| _ = b.file(400, &names[13])), libc::EOVERFLOW);
    // The middle one goes, the others stay, and there is room again.
    accept(&mut store, |b| _ = b.remove_name(ROOT, 306, 306, &names[6]).file(400, &names[13]));
    assert_eq!(errno(&store, |b| _ = b.file(401, &names[3])), libc::EEXIST);
    for (number, name) in names[..13].iter().enumerate().filter(|(number, _)| *number != 6) {
        let ino = 300 + number as u64;
        accept(&mut store, |b| _ = b.remove_name(ROOT, ino, ino, name));
    }
    accept(&mut store, |b| _ = b.remove_name(ROOT, 400, 400, &names[13]));
    assert_eq!(store.item(key), None);
}

#[test]
fn links_that_do_not_fit_an_inode_ref_go_into_extrefs() {
    let mut store = ModelStore::new(4096, 64);
    accept(&mut store, |b| _ = b.new_inode(300, 0o100644));
    let mut names: Vec<Vec<u8>> = (0..40).map(|number| format!("{number:0255}").into_bytes()).collect();
    // Two of them share an INODE_EXTREF.
    names.extend(colliding_names(2, 255));
    let mut batch = Builder::default();
    for (number, name) in names.iter().enumerate() {
        batch.add_name(ROOT, 10 + number as u64, 300, name);
    }
    batch.accept(&mut store);
    // (255 + 10) x 14 + 25 is the most that fits into 3,995.
    assert_eq!(store.items_of(300, item_type::INODE_EXTREF).count(), 40 - 14 + 1);
    assert_eq!(store.inode(300).nlink, 42);
    for (number, name) in names.iter().enumerate().rev().step_by(2) {
        accept(&mut store, |b| _ = b.remove_name(ROOT, 10 + number as u64, 300, name));
    }
    // A short name fits again where long ones went.
    accept(&mut store, |b| _ = b.rename(300, (ROOT, 10, &names[0]), (ROOT, 200, b"short")));
    for (number, name) in names.iter().enumerate().rev().skip(1).step_by(2).filter(|(number, _)| *number != 0)
    {
        accept(&mut store, |b| _ = b.remove_name(ROOT, 10 + number as u64, 300, name));
    }
    accept(&mut store, |b| _ = b.remove_name(ROOT, 200, 300, b"short").drop_inode(300));
    assert_eq!(store.items.len(), 2);
}

#[test]
fn an_inode_has_at_most_65535_names() {
    let mut store = small_tree();
    let full = InodeItem { nlink: 65_535, ..store.inode(258) };
    store.put(Key::new(258, item_type::INODE_ITEM, 0), full.encode().to_vec());
    assert_eq!(errno(&store, |b| _ = b.add_name(ROOT, 9, 258, b"x")), libc::EMLINK);
    let room = InodeItem { nlink: 65_534, ..full };
    store.put(Key::new(258, item_type::INODE_ITEM, 0), room.encode().to_vec());
    let mut batch = Builder::default();
    batch.add_name(ROOT, 9, 258, b"x");
    assert!(batch.apply(&mut store).is_ok());
}

#[test]
fn new_inodes_are_new_and_well_formed() {
    let store = small_tree();
    for ino in [0, 6, 255, 256, 1 << 53, u64::MAX] {
        assert_eq!(errno(&store, |b| _ = b.new_inode(ino, 0o100644)), libc::EINVAL, "{ino}");
    }
    assert_eq!(errno(&store, |b| _ = b.new_inode(258, 0o100644)), libc::EEXIST);
    assert_eq!(errno(&store, |b| _ = b.new_inode(300, 0o100644).new_inode(300, 0o100644)), libc::EEXIST);
    for mode in [0, 0o644, 0o030644, 0o110644, 0o1100644, u32::MAX] {
        assert_eq!(errno(&store, |b| _ = b.new_inode(300, mode)), libc::EINVAL, "{mode:o}");
    }
    let made = |mode, rdev, target: &[u8]| {
        let time = at(1);
        let new = NewInode { tree: TREE, ino: 300, mode, uid: 1, gid: 2, rdev, time, target };
        let mut batch = Builder::default();
        batch.push(&Change::NewInode(new));
        batch.apply(&mut ModelStore::new(4096, 1)).map_err(|refusal| refusal.errno)
    };
    assert_eq!(made(0o100644, 1, b""), Err(libc::EINVAL));
    assert_eq!(made(0o100644, 0, b"target"), Err(libc::EINVAL));
    assert_eq!(made(0o120777, 0, b""), Err(libc::EINVAL));
    assert_eq!(made(0o120777, 0, b"a\0b"), Err(libc::EINVAL));
    assert_eq!(made(0o060600, 1 << 32, b""), Err(libc::EINVAL));
    assert!(made(0o060600, (1 << 32) - 1, b"").is_ok());
    // A leaf of 4,096 bytes holds 3,949 bytes of a target, one of 16,384 all that a path can have.
    assert!(made(0o120777, 0, &[b't'; 3949]).is_ok());
    assert_eq!(made(0o120777, 0, &[b't'; 3950]), Err(libc::ENAMETOOLONG));
}

#[test]
fn a_symlink_is_one_inline_extent() {
    let mut store = store();
    let target = vec![b't'; 4095];
    let new = NewInode {
        tree: TREE,
        ino: 300,
        mode: 0o120777,
        uid: 0,
        gid: 0,
        rdev: 0,
        time: at(1),
        target: &target,
    };
    accept(&mut store, |b| _ = b.push(&Change::NewInode(new)).add_name(ROOT, 2, 300, b"link"));
    let inode = store.inode(300);
    assert_eq!((inode.size, inode.nbytes), (4095, 4095));
    assert_eq!(errno(&store, |b| _ = b.set_size(300, 1)), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.put(300, 0, b"x")), libc::EINVAL);
    accept(&mut store, |b| _ = b.remove_name(ROOT, 2, 300, b"link").drop_inode(300));
}

#[test]
fn an_orphan_lives_until_it_is_linked_or_dropped() {
    let mut store = small_tree();
    let orphan = |store: &ModelStore, ino| {
        store.item(Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, ino)).is_some()
    };
    assert_eq!(errno(&store, |b| _ = b.drop_inode(258)), libc::EBUSY);
    assert_eq!(errno(&store, |b| _ = b.drop_inode(999)), libc::ENOENT);
    accept(&mut store, |b| _ = b.remove_name(ROOT, 258, 258, b"f"));
    assert!(orphan(&store, 258));
    // Open files without a name still change.
    accept(&mut store, |b| _ = b.put(258, 0, &[1; 5000]).set_xattr(258, b"user.a", b"v", 0));
    assert!(orphan(&store, 258));
    accept(&mut store, |b| _ = b.add_name(257, 9, 258, b"again"));
    assert!(!orphan(&store, 258));
    accept(&mut store, |b| _ = b.remove_name(257, 9, 258, b"again").drop_inode(258));
    assert!(!orphan(&store, 258) && store.extents.is_empty() && store.sectors.is_empty());
    // Without a name at the end of its batch, and made, named and lost within one.
    accept(&mut store, |b| _ = b.new_inode(300, 0o100644));
    assert!(orphan(&store, 300));
    accept(&mut store, |b| _ = b.file(301, b"x").remove_name(ROOT, 301, 301, b"x"));
    assert!(orphan(&store, 301));
    // A number is free again after a drop, also within the batch.
    accept(&mut store, |b| _ = b.drop_inode(300).file(300, b"reborn"));
    accept(&mut store, |b| {
        b.new_inode(310, 0o100644).put(310, 0, b"abc").drop_inode(310);
        b.new_inode(310, 0o040755).add_name(ROOT, 310, 310, b"dir");
    });
    assert!(store.inode(310).is_dir());
    // A removed directory may get a name again; it is empty.
    accept(&mut store, |b| _ = b.remove_name(ROOT, 310, 310, b"dir"));
    accept(&mut store, |b| _ = b.add_name(ROOT, 400, 310, b"back"));
}

#[test]
fn set_fields_sets_exactly_and_keeps_the_type() {
    let mut store = small_tree();
    let early = Timespec { sec: -5_000_000_000, nsec: 999_999_999 };
    let fields = Fields { mode: Some(0o107777), uid: Some(7), mtime: Some(early), ..Fields::default() };
    accept(&mut store, |b| _ = b.set(258, fields));
    let inode = store.inode(258);
    assert_eq!((inode.mode, inode.uid, inode.gid, inode.mtime, inode.ctime), (0o107777, 7, 0, early, at(20)));
    let mode = |mode| Fields { mode: Some(mode), ..Fields::default() };
    assert_eq!(errno(&store, |b| _ = b.set(258, mode(0o040755))), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.set(258, mode(0o1100644))), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.set(257, mode(0o755))), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.set_size(257, 0)), libc::EISDIR);
    assert_eq!(errno(&store, |b| _ = b.set(999, mode(0o100644))), libc::ENOENT);
    // Directories too: exactly, even backwards.
    accept(&mut store, |b| {
        _ = b.set(257, Fields { mtime: Some(early), ctime: Some(early), ..Fields::default() })
    });
    assert_eq!((store.inode(257).mtime, store.inode(257).ctime), (early, early));
}

#[test]
fn inode_flags_that_steer_the_disk_are_not_the_clients() {
    let mut store = small_tree();
    let flags = |flags| Fields { flags: Some(flags), ..Fields::default() };
    accept(&mut store, |b| _ = b.set(258, flags(0b1111_1110_1000)));
    accept(&mut store, |b| _ = b.preallocate(258, 0, 4096, 0).set(258, flags(0b1_0000_0000)));
    // PREALLOC is the engine's: set by it, and it stays whatever the client thinks.
    assert_eq!(store.inode(258).flags, 0b1_0001_0000);
    for bit in [0, 1, 2, 12, 31, 32, 63] {
        assert_eq!(errno(&store, |b| _ = b.set(258, flags(1 << bit))), libc::EOPNOTSUPP, "{bit}");
    }
    let fifo = |b: &mut Builder, bits| _ = b.new_inode(300, 0o010644).set(300, flags(bits));
    assert_eq!(errno(&store, |b| fifo(b, 1 << 6)), libc::EOPNOTSUPP);
    accept(&mut store, |b| fifo(b, 0b11_0000_0000));
}

#[test]
fn directory_times_of_names_never_go_backwards() {
    let mut store = small_tree();
    let time = |b: &mut Builder, sec, name: &'static [u8], index| {
        let change = Name { tree: TREE, dir: 257, index, ino: 258, time: at(sec), name };
        b.push(&Change::AddName(change));
    };
    accept(&mut store, |b| time(b, 5_000, b"x", 50));
    accept(&mut store, |b| time(b, 4_000, b"y", 51));
    assert_eq!((store.inode(257).mtime, store.inode(257).ctime), (at(5_000), at(5_000)));
    assert_eq!(store.inode(258).ctime, at(4_000));
}

#[test]
fn xattrs_pack_by_hash_and_have_limits() {
    let mut store = ModelStore::new(4096, 64);
    accept(&mut store, |b| _ = b.file(300, b"f"));
    assert_eq!(errno(&store, |b| _ = b.remove_xattr(300, b"user.a")), libc::ENODATA);
    assert_eq!(errno(&store, |b| _ = b.set_xattr(300, b"user.a", b"v", 2)), libc::ENODATA);
    assert_eq!(errno(&store, |b| _ = b.set_xattr(999, b"user.a", b"v", 0)), libc::ENOENT);
    accept(&mut store, |b| _ = b.set_xattr(300, b"user.a", b"v", 1).set_xattr(300, b"user.empty", b"", 0));
    assert_eq!(errno(&store, |b| _ = b.set_xattr(300, b"user.a", b"w", 1)), libc::EEXIST);
    accept(&mut store, |b| _ = b.set_xattr(300, b"user.a", b"other", 2));
    // 3,995 - 25 - 30 bytes for name and value.
    accept(&mut store, |b| _ = b.set_xattr(300, b"user.big", &[1; 3932], 0));
    assert_eq!(errno(&store, |b| _ = b.set_xattr(300, b"user.big", &[1; 3933], 0)), libc::ENOSPC);
    let names = colliding_names(4, 20);
    accept(&mut store, |b| {
        _ = b.set_xattr(300, &names[0], &[1; 1200], 0).set_xattr(300, &names[1], &[2; 1200], 0)
    });
    accept(&mut store, |b| _ = b.set_xattr(300, &names[2], &[3; 1200], 0));
    assert_eq!(errno(&store, |b| _ = b.set_xattr(300, &names[3], &[4; 1200], 0)), libc::EOVERFLOW);
    accept(&mut store, |b| _ = b.remove_xattr(300, &names[1]).set_xattr(300, &names[3], &[4; 1200], 0));
    accept(&mut store, |b| _ = b.set_xattr(300, &names[0], b"short", 0));
    let values: Vec<(usize, u8)> = store
        .items_of(300, item_type::XATTR_ITEM)
        .filter(|(key, _)| key.offset == name_hash(&names[0]))
        .flat_map(|(_, item)| dir_entries(item).map(|entry| entry.unwrap().1.data).collect::<Vec<_>>())
        .map(|value| (value.len(), value[0]))
        .collect();
    assert_eq!(values, [(1200, 3), (1200, 4), (5, b's')]);
    assert_eq!(store.inode(300).ctime, at(80));
}

#[test]
fn subvolumes_and_other_trees_are_left_alone() {
    let mut store = small_tree();
    let entry = DirEntry {
        location: Key::new(256, item_type::ROOT_ITEM, u64::MAX),
        transid: 1,
        kind: file_type::DIR,
        name: b"sv",
        data: b"",
    };
    let mut item = Vec::new();
    entry.append_to(&mut item);
    store.put(Key::new(257, item_type::DIR_ITEM, name_hash(b"sv")), item.clone());
    store.put(Key::new(257, item_type::DIR_INDEX, 50), item);
    assert_eq!(errno(&store, |b| _ = b.remove_name(257, 50, 256, b"sv")), libc::EXDEV);
    assert_eq!(errno(&store, |b| _ = b.rename(256, (257, 50, b"sv"), (ROOT, 60, b"sv"))), libc::EXDEV);
    assert_eq!(errno(&store, |b| _ = b.add_name(257, 51, 258, b"sv")), libc::EEXIST);
    let other =
        NewInode { tree: 7, ino: 300, mode: 0o100644, uid: 0, gid: 0, rdev: 0, time: at(1), target: b"" };
    assert_eq!(errno(&store, |b| _ = b.push(&Change::NewInode(other))), libc::EROFS);
    store.writable = false;
    assert_eq!(errno(&store, |b| _ = b.file(300, b"x")), libc::EROFS);
}

#[test]
fn clone_is_reserved() {
    let clone = CloneRange {
        tree: TREE,
        source_ino: 258,
        source_offset: 0,
        length: 4096,
        ino: 258,
        offset: 4096,
        new_size: 8192,
        time: at(1),
    };
    assert_eq!(errno(&small_tree(), |b| _ = b.push(&Change::Clone(clone))), libc::EOPNOTSUPP);
}

/// A half-open key range.
type KeyRange = (Key, Key);

fn one(ino: u64, kind: u8, offset: u64) -> KeyRange {
    (Key::new(ino, kind, offset), Key::new(ino, kind, offset).successor().unwrap())
}

fn prefix(ino: u64) -> KeyRange {
    (Key::new(ino, 0, 0), Key::new(ino + 1, 0, 0))
}

fn name_keys(dir: u64, index: u64, ino: u64, name: &[u8]) -> Vec<KeyRange> {
    vec![
        one(dir, 84, name_hash(name)),
        one(dir, 96, index),
        one(dir, 1, 1),
        one(ino, 1, 1),
        one(ino, 12, dir),
    ]
}

fn packed(ranges: &[KeyRange], mode: Mode) -> Grants {
    let mut ranges = ranges.to_vec();
    ranges.sort();
    ranges.dedup();
    let mut bytes = Vec::new();
    for (start, end) in ranges {
        Grants::encode_entry(&Grant { tree: TREE, start, end, mode }, &mut bytes);
    }
    Grants::decode(&bytes).unwrap()
}

/// Each change of docs/protocol.md, "Which grants a change needs", is taken with exactly these and refused without any
/// one of them.
#[test]
fn each_change_needs_exactly_its_grants() {
    let mut store = small_tree();
    accept(&mut store, |b| {
        _ = b.put(258, 0, &[1; 20_000]).set_xattr(258, b"user.a", b"v", 0).new_inode(270, 0o100644)
    });
    let bytes = |start, end| (Key::new(258, 108, start), Key::new(258, 108, end));
    let rename_keys = || [name_keys(ROOT, 258, 258, b"f"), name_keys(257, 9, 258, b"g")].concat();
    let uid = Fields { uid: Some(1), ..Fields::default() };
    let atime = Fields { atime: Some(at(1)), ..Fields::default() };
    type Make = Box<dyn Fn(&mut Builder)>;
    let cases: Vec<(Make, Vec<KeyRange>)> = vec![
        (Box::new(|b| _ = b.new_inode(300, 0o100644)), vec![prefix(300)]),
        (Box::new(|b| _ = b.drop_inode(270)), vec![prefix(270)]),
        (Box::new(move |b| _ = b.set(258, uid)), vec![one(258, 1, 0)]),
        (Box::new(move |b| _ = b.set(258, atime)), vec![one(258, 1, 1)]),
        (Box::new(|b| _ = b.set_size(258, 30_000)), vec![one(258, 1, 1)]),
        (
            Box::new(|b| _ = b.set_size(258, 5_000)),
            vec![one(258, 1, 1), (Key::new(258, 108, 5_000), Key::new(258, 109, 0))],
        ),
        (Box::new(|b| _ = b.add_name(257, 9, 258, b"g")), name_keys(257, 9, 258, b"g")),
        (Box::new(|b| _ = b.remove_name(ROOT, 258, 258, b"f")), name_keys(ROOT, 258, 258, b"f")),
        (Box::new(|b| _ = b.rename(258, (ROOT, 258, b"f"), (257, 9, b"g"))), rename_keys()),
        (
            Box::new(|b| _ = b.set_xattr(258, b"user.b", b"", 0)),
            vec![one(258, 24, name_hash(b"user.b")), one(258, 1, 1)],
        ),
        (
            Box::new(|b| _ = b.remove_xattr(258, b"user.a")),
            vec![one(258, 24, name_hash(b"user.a")), one(258, 1, 1)],
        ),
        (Box::new(|b| _ = b.put(258, 4096, &[2; 8192])), vec![bytes(4096, 12_288), one(258, 1, 1)]),
        (Box::new(|b| _ = b.put(258, 16_384, &[2; 5000])), vec![bytes(16_384, 21_384), one(258, 1, 1)]),
        (Box::new(|b| _ = b.cut(258, 4096, 4096)), vec![bytes(4096, 8192), one(258, 1, 1)]),
        (Box::new(|b| _ = b.preallocate(258, 40_960, 4096, 0)), vec![bytes(40_960, 45_056), one(258, 1, 1)]),
    ];
    for (number, (make, keys)) in cases.iter().enumerate() {
        let mut batch = Builder::default();
        make(&mut batch);
        let with = |grants: &Grants| apply(&mut store.clone(), &batch.batch(), grants);
        with(&packed(keys, Mode::Write)).unwrap_or_else(|refusal| panic!("case {number}: {refusal:?}"));
        assert_eq!(with(&packed(keys, Mode::Read)).unwrap_err().errno, libc::EACCES);
        let mut distinct = keys.clone();
        distinct.sort();
        distinct.dedup();
        for missing in 0..distinct.len() {
            let mut some = distinct.clone();
            let (start, end) = some.remove(missing);
            let refusal = with(&packed(&some, Mode::Write)).expect_err("taken without a grant");
            assert_eq!(refusal.errno, libc::EACCES, "case {number}: {refusal:?}");
            assert!(
                refusal.text.contains("tree 5") && refusal.text.contains(&start.to_string()),
                "{refusal:?}"
            );
            // Part of a range is not enough.
            if start.successor() != Some(end) && start.kind != 0 {
                some.push((start, Key { offset: start.offset + 1, ..start }));
                assert!(with(&packed(&some, Mode::Write)).is_err());
            }
        }
    }
}
