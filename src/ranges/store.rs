//! The ranges' keeper: loads, compares, admits or refuses, and remembers the last good state.
//!
//! A worse state never replaces a better one silently: a file that cannot be read whole, a file that vanished, or a loss
//! of more than the set share of mainland or of our own addresses (each family apart) refuses the reload, and the reasons
//! stay in [`Store::health`] until a reload succeeds.

use std::hash::Hasher;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use siphasher::sip::SipHasher13;

use super::counters::Counters;
use super::diff::{RangesDiff, diff};
use super::parse::{ParsedFile, parse};
use super::source::{self, Source};
use super::table::{Parts, Ranges};
use super::{FileSummary, LoadError, Settings, Shrink};
use crate::registry::store::{content_hash, lock};
use crate::registry::{Changed, Issue, Reloads};

/// A loaded state with its findings.
pub struct Loaded {
    /// The state.
    pub ranges: Arc<Ranges>,
    /// Findings of parsing.
    pub issues: Arc<Vec<Issue>>,
    /// Files read.
    pub files: Vec<FileSummary>,
    /// Digest over contents: nodes with equal digests judge alike.
    pub digest: u64,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}

/// What a reload did.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// A new generation is out.
    Published(Arc<Ranges>, RangesDiff),
    /// The old state stays.
    Refused(LoadError),
    /// Nothing differs.
    Unchanged,
}

/// Hash and content of a file parsed before.
#[derive(Clone)]
struct Cached {
    source: Source,
    hash: u64,
    octets: u64,
    parsed: Arc<ParsedFile>,
}

/// What the last good load left.
#[derive(Default)]
struct State {
    files: Vec<Cached>,
    loaded: Option<Arc<Loaded>>,
}

/// See the module's text. One store a process; cheap calls take a short lock, loads hold it throughout.
pub struct Store {
    settings: Settings,
    state: Mutex<State>,
    health: Mutex<Vec<String>>,
    loaded: Mutex<Option<Arc<Loaded>>>,
    reloads: Mutex<Reloads>,
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
            reloads: Mutex::default(),
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

    /// What the last reloads came to.
    pub fn reloads(&self) -> Reloads {
        lock(&self.reloads).clone()
    }

    /// Loads or reloads. Blocks on file reads and parsing: callers on a runtime use a blocking thread.
    pub fn reload(&self, now: SystemTime, shrink: Shrink) -> ReloadOutcome {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        let (outcome, health) = match self.attempt(&mut state, now, shrink) {
            Ok(Some((loaded, changes))) => {
                self.counters.published(&loaded, begun.elapsed());
                *lock(&self.loaded) = Some(loaded.clone());
                (ReloadOutcome::Published(loaded.ranges.clone(), changes), Vec::new())
            }
            Ok(None) => {
                self.counters.unchanged.increment();
                (ReloadOutcome::Unchanged, Vec::new())
            }
            Err(error) => {
                self.counters.refused.increment();
                let reasons = error.reasons.clone();
                (ReloadOutcome::Refused(error), reasons)
            }
        };
        *lock(&self.health) = health;
        let (what, changed) = match &outcome {
            ReloadOutcome::Published(ranges, diff) => {
                let (counts, lines) = diff.summary();
                let generation = ranges.generation();
                ("published", Some(Changed { at: now, elapsed: begun.elapsed(), generation, counts, lines }))
            }
            ReloadOutcome::Refused(_) => ("refused", None),
            ReloadOutcome::Unchanged => ("unchanged", None),
        };
        lock(&self.reloads).take(now, what, changed);
        outcome
    }

    /// Loads; `None` where nothing differs. State is replaced only in the end.
    fn attempt(
        &self,
        state: &mut State,
        now: SystemTime,
        shrink: Shrink,
    ) -> Result<Option<(Arc<Loaded>, RangesDiff)>, LoadError> {
        let sources = source::list_sources(&self.settings)
            .map_err(|(path, error)| one(format!("{}: {error}", path.display())))?;
        if sources.is_empty() {
            return Err(one("no range file; expected ranges.mainland or ranges.tags to name some".to_owned()));
        }
        if shrink == Shrink::Refuse {
            no_file_vanished(state, &sources)?;
        }
        let (files, differ) = self.read_all(state, &sources)?;
        let same_files = files.iter().map(|file| &file.source).eq(state.files.iter().map(|file| &file.source));
        if !differ && same_files && state.loaded.is_some() {
            return Ok(None);
        }
        let generation = state.loaded.as_ref().map_or(0, |loaded| loaded.ranges.generation()) + 1;
        let loaded = Arc::new(build(&self.settings, generation, &files, now));
        let empty = Ranges::empty();
        let old = state.loaded.as_ref().map_or(&empty, |loaded| &*loaded.ranges);
        let changes = diff(old, &loaded.ranges);
        if shrink == Shrink::Refuse {
            self.admit(&changes)?;
        }
        state.files = files;
        state.loaded = Some(loaded.clone());
        Ok(Some((loaded, changes)))
    }

    /// Reads every file; parses those whose content differs from the last load.
    fn read_all(&self, state: &State, sources: &[Source]) -> Result<(Vec<Cached>, bool), LoadError> {
        let mut files = Vec::with_capacity(sources.len());
        let mut reasons = Vec::new();
        let mut differ = false;
        for source in sources {
            match self.read_one(state, source) {
                Ok((cached, is_new)) => {
                    differ |= is_new;
                    files.push(cached);
                }
                Err(message) => reasons.push(format!("{}: {message}", source.path.display())),
            }
        }
        if reasons.is_empty() { Ok((files, differ)) } else { Err(LoadError { reasons }) }
    }

    /// Reads one file; true when it had to be parsed.
    fn read_one(&self, state: &State, source: &Source) -> Result<(Cached, bool), String> {
        let octets = source::read(&source.path).map_err(|error| error.to_string())?;
        let (hash, size) = (content_hash(&octets), octets.len() as u64);
        let old = state.files.iter().find(|old| old.source == *source && old.hash == hash);
        if let Some(old) = old {
            return Ok((old.clone(), false));
        }
        let parsed = parse_octets(&self.settings, source, octets)?;
        Ok((Cached { source: source.clone(), hash, octets: size, parsed: Arc::new(parsed) }, true))
    }

    /// Refuses a loss of more than the set share.
    fn admit(&self, changes: &RangesDiff) -> Result<(), LoadError> {
        let allowed = self.settings.max_shrink_percent;
        let losses = changes.losses.iter().filter(|loss| loss.percent() > u128::from(allowed));
        let reasons: Vec<String> = losses
            .map(|loss| {
                format!(
                    "{} of {} {} addresses would go ({} %, at most {allowed} %: ranges.max-shrink-percent); reload with accept-shrink if that is meant",
                    loss.lost, loss.before, loss.what, loss.percent()
                )
            })
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(LoadError { reasons }) }
    }
}

/// A file that was loaded and is gone is more likely an accident than an edit.
fn no_file_vanished(state: &State, sources: &[Source]) -> Result<(), LoadError> {
    let gone = |file: &&Cached| file.parsed.rows > 0 && !sources.contains(&file.source);
    let tell = |file: &Cached| {
        let path = file.source.path.display();
        format!("{path}: was loaded and is gone; reload with accept-shrink if that is meant")
    };
    let reasons: Vec<String> = state.files.iter().filter(gone).map(tell).collect();
    if reasons.is_empty() { Ok(()) } else { Err(LoadError { reasons }) }
}

/// Loads the files of `settings` once, generation 1: for commands and tests.
pub fn load_paths(settings: &Settings, now: SystemTime) -> Result<Arc<Loaded>, LoadError> {
    let store = Store::new(settings.clone());
    match store.reload(now, Shrink::Refuse) {
        ReloadOutcome::Refused(error) => Err(error),
        ReloadOutcome::Published(..) | ReloadOutcome::Unchanged => {
            store.loaded().ok_or_else(|| one("nothing was loaded".to_owned()))
        }
    }
}

/// A refusal for one reason.
fn one(reason: String) -> LoadError {
    LoadError { reasons: vec![reason] }
}

/// Octets of a file to its rows.
fn parse_octets(settings: &Settings, source: &Source, octets: Vec<u8>) -> Result<ParsedFile, String> {
    let name = path_text(&source.path);
    let text = source::text_of(&name, octets).map_err(|error| error.to_string())?;
    parse(source.kind, &name, &settings.provider, &text).map_err(|error| error.to_string())
}

/// The path as findings name it.
fn path_text(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

/// A pure function of the parsed files, in the order configured.
fn build(settings: &Settings, generation: u64, files: &[Cached], now: SystemTime) -> Loaded {
    let mut parts = Parts { nat64: settings.nat64.clone(), ..Parts::default() };
    let mut digest = SipHasher13::new();
    let mut issues = Vec::new();
    for file in files {
        parts.mainland.extend_from_slice(&file.parsed.mainland);
        parts.tags.extend_from_slice(&file.parsed.tags);
        parts.cnames.extend_from_slice(&file.parsed.cnames);
        issues.extend_from_slice(&file.parsed.issues);
        digest.write_u64(file.hash);
    }
    let summary = |file: &Cached| FileSummary {
        path: file.source.path.clone(),
        octets: file.octets,
        rows: file.parsed.rows,
        bad_rows: file.parsed.bad_rows,
    };
    Loaded {
        ranges: Arc::new(Ranges::assemble(generation, &settings.provider, &parts)),
        issues: Arc::new(issues),
        files: files.iter().map(summary).collect(),
        digest: digest.finish(),
        loaded_at: now,
    }
}
