// SPDX-License-Identifier: GPL-2.0-or-later
//! A batch in the making, as bytes.

use super::model_store::ModelStore;
use super::{ROOT, TREE};
use crfs_disk::checksum::crc32c;
use crfs_disk::inode::Timespec;
use crfs_engine::Store;
use crfs_engine::change::codec::{Change, Fields, Name, NewInode, Rename};
use crfs_engine::change::{Applied, Batch, Grants, Refusal, apply};

#[derive(Clone, Default, Debug)]
pub struct Builder {
    pub changes: Vec<u8>,
    pub count: u32,
    pub checksums: Vec<u8>,
    pub data: Vec<u8>,
}

/// A time that tells changes apart.
pub fn at(sec: i64) -> Timespec {
    Timespec { sec, nsec: 1 }
}

impl Builder {
    pub fn batch(&self) -> Batch<'_> {
        Batch { changes: &self.changes, count: self.count, checksums: &self.checksums, data: &self.data }
    }

    pub fn push(&mut self, change: &Change<'_>) -> &mut Builder {
        change.encode(&mut self.changes);
        self.count += 1;
        self
    }

    pub fn push_payload(&mut self, payload: &[u8]) {
        for sector in payload.chunks(4096) {
            let mut padded = sector.to_vec();
            padded.resize(4096, 0);
            self.checksums.extend_from_slice(&crc32c(&padded).to_le_bytes());
        }
        self.data.extend_from_slice(payload);
    }

    pub fn new_inode(&mut self, ino: u64, mode: u32) -> &mut Builder {
        self.push(&Change::NewInode(NewInode {
            tree: TREE,
            ino,
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            time: at(10),
            target: b"",
        }))
    }

    pub fn add_name(&mut self, dir: u64, index: u64, ino: u64, name: &[u8]) -> &mut Builder {
        self.push(&Change::AddName(Name { tree: TREE, dir, index, ino, time: at(20), name }))
    }

    pub fn remove_name(&mut self, dir: u64, index: u64, ino: u64, name: &[u8]) -> &mut Builder {
        self.push(&Change::RemoveName(Name { tree: TREE, dir, index, ino, time: at(30), name }))
    }

    pub fn rename(&mut self, ino: u64, source: (u64, u64, &[u8]), target: (u64, u64, &[u8])) -> &mut Builder {
        self.push(&Change::Rename(Rename {
            tree: TREE,
            ino,
            time: at(40),
            source_dir: source.0,
            source_index: source.1,
            target_dir: target.0,
            target_index: target.1,
            source_name: source.2,
            target_name: target.2,
        }))
    }

    /// A regular file in the root directory; its index is its number.
    pub fn file(&mut self, ino: u64, name: &[u8]) -> &mut Builder {
        self.new_inode(ino, 0o100644).add_name(ROOT, ino, ino, name)
    }

    pub fn dir(&mut self, ino: u64, name: &[u8]) -> &mut Builder {
        self.new_inode(ino, 0o040755).add_name(ROOT, ino, ino, name)
    }

    /// Writes `payload` at `offset`; the file ends behind it at the earliest.
    pub fn put(&mut self, ino: u64, offset: u64, payload: &[u8]) -> &mut Builder {
        self.put_sized(ino, offset, payload, offset + payload.len() as u64)
    }

    pub fn put_sized(&mut self, ino: u64, offset: u64, payload: &[u8], new_size: u64) -> &mut Builder {
        self.push_payload(payload);
        let length = payload.len() as u32;
        self.push(&Change::PutData { tree: TREE, ino, offset, length, new_size, time: at(50) })
    }

    pub fn cut(&mut self, ino: u64, offset: u64, length: u64) -> &mut Builder {
        self.push(&Change::Cut { tree: TREE, ino, offset, length, time: at(60) })
    }

    pub fn preallocate(&mut self, ino: u64, offset: u64, length: u64, new_size: u64) -> &mut Builder {
        self.push(&Change::Preallocate { tree: TREE, ino, offset, length, new_size, time: at(70) })
    }

    pub fn set_size(&mut self, ino: u64, size: u64) -> &mut Builder {
        self.set(ino, Fields { size: Some(size), ..Fields::default() })
    }

    pub fn set(&mut self, ino: u64, fields: Fields) -> &mut Builder {
        self.push(&Change::SetFields { tree: TREE, ino, fields })
    }

    pub fn set_xattr(&mut self, ino: u64, name: &[u8], value: &[u8], flags: u8) -> &mut Builder {
        self.push(&Change::SetXattr { tree: TREE, ino, time: at(80), flags, name, value })
    }

    pub fn remove_xattr(&mut self, ino: u64, name: &[u8]) -> &mut Builder {
        self.push(&Change::RemoveXattr { tree: TREE, ino, time: at(90), name })
    }

    pub fn drop_inode(&mut self, ino: u64) -> &mut Builder {
        self.push(&Change::DropInode { tree: TREE, ino })
    }

    /// Applies everything, all keys granted.
    pub fn apply<S: Store>(&self, store: &mut S) -> Result<Applied, Refusal> {
        apply(store, &self.batch(), &Grants::all())
    }

    /// Applies and judges: the model's items must be sound.
    pub fn accept(&self, store: &mut ModelStore) {
        self.apply(store).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
        super::fsck::check(store).unwrap_or_else(|error| panic!("fsck: {error}"));
    }

    /// The refusal, with the store as it was before.
    pub fn refuse(&self, store: &ModelStore) -> Refusal {
        self.apply(&mut store.clone()).expect_err("the batch is accepted")
    }
}
