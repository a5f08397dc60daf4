// SPDX-License-Identifier: GPL-2.0-or-later
//! The form of change records: the golden vectors that the TypeScript encoder is tested with too, and what breaks the
//! form is refused whole with one line.

#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

mod change_common;

use change_common::builder::Builder;
use change_common::draw::{Draw, Seeded};
use change_common::model_store::ModelStore;
use crfs_disk::inode::Timespec;
use crfs_engine::change::codec::{Change, Changes, CloneRange, Fields, Name, NewInode, Rename, decode};
use crfs_engine::change::{Batch, Grants, apply};
use proptest::prelude::*;
use std::fmt::Write;

const TIME: Timespec = Timespec { sec: 1_700_000_000, nsec: 123_456_789 };
/// Before 1970.
const EARLY: Timespec = Timespec { sec: -2_208_988_800, nsec: 999_999_999 };
/// After 2106.
const LATE: Timespec = Timespec { sec: 9_007_199_254, nsec: 0 };

/// One of every kind, and the odd forms of some.
fn samples() -> Vec<Change<'static>> {
    let (tree, ino) = (5, 257);
    let fields = Fields { size: Some(1_234_567_890_123), ..Fields::default() };
    let all = Fields {
        mode: Some(0o100640),
        uid: Some(4_294_967_294),
        gid: Some(1000),
        size: Some(9_007_199_254_740_991),
        atime: Some(EARLY),
        mtime: Some(LATE),
        ctime: Some(TIME),
        flags: Some(0x30),
    };
    let name = Name { tree, dir: 256, index: 7, ino, time: TIME, name: b"caf\xe9 \xff" };
    vec![
        new_inode(0o100644, 0, b""),
        new_inode(0o120777, 0, b"../target"),
        new_inode(0o020600, 0x0010_0003, b""),
        Change::SetFields { tree, ino, fields },
        Change::SetFields { tree, ino, fields: all },
        Change::AddName(name.clone()),
        Change::RemoveName(name),
        Change::Rename(Rename {
            tree,
            ino,
            time: LATE,
            source_dir: 256,
            source_index: 7,
            target_dir: 258,
            target_index: 4_503_599_627_370_496,
            source_name: b"old",
            target_name: b"new name",
        }),
        Change::SetXattr { tree, ino, time: TIME, flags: 0, name: b"user.a", value: b"\x00\x01binary" },
        Change::SetXattr { tree, ino, time: TIME, flags: 1, name: b"user.empty", value: b"" },
        Change::RemoveXattr { tree, ino, time: TIME, name: b"user.a" },
        Change::PutData { tree, ino, offset: 8192, length: 5000, new_size: 13_192, time: TIME },
        Change::Cut { tree, ino, offset: 4096, length: 1 << 40, time: EARLY },
        Change::Preallocate { tree, ino, offset: 0, length: 1 << 20, new_size: 0, time: TIME },
        Change::DropInode { tree, ino: 9_007_199_254_740_991 },
        Change::Clone(CloneRange {
            tree,
            source_ino: ino,
            source_offset: 4096,
            length: 8192,
            ino: 258,
            offset: 0,
            new_size: 8192,
            time: TIME,
        }),
    ]
}

fn new_inode(mode: u32, rdev: u64, target: &'static [u8]) -> Change<'static> {
    Change::NewInode(NewInode { tree: 5, ino: 257, mode, uid: 1000, gid: 100, rdev, time: TIME, target })
}

/// Fields of one vector, as JSON members.
struct Members(String);

impl Members {
    fn number(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Members {
        write!(self.0, ", \"{name}\": {value}").unwrap();
        self
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Members {
        let value = hex(value);
        self.number(name, format_args!("\"{value}\""))
    }

    fn time(&mut self, name: &str, value: Timespec) -> &mut Members {
        self.number(name, format_args!("[{}, {}]", value.sec, value.nsec))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn members(change: &Change<'_>) -> (&'static str, String) {
    let mut m = Members(String::new());
    let kind = match change {
        Change::NewInode(new) => {
            m.number("tree", new.tree).number("ino", new.ino).number("mode", new.mode).number("uid", new.uid);
            m.number("gid", new.gid)
                .number("rdev", new.rdev)
                .time("time", new.time)
                .bytes("target", new.target);
            "newInode"
        }
        Change::SetFields { tree, ino, fields } => {
            m.number("tree", tree).number("ino", ino);
            for (name, value) in [("mode", fields.mode), ("uid", fields.uid), ("gid", fields.gid)] {
                value.inspect(|value| _ = m.number(name, value));
            }
            fields.size.inspect(|size| _ = m.number("size", size));
            for (name, value) in [("atime", fields.atime), ("mtime", fields.mtime), ("ctime", fields.ctime)] {
                value.inspect(|value| _ = m.time(name, *value));
            }
            fields.flags.inspect(|flags| _ = m.number("inodeFlags", flags));
            "setFields"
        }
        Change::AddName(n) | Change::RemoveName(n) => {
            m.number("tree", n.tree).number("dir", n.dir).number("index", n.index).number("ino", n.ino);
            m.time("time", n.time).bytes("name", n.name);
            if matches!(change, Change::AddName(_)) { "addName" } else { "removeName" }
        }
        Change::Rename(r) => {
            m.number("tree", r.tree)
                .number("ino", r.ino)
                .time("time", r.time)
                .number("sourceDir", r.source_dir);
            m.number("sourceIndex", r.source_index).number("targetDir", r.target_dir);
            m.number("targetIndex", r.target_index).bytes("sourceName", r.source_name);
            m.bytes("targetName", r.target_name);
            "rename"
        }
        Change::SetXattr { tree, ino, time, flags, name, value } => {
            m.number("tree", tree).number("ino", ino).time("time", *time).number("flags", flags);
            m.bytes("name", name).bytes("value", value);
            "setXattr"
        }
        Change::RemoveXattr { tree, ino, time, name } => {
            m.number("tree", tree).number("ino", ino).time("time", *time).bytes("name", name);
            "removeXattr"
        }
        Change::PutData { tree, ino, offset, length, new_size, time } => {
            m.number("tree", tree).number("ino", ino).number("offset", offset).number("length", length);
            m.number("newSize", new_size).time("time", *time);
            "putData"
        }
        Change::Cut { tree, ino, offset, length, time } => {
            m.number("tree", tree).number("ino", ino).number("offset", offset).number("length", length);
            m.time("time", *time);
            "cut"
        }
        Change::Preallocate { tree, ino, offset, length, new_size, time } => {
            m.number("tree", tree).number("ino", ino).number("offset", offset).number("length", length);
            m.number("newSize", new_size).time("time", *time);
            "preallocate"
        }
        Change::DropInode { tree, ino } => {
            m.number("tree", tree).number("ino", ino);
            "dropInode"
        }
        Change::Clone(c) => {
            m.number("tree", c.tree)
                .number("sourceIno", c.source_ino)
                .number("sourceOffset", c.source_offset);
            m.number("length", c.length).number("ino", c.ino).number("offset", c.offset);
            m.number("newSize", c.new_size).time("time", c.time);
            "clone"
        }
    };
    (kind, m.0)
}

fn vectors() -> String {
    let mut lines = Vec::new();
    for change in samples() {
        let (kind, members) = members(&change);
        let mut record = Vec::new();
        change.encode(&mut record);
        lines.push(format!("  {{ \"kind\": \"{kind}\"{members}, \"record\": \"{}\" }}", hex(&record)));
    }
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// The committed vectors are what this codec makes. `CRFS_BLESS=1` writes them anew.
#[test]
fn the_golden_vectors_are_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/vectors/changes.json");
    let current = vectors();
    if std::env::var_os("CRFS_BLESS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == current, "test/vectors/changes.json is stale: run this test with CRFS_BLESS=1");
}

#[test]
fn every_sample_decodes_to_itself() {
    for change in samples() {
        let mut record = Vec::new();
        change.encode(&mut record);
        assert_eq!(decode(&record).unwrap(), change);
        for cut in 0..record.len() {
            assert!(decode(&record[..cut]).is_err(), "{cut} of {} bytes of {change:?}", record.len());
        }
        record.push(0);
        let errno = decode(&record).unwrap_err().errno();
        assert_eq!(errno, libc::EPROTO);
    }
}

/// The sample with `bytes` written at `at`.
fn patched(sample: &Change<'_>, at: usize, bytes: &[u8]) -> i32 {
    let mut record = Vec::new();
    sample.encode(&mut record);
    record[at..at + bytes.len()].copy_from_slice(bytes);
    decode(&record).expect_err("the patched record is accepted").errno()
}

#[test]
fn fields_out_of_bounds_are_refused_with_their_errno() {
    let samples = samples();
    let (file, size, put, cut) = (&samples[0], &samples[3], &samples[11], &samples[12]);
    // Kind, flags, reserved bytes.
    assert_eq!(patched(file, 4, &[13]), libc::EPROTO);
    assert_eq!(patched(file, 5, &[1]), libc::EPROTO);
    assert_eq!(patched(file, 6, &[1]), libc::EPROTO);
    assert_eq!(patched(&samples[8], 5, &[4]), libc::EPROTO);
    // Mask of set fields: none, unknown.
    assert_eq!(patched(size, 24, &[0, 0, 0, 0]), libc::EPROTO);
    assert_eq!(patched(size, 24, &[0, 1, 0, 0]), libc::EPROTO);
    assert_eq!(patched(size, 28, &(1_u64 << 53).to_le_bytes()), libc::EFBIG);
    // Nanoseconds of the time of a new inode (after tree, ino, mode, uid, gid, rdev, seconds).
    assert_eq!(patched(file, 8 + 16 + 12 + 8 + 8, &1_000_000_000_u32.to_le_bytes()), libc::EINVAL);
    // Put data: offset inside a sector, no bytes, an end beyond the largest file.
    assert_eq!(patched(put, 24, &1_u64.to_le_bytes()), libc::EINVAL);
    assert_eq!(patched(put, 32, &0_u32.to_le_bytes()), libc::EINVAL);
    assert_eq!(patched(put, 24, &(u64::MAX - 4095).to_le_bytes()), libc::EFBIG);
    assert_eq!(patched(put, 36, &u64::MAX.to_le_bytes()), libc::EFBIG);
    // Cut: part of a sector, beyond the largest file.
    assert_eq!(patched(cut, 32, &100_u64.to_le_bytes()), libc::EINVAL);
    assert_eq!(patched(cut, 32, &u64::MAX.to_le_bytes()), libc::EFBIG);
}

#[test]
fn names_and_values_out_of_bounds_are_refused_with_their_errno() {
    let errno_of = |change: Change<'_>| {
        let mut record = Vec::new();
        change.encode(&mut record);
        decode(&record).expect_err("accepted").errno()
    };
    let add = |name| Change::AddName(Name { tree: 5, dir: 256, index: 2, ino: 257, time: TIME, name });
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", b"\0"] {
        assert_eq!(errno_of(add(name)), libc::EINVAL, "{name:?}");
    }
    assert_eq!(errno_of(add(&[b'x'; 256])), libc::ENAMETOOLONG);
    let xattr = |name, value| Change::SetXattr { tree: 5, ino: 257, time: TIME, flags: 0, name, value };
    assert_eq!(errno_of(xattr(b"", b"")), libc::EINVAL);
    assert_eq!(errno_of(xattr(b"a\0", b"")), libc::EINVAL);
    assert_eq!(errno_of(xattr(&[b'x'; 256], b"")), libc::ENAMETOOLONG);
    assert_eq!(errno_of(xattr(b"user.a", &[0; 65_537])), libc::E2BIG);
    let long = NewInode {
        tree: 5,
        ino: 257,
        mode: 0o120777,
        uid: 0,
        gid: 0,
        rdev: 0,
        time: TIME,
        target: &[b't'; 4096],
    };
    assert_eq!(errno_of(Change::NewInode(long)), libc::ENAMETOOLONG);
}

#[test]
fn a_batch_whose_sections_do_not_agree_is_refused() {
    let store = ModelStore::new(16384, 64);
    let mut good = Builder::default();
    good.file(257, b"f").put(257, 0, b"data");
    good.accept(&mut store.clone());
    let damaged = |damage: &dyn Fn(&mut Builder)| {
        let mut bad = good.clone();
        damage(&mut bad);
        let refusal = bad.refuse(&store);
        assert_eq!(refusal.errno, libc::EPROTO, "{refusal:?}");
        refusal.index
    };
    assert_eq!(damaged(&|bad| bad.count = 4), 3);
    assert_eq!(damaged(&|bad| bad.count = 2), 2);
    assert_eq!(damaged(&|bad| bad.count = u32::MAX), 3);
    assert_eq!(damaged(&|bad| bad.data.push(0)), 3);
    assert_eq!(damaged(&|bad| bad.data.truncate(3)), 2);
    assert_eq!(damaged(&|bad| bad.checksums.push(0)), 3);
    assert_eq!(damaged(&|bad| bad.checksums.truncate(3)), 2);
    assert_eq!(damaged(&|bad| bad.changes.truncate(bad.changes.len() - 1)), 2);
    assert_eq!(damaged(&|bad| bad.changes[0..4].copy_from_slice(&7_u32.to_le_bytes())), 0);
    assert_eq!(damaged(&|bad| bad.changes[0..4].copy_from_slice(&u32::MAX.to_le_bytes())), 0);
    let empty = Batch { changes: &[], count: 0, checksums: &[], data: &[] };
    assert!(apply(&mut store.clone(), &empty, &Grants::all()).is_ok());
}

#[test]
fn noise_is_refused_without_panic() {
    let store = ModelStore::new(4096, 64);
    let mut draw = Seeded(3);
    for _ in 0..20_000 {
        let mut changes = Vec::new();
        for _ in 0..1 + draw.below(3) {
            let body = draw.below(90);
            changes.extend_from_slice(&(8 + body as u32).to_le_bytes());
            changes.extend_from_slice(&[draw.below(14) as u8, 0, 0, 0]);
            changes.extend((0..body).map(|_| if draw.one_in(3) { draw.bits() as u8 } else { 0 }));
        }
        let count = Changes::new(&changes).count() as u32;
        let batch = Batch { changes: &changes, count, checksums: &[], data: &[] };
        let _ = apply(&mut store.clone(), &batch, &Grants::all());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_any_bytes_ends_and_what_decodes_encodes_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut at = 0;
        for change in Changes::new(&bytes) {
            let Ok(change) = change else { break };
            let mut record = Vec::new();
            change.encode(&mut record);
            prop_assert_eq!(&bytes[at..at + record.len()], &record[..]);
            at += record.len();
        }
    }
}
