// SPDX-License-Identifier: GPL-2.0-or-later
//! The change records of docs/protocol.md, "Changes": decoded without copying, every bound checked.
//!
//! `apply` decodes what a client sent; tests, the golden vectors and everything else that makes batches in Rust
//! encodes. A record's size must be exactly what its fields need: a longer one would hide bytes that nobody judges.
//! What a field may hold beyond its form (names, sizes, times) is checked here too where no tree is needed for it.

use crate::error::{EngineError, Result};
use crfs_disk::bytes::{u16_at, u32_at, u64_at};
use crfs_disk::constants::{NAME_MAX, SECTOR_SIZE};
use crfs_disk::inode::Timespec;

/// Bytes before the fields of every change: size u32, kind u8, flags u8, zero u16.
pub const HEAD: usize = 8;
/// File sizes, offsets and inode numbers stay exact in the client's numbers (2^53 - 1).
pub const MAX_SAFE: u64 = (1 << 53) - 1;
/// Largest xattr value that Linux passes on (XATTR_SIZE_MAX), bytes.
pub const XATTR_VALUE_MAX: u32 = 65_536;
/// Longest symlink target, bytes: PATH_MAX without its NUL.
pub const TARGET_MAX: usize = 4095;

/// Set xattr: refuse with EEXIST when the name exists.
pub const XATTR_MUST_NOT_EXIST: u8 = 1;
/// Set xattr: refuse with ENODATA when it does not.
pub const XATTR_MUST_EXIST: u8 = 2;

pub mod kind {
    pub const NEW_INODE: u8 = 1;
    pub const SET_FIELDS: u8 = 2;
    pub const ADD_NAME: u8 = 3;
    pub const REMOVE_NAME: u8 = 4;
    pub const RENAME: u8 = 5;
    pub const SET_XATTR: u8 = 6;
    pub const REMOVE_XATTR: u8 = 7;
    pub const PUT_DATA: u8 = 8;
    pub const CUT: u8 = 9;
    pub const PREALLOCATE: u8 = 10;
    pub const DROP_INODE: u8 = 11;
    pub const CLONE: u8 = 12;
}

/// One change. Byte strings borrow from the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    NewInode(NewInode<'a>),
    SetFields {
        tree: u64,
        ino: u64,
        fields: Fields,
    },
    AddName(Name<'a>),
    RemoveName(Name<'a>),
    Rename(Rename<'a>),
    SetXattr {
        tree: u64,
        ino: u64,
        time: Timespec,
        flags: u8,
        name: &'a [u8],
        value: &'a [u8],
    },
    RemoveXattr {
        tree: u64,
        ino: u64,
        time: Timespec,
        name: &'a [u8],
    },
    /// The payload stands in the batch's data section.
    PutData {
        tree: u64,
        ino: u64,
        offset: u64,
        length: u32,
        new_size: u64,
        time: Timespec,
    },
    Cut {
        tree: u64,
        ino: u64,
        offset: u64,
        length: u64,
        time: Timespec,
    },
    Preallocate {
        tree: u64,
        ino: u64,
        offset: u64,
        length: u64,
        new_size: u64,
        time: Timespec,
    },
    DropInode {
        tree: u64,
        ino: u64,
    },
    Clone(CloneRange),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInode<'a> {
    pub tree: u64,
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// As the inode item holds it: major << 20 | minor. Zero but for devices.
    pub rdev: u64,
    pub time: Timespec,
    /// Of a symlink; empty otherwise.
    pub target: &'a [u8],
}

/// What a set fields change sets; the mask of the wire is which of them are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Timespec>,
    pub mtime: Option<Timespec>,
    pub ctime: Option<Timespec>,
    pub flags: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    pub tree: u64,
    pub dir: u64,
    pub index: u64,
    pub ino: u64,
    pub time: Timespec,
    pub name: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename<'a> {
    pub tree: u64,
    pub ino: u64,
    pub time: Timespec,
    pub source_dir: u64,
    pub source_index: u64,
    pub target_dir: u64,
    pub target_index: u64,
    pub source_name: &'a [u8],
    pub target_name: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneRange {
    pub tree: u64,
    pub source_ino: u64,
    pub source_offset: u64,
    pub length: u64,
    pub ino: u64,
    pub offset: u64,
    pub new_size: u64,
    pub time: Timespec,
}

mod mask {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 2;
    pub const GID: u32 = 4;
    pub const SIZE: u32 = 8;
    pub const ATIME: u32 = 16;
    pub const MTIME: u32 = 32;
    pub const CTIME: u32 = 64;
    pub const FLAGS: u32 = 128;
    pub const ALL: u32 = 255;
}

/// The changes of a batch in order. After an error it yields nothing more.
pub struct Changes<'a> {
    rest: &'a [u8],
}

impl<'a> Changes<'a> {
    pub fn new(bytes: &'a [u8]) -> Changes<'a> {
        Changes { rest: bytes }
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>>;

    fn next(&mut self) -> Option<Result<Change<'a>>> {
        if self.rest.is_empty() {
            return None;
        }
        match split_record(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(decode(record))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Separates the first record of `bytes` by its size field.
fn split_record(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let size = u32_at(bytes, 0).ok_or_else(|| malformed("a change is cut short"))? as usize;
    if size < HEAD {
        return Err(malformed(format!("a change of {size} bytes is shorter than its head")));
    }
    bytes.split_at_checked(size).ok_or_else(|| {
        malformed(format!("a change of {size} bytes exceeds the {} bytes that are left", bytes.len()))
    })
}

fn malformed(text: impl Into<String>) -> EngineError {
    EngineError::refused(libc::EPROTO, text)
}

/// Decodes one record, head included.
pub fn decode(record: &[u8]) -> Result<Change<'_>> {
    let mut fields = Reader { bytes: record, at: HEAD };
    let &[_, _, _, _, kind, flags, zero_low, zero_high, ..] = record else {
        return Err(malformed("a change is cut short"));
    };
    if zero_low != 0 || zero_high != 0 {
        return Err(malformed("reserved bytes of a change are not zero"));
    }
    let flags_allowed = if kind == kind::SET_XATTR { XATTR_MUST_NOT_EXIST | XATTR_MUST_EXIST } else { 0 };
    if flags & !flags_allowed != 0 {
        return Err(malformed(format!("unknown flags {flags:#x} of change kind {kind}")));
    }
    let change = decode_fields(kind, flags, &mut fields)?;
    if fields.at != record.len() {
        return Err(malformed(format!(
            "a change of kind {kind} has {} bytes, its fields need {}",
            record.len(),
            fields.at
        )));
    }
    Ok(change)
}

fn decode_fields<'a>(kind: u8, flags: u8, f: &mut Reader<'a>) -> Result<Change<'a>> {
    Ok(match kind {
        kind::NEW_INODE => Change::NewInode(decode_new_inode(f)?),
        kind::SET_FIELDS => {
            Change::SetFields { tree: f.u64()?, ino: f.u64()?, fields: decode_set_fields(f)? }
        }
        kind::ADD_NAME => Change::AddName(decode_name(f)?),
        kind::REMOVE_NAME => Change::RemoveName(decode_name(f)?),
        kind::RENAME => Change::Rename(decode_rename(f)?),
        kind::SET_XATTR => {
            let (tree, ino, time) = (f.u64()?, f.u64()?, f.time()?);
            let (name_len, value_len) = (f.u16()?, f.u32()?);
            let name = xattr_name(f.take(name_len.into())?)?;
            if value_len > XATTR_VALUE_MAX {
                let text = format!("an xattr value of {value_len} bytes exceeds {XATTR_VALUE_MAX}");
                return Err(EngineError::refused(libc::E2BIG, text));
            }
            Change::SetXattr { tree, ino, time, flags, name, value: f.take(value_len as usize)? }
        }
        kind::REMOVE_XATTR => {
            let (tree, ino, time, name_len) = (f.u64()?, f.u64()?, f.time()?, f.u16()?);
            Change::RemoveXattr { tree, ino, time, name: xattr_name(f.take(name_len.into())?)? }
        }
        kind::PUT_DATA => {
            let (tree, ino, offset, length) = (f.u64()?, f.u64()?, f.u64()?, f.u32()?);
            let (new_size, time) = (f.size()?, f.time()?);
            check_byte_range(offset, length.into())?;
            Change::PutData { tree, ino, offset, length, new_size, time }
        }
        kind::CUT => {
            let (tree, ino, (offset, length), time) = (f.u64()?, f.u64()?, f.sectors()?, f.time()?);
            Change::Cut { tree, ino, offset, length, time }
        }
        kind::PREALLOCATE => {
            let (tree, ino, (offset, length)) = (f.u64()?, f.u64()?, f.sectors()?);
            Change::Preallocate { tree, ino, offset, length, new_size: f.size()?, time: f.time()? }
        }
        kind::DROP_INODE => Change::DropInode { tree: f.u64()?, ino: f.u64()? },
        kind::CLONE => Change::Clone(CloneRange {
            tree: f.u64()?,
            source_ino: f.u64()?,
            source_offset: f.u64()?,
            length: f.u64()?,
            ino: f.u64()?,
            offset: f.u64()?,
            new_size: f.u64()?,
            time: f.time()?,
        }),
        other => return Err(malformed(format!("unknown change kind {other}"))),
    })
}

fn decode_new_inode<'a>(f: &mut Reader<'a>) -> Result<NewInode<'a>> {
    let (tree, ino, mode, uid, gid) = (f.u64()?, f.u64()?, f.u32()?, f.u32()?, f.u32()?);
    let (rdev, time, target_len) = (f.u64()?, f.time()?, usize::from(f.u16()?));
    if target_len > TARGET_MAX {
        let text = format!("a symlink target of {target_len} bytes exceeds {TARGET_MAX}");
        return Err(EngineError::refused(libc::ENAMETOOLONG, text));
    }
    Ok(NewInode { tree, ino, mode, uid, gid, rdev, time, target: f.take(target_len)? })
}

fn decode_set_fields(f: &mut Reader<'_>) -> Result<Fields> {
    let present = f.u32()?;
    if present == 0 || present & !mask::ALL != 0 {
        return Err(malformed(format!("invalid mask {present:#x} of set fields")));
    }
    let has = |bit| present & bit != 0;
    Ok(Fields {
        mode: has(mask::MODE).then(|| f.u32()).transpose()?,
        uid: has(mask::UID).then(|| f.u32()).transpose()?,
        gid: has(mask::GID).then(|| f.u32()).transpose()?,
        size: has(mask::SIZE).then(|| f.size()).transpose()?,
        atime: has(mask::ATIME).then(|| f.time()).transpose()?,
        mtime: has(mask::MTIME).then(|| f.time()).transpose()?,
        ctime: has(mask::CTIME).then(|| f.time()).transpose()?,
        flags: has(mask::FLAGS).then(|| f.u64()).transpose()?,
    })
}

fn decode_name<'a>(f: &mut Reader<'a>) -> Result<Name<'a>> {
    let (tree, dir, index, ino, time) = (f.u64()?, f.u64()?, f.u64()?, f.u64()?, f.time()?);
    let name_len = f.u16()?;
    Ok(Name { tree, dir, index, ino, time, name: file_name(f.take(name_len.into())?)? })
}

fn decode_rename<'a>(f: &mut Reader<'a>) -> Result<Rename<'a>> {
    let (tree, ino, time) = (f.u64()?, f.u64()?, f.time()?);
    let (source_dir, source_index, target_dir, target_index) = (f.u64()?, f.u64()?, f.u64()?, f.u64()?);
    let (source_len, target_len) = (f.u16()?, f.u16()?);
    let source_name = file_name(f.take(source_len.into())?)?;
    let target_name = file_name(f.take(target_len.into())?)?;
    Ok(Rename {
        tree,
        ino,
        time,
        source_dir,
        source_index,
        target_dir,
        target_index,
        source_name,
        target_name,
    })
}

fn file_name(name: &[u8]) -> Result<&[u8]> {
    check_name_length(name)?;
    if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(EngineError::refused(libc::EINVAL, format!("illegal name {}", show(name))));
    }
    Ok(name)
}

fn xattr_name(name: &[u8]) -> Result<&[u8]> {
    check_name_length(name)?;
    if name.contains(&0) {
        return Err(EngineError::refused(libc::EINVAL, format!("illegal xattr name {}", show(name))));
    }
    Ok(name)
}

fn check_name_length(name: &[u8]) -> Result<()> {
    match name.len() {
        0 => Err(EngineError::refused(libc::EINVAL, "an empty name")),
        1..=NAME_MAX => Ok(()),
        long => Err(EngineError::refused(
            libc::ENAMETOOLONG,
            format!("a name of {long} bytes exceeds {NAME_MAX}"),
        )),
    }
}

/// A name in a message: as text where it is text, with escapes where not.
pub fn show(name: &[u8]) -> String {
    format!("\"{}\"", name.escape_ascii())
}

/// A byte range starts at a sector, is not empty and ends where a file of legal size can end.
fn check_byte_range(offset: u64, length: u64) -> Result<()> {
    let end = offset.checked_add(length).filter(|end| *end <= MAX_SAFE + 1);
    if end.is_none() {
        let text = format!("bytes {offset} + {length} exceed the largest file");
        return Err(EngineError::refused(libc::EFBIG, text));
    }
    if length == 0 || !offset.is_multiple_of(SECTOR_SIZE) {
        let text = format!("bytes {offset} + {length} do not start at a sector or are empty");
        return Err(EngineError::refused(libc::EINVAL, text));
    }
    Ok(())
}

/// Reads fields one after another.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn short(&self) -> EngineError {
        malformed(format!("a change of {} bytes is too short for its kind", self.bytes.len()))
    }

    #[inline]
    fn u16(&mut self) -> Result<u16> {
        let value = u16_at(self.bytes, self.at).ok_or_else(|| self.short())?;
        self.at += 2;
        Ok(value)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32> {
        let value = u32_at(self.bytes, self.at).ok_or_else(|| self.short())?;
        self.at += 4;
        Ok(value)
    }

    #[inline]
    fn u64(&mut self) -> Result<u64> {
        let value = u64_at(self.bytes, self.at).ok_or_else(|| self.short())?;
        self.at += 8;
        Ok(value)
    }

    #[inline]
    fn time(&mut self) -> Result<Timespec> {
        let (sec, nsec) = (self.u64()? as i64, self.u32()?);
        if nsec >= 1_000_000_000 {
            return Err(EngineError::refused(libc::EINVAL, format!("a time with {nsec} nanoseconds")));
        }
        Ok(Timespec { sec, nsec })
    }

    fn size(&mut self) -> Result<u64> {
        let size = self.u64()?;
        if size > MAX_SAFE {
            return Err(EngineError::refused(libc::EFBIG, format!("file size {size} exceeds {MAX_SAFE}")));
        }
        Ok(size)
    }

    /// An offset and a length, both whole sectors.
    fn sectors(&mut self) -> Result<(u64, u64)> {
        let (offset, length) = (self.u64()?, self.u64()?);
        check_byte_range(offset, length)?;
        if !length.is_multiple_of(SECTOR_SIZE) {
            let text = format!("length {length} is not a whole number of sectors");
            return Err(EngineError::refused(libc::EINVAL, text));
        }
        Ok((offset, length))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).ok_or_else(|| self.short())?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.short())?;
        self.at = end;
        Ok(taken)
    }
}

impl Change<'_> {
    /// The kind byte.
    pub fn kind(&self) -> u8 {
        match self {
            Change::NewInode(_) => kind::NEW_INODE,
            Change::SetFields { .. } => kind::SET_FIELDS,
            Change::AddName(_) => kind::ADD_NAME,
            Change::RemoveName(_) => kind::REMOVE_NAME,
            Change::Rename(_) => kind::RENAME,
            Change::SetXattr { .. } => kind::SET_XATTR,
            Change::RemoveXattr { .. } => kind::REMOVE_XATTR,
            Change::PutData { .. } => kind::PUT_DATA,
            Change::Cut { .. } => kind::CUT,
            Change::Preallocate { .. } => kind::PREALLOCATE,
            Change::DropInode { .. } => kind::DROP_INODE,
            Change::Clone(_) => kind::CLONE,
        }
    }

    /// Appends the record. Names and values must be shorter than their length fields can say.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let flags = if let Change::SetXattr { flags, .. } = self { *flags } else { 0 };
        out.extend_from_slice(&[0, 0, 0, 0, self.kind(), flags, 0, 0]);
        self.encode_fields(&mut Writer { out });
        let size = (out.len() - start) as u32;
        out[start..start + 4].copy_from_slice(&size.to_le_bytes());
    }

    fn encode_fields(&self, w: &mut Writer<'_>) {
        match self {
            Change::NewInode(new) => {
                w.u64s(&[new.tree, new.ino]).u32s(&[new.mode, new.uid, new.gid]).u64s(&[new.rdev]);
                w.time(new.time).u16(new.target.len()).bytes(new.target);
            }
            Change::SetFields { tree, ino, fields } => {
                w.u64s(&[*tree, *ino]);
                encode_set_fields(fields, w);
            }
            Change::AddName(name) | Change::RemoveName(name) => {
                w.u64s(&[name.tree, name.dir, name.index, name.ino]).time(name.time);
                w.u16(name.name.len()).bytes(name.name);
            }
            Change::Rename(r) => {
                w.u64s(&[r.tree, r.ino]).time(r.time);
                w.u64s(&[r.source_dir, r.source_index, r.target_dir, r.target_index]);
                w.u16(r.source_name.len()).u16(r.target_name.len()).bytes(r.source_name).bytes(r.target_name);
            }
            Change::SetXattr { tree, ino, time, flags: _, name, value } => {
                w.u64s(&[*tree, *ino]).time(*time).u16(name.len()).u32s(&[value.len() as u32]);
                w.bytes(name).bytes(value);
            }
            Change::RemoveXattr { tree, ino, time, name } => {
                w.u64s(&[*tree, *ino]).time(*time).u16(name.len()).bytes(name);
            }
            Change::PutData { tree, ino, offset, length, new_size, time } => {
                w.u64s(&[*tree, *ino, *offset]).u32s(&[*length]).u64s(&[*new_size]).time(*time);
            }
            Change::Cut { tree, ino, offset, length, time } => {
                w.u64s(&[*tree, *ino, *offset, *length]).time(*time);
            }
            Change::Preallocate { tree, ino, offset, length, new_size, time } => {
                w.u64s(&[*tree, *ino, *offset, *length, *new_size]).time(*time);
            }
            Change::DropInode { tree, ino } => {
                w.u64s(&[*tree, *ino]);
            }
            Change::Clone(c) => {
                w.u64s(&[c.tree, c.source_ino, c.source_offset, c.length, c.ino, c.offset, c.new_size])
                    .time(c.time);
            }
        }
    }
}

fn encode_set_fields(fields: &Fields, w: &mut Writer<'_>) {
    let bit = |present, bit| if present { bit } else { 0 };
    w.u32s(&[bit(fields.mode.is_some(), mask::MODE)
        | bit(fields.uid.is_some(), mask::UID)
        | bit(fields.gid.is_some(), mask::GID)
        | bit(fields.size.is_some(), mask::SIZE)
        | bit(fields.atime.is_some(), mask::ATIME)
        | bit(fields.mtime.is_some(), mask::MTIME)
        | bit(fields.ctime.is_some(), mask::CTIME)
        | bit(fields.flags.is_some(), mask::FLAGS)]);
    for value in [fields.mode, fields.uid, fields.gid].into_iter().flatten() {
        w.u32s(&[value]);
    }
    if let Some(size) = fields.size {
        w.u64s(&[size]);
    }
    for time in [fields.atime, fields.mtime, fields.ctime].into_iter().flatten() {
        w.time(time);
    }
    if let Some(flags) = fields.flags {
        w.u64s(&[flags]);
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn u64s(&mut self, values: &[u64]) -> &mut Self {
        self.out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }

    fn u32s(&mut self, values: &[u32]) -> &mut Self {
        self.out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }

    fn u16(&mut self, length: usize) -> &mut Self {
        self.out.extend_from_slice(&(length as u16).to_le_bytes());
        self
    }

    fn time(&mut self, time: Timespec) -> &mut Self {
        self.out.extend_from_slice(&time.encode());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }
}
