// SPDX-License-Identifier: GPL-2.0-or-later
//! Random and damaged batches against the model file system: each is taken or refused as the model says, a refused one
//! changes nothing, and after each the items are sound and say the same as the model.

#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

mod change_common;

use change_common::compare::compare_store;
use change_common::draw::{Choices, Draw, Seeded};
use change_common::fsck;
use change_common::generate::Generator;
use change_common::model_fs::ModelFs;
use change_common::model_store::{ModelStore, START};
use crfs_engine::Store;
use crfs_engine::change::orphans::finish_deletes;
use proptest::prelude::*;

/// What a run has seen.
#[derive(Default, Debug)]
struct Tally {
    taken: u64,
    refused: u64,
    /// Refused for want of space, about which the model knows nothing.
    full: u64,
}

struct World {
    store: ModelStore,
    fs: ModelFs,
    generator: Generator,
    tally: Tally,
}

impl World {
    fn new(draw: &mut impl Draw, inodes_max: usize) -> World {
        let nodesize = draw.pick(&[4096, 16384]);
        let mut store = ModelStore::new(nodesize, 1 << 12);
        store.longest_run = draw.pick(&[1 << 40, 1, 3]);
        World {
            store,
            fs: ModelFs::new(nodesize, START),
            generator: Generator::new(inodes_max),
            tally: Tally::default(),
        }
    }

    fn step(&mut self, draw: &mut impl Draw) -> Result<(), String> {
        let (builder, _) = self.generator.batch(draw, &self.fs);
        let mut after = self.store.clone();
        let answer = builder.apply(&mut after);
        match &answer {
            Err(refusal) if refusal.errno == libc::ENOSPC && refusal.text.starts_with("no space") => {
                self.tally.full += 1;
                return Ok(());
            }
            Err(refusal) if refusal.text.starts_with("corrupt") => return Err(format!("{refusal:?}")),
            _ => {}
        }
        let verdict = self.fs.apply(&builder.batch());
        match (&answer, verdict) {
            (Ok(applied), Ok(())) => {
                self.tally.taken += 1;
                assert_eq!(applied.changes, builder.count);
                self.store = after;
                fsck::check(&self.store)?;
            }
            (Err(refusal), Err(_)) => {
                self.tally.refused += 1;
                assert!(refusal.index <= builder.count && refusal.errno > 0 && !refusal.text.is_empty());
            }
            (answer, verdict) => return Err(format!("the engine says {answer:?}, the model {verdict:?}")),
        }
        compare_store(&self.store, &self.fs)?;
        if draw.one_in(10) {
            self.store.commit();
        }
        if draw.one_in(60) {
            self.delete_orphans(draw)?;
        }
        Ok(())
    }

    /// What a server does after it opened an image, a few items at a time.
    fn delete_orphans(&mut self, draw: &mut impl Draw) -> Result<(), String> {
        let (work, kept) = (1 + draw.below(5) as usize, draw.below(3));
        let mut from = Some(0);
        while let Some(ino) = from {
            let progress =
                finish_deletes(&mut self.store, change_common::TREE, ino, work, |ino| ino % 3 == kept)
                    .map_err(|error| error.to_string())?;
            fsck::check(&self.store)?;
            from = progress.next;
        }
        self.fs.nodes.retain(|ino, node| node.nlink > 0 || ino % 3 == kept);
        compare_store(&self.store, &self.fs)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_shrink_to_a_small_failure(choices in prop::collection::vec(any::<u32>(), 0..3_000)) {
        let mut draw = Choices::new(&choices);
        let mut world = World::new(&mut draw, 12);
        while !draw.is_empty() {
            world.step(&mut draw).map_err(TestCaseError::fail)?;
        }
    }
}

/// Long runs, in which the trees grow.
#[test]
fn twenty_thousand_batches() {
    let seed = std::env::var("CRFS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut total = Tally::default();
    for run in 0..20 {
        let mut draw = Seeded(seed + run * 7919);
        let mut world = World::new(&mut draw, 30 + run as usize * 2);
        for step in 0..1_000 {
            world
                .step(&mut draw)
                .unwrap_or_else(|error| panic!("seed {seed}, run {run}, batch {step}: {error}"));
        }
        assert_eq!(world.store.generation(), world.store.generation);
        total.taken += world.tally.taken;
        total.refused += world.tally.refused;
        total.full += world.tally.full;
    }
    // Both outcomes must be common, or the run proves little.
    assert!(total.taken > 8_000 && total.refused > 3_000 && total.full < 500, "{total:?}");
}
