// SPDX-License-Identifier: GPL-2.0-or-later
//! What holds one value: a word of a file, its size, an attribute.

use super::attribute::{PRESENT, TOUCHED};
use super::search::Model;
use super::{ABSENT, END};

/// Of a time: after something that may or may not have touched it.
const UNKNOWN: i64 = -3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write(i64),
    Read(i64),
    /// Behind the end from now on.
    Cut,
    /// Zero, where it was behind the end.
    Grow,
    /// At least this (a size).
    Raise(i64),
    WriteAbsent(i64),
    WritePresent(i64),
    /// Any value may be read next.
    Blur,
}

pub struct Register {
    pub initial: i64,
}

impl Model for Register {
    type State = i64;
    type Call = Call;

    fn initial(&self) -> i64 {
        self.initial
    }

    fn is_look(&self, call: &Call) -> bool {
        matches!(call, Call::Read(_))
    }

    fn apply(&self, call: &Call, &state: &i64) -> Option<i64> {
        match *call {
            Call::Write(value) => Some(value),
            Call::Read(PRESENT) => (state != ABSENT).then_some(state),
            Call::Read(value) => (state == value || state == UNKNOWN).then_some(state),
            Call::Cut => Some(END),
            Call::Grow => Some(if state == END { 0 } else { state }),
            Call::Raise(value) => Some(state.max(value)),
            Call::WriteAbsent(value) => (state == ABSENT).then_some(value),
            Call::WritePresent(value) => (state != ABSENT).then_some(value),
            Call::Blur => Some(UNKNOWN),
        }
    }
}

/// What a fresh file's mtime is.
pub const FRESH_TIME: i64 = TOUCHED;
