// SPDX-License-Identifier: GPL-2.0-or-later
//! The hashes that stand in keys. All are raw crc32c states: no inversion before or after.

use crate::checksum::crc32c_raw;
use crate::constants::NAME_HASH_SEED;

/// Key offset of a DIR_ITEM or XATTR_ITEM that holds `name`.
pub fn name_hash(name: &[u8]) -> u64 {
    u64::from(crc32c_raw(NAME_HASH_SEED, name))
}

/// Key offset of an INODE_EXTREF: the parent directory seeds the hash of the name.
pub fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    // Linux passes the 64-bit parent where a 32-bit seed is expected, so the upper half is cut.
    u64::from(crc32c_raw(parent as u32, name))
}

/// Order of inline EXTENT_DATA_REFs and key offset of keyed ones (Linux: `hash_extent_data_ref`).
pub fn extent_data_ref_hash(root: u64, ino: u64, offset: u64) -> u64 {
    let high = crc32c_raw(!0, &root.to_le_bytes());
    let low = crc32c_raw(crc32c_raw(!0, &ino.to_le_bytes()), &offset.to_le_bytes());
    (u64::from(high) << 31) ^ u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_hash_of_default_is_what_every_mkfs_writes() {
        // (6 DIR_ITEM 2378154706) "default" stands in the root tree of every image.
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }
}
