// SPDX-License-Identifier: GPL-2.0-or-later
//! The addon: a thin shell over the crates, for `ts/store/native_volume.ts`, `ts/fuse/native_driver.ts` and `ts/sys`.

// The registration of functions is left out of test builds, where nothing seems to use them.
#![cfg_attr(test, allow(dead_code))]

mod fuse;
mod jobs;
mod poll;
mod process;
mod syslog;
mod volume;
