//! A plan in the making: which table row counts for a name, what events make of it, and where its slot is to lead.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Filing;
use super::arena::{Arena, ArenaBuilder, ArenaFull, Places, Rows, split};
use super::dictionary::Remembered;
use super::diff::Diff;
use super::event::{Applying, EventRows, apply_events, subject_of};
use super::files::{Content, FileState, KnownBlock};
use super::index::Slots;
use super::merge::choose;
use super::moves::{Comparison, Moves};
use super::record::main_number_hash;
use super::state::{Events, NameBox, NewEvents, Plan, State};
use super::table::{Recount, Table};
use crate::model::{Day, DomainName, NameRef};

/// A plan in the making.
pub(super) struct Work<'a> {
    old: &'a State,
    /// Whose access is "here".
    provider: &'a str,
    arena: Arena,
    places: Arc<Places>,
    free: Vec<u32>,
    /// The new look-up table; `None` while the old one with a new overlay does.
    base: Option<Recount>,
    /// Blocks whose rows came and went, where the look-up table is new.
    moves: Moves,
    rows_of: HashMap<NameBox, Option<Vec<u32>>>,
    contested: HashMap<NameBox, bool>,
    /// Names that may differ, with the table row that counts now.
    touched: HashMap<NameBox, Option<u32>>,
    /// Rows by events.
    made: HashMap<DomainName, Filing>,
    events: Events,
}

impl<'a> Work<'a> {
    pub(super) fn new(old: &'a State, provider: &'a str, arena: Arena, places: Arc<Places>, free: Vec<u32>) -> Self {
        Self {
            old,
            provider,
            arena,
            places,
            free,
            base: None,
            moves: Moves::default(),
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
    pub(super) fn index(
        &mut self,
        files: &BTreeMap<PathBuf, Arc<FileState>>,
        added: &[KnownBlock],
        removed: &[KnownBlock],
    ) {
        let blocks = files.values().filter_map(|file| match &file.content {
            Content::Table(table) => Some(&table.blocks),
            Content::Changes(_) => None,
        });
        let spans: Vec<(u32, u32)> = blocks.flatten().map(|block| (block.begin, block.end)).collect();
        self.arena = self.arena.with_only(&spans);
        let rows: usize = files.values().map(|file| file.rows()).sum();
        let octets = spans.iter().map(|&(begin, end)| (end - begin) as usize).sum();
        let mut several: HashMap<u32, Vec<u32>> = HashMap::new();
        let arena = &self.arena;
        let mut highest = 0;
        let positions = spans.iter().flat_map(|&(begin, end)| {
            let (chunk, _) = split(begin);
            // Rows in a file are read in order: of what was read little is needed again.
            if chunk > highest {
                highest = chunk;
                arena.let_go();
            }
            arena.span(begin, end)
        });
        let mut base = Recount::index(arena, self.old.table.key, (rows, octets), positions, |before, at| {
            several.entry(before).or_insert_with(|| vec![before]).push(at);
        });
        for (before, rows) in several {
            let choice = choose(self.provider, rows.len(), |i| self.filing(rows[i]));
            let name = self.name(before);
            base.redirect(&self.arena, name, before, rows[choice.at]);
            let name: NameBox = name.wire().into();
            self.contested.insert(name.clone(), choice.is_contested);
            // Another order of the same rows may have led elsewhere.
            self.touched.insert(name.clone(), Some(rows[choice.at]));
            self.rows_of.insert(name, Some(rows));
        }
        self.base = Some(base);
        self.moves = Moves::new(added, removed);
        self.arena.let_go();
    }

    /// Finds the table row that counts for every name that rows came or went of; where blocks changed their order, for
    /// every name with several rows.
    pub(super) fn overlay(&mut self, added: &[KnownBlock], removed: &[KnownBlock], is_reordered: bool) {
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
            let choice = choose(self.provider, rows.len(), |i| self.filing(rows[i]));
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
        rows.get(choose(self.provider, rows.len(), |i| self.filing(rows[i])).at).copied()
    }

    //--- Events ------------------------------------------------------------------------------------------------------

    /// Lets every name that events touched lead to its table row again.
    pub(super) fn take_events_back(&mut self) {
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

    pub(super) fn apply(&mut self, events: Vec<NewEvents>, so_far: &mut Events, now: SystemTime) {
        for new in events {
            let mut last_seq = so_far.last_seq.get(&new.path).copied().unwrap_or(0);
            let (issues, waiting) = (&mut so_far.issues, &mut so_far.waiting);
            let provider = self.provider;
            apply_events(self, &new.events, Applying { provider, now, last_seq: &mut last_seq, issues, waiting });
            so_far.last_seq.insert(new.path, last_seq);
        }
        self.events.issues = std::mem::take(&mut so_far.issues);
        self.events.last_seq = std::mem::take(&mut so_far.last_seq);
        self.events.waiting = std::mem::take(&mut so_far.waiting);
    }

    //--- Finishing ---------------------------------------------------------------------------------------------------

    pub(super) fn finish(
        mut self,
        files: BTreeMap<PathBuf, Arc<FileState>>,
        now: SystemTime,
    ) -> Result<Plan, ArenaFull> {
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
        let targets = self.pack_made()?;
        let (table, is_rebuilt) = self.look_up_table(&targets);
        let diff = self.difference(&table, Day::at(now));
        let Self { rows_of, contested, events, free, .. } = self;
        Ok(Plan { table, diff, files, rows_of, contested, is_rebuilt, events, free })
    }

    /// Packs rows by events and tombstones; gives where each touched name is to lead.
    fn pack_made(&mut self) -> Result<Vec<(NameBox, u32)>, ArenaFull> {
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
                rows.push(&self.old.table.dictionary, &mut remembered, self.provider, filing, filing.line);
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
                let (base, tally) = base.finish();
                (whole(Arc::new(base), Arc::new(Slots::with_room(0)), tally), true)
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
        // Without an old state there is nothing to compare with, and every name is new.
        if old.is_empty() {
            return Diff { added: table.len(), ..Diff::default() };
        }
        let comparison = Comparison { old, new: table, today };
        let mut res = self.moves.difference(&comparison, |name| self.touched.contains_key(name.wire()));
        for name in self.touched.keys() {
            let name = NameRef::from_canonical_wire(name);
            comparison.count(&mut res, name, old.find(name), table.find(name));
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
