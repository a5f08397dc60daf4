// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of data, one by one: inline and regular files, splits and shared extents, holes, preallocation, sizes, and
//! the deletes that are finished after a restart.

#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

mod change_common;

use change_common::builder::Builder;
use change_common::draw::{Draw, Seeded};
use change_common::fsck;
use change_common::model_store::{Extent, ModelStore, SECTOR};
use change_common::{ROOT, TREE};
use crfs_disk::constants::{file_extent, inode_flag};
use crfs_disk::file_extent::{FileExtent, FileExtentHead, FileExtentReg, encode_inline};
use crfs_disk::inode::InodeItem;
use crfs_disk::{Key, item_type, objectid};
use crfs_engine::change::codec::Fields;
use crfs_engine::change::orphans::{Progress, finish_deletes};
use crfs_engine::{DataRef, DiskRun, Store};

const FILE: u64 = 300;

/// A store with an empty file.
fn store() -> ModelStore {
    let mut store = ModelStore::new(16384, 4096);
    accept(&mut store, |b| _ = b.file(FILE, b"f"));
    store
}

fn accept(store: &mut ModelStore, make: impl FnOnce(&mut Builder)) {
    let mut batch = Builder::default();
    make(&mut batch);
    batch.accept(store);
}

fn errno(store: &ModelStore, make: impl FnOnce(&mut Builder)) -> i32 {
    let mut batch = Builder::default();
    make(&mut batch);
    batch.refuse(store).errno
}

/// Every extent item of a file: offset, and length if inline or the piece.
fn extents(store: &ModelStore, ino: u64) -> Vec<(u64, Result<FileExtentReg, usize>)> {
    let parse = |item| match FileExtent::parse(item).unwrap() {
        FileExtent::Inline { data, .. } => Err(data.len()),
        FileExtent::Reg(piece) => Ok(piece),
    };
    store.items_of(ino, item_type::EXTENT_DATA).map(|(key, item)| (key.offset, parse(item))).collect()
}

/// File offset, offset inside the extent, length of each piece.
fn pieces(store: &ModelStore, ino: u64) -> Vec<(u64, u64, u64)> {
    extents(store, ino)
        .into_iter()
        .map(|(at, piece)| {
            piece.map(|piece| (at / SECTOR, piece.offset / SECTOR, piece.num_bytes / SECTOR)).unwrap()
        })
        .collect()
}

fn inline_len(store: &ModelStore) -> Option<usize> {
    match extents(store, FILE)[..] {
        [(0, Err(len))] => Some(len),
        _ => None,
    }
}

fn contents(store: &ModelStore, ino: u64) -> Vec<u8> {
    let mut bytes = vec![0; store.inode(ino).size as usize];
    for (at, piece) in extents(store, ino) {
        let data = match piece {
            Err(_) => {
                store.item(Key::new(ino, item_type::EXTENT_DATA, 0)).unwrap()[FileExtentHead::SIZE..].to_vec()
            }
            Ok(piece) if piece.is_prealloc() || piece.is_hole() => Vec::new(),
            Ok(piece) => {
                let start = piece.disk_bytenr + piece.offset;
                let sectors = (start..start + piece.num_bytes).step_by(SECTOR as usize);
                sectors.flat_map(|at| store.sectors[&at].bytes.to_vec()).collect()
            }
        };
        let end = bytes.len().min(at as usize + data.len());
        if (at as usize) < end {
            bytes[at as usize..end].copy_from_slice(&data[..end - at as usize]);
        }
    }
    bytes
}

#[test]
fn a_file_is_inline_up_to_2048_bytes() {
    for (len, inline) in [(1, true), (2048, true), (2049, false), (4096, false)] {
        let mut store = store();
        let data: Vec<u8> = (0..len).map(|index| index as u8 | 1).collect();
        accept(&mut store, |b| _ = b.put(FILE, 0, &data));
        assert_eq!(inline_len(&store), inline.then_some(len), "{len}");
        assert_eq!(contents(&store, FILE), data);
    }
    // A whole padded sector of a short file is cut, a short payload of a longer one is filled up.
    let mut store = store();
    let mut sector = [0; 4096];
    sector[..3].copy_from_slice(b"abc");
    accept(&mut store, |b| _ = b.put_sized(FILE, 0, &sector, 3));
    assert_eq!((inline_len(&store), contents(&store, FILE)), (Some(3), b"abc".to_vec()));
    accept(&mut store, |b| _ = b.put_sized(FILE, 0, b"xyz", 5));
    assert_eq!((inline_len(&store), contents(&store, FILE)), (Some(5), b"xyz\0\0".to_vec()));
}

#[test]
fn an_inline_file_becomes_regular_when_it_grows() {
    let grown = |grow: &dyn Fn(&mut Builder)| {
        let mut store = store();
        accept(&mut store, |b| _ = b.put(FILE, 0, b"inline"));
        accept(&mut store, grow);
        assert_eq!(&contents(&store, FILE)[..6], b"inline");
        assert!(contents(&store, FILE)[6..].iter().all(|byte| *byte == 0 || *byte == 9));
        (inline_len(&store), store.inode(FILE).size, store.inode(FILE).nbytes)
    };
    assert_eq!(grown(&|b| _ = b.set_size(FILE, 2048)), (Some(2048), 2048, 2048));
    assert_eq!(grown(&|b| _ = b.set_size(FILE, 2049)), (None, 2049, 4096));
    assert_eq!(grown(&|b| _ = b.set_size(FILE, 1 << 20)), (None, 1 << 20, 4096));
    assert_eq!(grown(&|b| _ = b.put(FILE, 8192, &[9; 10])), (None, 8202, 8192));
    assert_eq!(grown(&|b| _ = b.preallocate(FILE, 0, 4096, 0)), (None, 6, 4096));
    assert_eq!(grown(&|b| _ = b.preallocate(FILE, 8192, 4096, 0)), (None, 6, 8192));
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, b"inline"));
    accept(&mut store, |b| _ = b.put(FILE, 0, &[5; 5000]));
    assert_eq!((inline_len(&store), contents(&store, FILE)), (None, vec![5; 5000]));
    // And not again inline while it has an extent behind the first sector, or one that reaches there.
    accept(&mut store, |b| _ = b.preallocate(FILE, 1 << 20, 4096, 0).set_size(FILE, 4096));
    accept(&mut store, |b| {
        _ = b.set_size(FILE, 10).preallocate(FILE, 1 << 20, 4096, 0).put(FILE, 0, &[6; 10])
    });
    assert_eq!((inline_len(&store), contents(&store, FILE)), (None, vec![6; 10]));
    accept(&mut store, |b| _ = b.cut(FILE, 1 << 20, 4096).put(FILE, 0, &[7; 10]));
    assert_eq!((inline_len(&store), contents(&store, FILE)), (Some(10), vec![7; 10]));
    accept(&mut store, |b| _ = b.set_size(FILE, 0).preallocate(FILE, 0, 4096, 0).put(FILE, 0, &[8; 10]));
    assert_eq!((inline_len(&store), contents(&store, FILE)), (Some(10), vec![8; 10]));
}

#[test]
fn shrinking_cuts_inline_data_and_whole_sectors() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, b"0123456789"));
    accept(&mut store, |b| _ = b.set_size(FILE, 4));
    assert_eq!((inline_len(&store), store.inode(FILE).nbytes), (Some(4), 4));
    accept(&mut store, |b| _ = b.set_size(FILE, 8));
    assert_eq!(contents(&store, FILE), b"0123\0\0\0\0");
    accept(&mut store, |b| _ = b.set_size(FILE, 0));
    assert!(extents(&store, FILE).is_empty());
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 40_960]));
    accept(&mut store, |b| _ = b.set_size(FILE, 4097));
    assert_eq!(pieces(&store, FILE), [(0, 0, 2)]);
    // The extent stays as large as it is; its end may not be reused.
    assert_eq!((store.inode(FILE).nbytes, store.extents.values().next().unwrap().len), (8192, 40_960));
    accept(&mut store, |b| _ = b.set_size(FILE, 0));
    assert!(store.extents.is_empty() && store.inode(FILE).nbytes == 0);
}

#[test]
fn an_overwrite_in_the_middle_splits() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 10 * 4096]));
    store.commit();
    accept(&mut store, |b| _ = b.put(FILE, 3 * 4096, &[2; 2 * 4096]));
    assert_eq!(pieces(&store, FILE), [(0, 0, 3), (3, 0, 2), (5, 5, 5)]);
    let first = store.extents.values().next().unwrap();
    assert_eq!(first.refs, [(DataRef { root: TREE, ino: FILE, offset: 0 }, 2)].into());
    // The head and the tail of what is left.
    accept(&mut store, |b| _ = b.put(FILE, 0, &[3; 4096]).put(FILE, 9 * 4096, &[4; 4096]));
    assert_eq!(pieces(&store, FILE), [(0, 0, 1), (1, 1, 2), (3, 0, 2), (5, 5, 4), (9, 0, 1)]);
    // All of it: the last references go.
    accept(&mut store, |b| _ = b.put(FILE, 0, &[5; 10 * 4096]));
    assert_eq!(store.extents.len(), 1);
    assert_eq!((contents(&store, FILE), store.inode(FILE).nbytes), (vec![5; 10 * 4096], 10 * 4096));
}

/// File 301 becomes a `cp --reflink` of file 300, from sector `skip` on.
fn reflink(store: &mut ModelStore, skip: u64) {
    accept(store, |b| _ = b.file(301, b"copy"));
    let (_, piece) = extents(store, FILE)[0];
    let mut piece = piece.unwrap();
    piece.offset = skip * SECTOR;
    piece.num_bytes -= skip * SECTOR;
    let run = DiskRun { bytenr: piece.disk_bytenr, len: piece.disk_num_bytes };
    let owner = DataRef { root: TREE, ino: 301, offset: 0_u64.wrapping_sub(piece.offset) };
    store.add_ref(run, owner, 1).unwrap();
    store.put(Key::new(301, item_type::EXTENT_DATA, 0), piece.encode().to_vec());
    let inode = InodeItem { size: piece.num_bytes, nbytes: piece.num_bytes, ..store.inode(301) };
    store.put(Key::new(301, item_type::INODE_ITEM, 0), inode.encode().to_vec());
    fsck::check(store).unwrap();
}

#[test]
fn shared_extents_keep_the_other_files_references() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 10 * 4096]));
    reflink(&mut store, 4);
    accept(&mut store, |b| _ = b.put(301, 2 * 4096, &[2; 4096]));
    assert_eq!(pieces(&store, 301), [(0, 4, 2), (2, 0, 1), (3, 7, 3)]);
    let refs = &store.extents.values().next().unwrap().refs;
    let owner = |ino, offset: i64| DataRef { root: TREE, ino, offset: offset as u64 };
    assert_eq!(*refs, [(owner(FILE, 0), 1), (owner(301, -4 * 4096), 2)].into());
    assert_eq!(contents(&store, FILE), vec![1; 10 * 4096]);
    accept(&mut store, |b| _ = b.remove_name(ROOT, FILE, FILE, b"f").drop_inode(FILE));
    assert_eq!(contents(&store, 301)[..8192], [1; 8192]);
    accept(&mut store, |b| _ = b.cut(301, 0, 1 << 30));
    assert!(store.extents.is_empty());
    // A shared extent does not grow in place.
    let mut store = self::store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 4096]));
    reflink(&mut store, 0);
    accept(&mut store, |b| _ = b.put(FILE, 4096, &[1; 4096]));
    assert_eq!(pieces(&store, FILE), [(0, 0, 1), (1, 0, 1)]);
}

#[test]
fn appends_lengthen_the_extent_of_the_running_transaction() {
    let mut store = store();
    for sector in 0..10 {
        accept(&mut store, |b| _ = b.put(FILE, sector * 4096, &[sector as u8 + 1; 4096]));
    }
    assert_eq!(pieces(&store, FILE), [(0, 0, 10)]);
    store.commit();
    accept(&mut store, |b| _ = b.put(FILE, 10 * 4096, &[1; 5000]));
    assert_eq!(pieces(&store, FILE), [(0, 0, 10), (10, 0, 2)]);
    // Next to it on disk all the same.
    let disk: Vec<u64> = extents(&store, FILE).iter().map(|(_, piece)| piece.unwrap().disk_bytenr).collect();
    assert_eq!(disk[1], disk[0] + 10 * 4096);
    // A file that was cut at its end does not grow into what it cut off.
    accept(&mut store, |b| _ = b.set_size(FILE, 11 * 4096).put(FILE, 11 * 4096, &[7; 4096]));
    assert_eq!(pieces(&store, FILE), [(0, 0, 10), (10, 0, 1), (11, 0, 1)]);
    assert_eq!(contents(&store, FILE)[11 * 4096..], [7; 4096]);
}

#[test]
fn short_runs_make_more_extents() {
    let mut store = store();
    store.longest_run = 3;
    let data: Vec<u8> = (0..40_000_u32).map(|index| (index / 5) as u8).collect();
    accept(&mut store, |b| _ = b.put(FILE, 0, &data));
    assert_eq!(pieces(&store, FILE), [(0, 0, 3), (3, 0, 3), (6, 0, 3), (9, 0, 1)]);
    assert_eq!(contents(&store, FILE), data);
    accept(&mut store, |b| _ = b.preallocate(FILE, 0, 20 * 4096, 0));
    assert_eq!(pieces(&store, FILE).len(), 8);
}

#[test]
fn extents_are_at_most_128_mib() {
    let mut store = ModelStore::new(16384, 1 << 17);
    accept(&mut store, |b| _ = b.file(FILE, b"f"));
    let mut batch = Builder::default();
    batch.preallocate(FILE, 0, 300 << 20, 0);
    batch.apply(&mut store).unwrap();
    let lengths: Vec<u64> = pieces(&store, FILE).iter().map(|piece| (piece.2 * SECTOR) >> 20).collect();
    assert_eq!(lengths, [128, 128, 44]);
    // A full one does not grow.
    let key = Key::new(FILE, item_type::EXTENT_DATA, 0);
    let piece = FileExtentReg {
        head: FileExtentHead { kind: file_extent::REG, ..extents(&store, FILE)[0].1.unwrap().head },
        ..extents(&store, FILE)[0].1.unwrap()
    };
    store.put(key, piece.encode().to_vec());
    let mut batch = Builder::default();
    batch.set_size(FILE, 128 << 20).cut(FILE, 128 << 20, 1 << 30).put(FILE, 128 << 20, &[1; 4096]);
    batch.apply(&mut store).unwrap();
    assert_eq!(pieces(&store, FILE).iter().map(|piece| piece.2).collect::<Vec<_>>(), [32_768, 1]);
}

#[test]
fn a_payload_must_fit_the_file_and_its_checksums() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 10_000]));
    // Part of a sector in the middle, and data beyond the end that the change gives the file.
    assert_eq!(errno(&store, |b| _ = b.put_sized(FILE, 0, &[2; 100], 0)), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.put_sized(FILE, 4096, &[2; 5000], 0)), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.put_sized(FILE, 12_288, &[2; 4096], 0)), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.put_sized(FILE, 8192, &[2; 4096], 0)), libc::EINVAL);
    let mut tail = [0; 4096];
    tail[..1808].fill(2);
    accept(&mut store, |b| _ = b.put_sized(FILE, 8192, &tail, 0));
    assert_eq!(errno(&store, |b| _ = b.put(ROOT, 0, b"x")), libc::EINVAL);
    assert_eq!(errno(&store, |b| _ = b.put(999, 0, b"x")), libc::ENOENT);
    // Inline or not, a wrong checksum is noticed in any sector.
    for (len, sector) in [(100, 0), (20_000, 0), (20_000, 3), (20_000, 4), (20_480, 4)] {
        let mut batch = Builder::default();
        batch.file(400, b"g").put(400, 0, &vec![3; len]);
        batch.checksums[sector * 4] ^= 1;
        let refusal = batch.refuse(&store);
        assert_eq!((refusal.index, refusal.errno), (2, libc::EIO));
        assert!(refusal.text.contains(&format!("sector at {}", sector * 4096)), "{}", refusal.text);
    }
}

#[test]
fn cut_makes_holes_and_preallocate_fills_them() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 10 * 4096]));
    accept(&mut store, |b| _ = b.cut(FILE, 2 * 4096, 3 * 4096));
    assert_eq!(pieces(&store, FILE), [(0, 0, 2), (5, 5, 5)]);
    accept(&mut store, |b| _ = b.preallocate(FILE, 4096, 12 * 4096, 0));
    let inode = store.inode(FILE);
    assert_eq!((inode.size, inode.nbytes, inode.flags), (10 * 4096, 13 * 4096, inode_flag::PREALLOC));
    assert_eq!(pieces(&store, FILE), [(0, 0, 2), (2, 0, 3), (5, 5, 5), (10, 0, 3)]);
    let mut expect = vec![1; 10 * 4096];
    expect[2 * 4096..5 * 4096].fill(0);
    assert_eq!(contents(&store, FILE), expect);
    // Data in the middle of preallocated space takes its place.
    accept(&mut store, |b| _ = b.put(FILE, 3 * 4096, &[8; 4096]).put(FILE, 11 * 4096, &[9; 100]));
    expect.resize(11 * 4096, 0);
    expect.extend([9; 100]);
    expect[3 * 4096..4 * 4096].fill(8);
    assert_eq!(contents(&store, FILE), expect);
    assert_eq!(store.inode(FILE).nbytes, 13 * 4096);
    // A new size takes what was reserved beyond the end.
    accept(&mut store, |b| _ = b.set_size(FILE, 11 * 4096));
    assert_eq!(store.inode(FILE).nbytes, 11 * 4096);
    accept(&mut store, |b| _ = b.preallocate(FILE, 1 << 40, 4096, (1 << 40) + 100));
    assert_eq!(store.inode(FILE).size, (1 << 40) + 100);
    accept(&mut store, |b| _ = b.cut(FILE, 0, 1 << 52));
    assert!(extents(&store, FILE).is_empty() && store.extents.is_empty());
    // Of an inline file the first sector is all there is.
    accept(&mut store, |b| _ = b.file(301, b"i").put(301, 0, b"inline").cut(301, 4096, 4096));
    assert_eq!(contents(&store, 301), b"inline");
    accept(&mut store, |b| _ = b.cut(301, 0, 4096));
    assert_eq!(contents(&store, 301), [0; 6]);
}

#[test]
fn a_full_store_refuses_with_enospc_and_goes_on() {
    let mut store = ModelStore::new(16384, 16);
    accept(&mut store, |b| _ = b.file(FILE, b"f").put(FILE, 0, &[1; 12 * 4096]));
    assert_eq!(errno(&store, |b| _ = b.put(FILE, 12 * 4096, &[2; 5 * 4096])), libc::ENOSPC);
    assert_eq!(errno(&store, |b| _ = b.preallocate(FILE, 1 << 30, 1 << 50, 0)), libc::ENOSPC);
    // New data needs new space, also where it replaces old.
    assert_eq!(errno(&store, |b| _ = b.put(FILE, 0, &[2; 5 * 4096])), libc::ENOSPC);
    accept(&mut store, |b| _ = b.put(FILE, 12 * 4096, &[2; 4 * 4096]));
    accept(&mut store, |b| _ = b.set_size(FILE, 0));
    assert_eq!(errno(&store, |b| _ = b.put(FILE, 0, &[2; 4096])), libc::ENOSPC);
    store.commit();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[2; 16 * 4096]));
}

#[test]
fn a_file_without_checksums_gets_none() {
    let mut store = store();
    let inode = InodeItem { flags: inode_flag::NODATASUM | inode_flag::NODATACOW, ..store.inode(FILE) };
    store.put(Key::new(FILE, item_type::INODE_ITEM, 0), inode.encode().to_vec());
    accept(&mut store, |b| _ = b.put(FILE, 0, b"inline"));
    accept(&mut store, |b| _ = b.put(FILE, 4096, &[1; 5000]));
    assert!(store.sectors.len() == 3 && store.sectors.values().all(|sector| !sector.checksummed));
    let keep = Fields { flags: Some(inode.flags | inode_flag::NODUMP), ..Fields::default() };
    accept(&mut store, |b| _ = b.set(FILE, keep));
}

#[test]
fn sealed_files_do_not_change() {
    let mut store = store();
    accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 8192]));
    let inode = InodeItem { flags: inode_flag::RO_VERITY, ..store.inode(FILE) };
    store.put(Key::new(FILE, item_type::INODE_ITEM, 0), inode.encode().to_vec());
    assert_eq!(errno(&store, |b| _ = b.put(FILE, 0, &[2; 4096])), libc::EPERM);
    assert_eq!(errno(&store, |b| _ = b.cut(FILE, 0, 4096)), libc::EPERM);
    assert_eq!(errno(&store, |b| _ = b.set_size(FILE, 0)), libc::EPERM);
    accept(&mut store, |b| _ = b.remove_name(ROOT, FILE, FILE, b"f").drop_inode(FILE));
}

/// Puts a compressed extent of one sector that holds `sectors` of the file at its start.
fn compress(store: &mut ModelStore, sectors: u64) {
    let run = store.allocate_data(SECTOR, None).unwrap();
    store.add_ref(run, DataRef { root: TREE, ino: FILE, offset: 0 }, 1).unwrap();
    let mut piece = FileExtentReg::plain(store.generation, file_extent::REG, run.bytenr, SECTOR);
    piece.head.compression = 3;
    piece.head.ram_bytes = sectors * SECTOR;
    piece.num_bytes = sectors * SECTOR;
    store.put(Key::new(FILE, item_type::EXTENT_DATA, 0), piece.encode().to_vec());
    let size = sectors * SECTOR;
    let inode = InodeItem { size, nbytes: size, ..store.inode(FILE) };
    store.put(Key::new(FILE, item_type::INODE_ITEM, 0), inode.encode().to_vec());
}

#[test]
fn compressed_extents_are_split_and_dropped_but_never_lengthened() {
    let mut store = store();
    compress(&mut store, 8);
    let mut batch = Builder::default();
    batch.put(FILE, 2 * 4096, &[1; 4096]).put(FILE, 8 * 4096, &[2; 4096]).set_size(FILE, 7 * 4096);
    batch.apply(&mut store).unwrap();
    let ram: Vec<u64> =
        extents(&store, FILE).iter().map(|(_, piece)| piece.unwrap().head.ram_bytes / SECTOR).collect();
    assert_eq!((pieces(&store, FILE), ram), (vec![(0, 0, 2), (2, 0, 1), (3, 3, 4)], vec![8, 1, 8]));
    assert_eq!(store.inode(FILE).nbytes, 7 * 4096);
    accept(&mut store, |b| _ = b.set_size(FILE, 0));
    assert!(store.extents.is_empty());
}

#[test]
fn compressed_inline_data_is_replaced_or_left_alone() {
    let mut store = store();
    let mut item = encode_inline(store.generation, b"zstd frame");
    item[8..16].copy_from_slice(&1000_u64.to_le_bytes());
    item[16] = 3;
    store.put(Key::new(FILE, item_type::EXTENT_DATA, 0), item);
    let inode = InodeItem { size: 1000, nbytes: 1000, ..store.inode(FILE) };
    store.put(Key::new(FILE, item_type::INODE_ITEM, 0), inode.encode().to_vec());
    assert_eq!(errno(&store, |b| _ = b.set_size(FILE, 10)), libc::EOPNOTSUPP);
    assert_eq!(errno(&store, |b| _ = b.set_size(FILE, 5000)), libc::EOPNOTSUPP);
    assert_eq!(errno(&store, |b| _ = b.put(FILE, 4096, b"x")), libc::EOPNOTSUPP);
    accept(&mut store.clone(), |b| _ = b.set_size(FILE, 0));
    accept(&mut store.clone(), |b| _ = b.put(FILE, 0, &[1; 1000]));
    accept(&mut store.clone(), |b| _ = b.put(FILE, 0, &[1; 5000]));
    accept(&mut store, |b| _ = b.remove_name(ROOT, FILE, FILE, b"f").drop_inode(FILE));
}

#[test]
fn hole_items_of_older_images_count_as_holes() {
    let mut store = store();
    accept(&mut store, |b| _ = b.set_size(FILE, 10 * 4096));
    let hole = FileExtentReg {
        num_bytes: 10 * 4096,
        ..FileExtentReg::plain(store.generation, file_extent::REG, 0, 0)
    };
    let hole = FileExtentReg { head: FileExtentHead { ram_bytes: 10 * 4096, ..hole.head }, ..hole };
    store.put(Key::new(FILE, item_type::EXTENT_DATA, 0), hole.encode().to_vec());
    let mut batch = Builder::default();
    batch.put(FILE, 3 * 4096, &[1; 4096]);
    batch.apply(&mut store).unwrap();
    let holes: Vec<bool> = extents(&store, FILE).iter().map(|(_, piece)| piece.unwrap().is_hole()).collect();
    assert_eq!((holes, store.inode(FILE).nbytes), (vec![true, false, true], 4096));
    accept(&mut store, |b| _ = b.preallocate(FILE, 0, 10 * 4096, 0));
    assert_eq!(store.inode(FILE).nbytes, 10 * 4096);
}

#[test]
fn broken_items_are_corruption_and_no_panic() {
    let good = {
        let mut store = store();
        accept(&mut store, |b| _ = b.put(FILE, 0, &[1; 8 * 4096]).set_xattr(FILE, b"user.a", b"v", 0));
        store
    };
    let mut everything = Builder::default();
    everything.put(FILE, 4096, &[2; 4096]).preallocate(FILE, 0, 64 * 4096, 0).set_size(FILE, 5000);
    everything.set_xattr(FILE, b"user.a", b"w", 0).add_name(ROOT, 9, FILE, b"g");
    everything.rename(FILE, (ROOT, FILE, b"f"), (ROOT, 10, b"h")).remove_name(ROOT, 9, FILE, b"g");
    everything.remove_name(ROOT, 10, FILE, b"h").drop_inode(FILE);
    everything.accept(&mut good.clone());
    let keys: Vec<Key> = good.items.keys().map(|(_, key)| *key).collect();
    let mut draw = Seeded(5);
    for _ in 0..20_000 {
        let mut store = good.clone();
        let key = draw.pick(&keys);
        let mut item = store.item(key).unwrap().to_vec();
        let at = draw.index(item.len());
        item[at] ^= 1 << draw.below(8);
        if draw.one_in(5) {
            item.truncate(at);
        }
        store.put(key, item);
        // References that the damage makes wrong are the real store's to notice.
        for extent in store.extents.values_mut() {
            for offset in (0..64).map(|sector: u64| sector.wrapping_mul(SECTOR)) {
                extent.refs.insert(DataRef { root: TREE, ino: FILE, offset }, 9);
                extent.refs.insert(DataRef { root: TREE, ino: FILE, offset: 0_u64.wrapping_sub(offset) }, 9);
            }
        }
        if key.kind == item_type::EXTENT_DATA {
            // The model store panics about addresses that lead nowhere; lead them back.
            let Ok(FileExtent::Reg(mut piece)) = FileExtent::parse(store.item(key).unwrap()) else {
                continue;
            };
            let (bytenr, extent) = good.extents.iter().next().unwrap();
            (piece.disk_bytenr, piece.disk_num_bytes) = (*bytenr, extent.len);
            piece.offset &= 0xffff;
            store.put(key, piece.encode().to_vec());
            allow_any(&mut store, &piece);
        }
        let _ = everything.apply(&mut store);
    }
}

/// Gives the extent the reference that this piece of it would have.
fn allow_any(store: &mut ModelStore, piece: &FileExtentReg) {
    let extent: &mut Extent = store.extents.get_mut(&piece.disk_bytenr).unwrap();
    extent.refs.insert(DataRef { root: TREE, ino: FILE, offset: 0_u64.wrapping_sub(piece.offset) }, 9);
}

#[test]
fn deletes_are_finished_in_small_legal_steps() {
    let mut store = store();
    store.longest_run = 1;
    accept(&mut store, |b| {
        b.put(FILE, 0, &[1; 20 * 4096])
            .set_xattr(FILE, b"user.a", b"v", 0)
            .remove_name(ROOT, FILE, FILE, b"f");
        b.new_inode(301, 0o100644).put(301, 0, b"inline");
        b.new_inode(302, 0o040755).new_inode(303, 0o100644).file(304, b"stays");
    });
    // What a crash of Linux can leave: an item without inode, and one of a file that has a name.
    for ino in [290, 304] {
        store.put(Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, ino), Vec::new());
    }
    let (mut next, mut calls, mut deleted) = (Some(0), 0, 0);
    while let Some(from) = next {
        let before = store.items.len();
        let progress = finish_deletes(&mut store, TREE, from, 3, |ino| ino == 303).unwrap();
        assert!(before - store.items.len() <= 8, "{} items in one call", before - store.items.len());
        (next, deleted, calls) = (progress.next, deleted + progress.deleted, calls + 1);
        if calls > 2 {
            // The two foreign items may be there until their turn.
            let mut view = store.clone();
            view.items.remove(&(TREE, Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, 304)));
            fsck::check(&view).unwrap();
        }
    }
    assert!(calls >= 7, "{calls}");
    assert_eq!(deleted, 5);
    fsck::check(&store).unwrap();
    let left: Vec<u64> =
        store.items.keys().map(|(_, key)| key.objectid).filter(|ino| *ino > 256 && *ino < 999).collect();
    assert!(left.iter().all(|ino| matches!(ino, 303 | 304)), "{left:?}");
    let rest = finish_deletes(&mut store, TREE, 0, 100, |_| false).unwrap();
    assert_eq!(rest, Progress { deleted: 1, next: None });
    assert_eq!(finish_deletes(&mut store, TREE, 0, 100, |_| false).unwrap(), Progress::default());
    fsck::check(&store).unwrap();
}
