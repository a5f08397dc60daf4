// SPDX-License-Identifier: GPL-2.0-or-later
//! A file system as plain maps: directories by name, files by sector. It says which batches are to be taken and what
//! then must be there, from docs/protocol.md alone; it knows no item.

use super::{ROOT, TREE};
use crfs_disk::checksum::crc32c;
use crfs_disk::hash::name_hash;
use crfs_disk::inode::Timespec;
use crfs_engine::change::Batch;
use crfs_engine::change::codec::{Change, Changes, Fields, MAX_SAFE, Name, NewInode, Rename};
use std::collections::BTreeMap;
use std::rc::Rc;

pub const SECTOR: u64 = 4096;
const INLINE: u64 = 2048;
const PREALLOC_FLAG: u64 = 16;
/// Inode flags that a client may set: SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME, DIRSYNC, NOCOMPRESS, COMPRESS.
pub const SETTABLE: u64 = 0b1111_1110_1000;

/// Refused, with the reason.
type Verdict = Result<(), &'static str>;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub flags: u64,
    pub nlink: u32,
    pub size: u64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub otime: Timespec,
    pub target: Rc<Vec<u8>>,
    pub xattrs: Rc<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Of a directory: name to index and inode.
    pub children: Rc<BTreeMap<Vec<u8>, (u64, u64)>>,
    /// Contents of a file that is stored inline.
    pub inline: Option<Rc<Vec<u8>>>,
    /// Sectors of a file that have space: their bytes, or `None` where only preallocated.
    pub sectors: Rc<BTreeMap<u64, Option<Rc<Vec<u8>>>>>,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }

    pub fn is_file(&self) -> bool {
        self.mode & 0o170000 == 0o100000
    }

    pub fn nbytes(&self) -> u64 {
        let inline = self.inline.as_ref().map_or(0, |data| data.len() as u64);
        self.target.len() as u64 + inline + self.sectors.len() as u64 * SECTOR
    }

    /// The sectors below the end of the file that are not all zero, cut at the end.
    pub fn contents(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut add = |sector: u64, data: &[u8]| {
            let len = self.size.saturating_sub(sector * SECTOR).min(data.len() as u64) as usize;
            let mut data = data[..len].to_vec();
            data.truncate(data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            if !data.is_empty() {
                contents.insert(sector, data);
            }
        };
        if let Some(inline) = &self.inline {
            add(0, inline);
        }
        for (sector, data) in self.sectors.iter() {
            if let Some(data) = data {
                add(*sector, data);
            }
        }
        contents
    }

    /// One sector without regard to the end of the file.
    pub fn sector(&self, sector: u64) -> Vec<u8> {
        let stored = match &self.inline {
            Some(inline) if sector == 0 => inline.to_vec(),
            _ => self
                .sectors
                .get(&sector)
                .and_then(|data| data.as_ref())
                .map_or(Vec::new(), |data| data.to_vec()),
        };
        let mut data = stored;
        data.resize(SECTOR as usize, 0);
        data
    }
}

#[derive(Clone, Debug)]
pub struct ModelFs {
    pub nodes: BTreeMap<u64, Rc<Node>>,
    leaf_space: usize,
}

fn refuse_unless(sound: bool, why: &'static str) -> Verdict {
    if sound { Ok(()) } else { Err(why) }
}

impl ModelFs {
    pub fn new(nodesize: usize, root_time: Timespec) -> ModelFs {
        let root = Node {
            mode: 0o040755,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            nlink: 1,
            size: 0,
            atime: root_time,
            mtime: root_time,
            ctime: root_time,
            otime: root_time,
            target: Rc::default(),
            xattrs: Rc::default(),
            children: Rc::default(),
            inline: None,
            sectors: Rc::default(),
        };
        ModelFs { nodes: BTreeMap::from([(ROOT, Rc::new(root))]), leaf_space: nodesize - 101 }
    }

    pub fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(&ino).map(|node| &**node)
    }

    fn change(&mut self, ino: u64) -> Result<&mut Node, &'static str> {
        self.nodes.get_mut(&ino).map(Rc::make_mut).ok_or("no such inode")
    }

    /// Applies the batch; on a refusal the model is as before.
    pub fn apply(&mut self, batch: &Batch<'_>) -> Verdict {
        let before = self.nodes.clone();
        let verdict = self.apply_all(batch);
        if verdict.is_err() {
            self.nodes = before;
        }
        verdict
    }

    fn apply_all(&mut self, batch: &Batch<'_>) -> Verdict {
        let (mut data, mut checksums, mut count) = (batch.data, batch.checksums, 0);
        for change in Changes::new(batch.changes) {
            let change = change.map_err(|_| "malformed")?;
            let payload = if let Change::PutData { length, .. } = &change {
                let (payload, rest) = data.split_at_checked(*length as usize).ok_or("short data")?;
                let sectors = length.div_ceil(SECTOR as u32) as usize;
                let (crcs, rest_crcs) = checksums.split_at_checked(sectors * 4).ok_or("short checksums")?;
                (data, checksums) = (rest, rest_crcs);
                check_crcs(payload, crcs)?;
                payload
            } else {
                &[]
            };
            self.apply_one(&change, payload)?;
            count += 1;
        }
        refuse_unless(data.is_empty() && checksums.is_empty() && count == batch.count, "miscounted")
    }

    pub fn apply_one(&mut self, change: &Change<'_>, payload: &[u8]) -> Verdict {
        match change {
            Change::NewInode(new) => self.new_inode(new),
            Change::SetFields { tree, ino, fields } => self.set_fields(*tree, *ino, fields),
            Change::AddName(name) => {
                refuse_unless(name.tree == TREE, "tree")?;
                let node = self.node(name.ino).ok_or("no such inode")?;
                refuse_unless(if node.is_dir() { node.nlink == 0 } else { node.nlink < 65_535 }, "nlink")?;
                self.live_dir(name.dir)?;
                self.put_name(name.dir, name.index, name.ino, name.name, name.time)?;
                self.change(name.ino)?.nlink += 1;
                self.stamp(name.ino, name.time)
            }
            Change::RemoveName(name) => self.remove_name(name),
            Change::Rename(rename) => self.rename(rename),
            Change::SetXattr { tree, ino, time, flags, name, value } => {
                refuse_unless(*tree == TREE, "tree")?;
                let room = self.leaf_space - 25;
                let node = self.change(*ino)?;
                let exists = node.xattrs.contains_key(*name);
                refuse_unless(!(exists && flags & 1 != 0) && (exists || flags & 2 == 0), "flags")?;
                let xattrs = Rc::make_mut(&mut node.xattrs);
                xattrs.insert(name.to_vec(), value.to_vec());
                let hash = name_hash(name);
                let packed = xattrs.iter().filter(|(name, _)| name_hash(name) == hash);
                refuse_unless(
                    packed.map(|(name, value)| 30 + name.len() + value.len()).sum::<usize>() <= room,
                    "room",
                )?;
                node.ctime = *time;
                Ok(())
            }
            Change::RemoveXattr { tree, ino, time, name } => {
                refuse_unless(*tree == TREE, "tree")?;
                let node = self.change(*ino)?;
                Rc::make_mut(&mut node.xattrs).remove(*name).ok_or("no xattr")?;
                node.ctime = *time;
                Ok(())
            }
            Change::PutData { tree, ino, offset, new_size, time, .. } => {
                let node = self.file(*tree, *ino)?;
                put_data(node, *offset, payload, *new_size)?;
                (node.mtime, node.ctime) = (*time, *time);
                Ok(())
            }
            Change::Cut { tree, ino, offset, length, time } => {
                let node = self.file(*tree, *ino)?;
                if *offset == 0 {
                    node.inline = None;
                }
                let (first, end) = (offset / SECTOR, (offset + length) / SECTOR);
                Rc::make_mut(&mut node.sectors).retain(|sector, _| *sector < first || *sector >= end);
                (node.mtime, node.ctime) = (*time, *time);
                Ok(())
            }
            Change::Preallocate { tree, ino, offset, length, new_size, time } => {
                let node = self.file(*tree, *ino)?;
                // More than any test image holds.
                refuse_unless(*length <= 1 << 32, "room")?;
                to_sectors(node);
                for sector in offset / SECTOR..(offset + length) / SECTOR {
                    Rc::make_mut(&mut node.sectors).entry(sector).or_insert(None);
                }
                node.size = node.size.max(*new_size);
                node.flags |= PREALLOC_FLAG;
                (node.mtime, node.ctime) = (*time, *time);
                Ok(())
            }
            Change::DropInode { tree, ino } => {
                refuse_unless(*tree == TREE && self.node(*ino).is_some_and(|node| node.nlink == 0), "drop")?;
                self.nodes.remove(ino);
                Ok(())
            }
            Change::Clone(_) => Err("reserved"),
        }
    }

    fn file(&mut self, tree: u64, ino: u64) -> Result<&mut Node, &'static str> {
        let node = self.change(ino)?;
        if tree == TREE && node.is_file() { Ok(node) } else { Err("no file") }
    }

    fn live_dir(&self, ino: u64) -> Verdict {
        refuse_unless(self.node(ino).is_some_and(|node| node.is_dir() && node.nlink > 0), "no live directory")
    }

    fn new_inode(&mut self, new: &NewInode<'_>) -> Verdict {
        refuse_unless(new.tree == TREE && (257..=MAX_SAFE).contains(&new.ino), "number")?;
        refuse_unless(!self.nodes.contains_key(&new.ino), "exists")?;
        let kind = new.mode >> 12;
        refuse_unless(matches!(kind, 1 | 2 | 4 | 6 | 8 | 10 | 12), "mode")?;
        refuse_unless(new.rdev <= 0xffff_ffff && (new.rdev == 0 || matches!(kind, 2 | 6)), "rdev")?;
        let target_fits = new.target.len() + 21 + 25 <= self.leaf_space;
        refuse_unless((kind == 10) != new.target.is_empty() && target_fits, "target")?;
        refuse_unless(!new.target.contains(&0), "target")?;
        let node = Node {
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            rdev: new.rdev,
            flags: 0,
            nlink: 0,
            size: new.target.len() as u64,
            atime: new.time,
            mtime: new.time,
            ctime: new.time,
            otime: new.time,
            target: Rc::new(new.target.to_vec()),
            xattrs: Rc::default(),
            children: Rc::default(),
            inline: None,
            sectors: Rc::default(),
        };
        self.nodes.insert(new.ino, Rc::new(node));
        Ok(())
    }

    fn set_fields(&mut self, tree: u64, ino: u64, fields: &Fields) -> Verdict {
        refuse_unless(tree == TREE, "tree")?;
        let node = self.change(ino)?;
        if let Some(size) = fields.size {
            refuse_unless(node.is_file(), "no file")?;
            resize(node, size);
        }
        if let Some(mode) = fields.mode {
            refuse_unless(mode & !0o7777 == node.mode & 0o170000, "type")?;
            node.mode = mode;
        }
        if let Some(flags) = fields.flags {
            // NODUMP and NOATIME on what is neither file nor directory.
            let settable = if node.is_file() || node.is_dir() { SETTABLE } else { 0x300 };
            let fixed = !(settable | PREALLOC_FLAG);
            refuse_unless(flags & fixed == node.flags & fixed, "flags")?;
            node.flags = node.flags & !settable | flags & settable;
        }
        node.uid = fields.uid.unwrap_or(node.uid);
        node.gid = fields.gid.unwrap_or(node.gid);
        node.atime = fields.atime.unwrap_or(node.atime);
        node.mtime = fields.mtime.unwrap_or(node.mtime);
        node.ctime = fields.ctime.unwrap_or(node.ctime);
        Ok(())
    }

    /// Adds to the directory alone.
    fn put_name(&mut self, dir: u64, index: u64, ino: u64, name: &[u8], time: Timespec) -> Verdict {
        let room = self.leaf_space - 25;
        let dir = self.change(dir)?;
        refuse_unless((2..=MAX_SAFE).contains(&index), "index")?;
        refuse_unless(dir.children.values().all(|child| child.0 != index), "index taken")?;
        refuse_unless(!dir.children.contains_key(name), "name taken")?;
        let hash = name_hash(name);
        let packed = dir.children.keys().filter(|other| name_hash(other) == hash);
        refuse_unless(packed.map(|name| 30 + name.len()).sum::<usize>() + 30 + name.len() <= room, "room")?;
        Rc::make_mut(&mut dir.children).insert(name.to_vec(), (index, ino));
        dir.size += 2 * name.len() as u64;
        dir.mtime = dir.mtime.max(time);
        dir.ctime = dir.ctime.max(time);
        Ok(())
    }

    fn take_name(&mut self, dir: u64, index: u64, ino: u64, name: &[u8], time: Timespec) -> Verdict {
        let dir = self.change(dir)?;
        refuse_unless(dir.children.get(name) == Some(&(index, ino)), "another name")?;
        Rc::make_mut(&mut dir.children).remove(name);
        dir.size -= 2 * name.len() as u64;
        dir.mtime = dir.mtime.max(time);
        dir.ctime = dir.ctime.max(time);
        Ok(())
    }

    fn stamp(&mut self, ino: u64, time: Timespec) -> Verdict {
        let node = self.change(ino)?;
        node.ctime = if node.is_dir() { node.ctime.max(time) } else { time };
        Ok(())
    }

    fn remove_name(&mut self, name: &Name<'_>) -> Verdict {
        refuse_unless(name.tree == TREE, "tree")?;
        self.live_dir(name.dir)?;
        self.take_name(name.dir, name.index, name.ino, name.name, name.time)?;
        let node = self.change(name.ino)?;
        refuse_unless(node.children.is_empty(), "not empty")?;
        node.nlink -= 1;
        self.stamp(name.ino, name.time)
    }

    fn rename(&mut self, r: &Rename<'_>) -> Verdict {
        refuse_unless(r.tree == TREE, "tree")?;
        self.live_dir(r.source_dir)?;
        self.live_dir(r.target_dir)?;
        self.take_name(r.source_dir, r.source_index, r.ino, r.source_name, r.time)?;
        refuse_unless(!self.is_below(r.target_dir, r.ino), "cycle")?;
        self.put_name(r.target_dir, r.target_index, r.ino, r.target_name, r.time)?;
        self.stamp(r.ino, r.time)
    }

    /// Whether `dir` is `top` or below it.
    fn is_below(&self, dir: u64, top: u64) -> bool {
        dir == top
            || self
                .node(top)
                .is_some_and(|node| node.children.values().any(|child| self.is_below(dir, child.1)))
    }
}

fn check_crcs(payload: &[u8], crcs: &[u8]) -> Verdict {
    for (sector, crc) in payload.chunks(SECTOR as usize).zip(crcs.chunks(4)) {
        let mut padded = sector.to_vec();
        padded.resize(SECTOR as usize, 0);
        refuse_unless(crc32c(&padded).to_le_bytes() == crc, "checksum")?;
    }
    Ok(())
}

/// An inline file becomes one with sectors.
fn to_sectors(node: &mut Node) {
    if node.inline.is_some() {
        let data = node.sector(0);
        node.inline = None;
        Rc::make_mut(&mut node.sectors).insert(0, Some(Rc::new(data)));
    }
}

fn put_data(node: &mut Node, offset: u64, payload: &[u8], new_size: u64) -> Verdict {
    let (end, size) = (offset + payload.len() as u64, node.size.max(new_size));
    refuse_unless((payload.len() as u64).is_multiple_of(SECTOR) || end >= node.size, "partial sector")?;
    refuse_unless(end.div_ceil(SECTOR) <= size.div_ceil(SECTOR), "beyond the end")?;
    let inside = size.saturating_sub(offset).min(payload.len() as u64) as usize;
    refuse_unless(payload[inside..].iter().all(|byte| *byte == 0), "not zero beyond the end")?;
    node.size = size;
    if offset == 0 && size <= INLINE && node.sectors.keys().all(|sector| *sector == 0) {
        node.sectors = Rc::default();
        let mut data = payload[..inside].to_vec();
        data.resize(size as usize, 0);
        node.inline = Some(Rc::new(data));
        return Ok(());
    }
    to_sectors(node);
    for (index, data) in payload.chunks(SECTOR as usize).enumerate() {
        let mut sector = data.to_vec();
        sector.resize(SECTOR as usize, 0);
        Rc::make_mut(&mut node.sectors).insert(offset / SECTOR + index as u64, Some(Rc::new(sector)));
    }
    Ok(())
}

fn resize(node: &mut Node, size: u64) {
    if node.inline.is_some() && size > INLINE {
        to_sectors(node);
    }
    if let Some(inline) = &mut node.inline {
        Rc::make_mut(inline).resize(size as usize, 0);
    }
    if size == 0 {
        node.inline = None;
    }
    if size < node.size {
        let end = size.div_ceil(SECTOR);
        Rc::make_mut(&mut node.sectors).retain(|sector, _| *sector < end);
    }
    node.size = size;
}
