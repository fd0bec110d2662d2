//! One immutable state of the registry, and how verdicts ask it.
//!
//! What verdicts read (name, flags, dates) lies together in the arena; what people read lies apart in cold records. A
//! small overlay table in front of the base says what changed since the base was built: names that lead elsewhere and
//! names that are gone. Both tables hash under one key, so a look-up hashes once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::Filing;
use super::arena::{Arena, ArenaBuilder, Places, Rows};
use super::dictionary::{Dictionary, Remembered};
use super::entry::Entry;
use super::index::{NameKey, Slots};
use crate::model::{DomainName, Facts, NameRef, Status, SuffixTable};

/// Names looked up together; enough to keep the memory busy, few enough for the first-level cache.
pub const BATCH: usize = 32;

/// A row of one snapshot; meaningless in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilingId(u32);

impl FilingId {
    /// Where the row's entry begins in the snapshot's arena.
    pub(super) fn position(self) -> u32 {
        self.0
    }
}

/// Everything known at one generation.
#[derive(Clone)]
pub struct Snapshot {
    generation: u64,
    suffixes: Arc<SuffixTable>,
    table: Table,
    bind_check: bool,
    schedule: Arc<Schedule>,
}

/// When events that wait for their time will change rows.
#[derive(Debug, Default)]
pub struct Schedule {
    /// The next one of each domain.
    by_name: HashMap<DomainName, SystemTime>,
    /// The next one that may concern any domain.
    any: Option<SystemTime>,
}

impl Schedule {
    /// Of waiting events: time and domain, where only one is concerned.
    pub fn of(waiting: &[(SystemTime, Option<DomainName>)]) -> Self {
        let mut res = Self::default();
        for (at, domain) in waiting {
            match domain {
                Some(domain) => {
                    let next = res.by_name.entry(domain.clone()).or_insert(*at);
                    *next = (*next).min(*at);
                }
                None => res.any = Some(res.any.map_or(*at, |next| next.min(*at))),
            }
        }
        res
    }
}

/// The rows with their look-up tables.
#[derive(Clone)]
pub struct Table {
    /// Names to positions as of the last rebuild.
    pub base: Arc<Slots>,
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

/// Figures over rows that can be kept while rows come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows in each state, in the order of [`Status::ALL`].
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
    /// Slots of base and overlay.
    pub slots: usize,
    /// Names with flags and dates.
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
        self.slots + self.entries
    }

    /// All of it.
    pub fn total(self) -> usize {
        self.slots + self.entries + self.records + self.texts + self.blocks
    }
}

impl Table {
    /// No rows.
    pub fn empty() -> Self {
        Self {
            base: Arc::new(Slots::with_room(0)),
            overlay: Arc::new(Slots::with_room(0)),
            arena: Arena::default(),
            dictionary: Arc::default(),
            places: Arc::default(),
            key: NameKey::random(),
            tally: Tally::default(),
        }
    }

    /// The same with every entry of `arena`, which has at most `rows`; of entries with one name the last counts.
    fn of_arena(self, arena: Arena, rows: usize) -> Self {
        let mut repeated = Vec::new();
        let mut base = Recount::index(&arena, self.key, rows, arena.positions(), |_, at| repeated.push(at));
        for at in repeated {
            base.lead(&arena, arena.entry(at).name(), at);
        }
        let (slots, tally) = base.finish();
        Self { base: Arc::new(slots), arena, tally, ..self }
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

    /// The position of exactly `name`. Cost: one hash, usually one slot and one entry; no allocation, no lock.
    pub fn find(&self, name: NameRef<'_>) -> Option<u32> {
        self.find_hashed(self.key.hash(name), name)
    }

    /// As [`Table::find`], for a name whose hash is known.
    pub fn find_hashed(&self, hash: u64, name: NameRef<'_>) -> Option<u32> {
        let is_wanted = |position: u32| self.arena.is_named(position, name);
        if !self.overlay.is_empty()
            && let Some(position) = self.overlay.find(hash, is_wanted)
        {
            return (!self.arena.entry(position).is_tombstone()).then_some(position);
        }
        self.base.find(hash, is_wanted)
    }

    /// Positions of the rows that count, ascending: rows of a block together, blocks as they were read.
    pub fn positions(&self) -> Vec<u32> {
        let overlaid: std::collections::HashSet<u32> = self
            .overlay
            .positions()
            .filter_map(|position| {
                let name = self.arena.entry(position).name();
                self.base.find(self.key.hash(name), |known| self.arena.is_named(known, name))
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
            slots: self.base.octets().len() + self.overlay.octets().len(),
            entries,
            records,
            texts: self.dictionary.octets(),
            blocks: blocks + 8 * self.places.blocks.len(),
        }
    }
}

/// A look-up table in the making, with the rows it leads to counted by status.
pub struct Recount {
    slots: Slots,
    key: NameKey,
    tally: Tally,
}

impl Recount {
    /// Indexes the entries at `positions`, at most `rows`. Of entries with one name the first is found; `repeated` is
    /// called with it and each later one.
    pub fn index(
        arena: &Arena,
        key: NameKey,
        rows: usize,
        mut positions: impl Iterator<Item = u32>,
        mut repeated: impl FnMut(u32, u32),
    ) -> Self {
        let mut res = Self { slots: Slots::with_room(rows), key, tally: Tally::default() };
        let mut pending: Vec<(u64, u32)> = Vec::with_capacity(BATCH);
        loop {
            pending.clear();
            pending.extend(positions.by_ref().take(BATCH).map(|at| (key.hash(arena.entry(at).name()), at)));
            if pending.is_empty() {
                return res;
            }
            // Reading all the slots first lets the memory fetch them side by side.
            std::hint::black_box(pending.iter().fold(0, |sum, &(hash, _)| sum ^ res.slots.touch(hash)));
            for &(hash, at) in &pending {
                let entry = arena.entry(at);
                match res.slots.insert(hash, at, |known| arena.is_named(known, entry.name())) {
                    Some(before) => repeated(before, at),
                    None => res.tally.add(entry),
                }
            }
        }
    }

    /// The position of exactly `name`.
    pub fn find(&self, arena: &Arena, name: NameRef<'_>) -> Option<u32> {
        self.slots.find(self.key.hash(name), |position| arena.is_named(position, name))
    }

    /// Lets `name`, which leads to `before`, lead to `now`.
    pub fn redirect(&mut self, arena: &Arena, name: NameRef<'_>, before: u32, now: u32) {
        self.slots.redirect(self.key.hash(name), before, now);
        self.tally.take(arena.entry(before));
        self.tally.add(arena.entry(now));
    }

    /// Lets `name` lead to `position`, wherever it led before.
    pub fn lead(&mut self, arena: &Arena, name: NameRef<'_>, position: u32) {
        match self.find(arena, name) {
            Some(before) => self.redirect(arena, name, before, position),
            None => {
                if !self.slots.has_room(1) {
                    self.slots = self.slots.with_more_room(1, |at| self.key.hash(arena.entry(at).name()));
                }
                self.slots.insert(self.key.hash(name), position, |_| false);
                self.tally.add(arena.entry(position));
            }
        }
    }

    /// The table and the figures over its rows.
    pub fn finish(self) -> (Slots, Tally) {
        (self.slots, self.tally)
    }
}

impl Snapshot {
    /// Builds generation `generation` from merged rows as `provider` sees them. Of rows with one domain the last counts.
    pub fn build(
        generation: u64,
        suffixes: Arc<SuffixTable>,
        provider: &str,
        bind_check: bool,
        filings: Vec<Filing>,
    ) -> Self {
        /// Rows packed at a time.
        const ROWS_AT_A_TIME: usize = 4096;
        let dictionary = Dictionary::default();
        let (mut places, mut remembered) = (Places::default(), Remembered::default());
        let mut builder = ArenaBuilder::after(&Arena::default());
        let count = filings.len();
        for filings in filings.chunk_by(|a, b| a.file == b.file).flat_map(|run| run.chunks(ROWS_AT_A_TIME)) {
            let mut rows = Rows::default();
            for filing in filings {
                rows.push(&dictionary, &mut remembered, provider, filing, filing.line);
            }
            let file = places.file_number(&filings[0].file);
            let block = places.add(file, 0);
            builder.append(&mut rows, &[(0, block)]).expect("rows in memory are fewer than an arena can hold");
        }
        let table = Table { dictionary: Arc::new(dictionary), places: Arc::new(places), ..Table::empty() };
        Self::of_table(generation, suffixes, bind_check, table.of_arena(builder.finish(), count))
    }

    /// Publishes `table` as generation `generation`.
    pub fn of_table(generation: u64, suffixes: Arc<SuffixTable>, bind_check: bool, table: Table) -> Self {
        Self { generation, suffixes, table, bind_check, schedule: Arc::default() }
    }

    /// The same, with the times of events that wait.
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self { schedule: Arc::new(schedule), ..self }
    }

    /// When the verdict on `domain` may change by itself: provisional access ends, the registration ends (where that
    /// counts), or an event's time comes. An answer must not be kept for longer.
    pub fn next_change(&self, domain: NameRef<'_>, now: SystemTime, ended_counts: bool) -> Option<SystemTime> {
        let facts = self.find(domain).map(|id| self.facts(id));
        let days =
            facts.map_or([None; 2], |facts| [facts.provisional_until, facts.expires_on.filter(|_| ended_counts)]);
        let by_day = days.into_iter().flatten().map(|last| last.next().begins_at());
        let by_name = if self.schedule.by_name.is_empty() { None } else { self.schedule.by_name.get(domain.wire()) };
        by_day.chain(by_name.copied()).chain(self.schedule.any).filter(|at| *at > now).min()
    }

    /// An empty registry, generation 0: what is published while none could be loaded.
    pub fn empty(suffixes: Arc<SuffixTable>) -> Self {
        Self::of_table(0, suffixes, false, Table::empty())
    }

    /// Counts publications, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The public suffix table of this generation.
    pub fn suffixes(&self) -> &SuffixTable {
        &self.suffixes
    }

    /// The same, to keep.
    pub(super) fn shared_suffixes(&self) -> Arc<SuffixTable> {
        self.suffixes.clone()
    }

    /// The rows with their look-up tables.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The row of exactly `domain`. Never a fingerprint match. Cost: one probe; no allocation, no lock.
    pub fn find(&self, domain: NameRef<'_>) -> Option<FilingId> {
        self.table.find(domain).map(FilingId)
    }

    /// The rows of several names, asked side by side: half the cost of asking one after the other in a large registry.
    pub fn find_batch(&self, domains: &[NameRef<'_>], found: &mut Vec<Option<FilingId>>) {
        found.clear();
        for domains in domains.chunks(BATCH) {
            let mut hashes = [0; BATCH];
            let mut first = [0; BATCH];
            for (hash, domain) in hashes.iter_mut().zip(domains) {
                *hash = self.table.key.hash(*domain);
            }
            // Reading the slots, then the entries they lead to, lets the memory fetch them side by side.
            for (slot, &hash) in first.iter_mut().zip(&hashes[..domains.len()]) {
                *slot = self.table.base.touch(hash);
            }
            let touched = first[..domains.len()].iter().zip(&hashes).fold(0, |sum, (&slot, &hash)| {
                let is_likely = slot != 0 && slot >> 32 == hash >> 32;
                if is_likely { sum ^ self.table.arena.touch(slot as u32) } else { sum }
            });
            std::hint::black_box(touched);
            found.extend(
                domains.iter().zip(hashes).map(|(&name, hash)| self.table.find_hashed(hash, name).map(FilingId)),
            );
        }
    }

    /// The domain of a row.
    pub fn name(&self, id: FilingId) -> NameRef<'_> {
        self.table.arena.entry(id.0).name()
    }

    /// What verdicts read of a row.
    pub fn facts(&self, id: FilingId) -> Facts {
        self.table.arena.entry(id.0).facts()
    }

    /// The whole row, for people.
    pub fn filing(&self, id: FilingId) -> Filing {
        self.table.filing(id.0)
    }

    /// True when bind checking is on, the row lists addresses, and `addr` is none of them (D-H23).
    pub fn is_unbound(&self, id: FilingId, addr: IpAddr) -> bool {
        self.bind_check && self.filing(id).is_unbound(addr)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Every row's id; rows of one part of a file together.
    pub fn ids(&self) -> impl Iterator<Item = FilingId> + use<> {
        self.table.positions().into_iter().map(FilingId)
    }

    /// Every row, in the order of [`Snapshot::ids`].
    pub fn rows(&self) -> impl Iterator<Item = Filing> + '_ {
        self.ids().map(|id| self.filing(id))
    }

    /// How many rows are in each state.
    pub fn rows_by_status(&self) -> [(Status, usize); 5] {
        Status::ALL.map(|(status, _, _)| (status, self.table.tally.by_status[status as usize]))
    }

    /// Octets it takes, by section.
    pub fn octets(&self) -> Octets {
        self.table.octets()
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("rows", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        DomainName::from_text(text).expect(text)
    }

    fn row(domain: &str, line: u32) -> Filing {
        Filing { line, file: "t.csv".into(), access: vec!["self".to_owned()], ..Filing::new(name(domain)) }
    }

    fn indexed(rows: &[Filing], key: NameKey) -> Table {
        let (dictionary, mut places) = (Dictionary::default(), Places::default());
        let mut packed = Rows::default();
        for row in rows {
            packed.push(&dictionary, &mut Remembered::default(), "self", row, row.line);
        }
        let file = places.file_number(&"t.csv".into());
        let block = places.add(file, 0);
        let mut builder = ArenaBuilder::after(&Arena::default());
        builder.append(&mut packed, &[(0, block)]).expect("few rows");
        let table = Table { dictionary: Arc::new(dictionary), places: Arc::new(places), key, ..Table::empty() };
        table.of_arena(builder.finish(), rows.len())
    }

    proptest! {
        #[test]
        fn the_index_is_a_map_from_names_to_rows(
            entered in proptest::collection::vec("[a-d]{1,3}(\\.[a-c]{1,2}){1,2}", 0..80),
            asked in proptest::collection::vec("[a-d]{1,3}(\\.[a-c]{1,2}){0,2}", 0..80),
        ) {
            let rows: Vec<Filing> = entered.iter().zip(1..).map(|(text, line)| row(text, line)).collect();
            let mut map = HashMap::new();
            for row in &rows {
                map.insert(row.domain.clone(), row.line);
            }
            let snapshot = Snapshot::build(1, Arc::new(SuffixTable::default()), "self", false, rows);
            let names: Vec<DomainName> = entered.iter().chain(&asked).map(|text| name(text)).collect();
            let mut batch = Vec::new();
            snapshot.find_batch(&names.iter().map(DomainName::as_ref).collect::<Vec<_>>(), &mut batch);
            prop_assert_eq!(batch.len(), names.len());
            for (domain, in_batch) in names.iter().zip(batch) {
                let found = snapshot.find(domain.as_ref());
                prop_assert_eq!(found, in_batch);
                let line = found.map(|id| {
                    let filing = snapshot.filing(id);
                    assert_eq!(&filing.domain, domain);
                    filing.line
                });
                prop_assert_eq!(line, map.get(domain).copied(), "{}", domain);
            }
            prop_assert_eq!(snapshot.len(), map.len());
            let mut listed: Vec<_> = snapshot.rows().map(|row| (row.domain, row.line)).collect();
            listed.sort();
            let mut expected: Vec<_> = map.into_iter().collect();
            expected.sort();
            prop_assert_eq!(listed, expected);
        }

        #[test]
        fn names_of_one_hash_are_told_apart(
            entered in proptest::collection::vec("[a-d]{1,3}\\.[a-c]{1,2}", 1..40),
            asked in proptest::collection::vec("[a-d]{1,3}\\.[a-c]{1,2}", 1..40),
            hash in any::<u64>(),
        ) {
            let rows: Vec<Filing> = entered.iter().zip(1..).map(|(text, line)| row(text, line)).collect();
            let table = indexed(&rows, NameKey::Same(hash));
            for text in entered.iter().chain(&asked) {
                let found = table.find(name(text).as_ref()).map(|at| table.filing(at).domain);
                let expected = entered.contains(text).then(|| name(text));
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_name_is_no_beginning_of_another() {
        let table = indexed(&[row("a.cn", 1), row("a.cn.com", 2), row("cn.com", 3)], NameKey::Same(u64::MAX));
        for (text, line) in [("a.cn", Some(1)), ("a.cn.com", Some(2)), ("cn.com", Some(3)), ("cn", None), ("com", None)]
        {
            assert_eq!(table.find(name(text).as_ref()).map(|at| table.filing(at).line), line, "{text}");
        }
        assert_eq!(table.find(DomainName::root().as_ref()), None);
    }
}
