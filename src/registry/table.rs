//! The rows of one moment with their look-up tables, and figures over them that are kept while rows come and go.
//!
//! A small overlay table in front of the base says what changed since the base was built: names that lead elsewhere and
//! names that are gone. Both hash under one key, so a look-up hashes once.

use std::sync::Arc;

use super::Filing;
use super::arena::{Arena, Places};
use super::buckets::{Buckets, NotEntered, Place, Search, Step, record_octets};
use super::dictionary::Dictionary;
use super::entry::Entry;
use super::index::{NameKey, Slots};
use crate::model::NameRef;

/// Names looked up together; enough to keep the memory busy, few enough for the first-level cache.
pub const BATCH: usize = 32;

/// The rows with their look-up tables.
#[derive(Clone)]
pub struct Table {
    /// Names with their facts and positions as of the last rebuild.
    pub base: Arc<Buckets>,
    /// What differs since.
    pub overlay: Arc<Slots>,
    /// What positions lead to.
    pub arena: Arena,
    /// Texts that rows share.
    pub dictionary: Arc<Dictionary>,
    /// Files and lines of blocks.
    pub places: Arc<Places>,
    /// Of both tables.
    pub key: NameKey,
    /// Of the rows that count.
    pub tally: Tally,
}

/// Where a look-up led.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Of the row in the arena.
    pub position: u32,
    /// Of its record, unless the overlay led there.
    pub place: Option<Place>,
}

/// Figures over rows that can be kept while rows come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows in each state, in the order of [`crate::model::Status::ALL`].
    pub by_status: [usize; 5],
    /// Sum over what verdicts read of each row: nodes with equal sums judge alike.
    pub digest: u64,
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, entry: Entry<'_>) {
        self.by_status[entry.facts().status as usize] += 1;
        self.digest = self.digest.wrapping_add(entry.digest());
    }

    /// Takes a row out again.
    pub fn take(&mut self, entry: Entry<'_>) {
        self.by_status[entry.facts().status as usize] -= 1;
        self.digest = self.digest.wrapping_sub(entry.digest());
    }
}

/// Octets a table takes, by section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Octets {
    /// Look-up tables: names with flags and dates, and the overlay.
    pub tables: usize,
    /// The same names in the order of the files.
    pub entries: usize,
    /// Cold records.
    pub records: usize,
    /// Shared texts.
    pub texts: usize,
    /// Blocks with their files and lines.
    pub blocks: usize,
}

impl Octets {
    /// What verdicts read.
    pub fn of_verdicts(self) -> usize {
        self.tables
    }

    /// All of it.
    pub fn total(self) -> usize {
        self.tables + self.entries + self.records + self.texts + self.blocks
    }
}

impl Table {
    /// No rows.
    pub fn empty() -> Self {
        Self {
            base: Arc::new(Buckets::with_room(0)),
            overlay: Arc::new(Slots::with_room(0)),
            arena: Arena::default(),
            dictionary: Arc::default(),
            places: Arc::default(),
            key: NameKey::random(),
            tally: Tally::default(),
        }
    }

    /// The same with every entry of `arena`, which has `rows`; of entries with one name the last counts.
    pub(super) fn of_arena(self, arena: Arena, rows: usize) -> Self {
        let mut repeated = Vec::new();
        let [octets, ..] = arena.octets();
        let mut base = Recount::index(&arena, self.key, (rows, octets), arena.positions(), |_, at| repeated.push(at));
        for at in repeated {
            base.lead(&arena, arena.entry(at).name(), at);
        }
        let (base, tally) = base.finish();
        Self { base: Arc::new(base), arena, tally, ..self }
    }

    /// The overlay with these names leading to these positions.
    pub fn overlaid(&self, arena: &Arena, targets: &[(Box<[u8]>, u32)]) -> Slots {
        let mut res =
            self.overlay.with_more_room(targets.len(), |position| self.key.hash(arena.entry(position).name()));
        for (name, position) in targets {
            let name = NameRef::from_canonical_wire(name);
            let hash = self.key.hash(name);
            if let Some(before) = res.insert(hash, *position, |known| arena.is_named(known, name)) {
                res.redirect(hash, before, *position);
            }
        }
        res
    }

    /// The position of exactly `name`. Cost: as [`Table::find_hashed`].
    pub fn find(&self, name: NameRef<'_>) -> Option<u32> {
        self.find_hashed(self.key.hash(name), name).map(|found| found.position)
    }

    /// The row of exactly `name`, whose hash is `hash`. Cost: usually one bucket, in a changed table one slot before it; no
    /// allocation, no lock.
    pub fn find_hashed(&self, hash: u64, name: NameRef<'_>) -> Option<Found> {
        let is_wanted = |position: u32| self.arena.is_named(position, name);
        if !self.overlay.is_empty()
            && let Some(position) = self.overlay.find(hash, is_wanted)
        {
            let is_row = !self.arena.entry(position).is_tombstone();
            return is_row.then_some(Found { position, place: None });
        }
        let place = self.base.find(hash, name, is_wanted)?;
        Some(Found { position: self.base.position(place), place: Some(place) })
    }

    /// The rows of up to [`BATCH`] names, side by side: what one waits for in memory is fetched for all of them meanwhile.
    pub fn find_together(&self, names: &[NameRef<'_>], found: &mut [Option<Found>]) {
        let mut searches = [None; BATCH];
        for (search, name) in searches.iter_mut().zip(names) {
            *search = Some(self.base.search(self.key.hash(*name)));
        }
        let searches = &mut searches[..names.len().min(BATCH)];
        if !self.overlay.is_empty() {
            self.find_in_overlay(names, searches, found);
        }
        // Each round looks at one bucket of every name that is still sought.
        while searches.iter().any(Option::is_some) {
            for ((search, name), found) in searches.iter_mut().zip(names).zip(&mut *found) {
                let Some(sought) = search else { continue };
                match self.base.go_on(sought, *name, |position| self.arena.is_named(position, *name)) {
                    Step::Next => continue,
                    Step::Missing => {}
                    Step::Found(place) => {
                        *found = Some(Found { position: self.base.position(place), place: Some(place) });
                    }
                }
                *search = None;
            }
        }
    }

    /// Ends the searches for names that the overlay knows.
    fn find_in_overlay(&self, names: &[NameRef<'_>], searches: &mut [Option<Search>], found: &mut [Option<Found>]) {
        for ((search, name), found) in searches.iter_mut().zip(names).zip(found) {
            let Some(sought) = search else { continue };
            let is_wanted = |position: u32| self.arena.is_named(position, *name);
            let Some(position) = self.overlay.find(sought.hash(), is_wanted) else { continue };
            let is_row = !self.arena.entry(position).is_tombstone();
            *found = is_row.then_some(Found { position, place: None });
            *search = None;
        }
    }

    /// Positions of the rows that count, ascending: rows of a block together, blocks as they were read.
    pub fn positions(&self) -> Vec<u32> {
        let overlaid: std::collections::HashSet<u32> = self
            .overlay
            .positions()
            .filter_map(|position| {
                let name = self.arena.entry(position).name();
                let place = self.base.find(self.key.hash(name), name, |known| self.arena.is_named(known, name))?;
                Some(self.base.position(place))
            })
            .collect();
        let of_overlay = self.overlay.positions().filter(|&position| !self.arena.entry(position).is_tombstone());
        let of_base = self.base.positions().filter(|position| overlaid.is_empty() || !overlaid.contains(position));
        let mut res = Vec::with_capacity(self.len());
        res.extend(of_base);
        res.extend(of_overlay);
        res.sort_unstable();
        res
    }

    /// How many rows count.
    pub fn len(&self) -> usize {
        self.tally.by_status.iter().sum()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole row at a position.
    pub fn filing(&self, position: u32) -> Filing {
        self.arena.filing(position, &self.dictionary, &self.places)
    }

    /// Octets it takes.
    pub fn octets(&self) -> Octets {
        let [entries, records, blocks] = self.arena.octets();
        Octets {
            tables: self.base.octets().len() + self.overlay.octets().len(),
            entries,
            records,
            texts: self.dictionary.octets(),
            blocks: blocks + 8 * self.places.blocks.len(),
        }
    }
}

/// A look-up table in the making, with the rows it leads to counted by status.
pub struct Recount {
    base: Buckets,
    key: NameKey,
    tally: Tally,
}

impl Recount {
    /// Indexes the entries at `positions`, which are at most `rows` and together at most `octets`. Of entries with one name
    /// the first is found; `repeated` is called with it and each later one.
    pub fn index(
        arena: &Arena,
        key: NameKey,
        (rows, octets): (usize, usize),
        mut positions: impl Iterator<Item = u32>,
        mut repeated: impl FnMut(u32, u32),
    ) -> Self {
        let base = Buckets::with_room(record_octets(rows, octets));
        let mut res = Self { base, key, tally: Tally::default() };
        let mut pending: Vec<(u64, u32)> = Vec::with_capacity(BATCH);
        loop {
            pending.clear();
            pending.extend(positions.by_ref().take(BATCH).map(|at| (key.hash(arena.entry(at).name()), at)));
            if pending.is_empty() {
                return res;
            }
            // Asked for first, all the buckets are fetched side by side.
            for &(hash, _) in &pending {
                res.base.search(hash);
            }
            for &(hash, at) in &pending {
                if let Some(before) = res.enter(arena, hash, at) {
                    repeated(before, at);
                }
            }
        }
    }

    /// Enters the row at `position`, unless its name leads elsewhere, which is given back.
    fn enter(&mut self, arena: &Arena, hash: u64, position: u32) -> Option<u32> {
        let entry = arena.entry(position);
        loop {
            match self.base.insert(hash, position, entry, |known| arena.is_named(known, entry.name())) {
                Ok(()) => {
                    self.tally.add(entry);
                    return None;
                }
                Err(NotEntered::Known(before)) => return Some(before),
                Err(NotEntered::Crowded) => self.base = self.in_more_buckets(arena, self.base.larger()),
            }
        }
    }

    /// The same rows in `larger`, or in more buckets still.
    fn in_more_buckets(&self, arena: &Arena, mut larger: Buckets) -> Buckets {
        for position in self.base.positions() {
            let entry = arena.entry(position);
            if larger.insert(self.key.hash(entry.name()), position, entry, |_| false).is_err() {
                return self.in_more_buckets(arena, larger.larger());
            }
        }
        larger
    }

    /// The position of exactly `name`.
    pub fn find(&self, arena: &Arena, name: NameRef<'_>) -> Option<u32> {
        let place = self.base.find(self.key.hash(name), name, |position| arena.is_named(position, name))?;
        Some(self.base.position(place))
    }

    /// Lets `name`, which leads to `before`, lead to `now`.
    pub fn redirect(&mut self, arena: &Arena, name: NameRef<'_>, before: u32, now: u32) {
        let hash = self.key.hash(name);
        self.base.remove(hash, before);
        self.tally.take(arena.entry(before));
        self.enter(arena, hash, now);
    }

    /// Lets `name` lead to `position`, wherever it led before.
    pub fn lead(&mut self, arena: &Arena, name: NameRef<'_>, position: u32) {
        match self.find(arena, name) {
            Some(before) => self.redirect(arena, name, before, position),
            None => drop(self.enter(arena, self.key.hash(name), position)),
        }
    }

    /// The table and the figures over its rows.
    pub fn finish(self) -> (Buckets, Tally) {
        (self.base, self.tally)
    }
}
