// SPDX-License-Identifier: GPL-2.0-or-later
//! What changes cost of a client's reservation of space (docs/protocol.md, "Space"). Clients count by the same rule
//! (`ts/wire/space.ts`) before they accept an operation.

use super::codec::{Change, Changes};

const NEW_INODE: u64 = 2048;
const NAME: u64 = 1024;
const XATTR: u64 = 512;
const SECTOR: u64 = 4096;

/// Cost of all changes of a batch that was applied, bytes.
pub fn batch_cost(changes: &[u8]) -> u64 {
    Changes::new(changes).map_while(Result::ok).map(|change| cost(&change)).fold(0, u64::saturating_add)
}

fn cost(change: &Change<'_>) -> u64 {
    match change {
        Change::NewInode(_) => NEW_INODE,
        Change::AddName(_) | Change::Rename(_) => NAME,
        Change::SetXattr { value, .. } => XATTR + 2 * value.len() as u64,
        Change::PutData { length, .. } => sectors(u64::from(*length)),
        Change::Preallocate { length, .. } => sectors(*length),
        _ => 0,
    }
}

fn sectors(length: u64) -> u64 {
    length.div_ceil(SECTOR).saturating_mul(SECTOR)
}
