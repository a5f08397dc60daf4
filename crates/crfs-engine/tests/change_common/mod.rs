// SPDX-License-Identifier: GPL-2.0-or-later
//! What the tests of the rules share: a store that is a sorted map, a judge of its items, a plain file system that says
//! what a batch should do, and a maker of random batches. Nothing in here uses code of `change/` but its codec.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

pub mod builder;
pub mod compare;
pub mod draw;
pub mod fsck;
pub mod generate;
pub mod hashes;
pub mod model_fs;
pub mod model_store;
pub mod on_volume;

/// The one file tree of these tests.
pub const TREE: u64 = 5;
pub const ROOT: u64 = 256;
