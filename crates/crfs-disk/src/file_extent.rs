// SPDX-License-Identifier: GPL-2.0-or-later
//! EXTENT_DATA (ino, 108, file offset): inline data, a piece of a data extent, a preallocated piece, or a hole.

use crate::bytes::{FormatError, Result, disk_struct};
use crate::constants::file_extent;

disk_struct! {
    /// What every file extent starts with. 21 bytes; inline data follows directly.
    pub struct FileExtentHead {
        pub generation: u64,
        /// Length after decompression: of the inline data, or of the whole extent on disk.
        pub ram_bytes: u64,
        /// 0 none, 1 zlib, 2 lzo, 3 zstd.
        pub compression: u8,
        pub encryption: u8,
        pub other_encoding: u16,
        /// `file_extent` type.
        pub kind: u8,
    }
}

disk_struct! {
    /// A regular or preallocated file extent. 53 bytes.
    pub struct FileExtentReg {
        pub head: FileExtentHead,
        /// Logical address of the whole extent, 0 for a hole.
        pub disk_bytenr: u64,
        pub disk_num_bytes: u64,
        /// Where this piece starts in the (decompressed) extent.
        pub offset: u64,
        /// Bytes of the file that this piece covers.
        pub num_bytes: u64,
    }
}

pub mod compression {
    pub const NONE: u8 = 0;
    pub const ZLIB: u8 = 1;
    pub const LZO: u8 = 2;
    pub const ZSTD: u8 = 3;
    pub const MAX: u8 = ZSTD;
}

/// A parsed EXTENT_DATA item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileExtent<'a> {
    Inline {
        head: FileExtentHead,
        data: &'a [u8],
    },
    /// Regular, preallocated or hole; `head.kind` tells.
    Reg(FileExtentReg),
}

impl<'a> FileExtent<'a> {
    pub fn parse(item: &'a [u8]) -> Result<FileExtent<'a>> {
        let head = FileExtentHead::parse(item)?;
        match head.kind {
            file_extent::INLINE => {
                let data = item.get(FileExtentHead::SIZE..).unwrap_or_default();
                Ok(FileExtent::Inline { head, data })
            }
            file_extent::REG | file_extent::PREALLOC => Ok(FileExtent::Reg(FileExtentReg::parse(item)?)),
            other => Err(FormatError::new(format!("invalid file extent type {other}"))),
        }
    }

    /// Bytes of the file that the item covers; for inline data its length before compression.
    pub fn file_bytes(&self) -> u64 {
        match self {
            FileExtent::Inline { head, .. } => head.ram_bytes,
            FileExtent::Reg(extent) => extent.num_bytes,
        }
    }
}

impl FileExtentReg {
    pub fn is_hole(&self) -> bool {
        self.disk_bytenr == 0
    }

    pub fn is_prealloc(&self) -> bool {
        self.head.kind == file_extent::PREALLOC
    }

    /// A piece of an uncompressed extent.
    pub fn plain(generation: u64, kind: u8, disk_bytenr: u64, disk_num_bytes: u64) -> FileExtentReg {
        let head = FileExtentHead {
            generation,
            ram_bytes: disk_num_bytes,
            compression: 0,
            encryption: 0,
            other_encoding: 0,
            kind,
        };
        FileExtentReg { head, disk_bytenr, disk_num_bytes, offset: 0, num_bytes: disk_num_bytes }
    }
}

/// The item of uncompressed inline data.
pub fn encode_inline(generation: u64, data: &[u8]) -> Vec<u8> {
    let head = FileExtentHead {
        generation,
        ram_bytes: data.len() as u64,
        compression: 0,
        encryption: 0,
        other_encoding: 0,
        kind: file_extent::INLINE,
    };
    let mut item = head.encode().to_vec();
    item.extend_from_slice(data);
    item
}
