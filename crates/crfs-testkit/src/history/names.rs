// SPDX-License-Identifier: GPL-2.0-or-later
//! The names of a group as one object: which name stands for which identity, in base directories and in directories of
//! the group.
//!
//! A rename is one call on two names. Where a call fails because of two things at once (a rename onto something of
//! another type), Linux looks at them one after the other, so only the one that the errno is about is asked for.

use std::collections::HashMap;

use super::search::Model;
use super::{ABSENT, BASE_DIRECTORIES, Kind, NO_DIRECTORY};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    File,
    Directory,
    Symlink,
}

/// A record about names, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub kind: Kind,
    pub args: Vec<i64>,
}

pub struct Names<'a> {
    pub types: &'a HashMap<i64, Type>,
}

/// (directory, name) -> identity, sorted.
type State = Vec<(i64, i64, i64)>;

impl Names<'_> {
    fn type_of(&self, identity: i64) -> Type {
        self.types.get(&identity).copied().unwrap_or(Type::File)
    }

    fn is_directory(&self, identity: i64) -> bool {
        self.type_of(identity) == Type::Directory
    }

    /// Whether moving `moved` into `directory` would put it under itself.
    fn is_above(state: &State, moved: i64, directory: i64) -> bool {
        let mut at = directory;
        for _ in 0..=state.len() {
            if at == moved {
                return true;
            }
            match state.iter().find(|entry| entry.2 == at) {
                Some(entry) => at = entry.0,
                None => return false,
            }
        }
        true
    }

    fn rename(&self, args: &[i64], state: &State) -> Option<State> {
        let &[dir, name, to_dir, to_name, no_replace, _] = args else { return None };
        let moved = get(state, dir, name)?;
        let target = get(state, to_dir, to_name);
        if no_replace != 0 && target.is_some() || !alive(state, to_dir) {
            return None;
        }
        if target == Some(moved) {
            return Some(state.clone());
        }
        if self.is_directory(moved) && Names::is_above(state, moved, to_dir) {
            return None;
        }
        let fits = |target| self.is_directory(target) == self.is_directory(moved) && empty(state, target);
        if !target.is_none_or(fits) {
            return None;
        }
        let mut next = without(state, dir, name);
        next = without(&next, to_dir, to_name);
        Some(with(&next, to_dir, to_name, moved))
    }

    fn rename_refused(&self, args: &[i64], errno: i32, state: &State) -> bool {
        let &[dir, name, to_dir, to_name, no_replace, _] = args else { return false };
        let target = get(state, to_dir, to_name);
        match errno {
            libc::ENOENT => get(state, dir, name).is_none() || !alive(state, to_dir),
            libc::EEXIST => no_replace != 0 && target.is_some(),
            libc::EISDIR => target.is_some_and(|target| self.is_directory(target)),
            libc::ENOTDIR => target.is_some_and(|target| !self.is_directory(target)),
            libc::ENOTEMPTY => target.is_some_and(|target| !empty(state, target)),
            // Under itself: the kernel compares what it walked, name by name.
            libc::EINVAL => true,
            _ => false,
        }
    }
}

fn get(state: &State, dir: i64, name: i64) -> Option<i64> {
    state.binary_search_by_key(&(dir, name), |entry| (entry.0, entry.1)).ok().map(|at| state[at].2)
}

fn with(state: &State, dir: i64, name: i64, identity: i64) -> State {
    let mut next = state.clone();
    let at = next.partition_point(|entry| (entry.0, entry.1) < (dir, name));
    next.insert(at, (dir, name, identity));
    next
}

fn without(state: &State, dir: i64, name: i64) -> State {
    let mut next = state.clone();
    next.retain(|entry| (entry.0, entry.1) != (dir, name));
    next
}

fn alive(state: &State, dir: i64) -> bool {
    dir < BASE_DIRECTORIES || state.iter().any(|entry| entry.2 == dir)
}

fn empty(state: &State, dir: i64) -> bool {
    !state.iter().any(|entry| entry.0 == dir)
}

fn links(state: &State, identity: i64) -> i64 {
    state.iter().filter(|entry| entry.2 == identity).count() as i64
}

/// The errno of a call, where it has one.
fn errno_of(call: &Call) -> i32 {
    let at = match call.kind {
        Kind::Create => 4,
        Kind::Mkdir | Kind::Symlink | Kind::Link => 3,
        Kind::Unlink | Kind::Rmdir => 2,
        Kind::Rename => 5,
        _ => return 0,
    };
    call.args.get(at).copied().unwrap_or(0) as i32
}

impl Model for Names<'_> {
    type State = State;
    type Call = Call;

    fn initial(&self) -> State {
        Vec::new()
    }

    fn is_look(&self, call: &Call) -> bool {
        match call.kind {
            Kind::Look | Kind::Links => true,
            Kind::Create => errno_of(call) != 0 || call.args[5] != call.args[2],
            _ => errno_of(call) != 0,
        }
    }

    fn apply(&self, call: &Call, state: &State) -> Option<State> {
        let args = &call.args[..];
        let errno = errno_of(call);
        let same = |fits: bool| fits.then(|| state.clone());
        match call.kind {
            Kind::Look => {
                let found = get(state, args[0], args[1]);
                same(match args[2] {
                    ABSENT => found.is_none(),
                    NO_DIRECTORY => found.is_some_and(|found| !self.is_directory(found)),
                    identity => found == Some(identity),
                })
            }
            Kind::Links => same(links(state, args[0]) == args[1]),
            Kind::Create | Kind::Mkdir | Kind::Symlink => {
                let (dir, name, own) = (args[0], args[1], args[2]);
                let found = get(state, dir, name);
                match errno {
                    0 if call.kind == Kind::Create && args[5] != own => same(found == Some(args[5])),
                    0 => (found.is_none() && alive(state, dir)).then(|| with(state, dir, name, own)),
                    libc::EEXIST => same(found.is_some()),
                    libc::ENOENT => same(!alive(state, dir)),
                    libc::EISDIR => same(found.is_some_and(|found| self.is_directory(found))),
                    libc::ELOOP => same(found.is_some_and(|found| self.type_of(found) == Type::Symlink)),
                    _ => None,
                }
            }
            Kind::Unlink | Kind::Rmdir => {
                let found = get(state, args[0], args[1]);
                let is_directory = found.is_some_and(|found| self.is_directory(found));
                match (errno, call.kind) {
                    (0, Kind::Unlink) if is_directory => None,
                    (0, Kind::Rmdir) if !is_directory => None,
                    (0, _) => {
                        let found = found?;
                        empty(state, found).then(|| without(state, args[0], args[1]))
                    }
                    (libc::ENOENT, _) => same(found.is_none()),
                    (libc::EISDIR, Kind::Unlink) => same(is_directory),
                    (libc::ENOTDIR, Kind::Rmdir) => same(found.is_some() && !is_directory),
                    (libc::ENOTEMPTY, Kind::Rmdir) => same(found.is_some_and(|found| !empty(state, found))),
                    _ => None,
                }
            }
            Kind::Rename if errno == 0 => self.rename(args, state),
            Kind::Rename => same(self.rename_refused(args, errno, state)),
            Kind::Link => {
                let (identity, dir, name) = (args[0], args[1], args[2]);
                let found = get(state, dir, name);
                let dead = links(state, identity) == 0 || !alive(state, dir);
                match errno {
                    0 => (found.is_none() && !dead).then(|| with(state, dir, name, identity)),
                    libc::EEXIST => same(found.is_some()),
                    libc::ENOENT => same(dead),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::{Timed, Verdict, judge};
    use super::*;

    fn run(calls: &[(u64, u64, Kind, &[i64])]) -> Verdict {
        let types = HashMap::from([
            (100, Type::File),
            (101, Type::File),
            (200, Type::Directory),
            (201, Type::Directory),
        ]);
        let calls: Vec<Timed<Call>> = calls
            .iter()
            .map(|&(start, end, kind, args)| Timed { start, end, call: Call { kind, args: args.to_vec() } })
            .collect();
        judge(&Names { types: &types }, &calls)
    }

    #[test]
    fn a_rename_takes_both_names_at_once() {
        let history: &[(u64, u64, Kind, &[i64])] = &[
            (0, 1, Kind::Create, &[1, 5, 100, 1, 0, 100]),
            (2, 9, Kind::Rename, &[1, 5, 2, 6, 0, 0]),
            (3, 4, Kind::Look, &[2, 6, 100]),
            (5, 6, Kind::Look, &[1, 5, ABSENT]),
        ];
        assert_eq!(run(history), Verdict::Linearizable);
        let mut torn = history.to_vec();
        torn[3] = (5, 6, Kind::Look, &[1, 5, 100]);
        assert_eq!(run(&torn), Verdict::Violation(3));
    }

    #[test]
    fn an_exclusive_create_has_one_winner() {
        let two: &[(u64, u64, Kind, &[i64])] =
            &[(0, 9, Kind::Create, &[1, 5, 100, 1, 0, 100]), (0, 9, Kind::Create, &[1, 5, 101, 1, 0, 101])];
        assert!(matches!(run(two), Verdict::Violation(_)));
    }

    #[test]
    fn crossing_renames_make_no_cycle() {
        let crossing: &[(u64, u64, Kind, &[i64])] = &[
            (0, 1, Kind::Mkdir, &[1, 5, 200, 0]),
            (0, 1, Kind::Mkdir, &[1, 6, 201, 0]),
            (2, 9, Kind::Rename, &[1, 5, 201, 5, 0, 0]),
            (2, 9, Kind::Rename, &[1, 6, 200, 6, 0, 0]),
        ];
        assert!(matches!(run(crossing), Verdict::Violation(_)));
    }

    #[test]
    fn a_name_that_is_gone_is_not_seen_again() {
        let stale: &[(u64, u64, Kind, &[i64])] = &[
            (0, 1, Kind::Create, &[1, 5, 100, 1, 0, 100]),
            (2, 3, Kind::Unlink, &[1, 5, 0]),
            (4, 5, Kind::Look, &[1, 5, 100]),
        ];
        assert_eq!(run(stale), Verdict::Violation(2));
    }

    #[test]
    fn nothing_is_made_in_a_directory_that_is_gone() {
        let dead: &[(u64, u64, Kind, &[i64])] = &[
            (0, 1, Kind::Mkdir, &[1, 5, 200, 0]),
            (2, 3, Kind::Rmdir, &[1, 5, 0]),
            (4, 5, Kind::Create, &[200, 6, 100, 1, 0, 100]),
        ];
        assert_eq!(run(dead), Verdict::Violation(2));
    }
}
