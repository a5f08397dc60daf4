// SPDX-License-Identifier: GPL-2.0-or-later
//! The device under the chunks: which physical ranges no chunk uses.

use super::free_runs::FreeRuns;
use crate::error::{EngineError, Result};
use crate::tree::{Cursor, NodeSource, Tree};
use crfs_disk::chunk::{DevExtent, DevItem};
use crfs_disk::constants::{DEVICE_RESERVED, STRIPE_LEN};
use crfs_disk::{Key, item_type};

/// A new chunk's length is a multiple of this.
pub const CHUNK_UNIT: u64 = 1 << 20;

pub struct DeviceSpace {
    /// As the chunk tree and the superblock hold it; `bytes_used` runs along.
    pub item: DevItem,
    /// Physical ranges in no device extent, the reserved first MiB apart.
    pub holes: FreeRuns,
}

impl DeviceSpace {
    /// Reads the DEV_EXTENTs of the device.
    pub fn load(item: DevItem, dev_tree: &Tree, nodes: &dyn NodeSource) -> Result<DeviceSpace> {
        let mut holes = FreeRuns::default();
        let end = item.total_bytes / STRIPE_LEN * STRIPE_LEN;
        if end > DEVICE_RESERVED && !holes.insert(DEVICE_RESERVED, end - DEVICE_RESERVED) {
            unreachable!("the set is empty");
        }
        let mut used = 0;
        let mut past = 0;
        let mut cursor = Cursor::seek(dev_tree, nodes, Key::new(item.devid, item_type::DEV_EXTENT, 0))?;
        while let Some((key, data)) = cursor.item() {
            if key.objectid != item.devid || key.kind != item_type::DEV_EXTENT {
                break;
            }
            let bad = |what: String| EngineError::Corrupt(format!("device tree: key={key}, {what}"));
            let extent = DevExtent::parse(data).map_err(|error| bad(error.to_string()))?;
            let stop = key.offset.checked_add(extent.length).filter(|stop| *stop <= item.total_bytes);
            let stop = stop.ok_or_else(|| bad("extent ends past the device".into()))?;
            if key.offset < past {
                return Err(bad("extent overlaps the one before".into()));
            }
            past = stop;
            holes.exclude(key.offset, extent.length);
            used += extent.length;
            cursor.advance()?;
        }
        if used != item.bytes_used {
            return Err(EngineError::Corrupt(format!(
                "device tree: device extents add up to {used}, the device item says {}",
                item.bytes_used
            )));
        }
        Ok(DeviceSpace { item, holes })
    }

    /// Bytes that chunks with so many copies could still get, each copy in one piece.
    pub fn growable(&self, copies: u64) -> u64 {
        self.holes.iter().map(|(_, len)| len / copies / CHUNK_UNIT * CHUNK_UNIT).sum()
    }
}
