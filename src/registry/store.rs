//! The registry's keeper: loads, compares, admits or refuses, and remembers the last good state.
//!
//! A worse state never replaces a better one silently: a file that cannot be read whole, a file that vanished, or a loss of
//! more than the set share refuses the reload, and the reasons stay in [`Store::health`] until a reload succeeds.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use siphasher::sip::SipHasher13;
use thiserror::Error;

use super::counters::Counters;
use super::diff::{Diff, diff};
use super::event::apply_events;
use super::issue::{Issue, Severity};
use super::merge::merge;
use super::parse::{ParsedFile, parse};
use super::row::RowContext;
use super::source::{self, Format};
use super::{Settings, Snapshot};
use crate::model::{Day, SuffixTable};

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
pub struct Loaded {
    /// The state.
    pub snapshot: Arc<Snapshot>,
    /// Findings of parsing, merging and events; lint is apart.
    pub issues: Arc<Vec<Issue>>,
    /// Files read.
    pub files: Vec<FileSummary>,
    /// Digest over paths and contents: nodes with equal digests judge alike.
    pub digest: u64,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}

/// Whether a loss of rows is accepted this once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shrink {
    /// The operator said so.
    Accept,
    /// By the set share.
    #[default]
    Refuse,
}

/// What a reload did.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// A new generation is out.
    Published(Arc<Snapshot>, Diff),
    /// The old state stays.
    Refused(LoadError),
    /// Nothing differs.
    Unchanged,
}

/// Hash and content of a file parsed before.
struct Cached {
    hash: u64,
    octets: u64,
    parsed: Arc<ParsedFile>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Cached>,
    suffix_hash: u64,
    suffixes: Option<Arc<SuffixTable>>,
    loaded: Option<Arc<Loaded>>,
    health: Vec<String>,
}

/// See the module's text. One store a process; cheap calls take a short lock, loads hold it throughout.
pub struct Store {
    settings: Settings,
    state: Mutex<State>,
    health: Mutex<Vec<String>>,
    loaded: Mutex<Option<Arc<Loaded>>>,
    counters: Arc<Counters>,
}

impl Store {
    /// A store that has loaded nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            health: Mutex::default(),
            loaded: Mutex::default(),
            counters: Arc::default(),
        }
    }

    /// What it loads from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The last good state.
    pub fn loaded(&self) -> Option<Arc<Loaded>> {
        lock(&self.loaded).clone()
    }

    /// Why the last reload was refused; empty when all is well.
    pub fn health(&self) -> Vec<String> {
        lock(&self.health).clone()
    }

    /// Loads or reloads. Blocks on file reads and parsing: callers on a runtime use a blocking thread.
    pub fn reload(&self, now: SystemTime, shrink: Shrink) -> ReloadOutcome {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        let outcome = match self.attempt(&mut state, now, shrink) {
            Ok(Some((loaded, diff))) => {
                let snapshot = loaded.snapshot.clone();
                self.counters.published(&loaded, begun.elapsed());
                *lock(&self.loaded) = Some(loaded.clone());
                state.loaded = Some(loaded);
                state.health.clear();
                ReloadOutcome::Published(snapshot, diff)
            }
            Ok(None) => {
                self.counters.unchanged.increment();
                state.health.clear();
                ReloadOutcome::Unchanged
            }
            Err(error) => {
                self.counters.refused.increment();
                state.health.clone_from(&error.reasons);
                ReloadOutcome::Refused(error)
            }
        };
        lock(&self.health).clone_from(&state.health);
        outcome
    }

    fn attempt(
        &self,
        state: &mut State,
        now: SystemTime,
        shrink: Shrink,
    ) -> Result<Option<(Arc<Loaded>, Diff)>, LoadError> {
        let one = |reason: String| LoadError { reasons: vec![reason] };
        let suffixes_differ = self.read_suffixes(state)?;
        let paths = source::list_files(&self.settings.paths)
            .map_err(|(path, error)| one(format!("{}: {error}", path.display())))?;
        if paths.is_empty() {
            let asked =
                self.settings.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(one(format!("{asked}: no registry file; expected *.csv, *.jsonl, *.toml, also .gz or .zst")));
        }
        if shrink == Shrink::Refuse {
            self.no_file_vanished(state, &paths)?;
        }
        let (files, differ) = self.read_all(state, &paths, now, suffixes_differ)?;
        let same_files = state.files.len() == files.len();
        if !differ && same_files && state.loaded.is_some() {
            return Ok(None);
        }
        let generation = state.loaded.as_ref().map_or(0, |loaded| loaded.snapshot.generation()) + 1;
        let suffixes = state.suffixes.clone().unwrap_or_else(|| Arc::new(SuffixTable::built_in()));
        let loaded = Arc::new(build(&self.settings, generation, suffixes, &files, now));
        let empty = Snapshot::empty(Arc::new(SuffixTable::default()));
        let old = state.loaded.as_ref().map_or(&empty, |loaded| &*loaded.snapshot);
        let changes = diff(old, &loaded.snapshot);
        self.admit(old, &loaded.snapshot, &changes, shrink)?;
        state.files = files;
        Ok(Some((loaded, changes)))
    }

    /// Reads the suffix list where it is a file; true when it differs from the one in use.
    fn read_suffixes(&self, state: &mut State) -> Result<bool, LoadError> {
        let Some(path) = &self.settings.suffix_list else {
            let is_first = state.suffixes.is_none();
            state.suffixes.get_or_insert_with(|| Arc::new(SuffixTable::built_in()));
            return Ok(is_first);
        };
        let refuse = |message: String| LoadError { reasons: vec![format!("{}: {message}", path.display())] };
        let octets = source::read_file(path).map_err(|error| refuse(error.to_string()))?;
        let hash = content_hash(&octets);
        if state.suffixes.is_some() && state.suffix_hash == hash {
            return Ok(false);
        }
        let text = String::from_utf8(octets).map_err(|_| refuse("is not UTF-8".to_owned()))?;
        let table = SuffixTable::parse(&text).map_err(|error| refuse(error.to_string()))?;
        state.suffixes = Some(Arc::new(table));
        state.suffix_hash = hash;
        Ok(true)
    }

    /// A file that was loaded and is gone is more likely an accident than an edit.
    fn no_file_vanished(&self, state: &State, paths: &[PathBuf]) -> Result<(), LoadError> {
        let gone = |path: &&PathBuf| {
            let has_rows = state
                .files
                .get(*path)
                .is_some_and(|file| !file.parsed.filings.is_empty() || !file.parsed.events.is_empty());
            has_rows && !paths.contains(path)
        };
        let reasons: Vec<String> = state
            .files
            .keys()
            .filter(gone)
            .map(|path| {
                format!("{}: was loaded and is gone; reload with accept-shrink if that is meant", path.display())
            })
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(LoadError { reasons }) }
    }

    /// Reads every file; parses those whose content differs from the last load.
    fn read_all(
        &self,
        state: &State,
        paths: &[PathBuf],
        now: SystemTime,
        parse_all: bool,
    ) -> Result<(BTreeMap<PathBuf, Cached>, bool), LoadError> {
        let mut files = BTreeMap::new();
        let mut reasons = Vec::new();
        let mut differ = false;
        for path in paths {
            match self.read_one(state, path, now, parse_all) {
                Ok((cached, is_new)) => {
                    differ |= is_new;
                    files.insert(path.clone(), cached);
                }
                Err(message) => reasons.push(format!("{}: {message}", path.display())),
            }
        }
        if reasons.is_empty() { Ok((files, differ)) } else { Err(LoadError { reasons }) }
    }

    fn read_one(&self, state: &State, path: &Path, now: SystemTime, parse_all: bool) -> Result<(Cached, bool), String> {
        let octets = source::read_file(path).map_err(|error| error.to_string())?;
        let (hash, size) = (content_hash(&octets), octets.len() as u64);
        if let Some(old) = state.files.get(path).filter(|old| old.hash == hash && !parse_all) {
            return Ok((Cached { hash, octets: size, parsed: old.parsed.clone() }, false));
        }
        let suffixes = state.suffixes.as_ref().ok_or("no suffix table")?;
        let name = path.to_string_lossy();
        let parsed = parse_octets(&self.settings, suffixes, &name, octets, now)?;
        Ok((Cached { hash, octets: size, parsed: Arc::new(parsed) }, true))
    }

    fn admit(&self, old: &Snapshot, new: &Snapshot, changes: &Diff, shrink: Shrink) -> Result<(), LoadError> {
        let lost_share = changes.removed * 100 / old.len().max(1);
        if shrink == Shrink::Refuse && !old.is_empty() && lost_share > usize::from(self.settings.max_shrink_percent) {
            let message = format!(
                "{} of {} rows would go ({lost_share} %, at most {} %: registry.max-shrink-percent), {} would stay; reload with accept-shrink if that is meant",
                changes.removed,
                old.len(),
                self.settings.max_shrink_percent,
                new.len()
            );
            return Err(LoadError { reasons: vec![message] });
        }
        Ok(())
    }
}

/// Loads `settings.paths` once, generation 1: for commands and tests.
pub fn load_paths(settings: &Settings, now: SystemTime) -> Result<Arc<Loaded>, LoadError> {
    let store = Store::new(settings.clone());
    match store.reload(now, Shrink::Refuse) {
        ReloadOutcome::Refused(error) => Err(error),
        ReloadOutcome::Published(..) | ReloadOutcome::Unchanged => {
            store.loaded().ok_or_else(|| LoadError { reasons: vec!["nothing was loaded".to_owned()] })
        }
    }
}

/// Loads one text as if it were the file `name`, generation 1: for tests and tools.
pub fn load_text(
    settings: &Settings,
    suffixes: Arc<SuffixTable>,
    name: &str,
    octets: Vec<u8>,
    now: SystemTime,
) -> Result<Loaded, LoadError> {
    let (hash, size) = (content_hash(&octets), octets.len() as u64);
    let parsed = parse_octets(settings, &suffixes, name, octets, now)
        .map_err(|message| LoadError { reasons: vec![format!("{name}: {message}")] })?;
    let files = BTreeMap::from([(PathBuf::from(name), Cached { hash, octets: size, parsed: Arc::new(parsed) })]);
    Ok(build(settings, 1, suffixes, &files, now))
}

fn parse_octets(
    settings: &Settings,
    suffixes: &SuffixTable,
    name: &str,
    octets: Vec<u8>,
    now: SystemTime,
) -> Result<ParsedFile, String> {
    let format = Format::of(name)
        .ok_or("unknown extension; expected .csv, .jsonl, .toml or .changes.jsonl, also .gz or .zst")?;
    let octets = source::decompress(name, octets).map_err(|error| error.to_string())?;
    let text = source::decode(octets, settings.encoding).map_err(|error| error.to_string())?;
    let file: Arc<str> = name.into();
    let context = RowContext { suffixes, year: Day::at(now).year(), file: &file };
    parse(format, context, &text, settings.max_bad_rows).map_err(|error| error.to_string())
}

/// Tables first, then events by path: a pure function of the parsed files.
fn build(
    settings: &Settings,
    generation: u64,
    suffixes: Arc<SuffixTable>,
    files: &BTreeMap<PathBuf, Cached>,
    now: SystemTime,
) -> Loaded {
    let mut issues: Vec<Issue> = files.values().flat_map(|file| file.parsed.issues.iter().cloned()).collect();
    let filings = files.values().flat_map(|file| file.parsed.filings.iter().cloned()).collect();
    let mut rows = merge(filings, &mut issues);
    for file in files.values() {
        apply_events(&mut rows, &file.parsed.events, &mut issues);
    }
    let mut digest = SipHasher13::new();
    for file in files.values() {
        digest.write_u64(file.hash);
    }
    let snapshot =
        Snapshot::build(generation, suffixes, &settings.provider, settings.bind_check, rows.into_values().collect());
    let summaries = files.iter().map(|(path, file)| FileSummary {
        path: path.clone(),
        octets: file.octets,
        rows: file.parsed.filings.len() + file.parsed.events.len(),
        bad_rows: file.parsed.bad_rows,
    });
    issues.sort_by(|a, b| (&a.file, a.line, a.severity).cmp(&(&b.file, b.line, b.severity)));
    Loaded {
        snapshot: Arc::new(snapshot),
        issues: Arc::new(issues),
        files: summaries.collect(),
        digest: digest.finish(),
        loaded_at: now,
    }
}

/// Counts findings by rule, errors and warnings apart from notes.
pub fn count_by_rule(issues: &[Issue]) -> BTreeMap<&'static str, u64> {
    let mut res = BTreeMap::new();
    for issue in issues.iter().filter(|issue| issue.severity != Severity::Info) {
        *res.entry(issue.rule).or_default() += 1;
    }
    res
}

/// Tells contents apart; collisions would only delay a reload, nobody gains by one.
pub(crate) fn content_hash(octets: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(1, 2);
    hasher.write(octets);
    hasher.finish()
}

/// A thread that panicked while holding one of these locks left a whole value behind: states are replaced, not edited.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
