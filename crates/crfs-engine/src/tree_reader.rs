// SPDX-License-Identifier: GPL-2.0-or-later
//! Plain walks over committed trees, straight from the device. Used while an image is being opened, before there are trees
//! in memory, and by whoever looks at an image from outside (tests, `crfsd info`).
//!
//! A walk ends: each step down is to a block whose level is one less, which the verified read makes sure of.

use crate::block_reader::BlockReader;
use crate::error::{EngineError, Result};
use crfs_disk::{Expect, Key, Leaf, Node};
use std::ops::ControlFlow;

type ItemVisitor<'v> = dyn FnMut(Key, &[u8]) -> Result<ControlFlow<()>> + 'v;
type BlockVisitor<'v> = dyn FnMut(&Expect, &[u8]) -> Result<()> + 'v;

/// One committed tree.
pub struct TreeReader<'a> {
    reader: &'a BlockReader,
    root: Expect,
    tree: u64,
}

impl<'a> TreeReader<'a> {
    pub fn new(
        reader: &'a BlockReader,
        tree: u64,
        bytenr: u64,
        generation: u64,
        level: u8,
    ) -> TreeReader<'a> {
        TreeReader { reader, root: Expect::root(bytenr, generation, level, tree), tree }
    }

    /// Calls `visit` for each item with a key >= `from`, in key order, until it breaks.
    pub fn scan(
        &self,
        from: Key,
        mut visit: impl FnMut(Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.scan_block(&self.root, from, &mut visit, &mut |_, _| Ok(())).map(|_| ())
    }

    /// Calls `visit` for every block, parents before children, with what the pointer to it said.
    pub fn scan_blocks(&self, mut visit: impl FnMut(&Expect, &[u8]) -> Result<()>) -> Result<()> {
        self.scan_block(&self.root, Key::MIN, &mut |_, _| Ok(ControlFlow::Continue(())), &mut visit)
            .map(|_| ())
    }

    fn scan_block(
        &self,
        expect: &Expect,
        from: Key,
        item: &mut ItemVisitor<'_>,
        block_seen: &mut BlockVisitor<'_>,
    ) -> Result<ControlFlow<()>> {
        let block = self.reader.read_block(expect)?;
        block_seen(expect, &block)?;
        let level = crfs_disk::header::level_of(&block).unwrap_or(0);
        if level == 0 {
            let leaf = Leaf(&block);
            let (start, _) = leaf.search(from);
            for (key, data) in leaf.iter().skip(start) {
                if item(key, data)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let node = Node(&block);
        let first = node.child_slot(from);
        for slot in first..node.len() {
            let Some(ptr) = node.ptr(slot) else { break };
            let child = Expect::child(&ptr, level - 1, self.tree);
            if self.scan_block(&child, from, item, block_seen)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The data of one item.
    pub fn get(&self, key: Key) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.scan(key, |have, data| {
            if have == key {
                found = Some(data.to_vec());
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

impl From<crfs_disk::verify::VerifyError> for EngineError {
    fn from(error: crfs_disk::verify::VerifyError) -> EngineError {
        EngineError::Corrupt(error.0)
    }
}
