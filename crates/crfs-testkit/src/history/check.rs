// SPDX-License-Identifier: GPL-2.0-or-later
//! Splits a history into objects and judges each.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::names::{Call as NameCall, Names, Type};
use super::registers::{Call as RegisterCall, FRESH_TIME, Register};
use super::search::{Model, Timed, Verdict, judge};
use super::{
    ABSENT, BASE_DIRECTORIES, END, Kind, NAMES_PER_GROUP, Record, attribute, group_of_identity, unpacked,
};

/// What was found, and what was looked at.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<String>,
    pub undecided: Vec<String>,
    pub objects: usize,
    /// Calls with an answer that counts, of each kind: all, failed with an errno, the longest in nanoseconds.
    pub kinds: BTreeMap<Kind, KindFigures>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct KindFigures {
    pub calls: u64,
    pub refused: u64,
    pub longest: u64,
}

/// How many calls on the object are shown around a violation.
const SHOWN: usize = 40;
const PAGE: i64 = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Object {
    Word(i64, i64),
    Size(i64),
    Attribute(i64, i64),
    Mapped(i64, i64),
}

impl Object {
    fn name(self) -> String {
        match self {
            Object::Word(file, offset) => format!("word at {offset} of file {file}"),
            Object::Size(file) => format!("size of file {file}"),
            Object::Attribute(file, attribute::MODE) => format!("mode of file {file}"),
            Object::Attribute(file, attribute::UID) => format!("owner of file {file}"),
            Object::Attribute(file, attribute::MTIME) => format!("mtime of file {file}"),
            Object::Attribute(file, number) => format!("xattr {} of file {file}", number - attribute::XATTR),
            Object::Mapped(file, word) => format!("mapped word {word} of file {file}"),
        }
    }

    fn initial(self) -> i64 {
        match self {
            Object::Word(..) => END,
            Object::Size(_) | Object::Mapped(..) => 0,
            Object::Attribute(_, attribute::MODE) => 0o644,
            Object::Attribute(_, attribute::UID) => 0,
            Object::Attribute(_, attribute::MTIME) => FRESH_TIME,
            Object::Attribute(..) => ABSENT,
        }
    }
}

/// A call on an object, and the record it comes from.
type Sourced<C> = (Timed<C>, usize);

pub fn check(records: &[Record]) -> Report {
    let mut report = Report::default();
    for record in records {
        let figures = report.kinds.entry(record.kind).or_default();
        figures.calls += 1;
        figures.longest = figures.longest.max(record.end - record.start);
        figures.refused += u64::from(refused(record));
    }
    let numbers = check_numbers(records, &mut report);
    check_names(records, &numbers, &mut report);
    check_registers(records, &mut report);
    check_appends(records, &mut report);
    check_faults(records, &mut report);
    report
}

/// One violation for each answer that no call may give, however often it came.
fn check_faults(records: &[Record], report: &mut Report) {
    let mut faults: BTreeMap<(String, i64), Vec<&Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Fault) {
        let what = unpacked(record.args.get(2).copied().unwrap_or(0));
        faults.entry((what, record.args[1])).or_default().push(record);
    }
    for ((what, errno), all) in faults {
        let name = match errno {
            -1 => "a wrong content".to_owned(),
            _ => std::io::Error::from_raw_os_error(errno as i32).to_string(),
        };
        report.violations.push(format!(
            "{what}... answered {name} {} times, first: {}",
            all.len(),
            all[0].line()
        ));
    }
}

fn refused(record: &Record) -> bool {
    let errno = match record.kind {
        Kind::Create => 4,
        Kind::Mkdir | Kind::Symlink | Kind::Link => 3,
        Kind::Unlink | Kind::Rmdir => 2,
        Kind::Rename => 5,
        _ => return false,
    };
    record.args.get(errno).is_some_and(|&errno| errno != 0)
}

/// Each identity has one inode number, and no number serves two. @returns number -> identity.
fn check_numbers(records: &[Record], report: &mut Report) -> HashMap<i64, i64> {
    let mut numbers: HashMap<i64, i64> = HashMap::new();
    let mut identities: HashMap<i64, i64> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Number) {
        let (identity, number) = (record.args[0], record.args[1]);
        let other = *numbers.entry(number).or_insert(identity);
        let before = *identities.entry(identity).or_insert(number);
        if other != identity || before != number {
            report.violations.push(format!(
                "inode number {number} of {identity}: {other} has it too, or it had {before}: {}",
                record.line()
            ));
        }
    }
    numbers
}

fn named(record: &Record, part: &[i64]) -> Timed<NameCall> {
    Timed { start: record.start, end: record.end, call: NameCall { kind: record.kind, args: part.to_vec() } }
}

/// The calls on names, by group.
fn by_group(records: &[Record], numbers: &HashMap<i64, i64>) -> BTreeMap<i64, Vec<Sourced<NameCall>>> {
    let mut groups: BTreeMap<i64, Vec<Sourced<NameCall>>> = BTreeMap::new();
    let mut lists: Vec<usize> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let args = &record.args;
        let group = match record.kind {
            Kind::Look
            | Kind::Create
            | Kind::Mkdir
            | Kind::Symlink
            | Kind::Unlink
            | Kind::Rmdir
            | Kind::Rename => args[1] / NAMES_PER_GROUP,
            Kind::Link | Kind::Links => group_of_identity(args[0]),
            Kind::List => {
                lists.push(index);
                continue;
            }
            _ => continue,
        };
        groups.entry(group).or_default().push((named(record, args), index));
    }
    let changes = changes_of_names(&groups);
    let mut known: HashMap<i64, HashSet<i64>> = HashMap::new();
    for &(dir, name) in changes.keys() {
        known.entry(dir).or_default().insert(name);
    }
    for index in lists {
        let record = &records[index];
        let dir = record.args[0];
        let mut listed: HashSet<i64> = HashSet::new();
        for entry in record.args[1..].chunks_exact(2) {
            listed.insert(entry[0]);
            let found = numbers.get(&entry[1]).copied();
            let Some(identity) =
                found.or((!known.get(&dir).is_some_and(|all| all.contains(&entry[0]))).then_some(-9))
            else {
                continue;
            };
            let mut call = named(record, &[dir, entry[0], identity]);
            call.call.kind = Kind::Look;
            groups.entry(entry[0] / NAMES_PER_GROUP).or_default().push((call, index));
        }
        for &name in known.get(&dir).into_iter().flatten().filter(|name| !listed.contains(name)) {
            // What is added, removed or replaced meanwhile may be missing.
            if changed_during(&changes[&(dir, name)], record) {
                continue;
            }
            let mut call = named(record, &[dir, name, ABSENT]);
            call.call.kind = Kind::Look;
            groups.entry(name / NAMES_PER_GROUP).or_default().push((call, index));
        }
    }
    groups
}

/// When each name was changed: intervals sorted by their beginning, and the latest end up to each.
type Changes = Vec<(u64, u64, u64)>;

fn changed_during(changes: &Changes, record: &Record) -> bool {
    let before = changes.partition_point(|change| change.0 <= record.end);
    before > 0 && changes[before - 1].2 >= record.start
}

fn changes_of_names(groups: &BTreeMap<i64, Vec<Sourced<NameCall>>>) -> HashMap<(i64, i64), Changes> {
    let mut changes: HashMap<(i64, i64), Changes> = HashMap::new();
    let model = Names { types: &HashMap::new() };
    for (call, _) in groups.values().flatten() {
        if model.is_look(&call.call) {
            continue;
        }
        let args = &call.call.args;
        let touched: &[(i64, i64)] = match call.call.kind {
            Kind::Rename => &[(args[0], args[1]), (args[2], args[3])],
            Kind::Link => &[(args[1], args[2])],
            _ => &[(args[0], args[1])],
        };
        for &at in touched {
            changes.entry(at).or_default().push((call.start, call.end, 0));
        }
    }
    for list in changes.values_mut() {
        list.sort_unstable();
        let mut latest = 0;
        for change in list {
            latest = latest.max(change.1);
            change.2 = latest;
        }
    }
    changes
}

fn check_names(records: &[Record], numbers: &HashMap<i64, i64>, report: &mut Report) {
    let mut types: HashMap<i64, Type> = HashMap::new();
    for record in records {
        match record.kind {
            Kind::Mkdir => types.insert(record.args[2], Type::Directory),
            Kind::Symlink => types.insert(record.args[2], Type::Symlink),
            _ => None,
        };
    }
    for dir in 0..BASE_DIRECTORIES {
        types.insert(dir, Type::Directory);
    }
    for (group, calls) in by_group(records, numbers) {
        let model = Names { types: &types };
        conclude(&model, calls, records, &format!("names of group {group}"), report);
    }
}

fn conclude<M: Model>(
    model: &M,
    calls: Vec<Sourced<M::Call>>,
    records: &[Record],
    what: &str,
    report: &mut Report,
) where
    M::Call: Clone + std::fmt::Debug,
{
    report.objects += 1;
    let timed: Vec<Timed<M::Call>> = calls.iter().map(|(call, _)| call.clone()).collect();
    let (index, list, words) = match judge(model, &timed) {
        Verdict::Linearizable => return,
        Verdict::Violation(index) => (index, &mut report.violations, "no order of the calls explains"),
        Verdict::Undecided(index) => (index, &mut report.undecided, "too many orders are possible at"),
    };
    let at = &timed[index];
    let mut around: Vec<usize> = (0..calls.len()).filter(|&other| timed[other].start <= at.end).collect();
    around.sort_by_key(|&other| std::cmp::Reverse((timed[other].end.max(timed[other].start), other)));
    around.truncate(SHOWN);
    around.sort_by_key(|&other| (timed[other].start, other));
    let mut text = format!("{what}: {words} {:?} in: {}", at.call, records[calls[index].1].line());
    for other in around {
        let mark = if other == index { "=>" } else { "  " };
        let from = timed[other].start as i64 - at.start as i64;
        let took = timed[other].end - timed[other].start;
        let worker = records[calls[other].1].worker;
        text.push_str(&format!(
            "\n    {mark} {from:+} ns, {took} ns, worker {worker}: {:?}",
            timed[other].call
        ));
    }
    list.push(text);
}

#[derive(Default)]
struct Objects {
    calls: BTreeMap<Object, Vec<Sourced<RegisterCall>>>,
}

impl Objects {
    fn add(&mut self, object: Object, record: &Record, index: usize, call: RegisterCall) {
        let timed = Timed { start: record.start, end: record.end, call };
        self.calls.entry(object).or_default().push((timed, index));
    }
}

/// Words that anybody looked at, of each file: only these are objects.
fn words_of(records: &[Record]) -> HashMap<i64, HashSet<i64>> {
    let mut words: HashMap<i64, HashSet<i64>> = HashMap::new();
    for record in records.iter().filter(|record| matches!(record.kind, Kind::Read | Kind::MapRead)) {
        let of_file = words.entry(record.args[0]).or_default();
        of_file.extend(record.args[1..].chunks_exact(2).map(|pair| pair[0]));
    }
    words
}

fn check_registers(records: &[Record], report: &mut Report) {
    let words = words_of(records);
    let none = HashSet::new();
    let mut objects = Objects::default();
    let mut cuts: HashMap<i64, Vec<&Record>> = HashMap::new();
    let mut writes: HashMap<i64, Vec<&Record>> = HashMap::new();
    for record in records {
        match record.kind {
            Kind::Cut => cuts.entry(record.args[0]).or_default().push(record),
            Kind::Write => writes.entry(record.args[0]).or_default().push(record),
            _ => {}
        }
    }
    let overlapped = |of: &HashMap<i64, Vec<&Record>>, record: &Record| {
        of.get(&record.args[0]).is_some_and(|all| all.iter().any(|other| other.overlaps(record)))
    };
    for (index, record) in records.iter().enumerate() {
        let args = &record.args;
        let file = args.first().copied().unwrap_or(0);
        let attribute = |at: usize| Object::Attribute(file, args[at]);
        match record.kind {
            Kind::Write => {
                let (from, to) = (args[1], args[1] + args[2]);
                for &word in words.get(&file).unwrap_or(&none) {
                    if word < from {
                        objects.add(Object::Word(file, word), record, index, RegisterCall::Grow);
                    } else if word < to {
                        objects.add(Object::Word(file, word), record, index, RegisterCall::Write(args[3]));
                    }
                }
                objects.add(Object::Size(file), record, index, RegisterCall::Raise(to));
                let time = Object::Attribute(file, attribute::MTIME);
                objects.add(time, record, index, RegisterCall::Write(attribute::TOUCHED));
            }
            Kind::Cut => {
                for &word in words.get(&file).unwrap_or(&none) {
                    let call = if word < args[1] { RegisterCall::Grow } else { RegisterCall::Cut };
                    objects.add(Object::Word(file, word), record, index, call);
                }
                objects.add(Object::Size(file), record, index, RegisterCall::Write(args[1]));
                // Linux sets the time also where the size stays, but not every way of truncating.
                objects.add(Object::Attribute(file, attribute::MTIME), record, index, RegisterCall::Blur);
            }
            Kind::Read | Kind::MapRead => {
                for pair in args[1..].chunks_exact(2) {
                    // A page that is cut while it is copied reads as zeros; a mapping does behind the end anyway.
                    if pair[1] == 0 && (record.kind == Kind::MapRead || overlapped(&cuts, record)) {
                        continue;
                    }
                    objects.add(Object::Word(file, pair[0]), record, index, RegisterCall::Read(pair[1]));
                }
            }
            // A write that lengthens a file over several pages may show it page by page.
            Kind::Size if args[1] % PAGE == 0 && args[1] != 0 && overlapped(&writes, record) => {}
            Kind::Size => objects.add(Object::Size(file), record, index, RegisterCall::Read(args[1])),
            Kind::Set => objects.add(attribute(1), record, index, RegisterCall::Write(args[2])),
            Kind::SetAbsent => objects.add(attribute(1), record, index, RegisterCall::WriteAbsent(args[2])),
            Kind::SetPresent => objects.add(attribute(1), record, index, RegisterCall::WritePresent(args[2])),
            Kind::Remove => objects.add(attribute(1), record, index, RegisterCall::WritePresent(ABSENT)),
            Kind::Get => objects.add(attribute(1), record, index, RegisterCall::Read(args[2])),
            Kind::Store => {
                objects.add(Object::Mapped(file, args[1]), record, index, RegisterCall::Write(args[2]))
            }
            Kind::Load => {
                objects.add(Object::Mapped(file, args[1]), record, index, RegisterCall::Read(args[2]))
            }
            _ => {}
        }
    }
    for (object, calls) in objects.calls {
        conclude(&Register { initial: object.initial() }, calls, records, &object.name(), report);
    }
}

/// Every append is there once, and in an order that real time allows; what was read meanwhile is a beginning of it.
fn check_appends(records: &[Record], report: &mut Report) {
    let mut appends: BTreeMap<i64, HashMap<i64, &Record>> = BTreeMap::new();
    let mut reads: BTreeMap<i64, Vec<&Record>> = BTreeMap::new();
    let mut torn: HashMap<i64, Vec<&Record>> = HashMap::new();
    for record in records {
        match record.kind {
            Kind::Torn => torn.entry(record.args[0]).or_default().push(record),
            Kind::Append => {
                appends.entry(record.args[0]).or_default().insert(record.args[1], record);
            }
            Kind::Appended => reads.entry(record.args[0]).or_default().push(record),
            _ => {}
        }
    }
    let none = HashMap::new();
    for (file, mut looks) in reads {
        report.objects += 1;
        looks.sort_by_key(|record| record.start);
        let Some(last) = looks.last() else { continue };
        let whole = &last.args[1..];
        let appended = appends.get(&file).unwrap_or(&none);
        let mut fault = |text: String| report.violations.push(format!("appends to file {file}: {text}"));
        // A local file system shows an append page by page, but only while it runs.
        for look in torn.get(&file).into_iter().flatten() {
            if !appended.get(&look.args[1]).is_some_and(|append| append.overlaps(look)) {
                fault(format!("a part of one that was not being appended: {}", look.line()));
            }
        }
        let mut at: HashMap<i64, usize> = HashMap::new();
        let mut latest_start = 0;
        for (index, value) in whole.iter().enumerate() {
            if let Some(before) = at.insert(*value, index) {
                fault(format!("{value} is there twice, as {before} and {index}"));
            }
            let Some(append) = appended.get(value) else {
                fault(format!("{value} is there, which nobody appended"));
                continue;
            };
            if append.end < latest_start {
                fault(format!("{value} stands behind one that began after it had ended: {}", append.line()));
            }
            latest_start = latest_start.max(append.start);
        }
        for look in &looks {
            let seen = &look.args[1..];
            if seen.len() > whole.len() || seen != &whole[..seen.len()] {
                fault(format!(
                    "what was read is no beginning of what is there: {} values at {}",
                    seen.len(),
                    look.start
                ));
                continue;
            }
            for (value, append) in appended {
                let place = at.get(value).copied().unwrap_or(usize::MAX);
                if append.end < look.start && place >= seen.len() {
                    fault(format!(
                        "{} values read from {} on lack {}",
                        seen.len(),
                        look.start,
                        append.line()
                    ));
                }
                if append.start > look.end && place < seen.len() {
                    fault(format!("{} values read until {} hold {}", seen.len(), look.end, append.line()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity;
    use super::*;

    fn records(lines: &[String]) -> Vec<Record> {
        lines.iter().map(|line| Record::parse(line).expect("a record")).collect()
    }

    fn violations(lines: &[String]) -> usize {
        check(&records(lines)).violations.len()
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let record = Record::new(5, 7, 3, Kind::Rename, &[1, 2, 3, 4, 0, 2]);
        assert_eq!(Record::parse(&record.line()), Some(record));
        assert_eq!(Record::parse("1 2 3 nonsense 4"), None);
    }

    #[test]
    fn stale_words_sizes_and_attributes_are_found() {
        let file = identity(0, 1, 1);
        let clean = vec![
            format!("0 1 1 write {file} 0 3000 77"),
            format!("2 3 1 write {file} 0 3000 78"),
            format!("4 5 2 read {file} 0 78 2992 78"),
            format!("4 5 2 size {file} 3000"),
            format!("6 7 1 truncate {file} 0"),
            format!("8 9 2 read {file} 0 -1 2992 -1"),
            format!("10 11 1 set {file} 0 384"),
            format!("12 13 2 get {file} 0 384"),
            format!("14 15 1 set-absent {file} 3 9"),
            format!("16 17 1 remove {file} 3"),
            format!("18 19 2 get {file} 3 -1"),
        ];
        assert_eq!(violations(&clean), 0);
        for (at, line) in [
            (2, format!("4 5 2 read {file} 0 78 2992 77")),
            (2, format!("4 5 2 read {file} 0 0 2992 78")),
            (3, format!("4 5 2 size {file} 0")),
            (5, format!("8 9 2 read {file} 0 78 2992 -1")),
            (7, format!("12 13 2 get {file} 0 420")),
            (10, format!("18 19 2 get {file} 3 9")),
        ] {
            let mut stale = clean.clone();
            stale[at] = line.clone();
            assert_eq!(violations(&stale), 1, "{line}");
        }
    }

    #[test]
    fn lost_torn_and_misplaced_appends_are_found() {
        let clean = ["0 1 1 append 9 5", "2 3 2 append 9 6", "4 5 1 appended 9 5 6"].map(String::from);
        assert_eq!(violations(&clean), 0);
        for wrong in ["5", "6 5", "5 6 6", "5 6 7", "6"] {
            let mut lines = clean.to_vec();
            lines[2] = format!("4 5 1 appended 9 {wrong}");
            assert!(violations(&lines) > 0, "{wrong}");
        }
    }

    #[test]
    fn a_part_of_an_append_is_seen_only_while_it_runs() {
        let lines = |from: u64, value: i64| {
            [
                "0 9 1 append 9 5".to_owned(),
                format!("{from} 12 2 appended 9"),
                format!("{from} 12 2 torn 9 {value}"),
                "20 21 2 appended 9 5".to_owned(),
            ]
        };
        assert_eq!(violations(&lines(7, 5)), 0);
        assert_eq!(violations(&lines(7, 6)), 1);
        assert!(violations(&lines(10, 5)) > 0);
    }

    #[test]
    fn listings_show_what_stays_and_nothing_that_is_gone() {
        let file = identity(0, 1, 1);
        let clean = vec![
            format!("0 1 1 create 1 3 {file} 1 0 {file}"),
            format!("0 1 1 number {file} 300"),
            "2 3 2 list 1 3 300".to_owned(),
            "4 5 1 unlink 1 3 0".to_owned(),
            "6 7 2 list 1".to_owned(),
        ];
        assert_eq!(violations(&clean), 0);
        for (at, line) in [(2, "2 3 2 list 1"), (4, "6 7 2 list 1 3 300"), (4, "6 7 2 list 1 4 301")] {
            let mut wrong = clean.clone();
            wrong[at] = line.to_owned();
            assert!(violations(&wrong) > 0, "{line}");
        }
    }
}
