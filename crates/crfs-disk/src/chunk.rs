// SPDX-License-Identifier: GPL-2.0-or-later
//! Chunks, their stripes, devices and block groups: how logical addresses become bytes of a device.

use crate::Uuid;
use crate::bytes::{FormatError, Result, disk_struct};
use crate::constants::{STRIPE_LEN, block_group};

disk_struct! {
    /// CHUNK_ITEM without its stripes; key (256, 228, logical start).
    pub struct ChunkHead {
        pub length: u64,
        /// Always 2, the extent tree.
        pub owner: u64,
        pub stripe_len: u64,
        /// `block_group` type and profile.
        pub flags: u64,
        pub io_align: u32,
        pub io_width: u32,
        pub sector_size: u32,
        pub num_stripes: u16,
        pub sub_stripes: u16,
    }
}

disk_struct! {
    /// One stripe: where (a copy of) the chunk's bytes lie.
    pub struct Stripe {
        pub devid: u64,
        /// Physical offset on that device.
        pub offset: u64,
        pub dev_uuid: Uuid,
    }
}

disk_struct! {
    /// DEV_ITEM; key (1, 216, devid) in the chunk tree, and embedded in the superblock.
    pub struct DevItem {
        pub devid: u64,
        pub total_bytes: u64,
        /// Sum of the device's DEV_EXTENTs.
        pub bytes_used: u64,
        pub io_align: u32,
        pub io_width: u32,
        pub sector_size: u32,
        pub kind: u64,
        pub generation: u64,
        pub start_offset: u64,
        pub dev_group: u32,
        pub seek_speed: u8,
        pub bandwidth: u8,
        pub uuid: Uuid,
        /// The metadata uuid.
        pub fsid: Uuid,
    }
}

disk_struct! {
    /// DEV_EXTENT; key (devid, 204, physical offset) in the device tree.
    pub struct DevExtent {
        /// Always 3.
        pub chunk_tree: u64,
        /// Always 256.
        pub chunk_objectid: u64,
        /// Logical start of the chunk.
        pub chunk_offset: u64,
        pub length: u64,
        pub chunk_tree_uuid: Uuid,
    }
}

disk_struct! {
    /// BLOCK_GROUP_ITEM; key (logical start, 192, length).
    pub struct BlockGroupItem {
        /// Sum of the lengths of the extents inside.
        pub used: u64,
        /// Always 256.
        pub chunk_objectid: u64,
        pub flags: u64,
    }
}

/// A whole CHUNK_ITEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub head: ChunkHead,
    pub stripes: Vec<Stripe>,
}

impl Chunk {
    /// Bytes of a CHUNK_ITEM with so many stripes.
    pub const fn item_size(num_stripes: usize) -> usize {
        ChunkHead::SIZE + num_stripes * Stripe::SIZE
    }

    /// Reads the chunk from the front of `bytes`; its size on disk is `item_size(stripes.len())`.
    pub fn parse(bytes: &[u8]) -> Result<Chunk> {
        let head = ChunkHead::parse(bytes)?;
        let count = usize::from(head.num_stripes);
        if count == 0 {
            return Err(FormatError::new("chunk without stripes"));
        }
        let need = Chunk::item_size(count);
        let Some(raw) = bytes.get(ChunkHead::SIZE..need) else {
            return Err(FormatError::new(format!(
                "chunk is cut short, have {} bytes, need {need} for {count} stripes",
                bytes.len()
            )));
        };
        let stripes = raw.chunks(Stripe::SIZE).map(Stripe::parse).collect::<Result<_>>()?;
        Ok(Chunk { head, stripes })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head.encode().to_vec();
        for stripe in &self.stripes {
            bytes.extend_from_slice(&stripe.encode());
        }
        bytes
    }

    /// The rules of one chunk at logical `start` (Linux: `btrfs_check_chunk_valid`); the error is one line.
    pub fn check(&self, start: u64, sectorsize: u32) -> Result<()> {
        let head = &self.head;
        let fail = |text: String| Err(FormatError::new(text));
        let sector = u64::from(sectorsize);
        if !start.is_multiple_of(sector) {
            return fail(format!("invalid chunk logical, have {start} should be aligned to {sector}"));
        }
        if head.sector_size != sectorsize {
            return fail(format!("invalid chunk sectorsize, have {} expect {sector}", head.sector_size));
        }
        if head.length == 0 || !head.length.is_multiple_of(sector) {
            return fail(format!("invalid chunk length, have {}", head.length));
        }
        if start.checked_add(head.length).is_none() {
            return fail(format!("invalid chunk, start {start} with length {} wraps", head.length));
        }
        if head.stripe_len != STRIPE_LEN {
            return fail(format!(
                "invalid chunk stripe length, have {} expect {STRIPE_LEN}",
                head.stripe_len
            ));
        }
        let known = block_group::TYPE_MASK | block_group::PROFILE_MASK;
        if head.flags & !known != 0 {
            return fail(format!("unrecognized chunk type {:#x}", head.flags & !known));
        }
        let profile = head.flags & block_group::PROFILE_MASK;
        if profile.count_ones() > 1 {
            return fail(format!("invalid chunk profile {profile:#x}, expect 0 or 1 bit set"));
        }
        let kind = head.flags & block_group::TYPE_MASK;
        if kind == 0 {
            return fail("missing chunk type flag".into());
        }
        if kind & block_group::SYSTEM != 0 && kind != block_group::SYSTEM {
            return fail(format!("system chunk with data or metadata type {kind:#x}"));
        }
        self.check_stripe_count(profile)
    }

    fn check_stripe_count(&self, profile: u64) -> Result<()> {
        let count = usize::from(self.head.num_stripes);
        let sub = self.head.sub_stripes;
        let sound = match profile {
            0 => count == 1,
            block_group::DUP | block_group::RAID1 => count == 2,
            block_group::RAID1C3 => count == 3,
            block_group::RAID1C4 => count == 4,
            block_group::RAID10 => sub == 2 && count.is_multiple_of(2),
            block_group::RAID5 => count >= 2,
            block_group::RAID6 => count >= 3,
            _ => true,
        };
        if !sound || count != self.stripes.len() {
            return Err(FormatError::new(format!(
                "invalid num_stripes:sub_stripes {count}:{sub} for profile {profile:#x}"
            )));
        }
        Ok(())
    }
}
