// SPDX-License-Identifier: GPL-2.0-or-later
//! Work that must not wait for the device: a thread which serves everybody may do what is in memory by itself, and leaves
//! the rest to others.
//!
//! While a thread is inside `at_once`, reads of devices that know what waiting is fail with `WouldBlock` rather than
//! wait. Callers in between pass that on like any other failure, and must not take the copy for a bad one.

use std::cell::Cell;
use std::io;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Reads take as long as they take.
    Waits,
    /// Inside `at_once`.
    AtOnce,
    /// Inside `at_once`, and something had to be given up.
    GaveUp,
}

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::Waits) };
}

/// Runs `work`, which must not wait. `None` when a read would have had to: what `work` returned then says nothing.
pub fn at_once<R>(work: impl FnOnce() -> R) -> Option<R> {
    let before = PATIENCE.replace(Patience::AtOnce);
    let result = work();
    let gave_up = PATIENCE.replace(before) == Patience::GaveUp;
    (!gave_up).then_some(result)
}

/// Whether this thread is inside `at_once`.
pub(crate) fn must_not_wait() -> bool {
    PATIENCE.get() != Patience::Waits
}

/// The failure of a read that would have had to wait.
pub(crate) fn would_wait() -> io::Error {
    PATIENCE.set(Patience::GaveUp);
    io::Error::from(io::ErrorKind::WouldBlock)
}
