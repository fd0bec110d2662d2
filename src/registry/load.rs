//! From files to a plan: what a look at all of them finds, and what of it would be published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::arena::ArenaFull;
use super::draft::Draft;
use super::files::{Content, FileChange, FileReader, FileState, Look, Text, format_of};
use super::memory::NamelessFile;
use super::parse::ParsedChanges;
use super::progress::LoadTimes;
use super::saved::{self, Circumstances};
use super::snapshot::Schedule;
use super::source::{self, Stamp};
use super::state::{NewEvents, Plan, State, Viewpoint};
use super::store::{FileSummary, LoadError, Loaded, ReloadOutcome, Shrink, Store, content_hash, lock};
use super::{Settings, Snapshot};
use crate::model::{Day, SuffixTable};

/// Loads `settings.paths` once, generation 1: for commands and tests.
pub fn load_paths(settings: &Settings, now: SystemTime) -> Result<Arc<Loaded>, LoadError> {
    load_store(&Store::new(settings.clone()), now)
}

/// Loads a new store for the first time: for who looks at its progress.
pub fn load_store(store: &Store, now: SystemTime) -> Result<Arc<Loaded>, LoadError> {
    match store.reload(now, Shrink::Refuse) {
        ReloadOutcome::Refused(error) => Err(error),
        ReloadOutcome::Published(..) | ReloadOutcome::Unchanged => {
            store.loaded().ok_or_else(|| LoadError { reasons: vec!["nothing was loaded".to_owned()] })
        }
    }
}

/// Loads a compiled copy alone, without the tables it was made from: for commands that compare.
pub fn load_copy(settings: &Settings, path: &Path, now: SystemTime) -> Result<Arc<Loaded>, LoadError> {
    let refuse = |message: String| one(format!("{}: {message}", path.display()));
    let (suffixes, suffix_hash) = match &settings.suffix_list {
        None => (SuffixTable::built_in(), 0),
        Some(list) => {
            let text = source::read_file(list).and_then(source::utf8);
            let text = text.map_err(|error| one(format!("{}: {error}", list.display())))?;
            let table = SuffixTable::parse(&text).map_err(|error| one(format!("{}: {error}", list.display())))?;
            (table, content_hash(text.as_bytes()))
        }
    };
    let provider = settings.provider.clone();
    let year = Day::at(now).year();
    let circumstances = Circumstances { provider, encoding: settings.encoding.label(), suffix_hash, year };
    let state = match &settings.snapshot_keys {
        Some(keys) => saved::read_signed(path, &circumstances, keys),
        None => saved::read(path, &circumstances),
    };
    let state = state.map_err(|error| refuse(error.to_string()))?;
    Ok(Arc::new(loaded(settings, &state, 1, Arc::new(suffixes), (now, LoadTimes::default()))))
}

impl Store {
    /// Why the snapshot file was not used, where there was one.
    pub fn copy_refused(&self) -> Option<String> {
        lock(&self.copy_refused).clone()
    }

    /// Says so in the log, and to who asks; false, for nothing was restored.
    pub(super) fn refuse_copy(&self, reason: String) -> bool {
        tracing::warn!(%reason, "registry snapshot not used, loading the tables");
        *lock(&self.copy_refused) = Some(reason);
        false
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
    let refuse = |message: String| one(format!("{name}: {message}"));
    let mut state = State::default();
    let progress = Arc::default();
    let dictionary = state.table.dictionary.clone();
    let reader = FileReader {
        settings,
        suffixes: &suffixes,
        dictionary: &dictionary,
        key: state.key,
        year: Day::at(now).year(),
        now,
        arena: &state.table.arena,
        progress: &progress,
    };
    let mut draft = Draft::new(&state.table.arena, &state.table.places, &[]);
    let format = format_of(name).map_err(refuse)?;
    let stamp = Stamp { octets: octets.len() as u64, ..Stamp::default() };
    let text = source::text_reader(name, Box::new(std::io::Cursor::new(octets)), settings.encoding)
        .map_err(|error| refuse(error.to_string()))?;
    let text = Text { name: name.into(), reader: text, stamp };
    let change = reader.read_text(format, text, None, &mut draft).map_err(|error| refuse(error.to_string()))?;
    let (FileChange::Appended(file, _) | FileChange::Replaced(file)) = change else {
        return Err(refuse("says nothing".to_owned()));
    };
    let read = Read {
        files: BTreeMap::from([(PathBuf::from(name), Arc::new(file))]),
        draft,
        appended: Vec::new(),
        replaced: true,
        differs: true,
    };
    let plan = plan(&reader, &state, read).map_err(|full| refuse(full.to_string()))?;
    state.commit(plan);
    Ok(loaded(settings, &state, 1, suffixes, (now, progress.times())))
}

/// A table of suffixes with the hash of its list.
pub(super) struct Suffixes(pub Arc<SuffixTable>, pub u64);

impl std::ops::Deref for Suffixes {
    type Target = SuffixTable;

    fn deref(&self) -> &SuffixTable {
        &self.0
    }
}

/// What a look at all files found.
pub(super) struct Read {
    pub files: BTreeMap<PathBuf, Arc<FileState>>,
    pub draft: Draft,
    /// Changes files that only grew, with what is new.
    pub appended: Vec<(PathBuf, ParsedChanges)>,
    /// True when anything but growth of changes files happened.
    pub replaced: bool,
    pub differs: bool,
}

/// Why files were not read to their ends.
pub(super) enum Unread {
    /// There are more new rows than there is room for beside the old ones.
    NeedsRoom,
    /// A file is unfit.
    Refused(LoadError),
}

impl From<LoadError> for Unread {
    fn from(error: LoadError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unread> for LoadError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NeedsRoom => one("more rows are new than there is room for".to_owned()),
            Unread::Refused(error) => error,
        }
    }
}

/// Looks at all files; new rows may take up to `room` octets.
pub(super) fn read_files(
    reader: &FileReader<'_>,
    state: &State,
    old_files: &BTreeMap<PathBuf, Arc<FileState>>,
    paths: &[PathBuf],
    look: Look,
    room: usize,
) -> Result<Read, Unread> {
    let mut draft = Draft { room, ..Draft::new(&state.table.arena, &state.table.places, &state.free) };
    // Where the old rows made room, the new ones wait beside them until the old look-up table is gone.
    if state.table.arena.is_moved_out()
        && let Ok(file) = NamelessFile::create_in(&reader.settings.room_directory())
    {
        draft.builder = draft.builder.into_file(file);
    }
    let mut res = BTreeMap::new();
    let (mut appended, mut reasons) = (Vec::new(), Vec::new());
    let mut replaced = false;
    let octets = |path: &PathBuf| std::fs::metadata(path).map_or(0, |data| data.len());
    reader.progress.expect(|| paths.iter().map(octets).sum());
    for path in paths {
        let old = old_files.get(path);
        let file = match reader.read(path, old.map(|old| &**old), look, &mut draft) {
            Ok(FileChange::None(None)) => {
                res.extend(old.map(|old| (path.clone(), old.clone())));
                continue;
            }
            Ok(FileChange::None(Some(file))) => file,
            Ok(FileChange::Replaced(file)) => {
                replaced = true;
                file
            }
            Ok(FileChange::Appended(file, parsed)) => {
                appended.push((path.clone(), parsed));
                file
            }
            Err(_) if draft.is_over => return Err(Unread::NeedsRoom),
            Err(message) => {
                reasons.push(format!("{}: {message}", path.display()));
                continue;
            }
        };
        res.insert(path.clone(), Arc::new(file));
    }
    if !reasons.is_empty() {
        return Err(Unread::Refused(LoadError { reasons }));
    }
    // Files that are gone, or that were all read anew, take their rows with them.
    for (path, file) in
        state.files.iter().filter(|(path, _)| !res.contains_key(*path) || !old_files.contains_key(*path))
    {
        replaced |= !res.contains_key(path);
        if let Content::Table(table) = &file.content {
            draft.free.extend(table.blocks.iter().map(|block| block.number));
            draft.removed.extend_from_slice(&table.blocks);
        }
    }
    // An event whose time has come may stand before others: all are applied anew.
    replaced |= state.events.next_due().is_some_and(|due| due <= reader.now);
    let differs = replaced || !appended.is_empty();
    Ok(Read { files: res, draft, appended, replaced, differs })
}

/// Plans what would be published.
pub(super) fn plan(reader: &FileReader<'_>, state: &State, read: Read) -> Result<Plan, ArenaFull> {
    let view = Viewpoint { provider: &reader.settings.provider, now: reader.now, progress: reader.progress };
    let changes = |file: &FileState| matches!(&file.content, Content::Changes(changes) if changes.events > 0);
    let last_changes = read.files.iter().rev().find(|(_, file)| changes(file)).map(|(path, _)| path.clone());
    if !read.replaced
        && read.appended.len() == 1
        && let Some((path, parsed)) = read.appended.into_iter().next()
    {
        // Events behind all others apply on top of what they did.
        let is_last = last_changes.is_none_or(|last| last == path);
        if is_last {
            return state.plan_events(read.files, NewEvents { path, events: parsed.events }, view);
        }
    }
    let events: Vec<NewEvents> = read
        .files
        .iter()
        .filter_map(|(path, file)| match &file.content {
            Content::Changes(changes) => {
                let name = path.to_string_lossy().into();
                Some(NewEvents { path: path.clone(), events: reader.events(changes, &name) })
            }
            Content::Table(_) => None,
        })
        .collect();
    state.plan(read.files, read.draft, events, view)
}

/// What a state shows: a function of it.
pub(super) fn loaded(
    settings: &Settings,
    state: &State,
    generation: u64,
    suffixes: Arc<SuffixTable>,
    (loaded_at, times): (SystemTime, LoadTimes),
) -> Loaded {
    let summaries = state.files.iter().map(|(path, file)| FileSummary {
        path: path.clone(),
        octets: file.stamp.octets,
        rows: file.rows(),
        bad_rows: file.bad_rows(),
    });
    Loaded {
        files: summaries.collect(),
        digest: state.table.tally.digest,
        issues: Arc::new(state.issues(&settings.provider)),
        snapshot: Arc::new(
            Snapshot::of_table(generation, suffixes, settings.bind_check, state.table.clone())
                .with_schedule(Schedule::of(&state.events.waiting)),
        ),
        loaded_at,
        times,
    }
}

pub(super) fn one(reason: String) -> LoadError {
    LoadError { reasons: vec![reason] }
}
