//! The registry as its keeper remembers it, and the plan of a reload: what would be published if it is admitted.
//!
//! Table rows are in the arena as long as their block stands in a file. A look-up leads to one entry a name: the only
//! table row, the one of several that counts, or what events made of it. For names whose slot does not lead to their only
//! table row, [`State::rows_of`] remembers the table rows, so that an edit or an event taken back brings them back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Filing;
use super::arena::{Arena, ArenaBuilder, ArenaFull, Places, Rows};
use super::dictionary::Remembered;
use super::diff::{Change, Diff, Standing, compare_rows};
use super::event::{Applying, Event, EventRows, apply_events, subject_of};
use super::files::{Content, Draft, FileState, KnownBlock, at_line};
use super::index::Slots;
use super::issue::Issue;
use super::merge::{choose, report};
use super::parse::ISSUES_MAX;
use super::record::main_number_hash;
use super::scan::BlockKey;
use super::snapshot::{Recount, Table};
use crate::model::{Day, DomainName, NameRef, Status};

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
    files: BTreeMap<PathBuf, Arc<FileState>>,
    /// Per name its table rows, or that there is nothing to remember; all of them after a rebuild.
    rows_of: HashMap<NameBox, Option<Vec<u32>>>,
    contested: HashMap<NameBox, bool>,
    is_rebuilt: bool,
    events: Events,
    free: Vec<u32>,
}

impl State {
    /// Findings of parsing, merging and events, by file and line; at most [`ISSUES_MAX`] of each file's rows.
    pub fn issues(&self) -> Vec<Issue> {
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
            report(&mut rows.iter().map(|&position| self.table.filing(position)).collect::<Vec<_>>(), &mut res);
        }
        res.extend(self.events.issues.iter().cloned());
        res.sort_by(|a, b| (&a.file, a.line, a.severity).cmp(&(&b.file, b.line, b.severity)));
        res
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
        let count = |blocks: &[KnownBlock]| blocks.iter().map(|b| arena.count(b.begin, b.end)).sum::<usize>();
        let touched = count(&draft.added) + count(&draft.removed);
        let rebuilds = self.table.is_empty() || touched > OVERLAY_ROWS_MIN.max(self.table.len() / REBUILD_SHARE);
        let mut work = Work::new(self, arena, draft.places, draft.free);
        if rebuilds {
            work.index(&files, &draft.added, &draft.removed);
        } else {
            work.overlay(&draft.added, &draft.removed, draft.is_reordered);
        }
        work.take_events_back();
        work.apply(events, &mut Events::default(), view.now);
        work.finish(files, view)
    }

    /// Plans for events appended behind all others.
    pub fn plan_events(
        &self,
        files: BTreeMap<PathBuf, Arc<FileState>>,
        events: NewEvents,
        view: Viewpoint<'_>,
    ) -> Result<Plan, ArenaFull> {
        let table = &self.table;
        let mut work = Work::new(self, table.arena.clone(), table.places.clone(), self.free.clone());
        work.apply(vec![events], &mut self.events.clone(), view.now);
        work.finish(files, view)
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

/// A plan in the making.
struct Work<'a> {
    old: &'a State,
    arena: Arena,
    places: Arc<Places>,
    free: Vec<u32>,
    /// The new look-up table; `None` while the old one with a new overlay does.
    base: Option<Recount>,
    rows_of: HashMap<NameBox, Option<Vec<u32>>>,
    contested: HashMap<NameBox, bool>,
    /// Names that may differ, with the table row that counts now.
    touched: HashMap<NameBox, Option<u32>>,
    /// Rows by events.
    made: HashMap<DomainName, Filing>,
    events: Events,
}

impl<'a> Work<'a> {
    fn new(old: &'a State, arena: Arena, places: Arc<Places>, free: Vec<u32>) -> Self {
        Self {
            old,
            arena,
            places,
            free,
            base: None,
            rows_of: HashMap::new(),
            contested: HashMap::new(),
            touched: HashMap::new(),
            made: HashMap::new(),
            events: old.events.clone(),
        }
    }

    fn name(&self, position: u32) -> NameRef<'_> {
        self.arena.entry(position).name()
    }

    fn filing(&self, position: u32) -> Filing {
        self.arena.filing(position, &self.old.table.dictionary, &self.places)
    }

    //--- Tables ------------------------------------------------------------------------------------------------------

    /// Builds the look-up table anew from every block of every file.
    fn index(&mut self, files: &BTreeMap<PathBuf, Arc<FileState>>, added: &[KnownBlock], removed: &[KnownBlock]) {
        let blocks = files.values().filter_map(|file| match &file.content {
            Content::Table(table) => Some(&table.blocks),
            Content::Changes(_) => None,
        });
        let spans: Vec<(u32, u32)> = blocks.flatten().map(|block| (block.begin, block.end)).collect();
        let rows: usize = files.values().map(|file| file.rows()).sum();
        let mut several: HashMap<u32, Vec<u32>> = HashMap::new();
        let arena = &self.arena;
        let positions = spans.iter().flat_map(|&(begin, end)| arena.span(begin, end));
        let mut base = Recount::index(arena, self.old.table.key, rows, positions, |before, at| {
            several.entry(before).or_insert_with(|| vec![before]).push(at);
        });
        for (before, rows) in several {
            let choice = choose(rows.len(), |i| self.filing(rows[i]));
            let name = self.name(before);
            base.redirect(&self.arena, name, before, rows[choice.at]);
            let name: NameBox = name.wire().into();
            self.contested.insert(name.clone(), choice.is_contested);
            self.rows_of.insert(name, Some(rows));
        }
        // Without an old state there is nothing to compare with, and every name is new.
        if !self.old.table.is_empty() {
            for block in added.iter().chain(removed) {
                for position in self.arena.span(block.begin, block.end) {
                    let name = self.arena.entry(position).name();
                    self.touched.entry(name.wire().into()).or_insert_with(|| base.find(&self.arena, name));
                }
            }
        }
        self.base = Some(base);
    }

    /// Finds the table row that counts for every name that rows came or went of; where blocks changed their order, for
    /// every name with several rows.
    fn overlay(&mut self, added: &[KnownBlock], removed: &[KnownBlock], is_reordered: bool) {
        let positions = |blocks: &[KnownBlock]| -> Vec<u32> {
            blocks.iter().flat_map(|block| self.arena.span(block.begin, block.end)).collect()
        };
        let (came, went) = (positions(added), positions(removed));
        let gone: HashSet<u32> = went.iter().copied().collect();
        let mut rows: HashMap<NameBox, Vec<u32>> = HashMap::new();
        for &position in &went {
            let name = self.name(position);
            rows.entry(name.wire().into()).or_insert_with(|| self.old.table_rows(name));
        }
        for &position in &came {
            let name = self.name(position);
            rows.entry(name.wire().into()).or_insert_with(|| self.old.table_rows(name)).push(position);
        }
        if is_reordered {
            for (name, known) in self.old.rows_of.iter().filter(|(_, known)| known.len() > 1) {
                rows.entry(name.clone()).or_insert_with(|| known.clone());
            }
        }
        for (name, mut rows) in rows {
            rows.retain(|position| !gone.contains(position));
            rows.sort_unstable();
            let choice = choose(rows.len(), |i| self.filing(rows[i]));
            self.touched.insert(name.clone(), rows.get(choice.at).copied());
            self.contested.insert(name.clone(), rows.len() > 1 && choice.is_contested);
            self.rows_of.insert(name, (rows.len() > 1).then_some(rows));
        }
    }

    /// The table rows of a name as they are now.
    fn table_rows(&self, name: NameRef<'_>) -> Vec<u32> {
        match (self.rows_of.get(name.wire()), self.touched.get(name.wire())) {
            (Some(Some(rows)), _) => rows.clone(),
            (_, Some(only)) => only.iter().copied().collect(),
            (None, None) => match &self.base {
                Some(base) => base.find(&self.arena, name).into_iter().collect(),
                None => self.old.table_rows(name),
            },
            (Some(None), None) => Vec::new(),
        }
    }

    /// The table row that counts for a name now.
    fn table_row(&self, name: NameRef<'_>) -> Option<u32> {
        if let Some(&row) = self.touched.get(name.wire()) {
            return row;
        }
        if let Some(base) = &self.base {
            return base.find(&self.arena, name);
        }
        let rows = self.old.table_rows(name);
        rows.get(choose(rows.len(), |i| self.filing(rows[i])).at).copied()
    }

    //--- Events ------------------------------------------------------------------------------------------------------

    /// Lets every name that events touched lead to its table row again.
    fn take_events_back(&mut self) {
        let old = self.old;
        for name in &old.events.names {
            let name_ref = NameRef::from_canonical_wire(name);
            let rows = self.table_rows(name_ref);
            let row = self.table_row(name_ref);
            self.touched.insert(name.clone(), row);
            self.rows_of.entry(name.clone()).or_insert_with(|| (rows.len() > 1).then_some(rows));
        }
        self.events.names.clear();
    }

    fn apply(&mut self, events: Vec<NewEvents>, so_far: &mut Events, now: SystemTime) {
        for new in events {
            let mut last_seq = so_far.last_seq.get(&new.path).copied().unwrap_or(0);
            let (issues, waiting) = (&mut so_far.issues, &mut so_far.waiting);
            apply_events(self, &new.events, Applying { now, last_seq: &mut last_seq, issues, waiting });
            so_far.last_seq.insert(new.path, last_seq);
        }
        self.events.issues = std::mem::take(&mut so_far.issues);
        self.events.last_seq = std::mem::take(&mut so_far.last_seq);
        self.events.waiting = std::mem::take(&mut so_far.waiting);
    }

    //--- Finishing ---------------------------------------------------------------------------------------------------

    fn finish(mut self, files: BTreeMap<PathBuf, Arc<FileState>>, view: Viewpoint<'_>) -> Result<Plan, ArenaFull> {
        for domain in self.made.keys() {
            let name: NameBox = domain.wire().into();
            // The slot is about to lead elsewhere: its table rows must be known without it.
            if !self.rows_of.get(&name).is_some_and(Option::is_some) {
                let rows = self.table_rows(domain.as_ref());
                self.rows_of.insert(name.clone(), Some(rows));
            }
            let table_row = self.table_row(domain.as_ref());
            self.touched.entry(name.clone()).or_insert(table_row);
            self.events.names.insert(name);
        }
        let targets = self.pack_made(view.provider)?;
        let (table, is_rebuilt) = self.look_up_table(&targets);
        let diff = self.difference(&table, Day::at(view.now));
        let Self { rows_of, contested, events, free, .. } = self;
        Ok(Plan { table, diff, files, rows_of, contested, is_rebuilt, events, free })
    }

    /// Packs rows by events and tombstones; gives where each touched name is to lead.
    fn pack_made(&mut self, provider: &str) -> Result<Vec<(NameBox, u32)>, ArenaFull> {
        let mut by_file: BTreeMap<Arc<str>, Vec<&Filing>> = BTreeMap::new();
        for filing in self.made.values() {
            by_file.entry(filing.file.clone()).or_default().push(filing);
        }
        let mut builder = ArenaBuilder::after(&self.arena);
        let mut remembered = Remembered::default();
        let mut targets = Vec::with_capacity(self.touched.len());
        for (file, mut filings) in by_file {
            filings.sort_by(|a, b| a.domain.cmp(&b.domain));
            let known = self.events.blocks.get(Path::new(&*file)).copied();
            let block = known.unwrap_or_else(|| {
                event_block(&mut self.events, Arc::make_mut(&mut self.places), &mut self.free, &file)
            });
            let mut rows = Rows::default();
            for filing in &filings {
                rows.push(&self.old.table.dictionary, &mut remembered, provider, filing, filing.line);
            }
            let base = builder.append(&mut rows, &[(0, block)])?;
            let places = filings.iter().zip(&rows.begins);
            targets.extend(places.map(|(filing, begin)| (filing.domain.wire().into(), base + begin)));
        }
        let mut tombstones = Rows::default();
        let mut gone = Vec::new();
        for (name, row) in &self.touched {
            let is_made = self.events.names.contains(name);
            match row {
                Some(position) if !is_made => targets.push((name.clone(), *position)),
                None if !is_made && self.base.is_none() => {
                    tombstones.push_tombstone(name);
                    gone.push(name.clone());
                }
                _ => {}
            }
        }
        if !gone.is_empty() {
            let base = builder.append(&mut tombstones, &[])?;
            targets.extend(gone.into_iter().zip(tombstones.begins).map(|(name, begin)| (name, base + begin)));
        }
        self.arena = builder.finish();
        Ok(targets)
    }

    fn look_up_table(&mut self, targets: &[(NameBox, u32)]) -> (Table, bool) {
        let old = &self.old.table;
        let places = self.places.clone();
        let whole = |base, overlay, tally| Table {
            base,
            overlay,
            arena: self.arena.clone(),
            dictionary: old.dictionary.clone(),
            places,
            key: old.key,
            tally,
        };
        match self.base.take() {
            Some(mut base) => {
                for (name, position) in targets {
                    base.lead(&self.arena, NameRef::from_canonical_wire(name), *position);
                }
                let (slots, tally) = base.finish();
                (whole(Arc::new(slots), Arc::new(Slots::with_room(0)), tally), true)
            }
            None => {
                let overlay = old.overlaid(&self.arena, targets);
                let mut tally = old.tally;
                for (name, position) in targets {
                    if let Some(before) = old.find(NameRef::from_canonical_wire(name)) {
                        tally.take(old.arena.entry(before));
                    }
                    let entry = self.arena.entry(*position);
                    if !entry.is_tombstone() {
                        tally.add(entry);
                    }
                }
                (whole(old.base.clone(), Arc::new(overlay), tally), false)
            }
        }
    }

    fn difference(&self, table: &Table, today: Day) -> Diff {
        let old = &self.old.table;
        if old.is_empty() {
            return Diff { added: table.len(), ..Diff::default() };
        }
        let mut res = Diff::default();
        for name in self.touched.keys() {
            let name = NameRef::from_canonical_wire(name);
            let (before, now) = (old.find(name), table.find(name));
            let standing =
                |table: &Table, row: Option<u32>| row.map(|row| Standing::of(&table.arena.entry(row).facts(), today));
            res.count_standing(standing(old, before), standing(table, now));
            match (before, now) {
                (None, None) => {}
                (Some(_), None) => res.count(Change::Removed(name.to_name())),
                (None, Some(_)) => res.count(Change::Added(name.to_name())),
                (Some(before), Some(now)) => {
                    if let Some(what) = compare_rows(old, before, table, now) {
                        res.count(Change::Changed(name.to_name(), what));
                    }
                }
            }
        }
        res.sort();
        res
    }
}

/// A new block for rows made by events of `file`; its lines are the file's.
fn event_block(events: &mut Events, places: &mut Places, free: &mut Vec<u32>, file: &Arc<str>) -> u32 {
    let number = places.file_number(file);
    let block = match free.pop() {
        Some(block) => {
            places.blocks[block as usize] = (number, 0);
            block
        }
        None => places.add(number, 0),
    };
    events.blocks.insert(PathBuf::from(&**file), block);
    block
}

impl State {
    /// Positions of the table rows of a name.
    fn table_rows(&self, name: NameRef<'_>) -> Vec<u32> {
        match self.rows_of.get(name.wire()) {
            Some(rows) => rows.clone(),
            None => self.table.find(name).into_iter().collect(),
        }
    }
}

impl EventRows for Work<'_> {
    fn row(&self, domain: &DomainName) -> Option<Filing> {
        if let Some(row) = self.made.get(domain) {
            return Some(row.clone());
        }
        if self.events.names.contains(domain.wire()) {
            // Made by an event applied before: only while events are appended.
            return self.old.table.find(domain.as_ref()).map(|position| self.filing(position));
        }
        self.table_row(domain.as_ref()).map(|position| self.filing(position))
    }

    fn rows_of_subject(&self, main_number: &str) -> Vec<Filing> {
        let positions = self.arena.of_subject(main_number_hash(main_number));
        let of_arena = positions.into_iter().map(|position| self.name(position).to_name());
        let domains: BTreeSet<DomainName> = of_arena.chain(self.made.keys().cloned()).collect();
        let stands_under = |row: &Filing| {
            let of_site = row.site_no.as_deref().map(super::event::main_number);
            subject_of(row).as_deref() == Some(main_number) || of_site.as_deref() == Some(main_number)
        };
        domains.iter().filter_map(|domain| self.row(domain)).filter(stands_under).collect()
    }

    fn replace(&mut self, row: Filing) {
        self.made.insert(row.domain.clone(), row);
    }
}
