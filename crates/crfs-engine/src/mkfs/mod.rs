// SPDX-License-Identifier: GPL-2.0-or-later
//! Makes a fresh file system: the same features and the same layout as `mkfs.btrfs` of btrfs-progs 6.2 by default.
//!
//! Everything is one transaction, generation 1: three block groups (data SINGLE, system and metadata DUP) at the front of the
//! device and one small tree for each purpose. Further block groups are made when they are needed, by the running transaction.
//!
//! The superblock is written last, after a flush, and old ones are wiped first: a power cut leaves either no file system
//! or a whole one.

mod build;
mod layout;
mod probe;

pub use probe::probe;

use crate::error::{EngineError, Result};
use crate::superblock::copies;
use build::{Block, build_blocks};
use crfs_device::BlockDevice;
use crfs_disk::checksum::ChecksumKind;
use crfs_disk::chunk::DevItem;
use crfs_disk::constants::{SECTOR_SIZE, compat_ro, incompat, super_flag};
use crfs_disk::inode::Timespec;
use crfs_disk::superblock::{BackupRoot, LABEL_SIZE, MAGIC, SYS_CHUNK_ARRAY_SIZE};
use crfs_disk::{Key, Superblock, Uuid, item_type, objectid};
use layout::Layout;
use std::io::Read;
use std::time::SystemTime;

/// What the new file system is to be like.
#[derive(Clone, Debug)]
pub struct MkfsOptions {
    /// At most 255 bytes, without NUL and line feed.
    pub label: Vec<u8>,
    /// Random if not given.
    pub uuid: Option<Uuid>,
    /// Bytes of a tree block: a power of two from 4 to 64 KiB.
    pub nodesize: u32,
    pub checksum: ChecksumKind,
    /// Overwrites what the device holds.
    pub force: bool,
}

impl Default for MkfsOptions {
    fn default() -> MkfsOptions {
        MkfsOptions {
            label: Vec::new(),
            uuid: None,
            nodesize: 16 << 10,
            checksum: ChecksumKind::Crc32c,
            force: false,
        }
    }
}

/// Bytes at the front and at the end of the device that are cleared: foreign superblocks and partition tables lie there.
const WIPE_BYTES: u64 = 2 << 20;
/// The generation of everything that is made.
const GENERATION: u64 = 1;
const DEVID: u64 = 1;

/// What every structure of the new file system needs to know.
struct Plan {
    layout: Layout,
    nodesize: u32,
    checksum: ChecksumKind,
    fsid: Uuid,
    chunk_tree_uuid: Uuid,
    device_uuid: Uuid,
    /// Of the top subvolume.
    subvolume_uuid: Uuid,
    time: Timespec,
}

/// Makes the file system and returns its id.
pub fn mkfs(device: &dyn BlockDevice, options: &MkfsOptions) -> Result<Uuid> {
    check_options(options)?;
    let layout = Layout::for_device(device.size())?;
    if !options.force
        && let Some(found) = probe(device)?
    {
        return Err(EngineError::refused(
            libc::EEXIST,
            format!("the image already holds {found}; --force overwrites it"),
        ));
    }
    let plan = Plan {
        layout,
        nodesize: options.nodesize,
        checksum: options.checksum,
        fsid: options.uuid.map_or_else(random_uuid, Ok)?,
        chunk_tree_uuid: random_uuid()?,
        device_uuid: random_uuid()?,
        subvolume_uuid: random_uuid()?,
        time: now(),
    };
    let blocks = build_blocks(&plan)?;
    let superblock = superblock(&plan, &blocks, &options.label)?;
    write_all(device, &plan, &blocks, &superblock)?;
    Ok(plan.fsid)
}

fn check_options(options: &MkfsOptions) -> Result<()> {
    let refuse = |text: String| Err(EngineError::refused(libc::EINVAL, text));
    if !options.nodesize.is_power_of_two() || !(4096..=65536).contains(&options.nodesize) {
        return refuse(format!("node size {} is not 4096, 8192, 16384, 32768 or 65536", options.nodesize));
    }
    if options.label.len() >= LABEL_SIZE {
        return refuse(format!("the label has {} bytes, at most 255 fit", options.label.len()));
    }
    if options.label.iter().any(|byte| matches!(byte, 0 | b'\n')) {
        return refuse("the label holds a NUL byte or a line feed".into());
    }
    if options.uuid.is_some_and(Uuid::is_nil) {
        return refuse("the uuid must not be all zero".into());
    }
    Ok(())
}

/// A random (version 4) uuid.
fn random_uuid() -> Result<Uuid> {
    let mut id = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut id))
        .map_err(|source| EngineError::Io { what: "reading /dev/urandom".into(), source })?;
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    Ok(Uuid(id))
}

fn now() -> Timespec {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timespec { sec: since.as_secs() as i64, nsec: since.subsec_nanos() },
        Err(before) => Timespec { sec: -(before.duration().as_secs() as i64), nsec: 0 },
    }
}

impl Plan {
    fn dev_item(&self) -> DevItem {
        DevItem {
            devid: DEVID,
            total_bytes: self.layout.total_bytes,
            bytes_used: self.layout.groups().iter().map(|group| group.device_bytes()).sum(),
            io_align: SECTOR_SIZE as u32,
            io_width: SECTOR_SIZE as u32,
            sector_size: SECTOR_SIZE as u32,
            kind: 0,
            generation: 0,
            start_offset: 0,
            dev_group: 0,
            seek_speed: 0,
            bandwidth: 0,
            uuid: self.device_uuid,
            fsid: self.fsid,
        }
    }
}

fn superblock(plan: &Plan, blocks: &[Block], label: &[u8]) -> Result<Superblock> {
    let root_of = |tree: u64| {
        let block = blocks.iter().filter(|block| block.owner == tree).max_by_key(|block| block.level);
        block.expect("every tree was built")
    };
    let (root, chunk_root) = (root_of(objectid::ROOT_TREE), root_of(objectid::CHUNK_TREE));
    let bytes_used = blocks.len() as u64 * u64::from(plan.nodesize);
    let mut label_field = [0; LABEL_SIZE];
    label_field[..label.len()].copy_from_slice(label);
    let empty_backup =
        BackupRoot::parse(&[0; BackupRoot::SIZE]).map_err(|error| EngineError::Corrupt(error.0))?;
    let backup = BackupRoot {
        tree_root: root.bytenr,
        tree_root_gen: GENERATION,
        chunk_root: chunk_root.bytenr,
        chunk_root_gen: GENERATION,
        extent_root: root_of(objectid::EXTENT_TREE).bytenr,
        extent_root_gen: GENERATION,
        fs_root: root_of(objectid::FS_TREE).bytenr,
        fs_root_gen: GENERATION,
        dev_root: root_of(objectid::DEV_TREE).bytenr,
        dev_root_gen: GENERATION,
        csum_root: root_of(objectid::CSUM_TREE).bytenr,
        csum_root_gen: GENERATION,
        total_bytes: plan.layout.total_bytes,
        bytes_used,
        num_devices: 1,
        tree_root_level: root.level,
        ..empty_backup
    };
    let mut sb = Superblock {
        csum: [0; 32],
        fsid: plan.fsid,
        bytenr: 0,
        flags: super_flag::WRITTEN,
        magic: MAGIC,
        generation: GENERATION,
        root: root.bytenr,
        chunk_root: chunk_root.bytenr,
        log_root: 0,
        log_root_transid: 0,
        total_bytes: plan.layout.total_bytes,
        bytes_used,
        root_dir_objectid: objectid::ROOT_TREE_DIR,
        num_devices: 1,
        sectorsize: SECTOR_SIZE as u32,
        nodesize: plan.nodesize,
        leafsize: plan.nodesize,
        stripesize: SECTOR_SIZE as u32,
        sys_chunk_array_size: 0,
        chunk_root_generation: GENERATION,
        compat_flags: 0,
        compat_ro_flags: compat_ro::FREE_SPACE_TREE | compat_ro::FREE_SPACE_TREE_VALID,
        incompat_flags: incompat::MIXED_BACKREF
            | incompat::EXTENDED_IREF
            | incompat::SKINNY_METADATA
            | incompat::NO_HOLES,
        csum_type: plan.checksum.to_disk(),
        root_level: root.level,
        chunk_root_level: chunk_root.level,
        log_root_level: 0,
        dev_item: plan.dev_item(),
        label: label_field,
        cache_generation: 0,
        uuid_tree_generation: GENERATION,
        metadata_uuid: Uuid::NIL,
        nr_global_roots: 0,
        remap_root: 0,
        remap_root_generation: 0,
        remap_root_level: 0,
        reserved: [0; 199],
        sys_chunk_array: [0; SYS_CHUNK_ARRAY_SIZE],
        backup_roots: [backup, empty_backup, empty_backup, empty_backup],
        padding: [0; 565],
    };
    let system = plan.layout.system;
    let key = Key::new(objectid::FIRST_CHUNK_TREE, item_type::CHUNK_ITEM, system.start);
    let chunk = system.chunk(plan.device_uuid);
    sb.set_system_chunks([(key, &chunk)].into_iter()).map_err(|error| EngineError::Corrupt(error.0))?;
    Ok(sb)
}

fn write_all(device: &dyn BlockDevice, plan: &Plan, blocks: &[Block], sb: &Superblock) -> Result<()> {
    let io = |what: &'static str| move |source| EngineError::Io { what: what.into(), source };
    let size = device.size();
    wipe(device, 0, WIPE_BYTES)?;
    wipe(device, size - WIPE_BYTES, WIPE_BYTES)?;
    for at in copies(size).skip(1) {
        wipe(device, at, crfs_disk::constants::SUPER_SIZE as u64)?;
    }
    device.flush().map_err(io("flushing"))?;
    for block in blocks {
        let group =
            if block.owner == objectid::CHUNK_TREE { plan.layout.system } else { plan.layout.metadata };
        for physical in group.physical_of(block.bytenr) {
            device.write_at(physical, &block.bytes).map_err(io("writing a tree block"))?;
        }
    }
    device.flush().map_err(io("flushing"))?;
    // The mirrors go first: until the primary stands there is no file system.
    let mut places: Vec<u64> = copies(size).collect();
    places.reverse();
    for at in places {
        device.write_fua(at, &sb.seal_for(at, plan.checksum)).map_err(io("writing a superblock"))?;
    }
    Ok(())
}

/// Zeroes what is not zero yet, so that a sparse image stays sparse.
fn wipe(device: &dyn BlockDevice, offset: u64, len: u64) -> Result<()> {
    const PIECE: u64 = 64 << 10;
    let zeros = vec![0; PIECE as usize];
    let mut buf = vec![0; PIECE as usize];
    let mut at = offset;
    while at < offset + len {
        let piece = PIECE.min(offset + len - at) as usize;
        let failed = |source| EngineError::Io { what: format!("clearing {piece} bytes at {at}"), source };
        device.read_at(at, &mut buf[..piece]).map_err(failed)?;
        if buf[..piece].iter().any(|byte| *byte != 0) {
            device.write_at(at, &zeros[..piece]).map_err(failed)?;
        }
        at += piece as u64;
    }
    Ok(())
}
