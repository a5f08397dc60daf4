// SPDX-License-Identifier: GPL-2.0-or-later
//! Random and mutated blocks: verification answers, whatever the bytes are, and what it accepts can be parsed to the end.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

use crfs_disk::chunk::{BlockGroupItem, Chunk, ChunkHead, DevExtent, DevItem, Stripe};
use crfs_disk::constants::{block_group, extent_flag, file_extent, file_type};
use crfs_disk::dir::{DirEntry, dir_entries};
use crfs_disk::extent::{ExtentDataRef, ExtentHead, ExtentItem, InlineRef};
use crfs_disk::file_extent::{FileExtent, FileExtentReg, encode_inline};
use crfs_disk::free_space::FreeSpaceInfo;
use crfs_disk::hash::{extref_hash, name_hash};
use crfs_disk::header::seal;
use crfs_disk::inode::{InodeExtref, InodeItem, InodeRef, inode_extrefs, inode_refs};
use crfs_disk::root::{RootItem, RootRef};
use crfs_disk::verify::VerifyError;
use crfs_disk::{
    ChecksumKind, Expect, Geometry, Header, ItemHeader, Key, KeyPtr, Leaf, Node, Uuid, item_type, objectid,
    verify_block,
};
use proptest::prelude::*;

const NODESIZE: usize = 4096;
const BYTENR: u64 = 1 << 20;

const GEOMETRY: Geometry = Geometry {
    nodesize: NODESIZE as u32,
    sectorsize: 4096,
    checksum: ChecksumKind::Crc32c,
    metadata_id: Uuid([7; 16]),
    chunk_tree_uuid: Some(Uuid([8; 16])),
    super_generation: 10,
    skinny_metadata: true,
};

fn header(owner: u64, level: u8, nritems: usize) -> Header {
    Header {
        csum: [0; 32],
        fsid: GEOMETRY.metadata_id,
        bytenr: BYTENR,
        flags: Header::WRITTEN_FLAGS,
        chunk_tree_uuid: Uuid([8; 16]),
        generation: 9,
        owner,
        nritems: nritems as u32,
        level,
    }
}

fn leaf(owner: u64, items: &[(Key, Vec<u8>)]) -> Vec<u8> {
    let mut block = vec![0; NODESIZE];
    header(owner, 0, items.len()).write_to(&mut block);
    let mut end = NODESIZE;
    for (slot, (key, data)) in items.iter().enumerate() {
        block[end - data.len()..end].copy_from_slice(data);
        end -= data.len();
        ItemHeader { key: *key, offset: (end - Header::SIZE) as u32, size: data.len() as u32 }
            .write_to(&mut block[Header::SIZE + slot * ItemHeader::SIZE..]);
    }
    seal(&mut block, ChecksumKind::Crc32c);
    block
}

fn node(pointers: &[KeyPtr]) -> Vec<u8> {
    let mut block = vec![0; NODESIZE];
    header(5, 1, pointers.len()).write_to(&mut block);
    for (slot, pointer) in pointers.iter().enumerate() {
        pointer.write_to(&mut block[Header::SIZE + slot * KeyPtr::SIZE..]);
    }
    seal(&mut block, ChecksumKind::Crc32c);
    block
}

fn verify(block: &[u8]) -> Result<(), VerifyError> {
    verify_block(block, &Expect { bytenr: BYTENR, ..Expect::default() }, &GEOMETRY)
}

fn complaint(block: &[u8]) -> String {
    verify(block).expect_err("the block is bad").to_string()
}

fn inode(ino: u64) -> (Key, Vec<u8>) {
    let item = InodeItem { generation: 3, transid: 9, nlink: 1, mode: 0o100644, ..InodeItem::ZERO };
    (Key::new(ino, item_type::INODE_ITEM, 0), item.encode().to_vec())
}

/// One sound leaf of each kind.
fn sound_leaves() -> Vec<Vec<u8>> {
    vec![fs_leaf(), extent_leaf(), chunk_leaf(), root_leaf(), free_space_leaf(), csum_leaf()]
}

fn fs_leaf() -> Vec<u8> {
    let mut refs = Vec::new();
    InodeRef { index: 2, name: b"one" }.append_to(&mut refs);
    InodeRef { index: 3, name: b"two" }.append_to(&mut refs);
    let mut extref = Vec::new();
    InodeExtref { parent: 256, index: 4, name: b"three" }.append_to(&mut extref);
    let mut dir = Vec::new();
    let location = Key::new(258, item_type::INODE_ITEM, 0);
    DirEntry { location, transid: 9, kind: file_type::REG_FILE, name: b"name", data: b"" }
        .append_to(&mut dir);
    let mut xattr = Vec::new();
    DirEntry { location: Key::MIN, transid: 9, kind: file_type::XATTR, name: b"user.x", data: b"value" }
        .append_to(&mut xattr);
    let mut reg = FileExtentReg::plain(9, file_extent::REG, 1 << 22, 8192);
    reg.num_bytes = 4096;
    reg.offset = 4096;
    let prealloc = FileExtentReg::plain(9, file_extent::PREALLOC, 1 << 23, 4096);
    leaf(
        5,
        &[
            inode(257),
            (Key::new(257, item_type::INODE_REF, 256), refs),
            (Key::new(257, item_type::INODE_EXTREF, extref_hash(256, b"three")), extref),
            (Key::new(257, item_type::XATTR_ITEM, name_hash(b"user.x")), xattr),
            (Key::new(257, item_type::DIR_ITEM, name_hash(b"name")), dir.clone()),
            (Key::new(257, item_type::DIR_INDEX, 2), dir),
            (Key::new(257, item_type::EXTENT_DATA, 0), reg.encode().to_vec()),
            (Key::new(257, item_type::EXTENT_DATA, 8192), prealloc.encode().to_vec()),
            inode(258),
            (Key::new(258, item_type::EXTENT_DATA, 0), encode_inline(9, b"small")),
            (Key::new(objectid::ORPHAN, item_type::ORPHAN_ITEM, 258), Vec::new()),
        ],
    )
}

fn extent_leaf() -> Vec<u8> {
    let refs = |offset| InlineRef::Data(ExtentDataRef { root: 5, ino: 257, offset, count: 1 });
    let mut data = ExtentItem {
        head: ExtentHead { refs: 5, generation: 9, flags: extent_flag::DATA },
        block_info: None,
        inline_refs: Vec::new(),
    };
    for new in [refs(0), InlineRef::SharedData { parent: 8192, count: 2 }, refs(4096)] {
        data.inline_refs.insert(data.insert_position(&new), new);
    }
    let block = ExtentItem {
        head: ExtentHead { refs: 1, generation: 9, flags: extent_flag::TREE_BLOCK },
        block_info: None,
        inline_refs: vec![InlineRef::TreeBlock { root: 5 }],
    };
    let group = BlockGroupItem { used: 8192, chunk_objectid: 256, flags: block_group::DATA };
    let keyed = ExtentDataRef { root: 5, ino: 300, offset: 0, count: 1 };
    leaf(
        objectid::EXTENT_TREE,
        &[
            (Key::new(4 << 20, item_type::EXTENT_ITEM, 8192), data.encode()),
            (Key::new(4 << 20, item_type::EXTENT_DATA_REF, keyed.hash()), keyed.encode().to_vec()),
            (Key::new(4 << 20, item_type::SHARED_DATA_REF, 4096), 3_u32.to_le_bytes().to_vec()),
            (Key::new(4 << 20, item_type::BLOCK_GROUP_ITEM, 8 << 20), group.encode().to_vec()),
            (Key::new(16 << 20, item_type::METADATA_ITEM, 0), block.encode()),
            (Key::new(16 << 20, item_type::SHARED_BLOCK_REF, 8192), Vec::new()),
        ],
    )
}

fn chunk_leaf() -> Vec<u8> {
    let device = DevItem {
        devid: 1,
        total_bytes: 1 << 30,
        bytes_used: 8 << 20,
        io_align: 4096,
        io_width: 4096,
        sector_size: 4096,
        kind: 0,
        generation: 0,
        start_offset: 0,
        dev_group: 0,
        seek_speed: 0,
        bandwidth: 0,
        uuid: Uuid([9; 16]),
        fsid: GEOMETRY.metadata_id,
    };
    let head = ChunkHead {
        length: 8 << 20,
        owner: 2,
        stripe_len: 65536,
        flags: block_group::METADATA | block_group::DUP,
        io_align: 65536,
        io_width: 65536,
        sector_size: 4096,
        num_stripes: 2,
        sub_stripes: 1,
    };
    let stripe = |offset| Stripe { devid: 1, offset, dev_uuid: device.uuid };
    let chunk = Chunk { head, stripes: vec![stripe(8 << 20), stripe(16 << 20)] };
    let extent = DevExtent {
        chunk_tree: 3,
        chunk_objectid: 256,
        chunk_offset: 8 << 20,
        length: 8 << 20,
        chunk_tree_uuid: Uuid([8; 16]),
    };
    leaf(
        objectid::CHUNK_TREE,
        &[
            (Key::new(1, item_type::DEV_EXTENT, 8 << 20), extent.encode().to_vec()),
            (Key::new(1, item_type::DEV_EXTENT, 16 << 20), extent.encode().to_vec()),
            (Key::new(1, item_type::DEV_ITEM, 1), device.encode().to_vec()),
            (Key::new(256, item_type::CHUNK_ITEM, 8 << 20), chunk.encode()),
        ],
    )
}

fn root_leaf() -> Vec<u8> {
    let root = RootItem::new(1 << 21, 0, 9, NODESIZE as u32);
    let link = RootRef { dirid: 256, sequence: 2, name: b"subvolume" };
    leaf(
        objectid::ROOT_TREE,
        &[
            (Key::new(5, item_type::ROOT_ITEM, 0), root.encode().to_vec()),
            (Key::new(5, item_type::ROOT_REF, 256), link.encode()),
            (Key::new(256, item_type::ROOT_ITEM, 0), root.encode().to_vec()),
            (Key::new(256, item_type::ROOT_BACKREF, 5), link.encode()),
            (Key::new(300, item_type::UUID_KEY_SUBVOL, 78), 5_u64.to_le_bytes().to_vec()),
        ],
    )
}

fn free_space_leaf() -> Vec<u8> {
    let info = FreeSpaceInfo { extent_count: 2, flags: 0 };
    leaf(
        objectid::FREE_SPACE_TREE,
        &[
            (Key::new(1 << 20, item_type::FREE_SPACE_INFO, 8 << 20), info.encode().to_vec()),
            (Key::new(1 << 20, item_type::FREE_SPACE_EXTENT, 4096), Vec::new()),
            (Key::new(2 << 20, item_type::FREE_SPACE_BITMAP, 1 << 20), vec![0xaa; 32]),
        ],
    )
}

fn csum_leaf() -> Vec<u8> {
    let key = |at| Key::new(objectid::EXTENT_CSUM, item_type::EXTENT_CSUM, at);
    leaf(objectid::CSUM_TREE, &[(key(1 << 20), vec![1; 40]), (key(2 << 20), vec![2; 4])])
}

#[test]
fn sound_blocks_pass() {
    for block in sound_leaves() {
        verify(&block).unwrap();
    }
    let pointer = |ino, bytenr| KeyPtr { key: Key::new(ino, 1, 0), bytenr, generation: 9 };
    verify(&node(&[pointer(256, 4096), pointer(300, 8192)])).unwrap();
}

#[test]
fn the_line_names_tree_block_slot_and_keys() {
    let block = leaf(5, &[(Key::new(257, 12, 256), Vec::new()), inode(257)]);
    // The first item is judged before the order of the second.
    assert!(complaint(&block).contains("slot=0 key=(257 12 256), invalid item size"));
    let mut refs = Vec::new();
    InodeRef { index: 2, name: b"one" }.append_to(&mut refs);
    let block = leaf(5, &[(Key::new(257, 12, 256), refs), inode(257)]);
    assert_eq!(
        complaint(&block),
        "corrupt leaf: root=5 block=1048576 slot=1, invalid key order, have (257 1 0) after (257 12 256)"
    );
}

#[test]
fn headers_are_held_against_what_points_to_the_block() {
    let block = fs_leaf();
    let good = Expect {
        bytenr: BYTENR,
        generation: Some(9),
        level: Some(0),
        owner: Some(258),
        first_key: Some(Key::new(257, 1, 0)),
    };
    verify_block(&block, &good, &GEOMETRY).unwrap();
    let refused = |expect: Expect, words: &str| {
        let text = verify_block(&block, &expect, &GEOMETRY).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    refused(Expect { bytenr: 4096, ..good }, "bytenr mismatch");
    refused(Expect { generation: Some(8), ..good }, "parent transid mismatch");
    refused(Expect { level: Some(1), ..good }, "level mismatch");
    refused(Expect { owner: Some(objectid::CSUM_TREE), ..good }, "owner mismatch");
    refused(Expect { first_key: Some(Key::new(256, 1, 0)), ..good }, "first key mismatch");
    let other = Geometry { metadata_id: Uuid::NIL, ..GEOMETRY };
    assert!(verify_block(&block, &good, &other).unwrap_err().to_string().contains("fsid mismatch"));
    let old = Geometry { super_generation: 7, ..GEOMETRY };
    assert!(
        verify_block(&block, &good, &old).unwrap_err().to_string().contains("above that of the superblock")
    );
    let mut flipped = block.clone();
    flipped[2000] ^= 1;
    assert!(complaint(&flipped).contains("checksum mismatch"));
}

#[test]
fn bad_items_are_named() {
    let dir = |name: &[u8], key| {
        let mut data = Vec::new();
        let location = Key::new(300, item_type::INODE_ITEM, 0);
        DirEntry { location, transid: 9, kind: file_type::REG_FILE, name, data: b"" }.append_to(&mut data);
        leaf(5, &[inode(257), (Key::new(257, item_type::DIR_ITEM, key), data)])
    };
    assert!(complaint(&dir(b"a/b", name_hash(b"a/b"))).contains("illegal name"));
    assert!(complaint(&dir(b"..", name_hash(b".."))).contains("illegal name"));
    assert!(complaint(&dir(b"name", 1)).contains("name hash mismatch"));
    let extent = |change: fn(&mut FileExtentReg)| {
        let mut extent = FileExtentReg::plain(9, file_extent::REG, 1 << 22, 8192);
        change(&mut extent);
        leaf(5, &[inode(257), (Key::new(257, item_type::EXTENT_DATA, 0), extent.encode().to_vec())])
    };
    verify(&extent(|_| ())).unwrap();
    for change in [
        (|extent| extent.num_bytes = 0) as fn(&mut FileExtentReg),
        |extent| extent.num_bytes = 12288,
        |extent| extent.offset = u64::MAX - 4095,
        |extent| extent.disk_bytenr = 5,
        |extent| extent.disk_num_bytes = 4096,
        |extent| extent.head.compression = 4,
        |extent| extent.head.encryption = 1,
        |extent| extent.head.generation = 12,
        |extent| (extent.head.kind, extent.disk_bytenr) = (file_extent::PREALLOC, 0),
    ] {
        complaint(&extent(change));
    }
    let unordered = ExtentItem {
        head: ExtentHead { refs: 2, generation: 9, flags: extent_flag::TREE_BLOCK },
        block_info: None,
        inline_refs: vec![InlineRef::TreeBlock { root: 5 }, InlineRef::TreeBlock { root: 256 }],
    };
    let block =
        leaf(objectid::EXTENT_TREE, &[(Key::new(1 << 20, item_type::METADATA_ITEM, 0), unordered.encode())]);
    assert!(complaint(&block).contains("inline refs out of order"));
    let orphaned = leaf(5, &[inode(257), (Key::new(258, item_type::EXTENT_DATA, 0), encode_inline(9, b"x"))]);
    assert!(complaint(&orphaned).contains("invalid previous key objectid"));
    assert!(complaint(&leaf(5, &[])).contains("must never be empty"));
    verify(&leaf(256, &[])).unwrap();
}

/// Parses everything that an accepted block holds, as its users do.
fn use_block(block: &[u8]) {
    let header = Header::parse(block).unwrap();
    if header.level > 0 {
        for pointer in Node(block).iter() {
            std::hint::black_box(pointer);
        }
        return;
    }
    let leaf = Leaf(block);
    assert_eq!(leaf.iter().count(), header.nritems as usize);
    for (key, data) in leaf.iter() {
        match key.kind {
            item_type::INODE_ITEM => drop(InodeItem::parse(data).unwrap()),
            item_type::INODE_REF => assert!(inode_refs(data).all(|entry| entry.is_ok())),
            item_type::INODE_EXTREF => assert!(inode_extrefs(data).all(|entry| entry.is_ok())),
            item_type::DIR_ITEM | item_type::DIR_INDEX | item_type::XATTR_ITEM => {
                assert!(dir_entries(data).all(|entry| entry.is_ok()));
            }
            item_type::EXTENT_DATA => drop(FileExtent::parse(data).unwrap()),
            item_type::EXTENT_ITEM | item_type::METADATA_ITEM => {
                drop(ExtentItem::parse(data, key.kind).unwrap())
            }
            item_type::CHUNK_ITEM => drop(Chunk::parse(data).unwrap()),
            item_type::ROOT_ITEM => drop(RootItem::parse_any(data).unwrap()),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(mut block in proptest::collection::vec(any::<u8>(), NODESIZE), level in 0..3_u8, items in 0..300_u32) {
        header(5, level, 0).write_to(&mut block);
        block[96..100].copy_from_slice(&items.to_le_bytes());
        seal(&mut block, ChecksumKind::Crc32c);
        if verify(&block).is_ok() {
            use_block(&block);
        }
    }

    #[test]
    fn any_length(block in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(verify(&block).is_err());
        let geometry = Geometry { nodesize: block.len() as u32, ..GEOMETRY };
        prop_assert!(verify_block(&block, &Expect::default(), &geometry).is_err());
    }

    #[test]
    fn mutated_blocks(
        which in 0..6_usize,
        // Near item headers and near item data, where it hurts.
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>(), any::<u8>()), 1..6),
    ) {
        let mut block = sound_leaves().swap_remove(which);
        for (place, front, value) in &edits {
            let at = if *front { 80 + place.index(320) } else { NODESIZE - 1 - place.index(900) };
            block[at] = *value;
        }
        seal(&mut block, ChecksumKind::Crc32c);
        if verify(&block).is_ok() {
            use_block(&block);
        }
    }

    #[test]
    fn random_superblocks(mut bytes in proptest::collection::vec(any::<u8>(), 4096), used in 0..3000_u32) {
        bytes[64..72].copy_from_slice(b"_BHRfS_M");
        bytes[196..198].copy_from_slice(&[0, 0]);
        bytes[160..164].copy_from_slice(&used.to_le_bytes());
        seal(&mut bytes, ChecksumKind::Crc32c);
        prop_assert!(crfs_disk::Superblock::parse_checked(&bytes, 65536).is_err());
        let parsed = crfs_disk::Superblock::parse(&bytes).unwrap();
        let _ = parsed.system_chunks();
    }
}
