// SPDX-License-Identifier: GPL-2.0-or-later
//! The addon: a thin shell over the crates, for `ts/store/native_volume.ts`, `ts/fuse/native_driver.ts` and `ts/sys`.

mod fuse;
mod jobs;
mod poll;
mod volume;
