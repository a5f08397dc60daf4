// SPDX-License-Identifier: GPL-2.0-or-later
//! What changes cost of a client's reservation of space (docs/protocol.md, "Space"). Clients count by the same rule
//! (`ts/wire/space.ts`) before they accept an operation.
//!
//! INVARIANT that `transaction/reserve.rs` builds on: a change adds no more leaf bytes than half its cost, and changes at
//! most four leaves for every SECTOR of it.

use super::codec::{Change, Changes};

pub const SECTOR: u64 = 4096;

/// Cost of all changes of a batch, bytes.
pub fn batch_cost(changes: &[u8]) -> u64 {
    Changes::new(changes).map_while(Result::ok).map(|change| cost(&change)).fold(0, u64::saturating_add)
}

fn cost(change: &Change<'_>) -> u64 {
    match change {
        Change::NewInode(new) => SECTOR + 2 * new.target.len() as u64,
        Change::AddName(_) | Change::Rename(_) | Change::Cut { .. } => SECTOR,
        Change::SetXattr { value, .. } => SECTOR + 2 * value.len() as u64,
        Change::PutData { length, .. } => sectors(u64::from(*length)),
        Change::Preallocate { length, .. } => sectors(*length),
        _ => 0,
    }
}

fn sectors(length: u64) -> u64 {
    length.div_ceil(SECTOR).saturating_mul(SECTOR)
}
