// SPDX-License-Identifier: GPL-2.0-or-later
//! Tells the kernel what it must forget, from threads of its own.
//!
//! A notification may block for as long as a request on the same object is unanswered, so the thread that answers
//! never writes one: it queues a `Note` under a ticket number and later collects the ticket's completion. Several
//! threads, chosen by inode, keep one blocked notification from stopping the rest; names and inodes have threads apart,
//! because a name waits for its directory's lock and an inode for its pages'. Notes of one inode stay in order.
//! The epoch has a thread alone: it takes no lock and is the way out when a name blocks.
//!
//! Completions are signalled by an eventfd, written once until they are collected. `shutdown` lets the threads end;
//! one that the kernel blocks ends when the connection does, and nobody waits for it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::abi::{OUT_HEADER_BYTES, notify};
use crate::channel::{out_header, write_once};
use crate::error::{FuseError, Result};
use crate::mount::Connection;
use crate::test_faults::{ANSWERING_THREAD_NOTIFIES, ONE_NOTIFIER, is_planted};

/// Threads for names, and as many again for inodes. The load is small; what counts is that a few blocked ones leave
/// others running.
const THREADS_PER_KIND: usize = 4;
/// Notes that may wait in one thread's queue. The caller sends an epoch instead of some thousands of names.
const QUEUE_MAX: usize = 1 << 16;

/// One thing for the kernel to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Attributes, and the pages of `[offset, offset + length)`: length 0 means to the end, offset -1 attributes only.
    Inode { nodeid: u64, offset: i64, length: i64 },
    /// A name in a directory. With `expire` it is asked for again; without, it is unhashed.
    Name { parent: u64, name: Box<[u8]>, expire: bool },
    /// Every name of the mount is asked for again.
    IncEpoch,
}

/// A ticket that is done, with the positive errno of the kernel's answer or 0. ENOENT says that the kernel did not
/// have the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub ticket: u32,
    pub errno: i32,
}

/// The handle: queues notes and collects completions. Usable from any thread.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    channel: Arc<OwnedFd>,
    event: OwnedFd,
    done: Mutex<Vec<Completion>>,
    names: Vec<Queue>,
    inodes: Vec<Queue>,
    epoch: Queue,
    /// Faults that a test has planted.
    is_alone: bool,
    is_inline: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Default)]
struct QueueState {
    notes: VecDeque<(u32, Note)>,
    ended: bool,
}

impl Notifier {
    /// Starts the threads, which write to `channel`.
    pub fn start(channel: Arc<OwnedFd>) -> Result<Self> {
        // SAFETY: no pointers involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(FuseError::Io { what: "create an eventfd", cause: io::Error::last_os_error() });
        }
        // SAFETY: eventfd returned this descriptor to us alone.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        let queues = || (0..THREADS_PER_KIND).map(|_| Queue::default()).collect::<Vec<_>>();
        let (names, inodes) = (queues(), queues());
        let shared = Shared {
            channel,
            event,
            done: Mutex::default(),
            names,
            inodes,
            epoch: Queue::default(),
            is_alone: is_planted(ONE_NOTIFIER),
            is_inline: is_planted(ANSWERING_THREAD_NOTIFIES),
        };
        let notifier = Self { shared: Arc::new(shared) };
        let every: [fn(&Shared, usize) -> &Queue; 2] = [
            |shared, index| queue_of(&shared.names, index as u64),
            |shared, index| queue_of(&shared.inodes, index as u64),
        ];
        for index in 0..THREADS_PER_KIND {
            for pick in every {
                notifier.spawn(move |shared| serve(shared, pick(shared, index)))?;
            }
        }
        notifier.spawn(|shared| serve(shared, &shared.epoch))?;
        Ok(notifier)
    }

    /// Queues `note`; its completion will carry `ticket`.
    pub fn send(&self, ticket: u32, note: Note) -> Result<()> {
        if self.shared.is_inline {
            let errno = write_note(&self.shared, &note);
            self.shared.complete(Completion { ticket, errno });
            return Ok(());
        }
        let queue = match &note {
            _ if self.shared.is_alone => &self.shared.epoch,
            Note::Inode { nodeid, .. } => queue_of(&self.shared.inodes, hash(*nodeid)),
            Note::Name { parent, .. } => queue_of(&self.shared.names, hash(*parent)),
            Note::IncEpoch => &self.shared.epoch,
        };
        let mut state = lock(&queue.state);
        if state.notes.len() >= QUEUE_MAX {
            return Err(FuseError::NotifyQueueFull);
        }
        state.notes.push_back((ticket, note));
        drop(state);
        queue.wake.notify_one();
        Ok(())
    }

    /// Unmounts on a thread of its own, because that may wait for requests to be answered.
    pub fn unmount(&self, ticket: u32, connection: Connection, flags: libc::c_int) -> Result<()> {
        self.spawn(move |shared| {
            let errno = match connection.unmount(flags) {
                Ok(()) => 0,
                Err(cause) => cause.raw_os_error().unwrap_or(libc::EIO),
            };
            shared.complete(Completion { ticket, errno });
        })
    }

    /// The eventfd that is readable while completions wait.
    pub fn event_fd(&self) -> i32 {
        self.shared.event.as_raw_fd()
    }

    /// Takes what completed since the last call.
    pub fn collect(&self) -> Vec<Completion> {
        let mut done = lock(&self.shared.done);
        let mut count = [0u8; 8];
        // SAFETY: a live buffer of eight bytes. EAGAIN when nothing waits is fine.
        unsafe { libc::read(self.shared.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        mem::take(&mut done)
    }

    /// Lets the threads end after their queues. What blocks in the kernel ends with the connection.
    pub fn shutdown(&self) {
        let shared = &self.shared;
        for queue in shared.names.iter().chain(&shared.inodes).chain([&shared.epoch]) {
            lock(&queue.state).ended = true;
            queue.wake.notify_all();
        }
    }

    fn spawn(&self, body: impl FnOnce(&Shared) + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("crfs-notify".into()).stack_size(128 * 1024);
        let spawned = builder.spawn(move || body(&shared));
        spawned.map(drop).map_err(|cause| FuseError::Io { what: "start a notifier thread", cause })
    }
}

impl Shared {
    fn complete(&self, completion: Completion) {
        let mut done = lock(&self.done);
        done.push(completion);
        if done.len() > 1 {
            return; // The event is already set; `collect` clears it under the same lock.
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight live bytes. An eventfd write of 1 fails only at 2^64 - 1.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// Body of one thread: writes the notes of its queue until the end.
fn serve(shared: &Shared, queue: &Queue) {
    let mut state = lock(&queue.state);
    loop {
        if let Some((ticket, note)) = state.notes.pop_front() {
            drop(state);
            let errno = write_note(shared, &note);
            shared.complete(Completion { ticket, errno });
            state = lock(&queue.state);
        } else if state.ended {
            return;
        } else {
            state = queue.wake.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

fn write_note(shared: &Shared, note: &Note) -> i32 {
    let (code, body) = encode(note);
    // In a notification the error field carries the code, positive, and unique is 0.
    let header = out_header(OUT_HEADER_BYTES + body.len(), -code, 0);
    match write_once(shared.channel.as_fd(), &[IoSlice::new(&header), IoSlice::new(&body)]) {
        Ok(()) => 0,
        Err(cause) => cause.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Returns the code and the body of `fuse_notify_inval_inode_out` or `fuse_notify_inval_entry_out`.
fn encode(note: &Note) -> (i32, Vec<u8>) {
    let mut body = Vec::new();
    match note {
        Note::Inode { nodeid, offset, length } => {
            body.extend_from_slice(&nodeid.to_ne_bytes());
            body.extend_from_slice(&offset.to_ne_bytes());
            body.extend_from_slice(&length.to_ne_bytes());
            (notify::INVAL_INODE, body)
        }
        Note::Name { parent, name, expire } => {
            let flags = if *expire { notify::EXPIRE_ONLY } else { 0 };
            body.extend_from_slice(&parent.to_ne_bytes());
            body.extend_from_slice(&(name.len() as u32).to_ne_bytes());
            body.extend_from_slice(&flags.to_ne_bytes());
            body.extend_from_slice(name);
            body.push(0);
            (notify::INVAL_ENTRY, body)
        }
        Note::IncEpoch => (notify::INC_EPOCH, body),
    }
}

fn queue_of(queues: &[Queue], hash: u64) -> &Queue {
    let index = (hash % THREADS_PER_KIND as u64) as usize;
    queues.get(index).expect("there are THREADS_PER_KIND queues of each kind")
}

/// Spreads neighbouring inode numbers.
fn hash(nodeid: u64) -> u64 {
    nodeid.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// A thread that panicked under a lock left whole entries behind: the data is usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::bytes::{u32_at, u64_at};

    fn packet_pair() -> (OwnedFd, OwnedFd) {
        let mut fds = [0i32; 2];
        // SAFETY: `fds` has room for both descriptors.
        assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, fds.as_mut_ptr()) }, 0);
        // SAFETY: both are new and ours.
        unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) }
    }

    fn receive(fd: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        // SAFETY: a live buffer of that length.
        let length = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(length as usize);
        bytes
    }

    fn collect_tickets(notifier: &Notifier, count: usize) -> Vec<Completion> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut all = Vec::new();
        while all.len() < count {
            assert!(Instant::now() < deadline, "completions are missing: {all:?}");
            all.extend(notifier.collect());
            thread::sleep(Duration::from_millis(1));
        }
        all.sort_by_key(|completion| completion.ticket);
        all
    }

    #[test]
    fn writes_each_kind_in_the_kernel_s_form() {
        let (ours, kernels) = packet_pair();
        let notifier = Notifier::start(Arc::new(ours)).unwrap();
        notifier.send(1, Note::Name { parent: 7, name: b"a b"[..].into(), expire: true }).unwrap();
        let name = receive(&kernels);
        assert_eq!((name.len(), u32_at(&name, 0)), (36, Some(36)));
        assert_eq!((u32_at(&name, 4), u64_at(&name, 8), u64_at(&name, 16)), (Some(3), Some(0), Some(7)));
        assert_eq!((u32_at(&name, 24), u32_at(&name, 28), &name[32..]), (Some(3), Some(1), &b"a b\0"[..]));
        notifier.send(2, Note::Inode { nodeid: 9, offset: -1, length: 0 }).unwrap();
        let inode = receive(&kernels);
        assert_eq!(
            (u32_at(&inode, 4), u64_at(&inode, 16), u64_at(&inode, 24)),
            (Some(2), Some(9), Some(u64::MAX))
        );
        notifier.send(3, Note::IncEpoch).unwrap();
        assert_eq!(receive(&kernels), [16, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let expected = [1, 2, 3].map(|ticket| Completion { ticket, errno: 0 });
        assert_eq!(collect_tickets(&notifier, 3), expected);
        notifier.shutdown();
    }

    #[test]
    fn a_blocked_note_does_not_stop_the_epoch() {
        let (ours, kernels) = packet_pair();
        let notifier = Notifier::start(Arc::new(ours)).unwrap();
        // The socket fills up, as if the kernel held the directory's lock.
        for ticket in 0..2000 {
            notifier
                .send(ticket, Note::Name { parent: 7, name: vec![b'x'; 200].into(), expire: false })
                .unwrap();
        }
        thread::sleep(Duration::from_millis(50));
        let before = notifier.collect().len();
        assert!(before < 2000);
        let reader = thread::spawn(move || while receive(&kernels).len() > 16 {});
        notifier.send(5000, Note::IncEpoch).unwrap();
        let rest = collect_tickets(&notifier, 1);
        assert!(!rest.is_empty());
        reader.join().unwrap();
        notifier.shutdown();
    }

    #[test]
    fn reports_the_kernel_s_errno() {
        let (ours, kernels) = packet_pair();
        drop(kernels);
        let notifier = Notifier::start(Arc::new(ours)).unwrap();
        // SAFETY: ignoring SIGPIPE is what the Rust runtime does in programs too.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        notifier.send(4, Note::IncEpoch).unwrap();
        assert_eq!(collect_tickets(&notifier, 1), [Completion { ticket: 4, errno: libc::EPIPE }]);
        notifier.unmount(5, Connection::of_root("/nonexistent"), 0).unwrap();
        assert_eq!(collect_tickets(&notifier, 1), [Completion { ticket: 5, errno: libc::ENOENT }]);
        notifier.shutdown();
    }
}
