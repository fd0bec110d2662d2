//! The base look-up table: names with what verdicts read of them, in buckets of two neighbouring cache lines.
//!
//! A look-up at ten million names is bound by how often it waits for memory. Slots that lead to names elsewhere make it
//! wait twice; here the name stands where the hash leads, so one wait answers hits and misses alike. The whole name is
//! compared, octet by octet: a hash alone never decides. The arena keeps its own copy of each entry, in the order of the
//! files, for everything that is not a verdict.
//!
//! ```text
//! bucket: octets in use u8 │ passed by u8 │ record │ record │ … │ free
//! record: tag u8 │ octets u8 │ entry, as in the arena, with its position there in place of the cold record
//! ```
//!
//! A record that finds its bucket full goes into another one that its hash leads to, and each bucket it passed is marked: one
//! of eight bits, chosen by the hash, so that most searches for names that are nowhere end at a full bucket too. Where a
//! search is sent on differs from name to name of one bucket, so that full buckets do not fill their neighbours. A name too
//! long for a bucket is left out of its record, and compared in the arena.

mod check;
mod way;

pub use check::Rows;
use check::count_records;
use way::Way;

use super::cores::on_all_cores;
use super::entry::Entry;
use super::memory::Memory;
use crate::model::NameRef;

/// Octets of a bucket: two cache lines, which processors fetch as a pair.
const BUCKET: usize = 128;
/// Octets of a bucket before its records.
const HEAD: usize = 2;
/// Where a bucket tells by which hashes it was passed.
const PASSED: usize = 1;
/// Octets that records of one bucket can take.
const ROOM: usize = BUCKET - HEAD;
/// Of a hundred octets of room, how many records take: at 72 some eight of ten searches end in the first bucket.
const FILLED_PERCENT: usize = 72;
/// Buckets beside those that the rows need, so that small tables have a free one.
const SPARE: usize = 4;
/// Octets of a record before its entry.
const RECORD_HEAD: usize = 2;
/// Longest record with its name: two fit into a bucket, so that few octets stay free at the end of one.
const RECORD_MAX: usize = ROOM / 2;
/// Buckets that a new record passes before a table that is half full counts as crowded: lengths that fit badly leave more
/// room free at the ends of buckets than was reckoned with.
const PASSED_MAX: usize = 64;

/// See the module's text.
pub struct Buckets {
    octets: Memory,
    count: usize,
    rows: usize,
    filled: usize,
}

/// Octets of a table that one core checks at a time: a multiple of a bucket's.
const CHECKED_TOGETHER: usize = 1 << 20;

/// Where a record stands: octets from the table's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

impl Place {
    /// As a small number; `None` beyond 4 GiB.
    pub fn number(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// Of such a number.
    pub fn of(number: u32) -> Self {
        Self(number as usize)
    }
}

/// How many octets the records of `rows` arena entries, `octets` long together, take at most.
pub fn record_octets(rows: usize, octets: usize) -> usize {
    octets + RECORD_HEAD * rows
}

/// Why a row was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEntered {
    /// The name is there already and leads to this position.
    Known(u32),
    /// The table needs more buckets.
    Crowded,
}

impl Buckets {
    /// A table with room for records of `octets` together.
    pub fn with_room(octets: usize) -> Self {
        Self::with_buckets(octets * 100 / (ROOM * FILLED_PERCENT) + SPARE)
    }

    /// A table without rows with half as many buckets again.
    pub fn larger(&self) -> Self {
        Self::with_buckets(self.count + self.count / 2)
    }

    fn with_buckets(count: usize) -> Self {
        Self { octets: Memory::zeroed(count * BUCKET), count, rows: 0, filled: 0 }
    }

    /// A table that was written before; `None` when it is none, or the position of a record is none of `rows`. Checked on all
    /// cores.
    pub fn from_octets(octets: Memory, rows: &impl Rows) -> Option<Self> {
        let count = octets.len() / BUCKET;
        if count == 0 || octets.len() != count * BUCKET {
            return None;
        }
        let pieces: Vec<&[u8]> = octets.chunks(CHECKED_TOGETHER).collect();
        let checked = on_all_cores(&pieces, |piece| count_records(piece, rows))?;
        let (mut rows, mut filled) = (0, 0);
        for counted in checked {
            let (more_rows, more_filled) = counted?;
            rows += more_rows;
            filled += more_filled;
        }
        Some(Self { octets, count, rows, filled })
    }

    /// The buckets as they lie in memory.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The record of exactly `name`, whose hash is `hash`; `is_at` compares a name too long for a bucket with that of an
    /// arena position. Cost: usually one bucket, one compare; no allocation.
    pub fn find(&self, hash: u64, name: NameRef<'_>, is_at: impl Fn(u32) -> bool) -> Option<Place> {
        let mut search = self.search(hash);
        loop {
            match self.go_on(&mut search, name, &is_at) {
                Step::Found(place) => return Some(place),
                Step::Missing => return None,
                Step::Next => {}
            }
        }
    }

    /// Begins a search and asks the memory for its first bucket.
    pub fn search(&self, hash: u64) -> Search {
        let mut way = self.way(hash);
        let number = way.next().unwrap_or(0);
        self.ask_for(number);
        Search { hash, number, way }
    }

    /// Looks through the bucket that a search has come to; where it goes on, the memory is asked for the next one.
    pub fn go_on(&self, search: &mut Search, name: NameRef<'_>, is_at: impl Fn(u32) -> bool) -> Step {
        let begin = search.number * BUCKET;
        let bucket = &self.octets[begin..begin + BUCKET];
        let (end, tag) = (HEAD + usize::from(bucket[0]), tag(search.hash));
        let mut at = HEAD;
        while at < end {
            let octets = usize::from(bucket[at + 1]);
            if bucket[at] == tag && Record(&bucket[at..at + octets]).is_named(name, &is_at) {
                return Step::Found(Place(begin + at));
            }
            at += octets;
        }
        if bucket[PASSED] & passed_bit(search.hash) == 0 {
            return Step::Missing;
        }
        let Some(number) = search.way.next() else { return Step::Missing };
        search.number = number;
        self.ask_for(number);
        Step::Next
    }

    /// Has both lines of a bucket fetched: asked for now, the second arrives with the first and not after it.
    fn ask_for(&self, number: usize) {
        self.octets.ask_for(number * BUCKET);
        self.octets.ask_for(number * BUCKET + BUCKET / 2);
    }

    /// The entry of a record: facts and, unless it is too long, the name.
    pub fn entry(&self, place: Place) -> Entry<'_> {
        Entry::at(&self.octets, place.0 + RECORD_HEAD)
    }

    /// The arena position of a record.
    pub fn position(&self, place: Place) -> u32 {
        Record(&self.octets[place.0..]).position()
    }

    /// Enters the arena entry at `position`.
    pub fn insert(
        &mut self,
        hash: u64,
        position: u32,
        entry: Entry<'_>,
        is_at: impl Fn(u32) -> bool,
    ) -> Result<(), NotEntered> {
        if let Some(known) = self.find(hash, entry.name(), is_at) {
            return Err(NotEntered::Known(self.position(known)));
        }
        let whole = RECORD_HEAD + entry.octets();
        let octets = if whole > RECORD_MAX { RECORD_HEAD + entry.name_at() } else { whole };
        let number = self.with_free(hash, octets).ok_or(NotEntered::Crowded)?;
        let bucket = &mut self.octets[number * BUCKET..][..BUCKET];
        let used = usize::from(bucket[0]);
        let record = &mut bucket[HEAD + used..][..octets];
        record[0] = tag(hash);
        record[1] = record_length(octets);
        entry.write_at(&mut record[RECORD_HEAD..], position);
        bucket[0] += record_length(octets);
        self.rows += 1;
        self.filled += octets;
        Ok(())
    }

    /// The first bucket on a hash's way with so many octets free; those before it are marked.
    fn with_free(&mut self, hash: u64, octets: usize) -> Option<usize> {
        let is_half_full = self.filled > self.count * (ROOM / 2);
        for number in self.way(hash).take(if is_half_full { PASSED_MAX } else { usize::MAX }) {
            let head = &mut self.octets[number * BUCKET..][..HEAD];
            if usize::from(head[0]) + octets <= ROOM {
                return Some(number);
            }
            head[PASSED] |= passed_bit(hash);
        }
        None
    }

    /// Octets that records take.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Takes the row at `position` out, if it is there.
    pub fn remove(&mut self, hash: u64, position: u32) {
        for number in self.way(hash) {
            let bucket = &mut self.octets[number * BUCKET..][..BUCKET];
            let end = HEAD + usize::from(bucket[0]);
            let mut at = HEAD;
            while at < end {
                let octets = usize::from(bucket[at + 1]);
                if Record(&bucket[at..]).position() == position {
                    bucket.copy_within(at + octets..end, at);
                    bucket[end - octets..end].fill(0);
                    bucket[0] -= record_length(octets);
                    self.rows -= 1;
                    self.filled -= octets;
                    return;
                }
                at += octets;
            }
            if bucket[PASSED] & passed_bit(hash) == 0 {
                return;
            }
        }
    }

    /// Every position, in the order of buckets.
    pub fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.octets.chunks_exact(BUCKET).flat_map(|bucket| {
            let end = HEAD + usize::from(bucket[0]);
            let mut at = HEAD;
            std::iter::from_fn(move || {
                let record = bucket.get(at..end).filter(|record| !record.is_empty())?;
                at += usize::from(record[1]);
                Some(Record(record).position())
            })
        })
    }

    /// The buckets where records of a hash may be, in the order in which they are searched.
    fn way(&self, hash: u64) -> Way {
        Way::new(hash, self.count)
    }
}

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    hash: u64,
    /// The bucket that is looked through next.
    number: usize,
    /// Past that bucket.
    way: Way,
}

impl Search {
    /// The hash that is searched for.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// What one bucket tells a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The record.
    Found(Place),
    /// It is nowhere.
    Missing,
    /// It may be in the next bucket.
    Next,
}

/// The mark that a record of this hash leaves in a bucket it passes; of other bits than its home and its tag.
fn passed_bit(hash: u64) -> u8 {
    1 << ((hash >> 8) & 7)
}

/// What tells most records of a bucket apart; of other bits than its home.
fn tag(hash: u64) -> u8 {
    hash as u8
}

/// The octets of a record as they are written.
fn record_length(octets: usize) -> u8 {
    u8::try_from(octets).expect("a record is shorter than a bucket")
}

/// A record from its tag on.
struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn position(&self) -> u32 {
        u32::from_le_bytes([self.0[2], self.0[3], self.0[4], self.0[5]])
    }

    /// The octets are the whole record.
    fn is_named(&self, name: NameRef<'_>, is_at: impl Fn(u32) -> bool) -> bool {
        let own = &self.0[RECORD_HEAD + Entry::at(self.0, RECORD_HEAD).name_at()..];
        if own.is_empty() { is_at(self.position()) } else { is_same(own, name.wire()) }
    }
}

/// True for the same octets; names of usual length are compared without a call.
fn is_same(own: &[u8], name: &[u8]) -> bool {
    const WORD: usize = 8;
    let length = own.len();
    if length != name.len() || length < WORD {
        return own == name;
    }
    let word = |octets: &[u8], at: usize| {
        let octets: [u8; WORD] = octets[at..at + WORD].try_into().expect("as many octets as a word has");
        u64::from_ne_bytes(octets)
    };
    // The last word overlaps the one before it, unless the length is a multiple.
    let last = length - WORD;
    (0..last).step_by(WORD).all(|at| word(own, at) == word(name, at)) && word(own, last) == word(name, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DomainName, Facts, OriginSide, Status};
    use crate::registry::entry::write_entry;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// An arena of one chunk with names, and where each begins.
    fn arena(names: &[DomainName]) -> (Vec<u8>, Vec<u32>) {
        let (mut octets, mut begins) = (vec![0], Vec::new());
        for (name, cold) in names.iter().zip(0..) {
            begins.push(u32::try_from(octets.len()).expect("few names"));
            let facts = Facts {
                status: Status::Pending,
                accessed_here: true,
                access_is_empty: false,
                restricted: false,
                provisional_until: None,
                expires_on: None,
                origin: OriginSide::Unknown,
            };
            write_entry(&mut octets, name.wire(), &facts, cold);
        }
        (octets, begins)
    }

    fn fill(table: &mut Buckets, names: &[DomainName], hash: impl Fn(&DomainName) -> u64) -> (Vec<u8>, Vec<u32>) {
        let (arena, begins) = arena(names);
        for (name, &at) in names.iter().zip(&begins) {
            let is_at = |at: u32| Entry::at(&arena, at as usize).is_named(name.as_ref());
            assert_eq!(table.insert(hash(name), at, Entry::at(&arena, at as usize), is_at), Ok(()), "{name}");
        }
        (arena, begins)
    }

    fn name(text: &str) -> DomainName {
        DomainName::from_text(text).expect(text)
    }

    fn mixed(n: u64) -> u64 {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn lengths_that_fit_badly_crowd_a_table_and_break_nothing() {
        for label in [1, 8, 20, 28, 29, 30, 47, 49, 63] {
            let names: Vec<DomainName> =
                (0..2000).map(|n| name(&format!("{n:04}{}.cn", "x".repeat(label.max(4) - 4)))).collect();
            let (arena, begins) = arena(&names);
            let mut table = Buckets::with_room(record_octets(names.len(), arena.len()));
            let mut i = 0;
            while i < names.len() {
                let entry = Entry::at(&arena, begins[i] as usize);
                match table.insert(mixed(i as u64), begins[i], entry, |_| false) {
                    Ok(()) => i += 1,
                    Err(error) => {
                        assert_eq!(error, NotEntered::Crowded);
                        (table, i) = (table.larger(), 0);
                    }
                }
            }
            let octets = table.octets().len();
            assert!(octets < 4 * arena.len(), "{label}: {octets} octets for {}", arena.len());
            for (i, name) in names.iter().enumerate() {
                let is_at = |at: u32| Entry::at(&arena, at as usize).is_named(name.as_ref());
                let place = table.find(mixed(i as u64), name.as_ref(), is_at).expect("it is there");
                assert_eq!(table.position(place), begins[i]);
                assert_eq!(table.entry(place).facts().status, Status::Pending);
                assert!(table.find(mixed(i as u64 + 5000), name.as_ref(), |_| false).is_none());
            }
            assert_eq!((table.len(), table.positions().count(), octets % BUCKET), (2000, 2000, 0));
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_nonsense_is_not() {
        let names: Vec<DomainName> = (0..300).map(|n| name(&format!("{}{n}.com.cn", "y".repeat(n % 60)))).collect();
        let mut table = Buckets::with_room(20_000);
        let (_, begins) = fill(&mut table, &names, |name| mixed(name.wire().len() as u64));
        let copy = |table: &Buckets| {
            let mut octets = Memory::zeroed(table.octets().len());
            octets.copy_from_slice(table.octets());
            octets
        };
        let read = Buckets::from_octets(copy(&table), &|at| begins.contains(&at)).expect("a table");
        assert_eq!((read.len(), read.filled()), (table.len(), table.filled()));
        assert!(Buckets::from_octets(copy(&table), &|at| at != begins[7]).is_none());
        assert!(Buckets::from_octets(Memory::zeroed(BUCKET + 1), &|_| true).is_none());
        assert!(Buckets::from_octets(Memory::zeroed(0), &|_| true).is_none());
        let first = table.octets().iter().position(|&octet| octet != 0).expect("rows");
        let record = first + HEAD;
        for (at, octet) in [(record + 1, 0), (record + 1, 6), (record + 1, 200), (first, 127), (first, 255), (first, 1)]
        {
            let mut octets = copy(&table);
            octets[at] = octet;
            assert!(Buckets::from_octets(octets, &|_| true).is_none(), "{at}: {octet}");
        }
    }

    proptest! {
        #[test]
        fn buckets_are_a_map_from_names_to_positions(
            steps in proptest::collection::vec(("[a-c]{1,3}|[a-c]{1,2}x{50,60}", any::<bool>()), 1..120),
            hashes in proptest::sample::select(vec![1u64, 3, 1000]),
        ) {
            let names: Vec<DomainName> = steps.iter().map(|(label, _)| name(&format!("{label}.cn"))).collect();
            let hash = |name: &DomainName| mixed(name.wire().iter().map(|&o| u64::from(o)).sum::<u64>() % hashes);
            let (arena, begins) = arena(&names);
            let mut table = Buckets::with_room(record_octets(names.len(), arena.len()));
            let mut known: HashMap<&DomainName, u32> = HashMap::new();
            for ((name, &at), (_, enters)) in names.iter().zip(&begins).zip(&steps) {
                let is_at = |at: u32| Entry::at(&arena, at as usize).is_named(name.as_ref());
                if *enters {
                    let entered = table.insert(hash(name), at, Entry::at(&arena, at as usize), is_at);
                    prop_assert_eq!(entered.err(), known.get(name).map(|&known| NotEntered::Known(known)));
                    known.entry(name).or_insert(at);
                } else if let Some(position) = known.remove(name) {
                    table.remove(hash(name), position);
                    table.remove(hash(name), position);
                }
                for name in &names {
                    let is_at = |at: u32| Entry::at(&arena, at as usize).is_named(name.as_ref());
                    let found = table.find(hash(name), name.as_ref(), is_at).map(|place| table.position(place));
                    prop_assert_eq!(found, known.get(name).copied());
                }
                prop_assert_eq!(table.len(), known.len());
            }
        }
    }
}
