// SPDX-License-Identifier: GPL-2.0-or-later
//! Random batches. A batch follows the model file system, so most of its changes are legal; some are made wrong on
//! purpose (a taken name, a missing inode, a cycle), and some batches are then damaged as bytes.

use super::builder::Builder;
use super::draw::Draw;
use super::hashes::colliding_names;
use super::model_fs::{ModelFs, SECTOR, SETTABLE};
use super::{ROOT, TREE};
use crfs_disk::inode::Timespec;
use crfs_engine::change::codec::{Change, Fields, Name, NewInode, Rename};

pub struct Generator {
    /// Names that are used again and again, some with equal hashes, some as long as names get.
    names: Vec<Vec<u8>>,
    /// The next inode number that a well-behaved client would take.
    next_ino: u64,
    next_index: u64,
    /// Most inodes; above it the generator prefers to delete.
    inodes_max: usize,
}

const MODES: [u32; 7] = [0o100644, 0o040755, 0o120777, 0o020600, 0o060600, 0o010644, 0o140755];

impl Generator {
    pub fn new(inodes_max: usize) -> Generator {
        let mut names = colliding_names(4, 12);
        names.extend(colliding_names(3, 255));
        names.extend((0..20).map(|number| format!("name-{number}").into_bytes()));
        names.push(vec![0xff; 255]);
        names.push(b"\x01\xfe".to_vec());
        Generator { names, next_ino: 257, next_index: 2, inodes_max }
    }

    /// A batch of a few changes and whether it was damaged as bytes.
    pub fn batch(&mut self, draw: &mut impl Draw, fs: &ModelFs) -> (Builder, bool) {
        let mut builder = Builder::default();
        let mut state = fs.clone();
        let length = 1 + draw.below(12);
        let mut ends = vec![0];
        // Some attempts find nothing to do.
        for _ in 0..3 * length {
            if u64::from(builder.count) >= length {
                break;
            }
            let wanton = draw.one_in(24);
            let mut one = Builder::default();
            self.changes(draw, &state, wanton, &mut one);
            let legal = state.apply(&one.batch()).is_ok();
            // A wrong change spoils its batch, so it must stay rare.
            if legal || wanton || draw.one_in(40) {
                builder.changes.extend_from_slice(&one.changes);
                builder.checksums.extend_from_slice(&one.checksums);
                builder.data.extend_from_slice(&one.data);
                builder.count += one.count;
                ends.push(builder.changes.len());
            } else if draw.one_in(8) {
                break;
            }
        }
        let damaged = draw.one_in(6);
        if damaged {
            damage(draw, &mut builder, &ends);
        }
        (builder, damaged)
    }

    fn ino(&self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool) -> u64 {
        if wanton && draw.one_in(3) {
            return draw.pick(&[0, 1, 255, 256, 257, 1 << 53, (1 << 53) - 1, u64::MAX, self.next_ino + 5]);
        }
        let inos: Vec<u64> = fs.nodes.keys().copied().collect();
        draw.pick(&inos)
    }

    fn ino_where(
        &self,
        draw: &mut impl Draw,
        fs: &ModelFs,
        fits: impl Fn(&super::model_fs::Node) -> bool,
    ) -> u64 {
        let inos: Vec<u64> = fs.nodes.iter().filter(|(_, node)| fits(node)).map(|(ino, _)| *ino).collect();
        if inos.is_empty() { ROOT } else { draw.pick(&inos) }
    }

    fn dir(&self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool) -> u64 {
        if wanton {
            self.ino(draw, fs, true)
        } else {
            self.ino_where(draw, fs, |node| node.is_dir() && node.nlink > 0)
        }
    }

    fn index(&mut self, draw: &mut impl Draw, wanton: bool) -> u64 {
        if wanton && draw.one_in(2) {
            return draw.pick(&[0, 1, 2, 3, u64::MAX, 1 << 53]);
        }
        self.next_index += 1;
        self.next_index
    }

    fn name(&self, draw: &mut impl Draw) -> Vec<u8> {
        draw.pick(&self.names)
    }

    /// A name that exists: directory, index, inode, name.
    fn existing(&self, draw: &mut impl Draw, fs: &ModelFs) -> Option<(u64, u64, u64, Vec<u8>)> {
        let dir = self.ino_where(draw, fs, |node| !node.children.is_empty());
        let children: Vec<_> = fs.node(dir)?.children.iter().collect();
        let (name, (index, ino)) = (!children.is_empty()).then(|| draw.pick(&children))?;
        Some((dir, *index, *ino, name.clone()))
    }

    fn changes(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let full = fs.nodes.len() > self.inodes_max;
        let choice = draw.below(if full { 12 } else { 20 });
        match choice {
            0 | 1 => self.drop_some(draw, fs, wanton, out),
            2 | 3 => self.remove(draw, fs, wanton, out),
            4 => self.rename(draw, fs, wanton, out),
            5 | 6 => self.fields(draw, fs, wanton, out),
            7 => self.xattr(draw, fs, wanton, out),
            8 => self.space(draw, fs, wanton, out),
            9..=11 => self.put(draw, fs, wanton, out),
            12..=14 => self.link(draw, fs, wanton, out),
            _ => self.create(draw, fs, wanton, out),
        }
    }

    fn create(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        self.next_ino += 1 + u64::from(draw.one_in(5));
        let ino = if wanton { self.ino(draw, fs, true) } else { self.next_ino };
        let mut mode = draw.pick(&MODES[..]);
        if draw.one_in(2) {
            mode = MODES[draw.index(2)];
        }
        if wanton && draw.one_in(3) {
            mode = draw.pick(&[0, 0o030000, 0o777, 0o1100644]);
        }
        let is_device = matches!(mode & 0o170000, 0o020000 | 0o060000);
        let longest = if draw.one_in(8) { 4095 } else { 60 };
        let target_len = 1 + draw.below(longest) as usize;
        let is_symlink = mode & 0o170000 == 0o120000;
        let target =
            if is_symlink != (wanton && draw.one_in(4)) { vec![b't'; target_len] } else { Vec::new() };
        out.push(&Change::NewInode(NewInode {
            tree: if wanton && draw.one_in(6) { 6 } else { TREE },
            ino,
            mode,
            uid: draw.bits() as u32,
            gid: draw.bits() as u32,
            rdev: if is_device || (wanton && draw.one_in(4)) { draw.below(1 << 32) } else { 0 },
            time: time(draw),
            target: &target,
        }));
        if !draw.one_in(8) {
            let (dir, index, name) = (self.dir(draw, fs, wanton), self.index(draw, wanton), self.name(draw));
            out.push(&Change::AddName(Name { tree: TREE, dir, index, ino, time: time(draw), name: &name }));
        }
    }

    fn link(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino = if draw.one_in(3) {
            self.ino_where(draw, fs, |node| node.nlink == 0)
        } else {
            self.ino(draw, fs, wanton)
        };
        let (dir, index, name) = (self.dir(draw, fs, wanton), self.index(draw, wanton), self.name(draw));
        out.push(&Change::AddName(Name { tree: TREE, dir, index, ino, time: time(draw), name: &name }));
    }

    fn remove(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let Some((dir, index, mut ino, mut name)) = self.existing(draw, fs) else { return };
        if wanton {
            match draw.below(3) {
                0 => ino = self.ino(draw, fs, true),
                1 => name = self.name(draw),
                _ => {}
            }
        }
        let index = if wanton && draw.one_in(3) { index + 1 } else { index };
        out.push(&Change::RemoveName(Name { tree: TREE, dir, index, ino, time: time(draw), name: &name }));
    }

    fn rename(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let Some((dir, index, ino, name)) = self.existing(draw, fs) else { return };
        let target_dir = if draw.one_in(3) { dir } else { self.dir(draw, fs, wanton) };
        let target_name = self.name(draw);
        let target_index = self.index(draw, wanton);
        if let Some((victim_index, victim)) =
            fs.node(target_dir).and_then(|node| node.children.get(&target_name)).copied()
            && !draw.one_in(4)
        {
            out.push(&Change::RemoveName(Name {
                tree: TREE,
                dir: target_dir,
                index: victim_index,
                ino: victim,
                time: time(draw),
                name: &target_name,
            }));
        }
        out.push(&Change::Rename(Rename {
            tree: TREE,
            ino,
            time: time(draw),
            source_dir: dir,
            source_index: index + u64::from(wanton && draw.one_in(3)),
            target_dir,
            target_index,
            source_name: &name,
            target_name: &target_name,
        }));
    }

    fn fields(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino = if draw.one_in(2) {
            self.ino_where(draw, fs, |node| node.is_file())
        } else {
            self.ino(draw, fs, wanton)
        };
        let Some(node) = fs.node(ino) else { return };
        let mut fields = Fields::default();
        let some = |draw: &mut dyn FnMut() -> u64| draw().is_multiple_of(3);
        let mut bits = || draw.bits();
        fields.uid = some(&mut bits).then(|| bits() as u32);
        fields.gid = some(&mut bits).then(|| bits() as u32);
        let mode = node.mode & 0o170000 | bits() as u32 & 0o7777;
        fields.mode = some(&mut bits).then_some(if wanton { mode ^ 0o010000 } else { mode });
        let settable = if node.is_file() || node.is_dir() || wanton { SETTABLE } else { 0x300 };
        let flags = node.flags & !settable | bits() & settable;
        fields.flags = some(&mut bits).then_some(if wanton { flags ^ 1 } else { flags });
        fields.atime = draw.one_in(3).then(|| time(draw));
        fields.mtime = draw.one_in(3).then(|| time(draw));
        fields.ctime = draw.one_in(3).then(|| time(draw));
        if (node.is_file() || wanton) && draw.one_in(2) {
            fields.size = Some(file_size(draw));
        }
        if fields == Fields::default() {
            fields.uid = Some(1);
        }
        out.push(&Change::SetFields { tree: TREE, ino, fields });
    }

    fn xattr(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino = self.ino(draw, fs, wanton);
        let time = time(draw);
        let existing: Vec<Vec<u8>> =
            fs.node(ino).map_or(Vec::new(), |node| node.xattrs.keys().cloned().collect());
        if !existing.is_empty() && draw.one_in(2) {
            let name = if wanton { self.name(draw) } else { draw.pick(&existing) };
            out.push(&Change::RemoveXattr { tree: TREE, ino, time, name: &name });
            return;
        }
        let name =
            if !existing.is_empty() && draw.one_in(3) { draw.pick(&existing) } else { self.name(draw) };
        let limit = if draw.one_in(10) { 17_000 } else { 100 };
        let value = vec![b'v'; draw.below(limit) as usize];
        let flags = if draw.one_in(4) { 1 + draw.below(2) as u8 } else { 0 };
        out.push(&Change::SetXattr { tree: TREE, ino, time, flags, name: &name, value: &value });
    }

    fn file(&self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool) -> u64 {
        if wanton { self.ino(draw, fs, true) } else { self.ino_where(draw, fs, |node| node.is_file()) }
    }

    fn put(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino = self.file(draw, fs, wanton);
        let Some(node) = fs.node(ino) else { return };
        let sector = draw.below(24);
        let sector = if draw.one_in(3) { node.size / SECTOR } else { sector };
        let sector = if draw.one_in(3) { 0 } else { sector };
        let offset = if wanton && draw.one_in(3) { draw.bits() } else { sector * SECTOR };
        let whole = (1 + draw.below(6)) * SECTOR;
        let (mut length, mut new_size) = if draw.one_in(2) {
            (whole, offset.saturating_add(whole))
        } else {
            // Up to a new end in the middle of a sector.
            let limit = if draw.one_in(2) { 2_500 } else { 20_000 };
            let end = node.size.saturating_sub(offset).min(4 * SECTOR).max(1 + draw.below(limit));
            (end, offset.saturating_add(end))
        };
        if wanton {
            match draw.below(4) {
                0 => length += 1,
                1 => new_size = new_size.saturating_sub(4097),
                2 => new_size = draw.bits(),
                _ => {}
            }
        } else if draw.one_in(6) {
            new_size += draw.below(3 * SECTOR);
        }
        let byte = 1 + draw.below(255) as u8;
        let mut payload = vec![byte; length as usize];
        let size = node.size.max(new_size);
        if !wanton {
            let inside = size.saturating_sub(offset).min(length) as usize;
            payload[inside..].fill(0);
        }
        let tail = payload.len() / 2;
        payload[tail] = byte.wrapping_mul(7);
        let length = payload.len() as u32;
        out.push_payload(&payload);
        out.push(&Change::PutData { tree: TREE, ino, offset, length, new_size, time: time(draw) });
    }

    fn space(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino = self.file(draw, fs, wanton);
        let mut offset = draw.below(30) * SECTOR;
        let mut length = (1 + draw.below(10)) * SECTOR;
        if wanton {
            offset += draw.below(3) * 100;
            length = length.saturating_sub(draw.below(3) * 2048);
        }
        let time = time(draw);
        if draw.one_in(2) {
            let length = if draw.one_in(5) { 1 << 40 } else { length };
            out.push(&Change::Cut { tree: TREE, ino, offset, length, time });
        } else {
            let new_size = if draw.one_in(2) { offset + length } else { 0 };
            out.push(&Change::Preallocate { tree: TREE, ino, offset, length, new_size, time });
        }
    }

    fn drop_some(&mut self, draw: &mut impl Draw, fs: &ModelFs, wanton: bool, out: &mut Builder) {
        let ino =
            if wanton { self.ino(draw, fs, true) } else { self.ino_where(draw, fs, |node| node.nlink == 0) };
        if ino == ROOT && !wanton {
            return self.remove(draw, fs, wanton, out);
        }
        out.push(&Change::DropInode { tree: TREE, ino });
    }
}

fn file_size(draw: &mut impl Draw) -> u64 {
    match draw.below(6) {
        0 => 0,
        1 => draw.below(2_100),
        2 => draw.below(30) * SECTOR,
        3 => draw.below(100_000),
        4 => (1 << 53) - 1,
        _ => draw.below(5_000),
    }
}

fn time(draw: &mut impl Draw) -> Timespec {
    let sec = match draw.below(8) {
        0 => -(draw.below(1 << 40) as i64),
        1 => draw.below(1 << 40) as i64,
        2 => i64::MIN,
        _ => 1_700_000_000 + draw.below(1_000) as i64,
    };
    Timespec { sec, nsec: draw.below(1_000_000_000) as u32 }
}

/// Damages the batch as bytes: flipped bits, records swapped, doubled or lost, sections cut short.
fn damage(draw: &mut impl Draw, builder: &mut Builder, ends: &[usize]) {
    match draw.below(7) {
        0 | 1 => flip(draw, &mut builder.changes),
        2 => flip(draw, &mut builder.data),
        3 => flip(draw, &mut builder.checksums),
        4 => {
            let cut = draw.index(builder.changes.len() + 1);
            builder.changes.truncate(cut);
        }
        5 => builder.count = draw.pick(&[0, builder.count + 1, builder.count.saturating_sub(1), u32::MAX]),
        _ if ends.len() < 2 => {}
        _ => {
            // Move one group of records to another place.
            let group = draw.index(ends.len() - 1);
            let moved: Vec<u8> = builder.changes.drain(ends[group]..ends[group + 1]).collect();
            let places: Vec<usize> =
                ends.iter().copied().filter(|end| *end <= builder.changes.len()).collect();
            let place = draw.pick(&places);
            builder.changes.splice(place..place, moved);
        }
    }
}

fn flip(draw: &mut impl Draw, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..=draw.below(3) {
        let at = draw.index(bytes.len());
        bytes[at] ^= 1 << draw.below(8);
    }
}
