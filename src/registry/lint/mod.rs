//! Findings over a whole registry (rules A.6): what the rows in force say alone, together, and against an older state.
//!
//! ```text
//! snapshot ─▶ row (one at a time, on all cores) ─┬▶ findings
//!                └ keys, as hashes ─▶ groups ────┤
//! files ─▶ facts (columns the linter alone reads)┤
//! older state ─▶ against ────────────────────────┘
//! ```
//!
//! A pass of its own: a load keeps nothing for it, and verdicts never see it. What reading the files finds
//! (`Reads::Text`) comes with the load. The severities are the rule book's, but where a filing stays valid although a new
//! one like it would be refused: that is a warning.
//!
//! Cost: each row is unpacked once for each part of the keys that memory has room for.

pub mod against;
pub mod checks;
pub mod facts;
mod groups;
pub mod lists;
mod row;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ipnet::IpNet;

use super::cores::on_all_cores;
use super::issue::{Issue, Severity};
use super::{Loaded, Settings, Snapshot};
use crate::model::Day;
pub use checks::{CHECKS, Check, Language, Reads, check, title};
use groups::Key;
pub use lists::{ListDate, ListError, ListSettings, Lists};

/// Findings that a pass keeps for people; more are counted only, for nobody reads so many.
pub const FINDINGS_MAX: usize = 1_000_000;
/// Keys a command holds at a time: half a gigabyte.
pub const KEYS_MAX: usize = 32 << 20;
/// Keys a running gate holds at a time: 32 MiB, and as much again while those of all cores come together.
pub const KEYS_MAX_BESIDE: usize = 2 << 20;

/// Says whether an address or prefix of a row is ours on the mainland (rule R16).
pub type IsOurs<'a> = &'a (dyn Fn(&IpNet) -> bool + Sync);

/// What a pass compares with, and how much it may hold.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The day that dates are held against.
    pub today: Day,
    /// Suffixes, provinces, words.
    pub lists: &'a Lists,
    /// Whose registry it is, and what addresses it has; `None` where no ranges are known.
    pub ours: Option<(&'a str, IsOurs<'a>)>,
    /// Findings kept.
    pub findings_max: usize,
    /// Keys held at a time.
    pub keys_max: usize,
    /// Set by who wants the pass to end early.
    pub stop: Option<&'a AtomicBool>,
}

impl<'a> Options<'a> {
    /// For commands.
    pub fn new(today: Day, lists: &'a Lists) -> Self {
        Self { today, lists, ours: None, findings_max: FINDINGS_MAX, keys_max: KEYS_MAX, stop: None }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

/// Findings with their numbers, of which only so many are kept.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Those kept.
    pub issues: Vec<Issue>,
    /// How many there are, by severity and check.
    pub counts: BTreeMap<(Severity, &'static str), u64>,
    max: usize,
}

impl Findings {
    /// None yet; at most `max` are kept.
    pub fn at_most(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Counts a finding, and keeps it while there is room.
    pub fn push(&mut self, issue: Issue) {
        *self.counts.entry((issue.severity, issue.rule)).or_default() += 1;
        if self.issues.len() < self.max {
            self.issues.push(issue);
        }
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        let room = self.max.saturating_sub(self.issues.len());
        self.issues.extend(other.issues.into_iter().take(room));
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Brings them into the order of files, lines and columns, then of the table of checks.
    pub fn sort(&mut self) {
        let place = |rule: &str| CHECKS.iter().position(|check| check.id == rule);
        self.issues.sort_by(|a, b| {
            let key = |issue: &Issue| (issue.line, issue.column, place(issue.rule));
            (&a.file, key(a)).cmp(&(&b.file, key(b))).then_with(|| (&a.key, &a.message).cmp(&(&b.key, &b.message)))
        });
    }

    /// Errors and warnings by check.
    pub fn by_rule(&self) -> BTreeMap<&'static str, u64> {
        let mut res = BTreeMap::new();
        for (&(severity, rule), count) in &self.counts {
            if severity != Severity::Info {
                *res.entry(rule).or_default() += count;
            }
        }
        res
    }
}

/// Checks the rows in force of a snapshot with the compiled-in lists, in the order of files and lines.
pub fn lint(snapshot: &Snapshot, today: Day) -> Vec<Issue> {
    let lists = Lists::built_in();
    lint_with(snapshot, &Options::new(today, &lists)).unwrap_or_default().issues
}

/// Checks every row of a snapshot alone and all of them together; `None` when it was stopped.
pub fn lint_with(snapshot: &Snapshot, options: &Options<'_>) -> Option<Findings> {
    let hasher = RandomState::new();
    let pieces = snapshot.pieces();
    let parts = parts(snapshot.len(), options.keys_max);
    let mut res = Findings::at_most(options.findings_max);
    for part in 0..parts {
        let work = |&piece: &(u32, u32)| {
            let mut found = Findings::at_most(options.findings_max);
            let mut keys = Vec::new();
            for id in snapshot.ids_in(piece).take_while(|_| !options.is_stopped()) {
                let filing = snapshot.filing(id);
                if part == 0 {
                    row::check(&filing, options, &mut found);
                }
                groups::keys(&hasher, id, &filing, |key: Key| {
                    if key.part(parts) == part {
                        keys.push(key);
                    }
                });
            }
            (found, keys)
        };
        let done = on_all_cores(&pieces, work).expect("checking a row does not panic");
        if options.is_stopped() {
            return None;
        }
        let mut keys = Vec::with_capacity(done.iter().map(|(_, keys)| keys.len()).sum());
        for (found, some) in done {
            res.merge(found);
            keys.extend(some);
        }
        groups::check(snapshot, keys, options, &mut res);
    }
    res.sort();
    Some(res)
}

/// In how many parts the keys of so many rows are held, at most `keys_max` at a time.
pub(super) fn parts(rows: usize, keys_max: usize) -> u64 {
    (rows * groups::KEYS_A_ROW / keys_max.max(1) + 1) as u64
}

/// Everything the linter finds in a loaded registry beside what the load found; `None` when it was stopped.
///
/// Files that cannot be read once more are told beside.
pub fn lint_loaded(
    settings: &Settings,
    loaded: &Loaded,
    options: &Options<'_>,
    now: SystemTime,
) -> Option<(Findings, Vec<String>)> {
    let mut res = lint_with(&loaded.snapshot, options)?;
    let files: Vec<PathBuf> = loaded.files.iter().map(|file| file.path.clone()).collect();
    let (found, reasons) = facts::facts(settings, &files, &loaded.snapshot, options, now);
    if options.is_stopped() {
        return None;
    }
    res.merge(found);
    res.sort();
    Some((res, reasons))
}

#[cfg(test)]
mod tests;
