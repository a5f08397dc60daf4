// SPDX-License-Identifier: GPL-2.0-or-later
//! Opens an image: superblock, chunks, tree roots, and the judgement whether it may be written, read, or neither.
//! What comes out is everything that the running transaction starts from; nothing has been changed.
//!
//! A read-only open of a sound image that the engine must not write succeeds; a read-write open of it fails with the reasons.

use crate::block_reader::{BlockReader, LogSink};
use crate::error::{EngineError, Result};
use crate::superblock::{Judgement, judge_superblock, read_superblock};
use crate::tree_reader::TreeReader;
use crfs_device::BlockDevice;
use crfs_disk::bytes::u64_at;
use crfs_disk::chunk::{Chunk, DevItem};
use crfs_disk::constants::{item_type, objectid, root_flag};
use crfs_disk::root::{RootItem, RootRef};
use crfs_disk::verify::is_fs_tree;
use crfs_disk::{Expect, Geometry, Header, Key, Superblock};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How an image is to be opened.
pub struct OpenOptions {
    pub read_only: bool,
    pub log: LogSink,
}

/// A tree as its ROOT_ITEM describes it.
#[derive(Clone, Debug)]
pub struct RootInfo {
    /// Key of the ROOT_ITEM; its offset is 0, or the transid in which a snapshot was made.
    pub key: Key,
    pub item: RootItem,
    /// Of a subvolume that has a name.
    pub place: Option<Place>,
}

/// Where a subvolume is entered: a name in a directory of another one, as ROOT_BACKREF tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub parent: u64,
    pub dir: u64,
    pub name: Vec<u8>,
}

impl RootInfo {
    pub fn id(&self) -> u64 {
        self.key.objectid
    }

    /// A subvolume that exists for users (the top one included).
    pub fn is_live_subvolume(&self) -> bool {
        is_fs_tree(self.id()) && self.item.refs > 0 && self.item.flags & root_flag::SUBVOL_DEAD == 0
    }

    pub fn is_read_only_subvolume(&self) -> bool {
        self.item.flags & root_flag::SUBVOL_RDONLY != 0
    }
}

/// An opened image.
pub struct Image {
    pub superblock: Superblock,
    pub reader: BlockReader,
    /// Every tree of the root tree, by id.
    pub roots: BTreeMap<u64, RootInfo>,
    /// The DEV_ITEM of the chunk tree.
    pub dev_item: DevItem,
    pub read_only: bool,
    /// Why it could not have been opened read-write; empty if it could.
    pub read_only_reasons: Vec<String>,
}

impl Image {
    /// A tree on the device, by its id.
    pub fn tree(&self, id: u64) -> Result<TreeReader<'_>> {
        let sb = &self.superblock;
        match id {
            objectid::ROOT_TREE => {
                Ok(TreeReader::new(&self.reader, id, sb.root, sb.generation, sb.root_level))
            }
            objectid::CHUNK_TREE => {
                let generation = sb.chunk_root_generation;
                Ok(TreeReader::new(&self.reader, id, sb.chunk_root, generation, sb.chunk_root_level))
            }
            _ => match self.roots.get(&id) {
                Some(root) => {
                    let RootItem { bytenr, generation, level, .. } = root.item;
                    Ok(TreeReader::new(&self.reader, id, bytenr, generation, level))
                }
                None => Err(EngineError::corrupt(format!("root tree: tree {id} is missing"))),
            },
        }
    }
}

/// Opens the image on `device`; see the head of this file.
pub fn open_image(device: Arc<dyn BlockDevice>, options: OpenOptions) -> Result<Image> {
    let superblock = read_superblock(&*device)?;
    let mut judgement = judge_superblock(&superblock, &*device);
    refuse(&judgement.refused)?;
    if !options.read_only {
        // What the superblock alone tells must not wait for trees that may be damaged.
        refuse_writing(&judgement.read_only)?;
    }
    let geometry = Geometry::of_superblock(&superblock).map_err(|error| EngineError::Corrupt(error.0))?;
    let device_bytes = superblock.dev_item.total_bytes;
    let mut reader = BlockReader::new(device, geometry, superblock.dev_item.devid, device_bytes, options.log);
    let dev_item = load_chunks(&mut reader, &superblock)?;
    let roots = load_roots(&reader, &superblock)?;
    let mut image = Image {
        superblock,
        reader,
        roots,
        dev_item,
        read_only: options.read_only,
        read_only_reasons: Vec::new(),
    };
    require_trees(&image)?;
    judge_trees(&image, &mut judgement)?;
    refuse(&judgement.refused)?;
    if !image.read_only {
        refuse_writing(&judgement.read_only)?;
    }
    image.read_only_reasons = judgement.read_only;
    Ok(image)
}

fn refuse(reasons: &[String]) -> Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    Err(EngineError::Unsupported(format!("the image cannot be served: {}", reasons.join("; "))))
}

fn refuse_writing(reasons: &[String]) -> Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    Err(EngineError::Unsupported(format!("the image can only be served read-only: {}", reasons.join("; "))))
}

/// First the SYSTEM chunks of the superblock, with which the chunk tree can be read, then all of it.
fn load_chunks(reader: &mut BlockReader, sb: &Superblock) -> Result<DevItem> {
    for (key, chunk) in sb.system_chunks().map_err(|error| EngineError::Corrupt(error.0))? {
        reader.add_chunk(key, chunk)?;
    }
    let root =
        Expect::root(sb.chunk_root, sb.chunk_root_generation, sb.chunk_root_level, objectid::CHUNK_TREE);
    let block = reader.read_block(&root)?;
    let header = Header::parse(&block).map_err(|error| EngineError::Corrupt(error.0))?;
    reader.set_chunk_tree_uuid(header.chunk_tree_uuid);
    let tree = TreeReader::new(
        reader,
        objectid::CHUNK_TREE,
        sb.chunk_root,
        sb.chunk_root_generation,
        sb.chunk_root_level,
    );
    let mut devices = Vec::new();
    tree.scan(Key::MIN, |key, data| {
        let parsed = match key.kind {
            item_type::CHUNK_ITEM => Chunk::parse(data).map(|chunk| reader.add_chunk(key, chunk)),
            item_type::DEV_ITEM => DevItem::parse(data).map(|device| {
                devices.push(device);
                Ok(())
            }),
            _ => Ok(Ok(())),
        };
        parsed.map_err(|error| EngineError::Corrupt(format!("chunk tree: key={key}, {error}")))??;
        Ok(ControlFlow::Continue(()))
    })?;
    match devices.as_slice() {
        [device] if device.devid == sb.dev_item.devid && device.uuid == sb.dev_item.uuid => Ok(*device),
        _ => Err(EngineError::corrupt(format!(
            "chunk tree: expect the one device {} of the superblock, have {} devices",
            sb.dev_item.devid,
            devices.len()
        ))),
    }
}

fn load_roots(reader: &BlockReader, sb: &Superblock) -> Result<BTreeMap<u64, RootInfo>> {
    let mut roots = BTreeMap::new();
    let tree = TreeReader::new(reader, objectid::ROOT_TREE, sb.root, sb.generation, sb.root_level);
    tree.scan(Key::MIN, |key, data| {
        // Relocation trees share one id and belong to no path; `judge_trees` looks for them by itself.
        if key.kind == item_type::ROOT_ITEM && key.objectid != objectid::TREE_RELOC {
            let item = RootItem::parse_any(data)
                .map_err(|error| EngineError::Corrupt(format!("root tree: key={key}, {error}")))?;
            roots.insert(key.objectid, RootInfo { key, item, place: None });
        }
        // It lies behind the ROOT_ITEM of the same tree. One without a tree is what a deletion has left.
        if let Some(root) = roots.get_mut(&key.objectid).filter(|_| key.kind == item_type::ROOT_BACKREF) {
            let entry = RootRef::parse(data)
                .map_err(|error| EngineError::Corrupt(format!("root tree: key={key}, {error}")))?;
            root.place = Some(Place { parent: key.offset, dir: entry.dirid, name: entry.name.to_vec() });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(roots)
}

fn require_trees(image: &Image) -> Result<()> {
    for id in [objectid::EXTENT_TREE, objectid::DEV_TREE, objectid::FS_TREE, objectid::CSUM_TREE] {
        image.tree(id)?;
    }
    Ok(())
}

/// Reasons that stand in the trees.
fn judge_trees(image: &Image, judgement: &mut Judgement) -> Result<()> {
    judge_shared_trees(image, judgement);
    judge_relocation(image, judgement)?;
    judge_replace(image, judgement)?;
    judge_quota(image, judgement)?;
    if !image.roots.contains_key(&objectid::FREE_SPACE_TREE) && judgement.read_only.is_empty() {
        judgement.only_read(
            "the free-space tree is missing; mount the image once in Linux with -o space_cache=v2",
        );
    }
    Ok(())
}

fn judge_shared_trees(image: &Image, judgement: &mut Judgement) {
    let shared =
        |root: &&RootInfo| is_fs_tree(root.id()) && (root.item.last_snapshot != 0 || root.key.offset != 0);
    if let Some(root) = image.roots.values().find(shared) {
        judgement.only_read(format!(
            "subvolume {} may share blocks (snapshots, or a balance since); copy its files to a fresh image",
            root.id()
        ));
    }
}

fn judge_relocation(image: &Image, judgement: &mut Judgement) -> Result<()> {
    let mut found = None;
    image.tree(objectid::ROOT_TREE)?.scan(Key::MIN, |key, _| {
        match key {
            Key { objectid: objectid::BALANCE, kind: item_type::TEMPORARY_ITEM, .. } => {
                found = Some("balance")
            }
            Key { objectid: objectid::TREE_RELOC, kind: item_type::ROOT_ITEM, .. } => {
                found = Some("relocation")
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(what) = found {
        judgement.only_read(format!(
            "a {what} is in progress; let it end in Linux (`btrfs balance cancel` ends it early)"
        ));
    }
    Ok(())
}

/// DEV_REPLACE (0, 250, 0) in the device tree; its state is the u64 at byte 32.
fn judge_replace(image: &Image, judgement: &mut Judgement) -> Result<()> {
    const STARTED: u64 = 1;
    const SUSPENDED: u64 = 4;
    let item = image.tree(objectid::DEV_TREE)?.get(Key::new(0, item_type::DEV_REPLACE, 0))?;
    let state = item.as_deref().and_then(|data| u64_at(data, 32));
    if matches!(state, Some(STARTED | SUSPENDED)) {
        judgement.only_read("a device replace is in progress; let it end in Linux");
    }
    Ok(())
}

/// QGROUP_STATUS (0, 240, 0) in the quota tree; flags are the u64 at byte 16.
fn judge_quota(image: &Image, judgement: &mut Judgement) -> Result<()> {
    const STATUS_ON: u64 = 1;
    if !image.roots.contains_key(&objectid::QUOTA_TREE) {
        return Ok(());
    }
    let item = image.tree(objectid::QUOTA_TREE)?.get(Key::new(0, item_type::QGROUP_STATUS, 0))?;
    let flags = item.as_deref().and_then(|data| u64_at(data, 16)).unwrap_or(STATUS_ON);
    if flags & STATUS_ON != 0 {
        judgement.only_read(
            "quotas are enabled and not accounted; disable them with `btrfs quota disable` in Linux",
        );
    }
    Ok(())
}
