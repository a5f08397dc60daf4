// SPDX-License-Identifier: GPL-2.0-or-later
//! The ranges that the sender of a batch may change, and the keys that each change needs.
//!
//! The server (TypeScript) hands the sender's grants over as one packed buffer, sorted by tree and start, disjoint.
//! An entry has 48 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | tree, little-endian |
//! | 8 | 17 | start key, big-endian as on the wire |
//! | 25 | 17 | end key (exclusive), big-endian |
//! | 42 | 1 | mode: 1 read, 2 merge, 3 write |
//! | 43 | 5 | zero |
//!
//! `Grants::all` is for recovery and tests only: it stands for the server itself. The order of keys in here is that of
//! docs/protocol.md, where the derived half of an inode item is the key `(ino, 1, 1)`.

use crate::error::{EngineError, Result};
use crfs_disk::bytes::{array_at, u64_at};
use crfs_disk::{Key, item_type};

/// Bytes of one packed entry.
pub const ENTRY_SIZE: usize = 48;

/// What a grant allows; the numbers travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    Read = 1,
    Merge = 2,
    Write = 3,
}

impl Mode {
    fn from_wire(value: u8) -> Option<Mode> {
        [Mode::Read, Mode::Merge, Mode::Write].into_iter().find(|mode| *mode as u8 == value)
    }

    /// Whether a grant of this mode allows what needs `needed`. `merge` cannot read, `write` can everything.
    pub fn satisfies(self, needed: Mode) -> bool {
        self == needed || self == Mode::Write
    }
}

/// One grant: the half-open interval `[start, end)` of keys of one tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub tree: u64,
    pub start: Key,
    pub end: Key,
    pub mode: Mode,
}

/// The grants of one sender.
#[derive(Clone, Debug)]
pub struct Grants {
    /// `None`: everything is granted.
    list: Option<Vec<Grant>>,
}

impl Grants {
    /// Everything, for recovery and tests.
    pub fn all() -> Grants {
        Grants { list: None }
    }

    /// Reads the packed form; what is not sorted, disjoint and well-formed is refused with EINVAL.
    pub fn decode(packed: &[u8]) -> Result<Grants> {
        let entries = packed.chunks_exact(ENTRY_SIZE);
        if !entries.remainder().is_empty() {
            return Err(invalid(format!("{} bytes of grants are no whole number of entries", packed.len())));
        }
        let list = entries.map(decode_entry).collect::<Result<Vec<Grant>>>()?;
        for pair in list.windows(2) {
            let [before, after] = pair else { continue };
            if (after.tree, after.start) < (before.tree, before.end) {
                return Err(invalid(format!("grant {} of tree {} is out of order", after.start, after.tree)));
            }
        }
        Ok(Grants { list: Some(list) })
    }

    /// Appends the packed form of one grant.
    pub fn encode_entry(grant: &Grant, out: &mut Vec<u8>) {
        out.extend_from_slice(&grant.tree.to_le_bytes());
        for key in [grant.start, grant.end] {
            out.extend_from_slice(&key.objectid.to_be_bytes());
            out.push(key.kind);
            out.extend_from_slice(&key.offset.to_be_bytes());
        }
        out.extend_from_slice(&[grant.mode as u8, 0, 0, 0, 0, 0]);
    }

    /// Whether `[start, end)` of `tree` lies inside grants that allow `needed`. Neighbouring grants count together.
    pub fn covers(&self, tree: u64, start: Key, end: Key, needed: Mode) -> bool {
        let Some(list) = &self.list else { return true };
        let after = list.partition_point(|grant| (grant.tree, grant.start) <= (tree, start));
        let mut reached = start;
        for grant in &list[after.saturating_sub(1)..] {
            if grant.tree != tree
                || grant.start > reached
                || grant.end <= reached
                || !grant.mode.satisfies(needed)
            {
                return false;
            }
            reached = grant.end;
            if reached >= end {
                return true;
            }
        }
        false
    }

    /// Refuses with EACCES unless `[start, end)` is granted for writing.
    pub(crate) fn need_range(&self, tree: u64, start: Key, end: Key) -> Result<()> {
        if self.list.is_none() || self.covers(tree, start, end, Mode::Write) {
            return Ok(());
        }
        let text = format!("keys [{start}, {end}) of tree {tree} are outside the sender's write grants");
        Err(EngineError::refused(libc::EACCES, text))
    }

    pub(crate) fn need_key(&self, tree: u64, key: Key) -> Result<()> {
        if self.list.is_none() {
            return Ok(());
        }
        let end = key.successor().unwrap_or(Key::MAX);
        if self.covers(tree, key, end, Mode::Write) {
            return Ok(());
        }
        let text = format!("key {key} of tree {tree} is outside the sender's write grants");
        Err(EngineError::refused(libc::EACCES, text))
    }

    /// The half of the inode item that holds existence, type, mode, owner and flags.
    pub(crate) fn need_identity(&self, tree: u64, ino: u64) -> Result<()> {
        self.need_key(tree, Key::new(ino, item_type::INODE_ITEM, 0))
    }

    /// The half that holds size, nlink, nbytes and times.
    pub(crate) fn need_derived(&self, tree: u64, ino: u64) -> Result<()> {
        self.need_key(tree, Key::new(ino, item_type::INODE_ITEM, 1))
    }

    /// Every key of the inode.
    pub(crate) fn need_inode(&self, tree: u64, ino: u64) -> Result<()> {
        self.need_range(tree, Key::new(ino, 0, 0), Key::new(ino.saturating_add(1), 0, 0))
    }

    /// Bytes `[start, end)` of a file; no `end` means all from `start` on.
    pub(crate) fn need_bytes(&self, tree: u64, ino: u64, start: u64, end: Option<u64>) -> Result<()> {
        let end = match end {
            Some(end) => Key::new(ino, item_type::EXTENT_DATA, end),
            None => Key::new(ino, item_type::EXTENT_DATA + 1, 0),
        };
        self.need_range(tree, Key::new(ino, item_type::EXTENT_DATA, start), end)
    }
}

fn invalid(text: String) -> EngineError {
    EngineError::refused(libc::EINVAL, text)
}

fn decode_entry(entry: &[u8]) -> Result<Grant> {
    let (Some(tree), Some(start), Some(end)) = (u64_at(entry, 0), array_at(entry, 8), array_at(entry, 25))
    else {
        return Err(invalid("a grant is cut short".into()));
    };
    let (start, end) = (Key::from_be_bytes(&start), Key::from_be_bytes(&end));
    let mode =
        Mode::from_wire(entry[42]).ok_or_else(|| invalid(format!("unknown grant mode {}", entry[42])))?;
    if start >= end {
        return Err(invalid(format!("grant [{start}, {end}) of tree {tree} is empty")));
    }
    Ok(Grant { tree, start, end, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[(u64, u64, u64, Mode)]) -> Grants {
        let mut packed = Vec::new();
        for &(tree, start, end, mode) in list {
            let grant = Grant { tree, start: Key::new(start, 0, 0), end: Key::new(end, 0, 0), mode };
            Grants::encode_entry(&grant, &mut packed);
        }
        Grants::decode(&packed).unwrap()
    }

    #[test]
    fn neighbours_cover_together_and_gaps_do_not() {
        let grants = grants(&[
            (5, 10, 20, Mode::Write),
            (5, 20, 30, Mode::Write),
            (5, 30, 40, Mode::Read),
            (5, 50, 60, Mode::Write),
            (7, 0, 9, Mode::Merge),
        ]);
        let covers =
            |tree, start, end, mode| grants.covers(tree, Key::new(start, 0, 0), Key::new(end, 0, 0), mode);
        assert!(covers(5, 10, 30, Mode::Write));
        assert!(covers(5, 12, 13, Mode::Read));
        assert!(covers(5, 10, 40, Mode::Read));
        assert!(!covers(5, 10, 31, Mode::Write));
        assert!(!covers(5, 9, 11, Mode::Read));
        assert!(!covers(5, 39, 51, Mode::Read));
        assert!(!covers(5, 59, 61, Mode::Read));
        assert!(!covers(6, 10, 11, Mode::Read));
        assert!(covers(7, 0, 9, Mode::Merge));
        assert!(!covers(7, 0, 9, Mode::Read));
    }

    #[test]
    fn what_is_not_sorted_disjoint_and_whole_is_refused() {
        let entry = |tree, start, end| {
            let mut packed = Vec::new();
            let grant =
                Grant { tree, start: Key::new(start, 0, 0), end: Key::new(end, 0, 0), mode: Mode::Write };
            Grants::encode_entry(&grant, &mut packed);
            packed
        };
        assert!(Grants::decode(&[entry(5, 10, 20), entry(5, 19, 30)].concat()).is_err());
        assert!(Grants::decode(&[entry(6, 10, 20), entry(5, 30, 40)].concat()).is_err());
        assert!(Grants::decode(&entry(5, 10, 10)).is_err());
        assert!(Grants::decode(&entry(5, 10, 20)[..47]).is_err());
        let mut bad_mode = entry(5, 10, 20);
        bad_mode[42] = 9;
        assert!(Grants::decode(&bad_mode).is_err());
        assert!(Grants::decode(&[]).is_ok_and(|none| !none.covers(5, Key::MIN, Key::MAX, Mode::Read)));
    }
}
