// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS engine: opens an image, reads ranges of items and data, applies batches of changes to the running
//! transaction, commits. Knows nothing of Node, of clients or of grants beyond the ranges it is handed.

pub mod block_reader;
pub mod change;
pub mod chunk_map;
pub mod error;
pub mod mkfs;
pub mod open;
pub mod space;
pub mod store;
pub mod superblock;
pub mod transaction;
pub mod tree;
pub mod tree_reader;
pub mod volume;

pub use block_reader::{BlockReader, LogSink};
pub use error::{EngineError, Result};
pub use mkfs::{MkfsOptions, mkfs};
pub use open::{Image, OpenOptions, Place, RootInfo, open_image};
pub use store::{DataRef, DiskRun, Store};
pub use volume::{
    DataPage, ItemPage, Snapshot, Statfs, Subvolume, Volume, VolumeInfo, VolumeOptions, VolumeStats,
};
