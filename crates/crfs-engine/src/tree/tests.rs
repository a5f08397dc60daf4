// SPDX-License-Identifier: GPL-2.0-or-later
//! Trees against a sorted map: random edits with every node size, commits in between, and pictures taken on the way
//! that must not change.

use super::{Child, Cursor, EditLog, Node, NodeSource, Tree, Wanted};
use crate::error::{EngineError, Result};
use crfs_disk::{Header, Key, Uuid};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

type Model = BTreeMap<Key, Vec<u8>>;

/// Blocks by address; `commit` gives addresses and stores encoded blocks.
struct MemoryBlocks {
    nodesize: usize,
    blocks: Mutex<HashMap<u64, Box<[u8]>>>,
}

impl NodeSource for MemoryBlocks {
    fn load(&self, wanted: &Wanted) -> Result<Arc<Node>> {
        let blocks = self.blocks.lock().unwrap();
        let bytes = blocks.get(&wanted.bytenr).ok_or_else(|| EngineError::corrupt("no such block"))?;
        let node = Node::from_block(bytes.clone());
        assert_eq!(node.level(), wanted.level);
        if wanted.first_key.is_some() {
            assert_eq!(node.first_key(), wanted.first_key, "the parent's key is the child's first");
        }
        Ok(Arc::new(node))
    }
    fn nodesize(&self) -> usize {
        self.nodesize
    }
}

struct Harness {
    blocks: MemoryBlocks,
    log: EditLog,
    tree: Tree,
    next_bytenr: u64,
    generation: u64,
}

fn header(generation: u64) -> Header {
    Header {
        csum: [0; 32],
        fsid: Uuid::NIL,
        bytenr: 0,
        flags: 0,
        chunk_tree_uuid: Uuid::NIL,
        generation,
        owner: 5,
        nritems: 0,
        level: 0,
    }
}

impl Harness {
    fn new(nodesize: usize) -> Harness {
        let mut tree = Tree::on_disk(5, 0, 0, 0);
        tree.root = Child::memory(Node::leaf(super::Leaf::new(nodesize)));
        let blocks = MemoryBlocks { nodesize, blocks: Mutex::default() };
        let log = EditLog { dirty_nodes: 1, ..EditLog::default() };
        Harness { blocks, log, tree, next_bytenr: 1 << 20, generation: 1 }
    }

    fn commit(&mut self) {
        let mut dirty = 0;
        let (next, nodesize) = (&mut self.next_bytenr, self.blocks.nodesize as u64);
        self.tree.root.visit_memory(&mut |node| {
            dirty += 1;
            node.set_address(*next);
            *next += nodesize;
        });
        assert_eq!(dirty, self.log.dirty_nodes, "the log knows how many nodes are in memory");
        let mut sealed = Vec::new();
        self.tree.root = self.tree.root.seal(self.generation, &mut sealed);
        let mut blocks = self.blocks.blocks.lock().unwrap();
        for freed in self.log.freed.drain(..) {
            assert!(blocks.remove(&freed.bytenr).is_some(), "only blocks of the last commit are freed");
        }
        for node in sealed {
            let mut block = vec![0; self.blocks.nodesize].into_boxed_slice();
            node.encode_into(&header(self.generation), &mut block);
            blocks.insert(node.address(), block);
        }
        self.log.dirty_nodes = 0;
        self.generation += 1;
    }

    fn insert(&mut self, key: Key, data: &[u8]) {
        self.tree.insert(&self.blocks, &mut self.log, key, data).unwrap();
    }

    fn replace(&mut self, key: Key, data: &[u8]) {
        self.tree.replace(&self.blocks, &mut self.log, key, data).unwrap();
    }

    fn remove(&mut self, key: Key) {
        self.tree.remove(&self.blocks, &mut self.log, key).unwrap();
    }

    fn content(&self, tree: &Tree) -> Vec<(Key, Vec<u8>)> {
        let mut cursor = Cursor::seek(tree, &self.blocks, Key::MIN).unwrap();
        let mut items = Vec::new();
        while let Some((key, data)) = cursor.item() {
            items.push((key, data.to_vec()));
            cursor.advance().unwrap();
        }
        items
    }

    fn check(&mut self, model: &Model) {
        let want: Vec<_> = model.iter().map(|(key, data)| (*key, data.clone())).collect();
        assert!(self.content(&self.tree) == want, "the tree holds what the map holds");
        self.check_node(&self.tree.root.clone(), self.tree.level, None);
    }

    /// Returns how many leaves lie below, and how many bytes they hold.
    fn check_node(&self, child: &Child, level: u8, first_key: Option<Key>) -> (usize, usize) {
        let node = child.load(&self.blocks, 5, level, first_key).unwrap();
        assert_eq!(node.level(), level);
        if first_key.is_some() {
            assert_eq!(node.first_key(), first_key);
        }
        match &node.body {
            super::Body::Leaf(leaf) => {
                assert!(!leaf.is_empty() || first_key.is_none(), "no empty leaf below a root");
                let sum: usize = (0..leaf.len()).map(|slot| 25 + leaf.data(slot).len()).sum();
                assert_eq!(sum, leaf.used(), "no gaps");
                assert!((1..leaf.len()).all(|slot| leaf.key(slot - 1) < leaf.key(slot)));
                (1, sum)
            }
            super::Body::Branch(branch) => {
                let len = branch.entries.len();
                assert!(len >= 1 && len <= Header::node_capacity(self.blocks.nodesize));
                assert!(first_key.is_some() || len >= 2, "a root with one child gives way");
                assert!(branch.entries.windows(2).all(|pair| pair[0].key < pair[1].key));
                let mut total = (0, 0);
                for entry in &branch.entries {
                    let (leaves, bytes) = self.check_node(&entry.child, level - 1, Some(entry.key));
                    total = (total.0 + leaves, total.1 + bytes);
                }
                total
            }
        }
    }

    /// Share of the leaves' room that is in use.
    fn fill(&self) -> f64 {
        let (leaves, bytes) = self.check_node(&self.tree.root, self.tree.level, None);
        bytes as f64 / (leaves * Header::leaf_space(self.blocks.nodesize)) as f64
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, usize),
    /// A run of neighbours, as a created inode is.
    Run(u64, u8, usize),
    Replace(u64, usize),
    Remove(u64),
    /// Everything from a key on, so many items.
    Sweep(u64, usize),
    Commit,
    Picture,
}

fn key_of(number: u64) -> Key {
    Key::new(number >> 6, (number >> 3 & 7) as u8, number & 7)
}

fn steps(items: usize) -> impl Strategy<Value = Vec<Step>> {
    let key = 0..40_000u64;
    let size = prop_oneof![6 => 0..200usize, 2 => 0..1200usize, 1 => 3000..3900usize];
    prop::collection::vec(
        prop_oneof![
            6 => (key.clone(), size.clone()).prop_map(|(key, size)| Step::Insert(key, size)),
            3 => (key.clone(), 1..60u8, 0..150usize).prop_map(|(key, count, size)| Step::Run(key, count, size)),
            3 => (key.clone(), size).prop_map(|(key, size)| Step::Replace(key, size)),
            4 => key.clone().prop_map(Step::Remove),
            1 => (key, 1..80usize).prop_map(|(key, count)| Step::Sweep(key, count)),
            1 => Just(Step::Commit),
            1 => Just(Step::Picture),
        ],
        0..items,
    )
}

fn run(nodesize: usize, steps: &[Step]) {
    let mut harness = Harness::new(nodesize);
    let mut model = Model::new();
    let mut pictures: Vec<(Tree, Model)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let fill = |size: usize| vec![number as u8; size];
        match step {
            Step::Insert(key, size) => put(&mut harness, &mut model, key_of(*key), fill(*size)),
            Step::Run(first, count, size) => {
                for key in *first..first + u64::from(*count) {
                    put(&mut harness, &mut model, key_of(key), fill(*size));
                }
            }
            Step::Replace(from, size) => {
                if let Some((key, data)) = model.range_mut(key_of(*from)..).next() {
                    *data = fill(*size);
                    harness.replace(*key, data);
                }
            }
            Step::Remove(from) => sweep(&mut harness, &mut model, key_of(*from), 1),
            Step::Sweep(from, count) => sweep(&mut harness, &mut model, key_of(*from), *count),
            Step::Commit => {
                // A commit frees blocks for good; pictures older than it are given up first, as readers are.
                check_pictures(&harness, &mut pictures);
                harness.commit();
            }
            Step::Picture => pictures.push((harness.tree.clone(), model.clone())),
        }
    }
    check_pictures(&harness, &mut pictures);
    harness.check(&model);
    for key in [0u64, 77, 20_000, 39_999, 50_000].map(key_of) {
        let mut out = Vec::new();
        let next = harness.tree.next(&harness.blocks, key, &mut out).unwrap();
        assert_eq!(
            next.map(|key| (key, out.clone())),
            model.range(key..).next().map(|(k, v)| (*k, v.clone()))
        );
        let prev = harness.tree.prev(&harness.blocks, key, &mut out).unwrap();
        assert_eq!(
            prev.map(|key| (key, out.clone())),
            model.range(..=key).last().map(|(k, v)| (*k, v.clone()))
        );
        let found = harness.tree.get(&harness.blocks, key, &mut out).unwrap();
        assert_eq!(found.then_some(&out), model.get(&key));
    }
    let keys: Vec<Key> = model.keys().copied().collect();
    for key in keys {
        harness.remove(key);
    }
    assert_eq!(harness.tree.level, 0, "an emptied tree is a single leaf");
    assert!(harness.log.dirty_nodes <= 1);
}

fn put(harness: &mut Harness, model: &mut Model, key: Key, data: Vec<u8>) {
    if model.contains_key(&key) {
        harness.replace(key, &data);
    } else {
        harness.insert(key, &data);
    }
    model.insert(key, data);
}

fn sweep(harness: &mut Harness, model: &mut Model, from: Key, count: usize) {
    let keys: Vec<Key> = model.range(from..).take(count).map(|(key, _)| *key).collect();
    for key in keys {
        harness.remove(key);
        model.remove(&key);
    }
}

fn check_pictures(harness: &Harness, pictures: &mut Vec<(Tree, Model)>) {
    for (tree, model) in pictures.drain(..) {
        let want: Vec<_> = model.into_iter().collect();
        assert!(harness.content(&tree) == want, "a picture of the tree never changes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn small_nodes_equal_a_map(steps in steps(600)) {
        run(4096, &steps);
    }

    #[test]
    fn default_nodes_equal_a_map(steps in steps(300)) {
        run(16384, &steps);
    }

    #[test]
    fn large_nodes_equal_a_map(steps in steps(200)) {
        run(65536, &steps);
    }
}

#[test]
fn ascending_inserts_leave_full_leaves() {
    let mut harness = Harness::new(16384);
    for number in 0..20_000 {
        harness.insert(Key::new(number, 1, 0), &[1; 160]);
    }
    assert!(harness.fill() > 0.97, "{}", harness.fill());
    // A second run between the first one's keys: new inodes between old ones.
    for number in 0..20_000 {
        harness.insert(Key::new(5_000, 96, number), &[1; 45]);
    }
    assert!(harness.fill() > 0.95, "{}", harness.fill());
}

#[test]
fn scattered_removals_leave_no_near_empty_leaves() {
    let mut harness = Harness::new(4096);
    for number in 0..20_000 {
        harness.insert(Key::new(number, 1, 0), &[1; 100]);
    }
    harness.commit();
    for number in (0..20_000).filter(|number| number % 16 != 0) {
        harness.remove(Key::new(number, 1, 0));
    }
    assert!(harness.fill() > 0.33, "{}", harness.fill());
}

#[test]
fn an_item_over_the_leaf_limit_is_refused() {
    let mut harness = Harness::new(4096);
    let key = Key::new(1, 1, 0);
    assert!(harness.tree.insert(&harness.blocks, &mut harness.log, key, &[0; 4096 - 101 - 25]).is_ok());
    let other = Key::new(2, 1, 0);
    let error =
        harness.tree.insert(&harness.blocks, &mut harness.log, other, &[0; 4096 - 101 - 24]).unwrap_err();
    assert_eq!(error.errno(), libc::EOVERFLOW);
}
