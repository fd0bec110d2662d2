//! The registry as its keeper remembers it, and the plan of a reload: what would be published if it is admitted.
//!
//! Table rows are in the arena as long as their block stands in a file. A look-up leads to one entry a name: the only
//! table row, the one of several that counts, or what events made of it. For names whose slot does not lead to their only
//! table row, [`State::rows_of`] remembers the table rows, so that an edit or an event taken back brings them back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::arena::ArenaFull;
use super::diff::Diff;
use super::event::Event;
use super::files::{Content, Draft, FileState, KnownBlock, at_line};
use super::issue::Issue;
use super::merge::report;
use super::parse::ISSUES_MAX;
use super::scan::BlockKey;
use super::table::Table;
use super::work::Work;
use crate::model::{DomainName, NameRef, Status};

/// A name in wire form, as a key.
pub type NameBox = Box<[u8]>;

/// More of the rows than this share (one in so many) touched at once, and the look-up table is built anew.
const REBUILD_SHARE: usize = 32;
/// Up to so many touched rows the look-up table is never built anew: it takes longer than an overlay.
const OVERLAY_ROWS_MIN: usize = 4096;

/// See the module's text. A copy shares everything large.
#[derive(Clone)]
pub struct State {
    /// Rows and look-up tables, events applied.
    pub table: Table,
    /// By path.
    pub files: BTreeMap<PathBuf, Arc<FileState>>,
    /// Table rows of names whose slot does not lead to their only one.
    pub rows_of: Arc<HashMap<NameBox, Vec<u32>>>,
    /// Names whose rows contradict each other.
    pub contested: Arc<BTreeSet<NameBox>>,
    /// What events did.
    pub events: Events,
    /// Numbers that no block has.
    pub free: Vec<u32>,
    /// Of block hashes.
    pub key: BlockKey,
}

/// What events did.
#[derive(Clone, Default)]
pub struct Events {
    /// Names whose row is by an event.
    pub names: HashSet<NameBox>,
    /// Findings of applying.
    pub issues: Vec<Issue>,
    /// Number of the last event applied, by file.
    pub last_seq: BTreeMap<PathBuf, u64>,
    /// The block that rows made by events of a file stand in.
    pub blocks: BTreeMap<PathBuf, u32>,
    /// Times of events that wait, with the domains concerned.
    pub waiting: Vec<(SystemTime, Option<DomainName>)>,
}

impl Events {
    /// When the next waiting event is due.
    pub fn next_due(&self) -> Option<SystemTime> {
        self.waiting.iter().map(|(at, _)| *at).min()
    }
}

/// New events of one file.
pub struct NewEvents {
    /// The file.
    pub path: PathBuf,
    /// In order.
    pub events: Vec<Event>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            table: Table::empty(),
            files: BTreeMap::new(),
            rows_of: Arc::default(),
            contested: Arc::default(),
            events: Events::default(),
            free: Vec::new(),
            key: BlockKey::random(),
        }
    }
}

/// What a reload would publish.
pub struct Plan {
    /// Rows and look-up tables.
    pub table: Table,
    /// Against the state the plan was made on.
    pub diff: Diff,
    pub(super) files: BTreeMap<PathBuf, Arc<FileState>>,
    /// Per name its table rows, or that there is nothing to remember; all of them after a rebuild.
    pub(super) rows_of: HashMap<NameBox, Option<Vec<u32>>>,
    pub(super) contested: HashMap<NameBox, bool>,
    pub(super) is_rebuilt: bool,
    pub(super) events: Events,
    pub(super) free: Vec<u32>,
}

impl State {
    /// Findings of parsing, merging and events, by file and line; at most [`ISSUES_MAX`] of each file's rows.
    /// `provider` is the one the state was planned for: of contradicting rows it is told which counts for it.
    pub fn issues(&self, provider: &str) -> Vec<Issue> {
        let mut res = Vec::new();
        for file in self.files.values() {
            match &file.content {
                Content::Changes(changes) => res.extend(changes.issues.iter().cloned()),
                Content::Table(table) => {
                    for (&number, found) in &table.findings {
                        let (_, first_line) = self.table.places.of(number);
                        res.extend(found.issues.iter().map(|issue| at_line(issue, first_line)));
                    }
                }
            }
        }
        for name in self.contested.iter().take(ISSUES_MAX) {
            let rows = self.table_rows(NameRef::from_canonical_wire(name));
            report(
                provider,
                &mut rows.iter().map(|&position| self.table.filing(position)).collect::<Vec<_>>(),
                &mut res,
            );
        }
        res.extend(self.events.issues.iter().cloned());
        res.sort_by(|a, b| (&a.file, a.line, a.severity).cmp(&(&b.file, b.line, b.severity)));
        res
    }

    /// Octets of new rows that a reload may hold in memory beside the old ones, where those take at least `from`: as many
    /// as an overlay takes. More of them, and the old ones are moved out first.
    pub fn room(&self, from: usize) -> usize {
        let [entries, cold, _] = self.table.arena.octets();
        let has_room = entries + cold < from || self.table.arena.is_moved_out();
        if has_room { usize::MAX } else { (entries + cold) / REBUILD_SHARE }
    }

    /// How many rows are in force.
    pub fn active(&self) -> usize {
        self.table.tally.by_status[Status::Active as usize]
    }

    /// Takes an admitted plan over.
    pub fn commit(&mut self, plan: Plan) {
        if plan.is_rebuilt {
            self.rows_of = Arc::default();
            self.contested = Arc::default();
        }
        // Shared with a state that is being tidied at most; then that one keeps its own.
        for (name, rows) in plan.rows_of {
            match rows {
                Some(rows) => drop(Arc::make_mut(&mut self.rows_of).insert(name, rows)),
                None if self.rows_of.contains_key(&name) => drop(Arc::make_mut(&mut self.rows_of).remove(&name)),
                None => {}
            }
        }
        for (name, is_contested) in plan.contested {
            if is_contested != self.contested.contains(&name) {
                let contested = Arc::make_mut(&mut self.contested);
                let _ = if is_contested { contested.insert(name) } else { contested.remove(&name) };
            }
        }
        self.table = plan.table;
        self.files = plan.files;
        self.events = plan.events;
        self.free = plan.free;
    }

    /// Plans for changed tables: `files` is what all files say now, `draft` what came and went.
    ///
    /// Every event is applied anew, since the rows below them may have changed.
    pub fn plan(
        &self,
        files: BTreeMap<PathBuf, Arc<FileState>>,
        draft: Draft,
        events: Vec<NewEvents>,
        view: Viewpoint<'_>,
    ) -> Result<Plan, ArenaFull> {
        let arena = draft.builder.finish();
        let count = |blocks: &[KnownBlock]| blocks.iter().map(|block| block.rows as usize).sum::<usize>();
        let touched = count(&draft.added) + count(&draft.removed);
        let rebuilds = self.table.is_empty() || touched > OVERLAY_ROWS_MIN.max(self.table.len() / REBUILD_SHARE);
        let mut work = Work::new(self, view.provider, arena, draft.places, draft.free);
        if rebuilds {
            work.index(&files, &draft.added, &draft.removed);
        } else {
            work.overlay(&draft.added, &draft.removed, draft.is_reordered);
        }
        work.take_events_back();
        work.apply(events, &mut Events::default(), view.now);
        work.finish(files, view.now)
    }

    /// Plans for events appended behind all others.
    pub fn plan_events(
        &self,
        files: BTreeMap<PathBuf, Arc<FileState>>,
        events: NewEvents,
        view: Viewpoint<'_>,
    ) -> Result<Plan, ArenaFull> {
        let table = &self.table;
        let (arena, places) = (table.arena.clone(), table.places.clone());
        let mut work = Work::new(self, view.provider, arena, places, self.free.clone());
        work.apply(vec![events], &mut self.events.clone(), view.now);
        work.finish(files, view.now)
    }
}

/// What plans are made from.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint<'a> {
    /// Whose access is "here".
    pub provider: &'a str,
    /// The time.
    pub now: SystemTime,
}

impl State {
    /// Positions of the table rows of a name.
    pub(super) fn table_rows(&self, name: NameRef<'_>) -> Vec<u32> {
        match self.rows_of.get(name.wire()) {
            Some(rows) => rows.clone(),
            None => self.table.find(name).into_iter().collect(),
        }
    }
}
