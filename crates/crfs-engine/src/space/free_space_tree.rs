// SPDX-License-Identifier: GPL-2.0-or-later
//! The free-space tree: per block group one FREE_SPACE_INFO and then its free runs, as FREE_SPACE_EXTENT items or, where
//! those would take more room, as bitmaps of 2,048 sectors each. It is the exact complement of the extent tree; superblock
//! stripes count as free in it.
//!
//! The commit hands over what became used and what became free; the form is changed at the same counts as in Linux.

use super::free_runs::FreeRuns;
use super::group::BlockGroup;
use crate::error::{EngineError, Result};
use crate::tree::{Cursor, EditLog, NodeSource, Tree};
use crfs_disk::Key;
use crfs_disk::constants::{FREE_SPACE_BITMAP_BITS, SECTOR_SIZE, free_space_flag, item_type};
use crfs_disk::free_space::{FreeSpaceInfo, bit, bitmap_bytes, runs};

/// Bytes that one bitmap item covers.
const BITMAP_RANGE: u64 = FREE_SPACE_BITMAP_BITS * SECTOR_SIZE;
/// Leaf bytes of a bitmap item and of an extent item.
const BITMAP_COST: u64 = 25 + FREE_SPACE_BITMAP_BITS / 8;
const EXTENT_COST: u64 = 25;
/// How far below the upper count the lower one lies.
const HYSTERESIS: u64 = 100;

pub struct FreeSpaceTree<'a> {
    pub tree: &'a mut Tree,
    pub source: &'a dyn NodeSource,
    pub log: &'a mut EditLog,
}

/// Free runs of a group as a committed or running tree has them, superblock stripes included.
pub fn load(tree: &Tree, source: &dyn NodeSource, group: &BlockGroup) -> Result<FreeRuns> {
    let mut free = FreeRuns::default();
    let mut pending: Option<(u64, u64)> = None;
    let add = |free: &mut FreeRuns, start: u64, len: u64| {
        let inside = start >= group.start && start.checked_add(len).is_some_and(|end| end <= group.end());
        if inside && free.insert(start, len) {
            Ok(())
        } else {
            Err(bad(group, format!("free run {start}+{len} is misplaced")))
        }
    };
    let mut cursor = Cursor::seek(tree, source, info_key(group))?;
    let info = match cursor.item() {
        Some((key, data)) if key == info_key(group) => parse_info(group, data)?,
        _ => return Err(bad(group, "FREE_SPACE_INFO is missing".into())),
    };
    loop {
        cursor.advance()?;
        let Some((key, data)) = cursor.item() else { break };
        match key.kind {
            _ if key.objectid >= group.end() => break,
            item_type::FREE_SPACE_EXTENT => add(&mut free, key.objectid, key.offset)?,
            item_type::FREE_SPACE_BITMAP => {
                for (first, count) in runs(data, key.offset / SECTOR_SIZE) {
                    let (start, len) = (key.objectid + first * SECTOR_SIZE, count * SECTOR_SIZE);
                    match &mut pending {
                        Some((at, size)) if *at + *size == start => *size += len,
                        _ => {
                            if let Some((at, size)) = pending.replace((start, len)) {
                                add(&mut free, at, size)?;
                            }
                        }
                    }
                }
            }
            other => return Err(bad(group, format!("unexpected item type {other} at {}", key.objectid))),
        }
    }
    if let Some((at, size)) = pending {
        add(&mut free, at, size)?;
    }
    if free.len() as u64 != u64::from(info.extent_count) {
        return Err(bad(group, format!("has {} free runs, its info says {}", free.len(), info.extent_count)));
    }
    Ok(free)
}

fn bad(group: &BlockGroup, what: String) -> EngineError {
    EngineError::corrupt(format!("free-space tree: block group {}, {what}", group.start))
}

fn info_key(group: &BlockGroup) -> Key {
    Key::new(group.start, item_type::FREE_SPACE_INFO, group.len)
}

fn parse_info(group: &BlockGroup, data: &[u8]) -> Result<FreeSpaceInfo> {
    FreeSpaceInfo::parse(data).map_err(|error| bad(group, error.to_string()))
}

fn extent_key(start: u64, len: u64) -> Key {
    Key::new(start, item_type::FREE_SPACE_EXTENT, len)
}

impl FreeSpaceTree<'_> {
    /// A new block group, all free.
    pub fn create(&mut self, group: &BlockGroup) -> Result<()> {
        let info = FreeSpaceInfo { extent_count: 1, flags: 0 };
        self.insert(info_key(group), &info.encode())?;
        self.insert(extent_key(group.start, group.len), &[])
    }

    /// Takes out what became used, then puts in what became free. Both are sorted and joined.
    pub fn update(&mut self, group: &BlockGroup, used: &[(u64, u64)], freed: &[(u64, u64)]) -> Result<()> {
        let mut item = Vec::new();
        if !self.tree.get(self.source, info_key(group), &mut item)? {
            return Err(bad(group, "FREE_SPACE_INFO is missing".into()));
        }
        let before = parse_info(group, &item)?;
        let bitmaps = before.flags & free_space_flag::USING_BITMAPS != 0;
        let mut count = i64::from(before.extent_count);
        for (start, len) in used {
            count += match bitmaps {
                true => self.set_bits(group, *start, *len, false)?,
                false => self.remove_extent(group, *start, *len)?,
            };
        }
        for (start, len) in freed {
            count += match bitmaps {
                true => self.set_bits(group, *start, *len, true)?,
                false => self.add_extent(group, *start, *len)?,
            };
        }
        let extent_count = u32::try_from(count)
            .map_err(|_| bad(group, format!("its count of free runs becomes {count}")))?;
        let info = FreeSpaceInfo { extent_count, ..before };
        self.tree.replace(self.source, self.log, info_key(group), &info.encode())?;
        self.choose_form(group, info)
    }

    fn choose_form(&mut self, group: &BlockGroup, info: FreeSpaceInfo) -> Result<()> {
        let most = group.len.div_ceil(BITMAP_RANGE) * BITMAP_COST / EXTENT_COST;
        let least = most.saturating_sub(HYSTERESIS);
        let count = u64::from(info.extent_count);
        if info.flags & free_space_flag::USING_BITMAPS == 0 {
            if count > most { self.rewrite(group, free_space_flag::USING_BITMAPS) } else { Ok(()) }
        } else if count < least {
            self.rewrite(group, 0)
        } else {
            Ok(())
        }
    }

    /// Replaces all items of the group by the same runs in the other form.
    fn rewrite(&mut self, group: &BlockGroup, flags: u32) -> Result<()> {
        let free = load(self.tree, self.source, group)?;
        let mut old = Vec::new();
        let mut cursor = Cursor::seek(self.tree, self.source, info_key(group))?;
        while let Some((key, _)) = cursor.item().filter(|(key, _)| key.objectid < group.end()) {
            old.push(key);
            cursor.advance()?;
        }
        for key in old {
            self.tree.remove(self.source, self.log, key)?;
        }
        let info = FreeSpaceInfo { extent_count: free.len() as u32, flags };
        self.insert(info_key(group), &info.encode())?;
        if flags == 0 {
            for (start, len) in free.iter() {
                self.insert(extent_key(start, len), &[])?;
            }
            return Ok(());
        }
        let mut start = group.start;
        while start < group.end() {
            let len = BITMAP_RANGE.min(group.end() - start);
            self.insert(Key::new(start, item_type::FREE_SPACE_BITMAP, len), &bitmap_of(&free, start, len))?;
            start += len;
        }
        Ok(())
    }

    fn insert(&mut self, key: Key, data: &[u8]) -> Result<()> {
        self.tree.insert(self.source, self.log, key, data)
    }

    /// The FREE_SPACE_EXTENT with the highest start <= `at`, in this group (whose end is the next one's start).
    fn extent_before(&mut self, group: &BlockGroup, at: u64) -> Result<Option<(u64, u64)>> {
        let mut item = Vec::new();
        let at = at.min(group.end() - 1);
        let found = self.tree.prev(self.source, extent_key(at, u64::MAX), &mut item)?;
        Ok(found
            .filter(|key| key.kind == item_type::FREE_SPACE_EXTENT && key.objectid >= group.start)
            .map(|key| (key.objectid, key.offset)))
    }

    /// By how much the number of runs changed.
    fn remove_extent(&mut self, group: &BlockGroup, start: u64, len: u64) -> Result<i64> {
        let end = start + len;
        let Some((at, size)) = self.extent_before(group, start)?.filter(|(at, size)| at + size >= end) else {
            return Err(bad(group, format!("{start}+{len} is not free in it")));
        };
        self.tree.remove(self.source, self.log, extent_key(at, size))?;
        let mut count = -1;
        if at < start {
            self.insert(extent_key(at, start - at), &[])?;
            count += 1;
        }
        if at + size > end {
            self.insert(extent_key(end, at + size - end), &[])?;
            count += 1;
        }
        Ok(count)
    }

    fn add_extent(&mut self, group: &BlockGroup, start: u64, len: u64) -> Result<i64> {
        let (mut low, mut high) = (start, start + len);
        let mut count = 1;
        let mut left = self.extent_before(group, high)?;
        if let Some((at, size)) = left.filter(|(at, _)| *at == high) {
            self.tree.remove(self.source, self.log, extent_key(at, size))?;
            high = at + size;
            count -= 1;
            left = self.extent_before(group, start)?;
        }
        if let Some((at, size)) = left {
            if at + size > start {
                return Err(bad(group, format!("{start}+{len} is free in it already")));
            }
            if at + size == start {
                self.tree.remove(self.source, self.log, extent_key(at, size))?;
                low = at;
                count -= 1;
            }
        }
        self.insert(extent_key(low, high - low), &[])?;
        Ok(count)
    }

    /// The bitmap item that covers `at`.
    fn bitmap_at(&mut self, group: &BlockGroup, at: u64, item: &mut Vec<u8>) -> Result<Key> {
        let found =
            self.tree.prev(self.source, Key::new(at, item_type::FREE_SPACE_BITMAP, u64::MAX), item)?;
        found
            .filter(|key| key.kind == item_type::FREE_SPACE_BITMAP && at - key.objectid < key.offset)
            .filter(|key| item.len() as u64 == bitmap_bytes(key.offset / SECTOR_SIZE))
            .ok_or_else(|| bad(group, format!("no bitmap covers {at}")))
    }

    fn is_free_bit(&mut self, group: &BlockGroup, at: u64) -> Result<bool> {
        let mut item = Vec::new();
        let key = self.bitmap_at(group, at, &mut item)?;
        Ok(bit(&item, (at - key.objectid) / SECTOR_SIZE))
    }

    /// Sets or clears the bits of a run, all of which must have the other value.
    fn set_bits(&mut self, group: &BlockGroup, start: u64, len: u64, free: bool) -> Result<i64> {
        let end = start + len;
        let before = start > group.start && self.is_free_bit(group, start - SECTOR_SIZE)?;
        let after = end < group.end() && self.is_free_bit(group, end)?;
        let mut item = Vec::new();
        let mut at = start;
        while at < end {
            let key = self.bitmap_at(group, at, &mut item)?;
            let stop = end.min(key.objectid + key.offset);
            for sector in (at - key.objectid) / SECTOR_SIZE..(stop - key.objectid) / SECTOR_SIZE {
                if bit(&item, sector) == free {
                    let state = if free { "free already" } else { "not free" };
                    return Err(bad(group, format!("{start}+{len} is {state} in its bitmap")));
                }
                item[sector as usize / 8] ^= 1 << (sector % 8);
            }
            self.tree.replace(self.source, self.log, key, &item)?;
            at = stop;
        }
        let joined = i64::from(before) + i64::from(after);
        Ok(if free { 1 - joined } else { joined - 1 })
    }
}

fn bitmap_of(free: &FreeRuns, start: u64, len: u64) -> Vec<u8> {
    let mut bits = vec![0u8; bitmap_bytes(len / SECTOR_SIZE) as usize];
    let mut at = start;
    while at < start + len {
        let here = free.free_from(at).min(start + len - at);
        for sector in (at - start) / SECTOR_SIZE..(at + here - start) / SECTOR_SIZE {
            bits[sector as usize / 8] |= 1 << (sector % 8);
        }
        at += here.max(SECTOR_SIZE);
    }
    bits
}
