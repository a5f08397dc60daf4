// SPDX-License-Identifier: GPL-2.0-or-later
//! Directory entries. One form serves DIR_ITEM (dir, 84, hash of the name; several entries where hashes collide),
//! DIR_INDEX (dir, 96, index; one entry) and XATTR_ITEM (ino, 24, hash of the name; `data` is the value).

use crate::bytes::{FormatError, Result, key_at, u16_at, u64_at};
use crate::inode::entries;
use crate::key::Key;
use std::ops::Range;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// The inode (ino, 1, 0) or subvolume (id, 132, offset) that the name leads to; all zero for an xattr.
    pub location: Key,
    pub transid: u64,
    /// `file_type`.
    pub kind: u8,
    pub name: &'a [u8],
    /// Value of an xattr, empty otherwise.
    pub data: &'a [u8],
}

impl DirEntry<'_> {
    /// Bytes before the name.
    pub const HEAD: usize = 30;

    /// Bytes on disk.
    pub fn size(&self) -> usize {
        DirEntry::HEAD + self.name.len() + self.data.len()
    }

    /// Lengths must fit 16 bits, which `Leaf` space bounds anyway.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.location.to_le_bytes());
        out.extend_from_slice(&self.transid.to_le_bytes());
        out.extend_from_slice(&(self.data.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.data);
    }
}

/// The entries of an item with the byte range of each. Ends after the first error.
pub fn dir_entries(item: &[u8]) -> impl Iterator<Item = Result<(Range<usize>, DirEntry<'_>)>> {
    entries(item, parse_entry)
}

/// The entry of that name, with its byte range; malformed entries end the search with an error.
pub fn find_entry<'a>(item: &'a [u8], name: &[u8]) -> Result<Option<(Range<usize>, DirEntry<'a>)>> {
    for entry in dir_entries(item) {
        let (range, entry) = entry?;
        if entry.name == name {
            return Ok(Some((range, entry)));
        }
    }
    Ok(None)
}

fn parse_entry(bytes: &[u8]) -> Result<(usize, DirEntry<'_>)> {
    let head = (key_at(bytes, 0), u64_at(bytes, 17), u16_at(bytes, 25), u16_at(bytes, 27), bytes.get(29));
    let (Some(location), Some(transid), Some(data_len), Some(name_len), Some(kind)) = head else {
        return Err(FormatError::short("dir item", bytes.len(), DirEntry::HEAD));
    };
    let name_end = DirEntry::HEAD + usize::from(name_len);
    let end = name_end + usize::from(data_len);
    let (Some(name), Some(data)) = (bytes.get(DirEntry::HEAD..name_end), bytes.get(name_end..end)) else {
        return Err(FormatError::short("dir item name and data", bytes.len(), end));
    };
    Ok((end, DirEntry { location, transid, kind: *kind, name, data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_pack_and_are_found() {
        let entry =
            |name, ino| DirEntry { location: Key::new(ino, 1, 0), transid: 3, kind: 1, name, data: b"" };
        let mut item = Vec::new();
        entry(b"one", 257).append_to(&mut item);
        entry(b"three", 258).append_to(&mut item);
        let (range, found) = find_entry(&item, b"three").unwrap().unwrap();
        assert_eq!((range, found), (33..68, entry(b"three", 258)));
        assert_eq!(find_entry(&item, b"two").unwrap(), None);
        assert!(find_entry(&item[..60], b"three").is_err());
    }
}
