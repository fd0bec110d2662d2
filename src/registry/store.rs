//! The registry's keeper: loads, compares, admits or refuses, and remembers the last good state.
//!
//! A worse state never replaces a better one silently: a file that cannot be read whole, a file that vanished, or a loss of
//! more than the set share refuses the reload, and the reasons stay in [`Store::health`] until a reload succeeds.

mod linting;
mod upkeep;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use siphasher::sip::SipHasher13;
use tokio::sync::Notify;

use super::counters::Counters;
use super::diff::Diff;
use super::files::{Content, FileReader, FileState, Look};
use super::load::{Suffixes, Unread, loaded, one, plan, read_files};
pub use super::loaded::{Changed, FileSummary, LoadError, Loaded, Looked, Reloads, count_by_rule};
use super::progress::{Phase, Progress};
use super::saved::{self, Circumstances, SavedError, SigningKey};
use super::source;
use super::state::{Plan, State};
use super::{Settings, Snapshot};
use crate::model::{Day, SuffixTable};
use linting::Linting;
pub use linting::OurAddresses;

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

#[derive(Default)]
struct Inner {
    state: State,
    suffix_hash: u64,
    suffixes: Option<Arc<SuffixTable>>,
    year: i32,
    loaded: Option<Arc<Loaded>>,
    health: Vec<String>,
    /// True while what is there came out of the snapshot file and no content was compared yet.
    is_unverified: bool,
    /// The generation the snapshot file has.
    saved_generation: u64,
}

/// What files are compared with and how.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    suffixes: &'a Suffixes,
    suffixes_differ: bool,
    now: SystemTime,
    shrink: Shrink,
    look: Look,
}

/// What a comparison of files and state found.
enum Examined {
    /// What would be published.
    Different(Box<Plan>),
    /// Nothing to publish; stamps may be others.
    Same(BTreeMap<PathBuf, Arc<FileState>>),
}

/// What a reload would do.
#[derive(Debug)]
pub struct Preview {
    /// Against what is published.
    pub diff: Diff,
    /// Rows there would be.
    pub rows: usize,
    /// Why it would be refused, if it would.
    pub refusal: Option<LoadError>,
}

/// See the module's text. One store a process; cheap calls take a short lock, loads hold it throughout.
pub struct Store {
    settings: Settings,
    inner: Mutex<Inner>,
    health: Mutex<Vec<String>>,
    loaded: Mutex<Option<Arc<Loaded>>>,
    reloads: Mutex<Reloads>,
    moved_out: Notify,
    linting: Mutex<Linting>,
    counters: Arc<Counters>,
    pub(super) progress: Arc<Progress>,
    pub(super) copy_refused: Mutex<Option<String>>,
}

impl Store {
    /// A store that has loaded nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            inner: Mutex::default(),
            health: Mutex::default(),
            loaded: Mutex::default(),
            reloads: Mutex::default(),
            moved_out: Notify::new(),
            linting: Mutex::default(),
            counters: Arc::default(),
            progress: Arc::default(),
            copy_refused: Mutex::default(),
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

    /// Loads or reloads, comparing every file's content. Blocks on file reads and parsing: callers on a runtime use a
    /// blocking thread.
    pub fn reload(&self, now: SystemTime, shrink: Shrink) -> ReloadOutcome {
        self.reload_as(now, shrink, Look::Content)
    }

    /// As [`Store::reload`], after an event: files whose stamp is as it was are not read.
    pub fn reload_changed(&self, now: SystemTime) -> ReloadOutcome {
        self.reload_as(now, Shrink::Refuse, Look::Stamp)
    }

    fn reload_as(&self, now: SystemTime, shrink: Shrink, look: Look) -> ReloadOutcome {
        let begun = Instant::now();
        let mut inner = lock(&self.inner);
        self.progress.begin();
        let outcome = match self.attempt(&mut inner, now, shrink, look) {
            Ok(Some((loaded, diff))) => {
                let snapshot = loaded.snapshot.clone();
                self.counters.published(&loaded, begun.elapsed());
                *lock(&self.loaded) = Some(loaded.clone());
                inner.loaded = Some(loaded);
                inner.health.clear();
                ReloadOutcome::Published(snapshot, diff)
            }
            Ok(None) => {
                self.counters.unchanged.increment();
                inner.health.clear();
                ReloadOutcome::Unchanged
            }
            Err(error) => {
                self.counters.refused.increment();
                inner.health.clone_from(&error.reasons);
                ReloadOutcome::Refused(error)
            }
        };
        lock(&self.health).clone_from(&inner.health);
        let (what, changed) = match &outcome {
            ReloadOutcome::Published(snapshot, diff) => {
                let (counts, lines) = diff.summary();
                let generation = snapshot.generation();
                ("published", Some(Changed { at: now, elapsed: begun.elapsed(), generation, counts, lines }))
            }
            ReloadOutcome::Refused(_) => ("refused", None),
            ReloadOutcome::Unchanged => ("unchanged", None),
        };
        lock(&self.reloads).take(now, what, changed);
        outcome
    }

    /// True when the state came out of the snapshot file and no file's content was compared with it yet.
    pub fn is_unverified(&self) -> bool {
        lock(&self.inner).is_unverified
    }

    /// True when [`Store::tidy`] is worth its cost.
    pub fn is_untidy(&self) -> bool {
        let inner = lock(&self.inner);
        inner.state.is_untidy() || inner.state.table.arena.is_moved_out()
    }

    /// What a reload would change, without publishing it; and why it would be refused, if it would.
    pub fn preview(&self, now: SystemTime) -> Result<Preview, LoadError> {
        let inner = lock(&self.inner);
        let (suffixes, suffixes_differ) = self.read_suffixes(&inner)?;
        let shrink = Shrink::Refuse;
        let attempt = Attempt { suffixes: &suffixes, suffixes_differ, now, shrink, look: Look::Content };
        // What is only looked at is not worth moving the old rows for.
        let (plan, refusal) = match self.examine(&inner, attempt, usize::MAX)? {
            Examined::Same(_) => (None, None),
            Examined::Different(plan) => {
                let refusal = self.admit(inner.state.active(), &plan, Shrink::Refuse).err();
                (Some(plan), refusal)
            }
        };
        let rows = plan.as_ref().map_or(inner.state.table.len(), |plan| plan.table.len());
        Ok(Preview { diff: plan.map(|plan| plan.diff).unwrap_or_default(), rows, refusal })
    }

    /// Makes what events by main number look up, so that the first one need not wait for it; without changes files, nothing.
    pub fn prepare_events(&self) {
        let inner = lock(&self.inner);
        let has_changes = inner.state.files.values().any(|file| matches!(file.content, Content::Changes(_)));
        let arena = inner.state.table.arena.clone();
        drop(inner);
        if has_changes {
            arena.prepare_subjects();
        }
    }

    /// When the next event that waits for its time is due.
    pub fn next_due(&self) -> Option<SystemTime> {
        lock(&self.inner).state.events.next_due()
    }

    /// Writes the state to the settings' snapshot file, if there is one and it is not written yet; tells whether it was.
    ///
    /// Does not hold up reloads. Where files must be signed it is not written: nobody here can sign it.
    pub fn save(&self) -> std::io::Result<bool> {
        match &self.settings.snapshot {
            Some(path) if self.settings.snapshot_keys.is_none() => self.save_as(path),
            _ => Ok(false),
        }
    }

    /// As [`Store::save`], to `path`.
    pub fn save_as(&self, path: &Path) -> std::io::Result<bool> {
        self.save_with(|state, circumstances| saved::write(path, state, circumstances))
    }

    /// As [`Store::save_as`], signed by `key`.
    pub fn save_signed(&self, path: &Path, key: &SigningKey) -> std::io::Result<bool> {
        self.save_with(|state, circumstances| saved::write_signed(path, state, circumstances, key))
    }

    fn save_with(&self, write: impl FnOnce(&State, &Circumstances) -> std::io::Result<()>) -> std::io::Result<bool> {
        let inner = lock(&self.inner);
        if inner.loaded.is_none() || inner.saved_generation == self.generation_of(&inner) {
            return Ok(false);
        }
        let (state, generation) = (inner.state.clone(), self.generation_of(&inner));
        let circumstances = self.circumstances(inner.suffix_hash, inner.year);
        drop(inner);
        write(&state, &circumstances)?;
        lock(&self.inner).saved_generation = generation;
        Ok(true)
    }

    fn generation_of(&self, inner: &Inner) -> u64 {
        inner.loaded.as_ref().map_or(0, |loaded| loaded.snapshot.generation())
    }

    fn circumstances(&self, suffix_hash: u64, year: i32) -> Circumstances {
        let provider = self.settings.provider.clone();
        Circumstances { provider, encoding: self.settings.encoding.label(), suffix_hash, year }
    }

    /// Takes the state of the settings' snapshot file, when nothing is loaded yet. What it cannot use it says in
    /// the log, and leaves everything to the tables.
    fn restore(&self, inner: &mut Inner, suffix_hash: u64, now: SystemTime) -> bool {
        let Some(path) = &self.settings.snapshot else { return false };
        let year = Day::at(now).year();
        let circumstances = self.circumstances(suffix_hash, year);
        let restored = || match &self.settings.snapshot_keys {
            Some(keys) => saved::read_signed(path, &circumstances, keys),
            None => saved::read(path, &circumstances),
        };
        match self.progress.spend(Phase::Restore, restored) {
            Ok(state) => {
                inner.state = state;
                inner.year = year;
                true
            }
            Err(SavedError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => self.refuse_copy(format!("{}: {error}", path.display())),
        }
    }

    fn attempt(
        &self,
        inner: &mut Inner,
        now: SystemTime,
        shrink: Shrink,
        look: Look,
    ) -> Result<Option<(Arc<Loaded>, Diff)>, LoadError> {
        let (suffixes, suffixes_differ) = self.read_suffixes(inner)?;
        if inner.loaded.is_none() && self.restore(inner, suffixes.1, now) {
            // What the tables say decides: where they and the saved state do not go together, they are loaded alone.
            let attempt = Attempt { suffixes: &suffixes, suffixes_differ: false, now, shrink, look: Look::Stamp };
            match self.compare(inner, attempt) {
                Ok(found) => {
                    inner.is_unverified = true;
                    return Ok(found);
                }
                Err(error) => {
                    self.refuse_copy(error.to_string());
                    inner.state = State::default();
                }
            }
        }
        let attempt = Attempt { suffixes: &suffixes, suffixes_differ, now, shrink, look };
        let found = self.compare(inner, attempt)?;
        inner.is_unverified &= look == Look::Stamp;
        Ok(found)
    }

    /// Compares the files with the state and admits and takes over what differs.
    fn compare(&self, inner: &mut Inner, attempt: Attempt<'_>) -> Result<Option<(Arc<Loaded>, Diff)>, LoadError> {
        let Attempt { suffixes, now, shrink, .. } = attempt;
        let year = Day::at(now).year();
        let mut examined = self.examine(inner, attempt, inner.state.room(self.settings.moved_out_from));
        if matches!(examined, Err(Unread::NeedsRoom)) {
            self.make_room(inner);
            examined = self.examine(inner, attempt, usize::MAX);
        }
        let generation = self.generation_of(inner) + 1;
        let diff = match examined? {
            Examined::Same(files) if inner.loaded.is_some() => {
                inner.state.files = files;
                inner.year = year;
                return Ok(None);
            }
            // Restored, and the files are as they were when it was saved.
            Examined::Same(files) => {
                inner.state.files = files;
                Diff { added: inner.state.table.len(), ..Diff::default() }
            }
            Examined::Different(plan) => {
                self.admit(inner.state.active(), &plan, shrink)?;
                if inner.loaded.is_some() {
                    self.note_moves(&inner.state, &plan, generation);
                }
                let diff = plan.diff.clone();
                inner.state.commit(*plan);
                diff
            }
        };
        inner.suffixes = Some(suffixes.0.clone());
        inner.suffix_hash = suffixes.1;
        inner.year = year;
        let done = (now, self.progress.times());
        let loaded = loaded(&self.settings, &inner.state, generation, suffixes.0.clone(), done);
        Ok(Some((Arc::new(loaded), diff)))
    }

    /// Compares the files with the state and plans what would be published.
    fn examine(&self, inner: &Inner, attempt: Attempt<'_>, room: usize) -> Result<Examined, Unread> {
        let Attempt { suffixes, suffixes_differ, now, shrink, look } = attempt;
        let paths = self.paths()?;
        if shrink == Shrink::Refuse {
            self.no_file_vanished(&inner.state, &paths)?;
        }
        let year = Day::at(now).year();
        let reads_all_anew = suffixes_differ || year != inner.year;
        let old_files = if reads_all_anew { &BTreeMap::new() } else { &inner.state.files };
        let dictionary = inner.state.table.dictionary.clone();
        let reader = FileReader {
            settings: &self.settings,
            suffixes,
            dictionary: &dictionary,
            key: inner.state.key,
            year,
            now,
            arena: &inner.state.table.arena,
            progress: &self.progress,
        };
        let files = || read_files(&reader, &inner.state, old_files, &paths, look, room);
        let read = self.progress.spend(Phase::Files, files)?;
        let is_loaded = inner.loaded.is_some() || !inner.state.files.is_empty();
        if !read.differs && !suffixes_differ && is_loaded {
            return Ok(Examined::Same(read.files));
        }
        let plan = plan(&reader, &inner.state, read).map_err(|full| one(full.to_string()))?;
        Ok(Examined::Different(Box::new(plan)))
    }

    /// The configured paths, as text.
    fn asked(&self) -> String {
        self.settings.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    fn paths(&self) -> Result<Vec<PathBuf>, LoadError> {
        if self.settings.paths.is_empty() {
            return Err(one("registry.paths is empty; expected files or directories".to_owned()));
        }
        let paths = source::list_files(&self.settings.paths)
            .map_err(|(path, error)| one(format!("{}: {error}", path.display())))?;
        if paths.is_empty() {
            let asked = self.asked();
            return Err(one(format!("{asked}: no registry file; expected *.csv, *.jsonl, *.toml, also .gz or .zst")));
        }
        Ok(paths)
    }

    /// Reads the suffix list where it is a file; tells whether it differs from the one in use.
    fn read_suffixes(&self, inner: &Inner) -> Result<(Suffixes, bool), LoadError> {
        let in_use = inner.suffixes.clone();
        let Some(path) = &self.settings.suffix_list else {
            let is_first = in_use.is_none();
            let table = in_use.unwrap_or_else(|| Arc::new(SuffixTable::built_in()));
            return Ok((Suffixes(table, 0), is_first));
        };
        let refuse = |message: String| one(format!("{}: {message}", path.display()));
        let octets = source::read_file(path).map_err(|error| refuse(error.to_string()))?;
        let hash = content_hash(&octets);
        if let Some(table) = in_use.filter(|_| inner.suffix_hash == hash) {
            return Ok((Suffixes(table, hash), false));
        }
        let text = String::from_utf8(octets).map_err(|_| refuse("is not UTF-8".to_owned()))?;
        let table = SuffixTable::parse(&text).map_err(|error| refuse(error.to_string()))?;
        Ok((Suffixes(Arc::new(table), hash), true))
    }

    /// A file that was loaded and is gone is more likely an accident than an edit.
    fn no_file_vanished(&self, state: &State, paths: &[PathBuf]) -> Result<(), LoadError> {
        let gone = state.files.iter().filter(|(path, file)| file.rows() > 0 && !paths.contains(path));
        let reasons: Vec<String> = gone
            .map(|(path, _)| {
                format!("{}: was loaded and is gone; reload with accept-shrink if that is meant", path.display())
            })
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(LoadError { reasons }) }
    }

    fn admit(&self, old_active: usize, plan: &Plan, shrink: Shrink) -> Result<(), LoadError> {
        let loss = plan.diff.loss(old_active, self.settings.max_shrink_percent);
        let Some(reason) = loss.filter(|_| shrink == Shrink::Refuse) else { return Ok(()) };
        let rows = plan.table.len();
        Err(one(format!("{reason}, {rows} would stay; reload with accept-shrink if that is meant")))
    }
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
