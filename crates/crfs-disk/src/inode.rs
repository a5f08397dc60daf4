// SPDX-License-Identifier: GPL-2.0-or-later
//! INODE_ITEM, and the back references from an inode to its names: INODE_REF (ino, 12, parent) with several names of
//! one directory, and INODE_EXTREF (ino, 13, hash of parent and name) where those do not fit.

use crate::bytes::{FormatError, Result, disk_struct, u16_at, u64_at};

disk_struct! {
    /// Seconds since 1970 and nanoseconds below 10^9.
    #[derive(Default, PartialOrd, Ord, Hash)]
    pub struct Timespec {
        pub sec: i64,
        pub nsec: u32,
    }
}

disk_struct! {
    /// INODE_ITEM; key (ino, 1, 0). 160 bytes.
    pub struct InodeItem {
        pub generation: u64,
        pub transid: u64,
        /// Bytes of a file or symlink target; twice the sum of name lengths of a directory.
        pub size: u64,
        /// Bytes of the extents that are not holes, inline data included.
        pub nbytes: u64,
        pub block_group: u64,
        pub nlink: u32,
        pub uid: u32,
        pub gid: u32,
        pub mode: u32,
        pub rdev: u64,
        /// `inode_flag`s.
        pub flags: u64,
        pub sequence: u64,
        pub reserved: [u8; 32],
        pub atime: Timespec,
        pub ctime: Timespec,
        pub mtime: Timespec,
        pub otime: Timespec,
    }
}

pub const S_IFMT: u32 = 0o170000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFLNK: u32 = 0o120000;

impl InodeItem {
    /// All zero: the start of a new inode.
    pub const ZERO: InodeItem = InodeItem {
        generation: 0,
        transid: 0,
        size: 0,
        nbytes: 0,
        block_group: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        mode: 0,
        rdev: 0,
        flags: 0,
        sequence: 0,
        reserved: [0; 32],
        atime: Timespec { sec: 0, nsec: 0 },
        ctime: Timespec { sec: 0, nsec: 0 },
        mtime: Timespec { sec: 0, nsec: 0 },
        otime: Timespec { sec: 0, nsec: 0 },
    };

    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    pub fn is_regular(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
}

/// One name in an INODE_REF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InodeRef<'a> {
    /// DIR_INDEX number of the name in the parent.
    pub index: u64,
    pub name: &'a [u8],
}

impl InodeRef<'_> {
    /// Bytes before the name.
    pub const HEAD: usize = 10;

    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(self.name);
    }
}

/// The names of an INODE_REF item with the byte range of each entry. Ends after the first error.
pub fn inode_refs(item: &[u8]) -> impl Iterator<Item = Result<(std::ops::Range<usize>, InodeRef<'_>)>> {
    entries(item, |bytes| {
        let (Some(index), Some(len)) = (u64_at(bytes, 0), u16_at(bytes, 8)) else {
            return Err(FormatError::short("inode ref", bytes.len(), InodeRef::HEAD));
        };
        let end = InodeRef::HEAD + usize::from(len);
        let Some(name) = bytes.get(InodeRef::HEAD..end) else {
            return Err(FormatError::short("inode ref name", bytes.len(), end));
        };
        Ok((end, InodeRef { index, name }))
    })
}

/// One name in an INODE_EXTREF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InodeExtref<'a> {
    pub parent: u64,
    pub index: u64,
    pub name: &'a [u8],
}

impl InodeExtref<'_> {
    pub const HEAD: usize = 18;

    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.parent.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(self.name);
    }
}

/// The names of an INODE_EXTREF item with the byte range of each entry. Ends after the first error.
pub fn inode_extrefs(item: &[u8]) -> impl Iterator<Item = Result<(std::ops::Range<usize>, InodeExtref<'_>)>> {
    entries(item, |bytes| {
        let (Some(parent), Some(index), Some(len)) = (u64_at(bytes, 0), u64_at(bytes, 8), u16_at(bytes, 16))
        else {
            return Err(FormatError::short("inode extref", bytes.len(), InodeExtref::HEAD));
        };
        let end = InodeExtref::HEAD + usize::from(len);
        let Some(name) = bytes.get(InodeExtref::HEAD..end) else {
            return Err(FormatError::short("inode extref name", bytes.len(), end));
        };
        Ok((end, InodeExtref { parent, index, name }))
    })
}

/// Walks entries packed one behind the other; `parse` gives the length of the first entry of its bytes and the entry.
pub(crate) fn entries<'a, T: 'a>(
    item: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<(usize, T)> + 'a,
) -> impl Iterator<Item = Result<(std::ops::Range<usize>, T)>> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = item.get(at..).filter(|rest| !rest.is_empty())?;
        match parse(rest) {
            Ok((len, entry)) => {
                let range = at..at + len;
                at = range.end;
                Some(Ok((range, entry)))
            }
            Err(error) => {
                at = item.len();
                Some(Err(error))
            }
        }
    })
}
