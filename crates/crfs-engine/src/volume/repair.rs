// SPDX-License-Identifier: GPL-2.0-or-later
//! Rewriting bad copies: where one of two copies of a tree block was bad when it was read, the good one is written over it.

use super::Volume;
use crate::block_reader::BadCopy;
use crate::error::Result;
use crate::transaction::Running;
use crfs_disk::{Expect, Header, Key, item_type, objectid};

impl Volume {
    /// Rewrites the bad copies met so far, if what they hold is still in use; returns how many. Goes with a commit, so that a
    /// flush follows.
    pub(super) fn rewrite_bad_copies(&self, run: &Running) -> Result<usize> {
        let mut done = 0;
        for copy in self.reader.take_bad_copies() {
            if self.rewrite(run, &copy)? {
                self.reader
                    .log(&format!("rewrote the bad copy of block {} at {}", copy.logical, copy.physical));
                done += 1;
            }
        }
        Ok(done)
    }

    /// The writer lock is held: nothing can take the block's place between the check and the write.
    fn rewrite(&self, run: &Running, copy: &BadCopy) -> Result<bool> {
        let Some(generation) = copy.generation else { return Ok(false) };
        let expect = Expect { bytenr: copy.logical, generation: Some(generation), ..Expect::default() };
        let Ok(block) = self.reader.read_block(&expect) else { return Ok(false) };
        let Ok(header) = Header::parse(&block) else { return Ok(false) };
        let key = Key::new(copy.logical, item_type::METADATA_ITEM, u64::from(header.level));
        let mut item = Vec::new();
        if !run.roots[&objectid::EXTENT_TREE].get(&*self.nodes, key, &mut item)? {
            return Ok(false);
        }
        self.reader.rewrite_copy(copy, &block)?;
        Ok(true)
    }
}
