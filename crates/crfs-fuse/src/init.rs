// SPDX-License-Identifier: GPL-2.0-or-later
//! The handshake: what we ask of the kernel and what both agree on.
//!
//! `negotiate` is pure: an INIT request in, the reply and the agreed session out. `Channel::handshake` does the I/O.
//! The reason for each flag is beside it.

use crate::abi::{IN_HEADER_BYTES, MAX_PAGES, MAX_WRITE_BYTES, OUT_HEADER_BYTES, flag, op};
use crate::bytes::{u32_at, u64_at};
use crate::error::{FuseError, Result};
use crate::test_faults::{FEW_BACKGROUND_REQUESTS, is_planted};

/// The newest interface that this crate knows.
const MINOR_KNOWN: u32 = 45;
/// 7.34 (Linux 5.14) is the first that surely has every structure size that `request::parse` and `ts/fuse/abi.ts` rely on,
/// that of SETXATTR_EXT included, and leaves privileges that a write takes away to us.
const MINOR_NEEDED: u32 = 34;
/// Parked reads must never fill the background queue, or pages dirtied through mmap cannot be written and an
/// invalidation waits for ever (measured): in the thousands, and the caller parks fewer.
pub const MAX_BACKGROUND: u16 = 8192;
/// Window that the kernel may read ahead, bytes; the device's own setting is raised to it after mount.
pub const MAX_READAHEAD_BYTES: u32 = 1 << 20;

const WANTED: u64 = flag::ASYNC_READ
    | flag::BIG_WRITES
    | flag::MAX_PAGES
    | flag::INIT_EXT
    // Direct I/O of one file in parallel.
    | flag::ASYNC_DIO
    // LOOKUP and READDIR of one directory in parallel.
    | flag::PARALLEL_DIROPS
    // A stat storm after readdir costs no further requests; AUTO keeps plain readdir of big directories cheap.
    | flag::DO_READDIRPLUS
    | flag::READDIRPLUS_AUTO
    // One request less for O_TRUNC. Right only because OPEN is always answered.
    | flag::ATOMIC_O_TRUNC
    // We clear suid and sgid on WRITE, truncate and chown, as asked request by request.
    | flag::HANDLE_KILLPRIV_V2
    // The kernel checks rights by ACLs. The mode of what is made depends on the directory's default ACL, so the umask is
    // ours to apply; setting an ACL says whether set-group-ID must go.
    | flag::POSIX_ACL
    | flag::DONT_MASK
    | flag::SETXATTR_EXT
    // Grants decide when pages die, not the modification time that the kernel happens to see.
    | flag::EXPLICIT_INVAL_DATA
    // READLINK is cached; INVAL_INODE drops it.
    | flag::CACHE_SYMLINKS
    | flag::HAS_EXPIRE_ONLY
    // read(2) of an aborted connection says ECONNABORTED, of an unmounted one ENODEV.
    | flag::ABORT_ERROR
    | flag::DIRECT_IO_ALLOW_MMAP;

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Minor version of the interface, at most what this crate knows.
    pub minor: u32,
    /// Flags that both sides have.
    pub flags: u64,
}

impl Session {
    /// Whether INVAL_ENTRY knows EXPIRE_ONLY; without it names can only be dropped.
    pub fn has_expire_only(&self) -> bool {
        self.flags & flag::HAS_EXPIRE_ONLY != 0
    }

    /// Whether one notification can make every cached name ask again (7.44).
    pub fn has_inc_epoch(&self) -> bool {
        self.minor >= 44
    }
}

/// An INIT request answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// The reply to write, and what it agrees on.
    Agreed(Box<[u8]>, Session),
    /// The kernel speaks a later major version: it asks again in ours after this reply.
    AskAgain(Box<[u8]>),
}

/// Answers the INIT request in `request`.
pub fn negotiate(request: &[u8]) -> Result<Negotiation> {
    let opcode = u32_at(request, 4);
    if opcode != Some(op::INIT) {
        return Err(FuseError::Handshake(format!("opcode {opcode:?}")));
    }
    let field = |offset| u32_at(request, IN_HEADER_BYTES + offset);
    let short = || FuseError::Handshake("the request is cut off".into());
    let unique = u64_at(request, 8).ok_or_else(short)?;
    let (major, minor) = (field(0).ok_or_else(short)?, field(4).ok_or_else(short)?);
    if major > 7 {
        return Ok(Negotiation::AskAgain(reply(unique, 0, 0, 0)));
    }
    if major < 7 || minor < MINOR_NEEDED {
        return Err(FuseError::TooOld { major, minor, needed: MINOR_NEEDED });
    }
    let readahead = field(8).ok_or_else(short)?;
    let low = u64::from(field(12).ok_or_else(short)?);
    let high = if low & flag::INIT_EXT != 0 { u64::from(field(16).ok_or_else(short)?) } else { 0 };
    let session = Session { minor: minor.min(MINOR_KNOWN), flags: (low | high << 32) & WANTED };
    if session.flags & flag::SETXATTR_EXT == 0 {
        return Err(FuseError::Handshake("the kernel has no FUSE_SETXATTR_EXT".into()));
    }
    let bytes = reply(unique, session.minor, session.flags, readahead.min(MAX_READAHEAD_BYTES));
    Ok(Negotiation::Agreed(bytes, session))
}

/// Builds `fuse_out_header` and `fuse_init_out` (64 bytes).
fn reply(unique: u64, minor: u32, flags: u64, readahead: u32) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(OUT_HEADER_BYTES + 64);
    bytes.extend_from_slice(&((OUT_HEADER_BYTES + 64) as u32).to_ne_bytes());
    bytes.extend_from_slice(&0i32.to_ne_bytes());
    bytes.extend_from_slice(&unique.to_ne_bytes());
    bytes.extend_from_slice(&7u32.to_ne_bytes());
    bytes.extend_from_slice(&minor.to_ne_bytes());
    bytes.extend_from_slice(&readahead.to_ne_bytes());
    bytes.extend_from_slice(&(flags as u32).to_ne_bytes());
    let background = if is_planted(FEW_BACKGROUND_REQUESTS) { 4 } else { MAX_BACKGROUND };
    bytes.extend_from_slice(&background.to_ne_bytes());
    bytes.extend_from_slice(&(background / 4 * 3).to_ne_bytes());
    bytes.extend_from_slice(&(MAX_WRITE_BYTES as u32).to_ne_bytes());
    // Times are kept to the nanosecond.
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&MAX_PAGES.to_ne_bytes());
    bytes.extend_from_slice(&0u16.to_ne_bytes());
    bytes.extend_from_slice(&((flags >> 32) as u32).to_ne_bytes());
    bytes.resize(OUT_HEADER_BYTES + 64, 0);
    bytes.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(major: u32, minor: u32, flags: u64) -> Vec<u8> {
        let mut bytes = vec![0u8; IN_HEADER_BYTES + 64];
        bytes[4..8].copy_from_slice(&op::INIT.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
        let words = [major, minor, 131_072, flags as u32, (flags >> 32) as u32];
        for (index, word) in words.iter().enumerate() {
            let at = IN_HEADER_BYTES + index * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn never_agrees_to_what_was_not_offered_or_wanted() {
        let Negotiation::Agreed(bytes, session) = negotiate(&init(7, 99, u64::MAX)).unwrap() else {
            panic!("must agree");
        };
        assert_eq!((session.minor, session.flags), (45, WANTED));
        for unwanted in [
            flag::WRITEBACK_CACHE,
            flag::AUTO_INVAL_DATA,
            flag::NO_OPEN_SUPPORT,
            flag::NO_OPENDIR_SUPPORT,
            flag::POSIX_LOCKS,
            flag::FLOCK_LOCKS,
            flag::EXPORT_SUPPORT,
        ] {
            assert_eq!(session.flags & unwanted, 0);
        }
        assert_eq!(u64_at(&bytes, 8), Some(77));
        assert_eq!(u32_at(&bytes, OUT_HEADER_BYTES + 20), Some(1 << 20));
        assert_eq!(bytes.len(), 80);
        assert!(session.has_expire_only() && session.has_inc_epoch());
    }

    #[test]
    fn an_older_kernel_gets_its_own_minor_and_flags() {
        let offered = flag::ASYNC_READ | flag::SETXATTR_EXT | flag::HAS_EXPIRE_ONLY;
        let Negotiation::Agreed(_, session) = negotiate(&init(7, 34, offered)).unwrap() else {
            panic!("must agree");
        };
        // Without INIT_EXT the upper flag word does not count.
        assert_eq!(session, Session { minor: 34, flags: flag::ASYNC_READ | flag::SETXATTR_EXT });
        assert!(!session.has_expire_only() && !session.has_inc_epoch());
    }

    #[test]
    fn refuses_what_it_cannot_speak() {
        assert!(matches!(negotiate(&init(7, 33, 0)), Err(FuseError::TooOld { .. })));
        assert!(matches!(negotiate(&init(7, 45, 0)), Err(FuseError::Handshake(_))));
        assert!(matches!(negotiate(&init(8, 0, 0)), Ok(Negotiation::AskAgain(_))));
        assert!(matches!(negotiate(&init(7, 45, 0)[..50]), Err(FuseError::Handshake(_))));
        assert!(matches!(negotiate(&[]), Err(FuseError::Handshake(_))));
    }
}
