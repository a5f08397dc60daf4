// SPDX-License-Identifier: GPL-2.0-or-later
//! The descriptor of one mounted connection: requests in by bursts, replies out.
//!
//! One thread owns a `Channel`. `next` first writes every queued reply, then reads requests until none is left, the
//! region is full or the burst is: two system calls a request and one entry into native code a burst. Small requests are
//! packed behind one another, because every read(2) must be offered room for the largest one. What cannot be parsed
//! is answered EIO here and never seen above.
//!
//! The memory belongs to the caller, who passes it in each call: a region for requests, one for replies, and two
//! tables of u32 that say where things lie.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::abi::{OUT_HEADER_BYTES, SLOT_BYTES};
use crate::bytes::u64_at;
use crate::error::{FuseError, Result};
use crate::init::{Negotiation, Session, negotiate};
use crate::mount::{self, Connection, MountOptions};
use crate::request::{Shape, parse};

/// u32 words that `next` fills for each request:
/// header offset, opcode, bytes in all, first name's offset and length, second name's offset and length, payload's
/// offset. Offsets count from the start of the region, in bytes; a missing part is 0.
pub const META_WORDS: usize = 8;
/// u32 words of each queued reply: offset of its `fuse_out_header` in the reply region, bytes in all.
pub const REPLY_WORDS: usize = 2;
/// Requests start on this boundary, bytes, so that u32 and u64 fields can be read as aligned words.
const ALIGN_BYTES: usize = 8;
/// The kernel queues INIT inside mount(2); more than a moment means that something is wrong with it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a call of `next` brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// So many requests; 0 when the kernel has none.
    Requests(usize),
    /// The connection is gone: unmounted or aborted.
    Closed,
}

/// What happened on the channel since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub requests: u64,
    pub replies: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Requests whose lengths contradicted each other.
    pub malformed: u64,
    /// Replies that the kernel refused; their callers got EIO instead.
    pub refused: u64,
}

/// One end of a FUSE connection.
pub struct Channel {
    fd: Arc<OwnedFd>,
    counters: Counters,
    closed: bool,
}

/// Outcome of one read(2).
enum Read {
    Bytes(usize),
    Empty,
    Gone,
}

impl Channel {
    /// Takes over a connected descriptor, non-blocking, on which the handshake is still to come.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), counters: Counters::default(), closed: false }
    }

    /// Mounts and shakes hands. A failure leaves nothing mounted.
    pub fn mount(options: &MountOptions) -> Result<(Self, Session, Connection)> {
        let (fd, connection) = mount::mount(options)?;
        let mut channel = Self::new(fd);
        match channel.handshake() {
            Ok(session) => Ok((channel, session, connection)),
            Err(error) => {
                // Lazy, because nobody will answer; the descriptor's end aborts the rest.
                let _ = connection.unmount(libc::MNT_DETACH);
                Err(error)
            }
        }
    }

    /// The descriptor, for poll and for the notifier's threads.
    pub fn share_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Waits for INIT and answers it.
    pub fn handshake(&mut self) -> Result<Session> {
        let mut buffer = vec![0u8; SLOT_BYTES];
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        loop {
            wait_readable(self.fd.as_fd(), deadline)?;
            let length = match self.read(&mut buffer)? {
                Read::Bytes(length) => length,
                Read::Empty => continue,
                Read::Gone => return Err(FuseError::Handshake("the connection was closed".into())),
            };
            let request = buffer.get(..length).unwrap_or_default();
            match negotiate(request)? {
                Negotiation::Agreed(reply, session) => {
                    self.write(&[IoSlice::new(&reply)])?;
                    return Ok(session);
                }
                Negotiation::AskAgain(reply) => self.write(&[IoSlice::new(&reply)])?,
            }
        }
    }

    /// Writes the `count` replies that `table` lists, then reads up to `limit` requests into `region` and describes
    /// them in `meta`. What the region held before is overwritten. While there is none it looks again for as long as `look`
    /// says.
    #[allow(clippy::too_many_arguments)] // Four arrays of JavaScript's, and what to do with them.
    pub fn next(
        &mut self,
        replies: &[u8],
        table: &[u32],
        count: usize,
        region: &mut [u8],
        meta: &mut [u32],
        limit: usize,
        look: Duration,
    ) -> Result<Burst> {
        self.flush(replies, table, count)?;
        let mut until = None;
        let limit = limit.min(meta.len() / META_WORDS);
        let mut found = 0;
        let mut at = 0;
        while found < limit && !self.closed {
            let Some(slot) = region.get_mut(at..).filter(|slot| slot.len() >= SLOT_BYTES) else { break };
            let length = match self.read(slot)? {
                Read::Bytes(length) => length,
                Read::Empty if found == 0 && !look.is_zero() => {
                    let now = Instant::now();
                    if now >= *until.get_or_insert(now + look) {
                        break;
                    }
                    std::hint::spin_loop();
                    continue;
                }
                Read::Empty => break,
                Read::Gone => {
                    self.closed = true;
                    break;
                }
            };
            let request = slot.get(..length).unwrap_or_default();
            self.counters.requests += 1;
            self.counters.bytes_in += length as u64;
            match parse(request) {
                Ok(shape) => {
                    describe(meta, found, at, length, &shape);
                    found += 1;
                    at = (at + length).next_multiple_of(ALIGN_BYTES);
                }
                Err(_) => {
                    self.counters.malformed += 1;
                    if let Some(unique) = u64_at(request, 8) {
                        self.reply_error(unique, libc::EIO)?;
                    }
                }
            }
        }
        if found == 0 && self.closed { Ok(Burst::Closed) } else { Ok(Burst::Requests(found)) }
    }

    /// Writes the `count` replies that `table` lists.
    pub fn flush(&mut self, replies: &[u8], table: &[u32], count: usize) -> Result<()> {
        let entries =
            table.get(..count * REPLY_WORDS).ok_or(FuseError::ReplyTable("more replies than entries"))?;
        for entry in entries.chunks_exact(REPLY_WORDS) {
            let &[offset, length] = entry else { continue };
            let end = offset as usize + length as usize;
            let bytes = replies
                .get(offset as usize..end)
                .ok_or(FuseError::ReplyTable("a reply lies outside the region"))?;
            self.write(&[IoSlice::new(bytes)])?;
        }
        Ok(())
    }

    /// Answers `unique` with the concatenation of `parts`, without copying them.
    pub fn reply_parts(&mut self, unique: u64, parts: &[&[u8]]) -> Result<()> {
        let length = OUT_HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
        let header = out_header(length, 0, unique);
        let mut slices = Vec::with_capacity(parts.len() + 1);
        slices.push(IoSlice::new(&header));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        self.write(&slices)
    }

    /// Answers `unique` with the positive error number `errno`.
    pub fn reply_error(&mut self, unique: u64, errno: i32) -> Result<()> {
        self.write(&[IoSlice::new(&out_header(OUT_HEADER_BYTES, errno, unique))])
    }

    fn read(&mut self, slot: &mut [u8]) -> Result<Read> {
        loop {
            // SAFETY: the pointer and length are those of a live exclusive slice.
            let length = unsafe { libc::read(self.fd.as_raw_fd(), slot.as_mut_ptr().cast(), slot.len()) };
            if length > 0 {
                return Ok(Read::Bytes(length as usize));
            }
            if length == 0 {
                return Ok(Read::Gone);
            }
            let cause = io::Error::last_os_error();
            match cause.raw_os_error() {
                // ENOENT: the request was interrupted between waking us and being read.
                Some(libc::EINTR | libc::ENOENT) => {}
                Some(libc::EAGAIN) => return Ok(Read::Empty),
                Some(libc::ENODEV | libc::ECONNABORTED | libc::ENOTCONN) => return Ok(Read::Gone),
                _ => return Err(FuseError::Io { what: "read from /dev/fuse", cause }),
            }
        }
    }

    /// Writes one reply, which the kernel takes whole or not at all.
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        let Err(cause) = write_once(self.fd.as_fd(), parts) else {
            self.counters.replies += 1;
            self.counters.bytes_out += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            return Ok(());
        };
        match cause.raw_os_error() {
            // ENOENT: nobody waits for this answer any more.
            Some(libc::ENOENT) => Ok(()),
            Some(libc::ENODEV | libc::ECONNABORTED | libc::ENOTCONN | libc::EPERM) => {
                self.closed = true;
                Ok(())
            }
            _ => self.replace_by_error(parts, cause),
        }
    }

    /// The kernel refused the reply's form (or had no memory for it): its caller must still get an answer.
    fn replace_by_error(&mut self, parts: &[IoSlice<'_>], cause: io::Error) -> Result<()> {
        self.counters.refused += 1;
        let unique = parts.first().and_then(|header| u64_at(header, 8));
        let Some(unique) = unique else {
            return Err(FuseError::Io { what: "write to /dev/fuse", cause });
        };
        match write_once(self.fd.as_fd(), &[IoSlice::new(&out_header(OUT_HEADER_BYTES, libc::EIO, unique))]) {
            Ok(()) => Ok(()),
            // The refused reply may have ended the request already.
            Err(second) if second.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(_) => Err(FuseError::Io { what: "write to /dev/fuse", cause }),
        }
    }
}

/// Writes one message of the reply direction, retrying when a signal came first.
pub(crate) fn write_once(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
    loop {
        // SAFETY: IoSlice has the layout of iovec, and the slices live until the call returns.
        let written =
            unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr().cast(), parts.len() as libc::c_int) };
        if written >= 0 {
            return Ok(());
        }
        let cause = io::Error::last_os_error();
        if cause.raw_os_error() != Some(libc::EINTR) {
            return Err(cause);
        }
    }
}

/// `fuse_out_header`; `errno` positive, or 0.
pub(crate) fn out_header(length: usize, errno: i32, unique: u64) -> [u8; OUT_HEADER_BYTES] {
    let mut header = [0u8; OUT_HEADER_BYTES];
    let (size, rest) = header.split_at_mut(4);
    let (code, number) = rest.split_at_mut(4);
    size.copy_from_slice(&(length as u32).to_ne_bytes());
    code.copy_from_slice(&(-errno).to_ne_bytes());
    number.copy_from_slice(&unique.to_ne_bytes());
    header
}

/// Fills the words of request number `index`, whose header lies at `at`.
fn describe(meta: &mut [u32], index: usize, at: usize, length: usize, shape: &Shape) {
    let start = index * META_WORDS;
    let Some(words) = meta.get_mut(start..start + META_WORDS) else { return };
    let part = |(offset, size): (usize, usize)| if offset == 0 { (0, 0) } else { (at + offset, size) };
    let (name, second, data) = (part(shape.name), part(shape.second), part(shape.data));
    let values = [at, shape.opcode as usize, length, name.0, name.1, second.0, second.1, data.0];
    for (word, value) in words.iter_mut().zip(values) {
        *word = value as u32;
    }
}

fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        let ready = unsafe { libc::poll(&mut entry, 1, left.as_millis() as libc::c_int) };
        if ready > 0 {
            return Ok(());
        }
        if ready == 0 {
            return Err(FuseError::Handshake("no request came".into()));
        }
        let cause = io::Error::last_os_error();
        if cause.raw_os_error() != Some(libc::EINTR) {
            return Err(FuseError::Io { what: "poll /dev/fuse", cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;
    use crate::abi::{IN_HEADER_BYTES, op};
    use crate::bytes::u32_at;

    /// A pair of connected packet sockets: like /dev/fuse, one read returns one whole message.
    fn pair() -> (Channel, OwnedFd) {
        let mut fds = [0i32; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK;
        // SAFETY: `fds` has room for both descriptors.
        assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, 0);
        // SAFETY: both are new and ours.
        let (ours, kernels) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
        (Channel::new(ours), kernels)
    }

    fn send(kernel: &OwnedFd, opcode: u32, unique: u64, body: &[u8]) {
        let mut bytes = vec![0u8; IN_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&((IN_HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        bytes.extend_from_slice(body);
        write_once(kernel.as_fd(), &[IoSlice::new(&bytes)]).unwrap();
    }

    fn receive(kernel: &OwnedFd) -> Option<Vec<u8>> {
        let mut bytes = vec![0u8; 4096];
        // SAFETY: a live buffer of that length.
        let length = unsafe { libc::read(kernel.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(usize::try_from(length).ok()?);
        Some(bytes)
    }

    #[test]
    fn packs_small_requests_and_stops_when_a_slot_no_longer_fits() {
        let (mut channel, kernel) = pair();
        for unique in 0..10 {
            send(&kernel, op::LOOKUP, unique, b"name\0");
        }
        // Room for the first read and 100 bytes: two requests of 45 bytes (48 with alignment) leave less than a slot.
        let mut region = vec![0u8; SLOT_BYTES + 95];
        let mut meta = vec![0u32; 16 * META_WORDS];
        let burst = channel.next(&[], &[], 0, &mut region, &mut meta, 16, Duration::ZERO).unwrap();
        assert_eq!(burst, Burst::Requests(2));
        assert_eq!(&meta[..8], &[0, op::LOOKUP, 45, 40, 4, 0, 0, 0]);
        assert_eq!(&meta[8..12], &[48, op::LOOKUP, 45, 88]);
        assert_eq!(&region[88..92], b"name");
        let mut left = 8;
        while let Burst::Requests(count @ 1..) =
            channel.next(&[], &[], 0, &mut region, &mut meta, 1, Duration::ZERO).unwrap()
        {
            assert_eq!(count, 1);
            left -= 1;
        }
        assert_eq!(left, 0);
    }

    #[test]
    fn writes_queued_replies_first_and_refuses_a_table_that_lies() {
        let (mut channel, kernel) = pair();
        let mut replies = vec![0u8; 64];
        replies[16..32].copy_from_slice(&out_header(16, libc::ENOENT, 9));
        let (mut region, mut meta) = (vec![0u8; SLOT_BYTES], vec![0u32; META_WORDS]);
        channel.next(&replies, &[16, 16], 1, &mut region, &mut meta, 1, Duration::ZERO).unwrap();
        let reply = receive(&kernel).unwrap();
        assert_eq!((u32_at(&reply, 4), u64_at(&reply, 8)), (Some(-libc::ENOENT as u32), Some(9)));
        assert!(channel.flush(&replies, &[60, 16], 1).is_err());
        assert!(channel.flush(&replies, &[0, 16], 2).is_err());
    }

    #[test]
    fn answers_malformed_requests_itself() {
        let (mut channel, kernel) = pair();
        send(&kernel, op::SETATTR, 5, &[0; 10]);
        send(&kernel, op::GETATTR, 6, &[0; 16]);
        let (mut region, mut meta) = (vec![0u8; SLOT_BYTES * 2], vec![0u32; 4 * META_WORDS]);
        let burst = channel.next(&[], &[], 0, &mut region, &mut meta, 4, Duration::ZERO).unwrap();
        assert_eq!((burst, meta[1]), (Burst::Requests(1), op::GETATTR));
        let reply = receive(&kernel).unwrap();
        assert_eq!((u32_at(&reply, 4), u64_at(&reply, 8)), (Some(-libc::EIO as u32), Some(5)));
        assert_eq!(channel.counters().malformed, 1);
    }

    #[test]
    fn joins_parts_and_notices_the_end() {
        let (mut channel, kernel) = pair();
        channel.reply_parts(3, &[b"ab", b"", b"cde"]).unwrap();
        let reply = receive(&kernel).unwrap();
        assert_eq!((u32_at(&reply, 0), &reply[16..]), (Some(21), &b"abcde"[..]));
        drop(kernel);
        let (mut region, mut meta) = (vec![0u8; SLOT_BYTES], vec![0u32; META_WORDS]);
        assert_eq!(
            channel.next(&[], &[], 0, &mut region, &mut meta, 1, Duration::ZERO).unwrap(),
            Burst::Closed
        );
    }
}
