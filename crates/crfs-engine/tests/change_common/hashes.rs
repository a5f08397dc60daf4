// SPDX-License-Identifier: GPL-2.0-or-later
//! Names with a wanted hash: crc32c is linear, so four bytes at the end steer it anywhere.

use crfs_disk::checksum::crc32c_raw;
use crfs_disk::hash::name_hash;

/// crc32c's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The state from which four zero bytes lead to `state`.
fn four_bytes_back(mut state: u32) -> u32 {
    for _ in 0..32 {
        state = if state >> 31 == 1 { (state ^ POLYNOMIAL) << 1 | 1 } else { state << 1 };
    }
    state
}

/// `count` names of `len` bytes (at least 8) that share one DIR_ITEM and XATTR_ITEM hash, and, in any one directory, one
/// INODE_EXTREF hash.
pub fn colliding_names(count: usize, len: usize) -> Vec<Vec<u8>> {
    const WANTED: u32 = 0x1234_5678;
    let mut names = Vec::new();
    for number in 0_u64.. {
        let mut name = format!("{number:06}").into_bytes();
        name.resize(len - 4, b'x');
        let suffix = four_bytes_back(WANTED) ^ crc32c_raw(!1, &name);
        name.extend_from_slice(&suffix.to_le_bytes());
        if !name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            assert_eq!(name_hash(&name), u64::from(WANTED));
            names.push(name);
        }
        if names.len() == count {
            break;
        }
    }
    names
}
