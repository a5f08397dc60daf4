// SPDX-License-Identifier: GPL-2.0-or-later
//! Faults that a test plants to see that the judges report them; the counterpart of `ts/util/test_faults.ts`.
//!
//! Named in the environment variable CRFS_TEST_FAULTS, separated by commas, when the process starts; nobody else sets
//! it. Asked at mount, never for a request.

/// The kernel sends few background requests at a time.
pub const FEW_BACKGROUND_REQUESTS: &str = "few-background-requests";
/// One thread writes all notifications, in order.
pub const ONE_NOTIFIER: &str = "one-notifier";
/// The thread that answers requests writes notifications.
pub const ANSWERING_THREAD_NOTIFIES: &str = "answering-thread-notifies";

pub fn is_planted(fault: &str) -> bool {
    std::env::var("CRFS_TEST_FAULTS").is_ok_and(|planted| planted.split(',').any(|name| name == fault))
}
