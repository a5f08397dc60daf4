// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong between us and the kernel: one line each that says what to do about it.

use std::io;

use thiserror::Error;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, FuseError>;

/// A failure of mounting, of the handshake or of the channel.
#[derive(Debug, Error)]
pub enum FuseError {
    #[error("cannot open /dev/fuse: {0} (is the fuse kernel module loaded?)")]
    OpenDevice(io::Error),
    #[error("cannot run fusermount3: {0} (users other than root need it to mount: Debian's package fuse3)")]
    NoHelper(io::Error),
    /// In the words of fusermount3.
    #[error("{0}")]
    Refused(String),
    #[error("cannot mount on {target}: {cause}")]
    Mount { target: String, cause: io::Error },
    #[error("mount point {target}: {cause}")]
    MountPoint { target: String, cause: io::Error },
    #[error("unknown mount flag {0:?}")]
    UnknownFlag(String),
    #[error("a mount source or target holds a NUL byte")]
    Nul,
    #[error("the kernel speaks FUSE {major}.{minor}, at least 7.{needed} is needed")]
    TooOld { major: u32, minor: u32, needed: u32 },
    #[error("the kernel did not begin with a FUSE_INIT request: {0}")]
    Handshake(String),
    #[error("cannot {what}: {cause}")]
    Io { what: &'static str, cause: io::Error },
    #[error("the reply table is wrong: {0}")]
    ReplyTable(&'static str),
    #[error("too many notifications wait for the kernel")]
    NotifyQueueFull,
}

impl FuseError {
    /// Whether this machine cannot mount anything: it lacks something, or its kernel is not what we know.
    pub fn is_of_the_system(&self) -> bool {
        matches!(
            self,
            Self::OpenDevice(_)
                | Self::NoHelper(_)
                | Self::TooOld { .. }
                | Self::Handshake(_)
                | Self::Io { .. }
        )
    }

    /// The Linux error number that a caller of mount(8) or of the addon sees.
    pub fn errno(&self) -> i32 {
        match self {
            Self::OpenDevice(cause)
            | Self::NoHelper(cause)
            | Self::Mount { cause, .. }
            | Self::MountPoint { cause, .. }
            | Self::Io { cause, .. } => cause.raw_os_error().unwrap_or(libc::EIO),
            Self::Refused(_) => libc::EPERM,
            Self::UnknownFlag(_) | Self::Nul | Self::ReplyTable(_) => libc::EINVAL,
            Self::TooOld { .. } => libc::EPROTONOSUPPORT,
            Self::Handshake(_) => libc::EPROTO,
            Self::NotifyQueueFull => libc::EAGAIN,
        }
    }
}
