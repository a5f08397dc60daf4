// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the first block groups lie and how large they are: the addresses that `mkfs.btrfs` 6.2 chooses.

use super::DEVID;
use crate::error::{EngineError, Result};
use crfs_disk::Uuid;
use crfs_disk::chunk::{Chunk, ChunkHead, Stripe};
use crfs_disk::constants::{SECTOR_SIZE, STRIPE_LEN, block_group, objectid};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Smallest device, the bound of `mkfs.btrfs` with these profiles: below it nothing is left for a second data group.
const DEVICE_MIN: u64 = 114_294_784;
/// mkfs.btrfs keeps 1 MiB free and puts its temporary groups (4 and 8 MiB) next; the first lasting group follows.
const DATA_START: u64 = 13 * MIB;
const DATA_LEN: u64 = 8 * MIB;
const SYSTEM_LEN: u64 = 8 * MIB;
const METADATA_LEN_MIN: u64 = 32 * MIB;

/// One block group of the fresh file system.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub start: u64,
    pub length: u64,
    pub flags: u64,
    /// Physical start of each copy.
    physical: [u64; 2],
    copies: usize,
}

impl Group {
    pub fn physical(&self) -> &[u64] {
        &self.physical[..self.copies]
    }

    /// Physical addresses of a logical one inside the group.
    pub fn physical_of(&self, bytenr: u64) -> impl Iterator<Item = u64> + '_ {
        self.physical().iter().map(move |start| start + (bytenr - self.start))
    }

    /// Bytes that all copies take of the device.
    pub fn device_bytes(&self) -> u64 {
        self.length * self.copies as u64
    }

    pub fn chunk(&self, dev_uuid: Uuid) -> Chunk {
        let head = ChunkHead {
            length: self.length,
            owner: objectid::EXTENT_TREE,
            stripe_len: STRIPE_LEN,
            flags: self.flags,
            io_align: STRIPE_LEN as u32,
            io_width: STRIPE_LEN as u32,
            sector_size: SECTOR_SIZE as u32,
            num_stripes: self.copies as u16,
            sub_stripes: 1,
        };
        let stripe = |offset: &u64| Stripe { devid: DEVID, offset: *offset, dev_uuid };
        Chunk { head, stripes: self.physical().iter().map(stripe).collect() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Size of the device, whole sectors.
    pub total_bytes: u64,
    pub data: Group,
    pub system: Group,
    pub metadata: Group,
}

impl Layout {
    pub fn for_device(size: u64) -> Result<Layout> {
        if size < DEVICE_MIN {
            return Err(EngineError::refused(
                libc::EINVAL,
                format!(
                    "the image has {size} bytes; BTRFS with duplicated metadata needs at least {DEVICE_MIN} (109 MiB)"
                ),
            ));
        }
        let total_bytes = size / SECTOR_SIZE * SECTOR_SIZE;
        // A tenth of the device for both copies together, within bounds.
        let max = if total_bytes > 50 * GIB { GIB } else { 256 * MIB };
        let metadata_len = (total_bytes / 20 / STRIPE_LEN * STRIPE_LEN).clamp(METADATA_LEN_MIN, max);
        let data = Group {
            start: DATA_START,
            length: DATA_LEN,
            flags: block_group::DATA,
            physical: [DATA_START, 0],
            copies: 1,
        };
        let system_start = DATA_START + DATA_LEN;
        let system = Group {
            start: system_start,
            length: SYSTEM_LEN,
            flags: block_group::SYSTEM | block_group::DUP,
            physical: [system_start, system_start + SYSTEM_LEN],
            copies: 2,
        };
        let metadata_start = system_start + SYSTEM_LEN;
        // The second copy of the system group shifts what follows on the device, not its logical address.
        let metadata_physical = metadata_start + SYSTEM_LEN;
        let metadata = Group {
            start: metadata_start,
            length: metadata_len,
            flags: block_group::METADATA | block_group::DUP,
            physical: [metadata_physical, metadata_physical + metadata_len],
            copies: 2,
        };
        Ok(Layout { total_bytes, data, system, metadata })
    }

    /// In logical order.
    pub fn groups(&self) -> [Group; 3] {
        [self.data, self.system, self.metadata]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_mkfs_btrfs() {
        for (device, metadata) in [
            (128 * MIB, 32 * MIB),
            (GIB, 53_673_984),
            (2 * GIB, 107_347_968),
            (20 * GIB, 256 * MIB),
            (100 * GIB, GIB),
        ] {
            let layout = Layout::for_device(device).unwrap();
            assert_eq!(layout.metadata.length, metadata);
            assert_eq!(
                (layout.data.start, layout.system.start, layout.metadata.start),
                (13_631_488, 22_020_096, 30_408_704)
            );
            assert!(layout.metadata.physical()[1] + metadata <= device);
        }
        assert!(Layout::for_device(DEVICE_MIN - 1).is_err());
    }
}
