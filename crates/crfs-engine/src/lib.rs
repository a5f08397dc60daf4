// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS engine: opens an image, reads ranges of items and data, applies batches of changes to the running
//! transaction, commits. Knows nothing of Node, of clients or of grants beyond the ranges it is handed.

pub mod error;
pub mod store;

pub use error::{EngineError, Result};
pub use store::{DataRef, DiskRun, Store};
