// SPDX-License-Identifier: GPL-2.0-or-later
//! The numbers of the format, named as Linux names them (include/uapi/linux/btrfs_tree.h) without the prefix.

/// Sectors that the engine serves, bytes. Images with another sector size are refused.
pub const SECTOR_SIZE: u64 = 4096;
/// Where the primary superblock lies, and its mirrors (each only if it fits into the device).
pub const SUPER_OFFSETS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
pub const SUPER_SIZE: usize = 4096;
/// The stripe length of every profile that exists.
pub const STRIPE_LEN: u64 = 64 << 10;
/// Bytes at the start of a device that hold no device extent (boot loaders live there).
pub const DEVICE_RESERVED: u64 = 1 << 20;
/// Sectors that one FREE_SPACE_BITMAP item covers (256 bytes of bits).
pub const FREE_SPACE_BITMAP_BITS: u64 = 2048;
/// Longest file name, bytes.
pub const NAME_MAX: usize = 255;
/// Longest uncompressed data extent that Linux makes.
pub const MAX_EXTENT_SIZE: u64 = 128 << 20;
/// `hash` seed of directory entries: crc32c's raw state `!1`.
pub const NAME_HASH_SEED: u32 = !1;

/// Object ids of trees and of special objects inside trees.
pub mod objectid {
    pub const ROOT_TREE: u64 = 1;
    pub const EXTENT_TREE: u64 = 2;
    pub const CHUNK_TREE: u64 = 3;
    pub const DEV_TREE: u64 = 4;
    pub const FS_TREE: u64 = 5;
    pub const ROOT_TREE_DIR: u64 = 6;
    pub const CSUM_TREE: u64 = 7;
    pub const QUOTA_TREE: u64 = 8;
    pub const UUID_TREE: u64 = 9;
    pub const FREE_SPACE_TREE: u64 = 10;
    pub const BLOCK_GROUP_TREE: u64 = 11;
    pub const RAID_STRIPE_TREE: u64 = 12;
    pub const DEV_STATS: u64 = 0;
    pub const BALANCE: u64 = -4_i64 as u64;
    pub const ORPHAN: u64 = -5_i64 as u64;
    pub const TREE_LOG: u64 = -6_i64 as u64;
    pub const TREE_LOG_FIXUP: u64 = -7_i64 as u64;
    pub const TREE_RELOC: u64 = -8_i64 as u64;
    pub const DATA_RELOC_TREE: u64 = -9_i64 as u64;
    pub const EXTENT_CSUM: u64 = -10_i64 as u64;
    pub const FREE_SPACE: u64 = -11_i64 as u64;
    pub const FREE_INO: u64 = -12_i64 as u64;
    pub const MULTIPLE: u64 = -255_i64 as u64;
    /// First and last id of inodes and of subvolumes.
    pub const FIRST_FREE: u64 = 256;
    pub const LAST_FREE: u64 = -256_i64 as u64;
    pub const FIRST_CHUNK_TREE: u64 = 256;
    pub const DEV_ITEMS: u64 = 1;
    pub const EMPTY_SUBVOL_DIR: u64 = 2;
}

/// Item types: the middle part of a key.
pub mod item_type {
    pub const INODE_ITEM: u8 = 1;
    pub const INODE_REF: u8 = 12;
    pub const INODE_EXTREF: u8 = 13;
    pub const XATTR_ITEM: u8 = 24;
    pub const VERITY_DESC_ITEM: u8 = 36;
    pub const VERITY_MERKLE_ITEM: u8 = 37;
    pub const ORPHAN_ITEM: u8 = 48;
    pub const DIR_LOG_ITEM: u8 = 60;
    pub const DIR_LOG_INDEX: u8 = 72;
    pub const DIR_ITEM: u8 = 84;
    pub const DIR_INDEX: u8 = 96;
    pub const EXTENT_DATA: u8 = 108;
    pub const EXTENT_CSUM: u8 = 128;
    pub const ROOT_ITEM: u8 = 132;
    pub const ROOT_BACKREF: u8 = 144;
    pub const ROOT_REF: u8 = 156;
    pub const EXTENT_ITEM: u8 = 168;
    pub const METADATA_ITEM: u8 = 169;
    pub const EXTENT_OWNER_REF: u8 = 172;
    pub const TREE_BLOCK_REF: u8 = 176;
    pub const EXTENT_DATA_REF: u8 = 178;
    pub const SHARED_BLOCK_REF: u8 = 182;
    pub const SHARED_DATA_REF: u8 = 184;
    pub const BLOCK_GROUP_ITEM: u8 = 192;
    pub const FREE_SPACE_INFO: u8 = 198;
    pub const FREE_SPACE_EXTENT: u8 = 199;
    pub const FREE_SPACE_BITMAP: u8 = 200;
    pub const DEV_EXTENT: u8 = 204;
    pub const DEV_ITEM: u8 = 216;
    pub const CHUNK_ITEM: u8 = 228;
    pub const QGROUP_STATUS: u8 = 240;
    pub const QGROUP_INFO: u8 = 242;
    pub const QGROUP_LIMIT: u8 = 244;
    pub const QGROUP_RELATION: u8 = 246;
    pub const TEMPORARY_ITEM: u8 = 248;
    pub const PERSISTENT_ITEM: u8 = 249;
    pub const DEV_REPLACE: u8 = 250;
    pub const UUID_KEY_SUBVOL: u8 = 251;
    pub const UUID_KEY_RECEIVED_SUBVOL: u8 = 252;
    pub const STRING_ITEM: u8 = 253;
}

/// Type and profile bits of a chunk and its block group.
pub mod block_group {
    pub const DATA: u64 = 1 << 0;
    pub const SYSTEM: u64 = 1 << 1;
    pub const METADATA: u64 = 1 << 2;
    pub const RAID0: u64 = 1 << 3;
    pub const RAID1: u64 = 1 << 4;
    pub const DUP: u64 = 1 << 5;
    pub const RAID10: u64 = 1 << 6;
    pub const RAID5: u64 = 1 << 7;
    pub const RAID6: u64 = 1 << 8;
    pub const RAID1C3: u64 = 1 << 9;
    pub const RAID1C4: u64 = 1 << 10;
    pub const TYPE_MASK: u64 = DATA | SYSTEM | METADATA;
    pub const PROFILE_MASK: u64 = RAID0 | RAID1 | DUP | RAID10 | RAID5 | RAID6 | RAID1C3 | RAID1C4;
}

/// `flags` of an EXTENT_ITEM or METADATA_ITEM.
pub mod extent_flag {
    pub const DATA: u64 = 1 << 0;
    pub const TREE_BLOCK: u64 = 1 << 1;
    /// The children of this block are referenced by its address (SHARED_BLOCK_REF), not by its owner.
    pub const FULL_BACKREF: u64 = 1 << 8;
}

/// `type` of a file extent.
pub mod file_extent {
    pub const INLINE: u8 = 0;
    pub const REG: u8 = 1;
    pub const PREALLOC: u8 = 2;
}

/// `type` of a directory entry.
pub mod file_type {
    pub const UNKNOWN: u8 = 0;
    pub const REG_FILE: u8 = 1;
    pub const DIR: u8 = 2;
    pub const CHRDEV: u8 = 3;
    pub const BLKDEV: u8 = 4;
    pub const FIFO: u8 = 5;
    pub const SOCK: u8 = 6;
    pub const SYMLINK: u8 = 7;
    pub const XATTR: u8 = 8;
    pub const MAX: u8 = 9;

    /// The entry type of an inode's mode, or `None` for a mode without a legal type.
    pub fn of_mode(mode: u32) -> Option<u8> {
        match mode & 0o170000 {
            0o100000 => Some(REG_FILE),
            0o040000 => Some(DIR),
            0o020000 => Some(CHRDEV),
            0o060000 => Some(BLKDEV),
            0o010000 => Some(FIFO),
            0o140000 => Some(SOCK),
            0o120000 => Some(SYMLINK),
            _ => None,
        }
    }
}

/// `flags` of an inode item.
pub mod inode_flag {
    pub const NODATASUM: u64 = 1 << 0;
    pub const NODATACOW: u64 = 1 << 1;
    pub const READONLY: u64 = 1 << 2;
    pub const NOCOMPRESS: u64 = 1 << 3;
    pub const PREALLOC: u64 = 1 << 4;
    pub const SYNC: u64 = 1 << 5;
    pub const IMMUTABLE: u64 = 1 << 6;
    pub const APPEND: u64 = 1 << 7;
    pub const NODUMP: u64 = 1 << 8;
    pub const NOATIME: u64 = 1 << 9;
    pub const DIRSYNC: u64 = 1 << 10;
    pub const COMPRESS: u64 = 1 << 11;
    /// Only in the inode that a ROOT_ITEM embeds.
    pub const ROOT_ITEM_INIT: u64 = 1 << 31;
    pub const MASK: u64 = ((1 << 12) - 1) | ROOT_ITEM_INIT;
    /// Read-only-compatible flags live in the upper half (fs-verity).
    pub const RO_VERITY: u64 = 1 << 32;
}

/// `flags` of a ROOT_ITEM.
pub mod root_flag {
    pub const SUBVOL_RDONLY: u64 = 1 << 0;
    /// The subvolume is deleted and waits for the cleaner.
    pub const SUBVOL_DEAD: u64 = 1 << 48;
}

/// `flags` of a tree block's header (below bit 56).
pub mod header_flag {
    pub const WRITTEN: u64 = 1 << 0;
    pub const RELOC: u64 = 1 << 1;
    /// Backref revision 1 (MIXED_BACKREF), in bits 56 and up.
    pub const MIXED_BACKREF_REV: u64 = 1 << 56;
}

/// `flags` of the superblock.
pub mod super_flag {
    pub const WRITTEN: u64 = 1 << 0;
    pub const RELOC: u64 = 1 << 1;
    pub const ERROR: u64 = 1 << 2;
    pub const SEEDING: u64 = 1 << 32;
    pub const METADUMP: u64 = 1 << 33;
    pub const METADUMP_V2: u64 = 1 << 34;
    pub const CHANGING_FSID: u64 = 1 << 35;
    pub const CHANGING_FSID_V2: u64 = 1 << 36;
    pub const CHANGING_BG_TREE: u64 = 1 << 38;
    pub const CHANGING_DATA_CSUM: u64 = 1 << 39;
    pub const CHANGING_META_CSUM: u64 = 1 << 40;
}

/// Features without which a reader misreads the image.
pub mod incompat {
    pub const MIXED_BACKREF: u64 = 1 << 0;
    pub const DEFAULT_SUBVOL: u64 = 1 << 1;
    pub const MIXED_GROUPS: u64 = 1 << 2;
    pub const COMPRESS_LZO: u64 = 1 << 3;
    pub const COMPRESS_ZSTD: u64 = 1 << 4;
    pub const BIG_METADATA: u64 = 1 << 5;
    pub const EXTENDED_IREF: u64 = 1 << 6;
    pub const RAID56: u64 = 1 << 7;
    pub const SKINNY_METADATA: u64 = 1 << 8;
    pub const NO_HOLES: u64 = 1 << 9;
    pub const METADATA_UUID: u64 = 1 << 10;
    pub const RAID1C34: u64 = 1 << 11;
    pub const ZONED: u64 = 1 << 12;
    pub const EXTENT_TREE_V2: u64 = 1 << 13;
    pub const RAID_STRIPE_TREE: u64 = 1 << 14;
    pub const SIMPLE_QUOTA: u64 = 1 << 16;
    pub const REMAP_TREE: u64 = 1 << 17;
}

/// Features without which a writer damages the image.
pub mod compat_ro {
    pub const FREE_SPACE_TREE: u64 = 1 << 0;
    pub const FREE_SPACE_TREE_VALID: u64 = 1 << 1;
    pub const VERITY: u64 = 1 << 2;
    pub const BLOCK_GROUP_TREE: u64 = 1 << 3;
}

/// `flags` of FREE_SPACE_INFO.
pub mod free_space_flag {
    /// The block group's free space is kept as bitmaps, not as extents.
    pub const USING_BITMAPS: u32 = 1 << 0;
}
