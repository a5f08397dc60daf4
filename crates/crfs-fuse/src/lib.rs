// SPDX-License-Identifier: GPL-2.0-or-later
//! The kernel channel: mounts `/dev/fuse`, shakes hands, reads requests in bursts, writes replies, and tells the
//! kernel what it must forget.
//!
//! `native/` wraps it for TypeScript, which answers the requests; nothing here knows Node, a client or a grant.
//! Two rules hold everywhere:
//! - **Nothing trusts a length.** A request reaches the caller only after `request::parse` found every field, name
//!   and payload inside the bytes that were read.
//! - **The answering thread never writes a notification.** The kernel takes page locks and directory locks for it that
//!   an unanswered request may hold; `notify::Notifier` has threads of its own for that.
//!
//! Left out: splice, io_uring and cloned descriptors, which measured no gain.
//! A thread that drops the kernel's caches when a lease runs out belongs beside `Notifier`: its handle is `Clone` and
//! usable from any thread, and one `Note::IncEpoch` makes every cached name ask again.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

pub mod abi;
mod bytes;
mod cached;
pub mod channel;
pub mod error;
mod fusermount;
pub mod init;
pub mod mount;
pub mod notify;
pub mod request;
mod test_faults;

pub use cached::cached_inode;
pub use channel::{Burst, Channel, Counters};
pub use error::{FuseError, Result};
pub use init::Session;
pub use mount::{Connection, MountOptions};
pub use notify::{Completion, Note, Notifier};
