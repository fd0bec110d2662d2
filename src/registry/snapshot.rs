//! One immutable state of the registry, and how verdicts ask it.
//!
//! What verdicts read (name, flags, dates) lies together in the look-up table; what people read lies apart, in the arena. A
//! small overlay table in front of the base says what changed since the base was built: names that lead elsewhere and
//! names that are gone. Both tables hash under one key, so a look-up hashes once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::Filing;
use super::arena::{Arena, ArenaBuilder, Places, Rows};
use super::buckets::Place;
use super::dictionary::{Dictionary, Remembered};
use super::table::{BATCH, Found, Octets, Table};
use crate::model::{DomainName, Facts, NameRef, Status, SuffixTable};

/// A row of one snapshot; meaningless in another.
#[derive(Clone, Copy, Debug)]
pub struct FilingId {
    /// Where the row's entry begins in the snapshot's arena.
    position: u32,
    /// Where the look-up table has its facts, as a shortcut; 0 where it has not, or nobody looked.
    place: u32,
}

impl FilingId {
    /// Where the row's entry begins in the snapshot's arena.
    pub(super) fn position(self) -> u32 {
        self.position
    }

    pub(super) fn at(position: u32) -> Self {
        Self { position, place: 0 }
    }

    fn found(found: Found) -> Self {
        let place = found.place.and_then(Place::number).unwrap_or(0);
        Self { position: found.position, place }
    }
}

impl PartialEq for FilingId {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for FilingId {}

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
    pub fn shared_suffixes(&self) -> Arc<SuffixTable> {
        self.suffixes.clone()
    }

    /// The rows with their look-up tables.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The row of exactly `domain`. Never a fingerprint match. Cost: one probe; no allocation, no lock.
    pub fn find(&self, domain: NameRef<'_>) -> Option<FilingId> {
        self.table.find_hashed(self.table.key.hash(domain), domain).map(FilingId::found)
    }

    /// The rows of several names, asked side by side: half the cost of asking one after the other in a large registry.
    pub fn find_batch(&self, domains: &[NameRef<'_>], found: &mut Vec<Option<FilingId>>) {
        found.clear();
        for domains in domains.chunks(BATCH) {
            let mut rows = [None; BATCH];
            self.table.find_together(domains, &mut rows);
            found.extend(rows[..domains.len()].iter().map(|row| row.map(FilingId::found)));
        }
    }

    /// The domain of a row.
    pub fn name(&self, id: FilingId) -> NameRef<'_> {
        self.table.arena.entry(id.position).name()
    }

    /// What verdicts read of a row.
    pub fn facts(&self, id: FilingId) -> Facts {
        match id.place {
            0 => self.table.arena.entry(id.position).facts(),
            place => self.table.base.entry(Place::of(place)).facts(),
        }
    }

    /// The whole row, for people.
    pub fn filing(&self, id: FilingId) -> Filing {
        self.table.filing(id.position)
    }

    /// True when filings that list addresses are good at those only.
    pub fn has_bind_check(&self) -> bool {
        self.bind_check
    }

    /// True when the row's addresses are compared: then a filing alone opens no address.
    pub fn binds(&self, id: FilingId) -> bool {
        self.bind_check && !self.filing(id).addresses.is_empty()
    }

    /// True when bind checking is on, the row lists addresses, and the address is in none of its `forms` among them (D-H23).
    pub fn is_unbound(&self, id: FilingId, forms: &[IpAddr]) -> bool {
        self.bind_check && self.filing(id).is_unbound(forms)
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
        self.table.positions().into_iter().map(FilingId::at)
    }

    /// All rows in parts for work on all cores; [`Snapshot::ids_in`] gives those of one. Holds no list of rows.
    pub(super) fn pieces(&self) -> Vec<(u32, u32)> {
        /// Octets of the entries of one part: some ten thousand rows.
        const PIECE_OCTETS: u32 = 256 << 10;
        self.table.arena.pieces(PIECE_OCTETS)
    }

    /// The ids of the rows of one part, those that do not count left out.
    pub(super) fn ids_in(&self, (begin, end): (u32, u32)) -> impl Iterator<Item = FilingId> + '_ {
        let Table { arena, .. } = &self.table;
        let counts = |&position: &u32| {
            let entry = arena.entry(position);
            !entry.is_tombstone() && self.table.find(entry.name()) == Some(position)
        };
        arena.span(begin, end).filter(counts).map(FilingId::at)
    }

    /// Every row, in the order of [`Snapshot::ids`].
    pub fn rows(&self) -> impl Iterator<Item = Filing> + '_ {
        self.ids().map(|id| self.filing(id))
    }

    /// How many rows are in force.
    pub fn active(&self) -> usize {
        self.table.tally.by_status[Status::Active as usize]
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
    use crate::registry::index::NameKey;
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
