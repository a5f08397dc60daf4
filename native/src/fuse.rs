// SPDX-License-Identifier: GPL-2.0-or-later
//! The kernel channel for TypeScript: `ts/fuse/native_driver.ts` is its only user.
//!
//! Memory is shared: JavaScript makes four typed arrays once (requests, their table, replies, their table) and hands
//! them over; afterwards a call carries a few numbers. Nothing here decides anything.

use std::path::PathBuf;
use std::time::Duration;

use crfs_fuse::{Burst, Channel, Connection, FuseError, MountOptions, Note, Notifier, Session};
use napi::bindgen_prelude::{Function, JsValue, Uint8Array, Uint32Array};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::poll::Poll;

/// What to mount; see `crfs_fuse::MountOptions`.
#[napi(object)]
pub struct FuseMountOptions {
    pub source: String,
    pub target: String,
    pub flags: Vec<String>,
    pub allow_other: bool,
}

/// Numbers since the mount.
#[napi(object)]
pub struct FuseCounters {
    pub requests: f64,
    pub replies: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    pub malformed: f64,
    pub refused: f64,
}

/// One mounted connection.
#[napi]
pub struct FuseChannel {
    channel: Channel,
    session: Session,
    connection: Connection,
    notifier: Notifier,
    region: Uint8Array,
    meta: Uint32Array,
    replies: Uint8Array,
    table: Uint32Array,
    polls: Vec<Poll>,
}

/// The message starts with the errno's number, and a `!` if this machine cannot mount at all; the driver takes both off.
fn to_js(error: FuseError) -> Error {
    let mark = if error.is_of_the_system() { "!" } else { "" };
    Error::new(Status::GenericFailure, format!("{}{mark} {error}", error.errno()))
}

/// Gives a mount, of whatever process, other generic flags. Waits for requests to be answered: never call it where they are.
#[napi]
pub fn remount(target: String, flags: Vec<String>) -> Result<()> {
    crfs_fuse::mount::remount(&PathBuf::from(target), &flags).map_err(to_js)
}

#[napi]
impl FuseChannel {
    /// Mounts, shakes hands and starts the notifier. The arrays must not be detached while the channel lives.
    #[napi(constructor)]
    pub fn new(
        options: FuseMountOptions,
        region: Uint8Array,
        meta: Uint32Array,
        replies: Uint8Array,
        table: Uint32Array,
    ) -> Result<Self> {
        let FuseMountOptions { source, target, flags, allow_other } = options;
        let options = MountOptions { source, target: PathBuf::from(target), flags, allow_other };
        let (channel, session, connection) = Channel::mount(&options).map_err(to_js)?;
        let notifier = Notifier::start(channel.share_fd()).map_err(|error| {
            // Lazy, because nobody will answer requests.
            let _ = connection.unmount(libc::MNT_DETACH);
            to_js(error)
        })?;
        Ok(Self { channel, session, connection, notifier, region, meta, replies, table, polls: Vec::new() })
    }

    /// Minor version of the kernel interface that both sides speak.
    #[napi(getter)]
    pub fn minor(&self) -> u32 {
        self.session.minor
    }

    /// Whether names can be expired instead of dropped.
    #[napi(getter)]
    pub fn has_expire_only(&self) -> bool {
        self.session.has_expire_only()
    }

    /// Whether one notification can expire every name.
    #[napi(getter)]
    pub fn has_inc_epoch(&self) -> bool {
        self.session.has_inc_epoch()
    }

    /// The mount point as the kernel knows it.
    #[napi(getter)]
    pub fn target(&self) -> String {
        self.connection.target.to_string_lossy().into_owned()
    }

    /// Raises the kernel's read-ahead. False where /sys cannot be written.
    #[napi]
    pub fn raise_readahead(&self) -> bool {
        self.connection.raise_readahead().is_ok()
    }

    /// Calls `on_readable` while requests wait, and `on_completed` while completed notifications do.
    #[napi]
    pub fn start(
        &mut self,
        env: &Env,
        on_readable: Function<(), ()>,
        on_completed: Function<(), ()>,
    ) -> Result<()> {
        let channel = std::os::fd::AsRawFd::as_raw_fd(&*self.channel.share_fd());
        self.polls.push(Poll::start(env, channel, on_readable.raw())?);
        self.polls.push(Poll::start(env, self.notifier.event_fd(), on_completed.raw())?);
        Ok(())
    }

    /// Writes the first `count` queued replies, then reads up to `limit` requests, looking for the first one for
    /// `look_us` microseconds. Returns their number; -1 when the connection is gone.
    #[napi]
    pub fn next(&mut self, count: u32, limit: u32, look_us: u32) -> Result<i32> {
        let look = Duration::from_micros(u64::from(look_us));
        // SAFETY: JavaScript, the only other user of both arrays, waits for this call on this very thread.
        let (region, meta) = unsafe { (self.region.as_mut(), self.meta.as_mut()) };
        let burst = self
            .channel
            .next(&self.replies, &self.table, count as usize, region, meta, limit as usize, look)
            .map_err(to_js)?;
        Ok(match burst {
            Burst::Requests(found) => found as i32,
            Burst::Closed => -1,
        })
    }

    /// Writes the first `count` queued replies.
    #[napi]
    pub fn flush(&mut self, count: u32) -> Result<()> {
        self.channel.flush(&self.replies, &self.table, count as usize).map_err(to_js)
    }

    /// Answers a request with `data` at once, without a copy into the reply region.
    #[napi]
    pub fn reply_data(&mut self, unique_low: u32, unique_high: u32, data: &[u8]) -> Result<()> {
        let unique = u64::from(unique_high) << 32 | u64::from(unique_low);
        self.channel.reply_parts(unique, &[data]).map_err(to_js)
    }

    /// Queues INVAL_INODE: `offset` -1 for attributes only; `length` 0 up to the end.
    #[napi]
    pub fn notify_inode(&self, ticket: u32, nodeid: f64, offset: f64, length: f64) -> Result<()> {
        let note = Note::Inode { nodeid: nodeid as u64, offset: offset as i64, length: length as i64 };
        self.notifier.send(ticket, note).map_err(to_js)
    }

    /// Queues INVAL_ENTRY.
    #[napi]
    pub fn notify_name(&self, ticket: u32, parent: f64, name: &[u8], expire: bool) -> Result<()> {
        let expire = expire && self.session.has_expire_only();
        self.notifier
            .send(ticket, Note::Name { parent: parent as u64, name: name.into(), expire })
            .map_err(to_js)
    }

    /// Queues INC_EPOCH.
    #[napi]
    pub fn notify_epoch(&self, ticket: u32) -> Result<()> {
        self.notifier.send(ticket, Note::IncEpoch).map_err(to_js)
    }

    /// Starts to unmount with the flags of umount2 on a thread of its own; it completes like a notification.
    #[napi]
    pub fn unmount(&self, ticket: u32, flags: i32) -> Result<()> {
        self.notifier.unmount(ticket, self.connection.clone(), flags).map_err(to_js)
    }

    /// Returns what completed since the last call: ticket and errno alternate.
    #[napi]
    pub fn completions(&self) -> Vec<u32> {
        self.notifier.collect().iter().flat_map(|done| [done.ticket, done.errno as u32]).collect()
    }

    /// Ends the connection from the kernel's side. False where /sys/fs/fuse is not mounted.
    #[napi]
    pub fn abort(&self) -> bool {
        self.connection.abort().is_ok()
    }

    #[napi]
    pub fn counters(&self) -> FuseCounters {
        let counters = self.channel.counters();
        FuseCounters {
            requests: counters.requests as f64,
            replies: counters.replies as f64,
            bytes_in: counters.bytes_in as f64,
            bytes_out: counters.bytes_out as f64,
            malformed: counters.malformed as f64,
            refused: counters.refused as f64,
        }
    }

    /// Stops calling JavaScript and lets the notifier's threads end. The descriptor closes with the object.
    #[napi]
    pub fn close(&mut self) {
        self.polls.clear();
        self.notifier.shutdown();
    }
}
