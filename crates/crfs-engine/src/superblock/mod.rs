// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading the superblock, and judging whether the engine may serve what it describes.
//!
//! Only the primary counts, as in Linux: a superblock write is atomic, so a bad primary is damage, not a crash. The mirrors
//! are looked at to say what could help.

mod features;

pub use features::{Judgement, judge_superblock};

use crate::error::{EngineError, Result};
use crfs_device::BlockDevice;
use crfs_disk::Superblock;
use crfs_disk::constants::{SUPER_OFFSETS, SUPER_SIZE};
use crfs_disk::superblock::MAGIC;

/// The addresses of the superblock copies that a device of this size has, the primary first.
pub fn copies(device_size: u64) -> impl Iterator<Item = u64> {
    SUPER_OFFSETS.into_iter().filter(move |at| at + (SUPER_SIZE as u64) < device_size)
}

/// The primary superblock, checked.
pub fn read_superblock(device: &dyn BlockDevice) -> Result<Superblock> {
    let primary = SUPER_OFFSETS[0];
    if device.size() < primary + SUPER_SIZE as u64 {
        return Err(EngineError::Unsupported(format!(
            "not BTRFS: the image has only {} bytes",
            device.size()
        )));
    }
    let bytes = read_copy(device, primary)?;
    match Superblock::parse_checked(&bytes, primary) {
        Ok(sb) => Ok(sb),
        Err(error) => Err(bad_primary(device, &bytes, &error.to_string())),
    }
}

fn read_copy(device: &dyn BlockDevice, at: u64) -> Result<[u8; SUPER_SIZE]> {
    let mut bytes = [0; SUPER_SIZE];
    device
        .read_at(at, &mut bytes)
        .map_err(|source| EngineError::Io { what: format!("reading the superblock at {at}"), source })?;
    Ok(bytes)
}

fn bad_primary(device: &dyn BlockDevice, bytes: &[u8], why: &str) -> EngineError {
    let sound = copies(device.size())
        .skip(1)
        .find(|at| read_copy(device, *at).is_ok_and(|bytes| Superblock::parse_checked(&bytes, *at).is_ok()));
    match sound {
        Some(at) => EngineError::corrupt(format!(
            "superblock: {why}; the copy at {at} is sound, `btrfs rescue super-recover` can restore from it"
        )),
        None if bytes[64..72] != MAGIC => {
            EngineError::Unsupported("not BTRFS: no superblock at 65536".into())
        }
        None => EngineError::corrupt(format!("superblock: {why}")),
    }
}
