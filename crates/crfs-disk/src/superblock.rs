// SPDX-License-Identifier: GPL-2.0-or-later
//! The superblock: 4 KiB at 64 KiB, 64 MiB and 256 GiB. Parsing keeps every field, so that what we do not use goes back to
//! disk as it came.

use crate::Uuid;
use crate::bytes::{FormatError, Result, disk_struct};
use crate::checksum::{ChecksumKind, hex};
use crate::chunk::{Chunk, DevItem};
use crate::constants::{SUPER_SIZE, compat_ro, incompat};
use crate::header::seal;
use crate::key::Key;

pub const MAGIC: [u8; 8] = *b"_BHRfS_M";
/// Bytes of the superblock's copy of the SYSTEM chunks.
pub const SYS_CHUNK_ARRAY_SIZE: usize = 2048;
pub const LABEL_SIZE: usize = 256;

disk_struct! {
    /// One of four records of recent tree roots, for rescue tools.
    pub struct BackupRoot {
        pub tree_root: u64,
        pub tree_root_gen: u64,
        pub chunk_root: u64,
        pub chunk_root_gen: u64,
        pub extent_root: u64,
        pub extent_root_gen: u64,
        pub fs_root: u64,
        pub fs_root_gen: u64,
        pub dev_root: u64,
        pub dev_root_gen: u64,
        pub csum_root: u64,
        pub csum_root_gen: u64,
        pub total_bytes: u64,
        pub bytes_used: u64,
        pub num_devices: u64,
        pub unused_64: [u8; 32],
        pub tree_root_level: u8,
        pub chunk_root_level: u8,
        pub extent_root_level: u8,
        pub fs_root_level: u8,
        pub dev_root_level: u8,
        pub csum_root_level: u8,
        pub unused_8: [u8; 10],
    }
}

disk_struct! {
    /// The whole superblock in disk order. 4096 bytes.
    pub struct Superblock {
        pub csum: [u8; 32],
        pub fsid: Uuid,
        /// Physical address of this copy.
        pub bytenr: u64,
        /// `super_flag`s.
        pub flags: u64,
        pub magic: [u8; 8],
        pub generation: u64,
        /// Logical address of the root tree's root.
        pub root: u64,
        pub chunk_root: u64,
        /// Not 0: fsync'ed changes wait in a log tree that Linux replays at mount.
        pub log_root: u64,
        pub log_root_transid: u64,
        pub total_bytes: u64,
        pub bytes_used: u64,
        pub root_dir_objectid: u64,
        pub num_devices: u64,
        pub sectorsize: u32,
        pub nodesize: u32,
        pub leafsize: u32,
        pub stripesize: u32,
        /// Bytes of `sys_chunk_array` in use.
        pub sys_chunk_array_size: u32,
        pub chunk_root_generation: u64,
        pub compat_flags: u64,
        pub compat_ro_flags: u64,
        pub incompat_flags: u64,
        pub csum_type: u16,
        pub root_level: u8,
        pub chunk_root_level: u8,
        pub log_root_level: u8,
        pub dev_item: DevItem,
        pub label: [u8; LABEL_SIZE],
        pub cache_generation: u64,
        pub uuid_tree_generation: u64,
        /// Used in tree block headers instead of `fsid` where METADATA_UUID is set; else zero.
        pub metadata_uuid: Uuid,
        pub nr_global_roots: u64,
        pub remap_root: u64,
        pub remap_root_generation: u64,
        pub remap_root_level: u8,
        pub reserved: [u8; 199],
        pub sys_chunk_array: [u8; SYS_CHUNK_ARRAY_SIZE],
        pub backup_roots: [BackupRoot; 4],
        pub padding: [u8; 565],
    }
}

const _: () = assert!(Superblock::SIZE == SUPER_SIZE);
const _: () = assert!(BackupRoot::SIZE == 168);

impl crate::bytes::Field for [BackupRoot; 4] {
    const SIZE: usize = 4 * BackupRoot::SIZE;
    fn read(bytes: &[u8]) -> Option<[BackupRoot; 4]> {
        let mut roots = bytes.chunks(BackupRoot::SIZE).map(|raw| BackupRoot::parse(raw).ok());
        Some([roots.next()??, roots.next()??, roots.next()??, roots.next()??])
    }
    fn write(&self, bytes: &mut [u8]) {
        for (root, raw) in self.iter().zip(bytes.chunks_mut(BackupRoot::SIZE)) {
            root.write_to(raw);
        }
    }
}

impl Superblock {
    /// Checks magic, checksum and the rules of every field (Linux: `btrfs_validate_super`), then returns the copy at
    /// physical address `at`. What is legal but not served is judged elsewhere.
    pub fn parse_checked(bytes: &[u8], at: u64) -> Result<Superblock> {
        let sb = Superblock::parse(bytes)?;
        if sb.magic != MAGIC {
            return Err(FormatError::new("no BTRFS magic"));
        }
        let kind = ChecksumKind::from_disk(sb.csum_type)?;
        let want = kind.compute(&bytes[32..SUPER_SIZE]);
        if sb.csum[..kind.size()] != want[..kind.size()] {
            return Err(FormatError::new(format!(
                "superblock checksum mismatch, have {} computed {}",
                hex(&sb.csum[..kind.size()]),
                hex(&want[..kind.size()])
            )));
        }
        if sb.bytenr != at {
            return Err(FormatError::new(format!(
                "superblock bytenr mismatch, have {} expect {at}",
                sb.bytenr
            )));
        }
        sb.check_sizes()?;
        sb.check_roots()?;
        sb.system_chunks()?;
        Ok(sb)
    }

    fn check_sizes(&self) -> Result<()> {
        let fail = |text: String| Err(FormatError::new(text));
        let power = |value: u32| value.is_power_of_two();
        if !power(self.sectorsize) || !(512..=65536).contains(&self.sectorsize) {
            return fail(format!("invalid sectorsize {}", self.sectorsize));
        }
        if !power(self.nodesize)
            || self.nodesize < self.sectorsize
            || !(4096..=65536).contains(&self.nodesize)
        {
            return fail(format!("invalid nodesize {}", self.nodesize));
        }
        if self.leafsize != self.nodesize {
            return fail(format!("invalid leafsize {}, should be {}", self.leafsize, self.nodesize));
        }
        if !power(self.stripesize) {
            return fail(format!("invalid stripesize {}", self.stripesize));
        }
        if self.num_devices == 0 || self.num_devices > 1 << 31 {
            return fail(format!("invalid number of devices {}", self.num_devices));
        }
        if self.bytes_used < 6 * u64::from(self.nodesize) || self.bytes_used > self.total_bytes {
            return fail(format!("invalid bytes_used {} of {}", self.bytes_used, self.total_bytes));
        }
        if !self.total_bytes.is_multiple_of(u64::from(self.sectorsize)) {
            return fail(format!("total_bytes {} is not aligned to the sector size", self.total_bytes));
        }
        Ok(())
    }

    fn check_roots(&self) -> Result<()> {
        let fail = |text: String| Err(FormatError::new(text));
        for (what, level) in [
            ("root", self.root_level),
            ("chunk root", self.chunk_root_level),
            ("log root", self.log_root_level),
        ] {
            if level > crate::header::MAX_LEVEL {
                return fail(format!("{what} level too big: {level} > {}", crate::header::MAX_LEVEL));
            }
        }
        let sector = u64::from(self.sectorsize);
        for (what, bytenr) in
            [("root", self.root), ("chunk root", self.chunk_root), ("log root", self.log_root)]
        {
            if !bytenr.is_multiple_of(sector) {
                return fail(format!("{what} block unaligned: {bytenr}"));
            }
        }
        if self.dev_item.fsid != self.metadata_id() {
            return fail(format!(
                "dev_item uuid does not match the metadata fsid: {} != {}",
                self.dev_item.fsid,
                self.metadata_id()
            ));
        }
        if self.chunk_root_generation > self.generation {
            return fail(format!(
                "chunk root generation {} is above the generation {}",
                self.chunk_root_generation, self.generation
            ));
        }
        if self.compat_ro_flags & compat_ro::BLOCK_GROUP_TREE != 0
            && (self.incompat_flags & incompat::NO_HOLES == 0
                || self.compat_ro_flags & compat_ro::FREE_SPACE_TREE_VALID == 0)
        {
            return fail("block-group-tree needs no-holes and a valid free-space tree".into());
        }
        Ok(())
    }

    /// The id in tree block headers.
    pub fn metadata_id(&self) -> Uuid {
        if self.incompat_flags & incompat::METADATA_UUID != 0 { self.metadata_uuid } else { self.fsid }
    }

    pub fn checksum_kind(&self) -> Result<ChecksumKind> {
        ChecksumKind::from_disk(self.csum_type)
    }

    /// The label without its padding.
    pub fn label(&self) -> &[u8] {
        let end = self.label.iter().position(|byte| *byte == 0).unwrap_or(LABEL_SIZE);
        &self.label[..end]
    }

    /// The SYSTEM chunks that `sys_chunk_array` holds, with their keys.
    pub fn system_chunks(&self) -> Result<Vec<(Key, Chunk)>> {
        let fail = |text: &str| FormatError::new(format!("sys_chunk_array: {text}"));
        let used = self.sys_chunk_array_size as usize;
        let mut rest = self.sys_chunk_array.get(..used).ok_or_else(|| fail("size over 2048"))?;
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let key = crate::bytes::key_at(rest, 0).ok_or_else(|| fail("a key is cut short"))?;
            if key.kind != crate::constants::item_type::CHUNK_ITEM {
                return Err(fail(&format!("unexpected item type {}", key.kind)));
            }
            let chunk = Chunk::parse(&rest[Key::SIZE..])?;
            chunk.check(key.offset, self.sectorsize)?;
            rest = &rest[Key::SIZE + Chunk::item_size(chunk.stripes.len())..];
            chunks.push((key, chunk));
        }
        if chunks.is_empty() {
            return Err(fail("empty"));
        }
        Ok(chunks)
    }

    /// Replaces `sys_chunk_array`; an error when the chunks need more than 2048 bytes.
    pub fn set_system_chunks<'a>(&mut self, chunks: impl Iterator<Item = (Key, &'a Chunk)>) -> Result<()> {
        let mut bytes = Vec::new();
        for (key, chunk) in chunks {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&chunk.encode());
        }
        if bytes.len() > SYS_CHUNK_ARRAY_SIZE {
            return Err(FormatError::new(format!(
                "system chunks need {} bytes, have room for 2048",
                bytes.len()
            )));
        }
        self.sys_chunk_array = [0; SYS_CHUNK_ARRAY_SIZE];
        self.sys_chunk_array[..bytes.len()].copy_from_slice(&bytes);
        self.sys_chunk_array_size = bytes.len() as u32;
        Ok(())
    }

    /// The bytes of the copy that belongs at physical address `at`, sealed with its checksum.
    pub fn seal_for(&self, at: u64, kind: ChecksumKind) -> [u8; SUPER_SIZE] {
        let mut bytes = Superblock { bytenr: at, csum: [0; 32], ..*self }.encode();
        seal(&mut bytes, kind);
        bytes
    }
}
