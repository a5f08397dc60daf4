// SPDX-License-Identifier: GPL-2.0-or-later
//! What an engine call can fail with, and the errno a caller of the file system sees for it.

use thiserror::Error;

pub type Result<T> = std::result::Result<T, EngineError>;

/// A failed engine call. `errno` says what travels to a client; the text is one precise line for the log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The image contradicts the format or itself: `corrupt leaf: root=5 block=30490624 slot=12, ...`. EIO.
    #[error("corrupt {0}")]
    Corrupt(String),
    /// The image is sound but uses what the engine must not serve (or not write); says what to do. EOPNOTSUPP.
    #[error("{0}")]
    Unsupported(String),
    /// The device failed.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// The image is too full for this. ENOSPC.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// A change or call that the rules refuse, with the errno that names the rule.
    #[error("{text}")]
    Refused { errno: i32, text: String },
    /// A write or flush failed before: the volume no longer accepts changes, its last commit stands. EROFS.
    #[error("the volume was made read-only by an earlier failure: {0}")]
    Aborted(String),
}

impl EngineError {
    /// The Linux errno of this failure.
    pub fn errno(&self) -> i32 {
        match self {
            EngineError::Corrupt(_) => libc::EIO,
            EngineError::Unsupported(_) => libc::EOPNOTSUPP,
            EngineError::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            EngineError::NoSpace(_) => libc::ENOSPC,
            EngineError::Refused { errno, .. } => *errno,
            EngineError::Aborted(_) => libc::EROFS,
        }
    }

    pub fn refused(errno: i32, text: impl Into<String>) -> EngineError {
        EngineError::Refused { errno, text: text.into() }
    }

    pub fn corrupt(text: impl Into<String>) -> EngineError {
        EngineError::Corrupt(text.into())
    }
}
