// SPDX-License-Identifier: GPL-2.0-or-later
//! ROOT_ITEM (tree id, 132, 0 or creation transid) and the links between subvolumes: ROOT_REF (parent, 156, child)
//! and ROOT_BACKREF (child, 144, parent).

use crate::Uuid;
use crate::bytes::{Field, FormatError, Result, disk_struct, u16_at, u64_at};
use crate::inode::{InodeItem, Timespec};
use crate::key::Key;

disk_struct! {
    /// ROOT_ITEM as every current writer makes it. 439 bytes.
    pub struct RootItem {
        /// An inode item without a number; only its form matters.
        pub inode: InodeItem,
        /// Generation of the root block.
        pub generation: u64,
        /// Inode of the top directory, 256 in a subvolume, 0 elsewhere.
        pub root_dirid: u64,
        /// Logical address of the root block.
        pub bytenr: u64,
        pub byte_limit: u64,
        pub bytes_used: u64,
        /// Transid of the last snapshot of this tree: blocks no younger may be shared.
        pub last_snapshot: u64,
        /// `root_flag`s.
        pub flags: u64,
        /// 0 for a subvolume that is being dropped.
        pub refs: u32,
        pub drop_progress: Key,
        pub drop_level: u8,
        pub level: u8,
        /// Equal to `generation`, or everything from here on is stale.
        pub generation_v2: u64,
        pub uuid: Uuid,
        pub parent_uuid: Uuid,
        pub received_uuid: Uuid,
        pub ctransid: u64,
        pub otransid: u64,
        pub stransid: u64,
        pub rtransid: u64,
        pub ctime: Timespec,
        pub otime: Timespec,
        pub stime: Timespec,
        pub rtime: Timespec,
        pub reserved: [u8; 64],
    }
}

impl RootItem {
    /// Bytes of the form before `generation_v2` (Linux before 3.6).
    pub const LEGACY_SIZE: usize = 239;

    /// Reads a ROOT_ITEM of either form; the younger fields of an old or stale one are zero.
    pub fn parse_any(item: &[u8]) -> Result<RootItem> {
        if item.len() < RootItem::LEGACY_SIZE {
            return Err(FormatError::short("root item", item.len(), RootItem::LEGACY_SIZE));
        }
        let mut bytes = [0; RootItem::SIZE];
        let have = item.len().min(RootItem::SIZE);
        bytes[..have].copy_from_slice(&item[..have]);
        let root = RootItem::parse(&bytes)?;
        if have == RootItem::SIZE && root.generation == root.generation_v2 {
            return Ok(root);
        }
        bytes[RootItem::LEGACY_SIZE..].fill(0);
        RootItem::parse(&bytes)
    }

    /// A new root item as `create_subvol` of Linux fills it, without ids and times.
    pub fn new(bytenr: u64, level: u8, generation: u64, nodesize: u32) -> RootItem {
        let zero = [0; RootItem::SIZE];
        let mut root = <RootItem as Field>::read(&zero).expect("the array has exactly the size");
        root.inode.generation = 1;
        root.inode.size = 3;
        root.inode.nlink = 1;
        root.inode.nbytes = u64::from(nodesize);
        root.inode.mode = 0o040755;
        root.generation = generation;
        root.generation_v2 = generation;
        root.bytenr = bytenr;
        root.bytes_used = u64::from(nodesize);
        root.refs = 1;
        root.level = level;
        root
    }
}

/// A ROOT_REF or ROOT_BACKREF: where the child subvolume is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootRef<'a> {
    /// Directory inode in the parent.
    pub dirid: u64,
    /// DIR_INDEX number of the name.
    pub sequence: u64,
    pub name: &'a [u8],
}

impl<'a> RootRef<'a> {
    pub const HEAD: usize = 18;

    pub fn parse(item: &'a [u8]) -> Result<RootRef<'a>> {
        let (Some(dirid), Some(sequence), Some(len)) = (u64_at(item, 0), u64_at(item, 8), u16_at(item, 16))
        else {
            return Err(FormatError::short("root ref", item.len(), RootRef::HEAD));
        };
        match item.get(RootRef::HEAD..) {
            Some(name) if name.len() == usize::from(len) => Ok(RootRef { dirid, sequence, name }),
            _ => Err(FormatError::new(format!("root ref of {} bytes has a name of {len}", item.len()))),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut item = Vec::with_capacity(RootRef::HEAD + self.name.len());
        item.extend_from_slice(&self.dirid.to_le_bytes());
        item.extend_from_slice(&self.sequence.to_le_bytes());
        item.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        item.extend_from_slice(self.name);
        item
    }
}
