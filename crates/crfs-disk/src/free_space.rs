// SPDX-License-Identifier: GPL-2.0-or-later
//! Items of the free-space tree: per block group one FREE_SPACE_INFO (start, 198, length), then either
//! FREE_SPACE_EXTENT (start, 199, length) without data, or FREE_SPACE_BITMAP (start, 200, length) with one bit a
//! sector, lowest bit first, set where the sector is free.

use crate::bytes::disk_struct;

disk_struct! {
    pub struct FreeSpaceInfo {
        /// Free runs in the group, in either form.
        pub extent_count: u32,
        /// `free_space_flag`s.
        pub flags: u32,
    }
}

/// Bytes of a bitmap over `sectors` sectors.
pub const fn bitmap_bytes(sectors: u64) -> u64 {
    sectors.div_ceil(8)
}

/// Whether the bit of a sector is set; false past the end.
pub fn bit(bitmap: &[u8], sector: u64) -> bool {
    usize::try_from(sector / 8)
        .ok()
        .and_then(|at| bitmap.get(at))
        .is_some_and(|byte| byte >> (sector % 8) & 1 == 1)
}

/// Maximal runs of set bits among the first `sectors` bits, as (first sector, count).
pub fn runs(bitmap: &[u8], sectors: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < sectors && !bit(bitmap, at) {
            at += 1;
        }
        let first = at;
        while at < sectors && bit(bitmap, at) {
            at += 1;
        }
        (at > first).then_some((first, at - first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_maximal_and_bounded() {
        assert_eq!(runs(&[0b0110_0111, 0x81], 16).collect::<Vec<_>>(), [(0, 3), (5, 2), (8, 1), (15, 1)]);
        assert_eq!(runs(&[0xff], 5).collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(runs(&[0xff], 100).collect::<Vec<_>>(), [(0, 8)]);
    }
}
