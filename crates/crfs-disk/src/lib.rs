// SPDX-License-Identifier: GPL-2.0-or-later
//! The BTRFS disk format: keys, checked byte views of every structure, checksums, and the verification of whole
//! blocks before anybody uses them. No I/O, no allocation policy.

mod key;

pub use key::Key;
