// SPDX-License-Identifier: GPL-2.0-or-later
//! Checked little helpers over byte slices: the only way this crate looks into a request.
//!
//! FUSE structures are in the machine's own byte order; the kernel and we share the machine.

/// Returns the u32 at `offset`, or nothing when it does not lie inside.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    bytes.get(offset..end)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Returns the u64 at `offset`, or nothing when it does not lie inside.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(8)?;
    bytes.get(offset..end)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Returns the length of the NUL-terminated name at `offset`, its NUL not counted.
pub fn name_at(bytes: &[u8], offset: usize) -> Option<usize> {
    bytes.get(offset..)?.iter().position(|&byte| byte == 0)
}
