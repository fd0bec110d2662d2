//! What a load leaves: the state with its findings and files, or the reasons there is none.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::Snapshot;
use super::issue::{Issue, Severity};
use super::progress::LoadTimes;

/// Why no registry could be loaded, or why a reload was refused; one line a cause.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct LoadError {
    /// Each names the file and what is wrong.
    pub reasons: Vec<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

/// One file as it was loaded.
#[derive(Clone, Debug)]
pub struct FileSummary {
    /// The path.
    pub path: PathBuf,
    /// Octets on disk.
    pub octets: u64,
    /// Rows or events that count.
    pub rows: usize,
    /// Rows that do not.
    pub bad_rows: usize,
}

/// A loaded state with its findings.
#[derive(Clone)]
pub struct Loaded {
    /// The state.
    pub snapshot: Arc<Snapshot>,
    /// Findings of parsing, merging and events; lint is apart.
    pub issues: Arc<Vec<Issue>>,
    /// Files read.
    pub files: Vec<FileSummary>,
    /// Over what verdicts read of every row: nodes with equal digests judge alike.
    pub digest: u64,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// How long it took.
    pub times: LoadTimes,
}

/// Counts findings by rule, errors and warnings apart from notes.
pub fn count_by_rule(issues: &[Issue]) -> BTreeMap<&'static str, u64> {
    let mut res = BTreeMap::new();
    for issue in issues.iter().filter(|issue| issue.severity != Severity::Info) {
        *res.entry(issue.rule).or_default() += 1;
    }
    res
}

//--- Reloads ---------------------------------------------------------------------------------------------------------

/// What the last reloads of a store came to, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// The last one, whatever it came to.
    pub looked: Option<Looked>,
    /// The last one that published.
    pub changed: Option<Changed>,
}

/// One reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// When.
    pub at: SystemTime,
    /// `published`, `unchanged` or `refused`.
    pub outcome: &'static str,
}

/// What a reload that published changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When.
    pub at: SystemTime,
    /// How long it took.
    pub elapsed: Duration,
    /// The generation it published.
    pub generation: u64,
    /// How much of each kind differs, by the kind's name.
    pub counts: Vec<(&'static str, usize)>,
    /// The first differences: `+` new, `-` gone, `~` otherwise; at most [`LINES_MAX`].
    pub lines: Vec<String>,
}

/// Differences that [`Changed`] names: a screenful.
pub const LINES_MAX: usize = 50;

impl Reloads {
    /// Takes down a reload at `at`.
    pub fn take(&mut self, at: SystemTime, outcome: &'static str, changed: Option<Changed>) {
        self.looked = Some(Looked { at, outcome });
        self.changed = changed.or(self.changed.take());
    }
}
