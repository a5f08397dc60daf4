// SPDX-License-Identifier: GPL-2.0-or-later
//! Damage: one bad copy of metadata is answered by the other and noted; two bad copies or bad data are an EIO with one
//! precise line; mutated but correctly sealed trees never make the engine panic.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod support;

use crfs_device::{BlockDevice, FaultyDevice, MemoryDevice};
use crfs_disk::constants::{block_group, item_type, objectid};
use crfs_disk::header::seal;
use crfs_disk::{ChecksumKind, Expect, Header, ItemHeader, Key};
use crfs_engine::{EngineError, Image, OpenOptions, open_image};
use crfs_testkit::{LoopMount, mkfs_btrfs, pattern, scratch_dir};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// A small image that Linux wrote some files into.
fn sample() -> MemoryDevice {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    mkfs_btrfs(&image, 128 << 20, &[]);
    let mount = LoopMount::new(&image, "");
    let dir = mount.path().join("dir");
    std::fs::create_dir(&dir).unwrap();
    for number in 0..600_usize {
        std::fs::write(dir.join(number.to_string()), pattern(number as u64, number * 20)).unwrap();
    }
    std::os::unix::fs::symlink("target", dir.join("symlink")).unwrap();
    std::fs::hard_link(dir.join("1"), dir.join("link")).unwrap();
    mount.unmount();
    MemoryDevice::from_file(&image).unwrap()
}

/// Opens with the log lines kept.
fn open_logged(device: Arc<dyn BlockDevice>) -> (crfs_engine::Result<Image>, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let log = Arc::new(move |line: &str| sink.lock().unwrap().push(line.to_string()));
    (open_image(device, OpenOptions { read_only: false, log }), lines)
}

/// Every tree block: what points to it, and where its copies are.
fn all_blocks(image: &Image) -> Vec<(Expect, Vec<u64>)> {
    let mut blocks = Vec::new();
    let trees = [objectid::ROOT_TREE, objectid::CHUNK_TREE].into_iter().chain(image.roots.keys().copied());
    for tree in trees {
        image
            .tree(tree)
            .unwrap()
            .scan_blocks(|expect, _| {
                blocks.push((*expect, image.reader.chunks().map(expect.bytenr, 16384).unwrap().physical));
                Ok(())
            })
            .unwrap();
    }
    blocks
}

fn flip(device: &MemoryDevice, at: u64) {
    let mut byte = [0];
    device.read_at(at, &mut byte).unwrap();
    device.write_at(at, &[byte[0] ^ 0x10]).unwrap();
}

#[test]
fn the_second_copy_answers_and_the_bad_one_is_noted() {
    let sound = sample();
    let image = support::open(Arc::new(sound.clone()), false).unwrap();
    let blocks = all_blocks(&image);
    let damaged = Arc::new(sound.clone());
    for (number, (_, physical)) in blocks.iter().enumerate() {
        assert_eq!(physical.len(), 2);
        flip(&damaged, physical[number % 2] + 200);
    }
    let (opened, lines) = open_logged(damaged.clone());
    let image = opened.unwrap();
    for (expect, _) in &blocks {
        image.reader.read_block(expect).unwrap();
    }
    let bad = image.reader.take_bad_copies();
    // Bad second copies are never read.
    assert_eq!(bad.len(), blocks.len().div_ceil(2));
    assert!(image.reader.counters().copies_failed >= bad.len() as u64);
    let first = lines.lock().unwrap().first().cloned().unwrap();
    assert!(first.contains("checksum mismatch") && first.contains("the other copy is good"), "{first}");
    for copy in &bad {
        let (expect, _) = blocks.iter().find(|(expect, _)| expect.bytenr == copy.logical).unwrap();
        assert_eq!(expect.generation, copy.generation);
        let good = image.reader.read_block(expect).unwrap();
        image.reader.rewrite_copy(copy, &good).unwrap();
    }
    let before = image.reader.counters().copies_failed;
    for (expect, _) in &blocks {
        image.reader.read_block(expect).unwrap();
    }
    assert_eq!(image.reader.counters().copies_failed, before);
}

#[test]
fn two_bad_copies_are_one_precise_error() {
    let sound = sample();
    let image = support::open(Arc::new(sound.clone()), false).unwrap();
    let (expect, physical) =
        all_blocks(&image).into_iter().find(|(expect, _)| expect.owner == Some(5)).unwrap();
    for at in physical {
        flip(&sound, at + 5000);
    }
    let image = support::open(Arc::new(sound), false).unwrap();
    let error = image.reader.read_block(&expect).unwrap_err();
    assert_eq!(error.errno(), libc::EIO);
    let start = format!("corrupt tree block: root=5 block={}, checksum mismatch, have 0x", expect.bytenr);
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn a_device_error_on_one_copy_is_survived() {
    let sound = sample();
    let image = support::open(Arc::new(sound.clone()), false).unwrap();
    let (expect, _) = all_blocks(&image).swap_remove(0);
    let faulty = Arc::new(FaultyDevice::new(sound));
    let image = support::open(faulty.clone(), false).unwrap();
    faulty.fail_read_after(0);
    image.reader.read_block(&expect).unwrap();
    assert_eq!(image.reader.take_bad_copies().len(), 1);
}

#[test]
fn bad_data_is_an_error_that_names_the_sector() {
    let sound = sample();
    let image = support::open(Arc::new(sound.clone()), false).unwrap();
    let mut found = None;
    image
        .tree(objectid::CSUM_TREE)
        .unwrap()
        .scan(Key::MIN, |key, csums| {
            if csums.len() / 4 <= 3 {
                return Ok(ControlFlow::Continue(()));
            }
            found = Some((key.offset, csums.to_vec()));
            Ok(ControlFlow::Break(()))
        })
        .unwrap();
    let (logical, csums) = found.unwrap();
    let sectors = csums.len() / 4;
    let physical = image.reader.chunks().map(logical, 4096).unwrap().physical[0];
    flip(&sound, physical + 2 * 4096 + 17);
    let image = support::open(Arc::new(sound), false).unwrap();
    let mut buf = vec![0; sectors * 4096];
    let error = image.reader.read_data_checked(logical, &mut buf, &csums).unwrap_err();
    assert_eq!(error.errno(), libc::EIO);
    let start =
        format!("corrupt data: logical={} physical={}, checksum mismatch", logical + 8192, physical + 8192);
    assert!(error.to_string().starts_with(&start), "{error}");
    image.reader.read_data_checked(logical, &mut buf[..8192], &csums[..8]).unwrap();
    assert!(image.reader.read_data_checked(logical, &mut buf[..8192], &csums[..4]).is_err());
    image.reader.read_data(logical, &mut buf).unwrap();
}

/// A small generator of its own, so that a failure names a seed that repeats it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Changes some bytes of some tree blocks and seals the blocks again, so that only verification of members and the checks
/// between blocks stand between the bytes and the engine.
#[test]
fn sealed_but_mutated_trees_never_panic() {
    let sound = sample();
    let image = support::open(Arc::new(sound.clone()), false).unwrap();
    let blocks = all_blocks(&image);
    let mut opened_count = 0;
    for seed in 0..1500 {
        let mut random = Random(seed);
        let device = sound.clone();
        for _ in 0..=random.below(3) {
            let (_, physical) = &blocks[random.below(blocks.len())];
            let mut block = vec![0; 16384];
            device.read_at(physical[0], &mut block).unwrap();
            for _ in 0..=random.below(3) {
                let items = u32::from_le_bytes(block[96..100].try_into().unwrap()) as usize;
                let place = match random.below(3) {
                    0 => 80 + random.below(21),
                    1 => Header::SIZE + random.below((items * ItemHeader::SIZE).clamp(1, 16000)),
                    _ => 16383 - random.below(8000),
                };
                block[place] = random.below(256) as u8;
            }
            seal(&mut block, ChecksumKind::Crc32c);
            for at in physical {
                device.write_at(*at, &block).unwrap();
            }
        }
        let (opened, _) = open_logged(Arc::new(device));
        let Ok(image) = opened else { continue };
        opened_count += 1;
        walk_or_fail(&image);
    }
    assert!(opened_count > 100, "{opened_count}");
}

/// Reads everything that can be read; errors are fine, panics are not.
fn walk_or_fail(image: &Image) {
    let mut buf = vec![0; 16 << 20];
    for tree in image.roots.keys() {
        let result = image.tree(*tree).and_then(|tree| {
            tree.scan(Key::MIN, |key, data| {
                if key.kind == item_type::EXTENT_CSUM && data.len() / 4 * 4096 <= buf.len() {
                    let buf = &mut buf[..data.len() / 4 * 4096];
                    match image.reader.read_data_checked(key.offset, buf, data) {
                        Ok(()) | Err(EngineError::Corrupt(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
        });
        match result {
            Ok(()) | Err(EngineError::Corrupt(_)) => {}
            Err(error) => panic!("an error of the wrong kind: {error}"),
        }
    }
    assert!(image.reader.chunks().iter().all(|chunk| chunk.flags & block_group::TYPE_MASK != 0));
}
