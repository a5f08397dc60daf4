// SPDX-License-Identifier: GPL-2.0-or-later
//! What a volume tells about itself: `crfsd info`, statfs, live counters.

use super::Volume;
use crate::error::Result;
use crate::open::Image;
use crate::space::Purpose;
use crfs_disk::{ChecksumKind, Superblock, Uuid};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// What does not change while a volume is open.
pub(super) struct Facts {
    pub superblock: Superblock,
    pub nodesize: u32,
    pub checksum: ChecksumKind,
    pub read_only: bool,
    pub read_only_reasons: Vec<String>,
}

impl Facts {
    pub fn of(image: &Image) -> Facts {
        Facts {
            superblock: image.superblock,
            nodesize: image.superblock.nodesize,
            checksum: image.reader.geometry().checksum,
            read_only: image.read_only,
            read_only_reasons: image.read_only_reasons.clone(),
        }
    }
}

/// The image as its superblock describes it.
#[derive(Clone, Debug)]
pub struct VolumeInfo {
    pub fsid: Uuid,
    pub label: Vec<u8>,
    pub generation: u64,
    pub nodesize: u32,
    pub sectorsize: u32,
    pub checksum: &'static str,
    pub device_bytes: u64,
    pub bytes_used: u64,
    pub incompat_flags: u64,
    pub compat_ro_flags: u64,
    pub read_only: bool,
    /// Why the image could not be written even if asked; empty if it could.
    pub read_only_reasons: Vec<String>,
}

/// All in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statfs {
    /// Of the device.
    pub total: u64,
    /// In no extent, on the device, one copy or two.
    pub free: u64,
    /// What can still be written as file data.
    pub available: u64,
}

/// Counters since the volume was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VolumeStats {
    pub generation: u64,
    pub batches: u64,
    pub commits: u64,
    pub dirty_bytes: u64,
    pub snapshots: u64,
    pub cache_nodes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub blocks_read: u64,
    pub data_bytes_read: u64,
    pub copies_failed: u64,
}

impl Volume {
    pub fn info(&self) -> VolumeInfo {
        let sb = &self.facts.superblock;
        let bytes_used = match &self.writer {
            Some(writer) => writer.lock().unwrap_or_else(PoisonError::into_inner).space.bytes_used(),
            None => sb.bytes_used,
        };
        VolumeInfo {
            fsid: sb.fsid,
            label: sb.label().to_vec(),
            generation: self.durable_generation(),
            nodesize: sb.nodesize,
            sectorsize: sb.sectorsize,
            checksum: self.facts.checksum.name(),
            device_bytes: sb.dev_item.total_bytes,
            bytes_used,
            incompat_flags: sb.incompat_flags,
            compat_ro_flags: sb.compat_ro_flags,
            read_only: self.facts.read_only,
            read_only_reasons: self.facts.read_only_reasons.clone(),
        }
    }

    /// Space as programs are told of it. Space that the running transaction freed counts as free once it is committed.
    pub fn statfs(&self) -> Result<Statfs> {
        let sb = &self.facts.superblock;
        let total = sb.dev_item.total_bytes;
        let Some(writer) = &self.writer else {
            return Ok(Statfs { total, free: total - sb.bytes_used.min(total), available: 0 });
        };
        let run = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let data = run.space.used_bytes(Purpose::Data);
        let metadata: u64 = run
            .space
            .groups
            .values()
            .filter(|group| group.purpose() != Purpose::Data)
            .map(|group| group.used * group.copies)
            .sum();
        let free = total.saturating_sub(data + metadata);
        let available = if run.metadata_free() == 0 { 0 } else { run.space.data_room() };
        Ok(Statfs { total, free, available: available.min(free) })
    }

    pub fn stats(&self) -> VolumeStats {
        let (cache_hits, cache_misses) = self.nodes.counters();
        let reads = self.reader.counters();
        VolumeStats {
            generation: self.durable_generation(),
            batches: self.batches.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            dirty_bytes: self.dirty_bytes(),
            snapshots: self.readers.count() as u64,
            cache_nodes: self.nodes.node_count() as u64,
            cache_hits,
            cache_misses,
            blocks_read: reads.blocks_read,
            data_bytes_read: reads.data_bytes_read,
            copies_failed: reads.copies_failed,
        }
    }
}
