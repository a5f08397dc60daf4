// SPDX-License-Identifier: GPL-2.0-or-later
//! New chunks: how large, where on the device, and for whom when the device runs out.
//!
//! A chunk exists in memory at once and its items follow in the next commit. It stays when the batch that needed it is
//! refused.

use super::allocator::Window;
use super::device::CHUNK_UNIT;
use super::group::{BlockGroup, Purpose};
use super::{FreeRuns, Space};
use crate::error::Result;
use crfs_disk::chunk::{Chunk, ChunkHead, Stripe};
use crfs_disk::constants::{STRIPE_LEN, block_group, objectid};
use crfs_disk::{Key, item_type};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Data gets no new chunk while metadata could not hold one byte per so many bytes of data: small files need more
/// metadata than that, and they find what data left; large ones need less.
const DATA_PER_METADATA: u64 = 32;
/// On large devices files are large: beyond this much metadata, one byte per so many bytes of data is enough.
const METADATA_PLENTY: u64 = 8 * GIB;
const DATA_PER_METADATA_LARGE: u64 = 256;

/// Metadata that so much data is given room for.
fn metadata_for(data: u64) -> u64 {
    let small = data / DATA_PER_METADATA;
    if small <= METADATA_PLENTY {
        return small;
    }
    METADATA_PLENTY + (data - METADATA_PLENTY * DATA_PER_METADATA) / DATA_PER_METADATA_LARGE
}

/// A chunk whose items are not in the trees yet.
#[derive(Clone, Debug)]
pub struct NewChunk {
    pub key: Key,
    pub chunk: Chunk,
}

impl Space {
    /// Makes a new block group for `purpose`; false when the device has no room for one.
    pub(super) fn grow(&mut self, purpose: Purpose) -> Result<bool> {
        if purpose != Purpose::Data {
            return self.grow_by(purpose, self.chunk_bytes(purpose));
        }
        self.feed_metadata_first()?;
        let spare = self.metadata_room().saturating_sub(self.metadata_kept);
        let spare = spare.saturating_mul(self.copies(Purpose::Metadata));
        self.grow_by(purpose, self.chunk_bytes(purpose).min(spare))
    }

    /// What Linux takes: a tenth of the device, at most 1 GiB for data, 256 MiB (1 GiB on large devices) for metadata, 32
    /// MiB for system.
    fn chunk_bytes(&self, purpose: Purpose) -> u64 {
        let total = self.device.item.total_bytes;
        let most = match purpose {
            Purpose::Data => GIB,
            Purpose::Metadata if total > 50 * GIB => GIB,
            Purpose::Metadata => 256 * MIB,
            Purpose::System => 32 * MIB,
        };
        most.min(total / 10)
    }

    /// Before data takes what is left of the device, metadata must be able to follow.
    fn feed_metadata_first(&mut self) -> Result<()> {
        let copies = self.copies(Purpose::Metadata);
        let data = self.chunk_bytes(Purpose::Data).min(self.device.growable(1));
        let left = self.device.growable(copies).saturating_sub(data.div_ceil(copies));
        let have = self.free_bytes(Purpose::Metadata) + left;
        let need = metadata_for(self.total_bytes(Purpose::Data) + data);
        if have < need {
            let missing = (need - self.free_bytes(Purpose::Metadata).min(need))
                .min(self.chunk_bytes(Purpose::Metadata));
            self.grow_by(Purpose::Metadata, missing.next_multiple_of(CHUNK_UNIT))?;
        }
        Ok(())
    }

    fn grow_by(&mut self, purpose: Purpose, wanted: u64) -> Result<bool> {
        let copies = self.copies(purpose);
        let Some(largest) = self.device.holes.largest().map(|(_, len)| len) else { return Ok(false) };
        let second = if copies == 2 { self.second_hole() } else { largest };
        let most = largest.min(second);
        let len = wanted.min(most) / CHUNK_UNIT * CHUNK_UNIT;
        if len == 0 {
            return Ok(false);
        }
        let mut physical = Vec::new();
        for _ in 0..copies {
            let (start, _) =
                self.device.holes.next_fit(0, len, usize::MAX).expect("holes of this size were found");
            let removed = self.device.holes.remove(start, len);
            assert!(removed, "the hole holds the stripe");
            physical.push(start);
        }
        self.device.item.bytes_used += len * copies;
        self.add_chunk(purpose, len, &physical)?;
        Ok(true)
    }

    /// The largest length that two stripes can both have.
    fn second_hole(&self) -> u64 {
        let mut holes = self.device.holes.by_size().map(|(_, len)| len);
        let first = holes.next().unwrap_or(0);
        let second = holes.next().unwrap_or(0);
        second.max(first / 2 / STRIPE_LEN * STRIPE_LEN)
    }

    fn add_chunk(&mut self, purpose: Purpose, len: u64, physical: &[u64]) -> Result<()> {
        let start = self.reader.chunks().end().next_multiple_of(MIB);
        let device = &self.device.item;
        let stripes = physical
            .iter()
            .map(|offset| Stripe { devid: device.devid, offset: *offset, dev_uuid: device.uuid })
            .collect();
        let head = ChunkHead {
            length: len,
            owner: objectid::EXTENT_TREE,
            stripe_len: STRIPE_LEN,
            flags: self.flags_for(purpose),
            io_align: STRIPE_LEN as u32,
            io_width: STRIPE_LEN as u32,
            sector_size: crfs_disk::constants::SECTOR_SIZE as u32,
            num_stripes: physical.len() as u16,
            sub_stripes: 1,
        };
        let new = NewChunk {
            key: Key::new(objectid::FIRST_CHUNK_TREE, item_type::CHUNK_ITEM, start),
            chunk: Chunk { head, stripes },
        };
        self.reader.add_chunk(new.key, new.chunk.clone())?;
        let mapping = self.reader.chunks().find(start).cloned().expect("the chunk was just added");
        let mut group = BlockGroup::of_chunk(&mapping, 0);
        let mut free = FreeRuns::default();
        let inserted = free.insert(group.start, group.len);
        assert!(inserted, "the set was empty");
        for (at, size) in &group.excluded {
            free.exclude(*at, *size);
        }
        group.free = Some(free);
        if purpose == Purpose::Data {
            self.data_window = Window::default();
        }
        self.groups.insert(start, group);
        self.new_chunks.push(new);
        Ok(())
    }

    /// Type and profile of new chunks: those of the newest one for the same purpose.
    fn flags_for(&self, purpose: Purpose) -> u64 {
        let newest = self.groups.values().rev().find(|group| group.purpose() == purpose);
        newest.map_or_else(
            || match purpose {
                Purpose::Data => block_group::DATA,
                Purpose::Metadata => block_group::METADATA | block_group::DUP,
                Purpose::System => block_group::SYSTEM | block_group::DUP,
            },
            |group| group.flags,
        )
    }

    pub(super) fn copies(&self, purpose: Purpose) -> u64 {
        if self.flags_for(purpose) & block_group::DUP != 0 { 2 } else { 1 }
    }

    /// Bytes that metadata can still get, growth included.
    pub fn metadata_room(&self) -> u64 {
        self.free_bytes(Purpose::Metadata) + self.device.growable(self.copies(Purpose::Metadata))
    }

    /// Bytes of data that can still be written, when metadata keeps the room it needs beside them.
    pub fn data_room(&self) -> u64 {
        let copies = self.copies(Purpose::Metadata);
        let growable = self.device.growable(self.copies(Purpose::Data));
        let free = self.free_bytes(Purpose::Data);
        let need = metadata_for(self.total_bytes(Purpose::Data) + growable);
        let missing = need.saturating_sub(self.free_bytes(Purpose::Metadata)) * copies;
        free + growable.saturating_sub(missing)
    }
}
