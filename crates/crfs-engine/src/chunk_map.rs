// SPDX-License-Identifier: GPL-2.0-or-later
//! Logical addresses to physical ones, for the profiles of one device: SINGLE (one copy) and DUP (two).

use crate::error::{EngineError, Result};
use crfs_disk::Key;
use crfs_disk::chunk::Chunk;
use crfs_disk::constants::block_group;
use std::collections::BTreeMap;

/// Where one logical range lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkMapping {
    /// First logical address.
    pub start: u64,
    pub length: u64,
    /// `block_group` type and profile.
    pub flags: u64,
    /// Physical start of each copy.
    pub physical: Vec<u64>,
    /// The item itself.
    pub chunk: Chunk,
}

impl ChunkMapping {
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    pub fn contains(&self, logical: u64) -> bool {
        (self.start..self.end()).contains(&logical)
    }
}

/// A run of bytes inside one chunk, with the physical address of each copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedRun {
    pub logical: u64,
    pub len: u64,
    pub physical: Vec<u64>,
}

/// All chunks, by logical start. They never overlap.
#[derive(Clone, Default, Debug)]
pub struct ChunkMap {
    chunks: BTreeMap<u64, ChunkMapping>,
}

impl ChunkMap {
    /// Adds a chunk that passed the checks of its item. The same chunk may come twice (from the superblock and from the
    /// chunk tree), a different one at the same place may not.
    pub fn insert(&mut self, key: Key, chunk: Chunk, devid: u64, device_bytes: u64) -> Result<()> {
        let mapping = mapping_of(key, chunk, devid, device_bytes)?;
        let clash = self.chunks.range(..mapping.end()).next_back().map(|(_, have)| have);
        match clash.filter(|have| have.end() > mapping.start) {
            Some(have) if *have == mapping => Ok(()),
            Some(have) => Err(EngineError::corrupt(format!(
                "chunk tree: chunk {} of length {} overlaps chunk {} of length {}",
                mapping.start, mapping.length, have.start, have.length
            ))),
            None => {
                self.chunks.insert(mapping.start, mapping);
                Ok(())
            }
        }
    }

    pub fn remove(&mut self, start: u64) -> Option<ChunkMapping> {
        self.chunks.remove(&start)
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// In the order of logical addresses.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &ChunkMapping> {
        self.chunks.values()
    }

    /// The chunk that holds this address.
    pub fn find(&self, logical: u64) -> Option<&ChunkMapping> {
        self.chunks
            .range(..=logical)
            .next_back()
            .map(|(_, chunk)| chunk)
            .filter(|chunk| chunk.contains(logical))
    }

    /// First logical address above every chunk.
    pub fn end(&self) -> u64 {
        self.chunks.values().next_back().map_or(0, ChunkMapping::end)
    }

    /// The part of `[logical, logical + len)` that lies in the chunk of its first byte; a longer range goes on in the next.
    pub fn map(&self, logical: u64, len: u64) -> Result<MappedRun> {
        let Some(chunk) = self.find(logical) else {
            return Err(EngineError::corrupt(format!("address: no chunk holds logical {logical}")));
        };
        let inside = logical - chunk.start;
        let len = len.min(chunk.length - inside);
        Ok(MappedRun { logical, len, physical: chunk.physical.iter().map(|start| start + inside).collect() })
    }
}

fn mapping_of(key: Key, chunk: Chunk, devid: u64, device_bytes: u64) -> Result<ChunkMapping> {
    let (start, head) = (key.offset, chunk.head);
    let profile = head.flags & block_group::PROFILE_MASK;
    if profile != 0 && profile != block_group::DUP {
        return Err(EngineError::Unsupported(format!(
            "chunk {start} has profile {profile:#x}; convert with `btrfs balance start -dconvert=single -mconvert=dup` in Linux"
        )));
    }
    for stripe in &chunk.stripes {
        if stripe.devid != devid {
            return Err(EngineError::corrupt(format!("chunk {start}: unknown device {}", stripe.devid)));
        }
        let end = stripe.offset.checked_add(head.length);
        if end.is_none_or(|end| end > device_bytes) {
            return Err(EngineError::corrupt(format!(
                "chunk {start}: stripe at {} of length {} ends past the device of {device_bytes} bytes",
                stripe.offset, head.length
            )));
        }
    }
    let physical = chunk.stripes.iter().map(|stripe| stripe.offset).collect();
    Ok(ChunkMapping { start, length: head.length, flags: head.flags, physical, chunk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crfs_disk::chunk::{ChunkHead, Stripe};
    use crfs_disk::{Uuid, item_type};

    fn chunk(length: u64, flags: u64, physical: &[u64]) -> Chunk {
        let head = ChunkHead {
            length,
            owner: 2,
            stripe_len: 65536,
            flags,
            io_align: 65536,
            io_width: 65536,
            sector_size: 4096,
            num_stripes: physical.len() as u16,
            sub_stripes: 1,
        };
        let stripe = |offset: &u64| Stripe { devid: 1, offset: *offset, dev_uuid: Uuid::NIL };
        Chunk { head, stripes: physical.iter().map(stripe).collect() }
    }

    fn key(start: u64) -> Key {
        Key::new(256, item_type::CHUNK_ITEM, start)
    }

    #[test]
    fn maps_both_copies_and_stops_at_the_chunk_end() {
        let mut map = ChunkMap::default();
        let flags = block_group::METADATA | block_group::DUP;
        map.insert(key(1 << 20), chunk(1 << 20, flags, &[8 << 20, 16 << 20]), 1, 64 << 20).unwrap();
        let run = map.map((2 << 20) - 4096, 65536).unwrap();
        assert_eq!((run.len, run.physical), (4096, vec![(9 << 20) - 4096, (17 << 20) - 4096]));
        assert!(map.map(2 << 20, 1).is_err());
        assert!(map.map(0, 1).is_err());
    }

    #[test]
    fn refuses_overlaps_foreign_devices_and_ends_past_the_device() {
        let mut map = ChunkMap::default();
        map.insert(key(1 << 20), chunk(1 << 20, block_group::DATA, &[8 << 20]), 1, 64 << 20).unwrap();
        map.insert(key(1 << 20), chunk(1 << 20, block_group::DATA, &[8 << 20]), 1, 64 << 20).unwrap();
        assert!(
            map.insert(key(3 << 19), chunk(1 << 20, block_group::DATA, &[20 << 20]), 1, 64 << 20).is_err()
        );
        assert!(
            map.insert(key(0), chunk((1 << 20) + 4096, block_group::DATA, &[20 << 20]), 1, 64 << 20).is_err()
        );
        assert!(
            map.insert(key(4 << 20), chunk(1 << 20, block_group::DATA, &[64 << 20]), 1, 64 << 20).is_err()
        );
        assert!(map.insert(key(4 << 20), chunk(1 << 20, block_group::DATA, &[0]), 2, 64 << 20).is_err());
        assert!(map.insert(key(4 << 20), chunk(1 << 20, block_group::RAID0 | 1, &[0]), 1, 64 << 20).is_err());
    }
}
