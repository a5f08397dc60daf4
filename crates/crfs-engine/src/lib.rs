// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS engine: opens an image, reads ranges of items and data, applies batches of changes to the running
//! transaction, commits. Knows nothing of Node, of clients or of grants beyond the ranges it is handed.

pub mod block_reader;
pub mod chunk_map;
pub mod change;
pub mod error;
pub mod mkfs;
pub mod open;
pub mod space;
pub mod store;
pub mod superblock;
pub mod tree_reader;
pub mod tree;
pub mod volume;
pub mod transaction;

pub use block_reader::{BlockReader, LogSink};
pub use error::{EngineError, Result};
pub use mkfs::{MkfsOptions, mkfs};
pub use open::{Image, OpenOptions, RootInfo, open_image};
pub use store::{DataRef, DiskRun, Store};
pub use volume::{DataPage, ItemPage, Snapshot, Statfs, Volume, VolumeInfo, VolumeOptions, VolumeStats};
