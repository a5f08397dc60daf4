// SPDX-License-Identifier: GPL-2.0-or-later
//! Handing out space: runs for data, blocks for tree nodes.
//!
//! Data goes where the caller wants it (behind the file's last extent), else into a window, a long free run that is used
//! from front to back, so that what is written together lies together. A stream that lost the place behind its extent to
//! another one gets room to grow into. Tree blocks come out in ascending runs.

use super::group::Purpose;
use super::{FreeSource, Space};
use crate::error::{EngineError, Result};
use crfs_disk::constants::MAX_EXTENT_SIZE;

/// A place behind the last extent is taken if it has at least this much, or all that is wanted.
const NEAR_BYTES_MIN: u64 = 256 << 10;
/// A window is opened on a run of at least this size while there is one.
const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// Streams that meet get this much more room than they ask for.
const STREAM_ROOM: u64 = 8 << 20;
/// Free runs looked at for a place near the last tree block, before the best fit anywhere.
const CURSOR_TRIES: usize = 32;

/// The part of a free run that new data still goes to.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Window {
    pub at: u64,
    pub end: u64,
}

impl Space {
    /// Takes up to `len` bytes (whole sectors) in one run; at least one sector, or ENOSPC.
    pub fn allocate_data(
        &mut self,
        len: u64,
        near: Option<u64>,
        source: FreeSource<'_>,
    ) -> Result<(u64, u64)> {
        let len = len.min(MAX_EXTENT_SIZE);
        if let Some(at) = near.filter(|at| self.is_data(*at)) {
            let group = self.group_of(at)?.start;
            self.load_free(group, source)?;
            let here = self.free_from(at).min(len);
            if here == len || here >= NEAR_BYTES_MIN {
                return Ok(self.take_data(at, here));
            }
        }
        let here =
            self.free_from(self.data_window.at).min(self.data_window.end.saturating_sub(self.data_window.at));
        if here >= len.min(NEAR_BYTES_MIN) {
            return Ok(self.take_from_window(here.min(len), near.is_some()));
        }
        if self.open_window(len, source)? {
            let here = self.data_window.end - self.data_window.at;
            return Ok(self.take_from_window(here.min(len), near.is_some()));
        }
        Err(EngineError::NoSpace(format!("no room for {len} bytes of data")))
    }

    /// Takes what is free directly behind a run, up to `more` bytes; 0 where nothing is.
    pub fn extend_data(&mut self, end: u64, more: u64) -> u64 {
        if !self.is_data(end) {
            return 0;
        }
        let here = self.free_from(end).min(more);
        if here > 0 { self.take_data(end, here).1 } else { 0 }
    }

    fn is_data(&self, bytenr: u64) -> bool {
        self.group_of(bytenr).is_ok_and(|group| group.purpose() == Purpose::Data)
    }

    /// Free bytes from `at` on, inside its (loaded) block group.
    fn free_from(&self, at: u64) -> u64 {
        let Ok(group) = self.group_of(at) else { return 0 };
        group.free.as_ref().map_or(0, |free| free.free_from(at))
    }

    fn take_data(&mut self, at: u64, len: u64) -> (u64, u64) {
        if self.data_window.at == at {
            self.data_window.at = at + len;
        }
        self.take(at, len);
        (at, len)
    }

    fn take_from_window(&mut self, len: u64, stream: bool) -> (u64, u64) {
        let at = self.data_window.at;
        self.take(at, len);
        self.data_window.at = at + len;
        if stream && len >= NEAR_BYTES_MIN / 4 {
            let room = STREAM_ROOM.min((self.data_window.end - self.data_window.at) / 8);
            self.data_window.at +=
                room / crfs_disk::constants::SECTOR_SIZE * crfs_disk::constants::SECTOR_SIZE;
        }
        (at, len)
    }

    fn take(&mut self, at: u64, len: u64) {
        let group = self.group_of_mut(at).expect("free space lies in a block group");
        let free = group.free.as_mut().expect("free space was seen, so it is loaded");
        let removed = free.remove(at, len);
        assert!(removed, "only free space is taken");
        group.used += len;
    }

    /// Finds a new window: a long run of a group in use, else of any group, else a new chunk, else what is left.
    fn open_window(&mut self, len: u64, source: FreeSource<'_>) -> Result<bool> {
        let wanted = len.max(WINDOW_BYTES_MIN);
        loop {
            let mut best: Option<(u64, u64)> = None;
            for start in self.groups_for(Purpose::Data) {
                let group = &self.groups[&start];
                if group.free.is_none() {
                    if group.free_bytes() < wanted {
                        continue;
                    }
                    self.load_free(start, source)?;
                }
                let largest = self.groups[&start].free.as_ref().and_then(|free| free.largest());
                if let Some(run) = largest.filter(|run| best.is_none_or(|(_, len)| run.1 > len)) {
                    best = Some(run);
                }
                if best.is_some_and(|(_, len)| len >= wanted) {
                    break;
                }
            }
            if best.is_some_and(|(_, len)| len >= wanted) || !self.grow(Purpose::Data)? {
                return self.open_what_is_left(best, source);
            }
        }
    }

    fn open_what_is_left(&mut self, best: Option<(u64, u64)>, source: FreeSource<'_>) -> Result<bool> {
        let mut best = best;
        if best.is_none_or(|(_, len)| len < WINDOW_BYTES_MIN) {
            for start in self.groups_for(Purpose::Data) {
                if self.groups[&start].free_bytes() > 0 {
                    self.load_free(start, source)?;
                }
                let largest = self.groups[&start].free.as_ref().and_then(|free| free.largest());
                if let Some(run) = largest.filter(|run| best.is_none_or(|(_, len)| run.1 > len)) {
                    best = Some(run);
                }
            }
        }
        let Some((at, len)) = best else { return Ok(false) };
        self.data_window = Window { at, end: at + len };
        Ok(true)
    }

    /// Takes `count` blocks for tree nodes, in ascending order as far as it can; grows metadata when it must.
    pub fn allocate_nodes(
        &mut self,
        purpose: Purpose,
        count: usize,
        source: FreeSource<'_>,
    ) -> Result<Vec<u64>> {
        let mut blocks = Vec::with_capacity(count);
        while blocks.len() < count {
            let need = (count - blocks.len()) as u64 * self.nodesize;
            let Some((start, len)) = self.node_run(purpose, need, source)? else {
                if self.grow(purpose)? {
                    continue;
                }
                for block in blocks {
                    self.free_now(block, self.nodesize)?;
                }
                return Err(EngineError::NoSpace(format!("no room for {count} tree blocks")));
            };
            let take = len.min(need) / self.nodesize * self.nodesize;
            self.take(start, take);
            self.metadata_cursor = start + take;
            blocks.extend((start..start + take).step_by(self.nodesize as usize));
        }
        Ok(blocks)
    }

    /// A free run for tree blocks: one that holds all of `need`, else the largest there is.
    fn node_run(
        &mut self,
        purpose: Purpose,
        need: u64,
        source: FreeSource<'_>,
    ) -> Result<Option<(u64, u64)>> {
        let starts = self.groups_for(purpose);
        for start in &starts {
            if self.groups[start].free_bytes() >= self.nodesize {
                self.load_free(*start, source)?;
            }
        }
        let loaded = || starts.iter().filter_map(|start| Some((*start, self.groups[start].free.as_ref()?)));
        let cursor = self.metadata_cursor;
        let near = loaded()
            .filter(|(start, _)| self.groups[start].contains(cursor))
            .find_map(|(_, free)| free.next_fit(cursor, need, CURSOR_TRIES));
        let fit = near.or_else(|| loaded().find_map(|(_, free)| free.best_fit(need)));
        let run = fit.or_else(|| loaded().filter_map(|(_, free)| free.largest()).max_by_key(|(_, len)| *len));
        Ok(run.map(|(start, len)| self.align_nodes(start, len)).filter(|(_, len)| *len >= self.nodesize))
    }

    /// Free space of metadata is made of whole blocks, except where another writer left it otherwise.
    fn align_nodes(&self, start: u64, len: u64) -> (u64, u64) {
        let aligned = start.next_multiple_of(self.nodesize);
        (aligned, (start + len).saturating_sub(aligned))
    }
}
