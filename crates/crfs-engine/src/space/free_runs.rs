// SPDX-License-Identifier: GPL-2.0-or-later
//! A set of free byte runs: disjoint, never adjacent, found by address and by size in logarithmic time.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Default, Debug)]
pub struct FreeRuns {
    by_start: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    total: u64,
}

impl FreeRuns {
    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Runs as (start, length), by start.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(start, len)| (*start, *len))
    }

    /// Runs as (start, length), the largest first.
    pub fn by_size(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_size.iter().rev().map(|(len, start)| (*start, *len))
    }

    /// Free bytes from `at` on without a gap; 0 when `at` is not free.
    pub fn free_from(&self, at: u64) -> u64 {
        match self.by_start.range(..=at).next_back() {
            Some((start, len)) if start + len > at => start + len - at,
            _ => 0,
        }
    }

    /// The smallest run of at least `len` bytes.
    pub fn best_fit(&self, len: u64) -> Option<(u64, u64)> {
        self.by_size.range((len, 0)..).next().map(|(len, start)| (*start, *len))
    }

    /// The first run at or after `from` of at least `len` bytes, looking at no more than `tries` runs.
    pub fn next_fit(&self, from: u64, len: u64, tries: usize) -> Option<(u64, u64)> {
        let here = self.free_from(from);
        if here >= len {
            return Some((from, here));
        }
        self.by_start
            .range(from..)
            .take(tries)
            .find(|(_, have)| **have >= len)
            .map(|(start, have)| (*start, *have))
    }

    pub fn largest(&self) -> Option<(u64, u64)> {
        self.by_size.last().map(|(len, start)| (*start, *len))
    }

    /// Adds a run. False, and nothing changed, when a part of it is in the set already.
    #[must_use]
    pub fn insert(&mut self, start: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let (mut low, mut high) = (start, start + len);
        let before = self.by_start.range(..high).next_back().map(|(at, size)| (*at, *size));
        if before.is_some_and(|(at, size)| at + size > start) {
            return false;
        }
        if let Some((at, size)) = before.filter(|(at, size)| at + size == start) {
            self.drop_run(at, size);
            low = at;
        }
        if let Some(size) = self.by_start.get(&high).copied() {
            self.drop_run(high, size);
            high += size;
        }
        self.put_run(low, high - low);
        true
    }

    /// Takes a run out. False, and nothing changed, when not all of it is in the set.
    #[must_use]
    pub fn remove(&mut self, start: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let Some((at, size)) = self.by_start.range(..=start).next_back().map(|(at, size)| (*at, *size))
        else {
            return false;
        };
        if at + size < start + len {
            return false;
        }
        self.drop_run(at, size);
        if at < start {
            self.put_run(at, start - at);
        }
        if at + size > start + len {
            self.put_run(start + len, at + size - start - len);
        }
        true
    }

    /// Takes out whatever of the range is in the set.
    pub fn exclude(&mut self, start: u64, len: u64) {
        let end = start + len;
        let mut at = start;
        while at < end {
            let here = self.free_from(at).min(end - at);
            if here > 0 {
                let removed = self.remove(at, here);
                debug_assert!(removed, "what is free can be removed");
                at += here;
            } else {
                match self.by_start.range(at..end).next() {
                    Some((next, _)) => at = *next,
                    None => return,
                }
            }
        }
    }

    fn put_run(&mut self, start: u64, len: u64) {
        self.by_start.insert(start, len);
        self.by_size.insert((len, start));
        self.total += len;
    }

    fn drop_run(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_size.remove(&(len, start));
        self.total -= len;
    }
}

/// Sorts runs and joins those that touch.
pub fn coalesce(mut runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for (start, len) in runs {
        match joined.last_mut() {
            Some((at, size)) if *at + *size == start => *size += len,
            _ => joined.push((start, len)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn equals_a_set_of_bytes(steps in prop::collection::vec((any::<bool>(), 0..200u64, 1..30u64), 0..200)) {
            let mut runs = FreeRuns::default();
            let mut model = std::collections::BTreeSet::new();
            for (insert, start, len) in steps {
                let range = start..start + len;
                if insert {
                    let want = range.clone().all(|byte| !model.contains(&byte));
                    prop_assert_eq!(runs.insert(start, len), want);
                    if want { model.extend(range); }
                } else if len % 3 == 0 {
                    runs.exclude(start, len);
                    model.retain(|byte| !range.contains(byte));
                } else {
                    let want = range.clone().all(|byte| model.contains(&byte));
                    prop_assert_eq!(runs.remove(start, len), want);
                    if want { model.retain(|byte| !range.contains(byte)); }
                }
                let bytes: Vec<u64> = runs.iter().flat_map(|(start, len)| start..start + len).collect();
                prop_assert_eq!(bytes, model.iter().copied().collect::<Vec<u64>>());
                prop_assert_eq!(runs.total(), model.len() as u64);
                let starts: Vec<u64> = runs.iter().map(|(start, _)| start).collect();
                prop_assert!(starts.iter().all(|start| *start == 0 || runs.free_from(start - 1) == 0), "runs are maximal");
            }
        }
    }

    #[test]
    fn neighbours_are_joined() {
        assert_eq!(coalesce(vec![(8, 4), (0, 4), (4, 4), (20, 1)]), [(0, 12), (20, 1)]);
    }
}
