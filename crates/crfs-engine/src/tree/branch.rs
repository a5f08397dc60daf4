// SPDX-License-Identifier: GPL-2.0-or-later
//! An interior node: children with the first key of each. Children may be in memory, so it is not kept in disk form.

use super::node::Child;
use crfs_disk::{Header, Key, KeyPtr};

#[derive(Clone)]
pub struct Entry {
    /// First key of the child's subtree.
    pub key: Key,
    pub child: Child,
}

#[derive(Clone)]
pub struct Branch {
    /// At least 1.
    pub level: u8,
    pub entries: Vec<Entry>,
}

impl Branch {
    /// Takes a verified block.
    pub fn from_block(bytes: &[u8], level: u8) -> Branch {
        let entries = crfs_disk::Node(bytes)
            .iter()
            .map(|ptr| Entry {
                key: ptr.key,
                child: Child::Disk { bytenr: ptr.bytenr, generation: ptr.generation },
            })
            .collect();
        Branch { level, entries }
    }

    /// Slot of the child whose subtree can hold `key`.
    #[inline]
    pub fn child_slot(&self, key: Key) -> usize {
        self.entries.partition_point(|entry| entry.key <= key).saturating_sub(1)
    }

    /// Writes the pointers behind the header of `block`. Every child has an address by then.
    pub fn encode_into(&self, block: &mut [u8]) {
        let body = &mut block[Header::SIZE..];
        for (entry, raw) in self.entries.iter().zip(body.chunks_exact_mut(KeyPtr::SIZE)) {
            let Child::Disk { bytenr, generation } = entry.child else {
                panic!("a node was written before its child had an address");
            };
            KeyPtr { key: entry.key, bytenr, generation }.write_to(raw);
        }
    }
}
