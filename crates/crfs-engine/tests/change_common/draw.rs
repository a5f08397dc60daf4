// SPDX-License-Identifier: GPL-2.0-or-later
//! Where random choices come from: a list that a property test shrinks, or an endless seeded stream.

pub trait Draw {
    fn bits(&mut self) -> u64;

    /// A number below `limit`; 0 when `limit` is 0.
    fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.bits() % limit }
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True once in `n`; never when choices have run out, so that shrunk cases are plain.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }
}

/// The choices of a property test; all zero behind the end.
pub struct Choices<'a> {
    rest: &'a [u32],
}

impl<'a> Choices<'a> {
    pub fn new(list: &'a [u32]) -> Choices<'a> {
        Choices { rest: list }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Draw for Choices<'_> {
    fn bits(&mut self) -> u64 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        u64::from(*first)
    }
}

/// splitmix64.
pub struct Seeded(pub u64);

impl Draw for Seeded {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
