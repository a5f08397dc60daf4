// SPDX-License-Identifier: GPL-2.0-or-later
//! Looks for an order of calls on one object that explains every answer, by Lowe's just-in-time linearization.
//!
//! The calls are gone through in the order of their beginnings and ends. What is kept is the set of all situations that the
//! object can be in: its state, and which of the running calls have taken effect already. A call need not take effect
//! before its end asks for it, so only then others that run are tried before it. A call that changes nothing takes effect as soon as
//! its answer fits the state: that never excludes another order. Where nothing runs, situations are just states, so
//! the set is small again at every quiet moment.

use std::collections::HashSet;
use std::hash::Hash;

/// One kind of object.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Call;

    fn initial(&self) -> Self::State;
    /// The state after `call`, or None where it could not have answered what it did.
    fn apply(&self, call: &Self::Call, state: &Self::State) -> Option<Self::State>;
    /// Whether `call` leaves every state as it is.
    fn is_look(&self, call: &Self::Call) -> bool;
}

/// A call and when it ran.
#[derive(Clone, Debug)]
pub struct Timed<C> {
    pub start: u64,
    pub end: u64,
    pub call: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// The call with this index has an answer that no order explains.
    Violation(usize),
    /// Too many situations at the call with this index.
    Undecided(usize),
}

/// More situations than this at one moment are given up on.
const SITUATIONS_MAX: usize = 300_000;
const RUNNING_MAX: usize = 128;

/// State, and which running calls have taken effect (a bit for each place).
type Situation<S> = (S, u128);

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Timed<M::Call>],
    /// The calls that run, by place.
    running: [Option<usize>; RUNNING_MAX],
    highest: usize,
}

impl<M: Model> Search<'_, M> {
    /// Lets looks take effect that fit.
    fn settle(&self, state: &M::State, mut done: u128) -> u128 {
        for place in 0..self.highest {
            let Some(index) = self.running[place] else { continue };
            let call = &self.calls[index].call;
            if done & (1 << place) == 0 && self.model.is_look(call) && self.model.apply(call, state).is_some()
            {
                done |= 1 << place;
            }
        }
        done
    }

    /// Every situation after `from` in which the call at `place` has taken effect.
    fn until(
        &self,
        from: Situation<M::State>,
        place: usize,
        reached: &mut HashSet<Situation<M::State>>,
        seen: &mut HashSet<Situation<M::State>>,
    ) -> bool {
        let mut open = vec![from];
        while let Some((state, done)) = open.pop() {
            if done & (1 << place) != 0 {
                reached.insert((state, done & !(1 << place)));
            } else {
                for other in 0..self.highest {
                    let Some(index) = self.running[other] else { continue };
                    let call = &self.calls[index].call;
                    if done & (1 << other) != 0 || self.model.is_look(call) {
                        continue;
                    }
                    let Some(next) = self.model.apply(call, &state) else { continue };
                    let done = self.settle(&next, done | 1 << other);
                    if seen.insert((next.clone(), done)) {
                        open.push((next, done));
                    }
                }
            }
            if reached.len() + seen.len() > SITUATIONS_MAX {
                return false;
            }
        }
        true
    }
}

/// Judges the calls on one object; they need no order.
pub fn judge<M: Model>(model: &M, calls: &[Timed<M::Call>]) -> Verdict {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
    for (index, call) in calls.iter().enumerate() {
        events.push((call.start, false, index));
        events.push((call.end, true, index));
    }
    events.sort_unstable();
    let mut search = Search { model, calls, running: [None; RUNNING_MAX], highest: 0 };
    let mut places = vec![0usize; calls.len()];
    let mut situations: HashSet<Situation<M::State>> = HashSet::from([(model.initial(), 0)]);
    for (_, is_end, index) in events {
        if is_end {
            let place = places[index];
            let mut reached = HashSet::with_capacity(situations.len());
            let mut seen = HashSet::new();
            for from in situations.drain() {
                if !search.until(from, place, &mut reached, &mut seen) {
                    return Verdict::Undecided(index);
                }
            }
            if reached.is_empty() {
                return Verdict::Violation(index);
            }
            search.running[place] = None;
            while search.highest > 0 && search.running[search.highest - 1].is_none() {
                search.highest -= 1;
            }
            situations = reached;
            continue;
        }
        let Some(place) = search.running.iter().position(Option::is_none) else {
            return Verdict::Undecided(index);
        };
        search.running[place] = Some(index);
        search.highest = search.highest.max(place + 1);
        places[index] = place;
        let call = &calls[index].call;
        if model.is_look(call) {
            let before = std::mem::take(&mut situations);
            situations.extend(before.into_iter().map(|(state, done)| {
                let fits = model.apply(call, &state).is_some();
                (state, if fits { done | 1 << place } else { done })
            }));
        }
    }
    Verdict::Linearizable
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Register;

    impl Model for Register {
        type State = i64;
        /// Whether it writes, and the value.
        type Call = (bool, i64);

        fn initial(&self) -> i64 {
            0
        }

        fn apply(&self, &(writes, value): &(bool, i64), state: &i64) -> Option<i64> {
            if writes { Some(value) } else { (*state == value).then_some(*state) }
        }

        fn is_look(&self, call: &(bool, i64)) -> bool {
            !call.0
        }
    }

    fn calls(list: &[(u64, u64, bool, i64)]) -> Vec<Timed<(bool, i64)>> {
        list.iter().map(|&(start, end, writes, value)| Timed { start, end, call: (writes, value) }).collect()
    }

    #[test]
    fn a_write_that_runs_may_be_seen_or_not() {
        let history = calls(&[(0, 10, true, 1), (1, 2, false, 0), (3, 4, false, 1), (11, 12, false, 1)]);
        assert_eq!(judge(&Register, &history), Verdict::Linearizable);
    }

    #[test]
    fn what_was_seen_is_not_unseen() {
        let history = calls(&[(0, 10, true, 1), (1, 2, false, 1), (3, 4, false, 0)]);
        assert_eq!(judge(&Register, &history), Verdict::Violation(2));
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = calls(&[(0, 1, true, 1), (2, 3, true, 2), (4, 5, false, 1)]);
        assert_eq!(judge(&Register, &history), Verdict::Violation(2));
    }

    #[test]
    fn writes_that_run_together_take_any_order() {
        let history = calls(&[
            (0, 9, true, 1),
            (0, 9, true, 2),
            (0, 9, true, 3),
            (10, 11, false, 2),
            (12, 13, false, 2),
        ]);
        assert_eq!(judge(&Register, &history), Verdict::Linearizable);
        let history = calls(&[(0, 9, true, 1), (0, 9, true, 2), (10, 11, false, 2), (12, 13, false, 1)]);
        assert_eq!(judge(&Register, &history), Verdict::Violation(3));
    }
}
